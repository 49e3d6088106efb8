/* One connection from outside: cuts what comes into requests, one after the other, and hands their parts on by state.
 * Invariants: `in` holds only what could not be taken yet and is bounded, since the stream is paused when it is long;
 * nothing of a next request is taken before the answer to the last one is out. */
#include "gateway/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"

#define REFUSED_MS 60000
#define IDLE_BYTES 8192 /* of buffers that a connection keeps between requests */

void client_timer(struct client *c, uint64_t ms)
{
	loop_timer_set(&c->gw->loop, &c->timer, ms);
}

void client_close(struct client *c)
{
	if (c->closed)
		return;
	exchange_abort(c);
	account_leave(c);
	api_client_gone(c);
	c->closed = true;
	loop_timer_clear(&c->gw->loop, &c->timer);
	loop_timer_clear(&c->gw->loop, &c->pace);
	stream_close(c->s);
}

/* --- too slow --- */

void client_excuse(struct client *c)
{
	c->excused = true;
	stream_pause(c->s);
}

void client_wait(struct client *c, enum client_state state)
{
	c->state = (uint8_t)state;
	client_excuse(c);
}

static bool upstream_is_slower(const struct client *c)
{
	return c->u && stream_queued(c->u->s) > 0;
}

/* The bytes of a body that it sends or takes must come to rate_min over each stall_ms, as long as nothing but the client is
 * waited for. Small answers and requests never arm this. Nodes keep their own clients' pace. */
static void pace_begin(struct client *c)
{
	const struct gateway_config *config = &c->gw->gateway->config;

	if (!config->rate_min || c->kind == CLIENT_NODE || c->kind == CLIENT_ADMIN)
		return;
	c->paced = c->received + stream_acked(c->s);
	c->excused = upstream_is_slower(c);
	loop_timer_set(&c->gw->loop, &c->pace, config->stall_ms);
}

static void pace_over(struct loop_timer *timer)
{
	struct client *c = container_of(timer, struct client, pace);
	const struct gateway_config *config = &c->gw->gateway->config;
	bool sends = (c->state == CLIENT_EXCHANGE || c->state == CLIENT_API_BODY) && !c->request_body.done;
	bool takes = stream_queued(c->s) > 0;
	uint64_t moved = c->received + stream_acked(c->s) - c->paced;
	bool asked = !c->facts.expect_continue || c->interims || moved;
	bool owes = (sends && !c->answer_begun && asked && !c->excused && !upstream_is_slower(c)) || takes;

	if (owes && moved < (uint64_t)config->rate_min * config->stall_ms / 1000) {
		count(&c->gw->counters.too_slow, 1);
		if (takes || c->answer_begun)
			client_close(c);
		else
			answer(c, 408, "RequestTimeout", "the body came too slowly");
	} else if (sends || takes || !c->request_body.done) {
		pace_begin(c);
	}
}

bool client_write(struct client *c, const struct iovec *iov, int n, struct upstream *source)
{
	int r;

	if (c->closed)
		return false;
	for (int i = 0; i < n; i++)
		count(&c->gw->counters.bytes_out, iov[i].iov_len);
	r = stream_write(c->s, iov, n);
	if (r < 0) {
		client_close(c);
		return false;
	}
	if (r == STREAM_QUEUED && source)
		stream_pause(source->s);
	if (r == STREAM_QUEUED && !loop_timer_armed(&c->pace))
		pace_begin(c);
	return true;
}

/* --- taking bytes --- */

/* Where the request would end is not known: the connection ends with the answer. */
static void refuse_head(struct client *c, unsigned status, const char *message)
{
	memset(&c->facts, 0, sizeof c->facts);
	c->facts.minor = 1;
	body_begin(&c->request_body, BODY_TO_END, 0);
	c->answer_begun = false;
	answer(c, status, status == 408 ? "RequestTimeout" : "BadRequest", message);
}

static void bad_head(struct client *c, long result)
{
	static const struct {
		unsigned status;
		const char *message;
	} table[] = {
		[-SCAN_BAD] = {400, "the request head is malformed"},
		[-SCAN_TOO_LARGE] = {431,
				     "the request head is larger than 32 KiB or has more than 100 fields"},
		[-SCAN_LONG_TARGET] = {414, "the request target is longer than 8 KiB"},
		[-SCAN_VERSION] = {505, "only HTTP/1.0 and HTTP/1.1 are supported"},
	};

	refuse_head(c, table[-result].status, table[-result].message);
}

static size_t take_head(struct client *c, const char *p, size_t n)
{
	long r;

	if (p[0] == '\r') /* an empty line before a request is ignored (RFC 9112, 2.2) */
		if (n < 2 || p[1] == '\n')
			return n < 2 ? 0 : 2;
	r = c->kind == CLIENT_NODE ? scan_hop_request(p, n, &c->gw->head) : scan_request(p, n, &c->gw->head);
	if (r == SCAN_MORE) {
		if (!c->head_begun)
			client_timer(c, c->gw->gateway->config.head_timeout_ms);
		c->head_begun = true;
		return 0;
	}
	if (r < 0) {
		bad_head(c, r);
		return n;
	}
	count(&c->gw->counters.requests, 1);
	request_begin(c, &c->gw->head);
	return (size_t)r;
}

static size_t take(struct client *c, const char *p, size_t n)
{
	size_t used = 0, k = 1;

	c->taking = true;
	while (!c->closed && used < n && k) {
		switch ((enum client_state)c->state) {
		case CLIENT_HEAD:
			k = stream_queued(c->s) > UNSENT_MAX ? 0 : take_head(c, p + used, n - used);
			break;
		case CLIENT_EXCHANGE:
			k = exchange_body(c, p + used, n - used);
			break;
		case CLIENT_TUNNEL:
			k = exchange_tunnel(c, p + used, n - used);
			break;
		case CLIENT_API_BODY:
			k = api_body(c, p + used, n - used);
			break;
		case CLIENT_SESSION:
		case CLIENT_CONNECT:
		case CLIENT_API:
			k = 0;
			break;
		case CLIENT_DONE:
			k = n - used;
			break;
		}
		used += k;
	}
	c->taking = false;
	return used;
}

static void took(struct client *c)
{
	if (!c->closed && c->state == CLIENT_EXCHANGE && c->head_pending)
		exchange_flush(c);
	if (!c->closed && !c->request_body.done && !loop_timer_armed(&c->pace) &&
	    (c->state == CLIENT_EXCHANGE || c->state == CLIENT_API_BODY))
		pace_begin(c);
	if (!c->closed && c->in.n >= STASH_MAX)
		client_excuse(c);
	if (!c->closed && buf_failed(&c->in))
		client_close(c);
}

static void take_stash(struct client *c)
{
	size_t used = c->in.n ? take(c, c->in.p, c->in.n) : 0;

	if (!c->closed)
		buf_drop(&c->in, used);
	took(c);
}

void client_continue(struct client *c)
{
	if (c->taking || c->closed || c->state == CLIENT_SESSION || c->state == CLIENT_CONNECT ||
	    c->state == CLIENT_API)
		return;
	stream_resume(c->s);
	take_stash(c);
}

static void client_data(struct stream *s, void *arg, const char *p, size_t n)
{
	struct client *c = arg;
	size_t used;

	(void)s;
	count(&c->gw->counters.bytes_in, n);
	c->received += n;
	if (c->in.n) {
		buf_add(&c->in, p, n);
		take_stash(c);
		return;
	}
	used = take(c, p, n);
	if (!c->closed && used < n)
		buf_add(&c->in, p + used, n - used);
	took(c);
}

/* One large request must not keep its memory for as long as the connection idles. */
static void shrink(struct client *c)
{
	buf_done(&c->head);
	buf_done(&c->kept);
	if (!c->in.n)
		buf_done(&c->in);
}

void client_next(struct client *c)
{
	account_leave(c);
	if (c->closed)
		return;
	if (!c->keep || c->gw->stopping) {
		c->state = CLIENT_DONE;
		loop_timer_clear(&c->gw->loop, &c->timer);
		stream_finish(c->s, FINISH_MS);
		return;
	}
	c->state = CLIENT_HEAD;
	c->head_begun = false;
	stream_message(c->s);
	if (c->head.capacity + c->in.capacity + c->kept.capacity > IDLE_BYTES)
		shrink(c);
	client_timer(c, c->gw->gateway->config.keep_alive_ms);
	client_continue(c);
}

/* --- the stream's other callbacks --- */

/* Somebody at the port of forwarded requests who is no node: once a minute. */
static void refused(struct client *c, const char *why)
{
	uint64_t now = loop_now(&c->gw->loop);

	if (c->kind != CLIENT_NODE || (c->gw->refused_ms != 0 && now - c->gw->refused_ms < REFUSED_MS))
		return;
	c->gw->refused_ms = now;
	log_warn("a client of the port for forwarded requests was cut off: %s", why);
}

/* The handshake is done. The cluster's CA also signs certificates for clients' TLS: these name no node. */
static void client_open(struct stream *s, void *arg)
{
	struct client *c = arg;
	struct tls_identity node = {0};

	if (c->kind == CLIENT_NODE && stream_identity(s, &node) < 0) {
		refused(c, "its certificate is not a node's");
		client_close(c);
		return;
	}
	c->node = node.node;
	client_timer(c, c->gw->gateway->config.head_timeout_ms);
}

static void client_eof(struct stream *s, void *arg)
{
	struct client *c = arg;

	(void)s;
	c->eof = true;
	if (c->state == CLIENT_TUNNEL && c->u && !c->tunnel_upstream_eof) {
		c->tunnel_client_eof = true;
		stream_shutdown(c->u->s);
	} else {
		if (c->state == CLIENT_TUNNEL && c->u)
			c->u->flush = true;
		client_close(c); /* whoever asked no longer listens */
	}
}

static void client_error(struct stream *s, void *arg, int error)
{
	const char *why = error == -EPROTO ? stream_refusal(s) : NULL;

	if (why != NULL)
		refused(arg, why);
	client_close(arg);
}

static void client_drain(struct stream *s, void *arg)
{
	struct client *c = arg;

	(void)s;
	if (c->u)
		stream_resume(c->u->s);
	else if (c->state == CLIENT_HEAD)
		client_continue(c);
	else
		api_drained(c);
}

/* NULL: not counted. */
static struct crowd *crowd_of(const struct gw *gw, enum client_kind kind)
{
	return kind == CLIENT_ADMIN                            ? NULL
	       : kind == CLIENT_NODE || kind == CLIENT_METRICS ? gw->gateway->others
							       : gw->gateway->clients;
}

static void client_closed(struct stream *s, void *arg)
{
	struct client *c = arg;
	struct crowd *crowd = crowd_of(c->gw, (enum client_kind)c->kind);

	if (!c->closed) { /* after stream_finish */
		c->closed = true;
		exchange_abort(c);
		api_client_gone(c);
		loop_timer_clear(&c->gw->loop, &c->timer);
	}
	loop_timer_clear(&c->gw->loop, &c->pace);
	account_drop(c);
	loop_list_remove(&c->link);
	if (crowd)
		crowd_leave(crowd, stream_peer(s));
	count(&c->gw->counters.connections_open, (uint64_t)-1);
	buf_done(&c->in);
	buf_done(&c->head);
	buf_done(&c->kept);
	buf_done(&c->api_body);
	free(c);
}

static void client_late(struct loop_timer *timer)
{
	struct client *c = container_of(timer, struct client, timer);
	bool unasked;

	switch ((enum client_state)c->state) {
	case CLIENT_HEAD:
		if (stream_queued(c->s) && loop_timer_armed(&c->pace)) { /* still takes its answer */
			client_timer(c, c->gw->gateway->config.keep_alive_ms);
			break;
		}
		if (c->in.n) {
			refuse_head(c, 408, "the request's head did not come in time");
			break;
		}
		client_close(c);
		break;
	case CLIENT_API_BODY:
		answer(c, 408, "RequestTimeout", "the request's body did not come in time");
		break;
	case CLIENT_SESSION:
		if (c->away) {
			session_try_again(c);
			break;
		}
		unasked = c->unasked != NULL;
		session_wait_over(c);
		if (c->kind == CLIENT_NODE)
			answer_hop(c, "again");
		else if (unasked)
			answer_retry(c, 429, "TooManyRequests",
				     "too many first requests to this pool came before", 1);
		else
			answer_retry(c, 503, "SessionUnavailable", "no session was ready in time", 1);
		break;
	case CLIENT_CONNECT:
		if (c->u)
			answer_retry(c, 503, "SessionUnavailable", "the session's node takes no connection",
				     1);
		else
			answer_retry(c, 503, "SessionBusy", "no connection to the session was free in time",
				     1);
		break;
	case CLIENT_EXCHANGE:
		answer(c, 504, "GatewayTimeout", "the session did not answer in time");
		break;
	case CLIENT_API:
		api_client_gone(c); /* a reply that comes later finds nobody */
		answer_retry(c, 503, "ServiceUnavailable", "the management API did not answer in time", 1);
		break;
	case CLIENT_TUNNEL:
	case CLIENT_DONE:
		client_close(c);
		break;
	}
}

static const struct stream_ops client_ops = {
	.on_open = client_open,
	.on_data = client_data,
	.on_drain = client_drain,
	.on_eof = client_eof,
	.on_error = client_error,
	.on_closed = client_closed,
};

static void parted(struct stream *s, void *arg)
{
	(void)s;
	((struct gw *)arg)->n_parting--;
}

/* Some of those who are too many are told so; a handshake for that would cost more than serving them. */
static void turn_away(struct gw *gw, struct stream *s, enum client_kind kind, int error)
{
	static const struct stream_ops parting_ops = {.on_closed = parted};
	static const char all[] =
		"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nRetry-After: "
		"1\r\nConnection: close\r\nContent-Length: 94\r\n\r\n"
		"{\"error\":{\"code\":\"TooManyConnections\",\"message\":\"this node has connections_max "
		"connections\"}}\n";
	static const char address[] =
		"HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nRetry-After: "
		"1\r\nConnection: close\r\nContent-Length: 105\r\n\r\n"
		"{\"error\":{\"code\":\"TooManyConnections\",\"message\":\"this address has "
		"address_connections_max "
		"connections\"}}\n";

	count(&gw->counters.refused_connections, 1);
	if (kind != CLIENT_PLAIN || gw->n_parting >= PARTING_MAX) {
		stream_close(s);
		return;
	}
	gw->n_parting++;
	stream_set(s, &parting_ops, gw);
	if (error == -EUSERS)
		stream_write_bytes(s, address, sizeof address - 1);
	else
		stream_write_bytes(s, all, sizeof all - 1);
	stream_finish(s, PARTING_MS);
}

void client_accepted(struct gw *gw, struct stream *s, enum client_kind kind)
{
	struct crowd *crowd = crowd_of(gw, kind);
	int r = crowd ? crowd_enter(crowd, stream_peer(s)) : 0;
	struct client *c = r ? NULL : calloc(1, sizeof *c);

	if (!c) {
		if (!r && crowd)
			crowd_leave(crowd, stream_peer(s));
		turn_away(gw, s, kind, r);
		return;
	}
	c->gw = gw;
	c->s = s;
	c->kind = (uint8_t)kind;
	c->state = CLIENT_HEAD;
	c->timer.fire = client_late;
	c->pace.fire = pace_over;
	c->request_body.done = true;
	c->facts.minor = 1;
	loop_list_add(&gw->clients, &c->link);
	count(&gw->counters.connections, 1);
	count(&gw->counters.connections_open, 1);
	stream_set(s, &client_ops, c);
	if (kind == CLIENT_NODE)
		stream_receive_buffer(s, HOP_RECEIVE_BYTES);
	else if (gw->gateway->config.receive_buffer)
		stream_receive_buffer(s, gw->gateway->config.receive_buffer);
	client_timer(c, kind == CLIENT_TLS || (kind == CLIENT_NODE && gw->gateway->config.peer_server)
				? gw->gateway->config.handshake_ms
				: gw->gateway->config.head_timeout_ms);
}
