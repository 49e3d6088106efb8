/* rules.h -- the guard's inside: its state, and its rules by subject. For guard.c and the files of this folder; see guard.h. */
#ifndef RAFT_CONSENSUS_RULES_RULES_H
#define RAFT_CONSENSUS_RULES_RULES_H

#include <raft.h>

#include "consensus/guard.h"

#define FOLLOWERS_MAX 16 /* one beyond that hears of commits with the heartbeats */

/* A write of log entries on its way to the disk. */
struct guarded_append {
	struct guard *guard;
	struct raft_io_append request;  /* ours, known to the raft_io */
	struct raft_io_append *library; /* the library's, answered when ours completes */
	raft_io_append_cb done;
	raft_term term;      /* when the write began */
	raft_index verified; /* up to where the leader that sent the entries compared our log with its own */
	bool ends_cut;       /* it follows a truncation: when it is done, so is that */
};

/* What this leader knows of a follower, for GUARD_COMMIT_NEWS. */
struct follower {
	raft_id id;
	raft_term term;   /* in which the rest was learnt */
	raft_index acked; /* it has stored our log up to here */
	raft_index told;  /* the commit index that our last message to it carried */
	raft_time heard;
};

struct guard {
	struct raft *raft;
	struct guard_options options;
	/* What the raft_io did before. */
	int (*start)(struct raft_io *, unsigned, raft_io_tick_cb, raft_io_recv_cb);
	int (*append)(struct raft_io *, struct raft_io_append *, const struct raft_entry *, unsigned,
		      raft_io_append_cb);
	int (*send)(struct raft_io *, struct raft_io_send *, const struct raft_message *, raft_io_send_cb);
	int (*load)(struct raft_io *, raft_term *, raft_id *, struct raft_snapshot **, raft_index *,
		    struct raft_entry **, size_t *);
	int (*truncate)(struct raft_io *, raft_index);
	int (*snapshot_put)(struct raft_io *, unsigned, struct raft_io_snapshot_put *,
			    const struct raft_snapshot *, raft_io_snapshot_put_cb);
	void (*close)(struct raft_io *, raft_io_close_cb);
	raft_io_close_cb closed; /* until it was called */
	/* What the library wanted to be called with. */
	raft_io_tick_cb tick;
	raft_io_recv_cb receive;

	struct raft_barrier barrier;
	raft_term barrier_term;   /* the term that the last barrier was for */
	raft_index barrier_index; /* UINT64_MAX: it could not be appended */
	raft_term applied_term;   /* the term whose barrier was applied */

	unsigned writing;                        /* appends in flight */
	const struct guarded_append *completing; /* whose completion the library handles right now */
	bool comparing;                          /* the library handles an AppendEntries message right now */
	raft_index compared;                     /* ... that compares our log up to here */
	bool cutting;                            /* a truncation may not be done yet */
	struct {
		struct raft_io_snapshot_put *request; /* NULL: none waits */
		unsigned trailing;
		const struct raft_snapshot *snapshot;
		raft_io_snapshot_put_cb done;
	} postponed;                         /* our own snapshot, until the truncation is done */
	struct raft_configuration committed; /* the last one that was, for a rollback */
	raft_index committed_index;          /* its entry; 0: none is kept */
	raft_index loaded_change;            /* the last change that the files hold; 0: none behind it */
	struct follower followers[FOLLOWERS_MAX];
	uint64_t counts[GUARD_RULES];
};

bool rule_on(const struct guard *g, enum guard_rule rule);
/* Entries are dropped by the library while it writes a snapshot that it received: see its
 * replicationInstallSnapshotBusy. */
bool installing_snapshot(const struct raft *r);

/* leading.c */
void begin_term(struct guard *g);
bool deaf_before_barrier(struct guard *g, const struct raft_append_entries_result *result);
void keep_sending_snapshot(struct guard *g, struct raft_message *m);
void hear_result(struct guard *g, struct raft_message *m);
void note_acked(struct guard *g, const struct raft_message *m);
void note_told(struct guard *g, const struct raft_message *m);

/* following.c */
bool stale_result(struct guard *g, const struct raft_message *m);
raft_index limit_acknowledged(struct guard *g, raft_index last);
void limit_commit(struct guard *g, struct raft_append_entries *m);
void skip_compacted(struct guard *g, struct raft_append_entries *m);
bool skip_tick(struct guard *g);
bool skip_timeout_now(struct guard *g);
/* Frees the message's entries and makes a heartbeat at our commit index of it: its answer tells the leader where to go on. */
void become_heartbeat(struct guard *g, struct raft_append_entries *m);
/* Where a message's entries first contradict our log; 0: nowhere. */
raft_index first_conflict(const struct guard *g, const struct raft_append_entries *m);

/* storing.c */
void end_on_write_failure(struct guard *g, int status);
bool skip_while_storing(struct guard *g, const struct raft_message *m);
bool skip_reappended(struct guard *g, const struct raft_append_entries *m);
int guarded_truncate(struct raft_io *io, raft_index index);
int guarded_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
			 const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done);

/* The truncation is done, or will never be: stores what waited for it, or answers that with RAFT_CANCELED. */
void end_cut(struct guard *g, bool cancelled);

/* voting.c */
bool skip_second_vote(struct guard *g, const struct raft_request_vote *m);
int check_trailing(const struct raft *r, const struct guard_options *options, struct err *err);
int guarded_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
		 raft_index *start, struct raft_entry **entries, size_t *n);
void mark_uncommitted(struct guard *g);
void keep_committed(struct guard *g);
void roll_back(struct guard *g, const struct raft_append_entries *m);

#endif
