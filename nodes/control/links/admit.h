/* admit.h -- the owner's check of a request that another node forwarded: whatever the sender's route says, only a live session of that
 * very sandbox is served here. Pure. */
#ifndef CONTROL_LINKS_ADMIT_H
#define CONTROL_LINKS_ADMIT_H

#include "state/state.h"

/* The tables must be at least as new as the entry that opened the session, and the node's lease must last. */
bool admit_vouches(const struct state *s, uint64_t node, uint64_t pool, uint64_t generation,
		   uint64_t sandbox);

#endif
