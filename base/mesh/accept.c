/* Those who dial us: first a hello that fits the certificate, then the bytes of the protocol. See mesh.h. */
#include "mesh/mesh_internal.h"

#include <inttypes.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/map.h"

void mesh_in_close(struct mesh_in *in)
{
	in->closing = true;
	stream_close(in->stream);
}

void mesh_cut(struct mesh *m, uint64_t node)
{
	for (struct mesh_in *in = m->in; in != NULL; in = in->next) {
		if (in->node == node && !in->closing)
			mesh_in_close(in);
	}
}

static bool refuse(struct mesh_in *in, enum mesh_fault fault, const char *why)
{
	mesh_complain(in->mesh, fault, in->stream, why);
	mesh_in_close(in);
	return false;
}

static bool welcome(struct mesh_in *in, const struct hello *hello, enum tls_node_role role)
{
	struct mesh *m = in->mesh;
	struct mesh_from from = {.node = hello->node, .role = role, .address = hello->address};
	struct err err = {0};

	/* A node has one connection: an older one is left over from a network that came and went. */
	for (struct mesh_in *other = m->in; other != NULL; other = other->next) {
		if (other->node == from.node)
			mesh_in_close(other);
	}
	if (m->o.ops->opened(m->o.context, &from, &in->connection, &err) < 0)
		return refuse(in, MESH_NOT_ADMITTED, err.message);
	in->node = from.node;
	loop_timer_clear(m->o.loop, &in->patience);
	buf_done(&in->hello);
	/* It is there, perhaps again: answers to what it asks now need our own connection to it. */
	mesh_dial_now(m, from.node);
	return true;
}

/* The cluster was restored or recovered, and one of the two does not know it. */
static bool refuse_foreign(struct mesh_in *in, const struct hello *hello, enum tls_node_role role)
{
	struct mesh *m = in->mesh;
	struct mesh_from from = {.node = hello->node, .role = role, .address = hello->address};
	char why[160];

	snprintf(why, sizeof why,
		 "node %" PRIu64 " is of the cluster's incarnation %" PRIu64 ", this node of %" PRIu64,
		 hello->node, hello->incarnation, mesh_incarnation(m));
	if (m->o.ops->foreign != NULL)
		m->o.ops->foreign(m->o.context, &from, hello->incarnation);
	return refuse(in, MESH_BAD_HELLO, why);
}

static bool take_hello(struct mesh_in *in, const char *p, size_t n)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct mesh *m = in->mesh;
	struct err err = {0};
	struct hello hello;
	struct tls_identity identity;
	enum mesh_fault fault;
	const char *why;

	if (codec_decode(p, n, &mesh_hello_codec, &arena, &hello, &err) < 0)
		return refuse(in, MESH_BAD_HELLO, err.message);
	if (!mesh_identify(m, in->stream, hello.node, &identity, &fault, &why))
		return refuse(in, fault, why);
	if (!str_eq(hello.protocol, m->o.protocol)) {
		err_set(&err, -EPROTO, "it speaks %.*s, this version %.*s", STR_ARGS(hello.protocol),
			STR_ARGS(m->o.protocol));
		return refuse(in, MESH_BAD_HELLO, err.message);
	}
	if (hello.node == 0 || hello.node == m->o.node || !str_eq(hello.cluster, m->o.cluster))
		return refuse(in, MESH_BAD_HELLO, "its hello names another cluster, or this node itself");
	if (hello.incarnation != 0 && mesh_incarnation(m) != 0 && hello.incarnation != mesh_incarnation(m))
		return refuse_foreign(in, &hello, identity.role);
	return welcome(in, &hello, identity.role);
}

/* Returns how many bytes were the hello's; in->node tells whether it is whole. */
static size_t gather_hello(struct mesh_in *in, const char *p, size_t n)
{
	size_t before = in->hello.n, most = 2 + MESH_HELLO_MAX;

	buf_add(&in->hello, p, n < most - before ? n : most - before);
	const uint8_t *head = (const uint8_t *)in->hello.p;

	if (buf_failed(&in->hello) || in->hello.n < 2)
		return in->hello.n - before;
	size_t length = (size_t)head[0] << 8 | head[1];

	if (length == 0 || length > MESH_HELLO_MAX) {
		refuse(in, MESH_BAD_HELLO, "a hello of impossible length");
		return 0;
	}
	if (in->hello.n < 2 + length)
		return in->hello.n - before;
	take_hello(in, in->hello.p + 2, length);
	return 2 + length - before;
}

/* Whose certificate is none that belongs here need not say more. */
static void in_open(struct stream *s, void *arg)
{
	struct mesh_in *in = arg;
	struct tls_identity identity;
	enum mesh_fault fault;
	const char *why;

	if (!mesh_identify(in->mesh, s, 0, &identity, &fault, &why))
		refuse(in, fault, why);
}

static void in_data(struct stream *s, void *arg, const char *p, size_t n)
{
	struct mesh_in *in = arg;
	struct mesh *m = in->mesh;
	struct err err = {0};

	(void)s;
	if (in->node == 0) {
		size_t taken = gather_hello(in, p, n);

		p += taken;
		n -= taken;
	}
	if (in->node == 0 || in->closing || n == 0)
		return;
	if (m->o.ops->received(m->o.context, in->connection, p, n, &err) < 0)
		refuse(in, MESH_BAD_BYTES, err.message);
}

static void in_eof(struct stream *s, void *arg)
{
	(void)s;
	mesh_in_close(arg);
}

static void in_error(struct stream *s, void *arg, int error)
{
	struct mesh_in *in = arg;
	const char *why = error == -EPROTO ? stream_refusal(s) : NULL;

	if (why != NULL)
		refuse(in, MESH_BAD_HANDSHAKE, why);
	else
		mesh_in_close(in);
}

static void in_closed(struct stream *s, void *arg)
{
	struct mesh_in *in = arg;
	struct mesh *m = in->mesh;

	(void)s;
	loop_timer_clear(m->o.loop, &in->patience);
	*in->prev = in->next;
	if (in->next != NULL)
		in->next->prev = in->prev;
	m->n_in--;
	if (in->node != 0)
		m->o.ops->closed(m->o.context, in->connection);
	buf_done(&in->hello);
	free(in);
	mesh_stream_closed(m);
}

static const struct stream_ops in_ops = {.on_open = in_open,
					 .on_data = in_data,
					 .on_eof = in_eof,
					 .on_error = in_error,
					 .on_closed = in_closed};

static void out_of_patience(struct loop_timer *timer)
{
	refuse(container_of(timer, struct mesh_in, patience), MESH_TOO_SLOW,
	       "it did not say who it is in time");
}

/* Whoever connects without a word may not keep nodes away: the one that has waited longest makes room. */
static void make_room(struct mesh *m)
{
	struct mesh_in *oldest = NULL;

	for (struct mesh_in *in = m->in; in != NULL; in = in->next) {
		if (in->node == 0 && !in->closing)
			oldest = in;
	}
	if (oldest != NULL)
		refuse(oldest, MESH_CROWDED, "too many that do not say who they are");
}

void mesh_accepted(struct stream *s, void *arg)
{
	struct mesh *m = arg;
	struct mesh_in *in = NULL;

	if (m->n_in >= MESH_IN_MAX)
		make_room(m);
	if (m->n_in < 2 * MESH_IN_MAX) /* those that close are still counted */
		in = calloc(1, sizeof *in);
	if (in == NULL) {
		stream_close(s);
		return;
	}
	*in = (struct mesh_in){.mesh = m,
			       .stream = s,
			       .hello = BUF_MAX(2 + MESH_HELLO_MAX),
			       .next = m->in,
			       .prev = &m->in,
			       .patience = {.fire = out_of_patience}};
	if (m->in != NULL)
		m->in->prev = &in->next;
	m->in = in;
	m->n_in++;
	m->n_streams++;
	stream_set(s, &in_ops, in);
	stream_watch(s, MESH_DEAD_MS);
	loop_timer_set(m->o.loop, &in->patience, MESH_HELLO_MS);
}
