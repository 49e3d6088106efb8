/* Sessions of machines that sleep, wake and move, as their actors see it: docs/moving.md. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "sim/blank.h"
#include "stage.h"

static struct stage *s;
static uint64_t box, generation;

/* A session on that node. */
static void begin(uint64_t node, bool leads)
{
	s = stage_new_machines(leads);
	box = stage_apply(s, node, COMMAND_SANDBOX_BOOT,
			  &(struct cmd_sandbox_boot){s->pool, s->revision, node})
		      .id;
	assert_int_equal(stage_apply(s, node, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){box}).code, 0);
	generation = stage_apply(s, STAGE_OTHER, COMMAND_SESSION_OPEN,
				 &(struct cmd_session_open){.pool = s->pool, .identifier = STR("user-1")})
			     .session.generation;
	assert_int_not_equal(generation, 0);
	stage_adopted(s, box, node == STAGE_NODE);
	while (stage_next(s, EFFECT_DRIVE, SANDBOXD_PARK) != NULL)
		continue;
	s->looked = s->n_seen;
}

static const struct sandbox_row *row(void)
{
	return state_sandbox(s->tables, box);
}

static void on_session(uint8_t type)
{
	assert_int_equal(stage_apply(s, STAGE_OTHER, type, &(struct cmd_session){s->pool, generation}).code,
			 0);
	stage_run(s, 0);
}

static void commit(uint64_t node, uint8_t type)
{
	assert_int_equal(stage_apply(s, node, type, &(struct cmd_sandbox_save){box, row()->save}).code, 0);
	stage_run(s, 0);
}

static const struct seen *drives(uint8_t type)
{
	const struct seen *x = stage_next(s, EFFECT_DRIVE, type);

	assert_non_null(x);
	return x;
}

static const struct seen *proposes(uint8_t type)
{
	const struct seen *x = stage_next(s, EFFECT_PROPOSE, type);

	assert_non_null(x);
	return x;
}

/* Both loops. */
static void quiet(uint32_t requests)
{
	for (int i = 0; i < 2; i++) {
		const struct seen *ask = stage_next(s, EFFECT_SEND, MSG_QUIESCE);

		assert_non_null(ask);
		if (requests > 0 && i == 1)
			stage_refused(s, ask, -ETIMEDOUT);
		else
			stage_answer(s, ask, MSG_QUIET,
				     &(struct msg_quiet){.generation = generation, .requests = requests});
	}
}

static const struct seen *saving(void)
{
	on_session(COMMAND_SESSION_SUSPEND);
	quiet(1);
	assert_null(stage_next(s, EFFECT_SEND, MSG_PART)); /* a request is under way */
	stage_run(s, 20);
	quiet(0);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_PART));
	return drives(SANDBOXD_SAVE);
}

static void sleeping(void)
{
	stage_driven(s, saving(), 0);
	proposes(COMMAND_SANDBOX_SAVED);
	commit(STAGE_NODE, COMMAND_SANDBOX_SAVED);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_ENDED));
	s->looked = s->n_seen;
}

static void test_saved(void **state)
{
	(void)state;
	begin(STAGE_NODE, false);
	stage_driven(s, saving(), -EBUSY);
	stage_run(s, 300);
	stage_driven(s, drives(SANDBOXD_SAVE), 0);
	stage_refused(s, proposes(COMMAND_SANDBOX_SAVED), -ETIMEDOUT);
	stage_run(s, 300);
	stage_proposed(s, proposes(COMMAND_SANDBOX_SAVED), -EINPROGRESS);
	stage_run(s, 300);
	proposes(COMMAND_SANDBOX_SAVED);
	commit(STAGE_NODE, COMMAND_SANDBOX_SAVED);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_ENDED));
	stage_free(s);
	/* sandboxd ends while it saves: it is asked again; a save that failed is told. */
	begin(STAGE_NODE, false);
	saving();
	stage_adopted(s, box, true);
	stage_driven(s, drives(SANDBOXD_SAVE), -EIO);
	proposes(COMMAND_SANDBOX_KEPT);
	commit(STAGE_NODE, COMMAND_SANDBOX_KEPT);
	drives(SANDBOXD_START);
	stage_free(s);
}

static void test_asleep(void **state)
{
	(void)state;
	begin(STAGE_NODE, false);
	sleeping();
	stage_post(s, ADDRESS_SESSION, generation, MSG_REAP, 40, &(struct msg_reap){REAP_IDLE});
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_REAPED));
	stage_post(s, ADDRESS_SESSION, generation, MSG_REAP, 41, &(struct msg_reap){REAP_MAX_ALIVE});
	proposes(COMMAND_SESSION_CLOSING);
	stage_free(s);
	begin(STAGE_NODE, false);
	sleeping();
	stage_adopted(s, box, false); /* its file is gone */
	drives(SANDBOXD_STOP);
	stage_free(s);
}

static void test_wakes(void **state)
{
	(void)state;
	begin(STAGE_NODE, false);
	sleeping();
	on_session(COMMAND_SESSION_WAKE);
	stage_driven(s, drives(SANDBOXD_START), -EAGAIN);
	stage_run(s, 300);
	stage_refused(s, drives(SANDBOXD_START), -ETIMEDOUT);
	stage_run(s, 300);
	drives(SANDBOXD_START);
	stage_adopted(s, box, false);
	stage_driven(s, drives(SANDBOXD_START), 0);
	stage_driven(s, drives(SANDBOXD_GO_ON), 0);
	stage_proposed(s, proposes(COMMAND_SANDBOX_AWAKE), -EAGAIN);
	stage_run(s, 300);
	proposes(COMMAND_SANDBOX_AWAKE);
	commit(STAGE_NODE, COMMAND_SANDBOX_AWAKE);
	stage_post(s, ADDRESS_SESSION, generation, MSG_REAP, 42, &(struct msg_reap){REAP_IDLE});
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_QUIESCE)); /* as any live one */
	stage_free(s);
	/* And may sleep again. */
	begin(STAGE_NODE, false);
	sleeping();
	on_session(COMMAND_SESSION_WAKE);
	commit(STAGE_NODE, COMMAND_SANDBOX_AWAKE);
	s->looked = s->n_seen;
	saving();
	stage_free(s);
	/* What cannot be loaded ends. */
	begin(STAGE_NODE, false);
	sleeping();
	on_session(COMMAND_SESSION_WAKE);
	stage_driven(s, drives(SANDBOXD_START), -ENOENT);
	drives(SANDBOXD_STOP);
	stage_free(s);
}

static void closing(void)
{
	struct cmd_session_closing body = {s->pool, generation, REAP_STOPPED};

	assert_int_equal(stage_apply(s, STAGE_OTHER, COMMAND_SESSION_CLOSING, &body).code, 0);
	stage_run(s, 0);
}

static void exits(void)
{
	stage_post(s, ADDRESS_SANDBOX, box, MSG_EXITED, 0, &(struct sandboxd_exited){.sandbox = box});
	drives(SANDBOXD_STOP);
	stage_free(s);
}

static void test_ends(void **state)
{
	(void)state;
	begin(STAGE_NODE, false);
	on_session(COMMAND_SESSION_SUSPEND);
	closing();
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_ENDED));
	stage_free(s);
	for (int i = 0; i < 3; i++) { /* saving, resting, waking */
		begin(STAGE_NODE, false);
		if (i == 0)
			saving();
		else
			sleeping();
		if (i == 2)
			on_session(COMMAND_SESSION_WAKE);
		closing();
		drives(SANDBOXD_STOP);
		stage_free(s);
	}
	begin(STAGE_NODE, false);
	saving();
	exits();
	begin(STAGE_NODE, false);
	sleeping();
	on_session(COMMAND_SESSION_WAKE);
	exits();
}

/* What was not heard is said again. */
static void test_not_listed_yet(void **state)
{
	(void)state;
	s = stage_new_machines(false);
	box = stage_boot(s);
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){box}).code,
			 0);
	generation = stage_apply(s, STAGE_OTHER, COMMAND_SESSION_OPEN,
				 &(struct cmd_session_open){.pool = s->pool, .identifier = STR("user-1")})
			     .session.generation;
	on_session(COMMAND_SESSION_SUSPEND);
	quiet(0);
	stage_adopted(s, box, true);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_SAVE));
	stage_run(s, 2500);
	drives(SANDBOXD_SAVE);
	stage_free(s);
}

static void arriving(void)
{
	begin(STAGE_OTHER, false);
	assert_int_equal(
		stage_apply(s, STAGE_OTHER, COMMAND_SANDBOX_MOVE, &(struct cmd_sandbox_move){box, STAGE_NODE})
			.code,
		0);
	stage_run(s, 0);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP)); /* it runs elsewhere */
	commit(STAGE_OTHER, COMMAND_SANDBOX_SAVED);
}

static const struct seen *fetching(void)
{
	const struct seen *x;

	stage_driven(s, drives(SANDBOXD_STOP), -ENOENT);
	x = stage_next(s, EFFECT_FETCH, 0);
	assert_non_null(x);
	return x;
}

static void test_arrives(void **state)
{
	(void)state;
	arriving();
	stage_refused(s, drives(SANDBOXD_STOP), -ETIMEDOUT);
	stage_run(s, 300);
	stage_refused(s, fetching(), -ETIMEDOUT);
	stage_run(s, 300);
	stage_driven(s, fetching(), 0);
	stage_refused(s, drives(SANDBOXD_START), -ETIMEDOUT);
	stage_run(s, 300);
	stage_driven(s, fetching(), 0);
	stage_driven(s, drives(SANDBOXD_START), 0);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_GO_ON)); /* not before it is ours */
	s->looked = s->n_seen - 1;
	stage_refused(s, proposes(COMMAND_SANDBOX_MOVED), -ETIMEDOUT);
	stage_run(s, 300);
	stage_proposed(s, proposes(COMMAND_SANDBOX_MOVED), -EAGAIN);
	stage_run(s, 300);
	proposes(COMMAND_SANDBOX_MOVED);
	commit(STAGE_NODE, COMMAND_SANDBOX_MOVED);
	stage_driven(s, drives(SANDBOXD_START), -EEXIST);
	drives(SANDBOXD_GO_ON);
	stage_free(s);
}

static void test_does_not_arrive(void **state)
{
	(void)state;
	arriving();
	for (int i = 0; i < 3; i++) {
		stage_driven(s, fetching(), -EIO);
		stage_run(s, 300);
	}
	s->looked = 0;
	stage_refused(s, proposes(COMMAND_SANDBOX_KEPT), -ETIMEDOUT);
	stage_run(s, 300);
	stage_proposed(s, proposes(COMMAND_SANDBOX_KEPT), -EAGAIN);
	stage_run(s, 300);
	proposes(COMMAND_SANDBOX_KEPT);
	commit(STAGE_OTHER, COMMAND_SANDBOX_KEPT);
	stage_refused(s, drives(SANDBOXD_STOP), -ETIMEDOUT);
	stage_run(s, 300);
	stage_driven(s, drives(SANDBOXD_STOP), -EBUSY);
	stage_run(s, 300);
	stage_driven(s, drives(SANDBOXD_STOP), 0);
	stage_run(s, 1000);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP));
	stage_free(s);
	/* What cannot be loaded is given back. */
	arriving();
	stage_driven(s, fetching(), 0);
	stage_driven(s, drives(SANDBOXD_START), -EIO);
	proposes(COMMAND_SANDBOX_KEPT);
	stage_free(s);
}

/* At each point of its way. */
static void test_is_kept_meanwhile(void **state)
{
	(void)state;
	for (int i = 0; i < 5; i++) {
		const struct seen *x = NULL;

		arriving();
		if (i > 0)
			x = fetching();
		if (i > 1) {
			stage_driven(s, x, 0);
			x = drives(SANDBOXD_START);
		}
		if (i > 2)
			stage_driven(s, x, 0);
		s->looked = s->n_seen;
		commit(STAGE_OTHER, COMMAND_SANDBOX_KEPT);
		drives(SANDBOXD_STOP);
		if (i == 4) { /* and comes after all, before it is removed */
			commit(STAGE_OTHER, COMMAND_SANDBOX_AWAKE);
			assert_int_equal(stage_apply(s, STAGE_OTHER, COMMAND_SANDBOX_MOVE,
						     &(struct cmd_sandbox_move){box, STAGE_NODE})
						 .code,
					 0);
			commit(STAGE_OTHER, COMMAND_SANDBOX_SAVED);
			stage_run(s, 300);
			fetching();
		}
		stage_free(s);
	}
}

/* The source removes what moved away, and tells nobody of an end. */
static void test_moved_away(void **state)
{
	(void)state;
	begin(STAGE_NODE, true);
	assert_int_equal(stage_apply(s, STAGE_OTHER, COMMAND_NODE_ORDER,
				     &(struct msg_node_order){STAGE_NODE, NODE_DRAIN, 600000})
				 .code,
			 0);
	stage_run(s, 2000);
	stage_proposed(s, proposes(COMMAND_SANDBOX_MOVE), 0);
	assert_int_equal(
		stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_MOVE, &(struct cmd_sandbox_move){box, STAGE_OTHER})
			.code,
		0);
	stage_run(s, 0);
	commit(STAGE_NODE, COMMAND_SANDBOX_SAVED);
	s->looked = s->n_seen;
	commit(STAGE_OTHER, COMMAND_SANDBOX_MOVED);
	stage_driven(s, drives(SANDBOXD_STOP), 0);
	stage_run(s, 10000);
	assert_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_GONE));
	stage_free(s);
}

static void test_operators(void **state)
{
	struct msg_rest rest;
	const struct seen *answer;

	(void)state;
	for (int leads = 0; leads < 2; leads++) {
		begin(STAGE_NODE, leads != 0);
		rest = (struct msg_rest){.pool = s->pool, .identifier = STR("user-1")};
		stage_post(s, ADDRESS_PLACEMENT, 0, MSG_REST, 51, &rest);
		stage_proposed(s, proposes(COMMAND_SESSION_SUSPEND), -ENOTSUP);
		answer = stage_next(s, EFFECT_SEND, MSG_RESTED);
		assert_non_null(answer);
		assert_int_equal(answer->correlation, 51);
		rest.resume = true;
		stage_post(s, ADDRESS_PLACEMENT, 0, MSG_REST, 52, &rest);
		stage_refused(s, proposes(COMMAND_SESSION_WAKE), -ETIMEDOUT);
		assert_non_null(stage_next(s, EFFECT_SEND, MSG_RESTED));
		rest.identifier = STR("nobody");
		stage_post(s, ADDRESS_PLACEMENT, 0, MSG_REST, 53, &rest);
		assert_non_null(stage_next(s, EFFECT_SEND, MSG_RESTED));
		stage_free(s);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_saved),           cmocka_unit_test(test_asleep),
		cmocka_unit_test(test_wakes),           cmocka_unit_test(test_arrives),
		cmocka_unit_test(test_does_not_arrive), cmocka_unit_test(test_moved_away),
		cmocka_unit_test(test_operators),       cmocka_unit_test(test_ends),
		cmocka_unit_test(test_not_listed_yet),  cmocka_unit_test(test_is_kept_meanwhile),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
