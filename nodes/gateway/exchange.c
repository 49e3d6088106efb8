/* The middle of a request: its head and body go to the upstream, the answer comes back (response.c), or one of the two ends.
 * Nothing is sent again once a byte of the answer was there; before that, only what cannot have had an effect: a request
 * without a body on a kept connection that turned out dead, or one that another node's gateway refused unread. */
#include "gateway/inside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"

void body_begin(struct body_state *b, enum body_kind kind, uint64_t length)
{
	*b = (struct body_state){.kind = kind, .left = length, .done = kind == BODY_NONE};
}

enum chunk_result body_take(struct body_state *b, const char *p, size_t n, size_t *ret_used,
			    struct str *ret_data)
{
	enum chunk_result r = CHUNK_DATA;
	size_t take = n;

	*ret_used = 0;
	if (b->done)
		return CHUNK_END;
	if (b->kind == BODY_CHUNKED) {
		r = chunk_scan(&b->chunk, p, n, ret_used, ret_data);
		b->done = r == CHUNK_END;
		return r;
	}
	if (b->kind == BODY_LENGTH) {
		take = n < b->left ? n : (size_t)b->left;
		b->left -= take;
		b->done = b->left == 0;
	}
	*ret_used = take;
	*ret_data = (struct str){p, take};
	return r;
}

void exchange_begin(struct client *c)
{
	struct gw *gw = c->gw;
	bool hop = c->kind == CLIENT_NODE || !c->session->local;

	stream_unsent(c->s, hop ? HOP_UNSENT_BYTES : STREAM_UNSENT_BYTES);
	stream_unsent(c->u->s, hop ? HOP_UNSENT_BYTES : STREAM_UNSENT_BYTES);
	c->state = CLIENT_EXCHANGE;
	c->head.n = c->head_n;
	if (c->session->local) {
		buf_add_str(&c->head, STR("\r\n"));
	} else {
		hop_format(&c->head, gw->gateway->config.incarnation, c->session);
		count(&gw->counters.forwarded, 1);
	}
	c->head_pending = true;
	client_timer(c, c->idle_ms);
}

/* False: the upstream is gone and the client has been dealt with. */
static bool to_upstream(struct client *c, const struct iovec *iov, int n)
{
	int r = stream_write(c->u->s, iov, n);

	if (r < 0) {
		exchange_upstream_lost(c, r);
		return false;
	}
	if (r == STREAM_QUEUED)
		client_excuse(c);
	return true;
}

static void keep_body(struct client *c, const char *p, size_t n)
{
	if (c->session->local || c->kept_overflow)
		return;
	if (c->kept.n + n > STASH_MAX) {
		c->kept_overflow = true;
		buf_clear(&c->kept);
		return;
	}
	buf_add(&c->kept, p, n);
}

void exchange_flush(struct client *c)
{
	struct iovec iov[2] = {{c->head.p, c->head.n}, {c->kept.p, c->kept.n}};

	c->head_pending = false;
	to_upstream(c, iov, c->kept.n ? 2 : 1);
}

static size_t send_length(struct client *c, const char *p, size_t n)
{
	struct iovec iov[2];
	struct str data;
	size_t used;
	int k = 0;

	body_take(&c->request_body, p, n, &used, &data);
	if (c->head_pending)
		iov[k++] = (struct iovec){c->head.p, c->head.n};
	iov[k++] = (struct iovec){(void *)(uintptr_t)data.p, data.n};
	c->head_pending = false;
	keep_body(c, data.p, data.n);
	to_upstream(c, iov, k);
	return used;
}

/* All chunks of one read go on as one: extensions, trailers and odd sizes do not pass. */
static size_t send_chunks(struct client *c, const char *p, size_t n)
{
	struct buf *out = &c->gw->out;
	enum chunk_result r = CHUNK_MORE;
	size_t used = 0, k, data_at;
	struct str data;
	char size[20];

	buf_clear(out);
	buf_add(out, "00000000\r\n", 10);
	data_at = out->n;
	do {
		r = body_take(&c->request_body, p + used, n - used, &k, &data);
		used += k;
		if (r == CHUNK_DATA)
			buf_add_str(out, data);
	} while (r == CHUNK_DATA && used < n);
	if (r == CHUNK_BAD || buf_failed(out)) {
		answer(c, 400, "BadRequest", "the chunked body is malformed");
		return n;
	}
	snprintf(size, sizeof size, "%08zx", out->n - data_at);
	memcpy(out->p, size, 8);
	size_t from = out->n > data_at ? 0 : data_at;
	if (from == 0)
		buf_add_str(out, STR("\r\n"));
	if (c->request_body.done)
		buf_add_str(out, STR("0\r\n\r\n"));
	keep_body(c, out->p + from, out->n - from);
	struct iovec iov[2] = {{c->head.p, c->head_pending ? c->head.n : 0}, {out->p + from, out->n - from}};
	c->head_pending = false;
	to_upstream(c, iov, 2);
	return used;
}

size_t exchange_body(struct client *c, const char *p, size_t n)
{
	if (c->request_body.done || !c->u)
		return 0;
	if (c->head_pending && c->kept.n) /* sent again: what was sent before goes first */
		exchange_flush(c);
	if (c->closed || !c->u || c->state != CLIENT_EXCHANGE)
		return 0;
	client_timer(c, c->idle_ms);
	return c->request_body.kind == BODY_CHUNKED ? send_chunks(c, p, n) : send_length(c, p, n);
}

void exchange_tunnel_alive(struct client *c)
{
	uint64_t ms = c->gw->gateway->config.tunnel_idle_ms, now = clock_wall_ms();
	uint64_t end = (c->token_until_s + TOKEN_GRACE_S) * 1000;

	c->tunnel_ms = clock_boot_ms();
	if (c->token_until_s && end < now + ms)
		ms = end > now ? end - now : 1;
	client_timer(c, ms);
}

size_t exchange_tunnel(struct client *c, const char *p, size_t n)
{
	struct iovec iov = {(void *)(uintptr_t)p, n};

	if (!c->u)
		return n;
	exchange_tunnel_alive(c);
	to_upstream(c, &iov, 1);
	return n;
}

void exchange_done(struct client *c, bool upstream_reusable)
{
	struct upstream *u = c->u;

	c->u = NULL;
	if (c->session)
		c->session->served = true;
	session_leave(c);
	if (u) {
		u->c = NULL;
		upstream_put(u, upstream_reusable && c->request_body.done && !stream_queued(u->s));
	}
	client_next(c);
}

void exchange_abort(struct client *c)
{
	struct upstream *u = c->u;

	session_wait_over(c);
	upstream_forget_dial(c);
	if (loop_link_in(&c->tunnel))
		loop_list_remove(&c->tunnel);
	c->head_pending = false;
	c->u = NULL;
	session_leave(c);
	if (u) {
		u->c = NULL;
		upstream_close(u);
	}
}

static bool can_repeat(const struct client *c, const struct upstream *u)
{
	return u->reused && c->facts.replayable && !c->interims && c->tries < TRIES_MAX;
}

void exchange_upstream_lost(struct client *c, int error)
{
	struct upstream *u = c->u;

	if (c->state == CLIENT_TUNNEL) {
		if (error == 0 && !c->tunnel_client_eof) {
			c->tunnel_upstream_eof = true;
			stream_shutdown(c->s);
			return;
		}
		exchange_abort(c);
		c->keep = false;
		client_next(c); /* sends what is queued */
		return;
	}
	if (c->answer_begun && error == 0 && c->answer_body.kind == BODY_TO_END) {
		response_end(c);
		return;
	}
	if (!c->answer_begun && can_repeat(c, u)) {
		c->u = NULL;
		u->c = NULL;
		upstream_close(u);
		c->tries++;
		upstream_get(c);
		client_continue(c);
		return;
	}
	answer(c, 502, "BadGateway", "the session closed the connection before its answer was whole");
}
