/* cast.h -- the actors that a node runs: for runtime_options.classes. */
#ifndef CAST_CAST_H
#define CAST_CAST_H

#include "runtime/actor.h"

#define CAST_CLASSES 11

extern const struct actor_class *const cast_classes[CAST_CLASSES];

#endif
