#include "control/links/peers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "control/links/frames.h"
#include "core/log.h"
#include "core/must.h"
#include "loop/stream.h"

struct peers {
	struct peers_options o;
	struct mesh *mesh;
};

/* A node that dialled us. */
struct inbound {
	struct peers *peers;
	struct peer_from from;
	struct buf in;
};

int peers_add(struct peers *p, uint64_t node, struct str address, struct err *err)
{
	return mesh_dial(p->mesh, node, address, err);
}

void peers_remove(struct peers *p, uint64_t node)
{
	mesh_forget(p->mesh, node);
	mesh_cut(p->mesh, node);
}

bool peers_reachable(const struct peers *p, uint64_t node)
{
	return mesh_reached(p->mesh, node);
}

int peers_send(struct peers *p, uint64_t node, uint8_t type, const void *payload, size_t n)
{
	uint8_t head[FRAMES_HEAD_BYTES];
	struct iovec iov[2] = {{head, sizeof head}, {(void *)(uintptr_t)payload, n}};

	frames_head(head, type, n);
	if (n + 1 > PEER_FRAME_MAX)
		return -EMSGSIZE;
	if (mesh_queued(p->mesh, node) + n > PEER_QUEUE_MAX)
		return -ENOBUFS;
	int r = mesh_write(p->mesh, node, iov, n > 0 ? 2 : 1);

	return r < 0 ? r : 0;
}

static int on_opened(void *context, const struct mesh_from *from, void **ret_connection, struct err *err)
{
	struct peers *p = context;

	if (p->o.admits != NULL && !p->o.admits(p->o.context, from->node, from->address))
		return err_set(err, -EPERM, "node %" PRIu64 " does not belong to the cluster", from->node);
	struct inbound *in = malloc(sizeof *in);

	if (in == NULL)
		return err_set(err, -ENOMEM, "no memory for a connection");
	*in = (struct inbound){
		.peers = p, .from = {from->node, from->role == TLS_VOTER}, .in = FRAMES_BUFFER};
	*ret_connection = in;
	return 0;
}

static void on_frame(void *context, uint8_t type, const uint8_t *p, size_t n)
{
	struct inbound *in = context;

	in->peers->o.received(in->peers->o.context, &in->from, type, p, n);
}

static int on_received(void *context, void *connection, const char *bytes, size_t n, struct err *err)
{
	struct inbound *in = connection;

	(void)context;
	return frames_take(&in->in, bytes, n, PEER_FRAMES, on_frame, in, err);
}

static void on_closed(void *context, void *connection)
{
	struct inbound *in = connection;

	(void)context;
	buf_done(&in->in);
	free(in);
}

static void on_reached(void *context, uint64_t node)
{
	struct peers *p = context;

	p->o.changed(p->o.context, node, true);
}

static void on_lost(void *context, uint64_t node, bool was_reached)
{
	struct peers *p = context;

	if (was_reached)
		p->o.changed(p->o.context, node, false);
}

static void on_foreign(void *context, const struct mesh_from *from, uint64_t incarnation)
{
	struct peers *p = context;
	const struct peer_from who = {from->node, from->role == TLS_VOTER};

	if (p->o.foreign != NULL)
		p->o.foreign(p->o.context, &who, from->address, incarnation);
}

static void on_refused(void *context, const char *why)
{
	(void)context;
	log_warn("%s", why);
}

int peers_new(const struct peers_options *options, struct peers **ret, struct err *err)
{
	static const struct mesh_ops ops = {.opened = on_opened,
					    .received = on_received,
					    .closed = on_closed,
					    .reached = on_reached,
					    .lost = on_lost,
					    .foreign = on_foreign,
					    .refused = on_refused};
	struct peers *p = calloc(1, sizeof *p);

	must(p != NULL);
	p->o = *options;
	struct mesh_options o = {.loop = options->loop,
				 .protocol = STR(PEER_PROTOCOL),
				 .cluster = options->cluster,
				 .incarnation = options->incarnation,
				 .node = options->node,
				 .address = options->listen,
				 .server = options->server,
				 .client = options->client,
				 .ops = &ops,
				 .context = p};
	int r = mesh_new(&o, &p->mesh, err);

	if (r < 0) {
		free(p);
		return err_wrap(err, "connections between nodes");
	}
	*ret = p;
	return 0;
}

void peers_close(struct peers *p)
{
	mesh_close(p->mesh, free, p);
}
