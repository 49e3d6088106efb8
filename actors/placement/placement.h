/* placement.h -- the actor that gives identifiers their sessions and pools their ready sandboxes. Acts on the leader. */
#ifndef PLACEMENT_PLACEMENT_H
#define PLACEMENT_PLACEMENT_H

#include "runtime/actor.h"

enum placement_state { PLACEMENT_FOLLOWING, PLACEMENT_LEADING, PLACEMENT_STATES };

extern const struct sm_def placement_sm;
extern const struct actor_class placement_class;

#define PLACEMENT_ASKERS_MAX     65536 /* open requests that wait at once */
#define PLACEMENT_BOOTS_PER_NODE 4     /* sandboxes of a node that boot at once */

#endif
