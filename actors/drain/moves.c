#include "moves.h"

#define PROPOSE_MS 5000
#define AGAIN_MS   15000 /* before a sandbox is tried again: each try is a pause */

static bool tried(const struct moves *m, const struct sandbox_row *row, uint64_t now_ms)
{
	for (uint32_t i = 0; i < MOVES_TRIED_MAX; i++) {
		if (m->tried[i].sandbox == row->id && m->tried[i].from == row->node &&
		    now_ms < m->tried[i].again_ms)
			return true;
	}
	return false;
}

static uint64_t spare_memory(const struct context *c, const struct node_row *node)
{
	uint64_t most = node->memory_bytes * state_cluster(c->state)->settings.overcommit_memory;

	return most > node->memory_reserved ? most - node->memory_reserved : 0;
}

static bool takes(const struct context *c, const struct node_row *node, const struct sandbox_row *sandbox,
		  const struct template *t)
{
	const struct settings *x = &state_cluster(c->state)->settings;

	if (node->id == sandbox->node || node->state != NODE_UP || node->cordoned || node->disk.nearly_full ||
	    !state_node_runs(node, ISOLATION_VM) || !template_labels_fit(t, node->labels) ||
	    !state_has_image(c->state, node->id, t->digest))
		return false;
	return sandbox->asleep ||
	       (spare_memory(c, node) >= sandbox->memory_bytes &&
		node->cpu_reserved + sandbox->cpu_milli <= node->cpu_milli * x->overcommit_cpu);
}

/* The one with the most memory to spare, of those that can run it; 0: none. */
static uint64_t target_of(const struct context *c, const struct sandbox_row *sandbox)
{
	const struct revision_row *revision = state_revision(c->state, sandbox->pool, sandbox->revision);
	const struct node_row *best = NULL;

	for (const struct node_row *node = NULL; (node = state_next_node(c->state, node)) != NULL;) {
		if (revision == NULL || !takes(c, node, sandbox, &revision->template))
			continue;
		if (best == NULL || spare_memory(c, node) > spare_memory(c, best))
			best = node;
	}
	return best == NULL ? 0 : best->id;
}

/* It stands still, or sleeps, and can go elsewhere. */
static bool movable(const struct context *c, const struct sandbox_row *row)
{
	const struct pool_row *pool = state_pool(c->state, row->pool);
	const struct session_row *session = state_session_by_generation(c->state, row->generation);

	return row->state == SANDBOX_BOUND && row->target == 0 && (row->rest == REST_AWAKE || row->asleep) &&
	       pool != NULL && pool->isolation == ISOLATION_VM && session != NULL &&
	       session->state == SESSION_LIVE;
}

void moves_next(struct moves *m, struct context *c, const struct node_row *from)
{
	uint32_t under_way = 0;

	for (const struct sandbox_row *row = NULL;
	     (row = state_next_node_sandbox(c->state, from->id, row)) != NULL;)
		under_way += row->target != 0 || row->rest == REST_WAKING;
	for (const struct sandbox_row *row = NULL;
	     m->request == 0 && under_way < MOVES_MAX &&
	     (row = state_next_node_sandbox(c->state, from->id, row)) != NULL;) {
		uint64_t target = movable(c, row) && !tried(m, row, c->now_ms) ? target_of(c, row) : 0;

		if (target == 0)
			continue;
		m->tried[m->next_tried].sandbox = row->id;
		m->tried[m->next_tried].from = row->node;
		m->tried[m->next_tried].again_ms = c->now_ms + AGAIN_MS;
		m->next_tried = (m->next_tried + 1) % MOVES_TRIED_MAX;
		m->request = context_propose(c, COMMAND_SANDBOX_MOVE,
					     &(struct cmd_sandbox_move){row->id, target}, PROPOSE_MS);
	}
}

bool moves_proposed(struct moves *m, uint64_t request)
{
	if (m->request == 0 || m->request != request)
		return false;
	m->request = 0;
	return true;
}
