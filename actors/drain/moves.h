/* moves.h -- virtual machines of draining nodes go to others, some at a time. Part of the drain actor, on the leader.
 * What is under way is in the rows; what is remembered here is only what is proposed, and what failed lately. */
#ifndef DRAIN_MOVES_H
#define DRAIN_MOVES_H

#include "runtime/actor.h"

#define MOVES_MAX       4  /* of one node at once */
#define MOVES_TRIED_MAX 64 /* remembered: not tried again for a while */

struct moves {
	uint64_t request; /* the proposal whose outcome is awaited; 0: none */
	struct {
		uint64_t sandbox, from, again_ms;
	} tried[MOVES_TRIED_MAX];
	uint32_t next_tried;
};

/* Proposes the next move from the draining node, if there is one. */
void moves_next(struct moves *m, struct context *c, const struct node_row *from);
/* True if the correlation was of its proposal. */
bool moves_proposed(struct moves *m, uint64_t request);

#endif
