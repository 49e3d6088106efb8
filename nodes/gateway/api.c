/* Requests for the management API: read whole, within a bound, handed to control, answered when it says so. */
#include "gateway/inside.h"

#include <errno.h>
#include <stdlib.h>

#include "core/arena.h"

#define ANSWER_MS     120000
#define BODIES_MAX    (64u << 20) /* of one loop: they are read before anybody looked at the token */
#define FOLLOW_QUEUED (1u << 20)  /* a reader of a streamed answer that lags by more is cut off */

static struct str keep(struct arena *a, struct str s)
{
	return s.p ? arena_str(a, s) : STR_NONE;
}

void gateway_api_free(struct gateway_api_request *request)
{
	struct arena *a;

	if (!request)
		return;
	a = request->memory;
	arena_done(a);
	free(a);
	free(request);
}

static bool api_match(const struct map_node *node, const void *key)
{
	return container_of(node, struct client, by_api)->api_id == *(const uint64_t *)key;
}

struct client *api_find(struct gw *gw, uint64_t id)
{
	struct map_node *node = map_find(&gw->apis, map_hash_u64(id), api_match, &id);

	return node ? container_of(node, struct client, by_api) : NULL;
}

static void release(struct client *c)
{
	c->gw->api_reserved -= c->api_reserved;
	c->api_reserved = 0;
}

static bool reserve(struct client *c, const struct request_facts *f)
{
	size_t n = f->f.body == BODY_LENGTH ? (size_t)f->f.length
		   : f->f.body == BODY_NONE ? 0
					    : GATEWAY_API_BODY_MAX;

	release(c);
	if (c->gw->api_reserved + n > BODIES_MAX)
		return false;
	c->gw->api_reserved += n;
	c->api_reserved = n;
	return true;
}

static void api_forget(struct client *c)
{
	release(c);
	if (c->api_id)
		map_remove(&c->gw->apis, &c->by_api);
	c->api_id = 0;
	c->api_more = false;
}

void api_client_gone(struct client *c)
{
	const struct gateway_config *config = &c->gw->gateway->config;

	if (c->api_id && config->api_gone)
		config->api_gone(config->arg, c->api_id);
	api_forget(c);
	gateway_api_free(c->api);
	c->api = NULL;
}

static void hand_over(struct client *c)
{
	const struct gateway_config *config = &c->gw->gateway->config;
	struct gateway_api_request *request = c->api;

	request->body = arena_str(request->memory, buf_str(&c->api_body));
	buf_done(&c->api_body); /* large for a connection that may be kept for long */
	request->id = (uint64_t)c->gw->index << 48 | (++c->gw->next_correlation & 0xffffffffffff);
	if (!request->body.p || map_insert(&c->gw->apis, &c->by_api, map_hash_u64(request->id))) {
		answer_retry(c, 503, "ServiceUnavailable", "no memory", 1);
		return;
	}
	c->api_id = request->id;
	c->api = NULL;
	client_wait(c, CLIENT_API);
	client_timer(c, ANSWER_MS);
	if (config->api(config->arg, request)) {
		gateway_api_free(request);
		api_forget(c);
		answer_retry(c, 503, "ServiceUnavailable", "the management API is too busy", 1);
	}
}

void api_begin(struct client *c, const struct request_facts *f, uint64_t pool, struct str path)
{
	struct gateway_api_request *r = calloc(1, sizeof *r);
	struct arena *a = calloc(1, sizeof *a);
	uid_t uid = (uid_t)-1;

	if (!r || !a) {
		free(r);
		free(a);
		answer_retry(c, 503, "ServiceUnavailable", "no memory", 1);
		return;
	}
	if (c->kind == CLIENT_ADMIN)
		stream_peer_uid(c->s, &uid);
	*r = (struct gateway_api_request){
		.peer = c->kind == CLIENT_ADMIN     ? PEER_ADMIN
			: c->kind == CLIENT_METRICS ? PEER_METRICS
			: c->kind == CLIENT_TLS     ? PEER_TLS
						    : PEER_PLAIN,
		.uid = uid,
		.method = keep(a, f->method),
		.path = keep(a, path),
		.query = keep(a, f->query),
		.host = keep(a, f->host),
		.authorization = keep(a, f->authorization),
		.content_type = keep(a, f->content_type),
		.accept = keep(a, f->accept),
		.client_request_id = f->return_client_request_id ? keep(a, f->client_request_id) : STR_NONE,
		.pool_uid = pool,
		.memory = a,
	};
	c->api = r;
	buf_clear(&c->api_body);
	c->api_body.max = GATEWAY_API_BODY_MAX;
	if (f->f.body == BODY_LENGTH && f->f.length > GATEWAY_API_BODY_MAX) {
		answer(c, 413, "RequestTooLarge", "the body must have at most 1 MiB");
		return;
	}
	if (!reserve(c, f)) {
		answer_retry(c, 503, "ServiceUnavailable", "too many large requests at once", 1);
		return;
	}
	if (c->request_body.done) {
		hand_over(c);
		return;
	}
	c->state = CLIENT_API_BODY;
	client_timer(c, c->gw->gateway->config.head_timeout_ms);
	if (f->expect_continue)
		stream_write_bytes(c->s, "HTTP/1.1 100 Continue\r\n\r\n", 25);
}

size_t api_body(struct client *c, const char *p, size_t n)
{
	size_t used = 0, k = 0;
	enum chunk_result r;
	struct str data;

	do {
		r = body_take(&c->request_body, p + used, n - used, &k, &data);
		used += k;
		if (r == CHUNK_DATA)
			buf_add_str(&c->api_body, data);
	} while (r == CHUNK_DATA && used < n && !c->request_body.done);
	if (r == CHUNK_BAD)
		answer(c, 400, "BadRequest", "the chunked body is malformed");
	else if (buf_failed(&c->api_body)) {
		c->request_body.done = false;
		buf_done(&c->api_body);
		answer(c, 413, "RequestTooLarge", "the body must have at most 1 MiB");
	} else if (c->request_body.done)
		hand_over(c);
	return used;
}

void api_replied(struct client *c, unsigned status, struct str headers, struct str body, bool more)
{
	if (c->state != CLIENT_API)
		return;
	if (more) {
		c->api_more = true;
		c->answer_begun = true;
		loop_timer_clear(&c->gw->loop, &c->timer);
		answer_raw(c, status, headers, body, true);
		stream_resume(c->s); /* to notice that it leaves */
		return;
	}
	api_forget(c);
	answer_raw(c, status, headers, body, false);
}

void api_drained(struct client *c)
{
	const struct gateway_config *config = &c->gw->gateway->config;

	if (c->api_more && config->api_taken)
		config->api_taken(config->arg, c->api_id);
}

void api_chunk(struct client *c, struct str bytes)
{
	if (!c->api_more)
		return;
	if (stream_queued(c->s) > FOLLOW_QUEUED) {
		client_close(c);
		return;
	}
	answer_chunk(c, bytes);
	if (!c->closed && !stream_queued(c->s))
		api_drained(c);
}

void api_end(struct client *c, bool whole)
{
	if (!c->api_more)
		return;
	api_forget(c);
	if (whole)
		answer_end(c);
	else
		client_close(c);
}
