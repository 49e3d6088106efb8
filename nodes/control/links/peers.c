#include "control/links/peers.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "core/codec.h"
#include "core/map.h"
#include "core/log.h"
#include "core/must.h"
#include "loop/listener.h"
#include "loop/stream.h"

#define DIAL_MS_MIN 100
#define DIAL_MS_MAX 1000
#define IN_MAX      256  /* accepted connections at a time */
#define HELLO_MS    5000 /* for a handshake and a hello */
#define CONNECT_MS  3000

struct hello {
	uint32_t protocol;
	struct str cluster;
	uint64_t node;
};
static const struct codec_field hello_fields[] = {
	CODEC_U32(struct hello, protocol),
	CODEC_STR(struct hello, cluster, 64),
	CODEC_U64(struct hello, node),
};
static const struct codec_type hello_codec = CODEC_TYPE(struct hello, "hello", hello_fields);

/* A node that we dial. */
struct peer {
	struct peers *peers;
	uint64_t node;
	struct sockaddr_storage address;
	struct stream *stream; /* NULL between attempts */
	struct loop_timer retry;
	uint64_t pause_ms;
	bool up; /* open, hello sent */
};

/* A node that dialled us. */
struct inbound {
	struct inbound *next, **prev;
	struct peers *peers;
	struct stream *stream;
	struct loop_timer patience; /* until its hello */
	struct buf in;
	uint64_t node; /* 0 until its hello */
	bool closing;
};

struct peers {
	struct peers_options o;
	struct listener *listener;
	struct peer *list[PEERS_MAX];
	unsigned n;
	struct inbound *inbound; /* the latest first */
	unsigned n_inbound;
	uint64_t complained_ms;
	bool closing;
};

int peers_address(struct str text, struct sockaddr_storage *ret, struct err *err)
{
	char host[64];
	size_t colon = text.n;
	uint64_t port;

	while (colon > 0 && text.p[colon - 1] != ':')
		colon--;
	if (colon < 2 || str_u64(str_slice(text, colon, text.n), 65535, &port) < 0)
		return err_set(err, -EINVAL, "%.*s: not host:port", STR_ARGS(text));
	struct str name = str_slice(text, 0, colon - 1);
	bool six = name.n > 2 && name.p[0] == '[';

	if (six)
		name = str_slice(name, 1, name.n - 1);
	memset(ret, 0, sizeof *ret);
	if (str_copy(name, host, sizeof host) < 0)
		return err_set(err, -EINVAL, "%.*s: the host is too long", STR_ARGS(text));
	struct sockaddr_in *four = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *sixth = (struct sockaddr_in6 *)ret;

	if (!six && inet_pton(AF_INET, host, &four->sin_addr) == 1) {
		four->sin_family = AF_INET;
		four->sin_port = htons((uint16_t)port);
		return 0;
	}
	if (six && inet_pton(AF_INET6, host, &sixth->sin6_addr) == 1) {
		sixth->sin6_family = AF_INET6;
		sixth->sin6_port = htons((uint16_t)port);
		return 0;
	}
	return err_set(err, -EINVAL, "%.*s: an IP address and a port are needed", STR_ARGS(text));
}

static void complain(struct peers *p, const char *what, const char *why)
{
	uint64_t now = loop_now(p->o.loop);

	if (p->complained_ms != 0 && now - p->complained_ms < 60000)
		return;
	p->complained_ms = now;
	log_warn("%s: %s", what, why);
}

static int write_frame(struct stream *s, uint8_t type, const void *payload, size_t n)
{
	uint8_t head[5] = {(uint8_t)((n + 1) >> 24), (uint8_t)((n + 1) >> 16), (uint8_t)((n + 1) >> 8),
			   (uint8_t)(n + 1), type};
	struct iovec iov[2] = {{head, sizeof head}, {(void *)(uintptr_t)payload, n}};

	return stream_write(s, iov, n > 0 ? 2 : 1);
}

/* -- Dialling ---------------------------------------------------------------------------------------------- */

static void dial(struct peer *peer);

static void peer_down(struct peer *peer)
{
	bool was_up = peer->up;

	peer->up = false;
	if (peer->stream != NULL)
		stream_close(peer->stream);
	if (was_up && !peer->peers->closing)
		peer->peers->o.changed(peer->peers->o.context, peer->node, false);
}

static void out_open(struct stream *s, void *arg)
{
	struct peer *peer = arg;
	struct peers *p = peer->peers;
	CLEANUP_BUF struct buf bytes = {0};
	struct hello hello = {.protocol = PEER_PROTOCOL, .cluster = p->o.cluster, .node = p->o.node};
	uint64_t named;

	if (stream_peer_node(s, &named) < 0 || named != peer->node) {
		complain(p, "a node presented another node's certificate", "connection closed");
		peer_down(peer);
		return;
	}
	codec_encode(&bytes, &hello_codec, &hello);
	if (write_frame(s, PEER_HELLO, bytes.p, bytes.n) < 0) {
		peer_down(peer);
		return;
	}
	peer->up = true;
	peer->pause_ms = 0;
	loop_timer_clear(p->o.loop, &peer->retry);
	p->o.changed(p->o.context, peer->node, true);
}

static void out_data(struct stream *s, void *arg, const char *bytes, size_t n)
{
	(void)s;
	(void)bytes;
	(void)n;
	peer_down(arg); /* nothing is ever sent back on this one */
}

static void out_eof(struct stream *s, void *arg)
{
	(void)s;
	peer_down(arg);
}

static void out_error(struct stream *s, void *arg, int error)
{
	(void)s;
	(void)error;
	peer_down(arg);
}

/* Between attempts: the next one. During one: it took too long; out_closed goes on. */
static void retry_fire(struct loop_timer *timer)
{
	struct peer *peer = container_of(timer, struct peer, retry);

	if (peer->stream != NULL)
		stream_close(peer->stream);
	else
		dial(peer);
}

static void out_closed(struct stream *s, void *arg)
{
	struct peer *peer = arg;

	(void)s;
	peer->stream = NULL;
	if (peer->peers->closing) {
		free(peer);
		return;
	}
	peer->pause_ms = peer->pause_ms == 0 ? DIAL_MS_MIN : peer->pause_ms * 2;
	if (peer->pause_ms > DIAL_MS_MAX)
		peer->pause_ms = DIAL_MS_MAX;
	loop_timer_set(peer->peers->o.loop, &peer->retry, peer->pause_ms);
}

static const struct stream_ops out_ops = {.on_open = out_open,
					  .on_data = out_data,
					  .on_eof = out_eof,
					  .on_error = out_error,
					  .on_closed = out_closed};

static void dial(struct peer *peer)
{
	struct peers *p = peer->peers;

	int r = stream_connect(p->o.loop, (const struct sockaddr *)&peer->address, p->o.client, &out_ops,
			       peer, &peer->stream, NULL);

	loop_timer_set(p->o.loop, &peer->retry, r < 0 ? DIAL_MS_MAX : CONNECT_MS);
}

int peers_add(struct peers *p, uint64_t node, struct str address, struct err *err)
{
	struct sockaddr_storage socket;
	int r = peers_address(address, &socket, err);

	if (r < 0)
		return r;
	for (unsigned i = 0; i < p->n; i++) {
		if (p->list[i]->node == node) {
			p->list[i]->address = socket;
			return 0;
		}
	}
	if (p->n == PEERS_MAX)
		return err_set(err, -ENOBUFS, "more than %d nodes", PEERS_MAX);
	struct peer *peer = calloc(1, sizeof *peer);

	must(peer != NULL);
	*peer = (struct peer){.peers = p, .node = node, .address = socket, .retry = {.fire = retry_fire}};
	p->list[p->n++] = peer;
	dial(peer);
	return 0;
}

static struct peer *find(const struct peers *p, uint64_t node)
{
	for (unsigned i = 0; i < p->n; i++) {
		if (p->list[i]->node == node)
			return p->list[i];
	}
	return NULL;
}

bool peers_reachable(const struct peers *p, uint64_t node)
{
	const struct peer *peer = find(p, node);

	return peer != NULL && peer->up;
}

int peers_send(struct peers *p, uint64_t node, uint8_t type, const void *payload, size_t n)
{
	struct peer *peer = find(p, node);

	if (peer == NULL)
		return -ENOENT;
	if (!peer->up)
		return -ENOTCONN;
	if (n + 1 > PEER_FRAME_MAX)
		return -EMSGSIZE;
	if (stream_queued(peer->stream) + n > PEER_QUEUE_MAX)
		return -ENOBUFS;
	int r = write_frame(peer->stream, type, payload, n);

	if (r < 0) {
		peer_down(peer);
		return -ENOTCONN;
	}
	return 0;
}

/* -- Accepting --------------------------------------------------------------------------------------------- */

static void in_close(struct inbound *in)
{
	in->closing = true;
	stream_close(in->stream);
}

static bool take_hello(struct inbound *in, const uint8_t *payload, size_t n)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct peers *p = in->peers;
	struct err err = {0};
	struct hello hello;
	uint64_t named = 0;

	if (codec_decode(payload, n, &hello_codec, &arena, &hello, &err) < 0) {
		complain(p, "a peer's hello", err.message);
		return false;
	}
	if (stream_peer_node(in->stream, &named) < 0 || named != hello.node ||
	    hello.protocol != PEER_PROTOCOL || !str_eq(hello.cluster, p->o.cluster)) {
		complain(p, "a peer was refused", "its hello names another node, cluster or protocol");
		return false;
	}
	/* A node has one connection: an older one is left over from a network that came and went. */
	for (struct inbound *other = p->inbound; other != NULL; other = other->next) {
		if (other->node == named)
			in_close(other);
	}
	in->node = named;
	loop_timer_clear(p->o.loop, &in->patience);
	/* It is there, perhaps again: answers to what it asks now need our own connection to it. */
	struct peer *peer = find(p, named);

	if (peer != NULL && peer->stream == NULL && loop_timer_armed(&peer->retry)) {
		loop_timer_clear(p->o.loop, &peer->retry);
		dial(peer);
	}
	return true;
}

static bool take_frames(struct inbound *in)
{
	size_t at = 0;

	while (in->in.n - at >= 5) {
		const uint8_t *head = (const uint8_t *)in->in.p + at;
		size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];

		if (n == 0 || n > PEER_FRAME_MAX) {
			complain(in->peers, "a peer was cut off", "a frame of impossible length");
			return false;
		}
		if (in->in.n - at < 4 + n)
			break;
		uint8_t type = head[4];

		if ((in->node == 0) != (type == PEER_HELLO) || type >= PEER_FRAMES)
			return false;
		if (type == PEER_HELLO) {
			if (!take_hello(in, head + 5, n - 1))
				return false;
		} else {
			in->peers->o.received(in->peers->o.context, in->node, type, head + 5, n - 1);
		}
		at += 4 + n;
	}
	buf_drop(&in->in, at);
	return true;
}

static void in_data(struct stream *s, void *arg, const char *bytes, size_t n)
{
	struct inbound *in = arg;

	(void)s;
	buf_add(&in->in, bytes, n);
	if (buf_failed(&in->in) || !take_frames(in))
		in_close(in);
}

static void in_eof(struct stream *s, void *arg)
{
	(void)s;
	in_close(arg);
}

static void in_error(struct stream *s, void *arg, int error)
{
	(void)s;
	(void)error;
	in_close(arg);
}

static void in_closed(struct stream *s, void *arg)
{
	struct inbound *in = arg;

	(void)s;
	loop_timer_clear(in->peers->o.loop, &in->patience);
	*in->prev = in->next;
	if (in->next != NULL)
		in->next->prev = in->prev;
	in->peers->n_inbound--;
	buf_done(&in->in);
	free(in);
}

static const struct stream_ops in_ops = {
	.on_data = in_data, .on_eof = in_eof, .on_error = in_error, .on_closed = in_closed};

static void out_of_patience(struct loop_timer *timer)
{
	in_close(container_of(timer, struct inbound, patience));
}

/* Whoever connects without a word may not keep nodes away: the one that has waited longest makes room. */
static void make_room(struct peers *p)
{
	struct inbound *oldest = NULL;

	for (struct inbound *in = p->inbound; in != NULL; in = in->next) {
		if (in->node == 0 && !in->closing)
			oldest = in;
	}
	if (oldest != NULL)
		in_close(oldest);
}

static void accepted(struct stream *s, void *arg)
{
	struct peers *p = arg;
	struct inbound *in = NULL;

	if (p->n_inbound >= IN_MAX)
		make_room(p);
	if (p->n_inbound < 2 * IN_MAX) /* those that close are still counted */
		in = calloc(1, sizeof *in);
	if (in == NULL) {
		stream_close(s);
		return;
	}
	*in = (struct inbound){.peers = p,
			       .stream = s,
			       .in = BUF_MAX(PEER_FRAME_MAX + LOOP_READ_BYTES + 4),
			       .next = p->inbound,
			       .prev = &p->inbound,
			       .patience = {.fire = out_of_patience}};
	if (p->inbound != NULL)
		p->inbound->prev = &in->next;
	p->inbound = in;
	p->n_inbound++;
	stream_set(s, &in_ops, in);
	loop_timer_set(p->o.loop, &in->patience, HELLO_MS);
}

/* -- Beginning and end --------------------------------------------------------------------------------------- */

int peers_new(const struct peers_options *options, struct peers **ret, struct err *err)
{
	struct sockaddr_storage address;
	struct peers *p = calloc(1, sizeof *p);

	must(p != NULL);
	p->o = *options;
	int r = peers_address(options->listen, &address, err);

	if (r == 0)
		r = listener_tcp(options->loop, (const struct sockaddr *)&address, options->server, accepted,
				 p, &p->listener, err);
	if (r < 0) {
		free(p);
		return err_wrap(err, "listen for other nodes");
	}
	*ret = p;
	return 0;
}

void peers_close(struct peers *p)
{
	p->closing = true;
	listener_close(p->listener);
	for (struct inbound *in = p->inbound; in != NULL; in = in->next)
		stream_close(in->stream);
	for (unsigned i = 0; i < p->n; i++) {
		loop_timer_clear(p->o.loop, &p->list[i]->retry);
		if (p->list[i]->stream != NULL)
			stream_close(p->list[i]->stream);
		else
			free(p->list[i]);
	}
}
