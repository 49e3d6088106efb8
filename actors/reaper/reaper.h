/* reaper.h -- the actor that asks this node's sessions to end when they are idle or too old. */
#ifndef REAPER_REAPER_H
#define REAPER_REAPER_H

#include "runtime/actor.h"

enum reaper_state { REAPER_WATCHING, REAPER_STATES };

extern const struct sm_def reaper_sm;
extern const struct actor_class reaper_class;

#endif
