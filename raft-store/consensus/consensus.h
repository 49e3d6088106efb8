/* consensus.h -- one replicated log: proposals go in on the leader, committed entries come out on every
 * server. An adapter over libraft (canonical/raft 0.15.0) behind guard.h; nothing else of the project
 * includes raft.h.
 *
 * The state machine is a set of callbacks, so that this folder knows no tables. Entries are any bytes up
 * to CONSENSUS_ENTRY_MAX; they are stored with a length and padded. The proposals of one turn of the loop
 * are written and sent together; all reads that wait share one barrier.
 *
 * Owns: its files below `dir`, its timers, its sockets. Thread: the loop's, except snapshot_write. All
 * callbacks come from the loop, never from inside the call that asked for them, except apply and restore,
 * which also run inside consensus_start. A callback may call anything here, also consensus_close. The
 * program must ignore SIGPIPE.
 *
 * A server that lost or damaged its files must not come back under its old id: wipe the directory and join
 * with a new one. libraft cannot repair a log in place (lost truncations, canonical/raft #372; open
 * segments without a start index, #373), and a server that forgot its vote can elect two leaders. */
#ifndef RAFT_CONSENSUS_CONSENSUS_H
#define RAFT_CONSENSUS_CONSENSUS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "consensus/guard.h"
#include "core/err.h"
#include "core/str.h"

struct uv_loop_s;
struct loop;
struct tls_ctx;
struct consensus;

#define CONSENSUS_ENTRY_MAX    (1u << 20)  /* bytes of one entry */
#define CONSENSUS_QUEUE_MAX    65536u      /* proposals that were not answered yet */
#define CONSENSUS_BYTES_MAX    (64u << 20) /* their bytes */
#define CONSENSUS_MEMBERS_MAX  7u
#define CONSENSUS_ADDRESS_SIZE 64u
#define CONSENSUS_DIR_SIZE     512u

struct consensus_member {
	uint64_t id;         /* above 0, never used twice in a cluster's life */
	const char *address; /* "127.0.0.1:7100": dotted quad and port */
};

struct consensus_machine {
	void *arg;
	/* Entries in order, each once after the last restore. An error stops this server: it calls
	 * `failed`, and applies nothing any more. */
	int (*apply)(void *arg, uint64_t index, const void *entry, size_t n, struct err *err);
	/* A frozen view of everything up to the last applied entry; cheap, for the loop waits. NULL: no
	 * memory; it is tried again later. */
	void *(*snapshot_take)(void *arg);
	/* On a thread of the pool, while apply goes on. Calls write() with pieces; ends with write()'s error. */
	int (*snapshot_write)(const void *snapshot, int (*write)(void *to, const void *p, size_t n),
			      void *to);
	void (*snapshot_free)(void *arg, void *snapshot);
	/* What a snapshot's bytes say, beside what is there; on a thread of the pool, or inside consensus_start. */
	int (*restore_read)(const void *p, size_t n, void **ret, struct err *err);
	/* Replaces everything by what was read, in no time; what was there before, or NULL. */
	void *(*restore)(void *arg, void *read);
	/* Of either; also on a thread of the pool. */
	void (*restore_free)(void *read);
};

/* How servers reach each other: mutual TLS, by certificates that name the server's id and the role of a voter. */
struct consensus_network {
	struct loop *loop;               /* around options.loop */
	struct tls_ctx *server, *client; /* referenced */
	struct str cluster;              /* id, borrowed until closed */
	const uint64_t *incarnation;     /* of it; others are refused; borrowed. NULL: none */
	/* Somebody was refused, or one of the servers was cut off; for the log. May be NULL. */
	void (*refused)(void *arg, const char *why);
	/* False: that server was removed, and is refused. May be NULL. */
	bool (*admits)(void *arg, uint64_t id);
	void *arg;
};

struct consensus_options {
	struct uv_loop_s *loop;
	const char *dir; /* made if missing (its parent must be there); 0700 */
	uint64_t id;     /* of this server; must be among the members, if there are any */
	const struct consensus_member
		*members;      /* 1, 3, 5 or 7; the same on all; used at the first start alone */
	uint32_t n_members;    /* 0: it joins: it waits for a leader that was told of it (consensus_change) */
	const char *address;   /* of this server; NULL: as among the members */
	uint32_t election_ms;  /* 0: 300 */
	uint32_t heartbeat_ms; /* 0: 50; at most a third of election_ms */
	uint32_t snapshot_threshold; /* entries between snapshots, more once they are large; 0: 16384 */
	uint32_t snapshot_trailing;  /* entries kept behind one; 0: 8192, which is also the least */
	/* Bytes free on the disk. Below the reserve consensus_disk_low() asks for nothing but what ends something; below the floor,
	 * which is what it takes to compact the log, nothing is proposed. 0: 256 MiB and 64 MiB. */
	uint64_t disk_reserve, disk_floor;
	struct consensus_machine machine;
	/* This server leads, and everything committed before its term is applied; or it no longer does. */
	void (*leadership)(void *arg, bool leads, uint64_t term);
	/* This server follows another leader, or none (0). May be NULL. */
	void (*leader)(void *arg, uint64_t id);
	/* Nothing works any more: end the program, so that its supervisor starts it anew. Called once. */
	void (*failed)(void *arg, const char *why);
	void *arg;
	/* Copied. NULL: plain TCP, for tests; refused for addresses other than 127.0.0.0/8. */
	const struct consensus_network *network;
	uint32_t guard_off_for_tests; /* see guard.h */
};

/* Checks the options and copies them. -EINVAL with the field's name; -ENOMEM. */
int consensus_new(const struct consensus_options *options, struct consensus **ret, struct err *err);
/* Checks and opens the files, restores, applies, listens. -EINVAL, -EUCLEAN (files that must not be used),
 * -EADDRINUSE, -EBUSY (another process has the directory), -EIO... After an error only consensus_close may be
 * called. */
int consensus_start(struct consensus *c, struct err *err);
/* Frees everything in a later turn of the loop, then calls closed(), which may be NULL. Unanswered
 * proposals are answered before; entries may still be applied until then. */
void consensus_close(struct consensus *c, void (*closed)(void *arg), void *arg);

/* status 0: the entry was applied at `index`, by this very machine, just now: no other was applied since.
 * -EAGAIN: it was not proposed; ask the leader. -ECONNABORTED: leadership was lost; it may be applied yet,
 * or never. -ECANCELED: closed before it was proposed. */
typedef void consensus_proposed(void *arg, int status, uint64_t index);
/* Copies the bytes. 0: `done` will be called once. -EAGAIN: this server does not lead (see
 * consensus_leader), -EMSGSIZE: empty or too long, -ENOBUFS: too many unanswered, -ENOSPC: the disk has
 * less than disk_floor, -ENOMEM. */
int consensus_propose(struct consensus *c, const void *entry, size_t n, consensus_proposed *done, void *arg);

/* A linearizable read: once `done` is called with 0, all that was committed before this call is applied here.
 * Reads that wait share one entry of the log. -EAGAIN as above, also in `done`: nothing happened. -ENOMEM. */
int consensus_barrier(struct consensus *c, consensus_proposed *done, void *arg);

/* Hands leadership to `id`, or with 0 to any follower. `done` tells 0, or -ETIMEDOUT if the other does not
 * lead after an election timeout. -EAGAIN: does not lead; -EBUSY: one is under way; -EINVAL: no such
 * voter; -ENOENT: no other. */
int consensus_transfer(struct consensus *c, uint64_t id, void (*done)(void *arg, int status), void *arg);

/* What a server is to the log. A standby gets all entries, and neither votes nor is counted. */
enum consensus_role { CONSENSUS_GONE, CONSENSUS_STANDBY, CONSENSUS_VOTER };

/* On the leader: makes server `id` what it should be, by as many entries as that takes; it may be so already. One change at a
 * time. `done` tells 0: committed; -ETIMEDOUT: it did not catch up within seconds, so it stays what it was;
 * -ECONNABORTED: leadership was lost, the last step may be committed yet; else nothing more happened: -EEXIST: this id has, or another id has, this
 * address; -ENOSPC: CONSENSUS_MEMBERS_MAX are there. `address` may be NULL for GONE.
 * -EAGAIN: does not lead; -EBUSY: a change or a transfer is under way; -EINVAL: the address, or itself: hand leadership over. */
int consensus_change(struct consensus *c, uint64_t id, const char *address, enum consensus_role role,
		     void (*done)(void *arg, int status), void *arg);

struct consensus_server {
	uint64_t id;
	char address[CONSENSUS_ADDRESS_SIZE];
	enum consensus_role role;
	uint64_t
		stored; /* on the leader: it has the log up to here, as far as was heard in this term; 0: nothing was */
	uint64_t ago_ms; /* since then; UINT64_MAX: never, or this server does not lead */
};
/* The configuration as this server knows it; how many. */
uint32_t consensus_servers(const struct consensus *c, struct consensus_server ret[CONSENSUS_MEMBERS_MAX]);

/* Of the disk with this server's files; UINT64_MAX: not known. */
uint64_t consensus_disk_free(struct consensus *c);
/* Propose only what ends something: what is left is for that. */
bool consensus_disk_low(struct consensus *c);
/* Cuts off a server that was removed; whether it may come again, `admits` says. */
void consensus_cut(struct consensus *c, uint64_t id);

bool consensus_leads(const struct consensus *c);
/* 0 if none is known. *ret_address, if wanted, is valid until the next turn of the loop; NULL with 0. */
uint64_t consensus_leader(struct consensus *c, const char **ret_address);
uint64_t consensus_term(const struct consensus *c);
/* Of the last entry applied, counting barriers and configurations too. */
uint64_t consensus_applied(const struct consensus *c);

struct consensus_counts {
	uint64_t proposed, batches, barriers, reads, snapshots, restores;
	uint64_t installs;                       /* restores of what a thread had read */
	uint64_t log_first, log_last, committed; /* indexes */
	uint64_t watermark;                      /* up to where the log is known to go at the next start */
	uint64_t unanswered;                     /* proposals */
	uint64_t disk_free;
	bool disk_low; /* see consensus_disk_low */
	uint64_t guard[GUARD_RULES];
};
void consensus_count(struct consensus *c, struct consensus_counts *ret);

#endif
