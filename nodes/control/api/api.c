/* Happy path: a request comes whole from a gateway loop; its token is checked; it waits until these tables show all that was
 * acknowledged before it came (reads.c), so that a client that wrote through one node reads it through any other; arm makes a
 * reply, a message to an actor, or a task of it; the actor's answer becomes the reply, once this node's tables show what the
 * answer tells of.
 * Failure modes: no or a bad token 401; no majority 503; an actor that does not answer within 30 s: 504 with the operation unknown. */
#include "control/api/api.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "control/api/relay.h"
#include "control/keys/secrets.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/digest.h"

#define ANSWER_MS     30000
#define SHOWN_MS      2000
#define CALLS_MAX     4096
#define AGAIN_MAX     16
#define CLIENT_ID_MAX 128

struct api {
	struct control *control;
	struct arm arm;
	struct map calls;
	char url[512];
};

struct control *api_control(struct api *a)
{
	return a->control;
}

/* -- Callbacks of arm ---------------------------------------------------------------------------------------- */

static int on_seal(void *context, struct str pool_id, struct str name, struct str plain, struct arena *arena,
		   struct str *ret_sealed, struct err *err)
{
	struct control *c = context;

	if (c->ring == NULL)
		return err_set(err, -ENOKEY, "this node is a worker and cannot seal secrets: ask a voter");
	return secrets_seal(keys_secrets(c->keys), pool_id, name, plain, arena, ret_sealed, err);
}

static void on_hash_identifier(void *context, struct str identifier, char ret_hex[33])
{
	struct control *c = context;

	crypto_identifier_tag(c->tag_key, identifier, ret_hex);
}

struct api *api_new(struct control *c)
{
	struct api *a = calloc(1, sizeof *a);

	must(a != NULL && str_copy(c->config.api_url, a->url, sizeof a->url) == 0);
	a->control = c;
	a->arm = (struct arm){.url = str_of(a->url),
			      .node = c->config.node_id,
			      .network = &c->network,
			      .context = c,
			      .seal = on_seal,
			      .hash_identifier = on_hash_identifier};
	return a;
}

/* -- Calls --------------------------------------------------------------------------------------------------- */

static bool match_call(const struct map_node *node, const void *key)
{
	return container_of(node, struct api_call, node)->request->id == *(const uint64_t *)key;
}

struct api_call *api_call_of(const struct api *a, uint64_t id)
{
	struct map_node *node = map_find(&a->calls, map_hash_u64(id), match_call, &id);

	return node == NULL ? NULL : container_of(node, struct api_call, node);
}

void api_drop(struct api_call *call)
{
	loop_timer_clear(&call->api->control->loop, &call->poll);
	if (call->export != NULL)
		export_gone(call);
	if (call->backing != NULL)
		backup_gone(call);
	map_remove(&call->api->calls, &call->node);
	gateway_api_free(call->request);
	arena_done(&call->arena);
	free(call);
}

static void send_reply(struct control *c, uint64_t id, const struct arm_reply *reply)
{
	struct gateway_api_reply out = {.status = (unsigned)reply->status, .body = buf_str(&reply->body)};

	for (uint32_t i = 0; i < reply->n_headers && i < GATEWAY_HEADERS_MAX; i++)
		out.headers[out.n_headers++] =
			(struct gateway_header){str_of(reply->headers[i].name), reply->headers[i].value};
	if (relay_is(id))
		relay_reply(c, id, &out);
	else
		gateway_api_reply(c->gateway, id, &out);
}

/* As Azure Resource Manager's: an id of its own for every answer, and the client's when it asks for that. */
static void add_ids(const struct api_call *call, struct arm_reply *reply)
{
	struct str asked = call->request->client_request_id;
	bool good = asked.n > 0 && asked.n <= CLIENT_ID_MAX;

	for (size_t i = 0; good && i < asked.n; i++)
		good = isalnum((unsigned char)asked.p[i]) || strchr("-_.:", asked.p[i]) != NULL;
	arm_reply_header(reply, "x-ms-request-id", str_of(call->id));
	arm_reply_header(reply, "x-ms-correlation-request-id", str_of(call->id));
	if (good)
		arm_reply_header(reply, "x-ms-client-request-id", asked);
}

void api_finish(struct api_call *call, struct arm_reply *reply)
{
	add_ids(call, reply);
	send_reply(call->api->control, call->request->id, reply);
	arm_reply_done(reply);
	api_drop(call);
}

void api_gone(struct api *a, uint64_t id)
{
	struct api_call *call = api_call_of(a, id);

	if (call != NULL)
		api_drop(call);
}

void api_taken(struct api *a, uint64_t id)
{
	struct api_call *call = api_call_of(a, id);

	if (call == NULL || !call->streaming)
		return;
	if (call->export != NULL)
		export_taken(call);
	else if (call->backing != NULL)
		backup_taken(call);
	else
		tasks_taken(call);
}

bool api_stream(struct api_call *call, const char *content_type)
{
	struct gateway_api_reply head = {.status = 200,
					 .more = true,
					 .n_headers = 1,
					 .headers = {{STR("content-type"), str_of(content_type)}}};

	call->streaming = true;
	return gateway_api_reply(call->api->control->gateway, call->request->id, &head) == 0;
}

/* -- Who asks ------------------------------------------------------------------------------------------------ */

static int find_caller(struct api_call *call, struct arm_caller *ret, struct err *err)
{
	const struct gateway_api_request *q = call->request;
	struct control *c = call->api->control;
	struct token_claims *claims = arena_alloc(&call->arena, sizeof *claims);
	struct str token;

	if (q->peer == PEER_ADMIN) {
		*ret = (struct arm_caller){.subject = STR("admin"), .local = true};
		return 0;
	}
	must(claims != NULL);
	int r = q->authorization.n == 0 ? err_set(err, -EACCES, "no Authorization header")
					: token_of_header(q->authorization, &token);

	if (r == 0 && c->tokens == NULL)
		r = err_set(err, -EAGAIN, "the keys that tokens are checked with are not there yet");
	if (r == 0)
		r = token_verify(c->tokens, token, q->pool_uid != 0 ? TOKEN_DATA : TOKEN_MANAGEMENT,
				 clock_wall_ms() / 1000, claims, err);
	if (r < 0)
		return r;
	struct arm_role *roles = arena_array(&call->arena, claims->n_roles + 1, sizeof *roles);

	must(roles != NULL);
	for (unsigned i = 0; i < claims->n_roles; i++)
		roles[i] = (struct arm_role){str_of(claims->roles[i].role), str_of(claims->roles[i].scope)};
	*ret = (struct arm_caller){
		.subject = str_of(claims->subject), .roles = roles, .n_roles = claims->n_roles};
	return 0;
}

/* -- Requests ------------------------------------------------------------------------------------------------ */

/* What needs no token: whether the node lives, and whether it should get requests. Why it should not, and its figures, are told
 * at the admin socket and at listen_metrics alone, where nothing else than these is to be had. */
static bool answer_open(struct api_call *call)
{
	struct control *c = call->api->control;
	struct str path = call->request->path;
	uint8_t peer = call->request->peer;
	bool inside = peer == PEER_ADMIN || peer == PEER_METRICS;
	struct arm_reply reply = {0};
	CLEANUP_BUF struct buf text = {0};

	if (call->request->pool_uid != 0)
		return false;
	if (str_eq(path, STR("/health"))) {
		metrics_health(c, &text);
		arm_reply_text(&reply, 200, "text/plain", buf_str(&text));
	} else if (str_eq(path, STR("/ready"))) {
		metrics_not_ready(c, &text);
		arm_reply_text(&reply, text.n == 0 ? 200 : 503, "text/plain",
			       text.n == 0 ? STR("ready\n")
			       : inside    ? buf_str(&text)
					   : STR("not ready\n"));
	} else if (str_eq(path, STR("/metrics")) && inside) {
		metrics_write(c, &text);
		arm_reply_text(&reply, 200, "text/plain; version=0.0.4", buf_str(&text));
	} else if (str_eq(path, STR("/metrics"))) {
		arm_reply_error(&reply, 403, "Forbidden",
				"Figures are shown at the admin socket and at listen_metrics.");
	} else if (peer == PEER_METRICS) {
		arm_reply_error(&reply, 404, "NotFound", "Here are /metrics, /ready and /health alone.");
	} else {
		return false;
	}
	api_finish(call, &reply);
	return true;
}

/* What tells how the node itself is, and what it keeps: answered without a majority too. */
static bool needs_tables(struct str path)
{
	static const char *const without[] = {"/metadata/", "/.berth/v1/cluster", "/.berth/v1/tokens",
					      "/.berth/v1/ca", "/.berth/v1/images"};

	for (size_t i = 0; i < sizeof without / sizeof *without; i++) {
		if (str_starts(path, str_of(without[i])))
			return false;
	}
	return true;
}

void api_send(struct api_call *call, struct address to, uint16_t type, const void *body)
{
	struct control *c = call->api->control;
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e = control_message(c, &bytes, to, type, body);

	e.from = (struct address){ADDRESS_API, c->config.node_id, call->request->id};
	e.correlation = call->asks;
	e.deadline_ms = call->deadline_ms;
	control_send(c, &e);
}

void api_propose(struct api_call *call, uint8_t type, const void *body,
		 void (*proposed)(struct api_call *call, const struct msg_proposed *result))
{
	struct control *c = call->api->control;
	struct address to = {ADDRESS_API, c->config.node_id, call->request->id};

	call->proposed = proposed;
	proposer_submit(c->proposer, type, body, &to, call->asks, clock_boot_ms() + ANSWER_MS);
	control_kick(c);
}

static void post(struct api_call *call)
{
	call->waits = true;
	api_send(call, call->outcome.to, call->outcome.type, call->outcome.body);
}

void api_serve(struct api_call *call)
{
	struct api *a = call->api;

	call->deadline_ms = clock_boot_ms() + ANSWER_MS;
	arm_handle(&a->arm, &call->question, a->control->state, &call->arena, &call->outcome);
	switch ((enum arm_outcome_kind)call->outcome.kind) {
	case ARM_REPLY:
		api_finish(call, &call->outcome.reply);
		return;
	case ARM_POST:
		post(call);
		return;
	case ARM_TASK:
		tasks_run(call);
		return;
	case ARM_ASK:
		activity_ask(call);
		return;
	}
	must(false);
}

/* A node that has not joined since its start may lack what was acknowledged long ago. */
static void serve_latest(struct api_call *call)
{
	struct arm_reply reply = {0};

	if (!needs_tables(call->request->path)) {
		api_serve(call);
	} else if (control_caught_up(call->api->control)) {
		reads_begin(call);
	} else {
		arm_reply_error(&reply, 503, "ServiceUnavailable",
				"This node has not caught up with the cluster yet.");
		arm_reply_header(&reply, "retry-after", STR("1"));
		api_finish(call, &reply);
	}
}

static void handle(struct api_call *call)
{
	struct gateway_api_request *q = call->request;
	struct arm_reply reply = {0};
	struct err err = {0};

	if (answer_open(call) || relay_begin(call))
		return;
	call->question = (struct arm_request){.method = q->method,
					      .path = q->path,
					      .query = q->query,
					      .body = q->body,
					      .scheme = q->peer == PEER_PLAIN ? STR("http") : STR("https"),
					      .host = q->host,
					      .now_ms = clock_wall_ms(),
					      .pool = q->pool_uid};
	int r = arm_public(q->method, q->path) ? 0 : find_caller(call, &call->question.caller, &err);

	if (r == -EAGAIN) { /* this node is starting: nothing is said of the token */
		arm_reply_error(&reply, 503, "ServiceUnavailable", "%s", err.message);
		arm_reply_header(&reply, "retry-after", STR("1"));
		api_finish(call, &reply);
	} else if (r < 0) {
		log_debug("management request refused: %s", err.message);
		arm_reply_error(&reply, 401, "InvalidAuthenticationToken",
				"The access token is missing or invalid.");
		arm_reply_header(&reply, "www-authenticate", STR("Bearer"));
		api_finish(call, &reply);
	} else {
		serve_latest(call);
	}
}

void api_request(struct api *a, struct gateway_api_request *request)
{
	struct api_call *call = a->calls.n < CALLS_MAX ? calloc(1, sizeof *call) : NULL;
	struct arm_reply reply = {0};

	if (call == NULL) {
		arm_reply_error(&reply, 503, "ServerBusy", "Too many management requests are under way.");
		send_reply(a->control, request->id, &reply);
		arm_reply_done(&reply);
		gateway_api_free(request);
		return;
	}
	*call = (struct api_call){
		.api = a, .request = request, .deadline_ms = clock_boot_ms() + ANSWER_MS, .asks = 1};
	crypto_uuid(call->id);
	must(map_insert(&a->calls, &call->node, map_hash_u64(request->id)) == 0);
	handle(call);
}

/* -- Answers ------------------------------------------------------------------------------------------------- */

static void answer(struct api_call *call, uint16_t type, const void *body)
{
	struct api *a = call->api;
	struct arm_reply reply = {0};

	arm_answer(&a->arm, &call->outcome, a->control->state, type, body, &call->arena, &reply);
	api_finish(call, &reply);
}

void api_answered(struct api *a, const struct envelope *e)
{
	struct api_call *call = api_call_of(a, e->to.key);
	const struct codec_type *type = message_body_codec[e->type];
	void *body;

	if (call == NULL ||
	    !(call->proposed != NULL || call->waits || call->reads || call->owners_left > 0 ||
	      call->finds_left > 0 || call->asks_node || call->status != NULL) ||
	    type == NULL || e->correlation != call->asks)
		return;
	body = arena_alloc(&call->arena, type->size);
	must(body != NULL);
	if (codec_decode(e->body.p, e->body.n, type, &call->arena, body, NULL) < 0)
		return;
	if (call->relayed) {
		relay_answered(call, e->type, body);
	} else if (call->proposed != NULL) {
		const struct msg_proposed unknown = {.code = -EINPROGRESS};
		void (*proposed)(struct api_call *, const struct msg_proposed *) = call->proposed;

		call->proposed = NULL;
		proposed(call, e->type == MSG_PROPOSED ? body : &unknown);
	} else if (call->reads) {
		reads_answered(call, e->type == MSG_INDEXED ? body : NULL);
	} else if (call->owners_left > 0) {
		activity_answered(call, e->type, body);
	} else if (call->status != NULL) {
		status_answered(call, e->from.node, e->type == MSG_PULSED ? body : NULL);
	} else if (call->asks_node) {
		node_answer(call, e->type == MSG_HELD ? body : NULL);
	} else if (call->finds_left > 0) {
		const struct msg_logged none = {.code = -EHOSTUNREACH};

		tasks_found(call, e->from.node, e->type == MSG_LOGGED ? body : &none);
	} else if (e->type == MSG_LOGGED) {
		tasks_logged(call, body);
	} else if (call->streaming) {
		const struct msg_refused *refused = body;
		struct msg_logged piece = {.code = -EHOSTUNREACH, .message = refused->message};

		if (e->type == MSG_REFUSED)
			tasks_logged(call, &piece);
	} else if (call->again < AGAIN_MAX && arm_again(&call->outcome, e->type, body)) {
		call->again++;
		call->waits = false;
		serve_latest(call);
	} else if (arm_shown(a->control->state, e->type, body)) {
		answer(call, e->type, body);
	} else {
		call->held_type = e->type;
		call->held = body;
		call->deadline_ms = clock_boot_ms() + SHOWN_MS;
	}
}

void api_leader(struct api *a, uint64_t leader, uint64_t term)
{
	struct map_node *node = map_next(&a->calls, NULL), *next;

	a->arm.leader = leader;
	a->arm.term = term;
	for (; node != NULL && leader != 0; node = next) {
		next = map_next(&a->calls, node);
		reads_leader(container_of(node, struct api_call, node));
	}
}

static void turn_call(struct api *a, struct api_call *call, uint64_t now)
{
	struct arm_reply reply = {0};

	if (call->export != NULL) {
		export_tick(call, now);
	} else if (call->backing != NULL) {
		backup_tick(call, now);
	} else if (call->owners_left > 0) {
		if (now < call->deadline_ms)
			return;
		call->owners_left = 0;
		api_serve(call);
	} else if (call->status != NULL) {
		status_turn(call, now);
	} else if (call->asks_node) {
		if (now >= call->deadline_ms)
			node_answer(call, NULL);
	} else if (call->finds_left > 0) {
		if (now >= call->deadline_ms)
			tasks_found(call, 0, NULL);
	} else if (call->reads) {
		reads_turn(call, now);
	} else if (call->held_type != 0) {
		if (now >= call->deadline_ms || arm_shown(a->control->state, call->held_type, call->held))
			answer(call, call->held_type, call->held);
	} else if (call->waits && call->streaming && now >= call->deadline_ms) {
		gateway_api_end(a->control->gateway, call->request->id, false);
		api_drop(call);
	} else if (call->waits && now >= call->deadline_ms) {
		arm_reply_error(&reply, 504, "OperationTimedOut",
				"The cluster did not answer in time; the request may still be carried out.");
		api_finish(call, &reply);
	}
}

void api_turn(struct api *a)
{
	uint64_t now = clock_boot_ms();
	struct map_node *node = map_next(&a->calls, NULL);

	while (node != NULL) {
		struct map_node *next = map_next(&a->calls, node);

		turn_call(a, container_of(node, struct api_call, node), now);
		node = next;
	}
}
