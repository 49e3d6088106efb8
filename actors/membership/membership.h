/* membership.h -- the actor of the nodes' leases: on every node it keeps its own, on the leader it grants and ends all. */
#ifndef MEMBERSHIP_MEMBERSHIP_H
#define MEMBERSHIP_MEMBERSHIP_H

#include "runtime/actor.h"

enum membership_state { MEMBERSHIP_FOLLOWING, MEMBERSHIP_LEADING, MEMBERSHIP_STATES };

extern const struct sm_def membership_sm;
extern const struct actor_class membership_class;

#define MEMBERSHIP_NODES_MAX 1024

#endif
