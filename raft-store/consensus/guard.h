/* guard.h -- makes libraft 0.15.0 safe from outside, by standing between the library and its raft_io.
 *
 * As released the library can lose committed entries (canonical/raft #220 and others below). `struct raft`
 * and `struct raft_io` are public, so every known fault is corrected where a message, a tick or a finished
 * write enters or leaves the library. Each rule is one function in rules/, with its reason and the
 * upstream commit.
 *
 * Owns: itself and its barrier request. Borrows: the raft and its raft_io, until guard_free. Thread: the
 * loop's. The guard takes raft->data for itself. */
#ifndef RAFT_CONSENSUS_GUARD_H
#define RAFT_CONSENSUS_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

struct raft;
struct guard;

enum guard_rule {
	GUARD_TERM_BARRIER,  /* a leader commits nothing before an entry of its own term */
	GUARD_WRITE_FAILURE, /* a failed write of the log ends the process */
	GUARD_STALE_RESULT,  /* no answer to a leader whose entries were not the ones written */
	GUARD_VERIFIED,      /* a follower acknowledges only what this leader compared */
	GUARD_COMMIT_LIMIT,  /* a follower commits only what this leader compared */
	GUARD_COMPACTED,     /* entries below the compacted prefix are not appended again */
	GUARD_BUSY_TICK,     /* no candidacy while entries or a snapshot are being written */
	GUARD_BUSY_TRANSFER, /* nor by TimeoutNow */
	GUARD_PEER_MATCH,    /* the leader commits what a quorum has, though its own write is ahead (speed) */
	GUARD_TRAILING,      /* enough log stays behind a snapshot */
	GUARD_COMMIT_NEWS,   /* followers hear of a commit at once, not with the next heartbeat (speed) */
	GUARD_ONE_BARRIER,   /* the log is not cut while a snapshot is stored, nor the other way round */
	GUARD_REAPPEND,      /* an entry is not taken again while its first copy is in use */
	GUARD_ONE_VOTE,      /* one vote a term, also for the one that takes over */
	GUARD_SNAPSHOT_SENT, /* a refused heartbeat is not taken for a refused snapshot */
	GUARD_ROLLBACK,      /* a configuration can be rolled back though its entry was compacted away */
	GUARD_RULES,
};

/* Entries that must stay in the log behind a snapshot. */
#define GUARD_TRAILING_MIN 8192

struct guard_options {
	/* Called after each tick, message and finished write, when the library is in a settled state. May be NULL. */
	void (*settled)(void *arg);
	void *arg;
	/* Bits 1 << rule that are switched off. Only for tests that show what the rule prevents. */
	uint32_t off_for_tests;
};

/* Call between raft_init (and raft_set_snapshot_trailing) and raft_start. -EINVAL: a setting that no rule can
 * make safe; -ENOMEM. */
int guard_new(struct raft *r, const struct guard_options *options, struct guard **ret, struct err *err);
/* After raft_close's callback. */
void guard_free(struct guard *g);

/* raft_start may itself make the only voter a leader: call this right after it. */
void guard_settle(struct guard *g);

/* Before the loop waits, behind what the turn proposed. */
void guard_turn(struct guard *g);

/* This server leads and the barrier of its term is applied: everything that was committed before is applied. */
bool guard_leads(const struct guard *g);

/* The term of a log entry; 0 if it is neither in the log nor the snapshot's last. */
uint64_t guard_term_of(const struct guard *g, uint64_t index);

/* Up to where a follower of this leader has stored the log; 0: it was not heard in this term. *ret_heard_ms: the raft_io's
 * time when it was heard last. */
uint64_t guard_acked(const struct guard *g, uint64_t id, uint64_t *ret_heard_ms);

/* How often a rule acted, for metrics. */
uint64_t guard_count(const struct guard *g, enum guard_rule rule);
/* "term_barrier" and so on. */
const char *guard_rule_name(enum guard_rule rule);

#endif
