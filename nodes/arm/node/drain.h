/* drain.h -- orders about a node (cordon, uncordon, drain, cancel) and the progress of a drain, below
 * /.berth/v1/nodes/<node>; and the raising of the cluster's feature level once all nodes have it. Progress is read from the tables; who of the sessions is busy, their owner is asked. */
#ifndef ARM_DRAIN_H
#define ARM_DRAIN_H

#include "arm/call.h"
#include "arm/continuation.h"

call_handler drain_cordon, drain_uncordon, drain_begin, drain_cancel, drain_show, drain_upgrade;

/* The reply to a MSG_NODE_ORDERED. */
void drain_answer(struct call *c, const struct arm_continuation *then, const struct msg_node_ordered *answer);

#endif
