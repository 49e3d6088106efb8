/* apply_drain.c -- which sandboxes a node may get: cordon and drain.
 *
 * A cordoned node gets no new sandbox. What boots there stops, its replacement boots elsewhere. Its ready ones are moving: they do
 * not count towards their pool's target, so others boot on other nodes, and each of these that becomes ready ends one of
 * them (apply_trim); meanwhile they serve those for whom no other is ready. Bound ones stay.
 * A drain is a cordon with a deadline; what it lacks to the end is in the row, so whichever node leads goes on with it. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"

static void stop_boots(struct apply *a, uint64_t node)
{
	for (const struct sandbox_row *box = NULL;
	     (box = state_next_node_sandbox(a->s, node, box)) != NULL;) {
		struct sandbox_row row = *box;

		if (row.state != SANDBOX_BOOTING)
			continue;
		row.state = SANDBOX_STOPPING;
		box = store_put(a->s, KIND_SANDBOXES, &row);
	}
}

static void end_drain(struct node_row *row)
{
	row->draining = row->drain_cordoned = false;
	row->drain_started_ms = row->drain_deadline_ms = row->drained_ms = 0;
}

static void begin_drain(struct apply *a, struct node_row *row, uint64_t deadline_ms)
{
	row->drain_deadline_ms = a->now_ms + deadline_ms;
	if (row->draining)
		return;
	row->draining = true;
	row->drain_cordoned = !row->cordoned;
	row->cordoned = true;
	row->drain_started_ms = a->now_ms;
	row->drained_ms = state_next_node_sandbox(a->s, row->id, NULL) == NULL ? a->now_ms : 0;
}

void apply_node_order(struct apply *a, const void *body)
{
	const struct msg_node_order *c = body;
	const struct node_row *node = state_node(a->s, c->node);
	struct node_row row;

	if (node == NULL) {
		apply_refuse(a, -ENOENT, "no node %" PRIu64, c->node);
		return;
	}
	if (node->leaving && c->order == NODE_UNCORDON) {
		apply_refuse(a, -EBUSY, "node %" PRIu64 " is being removed", c->node);
		return;
	}
	if (c->deadline_ms > APPLY_DURATION_MAX) {
		apply_refuse(a, -EINVAL, "deadline_ms: %" PRIu64 ", allowed up to a hundred years",
			     c->deadline_ms);
		return;
	}
	row = *node;
	switch ((enum node_order)c->order) {
	case NODE_CORDON:
		row.cordoned = true;
		row.drain_cordoned = false; /* somebody wants it beyond the drain */
		break;
	case NODE_UNCORDON:
		row.cordoned = false;
		end_drain(&row);
		break;
	case NODE_DRAIN:
		begin_drain(a, &row, c->deadline_ms);
		break;
	case NODE_DRAIN_CANCEL:
		row.cordoned = row.leaving || (row.cordoned && !row.drain_cordoned);
		end_drain(&row);
		break;
	case NODE_ORDERS:
		return;
	}
	node = store_put(a->s, KIND_NODES, &row);
	if (row.cordoned)
		stop_boots(a, row.id);
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(a->s, pool)) != NULL;)
		apply_trim(a, pool->uid);
}

void apply_drained(struct apply *a, uint64_t id)
{
	const struct node_row *node = state_node(a->s, id);
	struct node_row row = *node;

	if (!row.draining || row.drained_ms != 0 || state_next_node_sandbox(a->s, id, NULL) != NULL)
		return;
	row.drained_ms = a->now_ms;
	store_put(a->s, KIND_NODES, &row);
}
