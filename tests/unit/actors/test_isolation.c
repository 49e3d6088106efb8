/* A pool of virtual machines on nodes of which some cannot run them: where it boots, what it is told when none can. */
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

#define NONE_YET "" /* a node that has not said whether it can */

static struct stage *s;
static struct probe *probe; /* of the next pool; NULL: none */

static void able(uint64_t node, bool vm, const char *no_vm)
{
	struct cmd_node_able body = {1u << ISOLATION_CONTAINER | (vm ? 1u << ISOLATION_VM : 0),
				     str_of(no_vm)};

	assert_int_equal(stage_apply(s, node, COMMAND_NODE_ABLE, &body).code, 0);
}

/* Beside the stage's own pool of containers; both nodes hold the image of both. */
static struct result put(void)
{
	struct str digest = STR("sha256:1");
	struct msg_pool_put body = {.subscription = STR("s"),
				    .resource_group = STR("g"),
				    .name = STR("vms"),
				    .document = STR("{}"),
				    .limits = {.max_sessions = 20, .ready_target = 4, .cooldown_ms = 5000},
				    .template = {.container_name = STR("c"),
						 .image = STR("r/i@sha256:1"),
						 .cpu_milli = 250,
						 .memory_bytes = 1 << 26,
						 .target_port = 80,
						 .probes = probe,
						 .n_probes = probe != NULL},
				    .new_revision = true,
				    .isolation = ISOLATION_VM};

	stage_apply(s, STAGE_OTHER, COMMAND_NODE_IMAGES, &(struct cmd_node_images){STAGE_OTHER, &digest, 1});
	return stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &body);
}

static void step(uint64_t operation, uint8_t from, uint8_t phase)
{
	struct cmd_operation_step body = {
		.operation = operation, .from = from, .phase = phase, .digest = STR("sha256:1")};

	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP, &body).code, 0);
}

static uint64_t made(void)
{
	struct result r = put();

	step(r.operation, PHASE_RESOLVE, PHASE_CACHE);
	step(r.operation, PHASE_CACHE, PHASE_SUCCEEDED);
	return r.id;
}

static void test_boots_where_it_can(void **state)
{
	const struct seen *boot;
	uint64_t pool;
	uint32_t n = 0;

	(void)state;
	s = stage_new(false, false);
	able(STAGE_NODE, false, "no");
	able(STAGE_OTHER, true, "");
	pool = made();
	runtime_leading(s->runtime, true, 1, s->now_ms);
	stage_run(s, 10);
	while ((boot = stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_BOOT)) != NULL) {
		uint64_t node = (uint64_t)boot->code;
		struct cmd_sandbox_boot body = {pool, state_pool(s->tables, pool)->active_revision, node};

		if (node == STAGE_NODE) { /* of the containers' pool, which only this node holds */
			body = (struct cmd_sandbox_boot){s->pool, s->revision, node};
			assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT, &body).code, 0);
		} else {
			n += stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT, &body).code == 0;
		}
		stage_proposed(s, boot, 0);
		stage_run(s, 10);
	}
	assert_int_equal(n, 4);
	stage_free(s);
}

/* sandboxd is told, or it would run a container. */
static void test_its_start_says_so(void **state)
{
	struct cmd_sandbox_boot body;
	const struct seen *start;

	(void)state;
	s = stage_new(false, false);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_adopted(s, 0, false);
	able(STAGE_NODE, true, "");
	body = (struct cmd_sandbox_boot){.pool = made(), .node = STAGE_NODE};
	body.revision = state_pool(s->tables, body.pool)->active_revision;
	s->looked = s->n_seen;
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT, &body).code, 0);
	start = stage_next(s, EFFECT_DRIVE, SANDBOXD_START);
	assert_non_null(start);
	assert_int_equal(start->code, ISOLATION_VM);
	stage_boot(s);
	assert_int_equal(stage_next(s, EFFECT_DRIVE, SANDBOXD_START)->code, ISOLATION_CONTAINER);
	stage_free(s);
}

/* One that is up to being announced, on this node. */
static uint64_t announced(struct probe *liveness)
{
	struct cmd_sandbox_boot body;

	s = stage_new(false, false);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_adopted(s, 0, false);
	able(STAGE_NODE, true, "");
	probe = liveness;
	body = (struct cmd_sandbox_boot){.pool = made(), .node = STAGE_NODE};
	probe = NULL;
	body.revision = state_pool(s->tables, body.pool)->active_revision;
	s->looked = s->n_seen;

	uint64_t sandbox = stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT, &body).id;

	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), 0);
	stage_probed(s, stage_next(s, EFFECT_PROBE, 0), true);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_READY));
	return sandbox;
}

static void ready(uint64_t sandbox)
{
	assert_int_equal(
		stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){sandbox}).code, 0);
}

static void bind(uint64_t sandbox, const char *identifier)
{
	stage_apply(s, STAGE_NODE, COMMAND_SESSION_OPEN,
		    &(struct cmd_session_open){.pool = state_sandbox(s->tables, sandbox)->pool,
					       .identifier = str_of(identifier)});
}

static void parks(bool on)
{
	const struct seen *park = stage_next(s, EFFECT_DRIVE, SANDBOXD_PARK);

	assert_non_null(park);
	assert_int_equal(park->code, on);
	stage_driven(s, park, 0);
}

/* Ready, it stands still, and no probe wakes it; bound, it runs and is probed again. */
static void test_ready_ones_are_parked(void **state)
{
	struct probe liveness = {.kind = PROBE_LIVENESS, .period_s = 1};
	uint64_t sandbox = announced(&liveness);

	(void)state;
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_PARK));
	ready(sandbox);
	parks(true);
	stage_run(s, 10000);
	assert_null(stage_next(s, EFFECT_PROBE, 0));
	bind(sandbox, "user-1");
	assert_int_equal(state_sandbox(s->tables, sandbox)->state, SANDBOX_BOUND);
	parks(false);
	stage_run(s, 2000);
	assert_non_null(stage_next(s, EFFECT_PROBE, 0));
	stage_free(s);
}

static void test_one_that_is_waited_for_is_not(void **state)
{
	uint64_t sandbox = announced(NULL);

	(void)state;
	bind(sandbox, "user-1"); /* waits */
	ready(sandbox);
	assert_int_equal(state_sandbox(s->tables, sandbox)->state, SANDBOX_BOUND);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_PARK));
	stage_free(s);
}

/* A sandboxd that comes back knows of nothing parked; one that stayed while berthd was away may hold what was bound since. */
static void test_adoption_parks_and_wakes(void **state)
{
	uint64_t sandbox = announced(NULL);

	(void)state;
	ready(sandbox);
	parks(true);
	s->runs_parked = true;
	stage_adopted(s, sandbox, true);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_PARK));
	s->runs_parked = false;
	stage_adopted(s, sandbox, true);
	parks(true);
	bind(sandbox, "user-1");
	parks(false);
	s->runs_parked = true;
	stage_adopted(s, sandbox, true);
	parks(false);
	stage_free(s);
}

static void test_containers_are_never_parked(void **state)
{
	uint64_t sandbox;

	(void)state;
	s = stage_new(false, false);
	runtime_joined(s->runtime, s->epoch[STAGE_NODE], s->now_ms);
	stage_adopted(s, 0, false);
	sandbox = stage_boot(s);
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), 0);
	stage_probed(s, stage_next(s, EFFECT_PROBE, 0), true);
	ready(sandbox);
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_PARK));
	stage_free(s);
}

/* It wakes on a node that runs no machines just now: asked for again, and nothing of it is given up. */
static void test_a_sleeper_waits_for_its_node(void **state)
{
	uint64_t sandbox = announced(NULL);
	struct cmd_sandbox_save save = {.sandbox = sandbox};
	struct cmd_session session;

	(void)state;
	ready(sandbox);
	bind(sandbox, "user-1");
	session = (struct cmd_session){state_sandbox(s->tables, sandbox)->pool,
				       state_sandbox(s->tables, sandbox)->generation};
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SESSION_SUSPEND, &session).code, 0);
	save.save = state_sandbox(s->tables, sandbox)->save;
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_SAVED, &save).code, 0);
	s->looked = s->n_seen;
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SESSION_WAKE, &session).code, 0);
	for (int i = 0; i < 3; i++) {
		stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), i == 1 ? -EAGAIN : -ENODEV);
		stage_run(s, 1000);
	}
	stage_driven(s, stage_next(s, EFFECT_DRIVE, SANDBOXD_START), 0);
	assert_non_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_GO_ON));
	s->looked = 0;
	assert_null(stage_next(s, EFFECT_DRIVE, SANDBOXD_STOP));
	stage_free(s);
}

/* What the leader's pool actor does with the phase CACHE. */
static const struct seen *cached(void)
{
	struct result r;

	s->looked = s->n_seen;
	r = put();
	step(r.operation, PHASE_RESOLVE, PHASE_CACHE);
	stage_run(s, 100);
	return stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP);
}

static void test_creation_fails_with_the_reason(void **state)
{
	const struct seen *first;

	(void)state;
	s = stage_new(true, false);
	able(STAGE_NODE, false, "no vmx");
	able(STAGE_OTHER, false, "no answer from the canary guest");
	cached();
	s->looked = 0;
	while ((first = stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP)) != NULL &&
	       first->code != PHASE_FAILED)
		;
	assert_non_null(first);
	assert_string_equal(first->text, "IsolationUnavailable");
	stage_free(s);
}

/* One has not said yet, or could and is lost: nothing is decided. */
static void test_creation_waits_for_who_has_not_said(void **state)
{
	const struct seen *x;

	(void)state;
	s = stage_new(true, false);
	able(STAGE_NODE, false, "no vmx");
	able(STAGE_OTHER, false, NONE_YET);
	cached();
	s->looked = 0;
	while ((x = stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP)) != NULL)
		assert_int_not_equal(x->code, PHASE_FAILED);
	s->looked = s->n_seen;
	able(STAGE_OTHER, true, "");
	stage_run(s, 2000); /* it holds the image: done */
	x = stage_next(s, EFFECT_PROPOSE, COMMAND_OPERATION_STEP);
	assert_non_null(x);
	assert_int_equal(x->code, PHASE_SUCCEEDED);
	stage_free(s);
}

/* Its only node lost the ability, and a session lives there: others are told why, not that it is full. */
static void test_askers_are_told_why(void **state)
{
	struct cmd_sandbox_boot boot = {.node = STAGE_OTHER};
	const struct seen *opened;
	uint64_t pool;

	(void)state;
	s = stage_new(true, false);
	able(STAGE_NODE, false, "no vmx");
	able(STAGE_OTHER, true, "");
	boot.pool = pool = made();
	boot.revision = state_pool(s->tables, pool)->active_revision;
	uint64_t sandbox = stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT, &boot).id;

	stage_apply(s, STAGE_OTHER, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){sandbox});
	stage_apply(s, STAGE_NODE, COMMAND_SESSION_OPEN,
		    &(struct cmd_session_open){.pool = pool, .identifier = STR("user-1")});
	assert_int_equal(state_pool_counts(s->tables, pool).live, 1);
	able(STAGE_OTHER, false, "the module was removed");
	s->looked = s->n_seen;
	stage_post(s, ADDRESS_PLACEMENT, 0, MSG_OPEN, 77,
		   &(struct msg_open){.pool = pool, .identifier = STR("user-2")});
	stage_apply(s, STAGE_NODE, COMMAND_SESSION_OPEN,
		    &(struct cmd_session_open){.pool = pool, .identifier = STR("user-2")});
	stage_run(s, 11000);
	opened = stage_next(s, EFFECT_SEND, MSG_OPENED);
	assert_non_null(opened);
	assert_int_equal(opened->code, OPEN_CANNOT_START);
	assert_non_null(strstr(opened->text, "virtual machines"));
	assert_non_null(strstr(opened->text, "the module was removed"));
	assert_non_null(strstr(opened->text, "no vmx"));
	stage_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_boots_where_it_can),
		cmocka_unit_test(test_its_start_says_so),
		cmocka_unit_test(test_ready_ones_are_parked),
		cmocka_unit_test(test_one_that_is_waited_for_is_not),
		cmocka_unit_test(test_adoption_parks_and_wakes),
		cmocka_unit_test(test_containers_are_never_parked),
		cmocka_unit_test(test_a_sleeper_waits_for_its_node),
		cmocka_unit_test(test_creation_fails_with_the_reason),
		cmocka_unit_test(test_creation_waits_for_who_has_not_said),
		cmocka_unit_test(test_askers_are_told_why),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
