/* drain.h -- the actor that takes operators' orders about nodes, and on the leader empties those that drain. */
#ifndef DRAIN_DRAIN_H
#define DRAIN_DRAIN_H

#include "runtime/actor.h"

enum drain_state { DRAIN_FOLLOWING, DRAIN_LEADING, DRAIN_STATES };

extern const struct sm_def drain_sm;
extern const struct actor_class drain_class;

#define DRAIN_ORDERS_MAX 64 /* orders that wait for their entry */
#define DRAIN_ENDS_MAX   64 /* sandboxes that are ended at once, past a deadline */

#endif
