/* machine.h -- drives one state as consensus would: one command an entry, cluster time by hand, an audit after each.
 * Fails the program with the command's name when an invariant breaks. */
#ifndef MACHINE_MACHINE_H
#define MACHINE_MACHINE_H

#include "state/state.h"

#define MACHINE_NODES 8
#define MACHINE_START 1767225600000u /* 2026-01-01T00:00Z */

struct machine {
	struct state *s;
	uint64_t index, now_ms;
	uint64_t epoch[MACHINE_NODES], sequence[MACHINE_NODES];
	struct applied applied;
	bool quiet; /* no audit */
	/* a second state fed with the same entries; may be NULL */
	struct state *twin;
	struct buf entry; /* the last one's bytes */
};

void machine_init(struct machine *m); /* tables before CLUSTER_INIT */
void machine_done(struct machine *m);
/* CLUSTER_INIT and `nodes` nodes (ids from 1), each of 4,000 milli-vCPU x 8 and 8 GiB. */
void machine_start(struct machine *m, unsigned nodes);
/* The result is valid until the next call. */
const struct result *machine_do(struct machine *m, uint64_t node, uint8_t type, const void *body);
/* The same with everything by hand. */
const struct result *machine_command(struct machine *m, const struct command *c, uint64_t incarnation);
void machine_audit(struct machine *m, const char *what);

/* A pool "p<n>" with its update driven to its end; returns its uid. */
uint64_t machine_pool(struct machine *m, const char *name, uint32_t max_sessions, uint32_t ready);
uint64_t machine_pool_in(struct machine *m, const char *name, uint32_t max_sessions, uint32_t ready,
			 uint8_t isolation);
/* Nodes 1 to `nodes` run everything. */
void machine_able(struct machine *m, unsigned nodes);
struct msg_pool_put machine_put(const char *name, uint32_t max_sessions, uint32_t ready);
void machine_finish(struct machine *m, uint64_t operation);
uint64_t machine_boot(struct machine *m, uint64_t pool, uint64_t node);  /* sandbox id */
uint64_t machine_ready(struct machine *m, uint64_t pool, uint64_t node); /* booted and ready: sandbox id */
struct result machine_open(struct machine *m, uint64_t pool, const char *identifier);

#endif
