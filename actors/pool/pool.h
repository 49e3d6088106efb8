/* pool.h -- the actor that carries a pool's operation on, on the leader. Key 0 stands for pools that do not exist yet. */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include "runtime/actor.h"

enum pool_actor_state {
	POOL_ACTOR_FOLLOWING,
	POOL_ACTOR_IDLE,      /* no operation runs, or it goes on by itself (drain) */
	POOL_ACTOR_RESOLVING, /* sandboxd asks the registry what the image's tag names */
	POOL_ACTOR_CACHING,   /* the nodes were asked to have the image */
	POOL_ACTOR_STEPPING,  /* the operation's next phase is proposed */
	POOL_ACTOR_BACKING,   /* something that may pass by itself failed; again after a while */
	POOL_ACTOR_GONE,
	POOL_ACTOR_STATES
};

extern const struct sm_def pool_sm;
extern const struct actor_class pool_class;

#define POOL_RETRY_MS \
	300000 /* how long what may pass by itself is tried again, if the cluster does not say */

#endif
