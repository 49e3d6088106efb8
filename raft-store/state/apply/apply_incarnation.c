/* apply_incarnation.c -- a new incarnation of the cluster, made from the tables of the one before while nothing runs on them.
 * The same ends as of lost nodes, all at once; nothing of the former nodes is left that one of them could come back to. */
#include <errno.h>
#include <inttypes.h>

#include "core/must.h"
#include "state/apply/apply.h"

#define INITIAL_IDS 64 /* bits of removed_first */

static int check(const struct state *s, const struct reincarnation *r, struct err *err)
{
	const struct cluster_row *c = state_cluster(s);

	if (c->id.n == 0)
		return err_set(err, -EINVAL, "the tables are of no cluster");
	if (r->incarnation <= c->incarnation)
		return err_set(err, -EINVAL, "incarnation: %" PRIu64 ", the cluster has had %" PRIu64,
			       r->incarnation, c->incarnation);
	if (r->counter < c->counter || r->counter > INT64_MAX)
		return err_set(err, -EINVAL, "counter: %" PRIu64 ", the cluster's is %" PRIu64, r->counter,
			       c->counter);
	if (r->survivor != 0 && state_node(s, r->survivor) == NULL)
		return err_set(err, -ENOENT, "the tables know no node %" PRIu64, r->survivor);
	return 0;
}

/* Leases of the nodes that are gone may end behind the last entry: bills go on until then. */
static uint64_t last_lease_ms(const struct state *s, uint64_t survivor)
{
	uint64_t end = state_cluster(s)->time_ms, lease = state_cluster(s)->settings.lease_ms;

	for (const struct node_row *node = NULL; (node = state_next_node(s, node)) != NULL;) {
		if (node->id != survivor && state_next_node_sandbox(s, node->id, NULL) != NULL &&
		    node->renewed_ms + lease > end)
			end = node->renewed_ms + lease;
	}
	return end < APPLY_TIME_MAX ? end : APPLY_TIME_MAX;
}

static void forget_waiters(struct apply *a)
{
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(a->s, pool)) != NULL;) {
		const struct session_row *waiter;

		while ((waiter = state_next_waiter(a->s, pool->uid, NULL)) != NULL)
			store_remove(a->s, KIND_SESSIONS, waiter);
	}
}

static void remove_nodes(struct apply *a, uint64_t survivor)
{
	const struct node_row *node = NULL;

	while ((node = state_next_node(a->s, node)) != NULL) {
		apply_node_forget(a, node->id);
		if (node->id == survivor)
			continue;
		apply_node_ends(a, node);
		if (node->id < INITIAL_IDS)
			a->cluster.removed_first |= 1ull << node->id;
		store_remove(a->s, KIND_NODES, state_node(a->s, node->id));
	}
}

/* The survivor is the only voter there is. */
static void settle_survivor(struct apply *a, uint64_t survivor)
{
	const struct node_row *node = state_node(a->s, survivor);
	struct node_row row;

	if (node == NULL)
		return;
	row = *node;
	row.voter = true;
	row.member = MEMBER_VOTER;
	row.leaving = false;
	row.sequence = 0;
	store_put(a->s, KIND_NODES, &row);
}

static void settle_pools(struct apply *a)
{
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(a->s, pool)) != NULL;) {
		apply_settle(a, pool->uid);
		apply_trim(a, pool->uid);
	}
}

/* As one that was admitted, and has not started yet. */
static uint64_t admit_founder(struct apply *a, const struct node_row *founder)
{
	struct node_row row = {.id = apply_next_id(a),
			       .name = founder->name,
			       .raft_address = founder->raft_address,
			       .control_address = founder->control_address,
			       .peer_address = founder->peer_address,
			       .api_address = founder->api_address,
			       .voter = true,
			       .member = MEMBER_VOTER,
			       .state = NODE_NEW,
			       .renewed_ms = a->now_ms};

	store_put(a->s, KIND_NODES, &row);
	return row.id;
}

int state_reincarnate(struct state *s, struct reincarnation *r, struct err *err)
{
	struct result unused = {0};
	struct apply a = {.s = s, .index = s->index, .result = &unused};
	const struct join_token_row *token;
	int rc = check(s, r, err);

	if (rc < 0)
		return rc;
	store_begin(s);
	a.cluster = *state_cluster(s);
	a.now_ms = last_lease_ms(s, r->survivor);
	ledger_tick(s, a.cluster.time_ms, a.now_ms);
	a.cluster.time_ms = a.now_ms;
	a.cluster.counter = r->counter;
	forget_waiters(&a);
	remove_nodes(&a, r->survivor);
	settle_survivor(&a, r->survivor);
	settle_pools(&a);
	if (r->founder != NULL)
		r->ret_founder = admit_founder(&a, r->founder);
	apply_operation_end(&a, a.cluster.member_operation, PHASE_FAILED, STR("Canceled"),
			    STR("the cluster began a new incarnation"));
	a.cluster.member_operation = 0;
	while ((token = state_next_join_token(s, NULL)) != NULL)
		store_remove(s, KIND_JOIN_TOKENS, token);
	a.cluster.incarnation = r->incarnation;
	store_put(s, KIND_CLUSTER, &a.cluster);
	rc = state_check(s, err);
	return rc == 0 ? 0 : err_wrap(err, "the tables of the new incarnation");
}
