#include "tables.h"

#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/must.h"
#include "state/state.h"
#include "state/untyped.h"

#define NODE    1
#define WALL_MS 1700000000000u
#define BATCH   64
#define LOOKUPS 200000u
#define SPARE   100000u /* sessions of the load, waiting for ever */

/* Commands of one entry, with their bodies. */
struct batch {
	struct command commands[BATCH];
	struct buf bodies[BATCH];
	uint32_t n;
};

static void add(struct batch *b, struct tables *t, uint8_t type, const void *body)
{
	struct buf *bytes = &b->bodies[b->n];

	buf_clear(bytes);
	codec_encode(bytes, command_body_codec[type], body);
	b->commands[b->n++] =
		(struct command){.type = type,
				 .feature = FEATURE_LEVEL,
				 .node = NODE,
				 .epoch = type == COMMAND_CLUSTER_INIT || type == COMMAND_NODE_JOIN
						  ? 0
						  : state_node(t->state, NODE)->epoch,
				 .sequence = ++t->sequence,
				 .body = buf_str(bytes)};
}

static void encode(struct batch *b, struct buf *to)
{
	struct entry entry = {
		.incarnation = 1, .time_ms = WALL_MS, .commands = b->commands, .n_commands = b->n};

	codec_encode(to, &entry_codec, &entry);
	must(!buf_failed(to));
	b->n = 0;
}

/* All of these stand before the log's first entry. */
static struct applied apply(struct tables *t, struct batch *b)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct applied applied;
	struct err err = {0};
	uint32_t n = b->n;

	encode(b, &bytes);
	must(state_apply(t->state, ++t->number, bytes.p, bytes.n, &applied, &err) == 0);
	for (uint32_t i = 0; i < n; i++) {
		if (applied.results[i].code == 0)
			continue;
		fprintf(stderr, "bench-raft: filling the tables: %.*s\n",
			STR_ARGS(applied.results[i].message));
		exit(1);
	}
	return applied;
}

static void make_pool(struct tables *t, struct batch *b)
{
	static const uint8_t steps[] = {PHASE_RESOLVE, PHASE_CACHE, PHASE_SUCCEEDED};
	struct msg_pool_put put = {
		.subscription = STR("sub"),
		.resource_group = STR("group"),
		.name = STR("pool"),
		.document = STR("{}"),
		.limits = {.max_sessions = (uint32_t)t->sessions + SPARE, .cooldown_ms = 300000},
		.template = {.image = STR("registry.test/echo:1"),
			     .cpu_milli = 1,
			     .memory_bytes = 1,
			     .target_port = 80},
		.new_revision = true};
	struct applied applied;
	uint64_t operation;

	add(b, t, COMMAND_POOL_PUT, &put);
	applied = apply(t, b);
	t->pool = applied.results[0].id;
	operation = applied.results[0].operation;
	for (unsigned i = 0; i + 1 < sizeof steps; i++) {
		struct cmd_operation_step step = {.operation = operation,
						  .from = steps[i],
						  .phase = steps[i + 1],
						  .digest = STR("sha256:0123456789abcdef0123456789abcdef"
								"0123456789abcdef0123456789abcdef")};

		add(b, t, COMMAND_OPERATION_STEP, &step);
		(void)apply(t, b);
	}
}

static struct str identifier(char name[64], uint64_t number)
{
	return (struct str){name, (size_t)snprintf(name, 64, "identifier-%" PRIu64, number)};
}

/* Opened, booted, ready: so bound, a batch at a time. */
static void fill(struct tables *t, struct batch *b)
{
	struct cmd_sandbox_boot boot = {
		.pool = t->pool, .revision = state_pool(t->state, t->pool)->active_revision, .node = NODE};
	char name[64];

	for (uint64_t done = 0; done < t->sessions;) {
		uint64_t n = t->sessions - done < BATCH ? t->sessions - done : BATCH, ids[BATCH];
		struct applied applied;

		for (uint64_t i = 0; i < n; i++)
			add(b, t, COMMAND_SESSION_OPEN,
			    &(struct cmd_session_open){.pool = t->pool,
						       .identifier = identifier(name, done + i)});
		(void)apply(t, b);
		for (uint64_t i = 0; i < n; i++)
			add(b, t, COMMAND_SANDBOX_BOOT, &boot);
		applied = apply(t, b);
		for (uint64_t i = 0; i < n; i++)
			ids[i] = applied.results[i].id;
		for (uint64_t i = 0; i < n; i++)
			add(b, t, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){.sandbox = ids[i]});
		(void)apply(t, b);
		done += n;
	}
	must(state_pool_counts(t->state, t->pool).live == t->sessions);
}

struct tables *tables_new(uint64_t sessions)
{
	struct tables *t = calloc(1, sizeof *t);
	struct batch *b = calloc(1, sizeof *b);
	struct cmd_cluster_init init = {.id = STR("0a0a0a0a-0000-4000-8000-000000000001"),
					.settings = {.cooldown_ms_min = 1000,
						     .queue_ms = 10000,
						     .lease_ms = 15000,
						     .lost_ms = 20000,
						     .operation_kept_ms = 86400000,
						     .overcommit_cpu = 8,
						     .overcommit_memory = 1}};
	struct cmd_node_join join = {.id = NODE,
				     .name = STR("node1"),
				     .raft_address = STR("127.0.0.1:1"),
				     .voter = true,
				     .cpu_milli = 1u << 30,
				     .memory_bytes = 1ull << 40};
	size_t before;

	must(t != NULL && b != NULL);
	t->state = state_new();
	t->sessions = sessions;
	add(b, t, COMMAND_CLUSTER_INIT, &init);
	(void)apply(t, b);
	add(b, t, COMMAND_NODE_JOIN, &join);
	(void)apply(t, b);
	t->sequence = 0;
	make_pool(t, b);
	before = mallinfo2().uordblks;
	fill(t, b);
	t->heap_bytes = mallinfo2().uordblks - before;
	for (unsigned i = 0; i < BATCH; i++)
		buf_done(&b->bodies[i]);
	free(b);
	return t;
}

void tables_entry(struct tables *t, struct buf *to)
{
	static struct batch b; /* one proposer a process */
	char name[64];
	struct str id = identifier(name, (uint64_t)1 << 62 | ++t->number);

	buf_clear(to);
	add(&b, t, COMMAND_SESSION_OPEN, &(struct cmd_session_open){.pool = t->pool, .identifier = id});
	if (t->first != t->last)
		add(&b, t, COMMAND_SESSION_CLOSING,
		    &(struct cmd_session_closing){.pool = t->pool,
						  .generation = t->opened[t->first++ % TABLES_OPENED_MAX]});
	encode(&b, to);
}

double tables_lookup_ns(const struct tables *t)
{
	struct timespec from, till;
	uint64_t x = 1;
	char name[64];

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (unsigned i = 0; i < LOOKUPS; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		must(state_session(t->state, t->pool, identifier(name, (x >> 24) % t->sessions)) != NULL);
	}
	clock_gettime(CLOCK_MONOTONIC, &till);
	return ((double)(till.tv_sec - from.tv_sec) * 1e9 + (double)(till.tv_nsec - from.tv_nsec)) / LOOKUPS;
}

/* -- The log's machine ------------------------------------------------------------------------------------------ */

static int on_apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct tables *t = arg;
	struct applied applied;
	int r = state_apply(t->state, t->filled + index, entry, n, &applied, err);

	for (uint32_t i = 0; r == 0 && i < applied.n_results; i++) {
		if (applied.commands[i].type != COMMAND_SESSION_OPEN || applied.results[i].code != 0 ||
		    t->last - t->first == TABLES_OPENED_MAX)
			continue;
		t->opened[t->last++ % TABLES_OPENED_MAX] = applied.results[i].session.generation;
	}
	return r;
}

static void *on_take(void *arg)
{
	return state_snapshot_new(((struct tables *)arg)->state);
}

static void *on_restore(void *arg, void *fresh)
{
	state_swap(((struct tables *)arg)->state, fresh);
	return fresh;
}

struct consensus_machine tables_machine(struct tables *t)
{
	t->filled = state_index(t->state);
	return (struct consensus_machine){.arg = t,
					  .apply = on_apply,
					  .snapshot_take = on_take,
					  .snapshot_write = untyped_snapshot_write,
					  .snapshot_free = untyped_snapshot_free,
					  .restore_read = untyped_read,
					  .restore = on_restore,
					  .restore_free = untyped_free};
}
