/* seed.c -- see seed.h. */
#include "sim/seeds/seed.h"

#include <stdio.h>

#include "sim/judge/judge.h"
#include "sim/seeds/operator.h"

#define POOLS   2
#define STEPS   24
#define REST_MS 300000

struct plan {
	struct sim *sim;
	uint64_t pools[POOLS];
};

static struct plan plan; /* sim_until's conditions have no argument of their own */

static void draw_faults(struct sim *s)
{
	s->faults = (struct sim_faults){.lose = sim_draw(s, 60),
					.duplicate = sim_draw(s, 60),
					.delay = sim_draw(s, 100),
					.start_fails = sim_draw(s, 150),
					.start_hangs = sim_draw(s, 30),
					.crashes = sim_draw(s, 200),
					.deaf = sim_draw(s, 50),
					.pull_fails = sim_draw(s, 300)};
	/* Not all at once: each would hide the others. */
	uint32_t *rare[] = {&s->faults.kills,     &s->faults.reboots,    &s->faults.stops,
			    &s->faults.cuts,      &s->faults.one_way,    &s->faults.slow_disks,
			    &s->faults.clocks,    &s->faults.full_disks, &s->faults.metadata,
			    &s->faults.transfers, &s->faults.feeds};
	static const uint32_t most[] = {120, 60, 100, 120, 120, 120, 200, 2, 20, 150, 200};

	for (size_t i = 0; i < sizeof rare / sizeof *rare; i++) {
		if (sim_chance(s, 400))
			*rare[i] = 1 + sim_draw(s, most[i]);
	}
}

/* Leaders change all the time, with entries half written and half sent: what the library alone does not survive. */
static void draw_storm(struct sim *s)
{
	s->storm = true;
	for (uint64_t id = 1; id <= s->n_nodes; id++)
		sim_node(s, id)->disk_ms_max = 20 + sim_draw(s, 200);
	s->faults = (struct sim_faults){.lose = 50,
					.duplicate = 50,
					.delay = 100 + sim_draw(s, 300),
					.kills = sim_draw(s, 300),
					.cuts = 300 + sim_draw(s, 400),
					.one_way = 300 + sim_draw(s, 400),
					.slow_disks = 200 + sim_draw(s, 400),
					.transfers = sim_draw(s, 300)};
}

static uint64_t any_up(struct sim *s)
{
	uint64_t id = 1 + sim_draw(s, s->n_nodes);

	for (uint32_t i = 0; i < s->n_nodes; i++, id = id % s->n_nodes + 1) {
		if (sim_node(s, id)->up)
			return id;
	}
	return 0;
}

static void visit_somebody(struct sim *s)
{
	uint64_t node = any_up(s), gone = 0;
	uint32_t slot = sim_draw(s, POOLS);

	if (s->n_asks > 0 && sim_chance(s, 20))
		gone = s->asks[sim_draw(s, s->n_asks)].opened.session.sandbox;
	if (node != 0)
		gateway_visit(s, node, slot, plan.pools[slot], sim_draw(s, 30), gone);
}

static void stop_somebody(struct sim *s)
{
	uint64_t node = any_up(s);

	if (node != 0)
		gateway_stop(s, node, plan.pools[sim_draw(s, POOLS)], sim_draw(s, 30));
}

static void disturb(struct sim *s)
{
	for (uint32_t i = 0; i < STEPS; i++) {
		for (uint32_t k = sim_draw(s, 20); k > 0; k--)
			visit_somebody(s);
		if (sim_chance(s, 200))
			stop_somebody(s);
		if (sim_chance(s, 60) && any_up(s) != 0)
			operator_updates(s, any_up(s), sim_draw(s, POOLS));
		if (sim_chance(s, 60) && any_up(s) != 0)
			operator_orders(s, any_up(s));
		if (s->put_isolation == ISOLATION_VM && sim_chance(s, 300) && any_up(s) != 0)
			operator_rests(s, any_up(s));
		s->busy = sim_chance(s, 100);
		sim_run(s, 200 + sim_draw(s, 2000));
	}
}

static bool pool_rests(const struct state *tables, uint64_t pool)
{
	const struct pool_row *row = state_pool(tables, pool);
	struct pool_counts n = state_pool_counts(tables, pool);
	uint32_t target = row == NULL ? 0 : row->limits.ready_target;

	if (row != NULL && row->limits.max_sessions < target)
		target = row->limits.max_sessions;
	return row != NULL && row->provisioning == PROVISIONING_SUCCEEDED && n.ready == target &&
	       n.booting + n.stopping + n.waiting + n.closing + n.live + n.bound == 0;
}

static bool at_rest(struct sim *s)
{
	for (uint32_t i = 0; i < POOLS; i++) {
		if (!pool_rests(sim_tables(s), plan.pools[i]))
			return false;
	}
	return true;
}

/* Renewals go on: somebody always lags a little, but not for long. */
static bool all_alike(struct sim *s)
{
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		struct sim_node *n = sim_node(s, id);

		if (!n->up || state_index(n->tables) != judge_index(s))
			return false;
	}
	return true;
}

static uint32_t rows_of(const struct sim_node *n)
{
	uint32_t rows = 0;

	for (const struct sandbox_row *row = NULL;
	     (row = state_next_node_sandbox(n->tables, n->id, row)) != NULL;)
		rows++;
	return rows;
}

/* What no row stands for is asked about every few seconds. */
static bool no_orphans(struct sim *s)
{
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		if (sim_node(s, id)->n_runs != rows_of(sim_node(s, id)))
			return false;
	}
	return true;
}

/* What runs is what the tables say, on every node. */
static void check_rest(struct sim *s)
{
	bool alone = sim_until(s, no_orphans, 60000);

	if (!sim_until(s, all_alike, 30000))
		sim_fail(s, "the nodes' tables never come to the same entry");
	for (uint64_t id = 1; id <= s->n_nodes; id++) {
		struct sim_node *n = sim_node(s, id);

		for (const struct sandbox_row *row = NULL;
		     (row = state_next_node_sandbox(n->tables, id, row)) != NULL;) {
			if (sim_run_of(n, row->id) == NULL)
				sim_fail(s, "sandbox %llu has a row and does not run",
					 (unsigned long long)row->id);
		}
		if (!alone && n->n_runs != rows_of(n))
			sim_fail(s, "%u sandboxes run on node %llu, it has %u rows", n->n_runs,
				 (unsigned long long)id, rows_of(n));
	}
}

static void check_answers(struct sim *s, bool faults)
{
	for (uint32_t i = 0; i < s->n_asks; i++) {
		if (s->asks[i].answers == 0 && !faults)
			sim_fail(s, "request %u was never answered", i + 1);
	}
}

static void print_stuck(struct sim *s)
{
	fprintf(stderr, "leader %llu\n", (unsigned long long)sim_leader(s));
	for (uint32_t i = 0; i < POOLS; i++) {
		const struct pool_row *row = state_pool(sim_tables(s), plan.pools[i]);
		struct pool_counts n = state_pool_counts(sim_tables(s), plan.pools[i]);

		if (row == NULL)
			continue;
		fprintf(stderr,
			"pool %llu: provisioning %u, target %u, booting %u ready %u bound %u stopping %u, "
			"waiting %u live %u closing %u, failures %u %.*s\n",
			(unsigned long long)plan.pools[i], row->provisioning, row->limits.ready_target,
			n.booting, n.ready, n.bound, n.stopping, n.waiting, n.live, n.closing, row->failures,
			STR_ARGS(row->failure));
		for (const struct session_row *x = NULL;
		     (x = state_next_pool_session(sim_tables(s), plan.pools[i], x)) != NULL;)
			fprintf(stderr, "generation %llu on node %llu: %s, %s\n",
				(unsigned long long)x->generation, (unsigned long long)x->node,
				session_state_name[x->state], sandbox_rest_name[x->rest]);
	}
}

static bool storms(uint64_t seed, const struct seed_options *o)
{
	return o->unguarded || seed % 8 == 1;
}

/* In a third of the seeds the second pool runs in virtual machines, which some of the nodes cannot run. */
static bool with_vms(uint64_t seed)
{
	return seed % 3 == 2;
}

static struct sim *begin(uint64_t seed, const struct seed_options *o)
{
	uint64_t x = seed * 0x9e3779b97f4a7c15u;
	struct sim_options options = {.n_voters = o->voters != 0 ? o->voters
						  : x >> 60 < 12 ? 3
								 : 5,
				      .unguarded = o->unguarded,
				      .snapshot_threshold = 40 + (uint32_t)(x >> 50 & 255),
				      .snapshot_trailing = 5 + (uint32_t)(x >> 40 & 63)};

	if (storms(seed, o)) {
		options.snapshot_threshold = 10 + (uint32_t)(x >> 50 & 31);
		options.snapshot_trailing = 3 + (uint32_t)(x >> 40 & 7);
	}
	if (x >> 30 & 1)
		options.cpu_milli = (with_vms(seed) ? 500 : 300) + (x >> 20 & 511);
	if (with_vms(seed))
		options.no_vm = (x >> 8 & 0xff) << 1 & ~(2ull << x % options.n_voters);
	options.n_workers = o->workers >= 0  ? (uint32_t)o->workers
			    : seed % 97 == 0 ? 50
			    : seed % 5 == 0  ? 2
					     : 0;
	return sim_new_with(seed, &options);
}

void seed_run(uint64_t seed, const struct seed_options *options, struct seed_result *ret)
{
	struct sim *s = begin(seed, options);
	bool faults = seed % 8 != 0 || options->unguarded;

	judge_every(s, 60); /* an audit costs as much as many entries */
	plan.sim = s;
	plan.pools[0] = sim_put(s, "first", "registry/image:1", 4 + sim_draw(s, 30), 1 + sim_draw(s, 6),
				1000 + sim_draw(s, 5000));
	s->put_isolation = with_vms(seed) ? ISOLATION_VM : ISOLATION_CONTAINER;
	plan.pools[1] = sim_put(s, "second", "registry/image:2", 4 + sim_draw(s, 30), sim_draw(s, 4),
				1000 + sim_draw(s, 5000));
	if (storms(seed, options))
		draw_storm(s);
	else if (faults)
		draw_faults(s);
	if (faults && with_vms(seed))
		s->faults.ables = 100;
	disturb(s);
	faults_end(s);
	s->faults.duplicate = faults; /* late ones may still come */
	s->busy = false;
	sim_run(s, 5000);
	operator_ends(s);
	if (!sim_until(s, at_rest, REST_MS)) {
		print_stuck(s);
		sim_fail(s, "it does not come to rest");
	}
	sim_run(s, faults ? 3000 : 16000);
	check_answers(s, faults);
	check_rest(s);
	for (uint32_t i = 0; i < POOLS; i++)
		operator_check(s, i, plan.pools[i]);
	history_check(s);
	*ret = (struct seed_result){.seed = seed,
				    .trace = s->trace,
				    .asks = s->n_asks,
				    .served = s->n_served,
				    .stale = s->n_stale,
				    .entries = judge_index(s),
				    .events = s->n_events,
				    .virtual_ms = s->now_ms};
	for (uint32_t i = 0; i < FAULTS; i++)
		ret->counts[i] = s->counts[i];
	sim_free(s);
}
