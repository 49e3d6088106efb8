/* voters.h -- which nodes are voters: 1, 3 or 5 of those that may be, one change at a time. Part of the membership actor. */
#ifndef MEMBERSHIP_VOTERS_H
#define MEMBERSHIP_VOTERS_H

#include "runtime/actor.h"

#define VOTERS_MAX 5

enum voters_doing {
	VOTERS_IDLE,
	VOTERS_BEGINNING, /* MEMBER_BEGIN is proposed */
	VOTERS_CHANGING,  /* the log changes */
	VOTERS_ENDING,    /* MEMBER_END is proposed */
	VOTERS_DROPPING   /* NODE_DROP is proposed, or leadership is handed over */
};

struct voters {
	uint8_t doing;    /* enum voters_doing */
	uint64_t request; /* of that */
	uint64_t operation;
	uint64_t pause_until_ms;
};

/* On the leader, once a second and after each outcome. */
void voters_tick(struct voters *v, struct context *c);
/* True if the correlation was of one of its requests. */
bool voters_outcome(struct voters *v, struct context *c, uint64_t request, int32_t code, struct str message);
void voters_clear(struct voters *v);

/* What should be done next; false: nothing. */
bool voters_next(const struct state *s, struct cmd_member_begin *ret);

#endif
