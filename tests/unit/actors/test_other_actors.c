/* Session, placement, membership and reaper: what each does with messages that the paths do not bring. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "pool/pool.h"
#include "sim/blank.h"
#include "stage.h"

static struct stage *s;

/* -- Session --------------------------------------------------------------------------------------------------- */

static uint64_t generation, sandbox;

static void live_session(void)
{
	s = stage_new(false, false);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_adopted(s, 0, false);
	sandbox = stage_boot(s);
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){sandbox});
	generation = stage_apply(s, STAGE_NODE, COMMAND_SESSION_OPEN,
				 &(struct cmd_session_open){.pool = s->pool, .identifier = STR("user-1")})
			     .id;
	s->looked = s->n_seen;
}

static void quiet(bool busy)
{
	for (int i = 0; i < 2; i++) {
		const struct seen *ask = stage_next(s, EFFECT_SEND, MSG_QUIESCE);

		assert_non_null(ask);
		stage_post(s, ADDRESS_SESSION, generation, MSG_QUIET, ask->correlation,
			   &(struct msg_quiet){generation, busy && i == 0, 0, false, 0});
	}
}

static void reap(uint64_t correlation)
{
	stage_post(s, ADDRESS_SESSION, generation, MSG_REAP, correlation, &(struct msg_reap){REAP_IDLE});
}

static void test_session_refuses_and_reopens(void **state)
{
	(void)state;
	live_session();
	reap(61);
	reap(62); /* one at a time */
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_QUIESCE)->to.key, 0);
	s->looked -= 1;
	quiet(true);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_REOPEN));
	s->looked = s->n_seen;
	reap(63); /* a loop that is silent */
	stage_run(s, 2500);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_REOPEN));
	s->looked = s->n_seen;
	reap(64); /* a proposal that is refused */
	quiet(false);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING), -EPERM);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_REOPEN));
	s->looked = s->n_seen;
	reap(65); /* one whose outcome is unknown */
	quiet(false);
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING), -ETIMEDOUT);
	stage_run(s, 3000);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING));
	stage_free(s);
}

static void dead(bool served)
{
	live_session();
	stage_post(s, ADDRESS_SESSION, generation, MSG_DEAD, 71,
		   &(struct msg_session_event){.sandbox = sandbox});
	for (int i = 0; i < 2; i++) {
		const struct seen *ask = stage_next(s, EFFECT_SEND, MSG_QUIESCE);

		assert_non_null(ask);
		stage_post(s, ADDRESS_SESSION, generation, MSG_QUIET, ask->correlation,
			   &(struct msg_quiet){generation, 1, 5, served && i == 1,
					       1}); /* who asks is in flight */
	}
	if (served) {
		assert_non_null(stage_next(s, EFFECT_SEND, MSG_REOPEN));
		assert_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING));
	} else {
		assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING));
	}
	stage_free(s);
}

static void test_session_of_a_dead_sandbox(void **state)
{
	(void)state;
	dead(false);
	dead(true);
}

static void close_row(void)
{
	stage_apply(s, STAGE_OTHER, COMMAND_SESSION_CLOSING,
		    &(struct cmd_session_closing){s->pool, generation, REAP_STOPPED});
}

static void test_session_is_closed_by_others(void **state)
{
	(void)state;
	for (int i = 0; i < 3; i++) {
		live_session();
		if (i > 0)
			reap(66);
		if (i > 1)
			quiet(false);
		close_row();
		assert_non_null(stage_next(s, EFFECT_SEND, MSG_ENDED));
		assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP));
		stage_free(s);
	}
}

static void test_session_ends_until_it_is_ended(void **state)
{
	(void)state;
	live_session();
	close_row();
	s->looked = 0;
	stage_run(s, 62000); /* the halt is never answered: once more, which the sandbox takes */
	s->looked = s->n_seen;
	stage_run(s, 1000);
	for (int i = 0; i < 3; i++)
		stage_run(s, 30000);
	s->looked = 0;
	for (const struct seen *stop, *last = NULL;; last = stop) {
		stop = stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP);
		if (stop == NULL) {
			stage_driven(s, last, 0);
			break;
		}
	}
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSED), -ETIMEDOUT);
	stage_run(s, 1000);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSED), -EAGAIN);
	stage_run(s, 1000);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSED));
	stage_apply(s, STAGE_NODE, COMMAND_SESSION_CLOSED,
		    &(struct cmd_session_closed){s->pool, generation, 1, false});
	s->looked = s->n_seen;
	reap(67);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -ENOENT);
	stage_free(s);
}

/* Its node is declared lost, or its sandbox ended by itself. */
static void test_session_row_goes_while_halting(void **state)
{
	(void)state;
	live_session();
	close_row();
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_GONE,
		    &(struct cmd_sandbox_gone){.sandbox = sandbox, .stopped_ms = 1});
	s->looked = s->n_seen;
	reap(68);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -ENOENT);
	stage_free(s);
}

/* -- Placement and membership ------------------------------------------------------------------------------------ */

static void open_one(uint64_t correlation)
{
	stage_post(s, ADDRESS_PLACEMENT, 0, MSG_OPEN, correlation,
		   &(struct msg_open){.pool = s->pool, .identifier = STR("user-9")});
}

static void test_placement_proposes_again(void **state)
{
	const struct seen *proposal;

	(void)state;
	s = stage_new(true, false);
	open_one(71);
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_OPEN), -ETIMEDOUT);
	stage_run(s, 500);
	assert_non_null(proposal = stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_OPEN));
	stage_proposed(s, proposal, -EAGAIN);
	stage_run(s, 500);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_OPEN));
	runtime_leading(s->runtime, false, 2, s->now_ms);
	stage_run(s, 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->correlation, 71);
	open_one(72);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->correlation, 72);
	stage_free(s);
}

/* A node that renews no more gets nothing new while another can take it, though it is the asking one. */
static void test_placement_passes_over_a_late_node(void **state)
{
	uint64_t here, there;

	(void)state;
	s = stage_new(true, false);
	here = stage_boot(s);
	there = stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT,
			    &(struct cmd_sandbox_boot){s->pool, s->revision, STAGE_OTHER})
			.id;
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){here});
	stage_apply(s, STAGE_OTHER, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){there});
	open_one(75);
	assert_int_equal(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_OPEN)->code, (int32_t)here);
	s->now_ms += 5000;
	struct renewal renewal = {.node = STAGE_OTHER, .epoch = s->epoch[STAGE_OTHER]};

	stage_apply(s, STAGE_NODE, COMMAND_NODE_RENEW, &(struct cmd_node_renew){&renewal, 1});
	stage_post(s, ADDRESS_PLACEMENT, 0, MSG_OPEN, 76,
		   &(struct msg_open){.pool = s->pool, .identifier = STR("user-8")});
	assert_int_equal(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_OPEN)->code, (int32_t)there);
	renewal.node = STAGE_NODE;
	renewal.epoch = s->epoch[STAGE_NODE];
	stage_apply(s, STAGE_NODE, COMMAND_NODE_RENEW, &(struct cmd_node_renew){&renewal, 1});
	runtime_away(s->runtime, STAGE_NODE, true);
	runtime_away(s->runtime, STAGE_OTHER, true);
	runtime_away(s->runtime, STAGE_OTHER, false);
	stage_post(s, ADDRESS_PLACEMENT, 0, MSG_OPEN, 77,
		   &(struct msg_open){.pool = s->pool, .identifier = STR("user-7")});
	assert_int_equal(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_OPEN)->code, (int32_t)there);
	stage_free(s);
}

/* Whoever leads: its node proposes it, of the generation that was found. */
static void test_placement_stops_without_leadership(void **state)
{
	struct msg_stop stop;

	(void)state;
	live_session();
	stop = (struct msg_stop){s->pool, state_session_by_generation(s->tables, generation)->identifier};
	runtime_leading(s->runtime, false, 2, s->now_ms);
	stage_run(s, 0);
	stage_post(s, ADDRESS_PLACEMENT, 0, MSG_STOP, 73, &stop);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING), -ESRCH);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_STOPPED)->correlation, 73);
	stage_post(s, ADDRESS_PLACEMENT, 0, MSG_STOP, 74, &stop);
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING), -ETIMEDOUT);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_STOPPED)->correlation, 74);
	stage_free(s);
}

static void test_membership_grants_and_ends(void **state)
{
	uint64_t ids[] = {1, 2};
	const struct seen *barrier;

	(void)state;
	s = stage_new(true, false);
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_RENEW, 79, /* for another node: it would never be lost */
		   &(struct msg_renew){.node = STAGE_OTHER, .epoch = s->epoch[STAGE_OTHER], .sent_ms = 5});
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -EPERM);
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_JUDGE, 80, &(struct msg_orphans){STAGE_OTHER, ids, 2});
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -EPERM);
	s->speaks_as_other = true;
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_RENEW, 81,
		   &(struct msg_renew){.node = STAGE_OTHER, .epoch = s->epoch[STAGE_OTHER], .sent_ms = 5});
	stage_run(s, 1100);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_RENEW), 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_RENEWED)->correlation, 81);
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_RENEW, 82,
		   &(struct msg_renew){.node = STAGE_OTHER, .epoch = 1, .sent_ms = 5}); /* an old epoch */
	stage_run(s, 1100);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_RENEW), 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -ESTALE);
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_JUDGE, 83, &(struct msg_orphans){STAGE_OTHER, ids, 2});
	barrier = stage_next(s, EFFECT_PROPOSE, COMMAND_WAITERS_EXPIRE);
	stage_refused(s, barrier, -ETIMEDOUT);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->correlation, 83);
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_JUDGE, 84, &(struct msg_orphans){STAGE_OTHER, ids, 2});
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_WAITERS_EXPIRE), 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_JUDGED)->code, 2);
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_RENEW, 85,
		   &(struct msg_renew){.node = STAGE_OTHER, .epoch = s->epoch[STAGE_OTHER], .sent_ms = 5});
	s->speaks_as_other = false;
	runtime_leading(s->runtime, false, 2, s->now_ms);
	stage_run(s, 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->correlation, 85);
	stage_free(s);
}

/* 20 s after this leader was elected, never earlier. */
static void test_membership_declares_lost(void **state)
{
	(void)state;
	s = stage_new(true, false);
	stage_run(s, 19000);
	assert_null(stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_LOST));
	s->looked = 0;
	stage_run(s, 4000);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_LOST));
	stage_free(s);
}

/* -- Reaper and orphans -------------------------------------------------------------------------------------------- */

static void test_reaper_asks_again(void **state)
{
	(void)state;
	live_session();
	stage_run(s, 5100);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_QUIESCE));
	stage_run(s, 2100); /* a silent loop: reopened, and asked again soon */
	s->looked = s->n_seen;
	stage_run(s, 7000);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_QUIESCE));
	stage_free(s);
}

static void test_reaper_survives_a_refusal(void **state)
{
	(void)state;
	live_session();
	stage_run(s, 4900);
	reap(91); /* somebody else quiesces it for 2 s when the reaper comes */
	stage_run(s, 2500);
	s->looked = s->n_seen;
	stage_run(s, 12000);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_QUIESCE));
	stage_free(s);
}

static void test_orphans_ask_until_answered(void **state)
{
	uint64_t id = 4711;

	(void)state;
	s = stage_new(false, false);
	stage_adopted(s, id, true);
	stage_refused(s, stage_next(s, EFFECT_SEND, MSG_JUDGE), -EAGAIN);
	stage_run(s, 1);
	s->looked = 0;
	stage_run(s, 20000);
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_JUDGE));
	assert_non_null(stage_next(s, EFFECT_SEND, MSG_JUDGE));
	s->looked = s->n_seen;
	stage_adopted(s, id, true); /* listed again: asked again at once */
	const struct seen *ask = stage_next(s, EFFECT_SEND, MSG_JUDGE);

	assert_non_null(ask);
	stage_post(s, ADDRESS_ORPHANS, 0, MSG_JUDGED, ask->correlation,
		   &(struct msg_orphans){STAGE_NODE, &id, 1});
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP));
	stage_free(s);
}

/* The leader renews; whether that moves the fence. */
static bool thaws(uint64_t correlation)
{
	s->looked = s->n_seen;
	s->now_ms += 1000;
	stage_post(s, ADDRESS_MEMBERSHIP, 0, MSG_RENEWED, correlation,
		   &(struct msg_renewed){s->epoch[STAGE_NODE], s->now_ms});
	return stage_next(s, EFFECT_DRIVE, SANDBOXD_FENCE) != NULL;
}

/* What a lost node has frozen may be of sessions that live elsewhere: listed and judged first, thawed then. */
static void test_nothing_is_thawed_unjudged(void **state)
{
	uint64_t id = 4711;

	(void)state;
	s = stage_new(false, false);
	stage_adopted(s, 0, false);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	assert_false(thaws(0));
	s->looked = s->n_seen;
	s->runs_frozen = true;
	stage_adopted(s, id, true);
	uint64_t asked = stage_next(s, EFFECT_SEND, MSG_JUDGE)->correlation;

	assert_false(thaws(0));
	stage_post(s, ADDRESS_ORPHANS, 0, MSG_JUDGED, asked, &(struct msg_orphans){STAGE_NODE, &id, 1});
	assert_true(thaws(0));
	stage_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_is_thawed_unjudged),
		cmocka_unit_test(test_session_refuses_and_reopens),
		cmocka_unit_test(test_session_of_a_dead_sandbox),
		cmocka_unit_test(test_session_is_closed_by_others),
		cmocka_unit_test(test_session_ends_until_it_is_ended),
		cmocka_unit_test(test_session_row_goes_while_halting),
		cmocka_unit_test(test_placement_proposes_again),
		cmocka_unit_test(test_placement_passes_over_a_late_node),
		cmocka_unit_test(test_placement_stops_without_leadership),
		cmocka_unit_test(test_membership_grants_and_ends),
		cmocka_unit_test(test_membership_declares_lost),
		cmocka_unit_test(test_reaper_asks_again),
		cmocka_unit_test(test_reaper_survives_a_refusal),
		cmocka_unit_test(test_orphans_ask_until_answered),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
