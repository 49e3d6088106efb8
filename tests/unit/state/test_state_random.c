/* Long runs of valid and invalid commands from a seed: every invariant after each step, a second state with the same
 * entries that goes through snapshot and restore on its way, and the bill recounted from the history.
 * STATE_SEED=<n> runs that seed alone, STATE_STEPS=<n> sets the length. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/must.h"
#include "machine/machine.h"
#include "machine/recount.h"

#define NODES 4

struct run {
	struct machine m;
	struct recount bill;
	uint64_t random;
	unsigned succeeded[COMMAND_TYPES], refused[COMMAND_TYPES], malformed, repeated, restored;
};

/* splitmix64 */
static uint64_t below(struct run *r, uint64_t n)
{
	uint64_t x = r->random += 0x9e3779b97f4a7c15u;

	x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
	x = (x ^ x >> 27) * 0x94d049bb133111ebu;
	return (x ^ x >> 31) % n;
}

static const struct result *act(struct run *r, uint64_t node, uint8_t type, const void *body)
{
	const struct result *result = machine_do(&r->m, node, type, body);

	recount_saw(&r->bill, r->m.now_ms, node, type, body, result);
	r->succeeded[type] += result->code == 0;
	r->refused[type] += result->code != 0;
	return result;
}

/* -- Picking something that is there (or, now and then, not) ------------------------------------------------------ */

static uint64_t node_id(struct run *r)
{
	return 1 + below(r, NODES);
}

static const struct pool_row *some_pool(struct run *r)
{
	uint64_t n = below(r, 4);
	const struct pool_row *pool = state_next_pool(r->m.s, NULL);

	while (pool != NULL && n-- > 0 && state_next_pool(r->m.s, pool) != NULL)
		pool = state_next_pool(r->m.s, pool);
	return pool;
}

static const struct sandbox_row *some_sandbox(struct run *r)
{
	uint64_t n = below(r, 40);
	const struct sandbox_row *row = state_next_sandbox(r->m.s, NULL), *next;

	while (row != NULL && n-- > 0) {
		next = state_next_sandbox(r->m.s, row);
		row = next != NULL ? next : state_next_sandbox(r->m.s, NULL);
	}
	return row;
}

static const struct session_row *some_session(struct run *r)
{
	const struct pool_row *pool = some_pool(r);
	uint64_t n = below(r, 12);
	const struct session_row *row = pool == NULL ? NULL
						     : state_next_pool_session(r->m.s, pool->uid, NULL),
				 *next;

	while (row != NULL && n-- > 0) {
		next = state_next_pool_session(r->m.s, pool->uid, row);
		row = next != NULL ? next : state_next_pool_session(r->m.s, pool->uid, NULL);
	}
	return row;
}

static uint64_t some_end(struct run *r)
{
	switch (below(r, 5)) {
	case 0:
		return 0;
	case 1:
		return r->m.now_ms + 100000;
	case 2:
		return r->m.now_ms - below(r, 3 * 3600000);
	default:
		return r->m.now_ms - below(r, 2000);
	}
}

/* -- Steps -------------------------------------------------------------------------------------------------------- */

static void do_put(struct run *r)
{
	static const char *const names[] = {"alpha", "beta", "gamma", "delta"};
	uint64_t which = below(r, 4);
	struct msg_pool_put put =
		machine_put(names[which], (uint32_t)(1 + below(r, 12)), (uint32_t)below(r, 6));
	struct secret_put secret = {.name = STR("password"),
				    .sealed = below(r, 3) == 0 ? STR_NONE : STR("sealed")};

	put.new_revision = below(r, 2) == 0;
	put.secrets = &secret;
	put.n_secrets = (uint32_t)below(r, 2);
	put.expect_uid = below(r, 10) == 0 ? below(r, 3000) : 0;
	put.isolation = (which == 0) == (below(r, 20) == 0) ? ISOLATION_VM : ISOLATION_CONTAINER;
	act(r, node_id(r), COMMAND_POOL_PUT, &put);
}

static void do_step(struct run *r)
{
	const struct pool_row *pool = some_pool(r);
	const struct operation_row *operation =
		pool == NULL ? NULL : state_operation(r->m.s, pool->operation);
	struct cmd_operation_step step = {.operation = operation == NULL ? 77 : operation->id};

	step.from = operation == NULL ? PHASE_RESOLVE : operation->phase;
	step.phase = step.from == PHASE_RESOLVE ? PHASE_CACHE : PHASE_SUCCEEDED;
	if (below(r, 8) == 0)
		step.phase = (uint8_t)below(r, PHASES);
	if (below(r, 16) == 0)
		step.from = (uint8_t)below(r, PHASES);
	step.digest = below(r, 8) == 0 ? STR_NONE : STR("sha256:11");
	step.code = STR("ImagePullFailed");
	act(r, node_id(r), COMMAND_OPERATION_STEP, &step);
}

static void do_boot(struct run *r)
{
	const struct pool_row *pool = some_pool(r);
	struct cmd_sandbox_boot boot = {.pool = pool == NULL ? 5 : pool->uid, .node = node_id(r)};

	boot.revision = pool == NULL ? 5 : below(r, 12) == 0 ? pool->desired_revision : pool->active_revision;
	act(r, node_id(r), COMMAND_SANDBOX_BOOT, &boot);
}

static void do_sandbox(struct run *r, uint8_t type)
{
	const struct sandbox_row *row = some_sandbox(r);
	struct cmd_sandbox c = {.sandbox = row == NULL ? below(r, 2000) : row->id};

	act(r, row == NULL || below(r, 20) == 0 ? node_id(r) : row->node, type, &c);
}

static void do_gone(struct run *r)
{
	const struct sandbox_row *row = some_sandbox(r);
	struct cmd_sandbox_gone c = {.sandbox = row == NULL ? 12 : row->id,
				     .stopped_ms = some_end(r),
				     .failed = below(r, 4) == 0,
				     .unserved = below(r, 6) == 0,
				     .message = STR("exit status 1")};

	act(r, row == NULL ? 1 : row->node, COMMAND_SANDBOX_GONE, &c);
}

static void do_open(struct run *r)
{
	const struct pool_row *pool = some_pool(r);
	const struct sandbox_row *preferred = below(r, 2) == 0 ? some_sandbox(r) : NULL;
	char identifier[32];
	struct cmd_session_open c = {.pool = pool == NULL ? 3 : pool->uid,
				     .require_existing = below(r, 10) == 0};
	struct pool_counts n = state_pool_counts(r->m.s, c.pool);
	bool full = pool != NULL && n.waiting + n.live + n.closing >= pool->limits.max_sessions;

	snprintf(identifier, sizeof identifier, "user-%u", (unsigned)below(r, 24));
	c.identifier = below(r, 40) == 0 ? STR("abc") : str_of(identifier);
	c.preferred = preferred == NULL ? 0 : preferred->id;
	const struct result *result = act(r, node_id(r), COMMAND_SESSION_OPEN, &c);

	assert_false(full && result->created);
}

static void do_closing(struct run *r)
{
	const struct session_row *row = some_session(r);
	struct cmd_session_closing c = {.pool = row == NULL ? 1 : row->pool,
					.generation = row == NULL ? 1 : row->generation,
					.reason = (uint8_t)below(r, REAP_REASONS)};

	act(r, node_id(r), COMMAND_SESSION_CLOSING, &c);
}

/* One that sleeps, wakes or moves, if there is any. */
static const struct sandbox_row *some_bound(struct run *r)
{
	const struct sandbox_row *best = NULL;

	for (const struct sandbox_row *row = NULL; (row = state_next_sandbox(r->m.s, row)) != NULL;) {
		if (row->state == SANDBOX_BOUND &&
		    (best == NULL || (row->rest != REST_AWAKE && below(r, 3) == 0)))
			best = row;
	}
	return best;
}

/* Of what is under way mostly the next step, by whom may take it; else anything. */
static void do_sleep(struct run *r)
{
	const struct sandbox_row *box = some_bound(r);
	struct cmd_session session = {box == NULL ? 1 : box->pool, box == NULL ? 1 : box->generation};
	struct cmd_sandbox_move move = {box == NULL ? 7 : box->id, node_id(r)};
	struct cmd_sandbox_save save = {box == NULL ? 7 : box->id, box == NULL ? 7 : box->save};
	uint64_t owner = box == NULL || below(r, 20) == 0 ? node_id(r) : box->node;

	save.save -= below(r, 20) == 0;
	if (box == NULL || box->rest == REST_AWAKE || below(r, 10) == 0) {
		if (below(r, 2) == 0)
			act(r, node_id(r), COMMAND_SESSION_SUSPEND, &session);
		else
			act(r, node_id(r), COMMAND_SANDBOX_MOVE, &move);
	} else if (below(r, 8) == 0) {
		act(r, owner, COMMAND_SANDBOX_KEPT, &save);
	} else if (box->rest == REST_SAVING) {
		act(r, owner, COMMAND_SANDBOX_SAVED, &save);
	} else if (box->rest == REST_WAKING) {
		act(r, owner, COMMAND_SANDBOX_AWAKE, &save);
	} else if (box->target != 0) {
		act(r, below(r, 20) == 0 ? node_id(r) : box->target, COMMAND_SANDBOX_MOVED, &save);
	} else if (below(r, 2) == 0) {
		act(r, node_id(r), COMMAND_SANDBOX_MOVE, &move);
	} else {
		act(r, node_id(r), COMMAND_SESSION_WAKE, &session);
	}
}

static void do_closed(struct run *r)
{
	const struct session_row *row = some_session(r);
	struct cmd_session_closed c = {.pool = row == NULL ? 1 : row->pool,
				       .generation = row == NULL ? 1 : row->generation,
				       .stopped_ms = some_end(r),
				       .unserved = below(r, 6) == 0};

	act(r, row == NULL || row->node == 0 || below(r, 20) == 0 ? node_id(r) : row->node,
	    COMMAND_SESSION_CLOSED, &c);
}

static void do_renew(struct run *r)
{
	struct renewal renewals[NODES];
	struct cmd_node_renew c = {.renewals = renewals};

	for (uint64_t id = 1; id <= NODES; id++) {
		if (state_node(r->m.s, id)->state == NODE_UP && below(r, 4) != 0)
			renewals[c.n_renewals++] = (struct renewal){.node = id, .epoch = r->m.epoch[id]};
	}
	act(r, node_id(r), COMMAND_NODE_RENEW, &c);
}

static void do_lost(struct run *r)
{
	const struct node_row *node = state_node(r->m.s, node_id(r));
	struct cmd_node_lost c = {
		.node = node->id, .epoch = node->epoch, .renewed_ms = node->renewed_ms - (below(r, 8) == 0)};

	act(r, node_id(r), COMMAND_NODE_LOST, &c);
}

static void do_join(struct run *r)
{
	struct cmd_node_join join = {.id = node_id(r),
				     .name = STR("node"),
				     .voter = true,
				     .cpu_milli = 1000 + below(r, 3000),
				     .memory_bytes = (1 + below(r, 8)) << 30};
	struct cmd_node_able able = {.isolations = below(r, 3) == 0 ? 1u << ISOLATION_CONTAINER
								    : (1u << ISOLATIONS) - 1};

	join.isolations = below(r, 2) == 0 ? 0 : able.isolations;
	act(r, join.id, COMMAND_NODE_JOIN, &join);
	act(r, join.id, COMMAND_NODE_ABLE, &able);
}

/* Some key, or one that is not there. */
static void do_key(struct run *r)
{
	struct cmd_key_put put = {
		{(uint8_t)(KEY_ISSUER + below(r, 2)), STR("sealed"), STR("public"), below(r, 100000)}};
	const struct key_row *key = state_next_key(r->m.s, NULL);
	uint64_t id;

	for (uint64_t n = below(r, 4); n > 0 && key != NULL; n--)
		key = state_next_key(r->m.s, key);
	id = key == NULL ? 12 : key->id;
	switch (below(r, 4)) {
	case 0:
		act(r, node_id(r), COMMAND_KEY_PUT, &put);
		return;
	case 1:
		act(r, node_id(r), COMMAND_KEY_USE, &(struct cmd_key){id});
		return;
	case 2:
		act(r, node_id(r), COMMAND_KEY_RETIRE, &(struct cmd_key_retire){id, below(r, 2) == 0});
		return;
	default:
		for (uint64_t node = 1; node <= NODES; node++)
			act(r, node, COMMAND_NODE_KEYS, &(struct cmd_node_keys){id, below(r, 2) * id});
	}
}

static void do_rest(struct run *r)
{
	const struct pool_row *pool = some_pool(r);
	struct str digests[2] = {STR("sha256:11"), STR("sha256:22")};
	struct cmd_node_images images = {
		.node = node_id(r), .digests = digests, .n_digests = (uint32_t)below(r, 3)};
	struct msg_node_order cordon = {
		.node = node_id(r), .order = (uint8_t)below(r, NODE_ORDERS), .deadline_ms = below(r, 100000)};

	switch (below(r, 8)) {
	case 6:
	case 7:
		do_key(r);
		return;
	case 0:
		act(r, node_id(r), COMMAND_NODE_IMAGES, &images);
		return;
	case 1:
	case 2:
		act(r, node_id(r), COMMAND_NODE_ORDER, &cordon);
		return;
	case 3:
		if (below(r, 3) == 0)
			act(r, node_id(r), COMMAND_POOL_DELETE,
			    &(struct msg_pool_delete){pool == NULL ? 9 : pool->uid});
		return;
	default:
		act(r, node_id(r), COMMAND_WAITERS_EXPIRE, NULL);
	}
}

static void do_garbage(struct run *r)
{
	char bytes[40];
	struct command c = {.type = (uint8_t)below(r, COMMAND_TYPES),
			    .node = node_id(r),
			    .body = {bytes, below(r, sizeof bytes)}};
	uint64_t hash;

	if (c.type == COMMAND_NODE_JOIN || c.type == COMMAND_WAITERS_EXPIRE)
		return;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (char)(uint8_t)below(r, 256);
	bytes[0] = (char)0xc1; /* never valid msgpack */
	c.body.n += c.body.n == 0;
	c.epoch = r->m.epoch[c.node];
	c.sequence = ++r->m.sequence[c.node];
	assert_int_not_equal(machine_command(&r->m, &c, 1)->code, 0);
	r->malformed++;
	/* The same again: answered from what is kept, nothing changes. */
	hash = state_hash(r->m.s);
	machine_command(&r->m, &c, 1);
	assert_int_equal(hash, state_hash(r->m.s));
	r->repeated++;
}

static void advance(struct run *r)
{
	uint64_t dice = below(r, 1000);

	if (dice < 2)
		r->m.now_ms += below(r, 9) * 86400000;
	else if (dice < 30)
		r->m.now_ms += below(r, 3 * 3600000);
	else
		r->m.now_ms += below(r, 9000);
}

static int append(void *to, const void *p, size_t n)
{
	buf_add(to, p, n);
	return 0;
}

/* The twin becomes what the snapshot of the first says. */
static void restore_twin(struct run *r)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct state_snapshot *snapshot = state_snapshot_new(r->m.s);
	struct err err = {0};

	assert_int_equal(state_snapshot_write(snapshot, append, &bytes), 0);
	state_snapshot_free(snapshot);
	if (state_restore(r->m.twin, bytes.p, bytes.n, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(state_index(r->m.twin), state_index(r->m.s));
	assert_int_equal(state_hash(r->m.twin), state_hash(r->m.s));
	r->restored++;
}

static void step(struct run *r)
{
	advance(r);
	switch (below(r, 30)) {
	case 24:
	case 25:
	case 26:
	case 27:
	case 28:
	case 29:
		do_sleep(r);
		return;
	case 0:
		do_put(r);
		return;
	case 1:
	case 2:
		do_step(r);
		return;
	case 3:
	case 4:
	case 5:
	case 6:
		do_boot(r);
		return;
	case 7:
	case 8:
	case 9:
		do_sandbox(r, COMMAND_SANDBOX_READY);
		return;
	case 10:
		do_sandbox(r, COMMAND_SANDBOX_STOPPING);
		return;
	case 11:
		do_gone(r);
		return;
	case 12:
	case 13:
	case 14:
	case 15:
	case 16:
		do_open(r);
		return;
	case 17:
		do_closing(r);
		return;
	case 18:
		do_closed(r);
		return;
	case 19:
	case 20:
		do_renew(r);
		return;
	case 21:
		if (below(r, 4) == 0)
			do_lost(r);
		else if (below(r, 2) == 0)
			do_join(r);
		return;
	case 22:
		do_rest(r);
		return;
	default:
		do_garbage(r);
	}
}

/* Nodes that lost their epoch come back, else nothing can be asked any more. */
static void revive(struct run *r)
{
	for (uint64_t id = 1; id <= NODES; id++) {
		if (state_node(r->m.s, id)->state == NODE_LOST && below(r, 30) == 0) {
			struct cmd_node_join join = {
				.id = id, .name = STR("back"), .cpu_milli = 4000, .memory_bytes = 8ull << 30};

			act(r, id, COMMAND_NODE_JOIN, &join);
		}
	}
}

/* A second too much in one life must be seen. */
static void plant_an_error(struct run *r)
{
	for (unsigned i = r->bill.n; i-- > 0;) {
		struct life *life = &r->bill.lives[i];

		if (!life->gone || life->ready_ms == 0)
			continue;
		life->stopped_ms += 1000;
		assert_true(recount_differences(&r->bill, r->m.s, false) > 0);
		life->stopped_ms -= 1000;
		life->ready_ms += 1000;
		assert_true(recount_differences(&r->bill, r->m.s, false) > 0);
		life->ready_ms -= 1000;
		return;
	}
	fail_msg("no sandbox lived to its end");
}

static void count_bill(const struct state *s)
{
	unsigned hours = 0, days = 0, records = 0, corrections = 0;

	for (const struct bucket_row *b = NULL; (b = state_next_any_bucket(s, b)) != NULL;) {
		hours += b->width_ms == 3600000;
		days += b->width_ms == 86400000;
	}
	for (const struct record_row *row = NULL; (row = state_next_record(s, row)) != NULL;)
		records++;
	for (const struct correction_row *row = NULL; (row = state_next_correction(s, row)) != NULL;)
		corrections++;
	printf("  bill: %u hours, %u days, %u records, %u corrections\n", hours, days, records, corrections);
	assert_true(corrections > 0 && records > 0);
}

static void run_seed(uint64_t seed, unsigned steps)
{
	struct run r = {.random = seed};

	printf("seed %llu, %u steps\n", (unsigned long long)seed, steps);
	machine_init(&r.m);
	recount_init(&r.bill, 15000);
	r.m.twin = state_new();
	machine_start(&r.m, NODES);
	machine_able(&r.m, NODES);
	for (uint64_t id = 1; id <= NODES; id++)
		r.bill.renewed_ms[id] = r.m.now_ms;
	for (unsigned i = 0; i < steps; i++) {
		step(&r);
		revive(&r);
		if (below(&r, 500) == 0)
			restore_twin(&r);
		if (i % 250 == 249)
			assert_int_equal(recount_differences(&r.bill, r.m.s, true), 0);
	}
	restore_twin(&r);
	assert_int_equal(recount_differences(&r.bill, r.m.s, true), 0);
	plant_an_error(&r);
	for (unsigned type = 1; type < COMMAND_TYPES; type++)
		printf("  %-17s %5u done %5u refused\n", command_type_name[type], r.succeeded[type],
		       r.refused[type]);
	printf("  %u malformed, %u repeated, %u restores, %u lives\n", r.malformed, r.repeated, r.restored,
	       r.bill.n);
	count_bill(r.m.s);
	assert_true(r.succeeded[COMMAND_SESSION_WAKE] > 0 && r.succeeded[COMMAND_SANDBOX_MOVED] > 0 &&
		    r.succeeded[COMMAND_SANDBOX_KEPT] > 0 && r.succeeded[COMMAND_SANDBOX_AWAKE] > 0);
	assert_true(r.succeeded[COMMAND_SESSION_OPEN] > 0 && r.succeeded[COMMAND_SESSION_CLOSED] > 0);
	recount_done(&r.bill);
	machine_done(&r.m);
}

static void test_seeds(void **unused)
{
	const char *seed = getenv("STATE_SEED"), *steps = getenv("STATE_STEPS");
	unsigned n = steps != NULL ? (unsigned)strtoul(steps, NULL, 10) : 2500;

	(void)unused;
	if (seed != NULL) {
		run_seed(strtoull(seed, NULL, 10), n);
		return;
	}
	for (uint64_t i = 1; i <= 3; i++)
		run_seed(i, n);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_seeds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
