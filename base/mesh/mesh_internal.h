/* mesh_internal.h -- the inside of a mesh, for mesh.c and accept.c alone. */
#ifndef MESH_MESH_INTERNAL_H
#define MESH_MESH_INTERNAL_H

#include "core/codec.h"
#include "loop/listener.h"
#include "loop/stream.h"
#include "mesh/mesh.h"

#define MESH_HELLO_MAX 256

struct hello {
	struct str protocol, cluster, address;
	uint64_t node, incarnation;
};
extern const struct codec_type mesh_hello_codec;

/* What is told once a minute each. */
enum mesh_fault {
	MESH_BAD_HANDSHAKE, /* of who dialled us */
	MESH_NO_NODE,       /* a certificate of no node */
	MESH_OTHER_NODE,    /* of another one */
	MESH_WORKER,        /* of a worker where voters belong */
	MESH_NOT_ADMITTED,
	MESH_BAD_HELLO,
	MESH_BAD_BYTES, /* what the protocol does not allow */
	MESH_TOO_SLOW,
	MESH_CROWDED,
	MESH_BAD_ANSWER, /* of who answered at a node's address */
	MESH_FAULTS
};

/* A node that we dial. */
struct mesh_peer {
	struct mesh *mesh;
	uint64_t node;
	struct sockaddr_storage address;
	struct stream *stream; /* NULL between attempts */
	struct loop_timer retry;
	uint64_t pause_ms, reached_ms;
	bool up;                      /* open, hello sent */
	bool was_up, gone, displaced; /* forgotten; has another address now */
};

/* A node that dialled us, or a stranger. */
struct mesh_in {
	struct mesh_in *next, **prev;
	struct mesh *mesh;
	struct stream *stream;
	struct loop_timer patience; /* until its hello */
	struct buf hello;
	uint64_t node; /* 0 until its hello */
	void *connection;
	bool closing;
};

struct mesh {
	struct mesh_options o;
	struct listener *listener;
	struct mesh_peer *peers[MESH_PEERS_MAX];
	unsigned n_peers;
	struct mesh_in *in; /* the latest first */
	unsigned n_in;
	unsigned n_streams; /* that were not closed yet, of both kinds */
	struct {
		uint64_t told_ms, untold;
	} faults[MESH_FAULTS];
	bool closing;
	struct loop_deferred end;
	void (*closed)(void *arg);
	void *closed_arg;
};

/* `s` (may be NULL) says where it came from. */
void mesh_complain(struct mesh *m, enum mesh_fault fault, const struct stream *s, const char *why);
/* The certificate at the other end, as the options want it; `claimed` 0: whoever it is. Without TLS: `claimed`. False: `*fault` and `*why` say what is wrong. */
bool mesh_identify(const struct mesh *m, const struct stream *s, uint64_t claimed, struct tls_identity *ret,
		   enum mesh_fault *fault, const char **why);
/* A stream is gone; the last one of a closing mesh ends it. */
void mesh_stream_closed(struct mesh *m);
/* This node is there: our own connection to it need not wait. */
void mesh_dial_now(struct mesh *m, uint64_t node);

static inline uint64_t mesh_incarnation(const struct mesh *m)
{
	return m->o.incarnation == NULL ? 0 : *m->o.incarnation;
}

/* accept.c */
listener_accept mesh_accepted;
void mesh_in_close(struct mesh_in *in);

#endif
