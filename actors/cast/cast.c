#include "cast.h"

#include "arrival/arrival.h"
#include "cache/cache.h"
#include "drain/drain.h"
#include "membership/membership.h"
#include "placement/placement.h"
#include "pool/pool.h"
#include "reaper/reaper.h"
#include "sandbox/sandbox.h"
#include "session/session.h"

const struct actor_class *const cast_classes[CAST_CLASSES] = {
	&placement_class, &membership_class, &pool_class,   &cache_class, &images_class,  &sandbox_class,
	&orphans_class,   &session_class,    &reaper_class, &drain_class, &arrival_class,
};
