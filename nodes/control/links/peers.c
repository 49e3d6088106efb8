#include "control/links/peers.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/must.h"
#include "loop/stream.h"

#define HEAD_BYTES 5

struct peers {
	struct peers_options o;
	struct mesh *mesh;
};

/* A node that dialled us. */
struct inbound {
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
	uint8_t head[HEAD_BYTES] = {(uint8_t)((n + 1) >> 24), (uint8_t)((n + 1) >> 16),
				    (uint8_t)((n + 1) >> 8), (uint8_t)(n + 1), type};
	struct iovec iov[2] = {{head, sizeof head}, {(void *)(uintptr_t)payload, n}};

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
	*in = (struct inbound){.from = {from->node, from->role == TLS_VOTER},
			       .in = BUF_MAX(PEER_FRAME_MAX + LOOP_READ_BYTES + 4)};
	*ret_connection = in;
	return 0;
}

static int on_received(void *context, void *connection, const char *bytes, size_t more, struct err *err)
{
	struct peers *p = context;
	struct inbound *in = connection;
	size_t at = 0;

	buf_add(&in->in, bytes, more);
	if (buf_failed(&in->in))
		return err_set(err, -ENOMEM, "no memory for a frame");
	while (in->in.n - at >= HEAD_BYTES) {
		const uint8_t *head = (const uint8_t *)in->in.p + at;
		size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];

		if (n == 0 || n > PEER_FRAME_MAX || head[4] >= PEER_FRAMES)
			return err_set(err, -EPROTO, "a frame of impossible length or type");
		if (in->in.n - at < 4 + n)
			break;
		p->o.received(p->o.context, &in->from, head[4], head + HEAD_BYTES, n - 1);
		at += 4 + n;
	}
	buf_drop(&in->in, at);
	return 0;
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
