/* feeder.h -- a voter's side of workers' feeds: snapshot first if need be, then each entry that was applied.
 *
 * Happy path: a worker asks from the index that it has; what is behind it comes out of the ring, entry by entry, as fast as
 * the worker says that it took it. A worker that has nothing, or is behind the ring, gets a snapshot, which a thread makes.
 * Failure modes: a worker that is slow is left behind by the ring and begins anew; one that takes nothing for
 * FEEDER_SILENT_MS is forgotten. Neither makes the voter grow: FEED_WINDOW_BYTES and TAKING_PIECES a worker, the ring for all. No more than FEEDER_SNAPSHOTS are made at a time, and no more than one a second for one worker.
 * Owns: its ring, its threads. Borrows: the tables. Thread: the control loop. */
#ifndef CONTROL_FEED_FEEDER_H
#define CONTROL_FEED_FEEDER_H

#include "control/feed/wire.h"
#include "core/err.h"
#include "loop/loop.h"
#include "state/state.h"

#define FEEDER_WORKERS_MAX 64
#define FEEDER_SNAPSHOTS   2
#define FEEDER_SILENT_MS   5000

struct feeder;

struct feeder_options {
	struct loop *loop;
	struct state *state;
	uint64_t ring_bytes;
	/* 0 or -errno: -EMSGSIZE and -ENOBUFS are tried otherwise or later, others end the feed. */
	int (*send)(void *context, uint64_t worker, const void *piece, size_t n);
	void (*leader)(void *context, uint64_t *ret_leader, uint64_t *ret_term);
	struct str tag_key; /* lives as long as the feeder */
	void *context;
};

int feeder_new(const struct feeder_options *options, struct feeder **ret, struct err *err);
void feeder_free(struct feeder *f);
/* What a node asked. -EBADMSG; -EPERM: it is a voter; -ENOBUFS: too many. */
int feeder_asked(struct feeder *f, uint64_t worker, const void *ask, size_t n, uint64_t boot_ms,
		 struct err *err);
/* After each state_apply. */
void feeder_applied(struct feeder *f, uint64_t index, const void *entry, size_t n);
/* After a state_restore. */
void feeder_restored(struct feeder *f);
/* The connection to it broke: what was under way is lost. */
void feeder_gone(struct feeder *f, uint64_t worker);
/* Once a turn, and FEED_BEAT_MS apart at most. */
void feeder_turn(struct feeder *f, uint64_t boot_ms);

struct feeder_counts {
	uint32_t workers;                    /* that are fed now */
	uint64_t snapshots, entries, behind; /* behind: feeds that the ring left */
	uint64_t ring_bytes;
};
void feeder_count(const struct feeder *f, struct feeder_counts *ret);

#endif
