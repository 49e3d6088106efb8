/* arrival.h -- the actor of a sandbox that moves to this node, from its row's naming the node as target to the move's end. */
#ifndef ARRIVAL_ARRIVAL_H
#define ARRIVAL_ARRIVAL_H

#include "runtime/actor.h"

enum arrival_state {
	ARRIVAL_WAITING,  /* it is not saved yet, or this node has not joined */
	ARRIVAL_CLEARING, /* what an earlier try left is removed */
	ARRIVAL_FETCHING, /* its file is copied */
	ARRIVAL_LOADING,  /* it is loaded, and paused */
	ARRIVAL_MOVING,   /* `moved` is proposed */
	ARRIVAL_KEEPING,  /* it cannot be had: `kept` is proposed */
	ARRIVAL_REMOVING, /* it stays where it was: what is here goes */
	ARRIVAL_GONE,
	ARRIVAL_STATES
};

extern const struct sm_def arrival_sm;
extern const struct actor_class arrival_class;

#endif
