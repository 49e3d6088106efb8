/* judge.h -- what must hold, judged where it happens.
 *
 * The first node that applies an index says what belongs there; its tables are the truth up to there. Against it are held: every
 * other node's entry and tables' hash at that index (5), table invariants (1, 2, 3), generations and bindings for all time (1, 2),
 * each served request (4), what runs or is frozen when a session ends and its identifier is free again (1, 4), answers to
 * clients (5, history.c), and the ledger against what ran and when (6, bill.c).
 * Numbers as in docs/architecture.md. Owns: the history. */
#ifndef SIM_JUDGE_JUDGE_H
#define SIM_JUDGE_JUDGE_H

#include "sim/judge/linear.h"
#include "sim/sim.h"

#define JUDGE_IDS 65536 /* ids and generations are small numbers here */

/* A sandbox, from its row's first appearance on. */
struct judge_sandbox {
	uint64_t node, pool, generation, ready_ms; /* generation 0: never bound */
	uint64_t
		over_wall_ms; /* by its node's clock, when nothing of it ran any more; 0: it runs, or nobody can know */
	uint32_t cpu_milli, n_records;
	uint64_t slept_ms; /* as its row says */
	uint64_t count;    /* requests that it served, wherever it was */
	uint64_t memory_bytes;
	bool over, ended,
		lost; /* over: it ran, and does not any more; ended: its row is gone; lost: with its node */
};

struct judge_session {
	uint64_t pool, sandbox, node, opened_ms;
	uint64_t born_ms;    /* virtual time when it was live first */
	uint64_t over_ms;    /* virtual time when nothing of its sandbox ran any more; 0: it runs */
	uint32_t identifier; /* a small number: user-<n> */
	bool seen, live, ended;
};

struct history;
struct bill;
struct repeats;

struct judge *judge_new(struct sim *s);
void judge_free(struct judge *j);

/* Before and after state_apply on any node; after a restore. */
void judge_entry(struct sim_node *n, uint64_t index, const void *entry, size_t size);
void judge_applied(struct sim_node *n, uint64_t index, const struct applied *applied);
void judge_restored(struct sim_node *n);
/* Entries between audits of the tables; 0: each entry. */
void judge_every(struct sim *s, uint32_t entries);

/* The bytes of an applied entry, for workers; NULL: nobody applied it yet, or it is none of the tables'. */
const struct buf *judge_bytes(const struct sim *s, uint64_t index);
uint64_t judge_index(const struct sim *s); /* up to where the truth goes */
const struct judge_sandbox *judge_sandbox(const struct sim *s, uint64_t id);
const struct judge_session *judge_session(const struct sim *s, uint64_t generation);

/* What happened outside of the tables. */
void judge_start(struct sim_node *n, uint64_t sandbox);
/* A start with that isolation. */
void judge_isolation(struct sim_node *n, uint64_t pool, uint8_t isolation);
void judge_stop(struct sim_node *n, uint64_t sandbox);
/* It runs from now on, from what was saved of it. */
void judge_went_on(struct sim_node *n, uint64_t sandbox);
/* By its own memory it has served so many. */
void judge_counts(struct sim_node *n, uint64_t sandbox, uint64_t count);
void judge_stopped(struct sim *s, uint64_t pool, uint32_t identifier, uint64_t begun_ms); /* acknowledged */
void judge_over(struct sim_node *n, uint64_t sandbox,
		bool known);           /* nothing of it runs any more; known: sandboxd knows when */
void judge_thawed(struct sim_node *n); /* the fence was moved */
/* vouched: by the owner's tables; placement's word may come so late that the session is ending already. */
void judge_served(struct sim_node *owner, uint64_t generation, uint64_t sandbox, uint64_t pool,
		  uint32_t identifier, bool vouched);

/* history.c: what clients and owners saw. Of all that is over. */
void history_add(struct sim *s, uint64_t pool, uint32_t identifier, enum linear_kind kind,
		 uint64_t generation, uint64_t begin_ms, uint64_t end_ms);
void history_check(struct sim *s);
struct history *history_new(void);
void history_free(struct history *h);
struct history *judge_history(struct sim *s);

/* repeats.c: a command that comes twice has the result of its first time. */
struct repeats *repeats_new(void);
void repeats_free(struct repeats *r);
void repeats_check(struct repeats *r, struct sim *s, const struct applied *applied);

/* bill.c: the ledger, recounted. */
struct bill *bill_new(void);
void bill_free(struct bill *b);
/* The records that an entry made. */
void bill_records(struct bill *b, struct sim *s, const struct state *tables);
/* All that was ever counted, for each pool. */
void bill_check(struct bill *b, struct sim *s, const struct state *tables);
/* For bill.c: to be changed. */
struct judge_sandbox *judge_sandbox_of(struct sim *s, uint64_t id);

#endif
