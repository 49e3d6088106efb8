/* The sandbox actor, state by state: what it does with each message that it handles. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "sim/blank.h"
#include "sandbox/sandbox.h"
#include "stage.h"

static struct stage *s;
static uint64_t id;

/* Takes a new sandbox's actor to the state. */
static void go_to(enum sandbox_actor_state state, bool with_probes)
{
	s = stage_new(false, with_probes);
	if (state != SANDBOX_ACTOR_NEW) {
		runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
		stage_adopted(s, 0, false);
	}
	id = stage_boot(s);
	if (state == SANDBOX_ACTOR_NEW || state == SANDBOX_ACTOR_STARTING)
		return;
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), 0);
	if (state == SANDBOX_ACTOR_PROBING)
		return;
	stage_probed(s, stage_next(s, EFFECT_PROBE, 0), true);
	if (state == SANDBOX_ACTOR_ANNOUNCING)
		return;
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){id}).code,
			 0);
	if (state == SANDBOX_ACTOR_SERVING)
		return;
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_STOPPING, &(struct cmd_sandbox){id});
	if (state == SANDBOX_ACTOR_STOPPING)
		return;
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP), 0);
}

static void goes(void)
{
	stage_free(s);
}

/* It is stopped, and then its end is proposed with this cause. */
static void ends_with(const char *cause, bool failed)
{
	const struct seen *gone;

	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP), 0);
	gone = stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_GONE);
	assert_non_null(gone);
	assert_int_equal(gone->code & 1, failed);
	assert_non_null(strstr(gone->text, cause));
	goes();
}

static void halt(uint64_t correlation)
{
	stage_post(s, ADDRESS_SANDBOX, id, MSG_HALT, correlation,
		   &(struct msg_halt){100, false, STR("idle")});
}

static void exits(uint8_t how, int32_t value)
{
	stage_post(s, ADDRESS_SANDBOX, id, MSG_EXITED, 0, &(struct sandboxd_exited){id, how, value, 5});
}

static void test_new_waits_for_the_list(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_NEW, false);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_START));
	/* Before it joined, its tables may be old: one that shows as booting may have served and ended since. */
	stage_adopted(s, id, false);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_START));
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_adopted(s, id, false);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_START));
	goes();
	go_to(SANDBOX_ACTOR_NEW, false);
	stage_adopted(s, id, true);
	assert_non_null(stage_next(s, EFFECT_PROBE, 0));
	goes();
}

static void test_a_start_that_fails(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_STARTING, false);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), -ENOEXEC);
	ends_with("it did not start: driven", true);
	go_to(SANDBOX_ACTOR_STARTING, false);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START),
		     -ECHILD); /* it ran, and ended while nobody looked */
	ends_with("its process ended before it was ready", true);
	go_to(SANDBOX_ACTOR_STARTING, false);
	stage_next(s, EFFECT_DRIVE, SANDBOXD_START);
	stage_run(s, SANDBOX_START_MS + 1);
	ends_with("it did not start within 60 s", true);
}

static void test_a_start_of_unknown_outcome(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_STARTING, false);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), -ENOTCONN);
	stage_run(s, 1500);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), -EEXIST);
	assert_non_null(stage_next(s, EFFECT_PROBE, 0));
	goes();
	go_to(SANDBOX_ACTOR_STARTING, false);
	stage_adopted(s, id, true);
	assert_non_null(stage_next(s, EFFECT_PROBE, 0));
	goes();
}

static void test_exits_name_their_cause(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_STARTING, false);
	exits(SANDBOX_EXIT_CODE, 3);
	ends_with("exited with code 3 before it was ready", true);
	go_to(SANDBOX_ACTOR_PROBING, false);
	exits(SANDBOX_EXIT_SIGNAL, 11);
	ends_with("killed by signal 11 before it was ready", true);
	go_to(SANDBOX_ACTOR_ANNOUNCING, false);
	exits(SANDBOX_EXIT_OOM, 0);
	ends_with("ran out of memory (limit 64 MiB)", true);
	go_to(SANDBOX_ACTOR_SERVING, false);
	exits(SANDBOX_EXIT_CODE, 1);
	ends_with("exited with code 1", true);
	go_to(SANDBOX_ACTOR_STOPPING, false);
	exits(SANDBOX_EXIT_SIGNAL, 15);
	ends_with("signal 15", true);
}

static void test_its_row_says_stop(void **state)
{
	static const enum sandbox_actor_state from[] = {SANDBOX_ACTOR_STARTING, SANDBOX_ACTOR_PROBING,
							SANDBOX_ACTOR_ANNOUNCING, SANDBOX_ACTOR_SERVING};

	(void)state;
	for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
		go_to(from[i], false);
		stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_STOPPING, &(struct cmd_sandbox){id});
		ends_with("", false);
	}
}

static void test_halt_from_everywhere(void **state)
{
	static const enum sandbox_actor_state from[] = {SANDBOX_ACTOR_STARTING, SANDBOX_ACTOR_PROBING,
							SANDBOX_ACTOR_ANNOUNCING, SANDBOX_ACTOR_SERVING,
							SANDBOX_ACTOR_STOPPING};

	(void)state;
	for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
		go_to(from[i], false);
		halt(77);
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP), 0);
		assert_int_equal(stage_next(s, EFFECT_SEND, MSG_HALTED)->correlation, 77);
		goes();
	}
	go_to(SANDBOX_ACTOR_ENDING, false);
	halt(78);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_HALTED)->correlation, 78);
	goes();
}

static void test_adoption_of_what_is_gone(void **state)
{
	static const enum sandbox_actor_state from[] = {SANDBOX_ACTOR_PROBING, SANDBOX_ACTOR_ANNOUNCING,
							SANDBOX_ACTOR_SERVING};

	(void)state;
	for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
		go_to(from[i], false);
		stage_adopted(s, id, true);
		assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP));
		stage_adopted(s, id, false);
		ends_with("its process ended", from[i] != SANDBOX_ACTOR_SERVING);
	}
	go_to(SANDBOX_ACTOR_STOPPING, false);
	stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP);
	stage_adopted(s, id, false);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP));
	goes();
}

static void test_probes_until_the_limit(void **state)
{
	const struct seen *probe;

	(void)state;
	go_to(SANDBOX_ACTOR_PROBING, false);
	stage_refused(s, stage_next(s, EFFECT_PROBE, 0), -ETIMEDOUT);
	stage_run(s, 100);
	assert_non_null(probe = stage_next(s, EFFECT_PROBE, 0));
	while (s->now_ms < 1000 + SANDBOX_START_MS + 2000) {
		stage_probed(s, probe, false);
		stage_run(s, 1000);
		probe = stage_next(s, EFFECT_PROBE, 0);
		if (probe == NULL)
			break;
	}
	s->looked = 0;
	ends_with("it never answered on port 80 within 60 s: refused", true);
}

static void test_announcing_goes_on(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_ANNOUNCING, false);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_READY), -EAGAIN);
	stage_run(s, 300);
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_READY), -ETIMEDOUT);
	stage_run(s, 300);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_READY));
	goes();
}

static void test_liveness(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_SERVING, true);
	stage_run(s, 1500);
	stage_probed(s, stage_next(s, EFFECT_PROBE, 0), false);
	stage_run(s, 5500);
	stage_probed(s, stage_next(s, EFFECT_PROBE, 0), true);
	stage_run(s, 5500);
	stage_probed(s, stage_next(s, EFFECT_PROBE, 0), false);
	stage_run(s, 5500);
	stage_refused(s, stage_next(s, EFFECT_PROBE, 0), -ETIMEDOUT);
	ends_with("its liveness probe failed 2 times", true);
}

static void test_stops_until_it_worked(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_STOPPING, false);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP), -EIO);
	stage_run(s, 1500);
	stage_refused(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP), -ETIMEDOUT);
	stage_run(s, 1500);
	ends_with("", false);
	go_to(SANDBOX_ACTOR_STOPPING, false);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP), -ENOENT); /* nothing of it is there */
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_GONE));
	goes();
}

static void test_the_end_is_proposed_until_it_is(void **state)
{
	(void)state;
	go_to(SANDBOX_ACTOR_ENDING, false);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_GONE), -EAGAIN);
	stage_run(s, 1500);
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_GONE), -ETIMEDOUT);
	stage_run(s, 1500);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_GONE));
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_GONE,
		    &(struct cmd_sandbox_gone){.sandbox = id, .stopped_ms = 1});
	halt(9); /* nobody is there any more */
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -ENOENT);
	goes();
}

/* With egress; then the pool's is turned off. */
static void go_and_close(enum sandbox_actor_state state)
{
	s = stage_new(false, false);
	stage_egress(s, true);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_adopted(s, 0, false);
	id = stage_boot(s);
	if (state > SANDBOX_ACTOR_STARTING)
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), 0);
	if (state > SANDBOX_ACTOR_PROBING)
		stage_probed(s, stage_next(s, EFFECT_PROBE, 0), true);
	if (state > SANDBOX_ACTOR_ANNOUNCING)
		stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){id});
	stage_egress(s, false);
	if (state == SANDBOX_ACTOR_STARTING) {
		uint32_t looked = s->looked;

		assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS)); /* it does not run yet */
		s->looked = looked;
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), 0);
	}
}

static void test_egress_is_turned_off(void **state)
{
	static const enum sandbox_actor_state from[] = {SANDBOX_ACTOR_STARTING, SANDBOX_ACTOR_PROBING,
							SANDBOX_ACTOR_ANNOUNCING, SANDBOX_ACTOR_SERVING};

	(void)state;
	for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
		go_and_close(from[i]);
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS), 0);
		stage_run(s, 3000);
		assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS));
		goes();
		go_and_close(from[i]);
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS), -EIO);
		ends_with("its egress could not be turned off: driven", false);
	}
}

static void test_egress_is_turned_off_until_it_is(void **state)
{
	static const enum sandbox_actor_state from[] = {SANDBOX_ACTOR_PROBING, SANDBOX_ACTOR_ANNOUNCING,
							SANDBOX_ACTOR_SERVING};

	(void)state;
	for (size_t i = 0; i < sizeof from / sizeof *from; i++) {
		go_and_close(from[i]);
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS), -EBUSY);
		stage_run(s, 1500);
		stage_refused(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS), -ETIMEDOUT);
		stage_run(s, 1500);
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS), -ENOTCONN);
		s->runs_with_egress = true; /* sandboxd comes back, and it was not done */
		stage_adopted(s, id, true);
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS), 0);
		stage_egress(s, true); /* does not give it back */
		stage_run(s, 3000);
		assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_EGRESS));
		goes();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_new_waits_for_the_list),
		cmocka_unit_test(test_a_start_that_fails),
		cmocka_unit_test(test_a_start_of_unknown_outcome),
		cmocka_unit_test(test_exits_name_their_cause),
		cmocka_unit_test(test_its_row_says_stop),
		cmocka_unit_test(test_halt_from_everywhere),
		cmocka_unit_test(test_adoption_of_what_is_gone),
		cmocka_unit_test(test_probes_until_the_limit),
		cmocka_unit_test(test_announcing_goes_on),
		cmocka_unit_test(test_liveness),
		cmocka_unit_test(test_stops_until_it_worked),
		cmocka_unit_test(test_the_end_is_proposed_until_it_is),
		cmocka_unit_test(test_egress_is_turned_off),
		cmocka_unit_test(test_egress_is_turned_off_until_it_is),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
