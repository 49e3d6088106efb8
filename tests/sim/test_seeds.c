/* Random clusters: lost, doubled and reordered messages, elections, restarted daemons, sandboxes that fail, hang, crash
 * or never answer, failing pulls. Then the faults end, and all must come to rest.
 *
 *   test_seeds [count [first]]   by default BERTH_SIM_SEEDS, else as many as fit into a few seconds, at most 400
 * A failure prints its seed; `test_seeds 1 <seed>` replays it exactly. */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "blank.h"
#include "sim.h"

#define DEFAULT_SEEDS 400
#define DEFAULT_MS    8000
#define POOLS         2

static uint64_t pools[POOLS];

static void draw_faults(struct sim *s)
{
	s->faults = (struct sim_faults){.lose = sim_draw(s, 60),
					.duplicate = sim_draw(s, 60),
					.start_fails = sim_draw(s, 150),
					.start_hangs = sim_draw(s, 30),
					.crashes = sim_draw(s, 200),
					.deaf = sim_draw(s, 50),
					.pull_fails = sim_draw(s, 300),
					.elections = sim_draw(s, 150),
					.restarts = sim_draw(s, 60)};
}

/* What a gateway does with an answer that says `not the leader` or with none: it asks again, within its deadline. */
static void ask_somebody(struct sim *s)
{
	char identifier[32];
	uint64_t pool = pools[sim_draw(s, POOLS)];
	uint64_t gone = 0;

	snprintf(identifier, sizeof identifier, "user-%u", sim_draw(s, 30));
	if (s->n_asks > 0 && sim_chance(s, 30))
		gone = s->asks[sim_draw(s, s->n_asks)].opened.session.sandbox;
	if (s->n_asks < SIM_ASKS_MAX)
		sim_open(s, 1 + sim_draw(s, SIM_NODES), pool, identifier, gone);
}

static void disturb(struct sim *s)
{
	char identifier[32];

	for (uint32_t i = 0; i < 40; i++) {
		for (uint32_t k = sim_draw(s, 12); k > 0; k--)
			ask_somebody(s);
		if (sim_chance(s, 200)) {
			snprintf(identifier, sizeof identifier, "user-%u", sim_draw(s, 30));
			sim_send(s, 1 + sim_draw(s, SIM_NODES),
				 (struct address){ADDRESS_PLACEMENT, NODE_LEADER, 0}, MSG_STOP,
				 &(struct msg_stop){pools[sim_draw(s, POOLS)], str_of(identifier)}, 2000000);
		}
		s->busy = sim_chance(s, 300);
		sim_run(s, 200 + sim_draw(s, 2000));
	}
}

static bool at_rest(struct sim *s)
{
	const struct state *tables = sim_tables(s);

	for (uint32_t i = 0; i < POOLS; i++) {
		const struct pool_row *row = state_pool(tables, pools[i]);
		struct pool_counts n = state_pool_counts(tables, pools[i]);
		uint32_t target = row == NULL ? 0 : row->limits.ready_target;

		if (row != NULL && row->limits.max_sessions < target)
			target = row->limits.max_sessions;
		if (row == NULL || row->provisioning != PROVISIONING_SUCCEEDED || n.ready != target ||
		    n.booting + n.stopping + n.waiting + n.closing + n.live + n.bound != 0)
			return false;
	}
	return true;
}

/* What runs is what the tables say, on every node; the tables are the same everywhere. */
static void check_rest(struct sim *s)
{
	for (uint64_t id = 1; id <= SIM_NODES; id++)
		sim_apply(s, sim_node(s, id)); /* renewals go on: somebody always lags a little */
	for (uint64_t id = 1; id <= SIM_NODES; id++) {
		struct sim_node *n = sim_node(s, id);
		uint32_t rows = 0;

		for (const struct sandbox_row *row = NULL;
		     (row = state_next_node_sandbox(n->tables, id, row)) != NULL; rows++) {
			if (sim_run_of(n, row->id) == NULL)
				sim_fail(s, "sandbox %llu has a row and does not run",
					 (unsigned long long)row->id);
		}
		if (n->n_runs != rows)
			sim_fail(s, "%u sandboxes run on node %llu, it has %u rows", n->n_runs,
				 (unsigned long long)id, rows);
		if (state_hash(n->tables) != state_hash(sim_tables(s)))
			sim_fail(s, "node %llu has other tables", (unsigned long long)id);
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
	for (uint32_t i = 0; i < POOLS; i++) {
		const struct pool_row *row = state_pool(sim_tables(s), pools[i]);
		struct pool_counts n = state_pool_counts(sim_tables(s), pools[i]);

		fprintf(stderr,
			"pool %llu: provisioning %u, target %u, booting %u ready %u bound %u stopping %u, "
			"waiting %u live %u "
			"closing %u, failures %u %.*s\n",
			(unsigned long long)pools[i], row->provisioning, row->limits.ready_target, n.booting,
			n.ready, n.bound, n.stopping, n.waiting, n.live, n.closing, row->failures,
			STR_ARGS(row->failure));
	}
}

static uint32_t run_seed(uint64_t seed, bool faults)
{
	struct sim *s = sim_new(seed);
	uint32_t n_asks;

	s->check_every = 15; /* an audit costs as much as many entries */
	pools[0] = sim_put(s, "first", "registry/image:1", 4 + sim_draw(s, 30), 1 + sim_draw(s, 6),
			   1000 + sim_draw(s, 5000));
	pools[1] = sim_put(s, "second", "registry/image:2", 4 + sim_draw(s, 30), sim_draw(s, 4),
			   1000 + sim_draw(s, 5000));
	if (faults)
		draw_faults(s);
	disturb(s);
	s->faults = (struct sim_faults){0};
	s->faults.duplicate = faults; /* late ones may still come */
	s->busy = false;
	sim_run(s, 20000);
	check_answers(s, faults);
	if (!sim_until(s, at_rest, 300000)) {
		print_stuck(s);
		sim_fail(s, "it does not come to rest");
	}
	sim_run(s, 10000);
	check_rest(s);
	n_asks = s->n_asks;
	sim_free(s);
	return n_asks;
}

int main(int argc, char **argv)
{
	const char *wanted = argc > 1 ? argv[1] : getenv("BERTH_SIM_SEEDS");
	uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 10) : DEFAULT_SEEDS;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, begun_ms = clock_boot_ms(), seed,
		 asks = 0;

	blank_from_environment();
	for (seed = first; seed < first + count; seed++) {
		if (wanted == NULL && clock_boot_ms() > begun_ms + DEFAULT_MS)
			break;
		asks += run_seed(seed, seed % 4 != 0);
	}
	printf("%llu seeds from %llu, %llu requests, %llu ms\n", (unsigned long long)(seed - first),
	       (unsigned long long)first, (unsigned long long)asks,
	       (unsigned long long)(clock_boot_ms() - begun_ms));
	return seed == first;
}
