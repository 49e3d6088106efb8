/* See drain.h. */
#include <errno.h>

#include "arm/access.h"
#include "arm/cluster.h"
#include "arm/node/drain.h"
#include "arm/sessions.h"
#include "core/must.h"

#define DEADLINE_S     1800
#define DEADLINE_S_MAX (30 * 86400)
#define SESSIONS_SHOWN 100
#define BUSY_MS        1500 /* of a request under way, as its owner told it a moment ago */

/* -- Progress ----------------------------------------------------------------------------------------------------- */

struct progress {
	uint32_t booting, ready, bound, stopping, busy;
	uint64_t empty_ms; /* at the latest */
};

/* When the session ends at the latest: when it was idle for long enough, or at the deadline. */
static uint64_t ends_ms(const struct call *c, const struct node_row *row, const struct session_row *session,
			uint64_t last_ms, bool busy)
{
	const struct pool_row *pool = state_pool(c->state, session->pool);
	uint64_t at_ms = row->drain_deadline_ms;

	if (session->state != SESSION_LIVE)
		return c->request->now_ms;
	if (!busy && pool != NULL && pool->limits.lifecycle == LIFECYCLE_TIMED &&
	    last_ms + pool->limits.cooldown_ms < at_ms)
		at_ms = last_ms + pool->limits.cooldown_ms;
	return at_ms;
}

static void put_session(struct call *c, json_t *list, const struct session_row *session, uint64_t last_ms,
			uint64_t end_ms, bool busy)
{
	const struct pool_row *pool = state_pool(c->state, session->pool);
	bool identifiers = access_allowed(&c->request->caller, ACCESS_IDENTIFIERS, STR("/"));
	json_t *to;
	char hash[33] = "";

	if (json_array_size(list) >= SESSIONS_SHOWN)
		return;
	to = json_push_object(list);
	json_put_str(to, "pool", pool == NULL ? STR_NONE : pool->name);
	if (identifiers)
		json_put_str(to, "identifier", session->identifier);
	c->arm->hash_identifier(c->arm->context, session->identifier, hash);
	json_put_cstr(to, "identifierHash", hash);
	json_put_cstr(to, "state", session_state_name[session->state]);
	json_put_bool(to, "busy", busy);
	json_put_time(to, "opened", session->opened_ms);
	json_put_time(to, "lastActivity", last_ms);
	json_put_time(to, "endsAtLatest", end_ms);
}

/* What the node still has. The sessions' activity is asked for when the request is a GET: only that can wait. */
static struct progress put_sandboxes(struct call *c, json_t *list, const struct node_row *row, bool ask)
{
	struct progress p = {0};

	for (const struct sandbox_row *box = NULL;
	     (box = state_next_node_sandbox(c->state, row->id, box)) != NULL;) {
		const struct session_row *session = state_session_by_generation(c->state, box->generation);
		uint64_t last_ms, end_ms;
		bool busy;

		p.booting += box->state == SANDBOX_BOOTING;
		p.ready += box->state == SANDBOX_READY;
		p.bound += box->state == SANDBOX_BOUND;
		p.stopping += box->state == SANDBOX_STOPPING;
		if (box->state != SANDBOX_BOUND || session == NULL)
			continue;
		last_ms = ask ? sessions_last_activity(c, session) : session->opened_ms;
		busy = ask && session->state == SESSION_LIVE && last_ms > session->opened_ms &&
		       last_ms + BUSY_MS >= c->request->now_ms;
		end_ms = ends_ms(c, row, session, last_ms, busy);
		p.busy += busy;
		p.empty_ms = end_ms > p.empty_ms ? end_ms : p.empty_ms;
		put_session(c, list, session, last_ms, end_ms, busy);
	}
	return p;
}

static json_t *document(struct call *c, const struct node_row *row, bool ask)
{
	json_t *to = json_new_object(), *list = json_array();
	struct progress p = put_sandboxes(c, list, row, ask);
	uint64_t until_ms = row->drained_ms != 0 ? row->drained_ms : state_cluster(c->state)->time_ms;

	json_put_u64(to, "id", row->id);
	json_put_str(to, "name", row->name);
	json_put_cstr(to, "state", row->state == NODE_UP ? "up" : "lost");
	json_put_cstr(to, "scheduling", cluster_scheduling(c, row));
	json_put_bool(to, "leader", row->id == c->arm->leader);
	json_put_u64(to, "booting", p.booting);
	json_put_u64(to, "ready", p.ready);
	json_put_u64(to, "bound", p.bound);
	json_put_u64(to, "stopping", p.stopping);
	if (row->draining) {
		json_put_time(to, "started", row->drain_started_ms);
		json_put_time(to, "deadline", row->drain_deadline_ms);
		json_put_u64(to, "elapsedMs", until_ms - row->drain_started_ms);
		json_put_u64(to, "deadlineLeftMs",
			     row->drain_deadline_ms > until_ms ? row->drain_deadline_ms - until_ms : 0);
	}
	if (row->drained_ms != 0)
		json_put_time(to, "drained", row->drained_ms);
	else if (row->draining && ask)
		json_put_u64(to, "emptyWithinMs",
			     p.empty_ms > c->request->now_ms ? p.empty_ms - c->request->now_ms : 0);
	if (ask)
		json_put_u64(to, "busy", p.busy);
	if (ask)
		json_put(to, "sessions", list);
	else
		json_decref(list);
	return to;
}

void drain_show(struct call *c)
{
	const struct node_row *row = cluster_find_node(c);

	if (row != NULL)
		call_json(c, 200, document(c, row, true));
}

/* -- Orders ------------------------------------------------------------------------------------------------------- */

static void post_order(struct call *c, enum node_order order, uint64_t deadline_ms)
{
	const struct node_row *row = cluster_find_node(c);
	struct msg_node_order *body;

	if (row == NULL)
		return;
	body = arena_alloc(c->arena, sizeof *body);
	must(body != NULL);
	*body = (struct msg_node_order){row->id, (uint8_t)order, deadline_ms};
	continuation_post(c, THEN_ORDER, (struct address){ADDRESS_DRAIN, c->arm->node, 0}, MSG_NODE_ORDER,
			  body, (struct arm_continuation){.node = row->id});
}

void drain_cordon(struct call *c)
{
	post_order(c, NODE_CORDON, 0);
}

void drain_uncordon(struct call *c)
{
	post_order(c, NODE_UNCORDON, 0);
}

void drain_cancel(struct call *c)
{
	post_order(c, NODE_DRAIN_CANCEL, 0);
}

/* {"deadlineSeconds": 1800}; without a body too. */
void drain_begin(struct call *c)
{
	uint64_t deadline_s = DEADLINE_S;
	struct err err = {0};
	json_t *body = NULL;
	int r = 0;

	if (c->request->body.n > 0) {
		body = call_body(c);
		if (body == NULL)
			return;
		r = json_get_u64(body, JSON_OPTIONAL, 0, DEADLINE_S_MAX, &deadline_s, &err,
				 "deadlineSeconds");
		json_decref(body);
	}
	if (r < 0)
		call_error(c, 400, "InvalidRequestContent", "%s.", err.message);
	else
		post_order(c, NODE_DRAIN, deadline_s * 1000);
}

/* To what every node has. */
void drain_upgrade(struct call *c)
{
	struct msg_cluster_level *body = arena_alloc(c->arena, sizeof *body);

	must(body != NULL);
	body->feature_level = FEATURE_LEVEL;
	continuation_post(c, THEN_ORDER, (struct address){ADDRESS_DRAIN, c->arm->node, 0}, MSG_CLUSTER_LEVEL,
			  body, (struct arm_continuation){0});
}

static void answer_level(struct call *c, const struct msg_node_ordered *answer)
{
	json_t *body;

	if (answer->code == -EBUSY) {
		call_error(c, 409, "NodesNotUpgraded", "Not all nodes are upgraded: %.*s.",
			   STR_ARGS(answer->message));
		return;
	}
	body = json_new_object();
	json_put_u64(body, "featureLevel", state_cluster(c->state)->feature_level);
	json_put_cstr(body, "version", BERTH_VERSION);
	call_json(c, 200, body);
}

void drain_answer(struct call *c, const struct arm_continuation *then, const struct msg_node_ordered *answer)
{
	const struct node_row *row = state_node(c->state, then->node);

	if (then->node == 0 && (answer->code == 0 || answer->code == -EBUSY)) {
		answer_level(c, answer);
	} else if (answer->code == 0 && row != NULL) {
		call_json(c, 200, document(c, row, false));
	} else if (answer->code == -EBUSY) {
		call_error(c, 409, "NodeIsLeaving", "The node is being removed.");
	} else if (answer->code == 0 || answer->code == -ENOENT) {
		call_error(c, 404, "NodeNotFound", "The node does not exist any more.");
	} else {
		call_error(c, 503, "ServiceUnavailable", "The order was not carried out: %.*s.",
			   STR_ARGS(answer->message));
		arm_reply_header(&c->out->reply, "retry-after", STR("2"));
	}
}
