/* recount.h -- the bill from the history of commands and their results, naively: shares no code with the ledger and
 * reads none of its rows but to compare. Source of the rules: docs/ledger.md. */
#ifndef MACHINE_RECOUNT_H
#define MACHINE_RECOUNT_H

#include "machine/machine.h"

#define RECOUNT_MAX 32768

#define SLEEPS_MAX 32

/* One sandbox's life. */
struct life {
	uint64_t sandbox, pool, node, generation;
	uint64_t cpu_milli, memory_bytes;
	uint64_t ready_ms, opened_ms, stopped_ms; /* 0: not yet */
	bool gone;
	/* Its sleeps; the last one lasts while its end is 0. */
	struct {
		uint64_t from_ms, to_ms;
	} sleeps[SLEEPS_MAX];
	unsigned n_sleeps;
	uint64_t target; /* of its move; 0: none */
};

struct recount {
	struct life *lives;
	unsigned n;
	uint64_t renewed_ms[MACHINE_NODES], lease_ms;
};

void recount_init(struct recount *r, uint64_t lease_ms);
void recount_done(struct recount *r);
/* After each command: what was asked, what was answered, when. Only code 0 counts. */
void recount_saw(struct recount *r, uint64_t now_ms, uint64_t asker, uint8_t type, const void *body,
		 const struct result *result);
/* How many buckets (with the corrections) differ from the lives, over all pools; prints the first few if told to. */
unsigned recount_differences(const struct recount *r, const struct state *s, bool print);
struct life *recount_life(struct recount *r, uint64_t sandbox);

#endif
