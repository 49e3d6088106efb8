/* tally.h -- a state machine for tests: an entry is a uint64_t below TALLY_MAX, and it counts how often each came. */
#ifndef TESTS_CONSENSUS_TALLY_H
#define TESTS_CONSENSUS_TALLY_H

#include <stdbool.h>
#include <stdint.h>

#include "consensus/consensus.h"

#define TALLY_MAX (1u << 16)

#define TALLY_LARGE 1024 /* bytes of an entry that only fills the log; its first 8 are the value */

struct tally {
	uint64_t applied, hash, index; /* entries since the beginning, over them in order, of the last */
	uint64_t views;                /* snapshots that are not freed */
	uint16_t seen[TALLY_MAX];
};

struct consensus_machine tally_machine(struct tally *t);

/* Snapshots take so long to read, from now on; whether one is being read. For all tallies. */
void tally_read_slowly(unsigned ms);
bool tally_reading(void);

#endif
