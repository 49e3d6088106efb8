/* fixture.h -- libraft's own simulated cluster with a guard in front of each server, and a judge: the
 * first server that applies an index says what belongs there, and every other must agree (State Machine
 * Safety). */
#ifndef TESTS_CONSENSUS_FIXTURE_H
#define TESTS_CONSENSUS_FIXTURE_H

#include <raft/fixture.h>

#include "consensus/guard.h"

#define FIXTURE_INDEX_MAX 100000

struct fixture_state {
	uint64_t hash, applied;
};

struct fixture {
	struct raft_fixture raft;
	unsigned n;
	struct raft_fsm machines[RAFT_FIXTURE_MAX_SERVERS];
	struct fixture_state states[RAFT_FIXTURE_MAX_SERVERS];
	struct guard *guards[RAFT_FIXTURE_MAX_SERVERS];
	uint64_t applied[FIXTURE_INDEX_MAX];      /* the value applied at each index; 0: none yet */
	uint64_t acknowledged[FIXTURE_INDEX_MAX]; /* the value that a proposer was told is there */
	const char *violation;                    /* the first; NULL: none */
};

/* `off` is for each guard. Thresholds of snapshots can be set between init and start. */
void fixture_init(struct fixture *f, unsigned n, uint32_t off);
void fixture_start(struct fixture *f);
void fixture_done(struct fixture *f);

struct raft *fixture_server(struct fixture *f, unsigned i);
/* Proposes `value`, which is above 0, on server i; whether it was accepted. */
bool fixture_propose(struct fixture *f, unsigned i, uint64_t value);
/* Both directions between a and b. */
void fixture_cut(struct fixture *f, unsigned a, unsigned b);
void fixture_heal(struct fixture *f, unsigned a, unsigned b);

#endif
