/* peers.h -- frames between the control loops of a cluster's nodes, over mutual TLS.
 *
 * Every node dials every other and sends on the connection that it dialled; what it accepted it only reads. The first
 * frame says protocol, cluster and node, and the node must be the one that the certificate names. A frame is a length (4 bytes,
 * big endian, type included), a type, a payload.
 * Failure modes: a peer that is away is dialled again after 0.1 to 1 s; meanwhile peers_send() refuses. A frame that is too
 * long, or a hello that does not fit, closes the connection and is logged once a minute at most.
 * Owns: its listener and streams. Thread: the control loop. */
#ifndef CONTROL_PEERS_H
#define CONTROL_PEERS_H

#include "core/err.h"
#include "loop/loop.h"
#include "tls/tls.h"

#define PEERS_MAX      64
#define PEER_FRAME_MAX (1u << 20)
#define PEER_QUEUE_MAX (8u << 20) /* bytes that wait for one peer */
#define PEER_PROTOCOL  1

enum peer_frame { PEER_HELLO, PEER_ENVELOPE, PEER_COMMANDS, PEER_FEED, PEER_FEED_ASK, PEER_FRAMES };

struct peers;

struct peers_options {
	struct loop *loop;
	uint64_t node;
	struct str cluster; /* id */
	struct str listen;  /* host:port */
	struct tls_ctx *server, *client;
	/* The bytes are valid during the call. `from` is what the certificate says. */
	void (*received)(void *context, uint64_t from, uint8_t type, const void *p, size_t n);
	/* A peer became reachable, or ceased to be. */
	void (*changed)(void *context, uint64_t node, bool reachable);
	void *context;
};

int peers_new(const struct peers_options *options, struct peers **ret, struct err *err);
void peers_close(struct peers *p);
/* Known from now on; dialled until peers_close. */
int peers_add(struct peers *p, uint64_t node, struct str address, struct err *err);
/* 0: handed to the connection (it may still be lost). -ENOTCONN, -ENOENT, -ENOBUFS, -EMSGSIZE. */
int peers_send(struct peers *p, uint64_t node, uint8_t type, const void *payload, size_t n);

bool peers_reachable(const struct peers *p, uint64_t node);

/* "127.0.0.1:7000" or "[::1]:7000" as a socket address; numbers only. -EINVAL. */
int peers_address(struct str text, struct sockaddr_storage *ret, struct err *err);

#endif
