/* The nodes that we dial, and what both directions share. See mesh.h; accept.c has those who dial us. */
#include "mesh/mesh_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/map.h"
#include "core/must.h"

#define DIAL_MS_MIN 100
#define DIAL_MS_MAX 500
#define CONNECT_MS \
	3000 /* until the handshake is done; an address that does not answer ends at MESH_DEAD_MS */
#define STEADY_MS    1000 /* a connection that lasted so long was no mistake */
#define COMPLAINT_MS 60000

static const struct codec_field hello_fields[] = {
	CODEC_STR(struct hello, protocol, 31), CODEC_STR(struct hello, cluster, 64),
	CODEC_STR(struct hello, address, 63),  CODEC_U64(struct hello, node),
	CODEC_U64(struct hello, incarnation),
};
const struct codec_type mesh_hello_codec = CODEC_TYPE(struct hello, "hello", hello_fields);

/* -- Both directions ------------------------------------------------------------------------------------------- */

static void address_text(const struct stream *s, char *text, socklen_t size)
{
	const struct sockaddr *a = s != NULL ? stream_peer(s) : NULL;

	snprintf(text, size, "somebody");
	if (a != NULL && a->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)a)->sin_addr, text, size);
	else if (a != NULL && a->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr, text, size);
}

void mesh_complain(struct mesh *m, enum mesh_fault fault, const struct stream *s, const char *why)
{
	uint64_t now = loop_now(m->o.loop), untold = m->faults[fault].untold;
	char address[INET6_ADDRSTRLEN], more[64] = "", text[400];

	if (m->faults[fault].told_ms != 0 && now - m->faults[fault].told_ms < COMPLAINT_MS) {
		m->faults[fault].untold++;
		return;
	}
	m->faults[fault].told_ms = now;
	m->faults[fault].untold = 0;
	address_text(s, address, sizeof address);
	if (untold > 0)
		snprintf(more, sizeof more, "; %" PRIu64 " more of this kind before", untold);
	snprintf(text, sizeof text, "%s was cut off (%.*s): %s%s", address, STR_ARGS(m->o.protocol), why,
		 more);
	m->o.ops->refused(m->o.context, text);
}

bool mesh_identify(const struct mesh *m, const struct stream *s, uint64_t claimed, struct tls_identity *ret,
		   enum mesh_fault *fault, const char **why)
{
	*ret = (struct tls_identity){.node = claimed, .role = TLS_VOTER};
	*fault = MESH_FAULTS;
	if (m->o.client != NULL && stream_identity(s, ret) < 0) {
		*fault = MESH_NO_NODE;
		*why = "its certificate is not a node's";
	} else if (claimed != 0 && ret->node != claimed) {
		*fault = MESH_OTHER_NODE;
		*why = "its certificate is another node's";
	} else if (ret->role != TLS_VOTER && m->o.voters_only) {
		*fault = MESH_WORKER;
		*why = "its certificate is a worker's";
	}
	return *fault == MESH_FAULTS;
}

static void ended(struct loop_deferred *deferred)
{
	struct mesh *m = container_of(deferred, struct mesh, end);

	for (unsigned i = 0; i < m->n_peers; i++)
		free(m->peers[i]);
	tls_ctx_unref(m->o.client);
	if (m->closed != NULL)
		m->closed(m->closed_arg);
	free(m);
}

void mesh_stream_closed(struct mesh *m)
{
	if (--m->n_streams == 0 && m->closing)
		loop_defer(m->o.loop, &m->end);
}

/* -- Dialling ---------------------------------------------------------------------------------------------------- */

static void dial(struct mesh_peer *peer);

static void out_close(struct mesh_peer *peer)
{
	peer->up = false;
	if (peer->stream != NULL)
		stream_close(peer->stream);
}

static int send_hello(struct mesh *m, struct stream *s)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct hello hello = {m->o.protocol, m->o.cluster, m->o.address, m->o.node, mesh_incarnation(m)};

	codec_encode(&bytes, &mesh_hello_codec, &hello);
	must(!buf_failed(&bytes) && bytes.n <= MESH_HELLO_MAX);
	uint8_t head[2] = {(uint8_t)(bytes.n >> 8), (uint8_t)bytes.n};
	struct iovec iov[2] = {{head, sizeof head}, {bytes.p, bytes.n}};

	return stream_write(s, iov, 2);
}

static void out_open(struct stream *s, void *arg)
{
	struct mesh_peer *peer = arg;
	struct mesh *m = peer->mesh;
	struct tls_identity identity;
	enum mesh_fault fault;
	const char *why;

	if (!mesh_identify(m, s, peer->node, &identity, &fault, &why)) {
		mesh_complain(m, MESH_BAD_ANSWER, s, why);
		out_close(peer);
		return;
	}
	if (send_hello(m, s) < 0) {
		out_close(peer);
		return;
	}
	peer->up = peer->was_up = true;
	peer->reached_ms = loop_now(m->o.loop);
	loop_timer_clear(m->o.loop, &peer->retry);
	m->o.ops->reached(m->o.context, peer->node);
}

/* Nothing is ever sent back on this one. */
static void out_data(struct stream *s, void *arg, const char *bytes, size_t n)
{
	(void)s, (void)bytes, (void)n;
	out_close(arg);
}

static void out_drain(struct stream *s, void *arg)
{
	struct mesh_peer *peer = arg;
	const struct mesh_options *o = &peer->mesh->o;

	(void)s;
	if (peer->up && o->ops->drained != NULL)
		o->ops->drained(o->context, peer->node);
}

static void out_eof(struct stream *s, void *arg)
{
	(void)s;
	out_close(arg);
}

static void out_error(struct stream *s, void *arg, int error)
{
	struct mesh_peer *peer = arg;
	const char *why = error == -EPROTO ? stream_refusal(s) : NULL;

	if (why != NULL)
		mesh_complain(peer->mesh, MESH_BAD_ANSWER, s, why);
	out_close(peer);
}

/* Between attempts: the next one. During one: it took too long; out_closed goes on. */
static void retry_fire(struct loop_timer *timer)
{
	struct mesh_peer *peer = container_of(timer, struct mesh_peer, retry);

	if (peer->stream != NULL)
		stream_close(peer->stream);
	else
		dial(peer);
}

static void pause_before_retry(struct mesh_peer *peer)
{
	uint64_t now = loop_now(peer->mesh->o.loop);

	if ((peer->was_up && now - peer->reached_ms > STEADY_MS) || peer->displaced || peer->pause_ms == 0)
		peer->pause_ms = DIAL_MS_MIN;
	else if ((peer->pause_ms *= 2) > DIAL_MS_MAX)
		peer->pause_ms = DIAL_MS_MAX;
	loop_timer_set(peer->mesh->o.loop, &peer->retry, peer->pause_ms);
}

static void out_closed(struct stream *s, void *arg)
{
	struct mesh_peer *peer = arg;
	struct mesh *m = peer->mesh;
	bool was_up = peer->was_up;

	(void)s;
	peer->stream = NULL;
	if (peer->gone || m->closing) {
		if (peer->gone)
			free(peer);
		mesh_stream_closed(m);
		return;
	}
	m->n_streams--;
	pause_before_retry(peer);
	peer->was_up = peer->displaced = false;
	m->o.ops->lost(m->o.context, peer->node, was_up);
}

static const struct stream_ops out_ops = {.on_open = out_open,
					  .on_data = out_data,
					  .on_drain = out_drain,
					  .on_eof = out_eof,
					  .on_error = out_error,
					  .on_closed = out_closed};

static void dial(struct mesh_peer *peer)
{
	struct mesh *m = peer->mesh;
	int r = stream_connect(m->o.loop, (const struct sockaddr *)&peer->address, m->o.client, &out_ops,
			       peer, &peer->stream, NULL);

	loop_timer_set(m->o.loop, &peer->retry, r < 0 ? DIAL_MS_MAX : CONNECT_MS);
	if (r < 0)
		return;
	m->n_streams++;
	stream_watch(peer->stream, MESH_DEAD_MS);
}

static struct mesh_peer *find(const struct mesh *m, uint64_t node)
{
	for (unsigned i = 0; i < m->n_peers; i++) {
		if (m->peers[i]->node == node)
			return m->peers[i];
	}
	return NULL;
}

void mesh_dial_now(struct mesh *m, uint64_t node)
{
	struct mesh_peer *peer = find(m, node);

	if (peer == NULL || peer->stream != NULL || !loop_timer_armed(&peer->retry))
		return;
	loop_timer_clear(m->o.loop, &peer->retry);
	dial(peer);
}

static void redirect(struct mesh_peer *peer, const struct sockaddr_storage *address)
{
	if (memcmp(&peer->address, address, sizeof *address) == 0)
		return;
	peer->address = *address;
	peer->displaced = peer->stream != NULL;
	out_close(peer);
}

int mesh_dial(struct mesh *m, uint64_t node, struct str address, struct err *err)
{
	struct sockaddr_storage to;
	struct mesh_peer *peer = find(m, node);
	int r = mesh_address(address, &to, err);

	if (r < 0)
		return r;
	if (peer != NULL) {
		redirect(peer, &to);
		return 0;
	}
	if (m->n_peers == MESH_PEERS_MAX)
		return err_set(err, -ENOBUFS, "more than %d nodes", MESH_PEERS_MAX);
	peer = calloc(1, sizeof *peer);
	must(peer != NULL);
	*peer = (struct mesh_peer){.mesh = m, .node = node, .address = to, .retry = {.fire = retry_fire}};
	m->peers[m->n_peers++] = peer;
	dial(peer);
	return 0;
}

void mesh_forget(struct mesh *m, uint64_t node)
{
	struct mesh_peer *peer = find(m, node);
	unsigned i = 0;

	if (peer == NULL)
		return;
	while (m->peers[i] != peer)
		i++;
	m->peers[i] = m->peers[--m->n_peers];
	loop_timer_clear(m->o.loop, &peer->retry);
	peer->gone = true;
	if (peer->stream != NULL)
		out_close(peer);
	else
		free(peer);
}

int mesh_write(struct mesh *m, uint64_t node, const struct iovec *iov, int n)
{
	struct mesh_peer *peer = find(m, node);

	if (peer == NULL)
		return -ENOENT;
	if (!peer->up)
		return -ENOTCONN;
	int r = stream_write(peer->stream, iov, n);

	if (r >= 0)
		return r;
	out_close(peer);
	return -ENOTCONN;
}

bool mesh_reached(const struct mesh *m, uint64_t node)
{
	const struct mesh_peer *peer = find(m, node);

	return peer != NULL && peer->up;
}

size_t mesh_queued(const struct mesh *m, uint64_t node)
{
	const struct mesh_peer *peer = find(m, node);

	return peer != NULL && peer->up ? stream_queued(peer->stream) : 0;
}

/* -- Beginning and end --------------------------------------------------------------------------------------------- */

int mesh_new(const struct mesh_options *options, struct mesh **ret, struct err *err)
{
	struct sockaddr_storage address;
	struct mesh *m = calloc(1, sizeof *m);

	if (m == NULL)
		return err_set(err, -ENOMEM, "no memory");
	must((options->server == NULL) == (options->client == NULL));
	m->o = *options;
	m->end.run = ended;
	int r = mesh_address(options->address, &address, err);

	if (r == 0)
		r = listener_tcp(options->loop, (const struct sockaddr *)&address, options->server,
				 mesh_accepted, m, &m->listener, err);
	if (r < 0) {
		free(m);
		return err_wrap(err, "listen on %.*s", STR_ARGS(options->address));
	}
	m->o.client = options->client != NULL ? tls_ctx_ref(options->client) : NULL;
	*ret = m;
	return 0;
}

void mesh_close(struct mesh *m, void (*closed)(void *arg), void *arg)
{
	must(!m->closing);
	m->closing = true;
	m->closed = closed;
	m->closed_arg = arg;
	listener_close(m->listener);
	for (struct mesh_in *in = m->in; in != NULL; in = in->next)
		mesh_in_close(in);
	for (unsigned i = 0; i < m->n_peers; i++) {
		loop_timer_clear(m->o.loop, &m->peers[i]->retry);
		out_close(m->peers[i]);
	}
	if (m->n_streams == 0)
		loop_defer(m->o.loop, &m->end);
}
