/* session.h -- the actor of one session, on its owner: the node whose sandbox it is bound to. */
#ifndef SESSION_SESSION_H
#define SESSION_SESSION_H

#include "runtime/actor.h"

enum session_actor_state {
	SESSION_ACTOR_LIVE,
	SESSION_ACTOR_QUIESCING, /* the gateway loops were asked to admit no more */
	SESSION_ACTOR_PROPOSING, /* `closing` is proposed */
	SESSION_ACTOR_PARTING, /* it is to be saved: the loops admit no more, and what is under way may end */
	SESSION_ACTOR_SAVING,  /* its sandbox was told to save its memory */
	SESSION_ACTOR_RESTING, /* it is saved, or on its way back: nobody is admitted here */
	SESSION_ACTOR_HALTING, /* the row is closing: the sandbox is being stopped */
	SESSION_ACTOR_ENDING,  /* nothing runs any more: `closed` is proposed */
	SESSION_ACTOR_GONE,
	SESSION_ACTOR_STATES
};

extern const struct sm_def session_sm;
extern const struct actor_class session_class;

#endif
