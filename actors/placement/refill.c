#include "refill.h"

#include <stdlib.h>

#include "core/must.h"
#include "placement.h"
#include "state/able.h"

#define PROPOSE_MS      3000
#define BACK_OFF_MS     500
#define BACK_OFF_MAX_MS 60000
#define NODES_MAX       1024
#define SLOT_MS         2000 /* a boot that takes longer waits for its own program and holds no slot any more */

struct spot {
	const struct node_row *row;
	uint32_t booting;
	uint64_t cpu_milli, memory_bytes; /* reserved, with what is proposed */
};

struct need {
	const struct pool_row *pool;
	const struct template *template;
	uint32_t for_waiters, for_target;
	uint32_t *spare; /* of each spot: ready and booting sandboxes of the pool there */
};

struct round {
	struct refill *refill;
	struct context *c;
	struct spot spots[NODES_MAX];
	uint32_t n_spots;
	struct need *needs; /* by uid */
	uint32_t n_needs;
	uint32_t *spare; /* of all needs */
};

static uint32_t proposed(const struct refill *r, uint64_t pool, uint64_t node)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < REFILL_PROPOSALS_MAX; i++) {
		const struct refill_proposal *p = &r->proposals[i];

		n += p->request != 0 && p->node != 0 && (pool == 0 || p->pool == pool) &&
		     (node == 0 || p->node == node);
	}
	return n;
}

static struct refill_proposal *free_proposal(struct refill *r)
{
	for (uint32_t i = 0; i < REFILL_PROPOSALS_MAX; i++) {
		if (r->proposals[i].request == 0)
			return &r->proposals[i];
	}
	return NULL;
}

bool refill_proposed(struct refill *r, uint64_t request)
{
	for (uint32_t i = 0; i < REFILL_PROPOSALS_MAX; i++) {
		if (request != 0 && r->proposals[i].request == request) {
			r->proposals[i].request = 0;
			return true;
		}
	}
	return false;
}

static uint32_t at_most(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* Half of the cluster's boot slots: more of a pool of which nothing came up yet would only be more of the same. */
static uint32_t unproven_max(const struct context *c)
{
	uint32_t n = 0;

	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;)
		n += row->state == NODE_UP;
	return n * PLACEMENT_BOOTS_PER_NODE / 2;
}

/* How many sandboxes of a failing pool may boot now. */
static uint32_t allowed(const struct pool_row *pool, uint32_t booting, uint64_t cluster_ms)
{
	uint64_t wait_ms = BACK_OFF_MAX_MS;

	if (pool->failures == 0)
		return UINT32_MAX;
	if (pool->failures <= 7)
		wait_ms = at_most(BACK_OFF_MS << (pool->failures - 1), BACK_OFF_MAX_MS);
	return booting == 0 && cluster_ms >= pool->failed_ms + wait_ms ? 1 : 0;
}

static bool need_of(const struct round *round, const struct pool_row *pool, uint64_t cluster_ms,
		    struct need *ret)
{
	const struct revision_row *revision =
		state_revision(round->c->state, pool->uid, pool->active_revision);
	struct pool_counts n = state_pool_counts(round->c->state, pool->uid);
	uint32_t booting = n.booting + proposed(round->refill, pool->uid, 0);
	uint32_t have = n.ready - state_pool_moving(round->c->state, pool->uid) + booting;
	uint32_t sessions = n.waiting + n.live + n.closing, max = pool->limits.max_sessions;
	uint32_t room = sessions < max ? max - sessions : 0, lacks;
	uint32_t target = n.waiting + at_most(pool->limits.ready_target, room);

	if (revision == NULL || pool->provisioning == PROVISIONING_DELETING || have >= target)
		return false;
	lacks = at_most(target - have, allowed(pool, booting, cluster_ms));
	*ret = (struct need){.pool = pool, .template = &revision->template};
	ret->for_waiters = n.waiting > have ? at_most(lacks, n.waiting - have) : 0;
	ret->for_target = lacks - ret->for_waiters;
	if (n.ready == 0 && n.live == 0) {
		uint32_t most = unproven_max(round->c), under_way = booting + ret->for_waiters;

		ret->for_target = at_most(ret->for_target, most > under_way ? most - under_way : 0);
	}
	return ret->for_waiters + ret->for_target > 0;
}

static struct need *need_of_pool(const struct round *round, uint64_t pool)
{
	uint32_t low = 0, high = round->n_needs;

	while (low < high) {
		uint32_t middle = low + (high - low) / 2;

		if (round->needs[middle].pool->uid < pool)
			low = middle + 1;
		else
			high = middle;
	}
	return low < round->n_needs && round->needs[low].pool->uid == pool ? &round->needs[low] : NULL;
}

static void count_spare(struct round *round, uint64_t pool)
{
	struct need *need = need_of_pool(round, pool);

	if (need != NULL && need->spare != NULL)
		need->spare[round->n_spots]++;
}

/* What the spot's sandboxes are: those that boot hold slots, the spare ones of a pool are its share there. */
static void count_sandboxes(struct round *round, struct spot *spot, uint64_t cluster_ms)
{
	for (const struct sandbox_row *x = NULL;
	     (x = state_next_node_sandbox(round->c->state, spot->row->id, x)) != NULL;) {
		spot->booting += x->state == SANDBOX_BOOTING && cluster_ms < x->created_ms + SLOT_MS;
		if (x->state == SANDBOX_BOOTING || x->state == SANDBOX_READY)
			count_spare(round, x->pool);
	}
}

static bool usable(const struct node_row *row)
{
	return row->state == NODE_UP && !row->cordoned && !row->disk.nearly_full;
}

/* Whether some node can be given something that is not late. */
static bool some_in_time(const struct context *c)
{
	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		if (usable(row) && !placement_late(c, row))
			return true;
	}
	return false;
}

static void find_spots(struct round *round, uint64_t cluster_ms)
{
	const struct state *s = round->c->state;
	bool in_time = some_in_time(round->c);

	for (const struct node_row *row = NULL; (row = state_next_node(s, row)) != NULL;) {
		struct spot *spot = &round->spots[round->n_spots];

		if (!usable(row) || (in_time && placement_late(round->c, row)) || round->n_spots == NODES_MAX)
			continue;
		*spot = (struct spot){
			.row = row, .cpu_milli = row->cpu_reserved, .memory_bytes = row->memory_reserved};
		count_sandboxes(round, spot, cluster_ms);
		for (uint32_t i = 0; i < REFILL_PROPOSALS_MAX; i++) {
			const struct refill_proposal *p = &round->refill->proposals[i];
			const struct pool_row *pool = p->request == 0 ? NULL : state_pool(s, p->pool);
			const struct revision_row *revision =
				pool == NULL ? NULL : state_revision(s, pool->uid, pool->active_revision);

			if (p->node != row->id || revision == NULL)
				continue;
			spot->booting++;
			count_spare(round, pool->uid);
			spot->cpu_milli += revision->template.cpu_milli;
			spot->memory_bytes += revision->template.memory_bytes;
		}
		round->n_spots++;
	}
}

static uint64_t fits(uint64_t used, uint64_t most, uint64_t one)
{
	return used >= most ? 0 : one == 0 ? UINT32_MAX : (most - used) / one;
}

/* How many more of them fit. */
static uint64_t room_for(const struct round *round, const struct spot *spot, const struct template *t)
{
	const struct settings *x = &state_cluster(round->c->state)->settings;
	uint64_t cpu = fits(spot->cpu_milli, spot->row->cpu_milli * x->overcommit_cpu, t->cpu_milli);
	uint64_t memory =
		fits(spot->memory_bytes, spot->row->memory_bytes * x->overcommit_memory, t->memory_bytes);
	uint64_t least = cpu < memory ? cpu : memory;

	return least < UINT32_MAX ? least : UINT32_MAX;
}

/* The share of a pool on a node goes with what is free there, as seats with votes (D'Hondt): the next goes to where the fewest
 * spare ones would be for each that fits beside all others; of equal ones to where the most fit. need NULL: any node will do. */
static struct spot *best_spot(struct round *round, const struct need *need, const struct pool_row *pool,
			      const struct template *t)
{
	uint64_t best_share = 1, best_most = 0;
	struct spot *best = NULL;

	for (uint32_t i = 0; i < round->n_spots; i++) {
		struct spot *spot = &round->spots[i];
		uint64_t room = room_for(round, spot, t), spare = need == NULL ? 0 : need->spare[i];
		uint64_t share = spare + 1, most = room + spare;

		if (room == 0 || spot->booting >= PLACEMENT_BOOTS_PER_NODE ||
		    !able_node(spot->row, pool, t) ||
		    !state_has_image(round->c->state, spot->row->id, t->digest))
			continue;
		if (best != NULL && (share * best_most > best_share * most ||
				     (share * best_most == best_share * most && most <= best_most)))
			continue;
		best = spot;
		best_share = share;
		best_most = most;
	}
	return best;
}

/* False: no node can take it now. */
static bool boot(struct round *round, struct need *need)
{
	struct refill_proposal *p = free_proposal(round->refill);
	struct spot *spot = p == NULL ? NULL : best_spot(round, need, need->pool, need->template);
	const struct pool_row *pool = need->pool;

	if (spot == NULL)
		return false;
	*p = (struct refill_proposal){.pool = pool->uid, .node = spot->row->id};
	p->request = context_propose(
		round->c, COMMAND_SANDBOX_BOOT,
		&(struct cmd_sandbox_boot){pool->uid, pool->active_revision, spot->row->id}, PROPOSE_MS);
	spot->booting++;
	need->spare[spot - round->spots]++;
	spot->cpu_milli += need->template->cpu_milli;
	spot->memory_bytes += need->template->memory_bytes;
	round->refill->last_pool = pool->uid;
	return true;
}

/* Passes over the pools, one sandbox each, beginning behind the pool that was served last. */
static void boot_round_robin(struct round *round, bool waiters)
{
	uint32_t start = 0;
	bool more = true;

	while (start < round->n_needs && round->needs[start].pool->uid <= round->refill->last_pool)
		start++;
	while (more) {
		more = false;
		for (uint32_t i = 0; i < round->n_needs; i++) {
			struct need *need = &round->needs[(start + i) % round->n_needs];
			uint32_t *left = waiters ? &need->for_waiters : &need->for_target;

			if (*left == 0)
				continue;
			if (!boot(round, need)) {
				*left = 0;
				continue;
			}
			(*left)--;
			more = true;
		}
	}
}

static bool replacing(const struct refill *r, uint64_t pool)
{
	for (uint32_t i = 0; i < REFILL_PROPOSALS_MAX; i++) {
		if (r->proposals[i].request != 0 && r->proposals[i].pool == pool)
			return true;
	}
	return false;
}

/* What still boots of an older revision would come up for nobody. */
static void stop_outdated_boots(struct round *round, const struct pool_row *pool)
{
	for (const struct sandbox_row *row = NULL;
	     (row = state_next_pool_sandbox(round->c->state, pool->uid, row)) != NULL;) {
		struct refill_proposal *p = free_proposal(round->refill);

		if (p == NULL || row->state != SANDBOX_BOOTING || row->revision == pool->active_revision)
			continue;
		*p = (struct refill_proposal){.pool = pool->uid};
		p->request = context_propose(round->c, COMMAND_SANDBOX_STOPPING,
					     &(struct cmd_sandbox){row->id}, PROPOSE_MS);
	}
}

/* Rolling: a quarter of the outdated ready ones at a time, the next when the pool is full again and nothing of it boots. */
static void replace_outdated(struct round *round, const struct pool_row *pool, uint64_t cluster_ms)
{
	const struct revision_row *revision =
		state_revision(round->c->state, pool->uid, pool->active_revision);
	struct pool_counts n = state_pool_counts(round->c->state, pool->uid);
	uint32_t old = 0, stop;

	if (n.booting > 0 && pool->active_revision != 0 && !replacing(round->refill, pool->uid))
		stop_outdated_boots(round, pool);
	if (n.ready == 0 || n.booting > 0 || n.stopping > 0 || revision == NULL || pool->failures > 0 ||
	    replacing(round->refill, pool->uid))
		return;
	for (const struct sandbox_row *row = NULL;
	     (row = state_next_ready(round->c->state, pool->uid, row)) != NULL;)
		old += row->revision != pool->active_revision;
	if (old == 0)
		return;
	if (round->n_spots == 0)
		find_spots(round, cluster_ms);
	if (best_spot(round, NULL, pool, &revision->template) == NULL)
		return;
	stop = old / 4 > 0 ? old / 4 : 1;
	for (const struct sandbox_row *row = NULL;
	     stop > 0 && (row = state_next_ready(round->c->state, pool->uid, row)) != NULL;) {
		struct refill_proposal *p = free_proposal(round->refill);

		if (p == NULL || row->revision == pool->active_revision)
			continue;
		*p = (struct refill_proposal){.pool = pool->uid};
		p->request = context_propose(round->c, COMMAND_SANDBOX_STOPPING,
					     &(struct cmd_sandbox){row->id}, PROPOSE_MS);
		stop--;
	}
}

void refill_run(struct refill *r, struct context *c, uint64_t cluster_ms)
{
	struct round *round = calloc(1, sizeof *round);
	uint32_t n_pools = 0, n_nodes = 0;

	must(round != NULL);
	round->refill = r;
	round->c = c;
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(c->state, pool)) != NULL;)
		n_pools++;
	round->needs = calloc(n_pools + 1, sizeof *round->needs);
	must(round->needs != NULL);
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(c->state, pool)) != NULL;)
		round->n_needs += need_of(round, pool, cluster_ms, &round->needs[round->n_needs]);
	for (const struct node_row *node = NULL; (node = state_next_node(c->state, node)) != NULL;)
		n_nodes++;
	round->spare = calloc((size_t)round->n_needs * n_nodes + 1, sizeof *round->spare);
	must(round->spare != NULL);
	for (uint32_t i = 0; i < round->n_needs; i++)
		round->needs[i].spare = round->spare + (size_t)i * n_nodes;
	if (round->n_needs > 0) {
		find_spots(round, cluster_ms);
		boot_round_robin(round, true);
		boot_round_robin(round, false);
	}
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(c->state, pool)) != NULL;)
		replace_outdated(round, pool, cluster_ms);
	free(round->spare);
	free(round->needs);
	free(round);
}
