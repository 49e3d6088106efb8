/* rpc.h -- carries the library's messages between servers, in place of what raft_uv has for that: over mutual TLS, by
 * base/mesh, with a codec that believes nothing (rpc_codec.h).
 *
 * Call rpc_attach between raft_uv_init and guard_new: it takes over start, send and close of the raft_io, and leaves the files to
 * raft_uv, which gets a transport that carries nothing.
 * Happy path: the first message to a server dials it; messages that wait for the connection, or for a slow reader, keep the
 * library's memory (nothing large is copied) and are written in pieces; each is answered to the library in a later turn.
 * Failure modes: a message to a server that cannot be reached is answered RAFT_NOCONNECTION when the attempt failed, or when
 * newer ones displaced it; the library sends what matters again. A server that sends what the codec refuses is cut off.
 * Owns: its connections. Thread: the loop's. */
#ifndef RAFT_CONSENSUS_RPC_H
#define RAFT_CONSENSUS_RPC_H

#include <raft.h>
#include <raft/uv.h>

#include "consensus/consensus.h"
#include "core/err.h"

struct rpc;

struct rpc_options {
	const struct consensus_network *network;
	uint64_t id;
	const char *address;
};

/* The transport to give to raft_uv_init. -ENOMEM. */
int rpc_new(const struct rpc_options *options, struct rpc **ret, struct raft_uv_transport **ret_transport,
	    struct err *err);
/* From here on io->close waits for our connections too. */
void rpc_attach(struct rpc *r, struct raft_io *io);
/* Why io->start failed, or "". */
const char *rpc_why(const struct rpc *r);
/* Closes what a server dialled. */
void rpc_cut(struct rpc *r, uint64_t id);
/* After the raft_io is closed, or was never started. NULL is fine. */
void rpc_free(struct rpc *r);

#endif
