/* refill.h -- keeps every pool's share of ready sandboxes: boots what lacks, replaces what is outdated.
 *
 * The target of a pool is waiters + min(ready target, max - sessions). Boot slots of the nodes go to waiters first, then
 * round robin over the pools; a failing pool gets one, with a back-off. Part of the placement actor. */
#ifndef PLACEMENT_REFILL_H
#define PLACEMENT_REFILL_H

#include "runtime/actor.h"

#define REFILL_PROPOSALS_MAX 64

/* A proposal that is under way. */
struct refill_proposal {
	uint64_t request, pool, node; /* request 0: free; node 0: a replacement */
};

struct refill {
	struct refill_proposal proposals[REFILL_PROPOSALS_MAX];
	uint64_t last_pool; /* whose turn it was */
};

/* cluster_ms: cluster time as well as this node knows it. */
void refill_run(struct refill *r, struct context *c, uint64_t cluster_ms);
/* True if the correlation was of one of its proposals. */
bool refill_proposed(struct refill *r, uint64_t request);

#endif
