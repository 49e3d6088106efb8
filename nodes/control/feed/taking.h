/* taking.h -- the bytes of a snapshot, made piece by piece on a thread, no faster than they are asked for.
 * At most TAKING_PIECES wait: then the thread waits. Owns: the snapshot. Thread: the control loop, except where said. */
#ifndef CONTROL_FEED_TAKING_H
#define CONTROL_FEED_TAKING_H

#include "core/buf.h"
#include "state/state.h"

#define TAKING_PIECES 2

struct taking;

/* wake() is called from the thread, whenever there is something to take again. */
struct taking *taking_new(struct state_snapshot *snapshot, void (*wake)(void *arg), void *arg);
/* Ends the thread, waits for it, frees the snapshot. */
void taking_free(struct taking *t);
/* 1: *ret is the next piece and now the caller's; 0: none yet; -ENODATA: that was all; -ENOMEM. */
int taking_next(struct taking *t, struct buf *ret);

#endif
