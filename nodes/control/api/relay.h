/* relay.h -- requests that change something, asked of a worker: a voter answers them, for a worker may not propose such a thing.
 *
 * Happy path: the request goes whole, with its token, to the voter that feeds this worker, which treats it like one of its own
 * clients'; its answer goes to the client. Failure modes: no voter, or no answer in time: 503, or 504 with the outcome unknown. What
 * has no token is refused: the admin socket of a worker has no say over the cluster.
 * Thread: the control loop. */
#ifndef CONTROL_API_RELAY_H
#define CONTROL_API_RELAY_H

#include "control/api/api.h"

#define RELAYS_MAX 256 /* that a voter works on at a time */

/* Of requests that a voter answers for a worker. */
struct relay {
	uint64_t id; /* 0: free */
	struct address asker;
	uint64_t correlation;
};
static inline bool relay_is(uint64_t id)
{
	return id >> 63 != 0;
}

/* True: on this worker the request is not handled; it was relayed or refused. */
bool relay_begin(struct api_call *call);
/* MSG_RELAYED or its refusal. */
void relay_answered(struct api_call *call, uint16_t type, const void *body);
/* MSG_RELAY, on a voter. */
void relay_question(struct control *c, const struct envelope *question);
/* The answer to a request with relay_is(id). */
void relay_reply(struct control *c, uint64_t id, const struct gateway_api_reply *reply);

#endif
