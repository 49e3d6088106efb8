/* sessions.c -- see sessions.h. Texts and statuses of the `.management` calls are those recorded from the real service;
 * identifiers are shown to callers with a role for that, to others as a keyed hash. */
#include <errno.h>
#include <string.h>

#include "arm/access.h"
#include "arm/pool/pool_show.h"
#include "arm/sessions.h"
#include "core/must.h"

#define DATA_PAGE     300
#define LIST_PAGE     1000
#define LIST_SKIP_MAX 10000000

/* Azure's pattern: letters, digits and the punctuation that its OpenAPI allows. */
static bool identifier_good(struct str s)
{
	static const char others[] = "|-&^%$#(){}[];<>_:\"'?/.,@*+=!~`";

	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];

		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') &&
		    (c == '\0' || strchr(others, c) == NULL))
			return false;
	}
	return s.n >= IDENTIFIER_MIN && s.n <= IDENTIFIER_MAX;
}

static bool need_identifier(struct call *c, struct str *ret)
{
	struct str id = call_query(c, "identifier");
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->n_query; i++)
		n += str_eq_nocase(c->query[i].name, STR("identifier"));
	if (n > 1) {
		call_error(c, 400, "SessionRequestValidationFailed",
			   "identifier: the query parameter must be given once.");
		return false;
	}
	if (id.p != NULL && identifier_good(id)) {
		*ret = id;
		return true;
	}
	call_error(c, 400, "SessionRequestValidationFailed",
		   "identifier: the query parameter must have %d to %d characters: letters, digits and "
		   "|-&^%%$#(){}[];<>_:\"'?/.,@*+=!~`",
		   IDENTIFIER_MIN, IDENTIFIER_MAX);
	return false;
}

static void post_stop(struct call *c, enum arm_then then, struct str identifier)
{
	struct msg_stop *body = arena_alloc(c->arena, sizeof *body);
	struct arm_continuation values = {.identifier = identifier};

	must(body != NULL);
	body->pool = c->pool->uid;
	body->identifier = identifier;
	values.location = arena_str(c->arena, c->pool->name);
	continuation_post(c, then, (struct address){ADDRESS_PLACEMENT, c->arm->node, 0}, MSG_STOP, body,
			  values);
}

void sessions_data_stop(struct call *c)
{
	struct str id;

	if (need_identifier(c, &id))
		post_stop(c, THEN_STOP_DATA, id);
}

uint64_t sessions_last_activity(struct call *c, const struct session_row *row)
{
	const struct arm_request *q = c->request;
	uint64_t at = row->opened_ms;

	if (q->activity == NULL) {
		if (c->asks == NULL)
			c->asks = arena_array(c->arena, ACTIVITY_MAX, sizeof *c->asks);
		must(c->asks != NULL);
		if (c->n_asks < ACTIVITY_MAX)
			c->asks[c->n_asks++] =
				(struct arm_activity){.node = row->node, .generation = row->generation};
		return at;
	}
	for (uint32_t i = 0; i < q->n_activity; i++) {
		if (q->activity[i].generation == row->generation && q->activity[i].at_ms > at)
			at = q->activity[i].at_ms;
	}
	return at;
}

static json_t *data_session(struct call *c, const struct session_row *row)
{
	json_t *body = json_new_object();
	uint64_t last = sessions_last_activity(c, row);

	json_put_str(body, "identifier", row->identifier);
	json_put_str(body, "etag", call_printf(c, "%llu", (unsigned long long)row->generation));
	json_put_time(body, "expiresAt", last + c->pool->limits.cooldown_ms);
	json_put_time(body, "createdAt", row->opened_ms);
	json_put_time(body, "lastAccessedAt", last);
	return body;
}

void sessions_data_get(struct call *c)
{
	const struct session_row *row;
	struct str id;

	if (!need_identifier(c, &id))
		return;
	row = state_session(c->state, c->pool->uid, id);
	if (row == NULL || row->state != SESSION_LIVE)
		call_error(c, 400, "SessionWithIdentifierNotFound",
			   "There is no session with this identifier in pool '%.*s'.",
			   STR_ARGS(c->pool->name));
	else
		call_json(c, 200, data_session(c, row));
}

void sessions_data_list(struct call *c)
{
	uint64_t skip = 0, n = 0;
	json_t *body, *value;

	if (call_query_u64(c, "skip", 0, LIST_SKIP_MAX, 0, &skip) < 0)
		return;
	body = json_new_object();
	value = json_put_array(body, "value");
	for (const struct session_row *row = state_next_pool_session(c->state, c->pool->uid, NULL);
	     row != NULL && n <= skip + DATA_PAGE;
	     row = state_next_pool_session(c->state, c->pool->uid, row)) {
		if (row->state != SESSION_LIVE)
			continue;
		if (n >= skip && n < skip + DATA_PAGE)
			json_push(value, data_session(c, row));
		n++;
	}
	json_put_u64(body, "count", json_array_size(value));
	if (n > skip + DATA_PAGE) {
		struct str endpoint = pool_show_endpoint(c, c->pool);

		json_put_str(body, "nextLink",
			     call_printf(c, "%.*s/.management/listSessions?skip=%llu", STR_ARGS(endpoint),
					 (unsigned long long)(skip + DATA_PAGE)));
	} else {
		json_put_null(body, "nextLink");
	}
	call_json(c, 200, body);
}

/* A live one may be at rest. */
static const char *state_of(const struct state *s, const struct session_row *row)
{
	const struct sandbox_row *sandbox = state_sandbox(s, row->sandbox);

	if (row->state != SESSION_LIVE || sandbox == NULL)
		return row->state < SESSION_STATES ? session_state_name[row->state] : "unknown";
	if (sandbox->target != 0)
		return "moving";
	if (sandbox->asleep)
		return "suspended";
	return row->rest == REST_SAVING ? "suspending" : row->rest == REST_WAKING ? "waking" : "live";
}

static json_t *operator_session(struct call *c, const struct session_row *row, bool identifiers)
{
	const struct node_row *node = state_node(c->state, row->node);
	json_t *to = json_new_object();
	char hash[33] = "";

	if (identifiers)
		json_put_str(to, "identifier", row->identifier);
	c->arm->hash_identifier(c->arm->context, row->identifier, hash);
	json_put_cstr(to, "identifierHash", hash);
	json_put_cstr(to, "state", state_of(c->state, row));
	json_put_u64(to, "generation", row->generation);
	if (row->sandbox != 0) {
		json_put_u64(to, "sandbox", row->sandbox);
		json_put_u64(to, "node", row->node);
		json_put_str(to, "nodeName", node == NULL ? STR("") : node->name);
	}
	json_put_cstr(to, "isolation", isolation_name[c->pool->isolation]);
	json_put_time(to, "asked", row->asked_ms);
	if (row->opened_ms != 0) {
		json_put_time(to, "opened", row->opened_ms);
		json_put_time(to, "lastActivity", sessions_last_activity(c, row));
	}
	if (row->state == SESSION_CLOSING) {
		json_put_time(to, "closing", row->closing_ms);
		json_put_cstr(to, "reason",
			      row->reason < REAP_REASONS ? reap_reason_name[row->reason] : "unknown");
	}
	return to;
}

static json_t *ended_session(struct call *c, const struct record_row *row)
{
	const struct node_row *node = state_node(c->state, row->node);
	json_t *to = json_new_object();

	json_put_cstr(to, "state", "ended");
	json_put_u64(to, "generation", row->generation);
	json_put_u64(to, "sandbox", row->sandbox);
	json_put_u64(to, "node", row->node);
	json_put_str(to, "nodeName", node == NULL ? STR("") : node->name);
	json_put_cstr(to, "isolation", isolation_name[c->pool->isolation]);
	json_put_time(to, "opened", row->opened_ms);
	json_put_time(to, "ended", row->closed_ms);
	json_put_cstr(to, "reason", row->reason < REAP_REASONS ? reap_reason_name[row->reason] : "unknown");
	return to;
}

/* What the tables still know of sessions that are over, the oldest first. Records name no identifier. */
static uint64_t push_ended(struct call *c, json_t *value, uint64_t skip)
{
	uint64_t n = 0;

	for (const struct record_row *row = state_next_record(c->state, NULL);
	     row != NULL && n <= skip + LIST_PAGE; row = state_next_record(c->state, row)) {
		if (row->pool != c->pool->uid || row->opened_ms == 0)
			continue;
		if (n >= skip && n < skip + LIST_PAGE)
			json_push(value, ended_session(c, row));
		n++;
	}
	return n;
}

static uint64_t push_sessions(struct call *c, json_t *value, uint64_t skip)
{
	bool identifiers = access_allowed(&c->request->caller, ACCESS_IDENTIFIERS, c->scope);
	uint64_t n = 0;

	for (const struct session_row *row = state_next_pool_session(c->state, c->pool->uid, NULL);
	     row != NULL && n <= skip + LIST_PAGE;
	     row = state_next_pool_session(c->state, c->pool->uid, row)) {
		if (n >= skip && n < skip + LIST_PAGE)
			json_push(value, operator_session(c, row, identifiers));
		n++;
	}
	return n;
}

void sessions_list(struct call *c)
{
	bool ended = str_eq_nocase(call_query(c, "ended"), STR("true"));
	struct str only = call_query(c, "identifier");
	uint64_t skip = 0, n;
	json_t *body, *value;

	if (call_query_u64(c, "skip", 0, LIST_SKIP_MAX, 0, &skip) < 0)
		return;
	if (only.p != NULL) {
		const struct session_row *row = state_session(c->state, c->pool->uid, only);

		if (row == NULL)
			call_error(c, 404, "SessionNotFound",
				   "There is no session with this identifier in pool '%.*s'.",
				   STR_ARGS(c->pool->name));
		else
			call_json(c, 200, operator_session(c, row, true)); /* the caller knows it */
		return;
	}
	body = json_new_object();
	value = json_put_array(body, "value");
	n = ended ? push_ended(c, value, skip) : push_sessions(c, value, skip);
	if (n > skip + LIST_PAGE)
		json_put_str(body, "nextLink",
			     call_printf(c, "%.*s%.*s?skip=%llu%s", STR_ARGS(c->base),
					 STR_ARGS(c->request->path), (unsigned long long)(skip + LIST_PAGE),
					 ended ? "&ended=true" : ""));
	call_json(c, 200, body);
}

void sessions_stop(struct call *c)
{
	struct str id;

	if (need_identifier(c, &id))
		post_stop(c, THEN_STOP, id);
}

static void post_rest(struct call *c, bool resume)
{
	struct msg_rest *body = arena_alloc(c->arena, sizeof *body);
	struct arm_continuation values = {.resume = resume};

	must(body != NULL);
	*body = (struct msg_rest){.pool = c->pool->uid, .resume = resume};
	if (!need_identifier(c, &body->identifier))
		return;
	values.location = arena_str(c->arena, c->pool->name);
	continuation_post(c, THEN_REST, (struct address){ADDRESS_PLACEMENT, c->arm->node, 0}, MSG_REST, body,
			  values);
}

void sessions_suspend(struct call *c)
{
	post_rest(c, false);
}

void sessions_resume(struct call *c)
{
	post_rest(c, true);
}

/* Of the sandbox that ?sandbox= names, or the one of ?identifier='s session, or any one of the pool. One that is not here any
 * more may have left its log on some node. */
void sessions_logs(struct call *c)
{
	struct str id = call_query(c, "identifier"), follow = call_query(c, "follow");
	struct arm_logs_ask *ask = &c->out->logs;
	const struct sandbox_row *row = NULL;
	uint64_t sandbox = 0, tail = 0;
	char hash[33] = "";

	if (call_query_u64(c, "sandbox", 0, INT64_MAX, 0, &sandbox) < 0 ||
	    call_query_u64(c, "tail", 0, 1000000, 0, &tail) < 0)
		return;
	if (id.p != NULL) {
		const struct session_row *session = state_session(c->state, c->pool->uid, id);

		sandbox = session == NULL ? 0 : session->sandbox;
		c->arm->hash_identifier(c->arm->context, id, hash);
	}
	if (sandbox != 0)
		row = state_sandbox(c->state, sandbox);
	else if (id.p == NULL)
		row = state_next_pool_sandbox(c->state, c->pool->uid, NULL);
	if (row != NULL && row->pool != c->pool->uid)
		row = NULL;
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_LOGS;
	*ask = (struct arm_logs_ask){.pool = c->pool->uid,
				     .sandbox = sandbox,
				     .follow = str_eq_nocase(follow, STR("true")),
				     .tail = (uint32_t)tail};
	if (row != NULL) {
		ask->sandbox = row->id;
		ask->node = row->node;
	} else {
		ask->tag = arena_str(c->arena, str_of(hash));
	}
}

void sessions_answer(struct call *c, const struct arm_continuation *then, const struct msg_stopped *answer)
{
	json_t *body;

	if (answer->code == 0 && then->then == THEN_STOP_DATA) {
		arm_reply_text(&c->out->reply, 200, "text/plain; charset=utf-8",
			       call_printf(c, "Session %.*s in session pool %.*s stopped.",
					   STR_ARGS(then->identifier), STR_ARGS(then->location)));
	} else if (answer->code == 0) {
		body = json_new_object();
		json_put_cstr(body, "state", "closing");
		call_json(c, 200, body);
	} else if (answer->code == -ENOENT && then->then == THEN_STOP_DATA) {
		arm_reply_text(&c->out->reply, 400, "text/plain; charset=utf-8",
			       STR("Failed to stop session, session not found."));
	} else if (answer->code == -ENOENT) {
		call_error(c, 404, "SessionNotFound",
			   "There is no session with this identifier in pool '%.*s'.",
			   STR_ARGS(then->location));
	} else {
		call_error(c, 503, "ServiceUnavailable", "The session could not be stopped: %.*s.",
			   STR_ARGS(answer->message));
		arm_reply_header(&c->out->reply, "retry-after", STR("2"));
	}
}

void sessions_rested(struct call *c, const struct arm_continuation *then, const struct msg_rested *answer)
{
	const char *what = then->resume ? "resumed" : "suspended";
	json_t *body;

	switch (answer->code) {
	case 0:
		body = json_new_object();
		json_put_cstr(body, "state", then->resume ? "waking" : "suspending");
		call_json(c, 200, body);
		return;
	case -ENOENT:
	case -ESRCH:
		call_error(c, 404, "SessionNotFound",
			   "There is no session with this identifier in pool '%.*s'.",
			   STR_ARGS(then->location));
		return;
	case -ENOTSUP:
		call_error(c, 409, "IsolationNotSupported", "The session cannot be %s: %.*s.", what,
			   STR_ARGS(answer->message));
		return;
	case -EBUSY:
	case -EAGAIN:
		call_error(c, 409, "SessionBusy", "The session cannot be %s: %.*s.", what,
			   STR_ARGS(answer->message));
		return;
	default:
		call_error(c, 503, answer->code == -ENOSPC ? "NoCapacity" : "ServiceUnavailable",
			   "The session could not be %s: %.*s.", what, STR_ARGS(answer->message));
		arm_reply_header(&c->out->reply, "retry-after", STR("2"));
	}
}
