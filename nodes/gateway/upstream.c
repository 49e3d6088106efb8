/* Connections to sandboxes and to other nodes' gateways: kept, counted, bounded per place; who finds none free waits.
 * A connection that says anything while it is idle is closed: the next answer could not be told from it. */
#include "gateway/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"

/* Handshakes with one node at once. A crowd that comes together is served sooner by the first connections that open
 * than by one of its own each, whose handshakes would all end late. */
#define OPENING_MAX 32

struct dialing {
	struct gw *gw;
	struct client *c;        /* NULL: it left */
	struct session *session; /* counted */
};

void conns_init(struct conns *conns, unsigned max)
{
	loop_list_init(&conns->all);
	loop_list_init(&conns->idle);
	loop_list_init(&conns->waiting);
	conns->n = conns->opening = 0;
	conns->max = max;
}

/* --- connections to nodes --- */

static bool peer_match(const struct map_node *node, const void *key)
{
	return container_of(node, struct peer, by_node)->node == *(const uint64_t *)key;
}

static struct peer *peer_get(struct gw *gw, uint64_t node)
{
	struct map_node *found = map_find(&gw->peers, map_hash_u64(node), peer_match, &node);
	struct peer *peer;

	if (found)
		return container_of(found, struct peer, by_node);
	peer = calloc(1, sizeof *peer);
	if (!peer)
		return NULL;
	peer->node = node;
	conns_init(&peer->conns, gw->gateway->config.peer_connections_max);
	if (map_insert(&gw->peers, &peer->by_node, map_hash_u64(node))) {
		free(peer);
		return NULL;
	}
	return peer;
}

void upstream_peers_done(struct gw *gw)
{
	struct map_node *node;

	while ((node = map_next(&gw->peers, NULL))) {
		map_remove(&gw->peers, node);
		free(container_of(node, struct peer, by_node));
	}
	map_done(&gw->peers);
}

/* --- handing connections to clients --- */

static void attach(struct upstream *u, struct client *c)
{
	if (loop_link_in(&u->link_idle))
		loop_list_remove(&u->link_idle);
	u->c = c;
	c->u = u;
}

static void connect_for(struct client *c, struct conns *conns);

/* A place became free, or a connection. */
static void serve_waiting(struct conns *conns, struct upstream *u)
{
	struct client *c;

	if (loop_list_empty(&conns->waiting))
		return;
	c = container_of(conns->waiting.next, struct client, waiting);
	loop_list_remove(&c->waiting);
	if (!u) {
		connect_for(c, conns);
		return;
	}
	u->reused = true;
	attach(u, c);
	exchange_begin(c);
	client_continue(c);
}

void upstream_put(struct upstream *u, bool reusable)
{
	if (!reusable || u->closing || (u->session && u->session->state == SESSION_ENDED)) {
		upstream_close(u);
		return;
	}
	u->idle_since_ms = loop_now(&u->gw->loop);
	stream_message(u->s);
	stream_resume(u->s);
	if (loop_list_empty(&u->conns->waiting))
		loop_list_add(&u->conns->idle, &u->link_idle);
	else
		serve_waiting(u->conns, u);
}

void upstream_close(struct upstream *u)
{
	if (u->closing)
		return;
	u->closing = true;
	if (loop_link_in(&u->link_idle))
		loop_list_remove(&u->link_idle);
	loop_list_remove(&u->link_all);
	u->conns->n--;
	if (!u->open)
		u->conns->opening--;
	if (u->flush)
		stream_finish(u->s, FINISH_MS);
	else
		stream_close(u->s);
	if (!u->gw->stopping && !(u->session && u->session->state == SESSION_ENDED))
		serve_waiting(u->conns, NULL);
}

void upstream_close_all(struct conns *conns, const char *code, const char *message)
{
	while (!loop_list_empty(&conns->all)) {
		struct upstream *u = container_of(conns->all.next, struct upstream, link_all);
		struct client *c = u->c;
		if (c) {
			if (code && c->state == CLIENT_EXCHANGE)
				answer_retry(c, 503, code, message, 1);
			else
				client_close(c);
		}
		upstream_close(u); /* nothing if that did it */
	}
}

/* Or removed: it will never be back. */
static bool silent(const struct gw *gw, uint64_t node)
{
	const struct view_node *n = gw->view ? view_node(gw->view, node) : NULL;

	return n ? n->silent : gw->view && view_refuses(gw->view, node);
}

static void close_silent(struct conns *conns)
{
	while (!loop_list_empty(&conns->waiting)) {
		struct client *c = container_of(conns->waiting.next, struct client, waiting);
		loop_list_remove(&c->waiting);
		session_unusable(c, false);
		client_continue(c);
	}
	while (!loop_list_empty(&conns->all)) {
		struct upstream *u = container_of(conns->all.next, struct upstream, link_all);
		struct client *c = u->c;
		if (c && c->state == CLIENT_TUNNEL)
			client_close(c);
		else if (c) /* perhaps delivered: not sent again */
			answer_retry(c, 503, "SessionUnavailable", "the session's node does not answer", 1);
		upstream_close(u); /* nothing if that did it */
	}
}

void upstream_silent_nodes(struct gw *gw)
{
	struct map_node *node = NULL;

	while ((node = map_next(&gw->peers, node))) {
		struct peer *peer = container_of(node, struct peer, by_node);
		if (silent(gw, peer->node))
			close_silent(&peer->conns);
	}
}

/* --- the stream's callbacks --- */

static void upstream_lost(struct upstream *u, int error)
{
	struct client *c = u->c;
	bool tunnel_half = c && c->state == CLIENT_TUNNEL && error == 0 && !c->tunnel_client_eof;

	if (!c) {
		upstream_close(u);
		return;
	}
	if (!u->open) { /* another node does not take connections */
		u->c = NULL;
		c->u = NULL;
		upstream_close(u);
		session_away(c, "the session's node takes no connection");
		client_continue(c);
		return;
	}
	exchange_upstream_lost(c, error);
	if (!tunnel_half && u->c == NULL)
		upstream_close(u);
}

static void upstream_data(struct stream *s, void *arg, const char *p, size_t n)
{
	struct upstream *u = arg;

	(void)s;
	if (!u->c)
		upstream_close(u); /* nobody asked */
	else
		response_data(u, p, n);
}

static void upstream_eof(struct stream *s, void *arg)
{
	(void)s;
	upstream_lost(arg, 0);
}

static void upstream_error(struct stream *s, void *arg, int error)
{
	(void)s;
	upstream_lost(arg, error);
}

static void upstream_drain(struct stream *s, void *arg)
{
	struct upstream *u = arg;

	(void)s;
	if (u->c)
		client_continue(u->c);
}

static void upstream_open(struct stream *s, void *arg)
{
	struct upstream *u = arg;
	struct tls_identity other;

	if (u->gw->gateway->config.peer_client && (stream_identity(s, &other) || other.node != u->node)) {
		upstream_lost(u, -EACCES); /* somebody else answers at the node's address */
		return;
	}
	u->open = true;
	u->conns->opening--;
	if (u->conns->n < u->conns->max)
		serve_waiting(u->conns, NULL);
	if (!u->c) {
		upstream_put(u, true);
		return;
	}
	exchange_begin(u->c);
	client_continue(u->c);
}

static void upstream_closed(struct stream *s, void *arg)
{
	struct upstream *u = arg;

	(void)s;
	if (u->session)
		session_unref(u->session);
	buf_done(&u->in);
	free(u);
}

static const struct stream_ops upstream_ops = {
	.on_open = upstream_open,
	.on_data = upstream_data,
	.on_drain = upstream_drain,
	.on_eof = upstream_eof,
	.on_error = upstream_error,
	.on_closed = upstream_closed,
};

/* --- making connections --- */

static struct upstream *upstream_new(struct gw *gw, struct conns *conns)
{
	struct upstream *u = calloc(1, sizeof *u);

	if (!u)
		return NULL;
	u->gw = gw;
	u->conns = conns;
	u->in.max = SCAN_HEAD_MAX + SCAN_HOP_BYTES + LOOP_READ_BYTES;
	loop_list_add(&conns->all, &u->link_all);
	return u;
}

/* The sandbox itself refuses, or is not there: that ends its session. That sandboxd is away, has too much to do or gets
 * no answer in time says nothing about the sandbox. */
static bool sandbox_dead(int error)
{
	return error == -ECONNREFUSED || error == -ENOENT;
}

/* Other connections to it are at work: one of them will be free. Its client's timer runs on. */
static bool can_wait(const struct session *s, int error)
{
	return !sandbox_dead(error) && error != -EPROTO && s->state != SESSION_ENDED &&
	       !loop_list_empty(&s->conns.all) && loop_list_empty(&s->conns.idle);
}

static void dial_failed(struct client *c, int error)
{
	if (!c)
		return;
	if (sandbox_dead(error))
		session_unusable(c, true);
	else if (error == -EPROTO)
		answer(c, 502, "BadGateway", "the session spoke before it was asked");
	else
		answer_retry(c, 503, "SessionUnavailable",
			     "the session's container cannot be reached just now", 1);
	client_continue(c);
}

/* Bytes that are here before anything was asked are no answer. */
static bool spoke_first(int fd)
{
	char byte;

	return recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 1;
}

static void dialed(void *arg, int fd, int error)
{
	struct dialing *d = arg;
	struct client *c = d->c;
	struct session *s = d->session;
	struct gw *gw = d->gw;
	struct upstream *u = NULL;

	free(d);
	if (c)
		c->dialing = NULL;
	if (fd >= 0 && spoke_first(fd)) {
		close(fd);
		fd = -1;
		error = -EPROTO;
	}
	if (fd >= 0 && (s->state == SESSION_ENDED || gw->stopping || !(u = upstream_new(gw, &s->conns)) ||
			stream_adopt(&gw->loop, fd, NULL, &upstream_ops, u, &u->s, NULL))) {
		close(fd);
		error = -ECONNABORTED;
		if (u) {
			loop_list_remove(&u->link_all);
			free(u);
			u = NULL;
		}
	}
	if (!u) {
		s->conns.n--;
		if (c && can_wait(s, error)) {
			loop_list_add(&s->conns.waiting, &c->waiting);
			session_unref(s);
			return;
		}
		dial_failed(c, error);
		if (s->state != SESSION_ENDED && !gw->stopping)
			serve_waiting(&s->conns, NULL);
		session_unref(s);
		return;
	}
	if (!s->connected)
		session_event(gw, s, GATEWAY_CONNECTED);
	s->connected = true;
	stream_receive_buffer(u->s, NEAR_RECEIVE_BYTES);
	stream_local(u->s);
	u->session = s; /* with its count */
	u->open = true;
	if (!c) {
		upstream_put(u, true);
		return;
	}
	attach(u, c);
	exchange_begin(c);
	client_continue(c);
}

static void dial(struct client *c)
{
	const struct gateway_config *config = &c->gw->gateway->config;
	struct dialing *d = malloc(sizeof *d);

	if (!d) {
		answer_retry(c, 503, "ServiceUnavailable", "no memory", 1);
		return;
	}
	*d = (struct dialing){c->gw, c, c->session};
	session_ref(d->session);
	d->session->conns.n++;
	c->dialing = d;
	if (config->dial(config->arg, &c->gw->loop, c->gw->index, c->session->sandbox,
			 config->dial_timeout_ms, dialed, d) == 0)
		return;
	c->dialing = NULL;
	d->session->conns.n--;
	session_unref(d->session);
	free(d);
	answer_retry(c, 503, "SessionUnavailable", "the node's sandboxes cannot be reached just now", 1);
}

static void connect_node(struct client *c, struct conns *conns)
{
	const struct view_node *node = c->gw->view ? view_node(c->gw->view, c->session->node) : NULL;
	struct upstream *u = node ? upstream_new(c->gw, conns) : NULL;

	if (u) {
		u->node = node->id;
		if (stream_connect(&c->gw->loop, (const struct sockaddr *)&node->peer,
				   c->gw->gateway->config.peer_client, &upstream_ops, u, &u->s, NULL) == 0) {
			stream_receive_buffer(u->s, HOP_RECEIVE_BYTES);
			conns->n++;
			conns->opening++;
			attach(u, c);
			client_timer(c, c->gw->gateway->config.dial_timeout_ms);
			return;
		}
		loop_list_remove(&u->link_all);
		free(u);
	}
	session_away(c, "the session's node cannot be reached");
}

static void connect_for(struct client *c, struct conns *conns)
{
	client_wait(c, CLIENT_CONNECT);
	if (c->session->local)
		dial(c);
	else
		connect_node(c, conns);
}

void upstream_get(struct client *c)
{
	struct conns *conns = &c->session->conns;
	struct upstream *u;

	if (!c->session->local) {
		struct peer *peer = peer_get(c->gw, c->session->node);
		if (!peer) {
			answer_retry(c, 503, "ServiceUnavailable", "no memory", 1);
			return;
		}
		conns = &peer->conns;
		if (silent(c->gw, peer->node)) { /* its session may be elsewhere by now */
			session_unusable(c, false);
			return;
		}
	}
	if (!loop_list_empty(&conns->idle)) {
		u = container_of(conns->idle.prev, struct upstream, link_idle);
		if (c->facts.replayable || conns->n >= conns->max ||
		    loop_now(&c->gw->loop) - u->idle_since_ms <= FRESH_IDLE_MS) {
			u->reused = true;
			attach(u, c);
			exchange_begin(c);
			return;
		}
	}
	uint64_t now = clock_boot_ms();
	client_timer(c, c->deadline_ms > now ? c->deadline_ms - now : 1);
	if (conns->n < conns->max && conns->opening < OPENING_MAX) {
		connect_for(c, conns);
		return;
	}
	client_wait(c, CLIENT_CONNECT);
	loop_list_add(&conns->waiting, &c->waiting);
}

void upstream_forget_dial(struct client *c)
{
	if (c->dialing)
		c->dialing->c = NULL;
	c->dialing = NULL;
}
