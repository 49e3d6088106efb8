/* bill.c -- the ledger against the history: each interval once, from the moment when a sandbox was ready to the one when nothing of it
 * ran any more, by its node's clock; of a lost node to the end of its lease. */
#include <inttypes.h>
#include <stdlib.h>

#include "core/must.h"
#include "sim/judge/judge.h"
#include "state/ledger.h"

#define POOLS_MAX 64

struct sums {
	ledger_wide cpu, memory, sandboxes, sessions, asleep;
};

struct bill {
	uint64_t last_record; /* number */
	struct {
		uint64_t uid;
		struct sums over; /* of records */
	} pools[POOLS_MAX];
	uint32_t n_pools;
};

struct bill *bill_new(void)
{
	struct bill *b = calloc(1, sizeof *b);

	must(b != NULL);
	return b;
}

void bill_free(struct bill *b)
{
	free(b);
}

static struct sums *over_of(struct bill *b, uint64_t pool)
{
	for (uint32_t i = 0; i < b->n_pools; i++) {
		if (b->pools[i].uid == pool)
			return &b->pools[i].over;
	}
	must(b->n_pools < POOLS_MAX);
	b->pools[b->n_pools].uid = pool;
	return &b->pools[b->n_pools++].over;
}

static void count(struct sums *to, uint64_t cpu, uint64_t memory, uint64_t ms)
{
	to->cpu += (ledger_wide)cpu * ms;
	to->memory += (ledger_wide)memory * ms;
	to->sandboxes += ms;
}

static uint64_t clamp(uint64_t x, uint64_t low, uint64_t high)
{
	return x < low ? low : x > high ? high : x;
}

/* When it should have ended, by what really happened. */
static void check_end(struct sim *s, const struct state *tables, const struct record_row *r,
		      const struct judge_sandbox *b)
{
	const struct cluster_row *cluster = state_cluster(tables);
	const struct node_row *node = state_node(tables, r->node);
	uint64_t low = r->opened_ms != 0 ? r->opened_ms : r->ready_ms, expected;

	low = b->slept_ms > low ? b->slept_ms : low; /* behind it the rates were others */

	if (b->lost && node != NULL) {
		expected = clamp(node->renewed_ms + cluster->settings.lease_ms, low, cluster->time_ms);
	} else if (b->over_wall_ms != 0) {
		expected = clamp(b->over_wall_ms, low, cluster->time_ms);
	} else {
		return; /* its machine was started anew: nobody knows */
	}
	if (r->stopped_ms != expected && r->stopped_ms != low) /* opened: it never served */
		sim_fail(s,
			 "(6) sandbox %" PRIu64 " of node %" PRIu64 ", ready at %" PRIu64
			 ", opened at %" PRIu64 ", is billed until %" PRIu64 " (%s), and ended at %" PRIu64
			 "%s; now it is %" PRIu64,
			 r->sandbox, r->node, r->ready_ms, r->opened_ms, r->stopped_ms,
			 reap_reason_name[r->reason], expected, b->lost ? " with its node's lease" : "",
			 cluster->time_ms);
}

void bill_records(struct bill *bill, struct sim *s, const struct state *tables)
{
	struct record_row last = {.number = bill->last_record};

	for (const struct record_row *r = state_next_record(tables, &last); r != NULL;
	     r = state_next_record(tables, r)) {
		struct judge_sandbox *b = judge_sandbox_of(s, r->sandbox);
		struct sums *to = over_of(bill, r->pool);

		bill->last_record = r->number;
		if (++b->n_records > 1)
			sim_fail(s, "(6) sandbox %" PRIu64 " is billed twice", r->sandbox);
		/* Of one entry with beginning and end the tables show neither. */
		b->ready_ms = b->ready_ms != 0 ? b->ready_ms : r->ready_ms;
		b->generation = b->generation != 0 ? b->generation : r->generation;
		if (r->ready_ms != b->ready_ms || r->stopped_ms < r->ready_ms ||
		    r->generation != b->generation)
			sim_fail(s, "(6) the record of sandbox %" PRIu64 " is of another life", r->sandbox);
		check_end(s, tables, r, b);
		count(to, r->cpu_milli, r->memory_bytes, r->stopped_ms - r->ready_ms - r->asleep_ms);
		to->asleep += (ledger_wide)r->asleep_ms * r->memory_bytes;
		if (r->opened_ms != 0)
			to->sessions += r->stopped_ms - r->opened_ms;
	}
}

static void add_running(struct sums *to, const struct state *tables, uint64_t pool)
{
	uint64_t now = state_cluster(tables)->time_ms;

	for (const struct sandbox_row *b = NULL; (b = state_next_pool_sandbox(tables, pool, b)) != NULL;) {
		uint64_t asleep_ms = b->asleep_ms + (b->asleep ? now - b->slept_ms : 0);

		if (b->ready_ms == 0)
			continue;
		count(to, b->cpu_milli, b->memory_bytes, now - b->ready_ms - asleep_ms);
		to->asleep += (ledger_wide)asleep_ms * b->memory_bytes;
	}
	for (const struct session_row *e = NULL; (e = state_next_pool_session(tables, pool, e)) != NULL;) {
		if (e->state != SESSION_WAITING)
			to->sessions += now - e->opened_ms;
	}
}

static struct sums of_ledger(const struct state *tables, uint64_t pool)
{
	const struct rate_row *rate = state_rate(tables, pool);
	struct sums sum = {0};

	for (const struct bucket_row *b = NULL; (b = state_next_bucket(tables, pool, b)) != NULL;) {
		sum.cpu += ledger_get(b->cpu_milli_ms);
		sum.memory += ledger_get(b->memory_byte_ms);
		sum.sandboxes += ledger_get(b->sandbox_ms);
		sum.sessions += ledger_get(b->session_ms);
		sum.asleep += ledger_get(b->asleep_byte_ms);
	}
	for (const struct correction_row *c = NULL; (c = state_next_correction(tables, c)) != NULL;) {
		if (c->pool != pool)
			continue;
		sum.cpu -= ledger_get(c->cpu_milli_ms);
		sum.memory -= ledger_get(c->memory_byte_ms);
		sum.sandboxes -= ledger_get(c->sandbox_ms);
		sum.sessions -= ledger_get(c->session_ms);
		sum.asleep -= ledger_get(c->asleep_byte_ms);
	}
	if (rate != NULL) {
		uint64_t ms = state_cluster(tables)->time_ms - rate->since_ms;

		sum.cpu += (ledger_wide)rate->cpu_milli * ms;
		sum.memory += (ledger_wide)rate->memory_bytes * ms;
		sum.sandboxes += (ledger_wide)rate->sandboxes * ms;
		sum.sessions += (ledger_wide)rate->sessions * ms;
		sum.asleep += (ledger_wide)rate->asleep_bytes * ms;
	}
	return sum;
}

void bill_check(struct bill *bill, struct sim *s, const struct state *tables)
{
	for (const struct pool_row *p = NULL; (p = state_next_pool(tables, p)) != NULL;) {
		struct sums counted = *over_of(bill, p->uid), ledger = of_ledger(tables, p->uid);

		add_running(&counted, tables, p->uid);
		if (counted.cpu != ledger.cpu || counted.memory != ledger.memory ||
		    counted.sandboxes != ledger.sandboxes || counted.sessions != ledger.sessions ||
		    counted.asleep != ledger.asleep)
			sim_fail(s,
				 "(6) pool %" PRIu64 ": the ledger has %" PRIu64
				 " ms of sandboxes and %" PRIu64 " of sessions, the history %" PRIu64
				 " and %" PRIu64,
				 p->uid, (uint64_t)ledger.sandboxes, (uint64_t)ledger.sessions,
				 (uint64_t)counted.sandboxes, (uint64_t)counted.sessions);
	}
}
