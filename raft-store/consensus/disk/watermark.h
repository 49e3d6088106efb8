/* watermark.h -- a server's own record of what it promised: its term, its vote, and how far its log goes.
 *
 * libraft takes a short metadata file for none and begins with term 0, and takes damage in the middle of its open segment
 * for an unfinished write and drops all behind it: a server that voted, or acknowledged entries, and forgot it can help to
 * elect a leader that never had them. So the same is kept once more, in a file beside the directory (it outlives the
 * directory), and a start from files that say less is refused.
 *
 * Term and vote are on the disk before libraft hears that they are stored. How far the log goes is written by a thread of
 * its own: at once when it rests, and at most WATERMARK_EACH_MS after its last write began. The window: what was
 * acknowledged in the last WATERMARK_EACH_MS and one write of the disk, 50 ms on a disk that takes 25, is covered by libraft's
 * own checks alone. Nothing is written while nothing is stored.
 *
 * Two slots, written in turn, so that a torn write leaves the other. They are allocated when the file is made: a full disk
 * stops no write.
 * Owns: the file, the thread. Thread: any one, which may block in watermark_promise and watermark_lower. */
#ifndef RAFT_CONSENSUS_DISK_WATERMARK_H
#define RAFT_CONSENSUS_DISK_WATERMARK_H

#include <stdint.h>

#include "core/err.h"

#define WATERMARK_EACH_MS 25

struct watermark_record {
	uint64_t id;         /* whose */
	uint64_t term, vote; /* 0: none */
	uint64_t index;      /* the log goes at least here, or a snapshot does */
	uint64_t index_term; /* 0: not known */
};

struct watermark;

/* -ENOENT: there is none. -EUCLEAN: neither slot is whole. */
int watermark_read(const char *path, struct watermark_record *ret, struct err *err);
/* Durably, in place of whatever is there. */
int watermark_create(const char *path, const struct watermark_record *record, struct err *err);
/* Of an existing file that holds `record`. */
int watermark_open(const char *path, const struct watermark_record *record, struct watermark **ret,
		   struct err *err);
/* Writes what is not written yet. */
void watermark_close(struct watermark *w);

/* Soon; does not wait for the disk. */
void watermark_raise(struct watermark *w, uint64_t index, uint64_t index_term);
/* On the disk when it returns. A negative errno: it is not. */
int watermark_promise(struct watermark *w, uint64_t term, uint64_t vote);
/* The log is about to be cut: from now on no more than this is vouched for. On the disk when it returns. */
int watermark_lower(struct watermark *w, uint64_t index, uint64_t index_term);

/* What the next start will be held to, as far as it was asked for; and the index as far as it is on the disk. */
struct watermark_record watermark_wanted(const struct watermark *w);
uint64_t watermark_written(struct watermark *w);

#endif
