/* frame.h -- how bytes are wrapped before libraft stores them.
 *
 * libraft makes segments that it cannot read again unless every entry is a multiple of 8 long, so an entry
 * is {u32 format = 1, u32 length}, the bytes, zeros. A snapshot is {u64 magic, u64 length, u64 hash}, the
 * bytes, zeros; the hash because libraft checks no snapshot's content. Little endian. Nothing here
 * allocates. */
#ifndef RAFT_CONSENSUS_FRAME_H
#define RAFT_CONSENSUS_FRAME_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"
#include "core/str.h"

#define FRAME_ENTRY_HEAD    8u
#define FRAME_SNAPSHOT_HEAD 24u

/* Bytes with head and padding. */
size_t frame_entry_size(size_t n);
/* Fills frame_entry_size(n) bytes at `to`. */
void frame_entry_write(void *to, const void *p, size_t n);
/* *ret points into p. -EBADMSG. */
int frame_entry_read(const void *p, size_t n, struct str *ret, struct err *err);

/* Zeros that must follow n bytes of snapshot. */
size_t frame_snapshot_padding(uint64_t n);
#define FRAME_HASH_SEED 0u
uint64_t frame_hash(uint64_t hash, const void *p, size_t n);
void frame_snapshot_head(unsigned char to[FRAME_SNAPSHOT_HEAD], uint64_t n, uint64_t hash);
/* The length of the whole frame that a head announces. -EBADMSG. */
int frame_snapshot_size(const unsigned char head[FRAME_SNAPSHOT_HEAD], uint64_t *ret, struct err *err);
/* Checks length and hash; *ret points into p. -EBADMSG. */
int frame_snapshot_read(const void *p, size_t n, struct str *ret, struct err *err);

#endif
