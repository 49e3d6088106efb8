/* See rpc.h. */
#include "consensus/rpc/rpc.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/queue.h>

#include "consensus/parts.h"
#include "consensus/rpc/rpc_codec.h"
#include "core/map.h"
#include "core/must.h"
#include "loop/stream.h"
#include "mesh/mesh.h"

#define PROTOCOL    "raft/1"
#define SERVERS_MAX 16
#define EARLY_MAX   4    /* messages that wait for a connection */
#define QUEUE_MAX   1024 /* for a slow reader */
#define WRITE_BYTES 65536

struct sending {
	STAILQ_ENTRY(sending) next;
	struct raft_io_send *request;
	raft_io_send_cb done; /* NULL: the library does not care */
	int status;
	struct buf head; /* and fields */
	struct rpc_payload payload;
	unsigned piece; /* 0: the head; then of the payload */
	size_t at;      /* in it */
};
STAILQ_HEAD(sendings, sending);

/* A server that we send to. */
struct server {
	raft_id id;
	char address[CONSENSUS_ADDRESS_SIZE];
	struct sendings queue;
	unsigned n_queued;
	bool reached, blocked;
	uint64_t used; /* a clock of uses */
};

struct rpc {
	struct consensus_network network;
	uint64_t id;
	char address[CONSENSUS_ADDRESS_SIZE], why[ERR_MESSAGE_MAX];
	struct raft_uv_transport transport; /* carries nothing */
	struct raft_io *io;
	struct mesh *mesh; /* NULL before start and after close */
	struct server servers[SERVERS_MAX];
	unsigned n_servers;
	uint64_t uses;
	struct sendings done; /* to be answered */
	struct loop_deferred answer;
	char piece[WRITE_BYTES];

	/* What the raft_io did before. */
	int (*start)(struct raft_io *, unsigned, raft_io_tick_cb, raft_io_recv_cb);
	void (*close)(struct raft_io *, raft_io_close_cb);
	raft_io_recv_cb receive;
	raft_io_close_cb closed;
	bool closing, files_closed, mesh_closed;
};

/* -- Answers to the library ------------------------------------------------------------------------------------------ */

static void answer_all(struct rpc *r)
{
	struct sending *s;

	while ((s = STAILQ_FIRST(&r->done)) != NULL) {
		STAILQ_REMOVE_HEAD(&r->done, next);
		if (s->done != NULL)
			s->done(s->request, s->status);
		buf_done(&s->head);
		free(s);
	}
}

static void answer_run(struct loop_deferred *deferred)
{
	answer_all(container_of(deferred, struct rpc, answer));
}

static void finish(struct rpc *r, struct sending *s, int status)
{
	s->status = status;
	STAILQ_INSERT_TAIL(&r->done, s, next);
	loop_defer(r->network.loop, &r->answer);
}

static void finish_first(struct rpc *r, struct server *to, int status)
{
	struct sending *s = STAILQ_FIRST(&to->queue);

	STAILQ_REMOVE_HEAD(&to->queue, next);
	to->n_queued--;
	finish(r, s, status);
}

static void finish_queue(struct rpc *r, struct server *to, int status)
{
	while (!STAILQ_EMPTY(&to->queue))
		finish_first(r, to, status);
}

/* -- Sending ----------------------------------------------------------------------------------------------------------- */

/* Copies what fits of the first messages into `piece`; those that are through are answered. */
static size_t fill_piece(struct rpc *r, struct server *to)
{
	size_t n = 0;

	while (!STAILQ_EMPTY(&to->queue) && n < sizeof r->piece) {
		struct sending *s = STAILQ_FIRST(&to->queue);
		struct raft_buffer from = s->piece == 0 ? (struct raft_buffer){s->head.p, s->head.n}
							: rpc_payload_piece(&s->payload, s->piece - 1);
		size_t left = from.len - s->at, room = sizeof r->piece - n, take = left < room ? left : room;

		memcpy(r->piece + n, (char *)from.base + s->at, take);
		n += take;
		s->at += take;
		if (s->at < from.len)
			continue;
		s->at = 0;
		if (s->piece++ == rpc_payload_pieces(&s->payload))
			finish_first(r, to, 0);
	}
	return n;
}

static void write_some(struct rpc *r, struct server *to)
{
	while (to->reached && !to->blocked && !STAILQ_EMPTY(&to->queue)) {
		struct iovec iov = {r->piece, fill_piece(r, to)};
		int rc = mesh_write(r->mesh, to->id, &iov, 1);

		to->blocked = rc != STREAM_DONE; /* an error: lost() comes */
	}
}

static struct server *find(struct rpc *r, raft_id id)
{
	for (unsigned i = 0; i < r->n_servers; i++) {
		if (r->servers[i].id == id)
			return &r->servers[i];
	}
	return NULL;
}

/* Room for another server: the one that nothing was sent to for longest is one that left the configuration. */
static struct server *replace_oldest(struct rpc *r)
{
	struct server *oldest = &r->servers[0];

	for (unsigned i = 1; i < r->n_servers; i++) {
		if (r->servers[i].used < oldest->used)
			oldest = &r->servers[i];
	}
	finish_queue(r, oldest, RAFT_NOCONNECTION);
	mesh_forget(r->mesh, oldest->id);
	return oldest;
}

/* NULL: its address is none. */
static struct server *server_for(struct rpc *r, raft_id id, const char *address)
{
	struct server *s = find(r, id);

	if (s != NULL && strcmp(s->address, address) == 0)
		return s;
	if (mesh_address(str_of(address), &(struct sockaddr_storage){0}, NULL) < 0 ||
	    strlen(address) >= sizeof s->address)
		return NULL;
	if (s == NULL) {
		s = r->n_servers < SERVERS_MAX ? &r->servers[r->n_servers++] : replace_oldest(r);
		*s = (struct server){.id = id};
		STAILQ_INIT(&s->queue);
	}
	memcpy(s->address, address, strlen(address) + 1);
	return mesh_dial(r->mesh, id, str_of(address), NULL) == 0 ? s : NULL;
}

static struct rpc *rpc_of(struct raft_io *io)
{
	const struct raft *raft = io->data;
	const struct consensus *c = raft->fsm->data;

	return c->rpc;
}

/* Never fails but without memory: what the library does about an error here is stop for good. */
static int rpc_send(struct raft_io *io, struct raft_io_send *request, const struct raft_message *m,
		    raft_io_send_cb done)
{
	struct rpc *r = rpc_of(io);
	struct sending *s = calloc(1, sizeof *s);

	if (s == NULL)
		return RAFT_NOMEM;
	*s = (struct sending){.request = request, .done = done, .payload = rpc_payload(m)};
	request->cb = done;
	rpc_encode(m, &s->head);
	struct server *to = r->closing ? NULL : server_for(r, m->server_id, m->server_address);
	if (buf_failed(&s->head) || to == NULL || to->n_queued == QUEUE_MAX) {
		finish(r, s, RAFT_NOCONNECTION);
		return 0;
	}
	to->used = ++r->uses;
	STAILQ_INSERT_TAIL(&to->queue, s, next);
	to->n_queued++;
	if (!to->reached && to->n_queued > EARLY_MAX)
		finish_first(r, to, RAFT_NOCONNECTION);
	write_some(r, to);
	return 0;
}

static void on_reached(void *context, uint64_t node)
{
	struct rpc *r = context;
	struct server *to = find(r, node);

	if (to == NULL)
		return;
	to->reached = true;
	to->blocked = false;
	write_some(r, to);
}

static void on_lost(void *context, uint64_t node, bool was_reached)
{
	struct rpc *r = context;
	struct server *to = find(r, node);

	(void)was_reached;
	if (to == NULL)
		return;
	to->reached = to->blocked = false;
	finish_queue(r, to, RAFT_NOCONNECTION);
}

static void on_drained(void *context, uint64_t node)
{
	struct rpc *r = context;
	struct server *to = find(r, node);

	if (to == NULL)
		return;
	to->blocked = false;
	write_some(r, to);
}

/* -- Receiving ----------------------------------------------------------------------------------------------------------- */

static int on_opened(void *context, const struct mesh_from *from, void **ret_connection, struct err *err)
{
	struct rpc *r = context;

	if (r->network.admits != NULL && !r->network.admits(r->network.arg, from->node))
		return err_set(err, -EPERM, "server %" PRIu64 " was removed from the log", from->node);
	struct rpc_decoder *d = malloc(sizeof *d);

	if (d == NULL)
		return err_set(err, -ENOMEM, "no memory for a connection");
	rpc_decoder_init(d, from->node, from->address);
	*ret_connection = d;
	return 0;
}

static int on_received(void *context, void *connection, const char *p, size_t n, struct err *err)
{
	struct rpc *r = context;
	struct str left = {p, n};

	while (left.n > 0 && !r->closing) {
		struct raft_message m;
		int rc = rpc_decoder_take(connection, &left, &m, err);

		if (rc < 0)
			return rc;
		if (rc == 1)
			r->receive(r->io, &m);
	}
	return 0;
}

void rpc_cut(struct rpc *r, uint64_t id)
{
	if (r->mesh != NULL)
		mesh_cut(r->mesh, id);
}

static void on_connection_closed(void *context, void *connection)
{
	(void)context;
	rpc_decoder_done(connection);
	free(connection);
}

static void on_refused(void *context, const char *why)
{
	struct rpc *r = context;

	if (r->network.refused != NULL)
		r->network.refused(r->network.arg, why);
}

/* -- The raft_io ------------------------------------------------------------------------------------------------------------ */

static int rpc_start(struct raft_io *io, unsigned msecs, raft_io_tick_cb tick, raft_io_recv_cb receive)
{
	static const struct mesh_ops ops = {.opened = on_opened,
					    .received = on_received,
					    .closed = on_connection_closed,
					    .reached = on_reached,
					    .lost = on_lost,
					    .drained = on_drained,
					    .refused = on_refused};
	struct rpc *r = rpc_of(io);
	struct err err = {0};
	struct mesh_options o = {.loop = r->network.loop,
				 .protocol = STR(PROTOCOL),
				 .cluster = r->network.cluster,
				 .incarnation = r->network.incarnation,
				 .node = r->id,
				 .address = str_of(r->address),
				 .server = r->network.server,
				 .client = r->network.client,
				 .voters_only = true,
				 .ops = &ops,
				 .context = r};

	r->receive = receive;
	if (mesh_new(&o, &r->mesh, &err) < 0) {
		memcpy(r->why, err.message, sizeof r->why);
		return RAFT_IOERR;
	}
	return r->start(io, msecs, tick, receive);
}

static void closed_in_part(struct rpc *r)
{
	raft_io_close_cb closed = r->closed;

	if (!r->files_closed || !r->mesh_closed || closed == NULL)
		return;
	r->closed = NULL;
	closed(r->io);
}

static void on_files_closed(struct raft_io *io)
{
	struct rpc *r = rpc_of(io);

	r->files_closed = true;
	closed_in_part(r);
}

static void on_mesh_closed(void *arg)
{
	struct rpc *r = arg;

	r->mesh_closed = true;
	closed_in_part(r);
}

static void rpc_close(struct raft_io *io, raft_io_close_cb closed)
{
	struct rpc *r = rpc_of(io);

	r->closing = true;
	r->closed = closed;
	for (unsigned i = 0; i < r->n_servers; i++)
		finish_queue(r, &r->servers[i], RAFT_CANCELED);
	/* An answer is waited for by what the library still has to free. */
	loop_defer_cancel(r->network.loop, &r->answer);
	answer_all(r);
	if (r->mesh != NULL)
		mesh_close(r->mesh, on_mesh_closed, r);
	else
		r->mesh_closed = true;
	r->mesh = NULL;
	r->close(io, on_files_closed);
}

/* -- The transport that raft_uv asks for ---------------------------------------------------------------------------------------- */

static int transport_init(struct raft_uv_transport *t, raft_id id, const char *address)
{
	(void)t, (void)id, (void)address;
	return 0;
}

static int transport_listen(struct raft_uv_transport *t, raft_uv_accept_cb cb)
{
	(void)t, (void)cb;
	return 0;
}

static int transport_connect(struct raft_uv_transport *t, struct raft_uv_connect *request, raft_id id,
			     const char *address, raft_uv_connect_cb cb)
{
	(void)t, (void)request, (void)id, (void)address, (void)cb;
	return RAFT_NOCONNECTION;
}

static void transport_close(struct raft_uv_transport *t, raft_uv_transport_close_cb cb)
{
	cb(t);
}

/* -- Beginning and end ---------------------------------------------------------------------------------------------------------- */

int rpc_new(const struct rpc_options *options, struct rpc **ret, struct raft_uv_transport **ret_transport,
	    struct err *err)
{
	struct rpc *r = calloc(1, sizeof *r);

	if (r == NULL)
		return err_set(err, -ENOMEM, "no memory");
	r->network = *options->network;
	r->id = options->id;
	must(str_copy(str_of(options->address), r->address, sizeof r->address) == 0);
	STAILQ_INIT(&r->done);
	r->answer.run = answer_run;
	r->transport = (struct raft_uv_transport){.impl = r,
						  .init = transport_init,
						  .listen = transport_listen,
						  .connect = transport_connect,
						  .close = transport_close};
	*ret = r;
	*ret_transport = &r->transport;
	return 0;
}

void rpc_attach(struct rpc *r, struct raft_io *io)
{
	r->io = io;
	r->start = io->start;
	r->close = io->close;
	io->start = rpc_start;
	io->send = rpc_send;
	io->close = rpc_close;
}

const char *rpc_why(const struct rpc *r)
{
	return r->why;
}

void rpc_free(struct rpc *r)
{
	if (r == NULL)
		return;
	must(r->mesh == NULL && STAILQ_EMPTY(&r->done));
	free(r);
}
