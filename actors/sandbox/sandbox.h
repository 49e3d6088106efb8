/* sandbox.h -- the actors that care for what runs on this node: one for each sandbox row, and one for orphans. */
#ifndef SANDBOX_SANDBOX_H
#define SANDBOX_SANDBOX_H

#include "runtime/actor.h"

enum sandbox_actor_state {
	SANDBOX_ACTOR_NEW,        /* a row; what runs is not known yet */
	SANDBOX_ACTOR_STARTING,   /* sandboxd was told to start it */
	SANDBOX_ACTOR_PROBING,    /* it runs and does not answer yet */
	SANDBOX_ACTOR_ANNOUNCING, /* it answers: ready is proposed */
	SANDBOX_ACTOR_SERVING,    /* the row is ready or bound */
	SANDBOX_ACTOR_SAVING,     /* its memory is being written down */
	SANDBOX_ACTOR_RESTING,    /* it is a file */
	SANDBOX_ACTOR_WAKING,     /* it is made to run again */
	SANDBOX_ACTOR_STOPPING,   /* sandboxd was told to stop it */
	SANDBOX_ACTOR_ENDING,     /* nothing of it runs: its end is proposed */
	SANDBOX_ACTOR_GONE,
	SANDBOX_ACTOR_STATES
};

enum orphans_state { ORPHANS_NONE, ORPHANS_ASKING, ORPHANS_STATES };

extern const struct sm_def sandbox_sm, orphans_sm;
extern const struct actor_class sandbox_class, orphans_class;

#define SANDBOX_START_MS \
	60000 /* of sandboxd's part of a start; and until the port answers, if the cluster does not say */
#define SANDBOX_GRACE_MS 10000 /* from the stop signal to SIGKILL */

#endif
