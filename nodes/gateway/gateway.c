/* The loops: each a thread with its listeners, its mailbox and its clients; nothing is shared between them but the
 * published snapshots, which never change. Orders from control come through the mailboxes.
 * Start: everything is bound in gateway_new, on the caller's thread, so that an address in use is an error and not a log line.
 * Stop: each loop closes what it has and ends when the last handle did. */
#include "gateway/gateway.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <netinet/in.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/must.h"
#include "gateway/inside.h"

#define MAILBOX_MAX 65536

enum order_kind {
	ORDER_VIEW,
	ORDER_KEYS,
	ORDER_ENVELOPE,
	ORDER_ADMITTED,
	ORDER_ALLOW,
	ORDER_API_REPLY,
	ORDER_API_CHUNK,
	ORDER_API_END,
	ORDER_STOP
};

struct order {
	enum order_kind kind;
	uint64_t id;
	int code;
	bool flag;
	void *pointer;   /* view or keys, with a reference */
	size_t n, split; /* split: where the body begins behind the headers */
	char bytes[];
};

/* --- on the loop's thread --- */

static void stop_loop(struct gw *gw)
{
	const struct gateway_config *config = &gw->gateway->config;
	struct listener **listeners[] = {&gw->plain, &gw->tls, &gw->peer, &gw->metrics, &gw->admin};

	gw->stopping = true;
	for (size_t i = 0; i < sizeof listeners / sizeof *listeners; i++) {
		if (*listeners[i])
			listener_close(*listeners[i]);
		*listeners[i] = NULL;
	}
	for (struct loop_link *link = gw->clients.next, *next; link != &gw->clients; link = next) {
		next = link->next;
		client_close(container_of(link, struct client, link));
	}
	session_end_all(gw);
	for (struct map_node *node = NULL; (node = map_next(&gw->peers, node));)
		upstream_close_all(&container_of(node, struct peer, by_node)->conns, NULL, NULL);
	if (config->loop_stop)
		config->loop_stop(config->arg, &gw->loop, gw->index);
	mailbox_close(gw->mailbox);
	gw->mailbox = NULL;
}

static void envelope_arrived(struct gw *gw, const struct order *o)
{
	CLEANUP_ARENA struct arena arena = {.max = 4u << 20};
	struct envelope e;
	union {
		struct msg_opened opened;
		struct msg_refused refused;
		struct msg_session_event event;
		struct msg_activity activity;
	} body;

	if (codec_decode(o->bytes, o->n, &envelope_codec, &arena, &e, NULL))
		return;
	if (e.type != MSG_OPENED && e.type != MSG_REFUSED && e.type != MSG_QUIESCE && e.type != MSG_REOPEN &&
	    e.type != MSG_ENDED && e.type != MSG_ACTIVITY && e.type != MSG_PART)
		return;
	if (codec_decode(e.body.p, e.body.n, message_body_codec[e.type], &arena, &body, NULL))
		return;
	session_message(gw, &e, &body);
}

static void api_order(struct gw *gw, const struct order *o)
{
	struct client *c = api_find(gw, o->id);
	struct str headers = {o->bytes, o->split}, body = {o->bytes + o->split, o->n - o->split};

	if (!c)
		return;
	if (o->kind == ORDER_API_REPLY)
		api_replied(c, (unsigned)o->code, headers, body, o->flag);
	else if (o->kind == ORDER_API_CHUNK)
		api_chunk(c, body);
	else
		api_end(c, o->flag);
}

static void order_drop(void *p)
{
	struct order *o = p;

	if (o->kind == ORDER_VIEW)
		view_unref(o->pointer);
	else if (o->kind == ORDER_KEYS)
		token_keys_unref(o->pointer);
	free(o);
}

static void obey(void *arg, void *p, size_t n)
{
	struct gw *gw = arg;
	struct order *o = p;

	must(n == 0);
	switch (o->kind) {
	case ORDER_VIEW:
		view_unref(gw->view);
		gw->view = o->pointer;
		upstream_silent_nodes(gw);
		break;
	case ORDER_KEYS:
		token_keys_unref(gw->keys);
		gw->keys = o->pointer;
		break;
	case ORDER_ENVELOPE:
		envelope_arrived(gw, o);
		break;
	case ORDER_ADMITTED:
		session_admitted(gw, o->id, o->code);
		break;
	case ORDER_ALLOW:
		session_fence(gw, !o->flag);
		break;
	case ORDER_API_REPLY:
	case ORDER_API_CHUNK:
	case ORDER_API_END:
		api_order(gw, o);
		break;
	case ORDER_STOP:
		stop_loop(gw);
		break;
	}
	free(o);
}

static void *loop_main(void *arg)
{
	struct gw *gw = arg;

	loop_run(&gw->loop);
	return NULL;
}

static void accept_plain(struct stream *s, void *arg)
{
	client_accepted(arg, s, CLIENT_PLAIN);
}
static void accept_tls(struct stream *s, void *arg)
{
	client_accepted(arg, s, CLIENT_TLS);
}
static void accept_peer(struct stream *s, void *arg)
{
	client_accepted(arg, s, CLIENT_NODE);
}
static void accept_metrics(struct stream *s, void *arg)
{
	client_accepted(arg, s, CLIENT_METRICS);
}
static void accept_admin(struct stream *s, void *arg)
{
	client_accepted(arg, s, CLIENT_ADMIN);
}

/* --- orders, from any thread --- */

static struct order *order_new(enum order_kind kind, size_t n)
{
	struct order *o = calloc(1, sizeof *o + n);

	if (o) {
		o->kind = kind;
		o->n = n;
	}
	return o;
}

static int send_order(struct gateway *g, unsigned loop, struct order *o)
{
	int r;

	if (!o)
		return -ENOMEM;
	r = loop < g->config.n_loops ? mailbox_post_pointer(g->loops[loop]->mailbox_shared, o) : -EINVAL;
	if (r)
		order_drop(o);
	return r;
}

void gateway_publish(struct gateway *g, struct view *view)
{
	for (unsigned i = 0; i < g->config.n_loops; i++) {
		struct order *o = order_new(ORDER_VIEW, 0);
		if (o)
			o->pointer = view_ref(view);
		send_order(g, i, o);
	}
	view_unref(view);
}

void gateway_publish_keys(struct gateway *g, struct token_keys *keys)
{
	for (unsigned i = 0; i < g->config.n_loops; i++) {
		struct order *o = order_new(ORDER_KEYS, 0);
		if (o)
			o->pointer = token_keys_ref(keys);
		send_order(g, i, o);
	}
	token_keys_unref(keys);
}

int gateway_post(struct gateway *g, unsigned loop, const void *envelope, size_t n)
{
	struct order *o = order_new(ORDER_ENVELOPE, n);

	if (o)
		memcpy(o->bytes, envelope, n);
	return send_order(g, loop, o);
}

int gateway_admitted(struct gateway *g, unsigned loop, uint64_t correlation, int code)
{
	struct order *o = order_new(ORDER_ADMITTED, 0);

	if (o) {
		o->id = correlation;
		o->code = code;
	}
	return send_order(g, loop, o);
}

void gateway_allow(struct gateway *g, bool allowed)
{
	for (unsigned i = 0; i < g->config.n_loops; i++) {
		struct order *o = order_new(ORDER_ALLOW, 0);
		if (o)
			o->flag = allowed;
		send_order(g, i, o);
	}
}

int gateway_api_reply(struct gateway *g, uint64_t id, const struct gateway_api_reply *reply)
{
	struct buf headers = {0};
	struct order *o;

	must(reply->n_headers <= GATEWAY_HEADERS_MAX);
	for (unsigned i = 0; i < reply->n_headers; i++)
		buf_printf(&headers, "%.*s: %.*s\r\n", STR_ARGS(reply->headers[i].name),
			   STR_ARGS(reply->headers[i].value));
	o = buf_failed(&headers) ? NULL : order_new(ORDER_API_REPLY, headers.n + reply->body.n);
	if (o) {
		o->id = id;
		o->code = (int)reply->status;
		o->flag = reply->more;
		o->split = headers.n;
		if (headers.n)
			memcpy(o->bytes, headers.p, headers.n);
		if (reply->body.n)
			memcpy(o->bytes + headers.n, reply->body.p, reply->body.n);
	}
	buf_done(&headers);
	return send_order(g, (unsigned)(id >> 48), o);
}

int gateway_api_chunk(struct gateway *g, uint64_t id, struct str bytes)
{
	struct order *o = order_new(ORDER_API_CHUNK, bytes.n);

	if (o) {
		o->id = id;
		memcpy(o->bytes, bytes.p, bytes.n);
	}
	return send_order(g, (unsigned)(id >> 48), o);
}

int gateway_api_end(struct gateway *g, uint64_t id, bool whole)
{
	struct order *o = order_new(ORDER_API_END, 0);

	if (o) {
		o->id = id;
		o->flag = whole;
	}
	return send_order(g, (unsigned)(id >> 48), o);
}

/* --- making and ending --- */

static void set_default(uint32_t *value, uint32_t otherwise)
{
	if (!*value)
		*value = otherwise;
}

/* A loop's part of what all may do. */
static void set_share(uint32_t *value, uint32_t otherwise, unsigned n_loops)
{
	set_default(value, otherwise);
	*value = (*value + n_loops - 1) / n_loops;
}

static void defaults(struct gateway_config *c)
{
	set_default(&c->connections_max, 20000);
	set_default(&c->address_connections_max, 2000);
	set_share(&c->pool_requests_max, 10000, c->n_loops);
	set_share(&c->token_requests_max, 5000, c->n_loops);
	set_share(&c->pool_waiting_max, 4000, c->n_loops);
	set_share(&c->token_waiting_max, 2000, c->n_loops);
	set_default(&c->opens_max, 512);
	set_default(&c->sandbox_connections_max, 256);
	set_default(&c->peer_connections_max, 256);
	set_default(&c->waiting_max, 10000);
	set_default(&c->waiting_bytes_max, 64u << 20);
	set_default(&c->handshake_ms, 10000);
	set_default(&c->head_timeout_ms, 15000);
	set_default(&c->keep_alive_ms, 75000);
	set_default(&c->dial_timeout_ms, 3000);
	set_default(&c->tunnel_idle_ms, 3600000);
	set_default(&c->route_idle_ms, 600000);
	set_default(&c->stall_ms, 60000);
	if (!c->admin_mode)
		c->admin_mode = 0660;
}

/* With port 0, the other loops share the port that the first one drew. */
static int listen_on(struct gw *gw, const struct sockaddr *address, struct tls_ctx *tls,
		     listener_accept *accept, uint16_t port, struct listener **ret, struct err *err)
{
	struct sockaddr_storage a = {0};

	if (!address)
		return 0;
	memcpy(&a, address,
	       address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	in_port_t *at = a.ss_family == AF_INET6 ? &((struct sockaddr_in6 *)&a)->sin6_port
						: &((struct sockaddr_in *)&a)->sin_port;
	if (*at == 0)
		*at = htons(port);
	return listener_tcp(&gw->loop, (struct sockaddr *)&a, tls, accept, gw, ret, err);
}

static uint16_t first_port(const struct gateway *g, enum gateway_listener which)
{
	const struct gw *gw = g->loops[0];
	struct listener *l = !gw                     ? NULL
			     : which == LISTEN_PLAIN ? gw->plain
			     : which == LISTEN_TLS   ? gw->tls
			     : which == LISTEN_PEER  ? gw->peer
						     : gw->metrics;

	return l ? listener_port(l) : 0;
}

static int listen_all(struct gw *gw, struct err *err)
{
	const struct gateway *g = gw->gateway;
	const struct gateway_config *c = &g->config;
	int r;

	r = listen_on(gw, c->plain, NULL, accept_plain, first_port(g, LISTEN_PLAIN), &gw->plain, err);
	if (r)
		return err_wrap(err, "plain listener");
	r = listen_on(gw, c->tls, c->tls_server, accept_tls, first_port(g, LISTEN_TLS), &gw->tls, err);
	if (r)
		return err_wrap(err, "TLS listener");
	r = listen_on(gw, c->peer, c->peer_server, accept_peer, first_port(g, LISTEN_PEER), &gw->peer, err);
	if (r)
		return err_wrap(err, "peer listener");
	r = listen_on(gw, c->metrics, NULL, accept_metrics, first_port(g, LISTEN_METRICS), &gw->metrics, err);
	if (r)
		return err_wrap(err, "metrics listener");
	if (gw->index == 0 && g->admin_path[0]) {
		r = listener_unix(&gw->loop, g->admin_path, c->admin_mode, c->admin_group, accept_admin, gw,
				  &gw->admin, err);
		if (r)
			return err_wrap(err, "admin socket");
	}
	return 0;
}

static int gw_new(struct gateway *g, unsigned index, struct err *err)
{
	struct gw *gw = calloc(1, sizeof *gw);
	int r;

	if (!gw)
		return err_set(err, -ENOMEM, "gateway loop: no memory");
	r = loop_init(&gw->loop, err);
	if (r) {
		free(gw);
		return r;
	}
	gw->gateway = g;
	gw->index = index;
	/* Another node may still answer what the process before this one asked. */
	gw->next_correlation = clock_boot_ms() << 16;
	loop_list_init(&gw->clients);
	loop_list_init(&gw->remotes);
	loop_list_init(&gw->away);
	gw->tokens = token_cache_new();
	r = gw->tokens ? mailbox_new(&gw->loop, MAILBOX_MAX, obey, order_drop, gw, &gw->mailbox, err)
		       : -ENOMEM;
	if (r) {
		token_cache_free(gw->tokens);
		loop_done(&gw->loop);
		free(gw);
		return r;
	}
	gw->mailbox_shared = mailbox_ref(gw->mailbox);
	g->loops[index] = gw;
	return listen_all(gw, err);
}

int gateway_new(const struct gateway_config *config, struct gateway **ret, struct err *err)
{
	struct gateway *g;
	int r = 0;

	if (config->n_loops == 0 || config->n_loops > GATEWAY_LOOPS_MAX)
		return err_set(err, -EINVAL, "gateway loops: must be 1 to %d", GATEWAY_LOOPS_MAX);
	if (config->tls && !config->tls_server)
		return err_set(err, -EINVAL, "TLS listener: needs a certificate");
	g = calloc(1, sizeof *g);
	if (!g)
		return err_set(err, -ENOMEM, "gateway: no memory");
	g->config = *config;
	defaults(&g->config);
	if (config->admin_path)
		r = str_copy(str_of(config->admin_path), g->admin_path, sizeof g->admin_path);
	if (r)
		err_set(err, r, "admin socket: the path is too long");
	g->clients = crowd_new(g->config.connections_max, g->config.address_connections_max);
	g->others = crowd_new(g->config.connections_max, 0);
	if (!g->clients || !g->others)
		r = err_set(err, -ENOMEM, "gateway: no memory");
	for (unsigned i = 0; !r && i < config->n_loops; i++)
		r = gw_new(g, i, err);
	/* What the caller's pointers showed is bound; only the TLS contexts are used again. */
	g->config.plain = g->config.tls = g->config.peer = g->config.metrics = NULL;
	if (r) {
		gateway_free(g);
		return r;
	}
	for (int i = 0; i < LISTENERS; i++)
		g->ports[i] = first_port(g, (enum gateway_listener)i);
	*ret = g;
	return 0;
}

int gateway_start(struct gateway *g, struct err *err)
{
	sigset_t all, old;
	int r = 0;

	must(!g->started);
	g->started = true;
	signal(SIGPIPE, SIG_IGN);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the main thread's */
	for (unsigned i = 0; !r && i < g->config.n_loops; i++) {
		struct gw *gw = g->loops[i];
		if (g->config.loop_start)
			r = g->config.loop_start(g->config.arg, &gw->loop, i);
		if (!r)
			r = -pthread_create(&gw->thread, NULL, loop_main, gw);
		if (!r)
			gw->running = true;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r ? err_system(err, r, "start the gateway's loops") : 0;
}

static void gw_free(struct gw *gw)
{
	int r;

	if (gw->running)
		pthread_join(gw->thread, NULL);
	else
		loop_run(&gw->loop); /* obeys the order to stop */
	upstream_peers_done(gw);
	map_done(&gw->apis);
	must(gw->accounts.n == 0);
	map_done(&gw->accounts);
	r = loop_done(&gw->loop);
	must(r == 0);
	mailbox_unref(gw->mailbox_shared);
	view_unref(gw->view);
	token_keys_unref(gw->keys);
	token_cache_free(gw->tokens);
	buf_done(&gw->out);
	free(gw);
}

void gateway_free(struct gateway *g)
{
	for (unsigned i = 0; i < g->config.n_loops; i++) {
		struct order *o = g->loops[i] ? order_new(ORDER_STOP, 0) : NULL;
		while (o && mailbox_post_pointer(g->loops[i]->mailbox_shared, o) == -ENOBUFS)
			sched_yield();
	}
	for (unsigned i = 0; i < g->config.n_loops; i++)
		if (g->loops[i])
			gw_free(g->loops[i]);
	crowd_free(g->clients);
	crowd_free(g->others);
	free(g);
}

uint16_t gateway_port(const struct gateway *g, enum gateway_listener which)
{
	return g->ports[which];
}

void gateway_stats(const struct gateway *g, struct gateway_stats *ret)
{
	memset(ret, 0, sizeof *ret);
	for (unsigned i = 0; i < g->config.n_loops; i++) {
		const struct counters *c = &g->loops[i]->counters;
#define SUM(field) ret->field += atomic_load_explicit(&c->field, memory_order_relaxed)
		SUM(connections);
		SUM(connections_open);
		SUM(routes);
		SUM(requests);
		SUM(forwarded);
		SUM(tunnels);
		SUM(opens);
		SUM(refused_429);
		SUM(refused_503);
		SUM(bad_requests);
		SUM(bad_responses);
		SUM(too_slow);
		SUM(refused_connections);
		SUM(refused_limits);
		SUM(parted);
		SUM(bytes_in);
		SUM(bytes_out);
#undef SUM
	}
}
