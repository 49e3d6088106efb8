/* rpc_codec.h -- the library's messages between servers as bytes, and back. Its own decoder believes every length that it
 * reads; this one does not: what comes out of it is whole, within the bounds below and consistent with itself, whatever went in.
 *
 * A message is a head {u32 type, u32 bytes of fields, u64 bytes of payload}, the fields, the payload: the entries' bytes one
 * behind the other, or a snapshot. Integers are little endian, strings have a length in front.
 * Memory that a decoded message holds is raft_malloc's, and belongs to whoever takes the message. Thread: the loop's. */
#ifndef RAFT_CONSENSUS_RPC_CODEC_H
#define RAFT_CONSENSUS_RPC_CODEC_H

#include <raft.h>
#include <stddef.h>
#include <stdint.h>

#include "consensus/consensus.h"
#include "core/buf.h"
#include "core/err.h"

#define RPC_HEAD_BYTES  16u
#define RPC_ENTRIES_MAX (1u << 20)
#define RPC_FIELDS_MAX  (16u * RPC_ENTRIES_MAX + 64)
#define RPC_PAYLOAD_MAX (8ull << 30)
#define RPC_ENTRY_MAX   (CONSENSUS_ENTRY_MAX + 64u) /* with its frame */
#define RPC_SERVERS_MAX 64u                         /* in a configuration */

/* Appends head and fields. The payload is rpc_payload's. Check buf_failed. */
void rpc_encode(const struct raft_message *m, struct buf *to);

/* The pieces of the payload that is sent behind the fields. */
struct rpc_payload {
	const struct raft_entry *entries;
	unsigned n_entries;
	struct raft_buffer snapshot;
};
/* Borrows from the message's memory, but not the message. */
struct rpc_payload rpc_payload(const struct raft_message *m);
unsigned rpc_payload_pieces(const struct rpc_payload *p);
struct raft_buffer rpc_payload_piece(const struct rpc_payload *p, unsigned i);

struct rpc_decoder {
	raft_id from;
	char address[CONSENSUS_ADDRESS_SIZE];
	struct buf fields; /* the head, then the fields in its place */
	size_t fields_size;
	uint64_t payload_size, payload_got, payload_room;
	char *payload;
	unsigned type; /* 0: in the head */
	struct raft_message message;
};

/* `from`: who is at the other end, beyond doubt; `address` must fit. */
void rpc_decoder_init(struct rpc_decoder *d, raft_id from, struct str address);
void rpc_decoder_done(struct rpc_decoder *d);
/* Takes bytes off *p. 1: ret is a whole message, the caller's with all its memory; go on with what is left. 0: all was taken.
 * -EBADMSG: no message of this protocol; -ENOMEM. Then only rpc_decoder_done. */
int rpc_decoder_take(struct rpc_decoder *d, struct str *p, struct raft_message *ret, struct err *err);

#endif
