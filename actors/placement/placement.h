/* placement.h -- the actor that gives identifiers their sessions and pools their ready sandboxes. Acts on the leader. */
#ifndef PLACEMENT_PLACEMENT_H
#define PLACEMENT_PLACEMENT_H

#include "runtime/actor.h"

enum placement_state { PLACEMENT_FOLLOWING, PLACEMENT_LEADING, PLACEMENT_STATES };

extern const struct sm_def placement_sm;
extern const struct actor_class placement_class;

#define PLACEMENT_ASKERS_MAX     65536 /* open requests that wait at once */
#define PLACEMENT_BOOTS_PER_NODE 4     /* sandboxes of a node that boot at once */
#define PLACEMENT_LATE_MS        4000  /* four renewals */

/* Out of reach of this leader, or it did not renew for so long that it may be gone: nothing is given to it while another node can
 * take it. */
static inline bool placement_late(const struct context *c, const struct node_row *node)
{
	return runtime_is_away(c->runtime, node->id) ||
	       state_cluster(c->state)->time_ms > node->renewed_ms + PLACEMENT_LATE_MS;
}

#endif
