/* mesh.h -- connections between the nodes of a cluster, over mutual TLS: every node dials every other and sends on the
 * connection that it dialled; what it accepted it only reads.
 *
 * Happy path: mesh_dial, reached(), mesh_write; on the other side opened(), received(). The certificates decide who is who: the
 * dialled one must name the node that was meant, and the first bytes (a hello: protocol, cluster, node, address) must name the
 * node that the dialler's certificate names, and this incarnation of the cluster.
 * Failure modes: a node that is away is dialled again after 0.1 to 0.5 s, and at once when it dials us. One that acknowledges
 * nothing for MESH_DEAD_MS is away. Whoever fails the handshake, the hello or its protocol is cut off and told to refused(), each
 * kind once a minute. Strangers who say nothing have MESH_HELLO_MS, and make room for others before that.
 * Bounds: MESH_PEERS_MAX nodes, MESH_IN_MAX accepted connections; mesh_queued tells what waits for a slow one.
 * Owns: its listener and connections. Borrows: the strings of its options, until closed. Thread: the loop's; no callback runs
 * inside a call of this file. */
#ifndef MESH_MESH_H
#define MESH_MESH_H

#include "core/err.h"
#include "core/str.h"
#include "loop/loop.h"
#include "tls/tls.h"

#define MESH_PEERS_MAX 64
#define MESH_IN_MAX    256
#define MESH_HELLO_MS  5000 /* for a handshake and a hello */
#define MESH_DEAD_MS   1500

struct mesh;
struct sockaddr_storage;

/* Who dialled us. */
struct mesh_from {
	uint64_t node;
	enum tls_node_role role;
	struct str address; /* its own, as it says; valid during the call */
};

struct mesh_ops {
	/* *ret_connection comes back with each run of bytes. An error refuses it. */
	int (*opened)(void *context, const struct mesh_from *from, void **ret_connection, struct err *err);
	/* The bytes are valid during the call. An error cuts the connection off. */
	int (*received)(void *context, void *connection, const char *p, size_t n, struct err *err);
	void (*closed)(void *context, void *connection);

	/* Our own connection to a node: open; gone, or not come about; everything that waited was sent (NULL: not wanted). */
	void (*reached)(void *context, uint64_t node);
	void (*lost)(void *context, uint64_t node, bool was_reached);
	void (*drained)(void *context, uint64_t node);

	/* Who dialled is of another incarnation of this cluster, and is refused. May be NULL. */
	void (*foreign)(void *context, const struct mesh_from *from, uint64_t incarnation);
	/* Somebody was refused; for the log. */
	void (*refused)(void *context, const char *why);
};

struct mesh_options {
	struct loop *loop;
	struct str protocol; /* name and version, at most 31 bytes: others are refused */
	struct str cluster;  /* id */
	/* Of the cluster, read for each hello, so it may become known later; 0 fits any. NULL: none. */
	const uint64_t *incarnation;
	uint64_t node;
	struct str address; /* host:port: listened on, and told to others */
	struct tls_ctx *server,
		*client;  /* referenced; both NULL: no encryption and no proof, for tests on one machine */
	bool voters_only; /* certificates of workers are refused */
	const struct mesh_ops *ops;
	void *context;
};

/* Listens. -EINVAL, -EADDRINUSE and so on. */
int mesh_new(const struct mesh_options *options, struct mesh **ret, struct err *err);
/* Closes everything; `closed` (may be NULL) is called when the memory goes, after closed() of each connection. */
void mesh_close(struct mesh *m, void (*closed)(void *arg), void *arg);
/* Dialled from now on. One that is known already gets this address. -EINVAL, -ENOBUFS. */
int mesh_dial(struct mesh *m, uint64_t node, struct str address, struct err *err);
/* Not dialled any more. Nothing of what it dialled is closed. */
void mesh_forget(struct mesh *m, uint64_t node);
/* Closes what a node dialled; it may dial again. */
void mesh_cut(struct mesh *m, uint64_t node);
/* STREAM_DONE, STREAM_QUEUED (taken; best wait for drained()); -ENOENT: never dialled; -ENOTCONN. */
int mesh_write(struct mesh *m, uint64_t node, const struct iovec *iov, int n);
bool mesh_reached(const struct mesh *m, uint64_t node);
size_t mesh_queued(const struct mesh *m, uint64_t node);

/* "127.0.0.1:7000" or "[::1]:7000" as a socket address; numbers only. -EINVAL. */
int mesh_address(struct str text, struct sockaddr_storage *ret, struct err *err);

#endif
