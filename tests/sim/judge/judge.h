/* judge.h -- what must hold, judged where it happens.
 *
 * The first node that applies an index says what belongs there; its tables are the truth up to there. Against it are held: every
 * other node's entry and tables' hash at that index (5), table invariants (1, 2, 3), generations and bindings for all time (1, 2),
 * each served request (4) and its lease, answers to clients (5), and the ledger against what really ran and when (6).
 * Numbers as in docs/architecture.md. Owns: the history. */
#ifndef SIM_JUDGE_JUDGE_H
#define SIM_JUDGE_JUDGE_H

#include "sim/sim.h"

struct judge *judge_new(struct sim *s);
void judge_free(struct judge *j);

/* Before and after state_apply on any node; after a restore. */
void judge_entry(struct sim_node *n, uint64_t index, const void *entry, size_t size);
void judge_applied(struct sim_node *n, uint64_t index, const struct applied *applied);
void judge_restored(struct sim_node *n);
/* Entries between audits of the tables; 0: each entry. */
void judge_every(struct sim *s, uint32_t entries);
/* The bytes of an applied entry, for workers; NULL: nobody applied it yet, or it is none of the tables'. */
const struct buf *judge_bytes(const struct sim *s, uint64_t index);
uint64_t judge_index(const struct sim *s); /* up to where the truth goes */

/* A sandbox began to listen, or does not run any more. */
void judge_ended(struct sim_node *n, uint64_t sandbox);

#endif
