/* The answer on its way back. What a sandbox sends is hostile: a head that is malformed, endless or ambiguous, too many
 * interim answers, an upgrade nobody asked for give 502 and end that connection; bytes behind an answer end it too. */
#include "gateway/inside.h"

#include <stdio.h>
#include <string.h>

#include "core/log.h"

#define FLAT_MAX 16384 /* a body slice up to here is copied behind the head rather than gathered */

static void bad_response(struct client *c, const char *why)
{
	log_debug("sandbox's answer refused: %s", why);
	answer(c, 502, "BadGateway", "the session sent an answer that is not valid HTTP");
}

/* --- the body --- */

struct body_out {
	size_t used;
	bool bad;
};

static struct body_out pass_chunks(struct client *c, struct buf *out, const char *p, size_t n)
{
	size_t at = out->n, k, begin = c->rechunk ? at + 10 : at;
	struct body_out o = {0};
	enum chunk_result r;
	struct str data;
	char size[20];

	if (c->rechunk)
		buf_add(out, "00000000\r\n", 10);
	do {
		r = body_take(&c->answer_body, p + o.used, n - o.used, &k, &data);
		o.used += k;
		if (r == CHUNK_DATA)
			buf_add_str(out, data);
	} while (r == CHUNK_DATA && o.used < n);
	o.bad = r == CHUNK_BAD || buf_failed(out);
	if (!c->rechunk || o.bad)
		return o;
	if (out->n == begin) {
		out->n = at;
	} else {
		snprintf(size, sizeof size, "%08zx", out->n - begin);
		memcpy(out->p + at, size, 8);
		buf_add_str(out, STR("\r\n"));
	}
	if (c->answer_body.done)
		buf_add_str(out, STR("0\r\n\r\n"));
	return o;
}

/* Writes what is in `out` and the part of p[0..n) that is this answer's. *ret_used: of p. False: c is done for. */
static bool pass(struct client *c, struct buf *out, const char *p, size_t n, size_t *ret_used)
{
	struct iovec iov[2] = {{0}};
	bool head_here = out->n > 0; /* nothing of the answer was sent yet */
	int k = 1;

	*ret_used = 0;
	if (!c->answer_body.done && n && c->rechunk && c->answer_body.kind == BODY_TO_END) {
		buf_printf(out, "%zx\r\n", n);
		buf_add(out, p, n);
		buf_add_str(out, STR("\r\n"));
		*ret_used = n;
	} else if (!c->answer_body.done && n && c->answer_body.kind == BODY_CHUNKED) {
		struct body_out o = pass_chunks(c, out, p, n);
		if (o.bad) {
			c->answer_begun = !head_here;
			answer(c, 502, "BadGateway", "the session's answer has a malformed body");
			return false;
		}
		*ret_used = o.used;
	} else if (!c->answer_body.done && n) {
		struct str data;
		body_take(&c->answer_body, p, n, ret_used, &data);
		if (out->n && data.n <= FLAT_MAX)
			buf_add_str(out, data);
		else
			iov[k++] = (struct iovec){(void *)(uintptr_t)data.p, data.n};
	}
	iov[0] = (struct iovec){out->p, out->n};
	return client_write(c, iov, k, c->u);
}

static void after_body(struct client *c, bool surplus)
{
	if (c->answer_body.done)
		exchange_done(c, !surplus && c->keep_upstream);
}

void response_end(struct client *c)
{
	struct buf *out = &c->gw->out;

	buf_clear(out);
	c->answer_body.done = true;
	if (c->rechunk)
		buf_add_str(out, STR("0\r\n\r\n"));
	struct iovec iov = {out->p, out->n};
	if (client_write(c, &iov, 1, NULL))
		exchange_done(c, false);
}

/* --- the head --- */

static void tunnel_begin(struct client *c)
{
	c->state = CLIENT_TUNNEL;
	c->keep = false;
	c->request_body.done = true;
	if (c->session && c->session->local)
		loop_list_add(&c->session->tunnels, &c->tunnel);
	session_tunnel(c);
	count(&c->gw->counters.tunnels, 1);
	exchange_tunnel_alive(c);
}

static void frame_answer(struct client *c, const struct response_facts *f)
{
	bool to_old = c->facts.minor == 0;

	body_begin(&c->answer_body, f->f.body, f->f.length);
	c->answer_begun = true;
	c->keep_upstream = f->f.keep;
	c->keep = c->facts.f.keep && c->request_body.done && !c->gw->stopping;
	c->rechunk = (f->f.body == BODY_CHUNKED || f->f.body == BODY_TO_END) && !to_old;
	if ((f->f.body == BODY_CHUNKED || f->f.body == BODY_TO_END) && to_old)
		c->keep = false;
}

/* The other gateway did not pass the request on. */
static void hop_refused(struct client *c, struct str result)
{
	if (str_eq(result, STR("dead")))
		session_unusable(c, true);
	else if (str_eq(result, STR("stale")))
		session_unusable(c, false);
	else
		session_away(c, "the session's node is not ready");
}

/* Bytes of the head at p; 0: not whole, or c is no longer in this exchange. */
static size_t take_head(struct client *c, struct buf *out, const char *p, size_t n)
{
	struct scan_head *head = &c->gw->head;
	enum head_side side = c->session->local ? HEAD_FROM_CLIENT : HEAD_FROM_NODE;
	struct response_facts f;
	const char *why = "a malformed head";
	long r = c->session->local ? scan_response(p, n, head) : scan_hop_response(p, n, head);

	if (r == SCAN_MORE)
		return 0;
	if (r < 0 || head_check_response(head, &c->facts, side, &f, &why)) {
		bad_response(c, why);
		return 0;
	}
	if (f.hop.n) {
		hop_refused(c, f.hop);
		return 0;
	}
	if (f.status == 101 && !c->request_body.done) { /* the rest of its body would be the tunnel's */
		bad_response(c, "an upgrade before the request was whole");
		return 0;
	}
	if (f.interim) {
		if (++c->interims > INTERIM_MAX) {
			bad_response(c, "too many interim answers");
			return 0;
		}
		if (c->facts.minor == 1)
			rewrite_response(c, head, &f, out);
		return (size_t)r;
	}
	frame_answer(c, &f);
	rewrite_response(c, head, &f, out);
	if (f.status == 101)
		tunnel_begin(c);
	return (size_t)r;
}

static void tunnel_data(struct client *c, const char *p, size_t n)
{
	struct iovec iov = {(void *)(uintptr_t)p, n};

	exchange_tunnel_alive(c);
	if (n)
		client_write(c, &iov, 1, c->u);
}

/* Heads until the final one; *ret_used of p. False: not there yet, or c left the exchange. */
static bool heads(struct client *c, struct buf *out, const char *p, size_t n, size_t *ret_used)
{
	size_t k;

	*ret_used = 0;
	while (*ret_used < n && !c->answer_begun) {
		k = take_head(c, out, p + *ret_used, n - *ret_used);
		*ret_used += k;
		if (k == 0)
			return false;
	}
	return c->answer_begun;
}

static void write_interims(struct client *c, struct buf *out)
{
	struct iovec iov = {out->p, out->n};

	if (out->n)
		client_write(c, &iov, 1, NULL);
}

static void response_body(struct client *c, struct buf *out, const char *p, size_t n)
{
	size_t used;

	if (c->state == CLIENT_TUNNEL) {
		struct iovec iov[2] = {{out->p, out->n}, {(void *)(uintptr_t)p, n}};
		if (client_write(c, iov, n ? 2 : 1, c->u))
			client_continue(c); /* what the client sent behind its head */
		return;
	}
	if (pass(c, out, p, n, &used))
		after_body(c, used < n);
}

void response_data(struct upstream *u, const char *p, size_t n)
{
	struct client *c = u->c;
	struct buf *out = &c->gw->out;
	size_t used = 0;

	if (c->state == CLIENT_TUNNEL) {
		tunnel_data(c, p, n);
		return;
	}
	buf_clear(out);
	if (c->answer_begun) {
		client_timer(c, c->idle_ms);
		response_body(c, out, p, n);
		return;
	}
	if (u->in.n) {
		buf_add(&u->in, p, n);
		p = u->in.p;
		n = u->in.n;
	}
	bool final = heads(c, out, p, n, &used);
	if (c->closed || c->u != u)
		return;
	if (used &&
	    c->state == CLIENT_EXCHANGE) /* a whole head counts as a sign of life; its single bytes do not */
		client_timer(c, c->idle_ms);
	if (final) {
		struct buf in = u->in; /* p may point into it, and what follows may free the upstream's */
		u->in = (struct buf){0};
		response_body(c, out, p + used, n - used);
		buf_done(&in);
		return;
	}
	write_interims(c, out);
	if (c->closed || c->u != u)
		return;
	if (u->in.n)
		buf_drop(&u->in, used);
	else
		buf_add(&u->in, p + used, n - used);
}
