/* peers.h -- frames between the control loops of a cluster's nodes, over base/mesh. A frame is a length (4 bytes, big endian,
 * type included), a type, a payload.
 * Failure modes: while a peer is away peers_send() refuses. A frame that is too long, or of no type, closes the connection and is
 * logged once a minute at most.
 * Owns: its mesh. Thread: the control loop. */
#ifndef CONTROL_PEERS_H
#define CONTROL_PEERS_H

#include "control/links/frames.h"
#include "core/err.h"
#include "loop/loop.h"
#include "mesh/mesh.h"
#include "tls/tls.h"

#define PEERS_MAX      MESH_PEERS_MAX
#define PEER_FRAME_MAX FRAMES_BYTES_MAX
#define PEER_QUEUE_MAX (8u << 20) /* bytes that wait for one peer */
#define PEER_PROTOCOL  "control/1"

enum peer_frame {
	PEER_ENVELOPE,
	PEER_COMMANDS,
	PEER_FEED,
	PEER_FEED_ASK,
	PEER_REMOVED,
	PEER_REFUSED,
	PEER_FRAMES
};

struct peers;

/* Who speaks, as its certificate says. */
struct peer_from {
	uint64_t node;
	bool voter; /* else a worker */
};

struct peers_options {
	struct loop *loop;
	uint64_t node;
	struct str cluster; /* id */
	const uint64_t *incarnation;
	struct str listen; /* host:port, which the others dial */
	struct tls_ctx *server, *client;
	/* The bytes are valid during the call. */
	void (*received)(void *context, const struct peer_from *from, uint8_t type, const void *p, size_t n);
	/* False: this node does not belong to the cluster, and is cut off. `address` is its own, valid during the call. */
	bool (*admits)(void *context, uint64_t node, struct str address);
	/* It is of another incarnation of the cluster, and was refused. May be NULL. */
	void (*foreign)(void *context, const struct peer_from *from, struct str address,
			uint64_t incarnation);
	/* A peer became reachable, or ceased to be. */
	void (*changed)(void *context, uint64_t node, bool reachable);
	void *context;
};

int peers_new(const struct peers_options *options, struct peers **ret, struct err *err);
/* Everything goes in a later turn. */
void peers_close(struct peers *p);
/* Known from now on; dialled until peers_close. */
int peers_add(struct peers *p, uint64_t node, struct str address, struct err *err);
/* Not dialled any more, and cut off. */
void peers_remove(struct peers *p, uint64_t node);
/* 0: handed to the connection (it may still be lost). -ENOTCONN, -ENOENT, -ENOBUFS, -EMSGSIZE. */
int peers_send(struct peers *p, uint64_t node, uint8_t type, const void *payload, size_t n);

bool peers_reachable(const struct peers *p, uint64_t node);

#endif
