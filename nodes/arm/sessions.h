/* sessions.h -- a pool's sessions: the `.management` calls of its endpoint, and Berth's lists and stop for operators. */
#ifndef ARM_SESSIONS_H
#define ARM_SESSIONS_H

#include "arm/call.h"
#include "arm/continuation.h"

/* Below a pool's endpoint; c->pool is set. */
call_handler sessions_data_stop, sessions_data_get, sessions_data_list;
/* Below /.berth/v1/<pool>. */
call_handler sessions_list, sessions_stop, sessions_suspend, sessions_resume, sessions_logs;

/* Wall clock of the session's last request; at first it is only noted that its owner must be asked. */
uint64_t sessions_last_activity(struct call *c, const struct session_row *row);
/* The reply to a MSG_STOPPED. */
void sessions_answer(struct call *c, const struct arm_continuation *then, const struct msg_stopped *answer);

/* The reply to a MSG_RESTED. */
void sessions_rested(struct call *c, const struct arm_continuation *then, const struct msg_rested *answer);

#endif
