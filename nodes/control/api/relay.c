#include "control/api/relay.h"

#include <errno.h>
#include <stdlib.h>

#include "control/feed/intake.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"

#define ANSWER_MS 35000 /* a little longer than a voter gives itself */
#define RELAYED   (1ull << 63)

/* -- A worker ----------------------------------------------------------------------------------------------------- */

static void refuse(struct api_call *call, int status, const char *code, const char *text)
{
	struct arm_reply reply = {0};

	arm_reply_error(&reply, status, code, "%s", text);
	if (status == 503)
		arm_reply_header(&reply, "retry-after", STR("1"));
	api_finish(call, &reply);
}

/* Images and tokens are this node's own business. */
static bool is_relayed(const struct gateway_api_request *q)
{
	return !str_eq(q->method, STR("GET")) && !str_eq(q->method, STR("HEAD")) &&
	       !str_starts(q->path, STR("/.berth/v1/images")) &&
	       !str_starts(q->path, STR("/.berth/v1/tokens"));
}

static bool fits(const struct gateway_api_request *q)
{
	const struct str parts[] = {q->path,         q->query,  q->host,
				    q->content_type, q->accept, q->client_request_id};

	for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
		if (parts[i].n > RELAY_TARGET_MAX)
			return false;
	}
	return q->method.n <= 32 && q->authorization.n <= 2 * RELAY_TARGET_MAX && q->body.n <= RELAY_BODY_MAX;
}

bool relay_begin(struct api_call *call)
{
	struct control *c = api_control(call->api);
	const struct gateway_api_request *q = call->request;
	struct address voter = {ADDRESS_CONTROL, c->intake == NULL ? 0 : intake_voter(c->intake), 0};
	struct msg_relay relay = {.method = q->method,
				  .path = q->path,
				  .query = q->query,
				  .host = q->host,
				  .authorization = q->authorization,
				  .content_type = q->content_type,
				  .accept = q->accept,
				  .client_request_id = q->client_request_id,
				  .tls = q->peer != PEER_PLAIN,
				  .pool = q->pool_uid,
				  .body = q->body};

	if (c->intake == NULL || !is_relayed(q))
		return false;
	if (q->peer == PEER_ADMIN && q->authorization.n == 0) {
		refuse(call, 403, "NotAVoter",
		       "This node is a worker: its admin socket does not change the cluster. Ask with a "
		       "token, or at a "
		       "voter's admin socket.");
	} else if (!fits(q)) {
		refuse(call, 413, "RequestTooLarge", "The request is too large for a worker: ask a voter.");
	} else if (voter.node == 0) {
		refuse(call, 503, "ServiceUnavailable", "No voter of the cluster can be reached.");
	} else {
		call->waits = call->relayed = true;
		call->deadline_ms = clock_boot_ms() + ANSWER_MS;
		api_send(call, voter, MSG_RELAY, &relay);
	}
	return true;
}

void relay_answered(struct api_call *call, uint16_t type, const void *body)
{
	const struct msg_relayed *relayed = body;
	struct gateway_api_reply out = {0};

	if (type != MSG_RELAYED || relayed->status < 200 || relayed->status > 599) {
		refuse(call, 503, "ServiceUnavailable", "The voter that was asked did not take the request.");
		return;
	}
	out.status = relayed->status;
	out.body = relayed->body;
	for (uint32_t i = 0; i < relayed->n_headers; i++)
		out.headers[out.n_headers++] =
			(struct gateway_header){relayed->headers[i].name, relayed->headers[i].value};
	gateway_api_reply(api_control(call->api)->gateway, call->request->id, &out);
	api_drop(call);
}

/* -- A voter ------------------------------------------------------------------------------------------------------ */

/* With id 0: a free one. */
static struct relay *relay_of(struct control *c, uint64_t id)
{
	if (c->relays == NULL)
		c->relays = calloc(RELAYS_MAX, sizeof *c->relays);
	must(c->relays != NULL);
	for (unsigned i = 0; i < RELAYS_MAX; i++) {
		if (c->relays[i].id == id)
			return &c->relays[i];
	}
	return NULL;
}

static struct gateway_api_request *request_of(const struct msg_relay *relay, uint64_t id)
{
	struct gateway_api_request *q = calloc(1, sizeof *q);
	struct arena *a = calloc(1, sizeof *a);

	must(q != NULL && a != NULL);
	*q = (struct gateway_api_request){.id = id,
					  .peer = relay->tls ? PEER_TLS : PEER_PLAIN,
					  .uid = (uid_t)-1,
					  .method = arena_str(a, relay->method),
					  .path = arena_str(a, relay->path),
					  .query = arena_str(a, relay->query),
					  .host = arena_str(a, relay->host),
					  .authorization = arena_str(a, relay->authorization),
					  .content_type = arena_str(a, relay->content_type),
					  .accept = arena_str(a, relay->accept),
					  .client_request_id = arena_str(a, relay->client_request_id),
					  .body = arena_str(a, relay->body),
					  .pool_uid = relay->pool,
					  .memory = a};
	return q;
}

void relay_question(struct control *c, const struct envelope *question)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct relay *relay = relay_of(c, 0);
	struct msg_relay ask;
	struct err err = {0};

	if (codec_decode(question->body.p, question->body.n, message_body_codec[MSG_RELAY], &arena, &ask,
			 &err) < 0) {
		control_complain(c, question->from.node, err.message);
		return;
	}
	if (c->intake != NULL || relay == NULL || str_eq(ask.method, STR("GET")) ||
	    str_eq(ask.method, STR("HEAD"))) {
		control_refuse(c, question, -EAGAIN, "it is not taken here");
		return;
	}
	*relay = (struct relay){RELAYED | ++c->relays_made, question->from, question->correlation};
	api_request(c->api, request_of(&ask, relay->id));
}

/* What does not fit was not made by us. */
static bool can_be_told(const struct gateway_api_reply *reply)
{
	for (unsigned i = 0; i < reply->n_headers; i++) {
		if (reply->headers[i].name.n > 256 || reply->headers[i].value.n > 4096)
			return false;
	}
	return reply->body.n <= RELAY_BODY_MAX;
}

void relay_reply(struct control *c, uint64_t id, const struct gateway_api_reply *reply)
{
	struct relay *r = relay_of(c, id);
	struct http_header headers[GATEWAY_HEADERS_MAX];
	struct msg_relayed relayed = {.status = reply->status, .headers = headers, .body = reply->body};
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e;

	must(r != NULL);
	for (unsigned i = 0; i < reply->n_headers; i++)
		headers[relayed.n_headers++] =
			(struct http_header){reply->headers[i].name, reply->headers[i].value};
	if (!can_be_told(reply))
		relayed = (struct msg_relayed){.status = 500};
	e = control_message(c, &bytes, r->asker, MSG_RELAYED, &relayed);
	e.correlation = r->correlation;
	r->id = 0;
	control_send(c, &e);
}
