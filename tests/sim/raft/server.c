/* server.c -- see server.h. */
#include "sim/raft/server.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/parts.h"
#include "core/must.h"
#include "sim/judge/judge.h"
#include "sim/raft/disk.h"
#include "sim/raft/raft_io.h"
#include "state/untyped.h"

const char *server_address(uint64_t node)
{
	static char texts[SIM_NODES_MAX + 1][8];

	snprintf(texts[node], sizeof texts[node], "%u", (unsigned)node);
	return texts[node];
}

/* -- The state machine --------------------------------------------------------------------------------------------- */

static int on_apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct sim_node *node = arg;
	struct applied applied;
	int r;

	judge_entry(node, index, entry, n);
	r = state_apply(node->tables, index, entry, n, &applied, err);
	if (r < 0)
		return r;
	judge_applied(node, index, &applied);
	node_applied(node, &applied);
	return 0;
}

static void *on_snapshot_take(void *arg)
{
	return state_snapshot_new(((struct sim_node *)arg)->tables);
}

static void *on_restore(void *arg, void *fresh)
{
	struct sim_node *node = arg;

	state_swap(node->tables, fresh);
	judge_restored(node);
	node_restored(node);
	return fresh;
}

/* -- A server's life ------------------------------------------------------------------------------------------------ */

static void on_leadership(void *arg, bool leads, uint64_t term)
{
	node_leading(arg, leads, term);
}

/* Nothing that the simulator does to a daemon is a reason to give up: the guard sees to it. */
static void on_failed(void *arg, const char *why)
{
	struct sim_node *n = arg;

	sim_fail(n->sim, "node %llu cannot go on: %s", (unsigned long long)n->id, why);
}

static void bootstrap(struct sim_node *n)
{
	struct raft_configuration members;

	raft_configuration_init(&members);
	for (uint32_t i = 1; i <= n->sim->n_voters; i++)
		must(raft_configuration_add(&members, i, server_address(i), RAFT_VOTER) == 0);
	must(raft_bootstrap(&n->consensus->raft, &members) == 0);
	raft_configuration_close(&members);
}

static struct consensus *consensus_of(struct sim_node *n)
{
	struct consensus *c = calloc(1, sizeof *c);
	const struct sim_options *o = &n->sim->options;
	uv_loop_t *loop = calloc(1, sizeof *loop);

	must(c != NULL && loop != NULL);
	c->options = (struct consensus_options){
		.loop = loop, /* nobody runs it; it is asked for the time */
		.id = n->id,
		.election_ms = SERVER_ELECTION_MS,
		.heartbeat_ms = SERVER_HEARTBEAT_MS,
		.snapshot_threshold = o->snapshot_threshold != 0 ? o->snapshot_threshold : 16384,
		.snapshot_trailing = o->snapshot_trailing != 0 ? o->snapshot_trailing : GUARD_TRAILING_MIN,
		.machine = {.arg = n,
			    .apply = on_apply,
			    .snapshot_take = on_snapshot_take,
			    .snapshot_write = untyped_snapshot_write,
			    .snapshot_free = untyped_snapshot_free,
			    .restore_read = untyped_read,
			    .restore = on_restore,
			    .restore_free = untyped_free},
		.leadership = on_leadership,
		.failed = on_failed,
		.arg = n,
		.guard_off_for_tests = 1u << GUARD_TRAILING}; /* snapshots are small here */
	if (o->unguarded)
		c->options.guard_off_for_tests = (1u << GUARD_RULES) - 1;
	c->lock = -1;
	STAILQ_INIT(&c->waiting);
	STAILQ_INIT(&c->pending);
	STAILQ_INIT(&c->waiting_reads);
	STAILQ_INIT(&c->running_reads);
	machine_init(c);
	return c;
}

void server_start(struct sim_node *n)
{
	struct consensus *c = n->consensus = consensus_of(n);
	const struct guard_options guard = {consensus_settled, c, c->options.guard_off_for_tests};
	struct err err = {0};
	bool first = n->disk == NULL;

	if (first)
		n->disk = sim_disk_new();
	sim_io_open(n, &c->io);
	must(raft_init(&c->raft, &c->io, &c->fsm, n->id, server_address(n->id)) == 0);
	c->have_raft = true;
	raft_set_election_timeout(&c->raft, c->options.election_ms);
	raft_set_heartbeat_timeout(&c->raft, c->options.heartbeat_ms);
	raft_set_snapshot_threshold(&c->raft, c->options.snapshot_threshold);
	raft_set_snapshot_trailing(&c->raft, c->options.snapshot_trailing);
	raft_set_pre_vote(&c->raft, true);
	must(guard_new(&c->raft, &guard, &c->guard, &err) == 0);
	if (first)
		bootstrap(n);
	if (raft_start(&c->raft) != 0)
		sim_fail(n->sim, "node %llu does not start: %s", (unsigned long long)n->id,
			 raft_errmsg(&c->raft));
	c->phase = CONSENSUS_RUNNING;
	guard_settle(c->guard);
}

void server_stop(struct sim_node *n)
{
	struct consensus *c = n->consensus;

	if (c == NULL)
		return;
	sim_io_crash(n);
	n->consensus = NULL;
	c->phase = CONSENSUS_CLOSING;
	raft_close(&c->raft, NULL);
	propose_cancel(c);
	guard_free(c->guard);
	sim_io_free(n);
	free(c->options.loop);
	free(c);
}

void server_turn(struct sim_node *n)
{
	struct consensus *c = n->consensus;

	if (c == NULL || c->phase != CONSENSUS_RUNNING)
		return;
	propose_flush(c);
	guard_turn(c->guard);
	sim_io_turn(n);
}
