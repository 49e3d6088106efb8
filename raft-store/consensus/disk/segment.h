/* segment.h -- a segment of libraft's log, before the library reads it: an open one that is shorter than its last batch
 * says crashes the library, a closed one is taken for an error of the disk. A last batch whose bytes are wrong is an
 * unfinished write, which the library drops by itself. */
#ifndef RAFT_CONSENSUS_DISK_SEGMENT_H
#define RAFT_CONSENSUS_DISK_SEGMENT_H

#include <stddef.h>

#include "core/err.h"

#define SEGMENT_BYTES_MAX (64u << 20)

/* -EUCLEAN: cut short. */
int segment_check(const char *path, struct err *err);
/* The same of a segment's bytes; `path` is for the message. */
int segment_check_bytes(const char *path, const void *bytes, size_t n, struct err *err);

#endif
