/* Each command's refusals, as state.h lists them, and what repetition, epochs, time and levels do to any of them. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "machine/machine.h"

#define DIGEST STR("sha256:0123456789012345678901234567890123456789012345678901234567890123")

/* The code of one command, which must change nothing when it is a refusal. */
static int code(struct machine *m, uint64_t node, uint8_t type, const void *body)
{
	return machine_do(m, node, type, body)->code;
}

static uint64_t start(struct machine *m, uint32_t max_sessions, uint32_t ready)
{
	machine_init(m);
	machine_start(m, 2);
	return machine_pool(m, "echo", max_sessions, ready);
}

static void test_before_init_and_twice(void **unused)
{
	struct machine m;
	struct cmd_cluster_init init = {.id = STR("x"),
					.settings = {.lease_ms = 1, .lost_ms = 1, .overcommit_cpu = 1}};

	(void)unused;
	machine_init(&m);
	assert_int_equal(code(&m, 1, COMMAND_WAITERS_EXPIRE, NULL), -ENXIO);
	assert_int_equal(code(&m, 0, COMMAND_CLUSTER_INIT, &init), -EINVAL); /* overcommit_memory 0 */
	machine_start(&m, 1);
	assert_int_equal(code(&m, 0, COMMAND_CLUSTER_INIT, &init), -EEXIST);
	assert_int_equal(state_cluster(m.s)->incarnation, 1);
	machine_done(&m);
}

static void test_repetition(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 2), hash, generation;
	CLEANUP_BUF struct buf body = {0};
	struct cmd_session_open open = {.pool = pool, .identifier = STR("user-1")};
	struct command c = {.type = COMMAND_SESSION_OPEN, .node = 2, .epoch = m.epoch[2], .sequence = 1};
	const struct result *result;

	(void)unused;
	codec_encode(&body, command_body_codec[COMMAND_SESSION_OPEN], &open);
	c.body = buf_str(&body);
	result = machine_command(&m, &c, 1);
	assert_true(result->created && result->waiting);
	generation = result->id;
	hash = state_hash(m.s);
	result = machine_command(&m, &c, 1);
	assert_int_equal(result->id, generation);
	assert_true(result->created);
	assert_int_equal(result->index, m.index - 1);
	assert_int_equal(hash, state_hash(m.s));
	m.sequence[2] = 1;
	for (unsigned i = 0; i < RESULTS_KEPT - 1; i++)
		machine_do(&m, 2, COMMAND_WAITERS_EXPIRE, NULL);
	assert_int_equal(machine_command(&m, &c, 1)->code, 0); /* the oldest that is kept */
	machine_do(&m, 2, COMMAND_WAITERS_EXPIRE, NULL);
	assert_int_equal(machine_command(&m, &c, 1)->code, -ESTALE);
	/* Late, but never seen: executed. */
	m.sequence[2] += 10;
	machine_do(&m, 2, COMMAND_WAITERS_EXPIRE, NULL);
	c.sequence = m.sequence[2] - 5;
	assert_false(machine_command(&m, &c, 1)->created);
	assert_int_equal(m.applied.results[0].code, 0);
	c.sequence = 0;
	assert_int_equal(machine_command(&m, &c, 1)->code, -EINVAL);
	c.sequence = m.sequence[2] + 1;
	c.epoch--;
	assert_int_equal(machine_command(&m, &c, 1)->code, -ESTALE);
	c.epoch++;
	assert_int_equal(machine_command(&m, &c, 2)->code, -ESTALE); /* another incarnation */
	machine_done(&m);
}

static void test_a_restart_keeps_sandboxes(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 2), sandbox = machine_ready(&m, pool, 2), epoch = m.epoch[2];
	struct cmd_node_join join = {.id = 2, .name = STR("again"), .cpu_milli = 10, .memory_bytes = 1};

	(void)unused;
	assert_int_equal(code(&m, 2, COMMAND_NODE_JOIN, &join), 0);
	assert_true(m.epoch[2] > epoch);
	assert_int_equal(state_sandbox(m.s, sandbox)->state, SANDBOX_READY);
	assert_true(state_node(m.s, 2)->memory_bytes >= 64u << 20); /* as large as what it runs */
	join.id = 5000;
	assert_int_equal(code(&m, 2, COMMAND_NODE_JOIN, &join), -EINVAL);
	machine_done(&m);
}

static void test_nodes(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 2);
	struct renewal renewals[2] = {{.node = 1, .epoch = 1}, {.node = 2}};
	struct str digests[2] = {DIGEST, STR_NONE};
	struct cmd_sandbox_boot boot = {
		.pool = pool, .revision = state_pool(m.s, pool)->active_revision, .node = 2};

	(void)unused;
	renewals[1].epoch = m.epoch[2];
	m.now_ms += 500;
	assert_int_equal(machine_do(&m, 1, COMMAND_NODE_RENEW, &(struct cmd_node_renew){renewals, 2})->id, 1);
	assert_int_equal(state_node(m.s, 2)->renewed_ms, m.now_ms);
	assert_int_equal(code(&m, 1, COMMAND_NODE_LOST, &(struct cmd_node_lost){.node = 9}), -ENOENT);
	assert_int_equal(code(&m, 1, COMMAND_NODE_ORDER, &(struct msg_node_order){.node = 9}), -ENOENT);
	assert_int_equal(code(&m, 1, COMMAND_NODE_ORDER,
			      &(struct msg_node_order){.node = 2, .deadline_ms = UINT64_MAX}),
			 -EINVAL);
	assert_int_equal(code(&m, 1, COMMAND_NODE_ORDER, &(struct msg_node_order){2, NODE_CORDON, 0}), 0);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &boot), -EHOSTDOWN);
	assert_int_equal(code(&m, 1, COMMAND_NODE_IMAGES, &(struct cmd_node_images){2, digests, 1}), -EPERM);
	assert_int_equal(code(&m, 2, COMMAND_NODE_IMAGES, &(struct cmd_node_images){2, digests, 2}), -EINVAL);
	assert_int_equal(code(&m, 2, COMMAND_NODE_IMAGES, &(struct cmd_node_images){2, digests, 1}), 0);
	assert_true(state_has_image(m.s, 2, DIGEST));
	assert_int_equal(code(&m, 2, COMMAND_NODE_IMAGES, &(struct cmd_node_images){2, digests, 0}), 0);
	assert_false(state_has_image(m.s, 2, DIGEST));
	machine_done(&m);
}

static void test_sandboxes(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 3, 2), sandbox;
	struct cmd_sandbox_boot boot = {
		.pool = pool, .revision = state_pool(m.s, pool)->active_revision, .node = 1};
	struct cmd_sandbox c = {0};

	(void)unused;
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &(struct cmd_sandbox_boot){.pool = 1}), -ENOENT);
	assert_int_equal(
		code(&m, 1, COMMAND_SANDBOX_BOOT, &(struct cmd_sandbox_boot){.pool = pool, .node = 1}),
		-ESTALE);
	boot.node = 9;
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &boot), -ENODEV);
	boot.node = 1;
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_READY, &c), -ENOENT);
	sandbox = c.sandbox = machine_boot(&m, pool, 1);
	machine_boot(&m, pool, 1);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &boot), -EDQUOT);
	assert_int_equal(code(&m, 2, COMMAND_SANDBOX_READY, &c), -EPERM);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_READY, &c), 0);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_READY, &c), -EALREADY);
	machine_open(&m, pool, "user-1");
	assert_int_equal(code(&m, 2, COMMAND_SANDBOX_STOPPING, &c), -EBUSY);
	assert_int_equal(code(&m, 2, COMMAND_SANDBOX_GONE, &(struct cmd_sandbox_gone){.sandbox = sandbox}),
			 -EPERM);
	c.sandbox = state_next_pool_sandbox(m.s, pool, state_sandbox(m.s, sandbox))->id;
	assert_int_equal(code(&m, 2, COMMAND_SANDBOX_STOPPING, &c), 0);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_STOPPING, &c), 0);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_READY, &c), -ESHUTDOWN);
	struct cmd_sandbox_gone gone = {.sandbox = c.sandbox, .failed = true, .message = STR("it crashed")};

	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_GONE, &gone), 0);
	assert_int_equal(state_pool(m.s, pool)->failures, 1);
	assert_true(str_eq(state_pool(m.s, pool)->failure, STR("it crashed")));
	machine_ready(&m, pool, 2);
	assert_int_equal(state_pool(m.s, pool)->failures, 0);
	machine_done(&m);
}

static void test_capacity(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 1000, 1000);
	struct cmd_sandbox_boot boot = {
		.pool = pool, .revision = state_pool(m.s, pool)->active_revision, .node = 1};

	(void)unused;
	for (unsigned i = 0; i < 128; i++) /* 4,000 milli-vCPU x 8 / 250, and 8 GiB / 64 MiB */
		assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &boot), 0);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &boot), -ENOSPC);
	machine_done(&m);
}

static void test_sessions(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 3, 2), first = machine_ready(&m, pool, 1),
		 second = machine_ready(&m, pool, 2), waiter;
	struct cmd_session_open open = {.pool = pool, .identifier = STR("user-1"), .preferred = second};
	struct cmd_session_closing closing = {.pool = pool, .reason = REAP_STOPPED};
	struct cmd_session_closed closed = {.pool = pool};
	struct result result;

	(void)unused;
	assert_int_equal(machine_open(&m, 1, "user-1").code, -ENOENT);
	assert_int_equal(machine_open(&m, pool, "abc").code, -EINVAL);
	open.require_existing = true;
	assert_int_equal(code(&m, 1, COMMAND_SESSION_OPEN, &open), -ESRCH);
	open.require_existing = false;
	result = *machine_do(&m, 1, COMMAND_SESSION_OPEN, &open);
	assert_int_equal(result.session.sandbox, second);
	assert_int_equal(machine_open(&m, pool, "user-2").session.sandbox, first);
	result = machine_open(&m, pool, "user-3");
	assert_true(result.waiting && result.created);
	waiter = result.id;
	assert_true(machine_open(&m, pool, "user-3").waiting);
	assert_int_equal(machine_open(&m, pool, "user-4").code, -EUSERS);
	assert_int_equal(code(&m, 1, COMMAND_SESSION_CLOSING, &closing), -ESRCH);
	closing.generation = closed.generation = state_session(m.s, pool, STR("user-1"))->generation;
	assert_int_equal(code(&m, 1, COMMAND_SESSION_CLOSING, &closing), 0);
	assert_int_equal(code(&m, 1, COMMAND_SESSION_CLOSING, &closing), 0);
	assert_int_equal(machine_open(&m, pool, "user-1").code, -EBUSY);
	assert_int_equal(code(&m, 1, COMMAND_SESSION_CLOSED, &closed), -EPERM);
	assert_int_equal(code(&m, 2, COMMAND_SESSION_CLOSED, &closed), 0);
	assert_int_equal(code(&m, 2, COMMAND_SESSION_CLOSED, &closed), -ESRCH);
	assert_null(state_sandbox(m.s, second));
	assert_int_equal(state_next_record(m.s, NULL)->reason, REAP_STOPPED);
	closed.generation = waiter;
	assert_int_equal(code(&m, 1, COMMAND_SESSION_CLOSED, &closed), -EINVAL);
	/* The one that waits longest gets the next sandbox. */
	m.now_ms += 10;
	machine_open(&m, pool, "user-5");
	machine_ready(&m, pool, 2);
	assert_int_equal(state_session_by_generation(m.s, waiter)->state, SESSION_LIVE);
	assert_int_equal(state_session(m.s, pool, STR("user-5"))->state, SESSION_WAITING);
	m.now_ms += 9999;
	assert_int_equal(machine_do(&m, 1, COMMAND_WAITERS_EXPIRE, NULL)->id, 0);
	m.now_ms += 1;
	assert_int_equal(machine_do(&m, 1, COMMAND_WAITERS_EXPIRE, NULL)->id, 1);
	assert_null(state_session(m.s, pool, STR("user-5")));
	machine_done(&m);
}

/* Booting sandboxes that nobody waits for any more are told to stop. */
static void test_too_many_are_stopped(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 0);
	char name[16];

	(void)unused;
	for (unsigned i = 0; i < 4; i++) {
		snprintf(name, sizeof name, "user-%u", i);
		assert_true(machine_open(&m, pool, name).waiting);
		machine_boot(&m, pool, 1);
	}
	m.now_ms += 20000;
	assert_int_equal(machine_do(&m, 1, COMMAND_WAITERS_EXPIRE, NULL)->id, 4);
	assert_int_equal(state_pool_counts(m.s, pool).booting, 0);
	assert_int_equal(state_pool_counts(m.s, pool).stopping, 4);
	machine_done(&m);
}

/* Off at once for all; on for those that are made afterwards. */
static void test_pool_egress(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 3), first, second;
	struct msg_pool_put put = machine_put("echo", 10, 3);

	(void)unused;
	put.new_revision = false;
	put.limits.egress = true;
	first = machine_ready(&m, pool, 1);
	assert_false(state_sandbox(m.s, first)->egress);
	machine_do(&m, 1, COMMAND_POOL_PUT, &put);
	assert_false(state_sandbox(m.s, first)->egress);
	second = machine_ready(&m, pool, 1);
	assert_true(state_sandbox(m.s, second)->egress);
	put.limits.egress = false;
	machine_do(&m, 1, COMMAND_POOL_PUT, &put);
	assert_false(state_sandbox(m.s, second)->egress);
	put.limits.egress = true;
	machine_do(&m, 1, COMMAND_POOL_PUT, &put);
	assert_false(state_sandbox(m.s, second)->egress);
	machine_done(&m);
}

static void test_pool_put(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 2), old, running;
	struct msg_pool_put put = machine_put("ECHO", 10, 2);
	struct secret_put secret = {.name = STR("password")};
	struct cmd_operation_step step = {.from = PHASE_RESOLVE, .phase = PHASE_CACHE};
	struct result result;

	(void)unused;
	put.secrets = &secret;
	put.n_secrets = 1;
	assert_int_equal(code(&m, 1, COMMAND_POOL_PUT, &put), -EINVAL); /* none stored */
	secret.sealed = STR("sealed");
	put.new_revision = false;
	result = *machine_do(&m, 1, COMMAND_POOL_PUT, &put);
	assert_int_equal(result.id, pool);
	assert_false(result.created);
	assert_int_equal(state_operation(m.s, result.operation)->phase, PHASE_SUCCEEDED);
	secret.sealed = STR_NONE; /* kept */
	put.new_revision = true;
	old = state_pool(m.s, pool)->active_revision;
	machine_ready(&m, pool, 1);
	running = machine_do(&m, 1, COMMAND_POOL_PUT, &put)->operation;
	assert_true(str_eq(state_secret(m.s, pool, STR("password"))->sealed, STR("sealed")));
	assert_int_equal(state_pool(m.s, pool)->provisioning, PROVISIONING_IN_PROGRESS);
	assert_int_equal(state_pool(m.s, pool)->active_revision, old);
	step.operation = running;
	assert_int_equal(code(&m, 1, COMMAND_OPERATION_STEP, &step), -EINVAL); /* no digest */
	put.n_secrets = 0;
	result = *machine_do(&m, 1, COMMAND_POOL_PUT, &put);
	assert_int_equal(state_operation(m.s, running)->phase, PHASE_CANCELED);
	assert_null(state_secret(m.s, pool, STR("password")));
	step.digest = DIGEST;
	assert_int_equal(code(&m, 1, COMMAND_OPERATION_STEP, &step), -ESTALE);
	step.operation = 1;
	assert_int_equal(code(&m, 1, COMMAND_OPERATION_STEP, &step), -ENOENT);
	machine_finish(&m, result.operation);
	assert_int_equal(state_pool(m.s, pool)->active_revision, state_pool(m.s, pool)->desired_revision);
	assert_non_null(state_revision(m.s, pool, old)); /* a sandbox still runs it */
	struct cmd_sandbox_gone gone = {.sandbox = state_next_sandbox(m.s, NULL)->id};

	machine_do(&m, 1, COMMAND_SANDBOX_GONE, &gone);
	assert_null(state_revision(m.s, pool, old));
	put.expect_uid = pool + 1;
	assert_int_equal(code(&m, 1, COMMAND_POOL_PUT, &put), -ESTALE);
	put.expect_uid = 0;
	put.limits.max_sessions = 0;
	assert_int_equal(code(&m, 1, COMMAND_POOL_PUT, &put), -EINVAL);
	machine_done(&m);
}

static void test_failed_update(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 10, 2), active = state_pool(m.s, pool)->active_revision;
	struct msg_pool_put put = machine_put("echo", 10, 2);
	struct cmd_operation_step step = {.from = PHASE_RESOLVE,
					  .phase = PHASE_FAILED,
					  .code = STR("ImageNotFound"),
					  .message = STR("image: no such tag")};

	(void)unused;
	step.operation = machine_do(&m, 1, COMMAND_POOL_PUT, &put)->operation;
	assert_int_equal(code(&m, 1, COMMAND_OPERATION_STEP, &step), 0);
	assert_int_equal(state_pool(m.s, pool)->provisioning, PROVISIONING_FAILED);
	assert_int_equal(state_pool(m.s, pool)->active_revision, active);
	assert_true(str_eq(state_operation(m.s, step.operation)->code, STR("ImageNotFound")));
	put.new_revision = false; /* tries the same again */
	machine_finish(&m, machine_do(&m, 1, COMMAND_POOL_PUT, &put)->operation);
	assert_int_not_equal(state_pool(m.s, pool)->active_revision, active);
	/* The first one is forgotten a day later. */
	m.now_ms += 86400000 + 3600000;
	machine_do(&m, 1, COMMAND_WAITERS_EXPIRE, NULL);
	assert_null(state_operation(m.s, step.operation));
	assert_non_null(state_operation(m.s, state_pool(m.s, pool)->operation));
	machine_done(&m);
}

static void test_lowered_maximum(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 4, 4);
	struct msg_pool_put put = machine_put("echo", 2, 1);
	struct cmd_session_closed closed = {.pool = pool};

	(void)unused;
	for (unsigned i = 0; i < 4; i++)
		machine_ready(&m, pool, 1);
	machine_open(&m, pool, "user-1");
	machine_open(&m, pool, "user-2");
	machine_open(&m, pool, "user-3");
	put.new_revision = false;
	assert_int_equal(code(&m, 1, COMMAND_POOL_PUT, &put), 0);
	assert_int_equal(state_pool(m.s, pool)->sessions_over, 1);
	assert_int_equal(state_pool_counts(m.s, pool).ready, 0);
	assert_int_equal(machine_open(&m, pool, "user-4").code, -EUSERS);
	closed.generation = state_session(m.s, pool, STR("user-1"))->generation;
	assert_int_equal(code(&m, 1, COMMAND_SESSION_CLOSED, &closed), 0);
	assert_int_equal(state_pool(m.s, pool)->sessions_over, 0);
	assert_int_equal(machine_open(&m, pool, "user-4").code, -EUSERS);
	machine_done(&m);
}

static void test_delete_refuses_the_rest(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m, 4, 2);
	struct msg_pool_put put = machine_put("echo", 2, 1);
	struct cmd_sandbox_boot boot = {
		.pool = pool, .revision = state_pool(m.s, pool)->active_revision, .node = 1};
	struct msg_pool_delete c = {.pool = pool};
	uint64_t operation;

	(void)unused;
	machine_ready(&m, pool, 1);
	operation = machine_do(&m, 1, COMMAND_POOL_DELETE, &c)->operation;
	assert_int_equal(machine_do(&m, 1, COMMAND_POOL_DELETE, &c)->operation, operation);
	assert_int_equal(code(&m, 1, COMMAND_POOL_PUT, &put), -EBUSY);
	assert_int_equal(code(&m, 1, COMMAND_SANDBOX_BOOT, &boot), -ESHUTDOWN);
	struct cmd_operation_step step = {
		.operation = operation, .from = PHASE_DRAIN, .phase = PHASE_SUCCEEDED};

	assert_int_equal(code(&m, 1, COMMAND_OPERATION_STEP, &step), -EINVAL);
	c.pool = 1;
	assert_int_equal(code(&m, 1, COMMAND_POOL_DELETE, &c), -ENOENT);
	machine_done(&m);
}

static void test_time_levels_and_garbage(void **unused)
{
	struct machine m;
	struct applied applied;
	struct err err = {0};
	CLEANUP_BUF struct buf bytes = {0};
	struct command c = {.type = COMMAND_TYPES, .feature = 1};
	struct entry entry = {.incarnation = 1, .commands = &c, .n_commands = 1};
	uint64_t hash, time;

	(void)unused;
	start(&m, 4, 2);
	hash = state_hash(m.s);
	time = m.now_ms;
	codec_encode(&bytes, &entry_codec, &entry);
	assert_int_equal(state_apply(m.s, m.index + 1, bytes.p, bytes.n, &applied, &err), -EPROTO);
	c.type = COMMAND_WAITERS_EXPIRE;
	c.feature = FEATURE_LEVEL + 1;
	buf_clear(&bytes);
	codec_encode(&bytes, &entry_codec, &entry);
	assert_int_equal(state_apply(m.s, m.index + 1, bytes.p, bytes.n, &applied, &err), -EPROTO);
	assert_int_equal(hash, state_hash(m.s));
	assert_int_equal(state_apply(m.s, m.index, bytes.p, bytes.n, &applied, &err),
			 -EPROTO); /* not behind the last */
	assert_int_equal(state_apply(m.s, ++m.index, "garbage", 7, &applied, &err), 0);
	assert_int_equal(applied.n_results, 1);
	assert_int_equal(applied.results[0].code, -EBADMSG);
	assert_int_equal(hash, state_hash(m.s));
	m.now_ms -= 5000; /* time never goes back */
	machine_do(&m, 1, COMMAND_WAITERS_EXPIRE, NULL);
	assert_int_equal(state_cluster(m.s)->time_ms, time);
	machine_done(&m);
}

/* -- Workers ----------------------------------------------------------------------------------------------------- */

#define WORKER 4

static uint64_t start_worker(struct machine *m)
{
	struct cmd_node_join join = {.id = WORKER,
				     .name = STR("w"),
				     .voter = false,
				     .cpu_milli = 4000,
				     .memory_bytes = 8ull << 30};

	machine_init(m);
	machine_start(m, 3);
	assert_int_equal(machine_do(m, WORKER, COMMAND_NODE_JOIN, &join)->code, 0);
	assert_false(state_node(m->s, WORKER)->voter);
	return machine_pool(m, "echo", 10, 4);
}

static void refused(struct machine *m, uint8_t type, const void *body)
{
	const struct result *r = machine_do(m, WORKER, type, body);

	if (r->code != -EPERM)
		fail_msg("%s: %d", command_type_name[type], r->code);
	assert_true(r->message.n > 0);
}

static void test_commands_of_voters(void **unused)
{
	struct machine m;
	unsigned n = 0;

	(void)unused;
	start_worker(&m);
	for (unsigned type = 1; type < COMMAND_TYPES; type++) {
		struct command c = {.type = (uint8_t)type,
				    .node = WORKER,
				    .epoch = type == COMMAND_CLUSTER_INIT ? 0 : m.epoch[WORKER],
				    .sequence = ++m.sequence[WORKER]};
		uint64_t hash = state_hash(m.s);
		int code;

		if (command_of_workers((uint8_t)type))
			continue;
		code = machine_command(&m, &c, 1)->code;
		if (code != -EPERM)
			fail_msg("%s: %d", command_type_name[type], code);
		assert_int_equal(state_hash(m.s), hash);
		n++;
	}
	assert_int_equal(n, COMMAND_TYPES - 1 - 12);
	machine_done(&m);
}

static void test_what_is_of_others(void **unused)
{
	struct machine m;
	uint64_t pool = start_worker(&m), ready, bound, booting, generation;
	struct str digest = STR("sha256:0123456789012345678901234567890123456789012345678901234567890123");

	(void)unused;
	ready = machine_ready(&m, pool, 2);
	generation = machine_open(&m, pool, "user").id;
	bound = ready;
	assert_int_equal(state_sandbox(m.s, bound)->state, SANDBOX_BOUND);
	ready = machine_ready(&m, pool, 2);
	booting = machine_boot(&m, pool, 3);
	refused(&m, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){booting});
	refused(&m, COMMAND_SANDBOX_GONE, &(struct cmd_sandbox_gone){.sandbox = booting});
	refused(&m, COMMAND_SANDBOX_GONE, &(struct cmd_sandbox_gone){.sandbox = ready});
	refused(&m, COMMAND_SANDBOX_GONE, &(struct cmd_sandbox_gone){.sandbox = bound});
	refused(&m, COMMAND_SESSION_CLOSING,
		&(struct cmd_session_closing){.pool = pool, .generation = generation});
	refused(&m, COMMAND_SESSION_CLOSED,
		&(struct cmd_session_closed){.pool = pool, .generation = generation});
	refused(&m, COMMAND_NODE_IMAGES, &(struct cmd_node_images){2, &digest, 1});
	refused(&m, COMMAND_NODE_JOIN,
		&(struct cmd_node_join){.id = 2, .name = STR("x"), .cpu_milli = 1, .memory_bytes = 1 << 20});
	assert_int_equal(state_sandbox(m.s, booting)->state, SANDBOX_BOOTING);
	assert_int_equal(state_sandbox(m.s, bound)->state, SANDBOX_BOUND);
	assert_int_equal(state_session_by_generation(m.s, generation)->state, SESSION_LIVE);
	assert_true(str_eq(state_node(m.s, 2)->name, STR("node")));
	machine_done(&m);
}

static void test_what_is_its_own(void **unused)
{
	struct machine m;
	uint64_t pool = start_worker(&m), sandbox = machine_boot(&m, pool, WORKER), generation;
	struct cmd_node_join join = {
		.id = WORKER, .name = STR("w"), .voter = true, .cpu_milli = 4000, .memory_bytes = 8ull << 30};

	(void)unused;
	assert_int_equal(machine_do(&m, WORKER, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){sandbox})->code,
			 0);
	generation = machine_open(&m, pool, "user").id;
	assert_int_equal(state_session_by_generation(m.s, generation)->node, WORKER);
	assert_int_equal(machine_do(&m, WORKER, COMMAND_SESSION_CLOSING,
				    &(struct cmd_session_closing){.pool = pool, .generation = generation})
				 ->code,
			 0);
	assert_int_equal(machine_do(&m, WORKER, COMMAND_SESSION_CLOSED,
				    &(struct cmd_session_closed){.pool = pool, .generation = generation})
				 ->code,
			 0);
	/* It cannot make itself a voter. */
	assert_int_equal(machine_do(&m, WORKER, COMMAND_NODE_JOIN, &join)->code, 0);
	assert_false(state_node(m.s, WORKER)->voter);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_before_init_and_twice),
		cmocka_unit_test(test_repetition),
		cmocka_unit_test(test_a_restart_keeps_sandboxes),
		cmocka_unit_test(test_nodes),
		cmocka_unit_test(test_sandboxes),
		cmocka_unit_test(test_capacity),
		cmocka_unit_test(test_sessions),
		cmocka_unit_test(test_too_many_are_stopped),
		cmocka_unit_test(test_pool_egress),
		cmocka_unit_test(test_pool_put),
		cmocka_unit_test(test_failed_update),
		cmocka_unit_test(test_lowered_maximum),
		cmocka_unit_test(test_delete_refuses_the_rest),
		cmocka_unit_test(test_time_levels_and_garbage),
		cmocka_unit_test(test_commands_of_voters),
		cmocka_unit_test(test_what_is_of_others),
		cmocka_unit_test(test_what_is_its_own),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
