/* feed.c -- nodes outside the log's configuration: a voter tells them its snapshot, then each entry that it applied, in order.
 *
 * Failure modes: a voter that ends, a cut, a lost feed: the worker asks another one, and goes on from where it is. */
#include "core/must.h"
#include "judge/judge.h"
#include "sim.h"

#define FEED_MS 20

static struct sim_node *voter_of(const struct sim_node *n)
{
	struct sim *s = n->sim;
	struct sim_node *voter = sim_node(s, n->feeder);

	return voter->up && voter->asleep_until_ms <= s->now_ms && !s->cut[voter->id][n->id] ? voter : NULL;
}

uint64_t feed_leader(const struct sim_node *n)
{
	struct sim_node *voter = voter_of(n);

	return voter == NULL ? 0 : voter->leader;
}

static int add(void *to, const void *p, size_t n)
{
	buf_add(to, p, n);
	return 0;
}

/* The tables of the voter, as they are now. */
static void restore(struct sim_node *n, struct sim_node *voter)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct state_snapshot *snapshot = state_snapshot_new(voter->tables);
	struct err err;

	must(snapshot != NULL && state_snapshot_write(snapshot, add, &bytes) == 0);
	state_snapshot_free(snapshot);
	if (state_restore(n->tables, bytes.p, bytes.n, &err) < 0)
		sim_fail(n->sim, "node %llu does not restore: %s", (unsigned long long)n->id, err.message);
	judge_restored(n);
	node_restored(n);
}

static void apply(struct sim_node *n, uint64_t index)
{
	const struct buf *entry = judge_bytes(n->sim, index);
	struct applied applied;
	struct err err;

	if (entry == NULL) /* the log's own */
		return;
	if (state_apply(n->tables, index, entry->p, entry->n, &applied, &err) < 0)
		sim_fail(n->sim, "entry %llu: %s", (unsigned long long)index, err.message);
	judge_applied(n, index, &applied);
	node_applied(n, &applied);
}

static void feed(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node), *voter = voter_of(n);

	sim_after_on(n, FEED_MS + sim_draw(s, FEED_MS), feed);
	if (voter == NULL) {
		if (sim_chance(s, 100))
			feed_lose(n);
		return;
	}
	if (state_index(n->tables) == 0 && state_index(voter->tables) > 0)
		restore(n, voter);
	for (uint64_t index = state_index(n->tables) + 1; index <= state_index(voter->tables); index++)
		apply(n, index);
}

void feed_lose(struct sim_node *n)
{
	n->feeder = 1 + sim_draw(n->sim, n->sim->n_voters);
}

void feed_start(struct sim_node *n)
{
	feed_lose(n);
	sim_after_on(n, 1, feed);
}
