/* pools.h -- handlers of Microsoft.App/sessionPools and of its operations. */
#ifndef ARM_POOLS_H
#define ARM_POOLS_H

#include "arm/call.h"

call_handler pools_put, pools_get, pools_patch, pools_delete, pools_list, pools_list_group;
call_handler operations_status, operations_result;

/* The reply to a MSG_POOL_ANSWER. */
void pools_answer(struct call *c, const struct arm_continuation *then, const struct msg_pool_answer *answer);

#endif
