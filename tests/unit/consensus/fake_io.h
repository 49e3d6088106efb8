/* fake_io.h -- the real library on a raft_io that does nothing by itself: the test says what time it is,
 * which messages come, and when writes end. One server, id 1, of three. */
#ifndef TESTS_CONSENSUS_FAKE_IO_H
#define TESTS_CONSENSUS_FAKE_IO_H

#include <raft.h>

#include "consensus/guard.h"

#define OFF(rule) (1u << (rule))

#define FAKE_WRITES 16
#define FAKE_SENDS  64

struct fake_write {
	struct raft_io_append *request;
	raft_io_append_cb done;
};

struct fake {
	struct raft raft;
	struct raft_io io;
	struct raft_fsm fsm;
	struct guard *guard;
	raft_time time;
	raft_io_tick_cb tick;
	raft_io_recv_cb receive;
	/* What load() says. */
	raft_term term;
	raft_index snapshot_index; /* 0: none; its term is 1 */
	unsigned n_terms;
	unsigned n_changed;  /* servers of the configuration that the last entry is; 0: it is a command */
	raft_term terms[16]; /* of the commands behind the configuration, or behind the snapshot */

	struct fake_write writes[FAKE_WRITES];
	unsigned n_writes;
	struct raft_io_send *sends[FAKE_SENDS];
	raft_io_send_cb send_done[FAKE_SENDS];
	unsigned n_sends;
	struct raft_io_snapshot_put *put;
	struct raft_io_snapshot_get *gets[4];
	unsigned n_gets;
	unsigned results; /* AppendEntries answers sent */
	raft_id result_to;
	struct raft_append_entries_result result; /* the last one */
	unsigned truncations;
	struct raft_request_vote_result vote; /* the last one sent */
	raft_id entries_to;
	struct raft_append_entries entries; /* the last one sent */
	unsigned settled;
};

/* Starts a server whose log is the configuration (term 1) and commands of the given terms; rules in `off` are off. */
void fake_start(struct fake *f, raft_term term, const raft_term *terms, unsigned n_terms, uint32_t off);
/* The same with a snapshot up to `index` in place of all entries up to there. */
void fake_start_compacted(struct fake *f, raft_term term, raft_index index, const raft_term *terms,
			  unsigned n_terms, uint32_t off);
/* The same; the last entry is a configuration of servers 1 to n_changed. */
void fake_start_changed(struct fake *f, raft_term term, raft_index index, const raft_term *terms,
			unsigned n_terms, unsigned n_changed, uint32_t off);
void fake_stop(struct fake *f);
/* What run(off) says, in a process of its own: without its rule the library may crash. */
bool fake_survives(bool (*run)(uint32_t off), uint32_t off);

/* Time passes, then one tick. */
void fake_tick(struct fake *f, unsigned ms);
/* Makes it stand for election and gives it the vote of server 2. */
void fake_elect(struct fake *f);
/* Ends the oldest write. */
void fake_written(struct fake *f, int status);
void fake_snapshot_stored(struct fake *f);
void fake_propose(struct fake *f);

void fake_hear_entries(struct fake *f, raft_id from, raft_term term, raft_index prev, raft_term prev_term,
		       unsigned n, raft_term entry_term, raft_index commit);
/* One entry: the configuration of servers 1 to n. */
void fake_hear_change(struct fake *f, raft_id from, raft_term term, raft_index prev, raft_term prev_term,
		      unsigned n);
void fake_hear_request_vote(struct fake *f, raft_id from, raft_term term, raft_index last,
			    raft_term last_term, bool disrupt);
void fake_hear_result(struct fake *f, raft_id from, raft_term term, raft_index last);
void fake_hear_refusal(struct fake *f, raft_id from, raft_term term, raft_index rejected, raft_index last);
void fake_hear_timeout_now(struct fake *f, raft_id from, raft_term term, raft_index last,
			   raft_term last_term);
void fake_hear_snapshot(struct fake *f, raft_id from, raft_term term, raft_index last, raft_term last_term);

#endif
