/* operator.h -- what operators do to a cluster while it works: pools are updated, nodes cordoned, drained and brought back. */
#ifndef SEEDS_OPERATOR_H
#define SEEDS_OPERATOR_H

#include "sim/sim.h"

void operator_updates(struct sim *s, uint64_t node, uint32_t slot); /* pool "first" or "second" */
void operator_orders(struct sim *s, uint64_t node);                 /* about any node */
void operator_rests(struct sim *s, uint64_t node); /* a session of the second pool sleeps, or wakes */
void operator_ends(struct sim *s);                 /* no node stays cordoned */
/* What the pool shows is no older than the last update that was acknowledged. */
void operator_check(struct sim *s, uint32_t slot, uint64_t pool);

#endif
