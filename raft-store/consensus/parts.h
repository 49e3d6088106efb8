/* parts.h -- what the files of this folder share of a struct consensus. For consensus.c, machine.c, members.c, promise.c and
 * propose.c. */
#ifndef RAFT_CONSENSUS_PARTS_H
#define RAFT_CONSENSUS_PARTS_H

#include <raft.h>
#include <raft/uv.h>
#include <sys/queue.h>
#include <uv.h>

#include "consensus/consensus.h"
#include "consensus/disk/room.h"
#include "consensus/disk/watermark.h"

struct proposal {
	STAILQ_ENTRY(proposal) next;
	struct raft_buffer frame; /* libraft's once it was proposed */
	uint64_t index, term;     /* then */
	size_t size;
	consensus_proposed *done;
	void *arg;
};
STAILQ_HEAD(proposals, proposal);

struct reader {
	STAILQ_ENTRY(reader) next;
	consensus_proposed *done;
	void *arg;
};
STAILQ_HEAD(readers, reader);

enum consensus_phase {
	CONSENSUS_NEW,
	CONSENSUS_RUNNING,
	CONSENSUS_FAILED, /* told the owner; nothing is applied or proposed any more */
	CONSENSUS_CLOSING,
};

struct rpc;

struct consensus {
	struct consensus_options options;
	struct consensus_network network;
	char dir[CONSENSUS_DIR_SIZE];
	struct consensus_member members[CONSENSUS_MEMBERS_MAX];
	char addresses[CONSENSUS_MEMBERS_MAX][CONSENSUS_ADDRESS_SIZE];
	char address[CONSENSUS_ADDRESS_SIZE]; /* of this server */
	int lock;                             /* on the directory; -1: none */
	enum consensus_phase phase;

	struct raft_uv_transport tcp;
	struct rpc *rpc;
	struct raft_io io;
	struct raft_fsm fsm;
	struct raft raft;
	struct guard *guard;
	bool have_tcp, have_io, have_raft;
	uv_prepare_t turn; /* before the loop waits: proposes what the turn brought, closes */

	struct proposals waiting; /* not proposed yet */
	struct proposals pending; /* proposed, by index */
	uint64_t unanswered, unanswered_bytes;
	bool applying;

	struct readers waiting_reads, running_reads;
	struct raft_barrier barrier;
	bool barrier_running;

	struct raft_transfer transfer;
	void (*transfer_done)(void *arg, int status);
	void *transfer_arg;

	uint64_t led_term; /* the term that the owner was told we lead; 0: none */
	uint64_t leader;   /* that it was told of */

	struct snapshot_chunks *chunks; /* while libraft stores a snapshot */
	void *view;

	struct {
		struct watermark *record; /* NULL until the files were checked */
		/* What the raft_io did before. */
		int (*set_term)(struct raft_io *, raft_term);
		int (*set_vote)(struct raft_io *, raft_id);
		int (*truncate)(struct raft_io *, raft_index);
		int (*snapshot_put)(struct raft_io *, unsigned, struct raft_io_snapshot_put *,
				    const struct raft_snapshot *, raft_io_snapshot_put_cb);
	} promise; /* promise.c */

	struct {
		struct raft_change request; /* the library's while `running` */
		bool running;
		uint64_t id;
		enum consensus_role role;
		char address[CONSENSUS_ADDRESS_SIZE];
		void (*done)(void *arg, int status); /* NULL: no change is under way */
		void *arg;
	} change; /* members.c */

	struct {
		int (*put)(struct raft_io *, unsigned, struct raft_io_snapshot_put *,
			   const struct raft_snapshot *, raft_io_snapshot_put_cb);
		const struct raft_snapshot *snapshot;
		raft_io_snapshot_put_cb done;
		uv_work_t work;
		bool working;
		void *tables;          /* read, not taken yet */
		void *old, *old_bytes; /* being freed */
		int rc;
		struct err err;
	} install; /* install.c */

	char why[ERR_MESSAGE_MAX]; /* what failed while starting */
	void (*closed)(void *arg);
	void *closed_arg;
	struct consensus_counts counts;
	struct room room;
};

/* machine.c: the library's state machine callbacks over options.machine. */
void machine_init(struct consensus *c);

/* propose.c */
void propose_flush(struct consensus *c);                   /* once a turn */
void propose_applied(struct consensus *c, uint64_t index); /* answers the proposal of that entry */
void propose_settled(struct consensus *c);                 /* answers what leadership lost took along */
void propose_cancel(struct consensus *c);                  /* closing: answers all the rest */

/* members.c: once a turn: the next step of the change. */
void members_turn(struct consensus *c);

/* consensus.c: tells the owner, once. */
void consensus_fail(struct consensus *c, const char *why);
/* What the guard calls behind each event: answers what leadership lost, tells the owner who leads. */
void consensus_settled(void *consensus);

#endif
