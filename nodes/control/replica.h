/* replica.h -- this node's copy of the tables, wherever its entries come from: the log on a voter, a voter's feed on a worker.
 *
 * Happy path: each entry is applied and told to actors, proposer and, on a voter, to the workers that it feeds.
 * Failure modes: an entry that cannot be applied ends the program; a voter that feeds and goes away is replaced by another.
 * Thread: the control loop. */
#ifndef CONTROL_REPLICA_H
#define CONTROL_REPLICA_H

#include "control/control.h"

/* Behind the tables, the log on voters. Before peers are dialled, behind runtime and proposer. */
int replica_open(struct control *c, struct err *err);
int replica_apply(struct control *c, uint64_t index, const void *entry, size_t n, struct err *err);
/* The tables become `fresh`, and `fresh` what they were. */
void replica_restored(struct control *c, struct state *fresh);
/* Once a turn, behind everything else; and four times a second. */
void replica_turn(struct control *c, uint64_t boot_ms);
void replica_tick(struct control *c, uint64_t boot_ms);
/* Frames PEER_FEED and PEER_FEED_ASK. */
void replica_frame(struct control *c, uint64_t from, uint8_t type, const void *p, size_t n);
void replica_peer(struct control *c, uint64_t node, bool reachable);

/* As the log knows it, or the voter that feeds; 0: none known. */
uint64_t replica_leader(struct control *c);
uint64_t replica_term(const struct control *c);
/* Of the last entry in the tables. */
uint64_t replica_applied(const struct control *c);
/* Zeros on a worker. */
void replica_count(const struct control *c, struct consensus_counts *ret);

#endif
