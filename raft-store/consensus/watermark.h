/* watermark.h -- how far a server's log must at least go when it comes back.
 *
 * libraft takes damage in the middle of its open segment for an unfinished write, drops everything behind it, and starts: a
 * server that acknowledged entries and forgot them can help to elect a leader that never had them. So while entries are
 * committed, the last committed index and its term are written to `watermark` every two seconds, on a thread of the pool,
 * and a log that does not reach it, or disagrees, is refused at the start. What was acknowledged in the last two seconds
 * is not covered.
 * Invariant: what is written is committed and stored here, so no leader may ever truncate it. */
#ifndef RAFT_CONSENSUS_WATERMARK_H
#define RAFT_CONSENSUS_WATERMARK_H

#include "core/err.h"

struct consensus;

/* After raft_start. -EUCLEAN: the log lost entries. */
int watermark_check(const struct consensus *c, struct err *err);
/* Once a turn: begins a write when it is time for one. */
void watermark_turn(struct consensus *c);

#endif
