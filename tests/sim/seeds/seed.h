/* seed.h -- one random run of a cluster: clients and faults for about a minute, then all heals and must come to rest. */
#ifndef SEEDS_SEED_H
#define SEEDS_SEED_H

#include "sim/sim.h"

/* 0 and -1 where the seed chooses. */
struct seed_options {
	uint32_t voters;
	int workers;
	bool unguarded;
};

struct seed_result {
	uint64_t seed, trace, counts[FAULTS];
	uint64_t asks, served, stale, entries, events, virtual_ms;
};

/* Does not return when something that must hold does not. */
void seed_run(uint64_t seed, const struct seed_options *options, struct seed_result *ret);

#endif
