/* promise.h -- holds a server to its watermark: stands before raft_io's set_term, set_vote, truncate and snapshot_put, so
 * that each term, each vote and each cut of the log is recorded, and compares what the library loaded with the record. */
#ifndef RAFT_CONSENSUS_DISK_PROMISE_H
#define RAFT_CONSENSUS_DISK_PROMISE_H

#include <stdbool.h>

#include "core/err.h"

struct consensus;

/* Before the files are touched. `first`: they say that the server has never run. -EUCLEAN: but it has. -EINVAL: the record
 * is another server's. */
int promise_check_first(struct consensus *c, bool first, struct err *err);
/* After raft_uv_init, before the guard. */
void promise_hook(struct consensus *c);
/* After raft_start. -EUCLEAN: term, vote or entries were forgotten. Opens the record. */
int promise_check(struct consensus *c, struct err *err);
/* Once a turn: vouches for what is stored. */
void promise_turn(struct consensus *c);
void promise_close(struct consensus *c);

#endif
