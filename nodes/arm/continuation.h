/* continuation.h -- what arm_answer needs to know of the request that posted a message; in the request's arena. */
#ifndef ARM_CONTINUATION_H
#define ARM_CONTINUATION_H

#include "arm/call.h"

enum arm_then { THEN_PUT, THEN_PATCH, THEN_DELETE, THEN_STOP_DATA, THEN_STOP, THEN_REST, THEN_ORDER };

struct arm_continuation {
	uint8_t then; /* enum arm_then */
	struct call call;
	const struct msg_pool_put *put; /* PUT, PATCH */
	struct str location;            /* of the resource, for links */
	struct str identifier;          /* STOP */
	bool resume;                    /* REST */
	uint64_t node;                  /* ORDER */
};

/* Makes the outcome a message to `to`. */
void continuation_post(struct call *c, enum arm_then then, struct address to, uint16_t type, const void *body,
		       struct arm_continuation values);

#endif
