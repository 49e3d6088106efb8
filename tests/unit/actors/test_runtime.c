/* The runtime with one small actor: exactly one answer a request, deadlines, deferring, full mailboxes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "runtime/actor.h"

enum { ECHO_SHUT, ECHO_OPEN, ECHO_STATES };

static uint64_t asked; /* the correlation of the actor's own request */
static int timeouts, answers;

/* TIMER opens it; then STOP is answered, and OPEN makes it ask somebody else. */
static uint8_t unlock(struct actor *a, struct context *c, const struct message *m)
{
	(void)a;
	(void)c;
	(void)m;
	return ECHO_OPEN;
}

static uint8_t echo(struct actor *a, struct context *c, const struct message *m)
{
	(void)a;
	context_reply(c, m, MSG_STOPPED, &(struct msg_stopped){.code = 7});
	return ECHO_OPEN;
}

static uint8_t ask(struct actor *a, struct context *c, const struct message *m)
{
	(void)a;
	(void)m;
	asked = context_request(c, (struct address){ADDRESS_GATEWAY, 1, 0}, MSG_STOP,
				&(struct msg_stop){1, STR("abcd")}, 100);
	return ECHO_OPEN;
}

static uint8_t got(struct actor *a, struct context *c, const struct message *m)
{
	(void)a;
	(void)c;
	if (m->envelope->type == MSG_REFUSED)
		timeouts++;
	else
		answers++;
	return ECHO_OPEN;
}

static const struct sm_cell cells[ECHO_STATES][MSG_TYPES] = {
	[ECHO_SHUT] = {[MSG_TIMER] = ON(unlock, SM_TO(ECHO_OPEN)),
		       [MSG_STOP] = DEFER,
		       [MSG_OPEN] = REFUSE,
		       [MSG_STOPPED] = IGNORE,
		       [MSG_REFUSED] = IGNORE},
	[ECHO_OPEN] = {[MSG_TIMER] = IGNORE,
		       [MSG_STOP] = ON(echo, SM_TO(ECHO_OPEN)),
		       [MSG_OPEN] = ON(ask, SM_TO(ECHO_OPEN)),
		       [MSG_STOPPED] = ON(got, SM_TO(ECHO_OPEN)),
		       [MSG_REFUSED] = ON(got, SM_TO(ECHO_OPEN))},
};
static const uint8_t messages[] = {MSG_TIMER, MSG_STOP, MSG_OPEN, MSG_STOPPED, MSG_REFUSED};
static const char *const names[] = {"shut", "open"};
static const struct sm_def echo_sm = {.name = "echo",
				      .states = names,
				      .n_states = ECHO_STATES,
				      .final = ECHO_STATES,
				      .messages = messages,
				      .n_messages = 5,
				      .cells = cells};
static void init(struct actor *a, struct context *c)
{
	(void)a;
	(void)c;
}
static const struct actor_class echo_class = {.sm = &echo_sm,
					      .kind = ADDRESS_PLACEMENT,
					      .size = sizeof(struct actor),
					      .mailbox_max = 4,
					      .singleton = true,
					      .init = init};
static const struct actor_class *const classes[] = {&echo_class};

struct stage {
	struct runtime *runtime;
	struct state *tables;
	uint16_t last_type;
	uint64_t last_correlation;
	int n_sent;
};

static void record(void *context, const struct effect *effect)
{
	struct stage *s = context;

	assert_int_equal(effect->kind, EFFECT_SEND);
	s->n_sent++;
	s->last_type = effect->envelope->type;
	s->last_correlation = effect->envelope->correlation;
}

static struct stage *up(void)
{
	static struct stage s;

	s = (struct stage){.tables = state_new()};
	s.runtime = runtime_new(&(struct runtime_options){.node = 1,
							  .incarnation = 1,
							  .state = s.tables,
							  .classes = classes,
							  .n_classes = 1,
							  .effect = record,
							  .context = &s});
	timeouts = answers = 0;
	return &s;
}

static void down(struct stage *s)
{
	runtime_free(s->runtime);
	state_free(s->tables);
}

static void post(struct stage *s, uint16_t type, const void *body, uint64_t correlation, uint64_t deadline_ms,
		 uint64_t now_ms)
{
	CLEANUP_BUF struct buf bytes = {0};

	if (message_body_codec[type] != NULL)
		codec_encode(&bytes, message_body_codec[type], body);
	runtime_post(s->runtime,
		     &(struct envelope){.to = {ADDRESS_PLACEMENT, 1, 0},
					.from = {ADDRESS_API, 1, 9},
					.type = type,
					.correlation = correlation,
					.deadline_ms = deadline_ms,
					.incarnation = 1,
					.body = buf_str(&bytes)},
		     now_ms);
}

static const struct msg_stop stop_body = {1, {"abcd", 4}};
static const struct msg_open open_body = {.pool = 1, .identifier = {"abcd", 4}};

static void test_deferred_until_the_state_changes(void **state)
{
	struct stage *s = up();

	(void)state;
	post(s, MSG_STOP, &stop_body, 5, 0, 10);
	runtime_run(s->runtime, 10);
	assert_int_equal(s->n_sent, 0);
	post(s, MSG_TIMER, NULL, 0, 0, 11);
	runtime_run(s->runtime, 11);
	assert_int_equal(s->n_sent, 1);
	assert_int_equal(s->last_type, MSG_STOPPED);
	assert_int_equal(s->last_correlation, 5);
	down(s);
}

static void test_a_full_stash_refuses(void **state)
{
	struct stage *s = up();

	(void)state;
	for (uint64_t i = 1; i <= 6; i++) {
		post(s, MSG_STOP, &stop_body, i, 0, 10);
		runtime_run(s->runtime, 10);
	}
	assert_int_equal(s->n_sent, 2);
	assert_int_equal(s->last_type, MSG_REFUSED);
	assert_int_equal(s->last_correlation, 6);
	down(s);
}

static void test_refused_in_the_wrong_state_and_for_nobody(void **state)
{
	struct stage *s = up();

	(void)state;
	post(s, MSG_OPEN, &open_body, 3, 0, 10);
	runtime_run(s->runtime, 10);
	assert_int_equal(s->last_type, MSG_REFUSED);
	runtime_post(s->runtime,
		     &(struct envelope){.to = {ADDRESS_SESSION, 1, 77},
					.from = {ADDRESS_API, 1, 9},
					.type = MSG_REAP,
					.correlation = 4,
					.incarnation = 1},
		     10);
	runtime_run(s->runtime, 10);
	assert_int_equal(s->last_correlation, 4);
	assert_int_equal(s->n_sent, 2);
	post(s, MSG_OPEN, &open_body, 8, 5, 10); /* its deadline passed */
	runtime_run(s->runtime, 10);
	assert_int_equal(s->last_correlation, 8);
	assert_int_equal(s->last_type, MSG_REFUSED);
	down(s);
}

static void test_a_request_ends_once(void **state)
{
	struct stage *s = up();

	(void)state;
	post(s, MSG_TIMER, NULL, 0, 0, 10);
	post(s, MSG_OPEN, &open_body, 1, 0, 10);
	runtime_run(s->runtime, 10);
	assert_int_equal(s->last_correlation, asked);
	assert_int_equal(runtime_next_ms(s->runtime), 110);
	post(s, MSG_STOPPED, &(struct msg_stopped){0}, asked, 0, 50);
	post(s, MSG_STOPPED, &(struct msg_stopped){0}, asked, 0, 50);
	runtime_run(s->runtime, 50);
	assert_int_equal(answers, 1);
	runtime_run(s->runtime, 500);
	assert_int_equal(timeouts, 0);
	post(s, MSG_OPEN, &open_body, 2, 0, 500);
	runtime_run(s->runtime, 500);
	runtime_run(s->runtime, 700);
	assert_int_equal(timeouts, 1);
	post(s, MSG_STOPPED, &(struct msg_stopped){0}, asked, 0, 701);
	runtime_run(s->runtime, 701);
	assert_int_equal(answers, 1); /* too late */
	assert_int_equal(runtime_next_ms(s->runtime), UINT64_MAX);
	down(s);
}

static void test_garbage_is_refused(void **state)
{
	struct stage *s = up();

	(void)state;
	runtime_post(s->runtime,
		     &(struct envelope){.to = {ADDRESS_PLACEMENT, 1, 0},
					.from = {ADDRESS_API, 1, 9},
					.type = MSG_STOP,
					.correlation = 4,
					.incarnation = 1,
					.body = STR("\xc1")},
		     10);
	runtime_run(s->runtime, 10);
	assert_int_equal(s->last_type, MSG_REFUSED);
	post(s, MSG_DEAD, &(struct msg_session_event){0}, 6, 0, 10); /* not in its table */
	runtime_run(s->runtime, 10);
	assert_int_equal(s->last_correlation, 6);
	assert_int_equal(s->n_sent, 2);
	down(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_deferred_until_the_state_changes),
		cmocka_unit_test(test_a_full_stash_refuses),
		cmocka_unit_test(test_refused_in_the_wrong_state_and_for_nobody),
		cmocka_unit_test(test_a_request_ends_once),
		cmocka_unit_test(test_garbage_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
