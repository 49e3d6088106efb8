#include "control/replica.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/feed/feeder.h"
#include "control/feed/intake.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"

/* -- Entries -------------------------------------------------------------------------------------------------- */

/* Somebody claimed what is another's. */
static void complain(struct control *c, uint64_t node, struct str why)
{
	char text[ERR_MESSAGE_MAX];

	snprintf(text, sizeof text, "%.*s", STR_ARGS(why));
	control_complain(c, node, text);
}

int replica_apply(struct control *c, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct applied applied;
	int r = state_apply(c->state, index, entry, n, &applied, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < applied.n_changes; i++) {
		uint8_t table = applied.changes[i].table;

		c->view_dirty |= table == TABLE_POOLS || table == TABLE_REVISIONS || table == TABLE_NODES ||
				 table == TABLE_CLUSTER;
		c->keys_dirty |= table == TABLE_KEYS;
		c->roster.dirty |= table == TABLE_NODES;
	}
	for (uint32_t i = 0; c->leads && i < applied.n_results; i++) {
		if (applied.results[i].code == -EPERM)
			complain(c, applied.commands[i].node, applied.results[i].message);
	}
	if (c->feeder != NULL)
		feeder_applied(c->feeder, index, entry, n);
	if (c->started) {
		runtime_applied(c->runtime, &applied, clock_boot_ms());
		proposer_applied(c->proposer, &applied);
		control_kick(c);
	}
	return 0;
}

void replica_restored(struct control *c, struct state *fresh)
{
	state_swap(c->state, fresh);
	/* All that was sent so far, and all that listens, is of the other one. */
	if (state_cluster(c->state)->incarnation > c->incarnation) {
		c->incarnation = state_cluster(c->state)->incarnation;
		if (c->started) {
			control_failed(c, "the cluster began another incarnation: starting anew");
			return;
		}
	}
	c->view_dirty = c->keys_dirty = c->roster.dirty = true;
	if (c->feeder != NULL)
		feeder_restored(c->feeder);
	if (c->started) {
		runtime_rescan(c->runtime, clock_boot_ms());
		control_kick(c);
	}
}

/* -- A voter feeds ------------------------------------------------------------------------------------------- */

static int on_feed(void *context, uint64_t worker, const void *piece, size_t n)
{
	struct control *c = context;

	return peers_send(c->peers, worker, PEER_FEED, piece, n);
}

static void on_leader(void *context, uint64_t *ret_leader, uint64_t *ret_term)
{
	struct control *c = context;

	*ret_leader = c->leader;
	*ret_term = replica_term(c);
}

static int open_feeder(struct control *c, struct err *err)
{
	struct feeder_options options = {.loop = &c->loop,
					 .state = c->state,
					 .ring_bytes = c->config.feed_memory_max,
					 .send = on_feed,
					 .leader = on_leader,
					 .tag_key = {(const char *)c->tag_key, sizeof c->tag_key},
					 .context = c};

	return feeder_new(&options, &c->feeder, err);
}

/* -- A worker is fed ------------------------------------------------------------------------------------------ */

/* Voters that can be reached: those of the tables, and of the configuration those that these do not know. */
static unsigned reachable_voters(const struct control *c, uint64_t ret[PEERS_MAX])
{
	unsigned n = 0;

	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		if (n < PEERS_MAX && row->member == MEMBER_VOTER && peers_reachable(c->peers, row->id))
			ret[n++] = row->id;
	}
	for (uint32_t i = 0; i < c->config.n_members; i++) {
		const struct config_member *m = &c->config.members[i];

		if (n < PEERS_MAX && m->voter && state_node(c->state, m->id) == NULL &&
		    peers_reachable(c->peers, m->id))
			ret[n++] = m->id;
	}
	return n;
}

/* Workers spread over the voters: the first is chosen by the worker's id, and half of them go around the other way. */
static uint64_t on_next_voter(void *context, uint64_t voter)
{
	const struct control *c = context;
	uint64_t found[PEERS_MAX], best = 0, shortest = UINT64_MAX;
	unsigned n = reachable_voters(c, found);

	if (n == 0 || voter == 0)
		return n == 0 ? 0 : found[c->config.node_id % n];
	for (unsigned i = 0; i < n; i++) { /* ids are a circle of 2^64; its own is the farthest */
		uint64_t step = c->config.node_id % 2 == 0 ? found[i] - voter - 1 : voter - found[i] - 1;

		if (step <= shortest) {
			shortest = step;
			best = found[i];
		}
	}
	return best;
}

static int on_ask(void *context, uint64_t voter, const void *ask, size_t n)
{
	struct control *c = context;

	return peers_send(c->peers, voter, PEER_FEED_ASK, ask, n);
}

static void on_tables(void *context, uint64_t *ret_incarnation, uint64_t *ret_index, uint64_t *ret_time_ms)
{
	const struct control *c = context;
	const struct cluster_row *cluster = state_cluster(c->state);

	*ret_incarnation = cluster->incarnation;
	*ret_index = state_index(c->state);
	*ret_time_ms = cluster->time_ms;
}

static int on_entry(void *context, uint64_t index, const void *entry, size_t n, struct err *err)
{
	struct control *c = context;
	int r = replica_apply(c, index, entry, n, err);

	if (r < 0)
		control_failed(c, err->message);
	return r;
}

/* Tables that are made of a snapshot, on a thread: a million sessions take seconds. The old ones end there too. */
struct making {
	uv_work_t work;
	struct control *c;
	struct buf bytes;
	struct state *tables;
	struct err err;
};

static void make_tables(uv_work_t *work)
{
	struct making *m = container_of(work, struct making, work);

	state_read(m->bytes.p, m->bytes.n, &m->tables, &m->err);
}

static void end_tables(uv_work_t *work)
{
	state_free(container_of(work, struct making, work)->tables);
}

static void ended(uv_work_t *work, int status)
{
	(void)status;
	free(container_of(work, struct making, work));
}

static void made(uv_work_t *work, int status)
{
	struct making *m = container_of(work, struct making, work);
	struct control *c = m->c;

	(void)status;
	if (m->err.code == 0) {
		replica_restored(c, m->tables);
		log_info("took a snapshot of %zu bytes, up to entry %" PRIu64, m->bytes.n,
			 replica_applied(c));
	}
	intake_restored(c->intake, m->err.code == 0 ? NULL : m->err.message, clock_boot_ms());
	buf_done(&m->bytes);
	must(uv_queue_work(&c->loop.uv, &m->work, end_tables, ended) == 0);
}

static void on_snapshot(void *context, struct buf *bytes)
{
	struct control *c = context;
	struct making *m = calloc(1, sizeof *m);

	must(m != NULL);
	*m = (struct making){.c = c, .bytes = *bytes};
	must(uv_queue_work(&c->loop.uv, &m->work, make_tables, made) == 0);
}

/* Constant for the life of a cluster. The gateway's threads read it, and serve nobody before it is here. */
static void on_tag_key(void *context, struct str key)
{
	struct control *c = context;

	if (key.n == sizeof c->tag_key && memcmp(key.p, c->tag_key, key.n) != 0)
		memcpy(c->tag_key, key.p, key.n);
}

static void open_intake(struct control *c)
{
	struct intake_options options = {.number = clock_boot_ms() * 1000,
					 .next_voter = on_next_voter,
					 .ask = on_ask,
					 .tables = on_tables,
					 .apply = on_entry,
					 .restore = on_snapshot,
					 .tag_key = on_tag_key,
					 .context = c};

	c->intake = intake_new(&options);
}

/* -- Both ----------------------------------------------------------------------------------------------------- */

int replica_open(struct control *c, struct err *err)
{
	if (c->config.role == CONFIG_VOTER)
		return open_feeder(c, err);
	open_intake(c);
	return 0;
}

void replica_turn(struct control *c, uint64_t boot_ms)
{
	if (c->feeder != NULL)
		feeder_turn(c->feeder, boot_ms);
}

void replica_tick(struct control *c, uint64_t boot_ms)
{
	if (c->intake != NULL)
		intake_tick(c->intake, boot_ms);
}

void replica_frame(struct control *c, uint64_t from, uint8_t type, const void *p, size_t n)
{
	struct err err = {0};

	if (type == PEER_FEED && c->intake != NULL) {
		intake_received(c->intake, from, p, n, clock_boot_ms());
	} else if (type == PEER_FEED_ASK && c->feeder != NULL) {
		if (feeder_asked(c->feeder, from, p, n, clock_boot_ms(), &err) < 0)
			control_complain(c, from, err.message);
	} else {
		control_complain(c, from,
				 type == PEER_FEED ? "it feeds a voter" : "it asks a worker for a feed");
	}
	control_kick(c);
}

void replica_peer(struct control *c, uint64_t node, bool reachable)
{
	if (c->feeder != NULL && !reachable)
		feeder_gone(c->feeder, node);
	if (c->intake != NULL)
		intake_peer(c->intake, node, reachable, clock_boot_ms());
}

uint64_t replica_leader(struct control *c)
{
	return c->intake != NULL ? intake_leader(c->intake) : consensus_leader(c->consensus, NULL);
}

uint64_t replica_term(const struct control *c)
{
	return c->intake != NULL ? intake_term(c->intake) : consensus_term(c->consensus);
}

uint64_t replica_applied(const struct control *c)
{
	return state_index(c->state);
}

void replica_count(const struct control *c, struct consensus_counts *ret)
{
	*ret = (struct consensus_counts){0};
	if (c->consensus != NULL)
		consensus_count(c->consensus, ret);
}
