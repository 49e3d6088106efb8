/* state.h -- the replicated state machine: pure, deterministic, no I/O, no clock, no random.
 *
 * Happy path: consensus hands each committed entry to state_apply(); it decodes, executes each command, and gives back a
 * result a command and a list of changed rows. Readers use the state_* lookups in between.
 * Failure modes: an entry that does not decode is a no-op with an error result; a command type above COMMAND_TYPES or a
 * feature above the cluster's level makes state_apply() return -EPROTO and the program must stop: this node is too old.
 * Owns: all rows. Thread: the control loop alone; a snapshot (below) may be encoded on another thread. */
#ifndef STATE_STATE_H
#define STATE_STATE_H

#include "state/command.h"
#include "state/tables.h"

struct state;
struct state_snapshot;

struct change {
	uint8_t table; /* enum table */
	uint64_t key;  /* pool uid, sandbox id, generation, node id, operation id */
	uint64_t pool; /* for sandboxes, sessions, operations, images (0): the pool */
	bool removed;
};

/* What one entry did. Valid until the next state_apply. */
struct applied {
	struct result *results;         /* one a command */
	const struct command *commands; /* the same number, as decoded: who asked for what */
	uint32_t n_results;
	struct change *changes;
	uint32_t n_changes;
};

/* Results' codes, by command; 0 otherwise. Of all: -EBADMSG the body does not decode; -EINVAL a field is
 * out of its range, the message names it; -ENXIO before CLUSTER_INIT; -ESTALE another incarnation, an epoch
 * that is not the node's present one (or a lost node: join again), or a sequence older than the results
 * kept.
 * Of a worker all but command_of_workers(): -EPERM.
 * CLUSTER_INIT      -EEXIST. Sets incarnation 1; ids below 1,000 are left to the first nodes.
 * NODE_JOIN         -ENOENT neither admitted nor one the cluster was made with, or removed. Sequence is not looked at. command.epoch != 0: -ESTALE unless it is the node's present
 *                   one. A node that was lost has no sandboxes any more; one that was not keeps them.
 *                   result.id: the new epoch.
 * NODE_RENEW        Those with another epoch, or lost, are passed over. result.id: how many were renewed.
 * NODE_LOST         -ENOENT; -ESTALE a newer renewal, another epoch, or lost already; -EAGAIN less than
 *                   lost_ms since the renewal. Sessions and sandboxes of the node end, billed to renewed_ms
 *                   + lease_ms.
 * CLUSTER_LEVEL     -EBUSY a node, which the message names, has a lower one. Not above the present one: 0.
 *                   result.id: the level.
 * NODE_ORDER        -ENOENT; -EINVAL deadline_ms is too far. What is so already: 0.
 * NODE_IMAGES       -EPERM for another node; -EINVAL a digest is empty or too long.
 * POOL_PUT          -EBUSY being deleted; -EROFS another isolation than the pool's; -ESTALE expect_uid is another or gone, expect_operation not the last. The secrets named become
 *                   the pool's; one without value keeps the stored one (-EINVAL: none stored). A running
 *                   operation is cancelled. When nothing but limits or document of a Succeeded pool change,
 *                   the operation has succeeded at once. A lowered maximum ends no session.
 * POOL_DELETE       -ENOENT. Being deleted already: 0 and the same operation. Waiters go, live sessions are
 *                   closing, others stop.
 * OPERATION_STEP    -ENOENT; -ESTALE not in `from`; -EINVAL no such step, or RESOLVE -> CACHE without a
 *                   digest. RESOLVE and CACHE -> FAILED, CANCELED.
 * SANDBOX_BOOT      -ENOENT pool; -ESHUTDOWN pool being deleted; -ESTALE not the active revision; -EDQUOT
 *                   enough ready and booting; -ENODEV no such node, not its labels, or it cannot run the pool's isolation; -EHOSTDOWN lost or cordoned; -ENOSPC
 *                   capacity x overcommit reached.
 * SANDBOX_READY     -ENOENT; -EPERM not by its node; -EALREADY ready or bound; -ESHUTDOWN stopping.
 *                   result.session: of the waiter it was bound to.
 * SANDBOX_STOPPING  -ENOENT; -EBUSY bound. Stopping already: 0.
 * SANDBOX_GONE      -ENOENT; -EPERM not by its node. Closes the session of a bound one.
 * SESSION_OPEN      -ENOENT pool; -ESHUTDOWN pool being deleted; -EBUSY the identifier's session is
 *                   closing; -ESRCH required to exist; -EUSERS max_sessions reached. result.waiting: poll
 *                   the session's row.
 * SESSION_CLOSING   -ESRCH no such generation in the pool; -EPERM by a worker that is not the owner. Closing already: 0. A waiting one is gone at
 *                   once.
 * SESSION_CLOSED    -ESRCH; -EPERM not by the owner; -EINVAL waiting. Its sandbox's row goes too. From live
 *                   as well as from closing.
 *                   An OPEN of a session that is asleep wakes it: -ENOSPC no room. result.waiting too: it rests.
 * SESSION_SUSPEND   -ESRCH; -ENOTSUP no virtual machine; -EBUSY not live; -EAGAIN waking or moving. Saving or asleep: 0.
 * SESSION_WAKE      as SUSPEND; -ENOSPC no room; -EAGAIN saving or moving. Awake: 0.
 * SANDBOX_MOVE      -ENOENT; as SUSPEND; -EAGAIN moves or rests already; -EHOSTDOWN, -ENODEV, -ENOSPC the target. result.id: the save.
 * SANDBOX_SAVED, KEPT, MOVED, AWAKE   -ENOENT; -ESTALE another save, or not at that point; -EPERM not its node (KEPT: nor its
 *                   target or a voter; MOVED: not its target).
 * WAITERS_EXPIRE    result.id: how many went.
 * RECORDS_TRIM      result.id: how many went. Corrections are trimmed by the same numbers.
 * KEY_PUT           -EPERM not by a voter; -EINVAL no sealed part, or no public one where the kind has one, or a
 *                   second key of tags; -EBUSY one of the kind is `next` already, or there are KEYS_OF_A_KIND_MAX.
 * KEY_USE           -EPERM; -ENOENT; -EALREADY not `next`; -EAGAIN a node that is up does not have it yet.
 * KEY_RETIRE        -EPERM; -ENOENT; -EBUSY active, or a secret or certificate is still of it; -EAGAIN kept longer.
 * SECRET_RESEAL     -EPERM; -ENOENT; -ESTALE the secret changed meanwhile, or the key is not the active one.
 * NODE_KEYS         -EINVAL a key above the counter.
 * NODE_ABLE         -EINVAL no isolation, or one that this version does not know. What runs goes on.
 * POOL_PUT          also -ESTALE: a secret is sealed under a key that is not there (any more).
 * NODE_TOKEN        -EINVAL hash or life; -EEXIST; -ENOBUFS JOIN_TOKENS_MAX are there. Those that expired go.
 * NODE_ADMIT        -ENOKEY no such token; -ETIME it expired; -EALREADY it was used, with another key; -EINVAL name,
 *                   address or key; -EEXIST the name is taken; -EADDRINUSE; -ENOBUFS NODES_MAX_ROWS are there.
 *                   These two, LEAVE, DROP and MEMBER_*: -EPERM not by a voter. result.id: the new node's, the same again for the same key.
 * NODE_LEAVE        -ENOENT; -EBUSY it has sessions, and not by force; -EPERM the voters left would have no majority that is up. Leaving
 *                   already: 0. Its sandboxes stop, its sessions are closing.
 * NODE_DROP         -ENOENT; -EBUSY not leaving, in the log, or with sandboxes. Its id is never used again.
 * MEMBER_BEGIN      -ENOENT; -EBUSY another change runs; -EALREADY it is so; -EINVAL it is no voter's node;
 *                   -EHOSTDOWN to be a voter it must be up.
 * MEMBER_END        -ESTALE it is not the one that runs.
 * By itself, whenever waiters, target or maximum fall, apply moves booting, then ready sandboxes that are
 * too many to stopping. */

struct state *state_new(void);
void state_free(struct state *s);

/* 0, or -EPROTO: stop the node. */
int state_apply(struct state *s, uint64_t index, const void *entry, size_t n, struct applied *ret,
		struct err *err);
uint64_t state_index(const struct state *s);
/* Over all tables, kept incrementally: equal on all voters at the same index. */
uint64_t state_hash(const struct state *s);
/* The invariants of docs/architecture.md that tables alone can show. -EILSEQ with what is broken. */
int state_check(const struct state *s, struct err *err);

/* A frozen view that shares chunks with the live tables (copied on write). Taking one costs O(chunks). */
struct state_snapshot *state_snapshot_new(struct state *s);
void state_snapshot_free(struct state_snapshot *snapshot);
/* Calls write() with pieces of at most 256 KiB. May run on another thread while the state goes on. Errors of write() end it. */
int state_snapshot_write(const struct state_snapshot *snapshot,
			 int (*write)(void *to, const void *p, size_t n), void *to);
/* What a snapshot's bytes say, as tables of their own; on any thread. -EBADMSG; -EPROTO: a newer format or feature level. */
int state_read(const void *p, size_t n, struct state **ret, struct err *err);
/* Each becomes what the other was, at once. */
void state_swap(struct state *s, struct state *other);
/* Replaces everything by what a snapshot's bytes say, or leaves all as it was. */
int state_restore(struct state *s, const void *p, size_t n, struct err *err);

/* The cluster goes on without its nodes: a backup becomes a new cluster, or one node is all that is left of it. */
struct reincarnation {
	uint64_t incarnation; /* above the present one */
	uint64_t counter;     /* what no id was ever given above, in any incarnation */
	uint64_t survivor;    /* the node that keeps its sandboxes and sessions; 0: none */
	const struct node_row *
		founder; /* a new node, by name and addresses, that is the first voter; NULL: the survivor is */
	uint64_t ret_founder; /* its id */
};
/* Before any node runs on these tables. All other nodes are gone: what ran there ended with its lease and is billed so, who
 * waited is forgotten, join tokens admit nobody any more; pools, secrets, keys, bills stay. -EINVAL, -ENOENT: the survivor. */
int state_reincarnate(struct state *s, struct reincarnation *r, struct err *err);

/* Lookups; NULL: no such row. */
const struct cluster_row *
state_cluster(const struct state *s); /* never NULL; id is empty before CLUSTER_INIT */
const struct pool_row *state_pool(const struct state *s, uint64_t uid);
const struct pool_row *state_pool_by_name(const struct state *s, struct str subscription, struct str group,
					  struct str name);
const struct revision_row *state_revision(const struct state *s, uint64_t pool, uint64_t revision);
const struct secret_row *state_secret(const struct state *s, uint64_t pool, struct str name);
const struct operation_row *state_operation(const struct state *s, uint64_t id);
const struct node_row *state_node(const struct state *s, uint64_t id);
const struct node_row *state_node_by_name(const struct state *s, struct str name);
const struct join_token_row *state_join_token(const struct state *s, struct str hash);
/* It may start and take part: it has a row, or the cluster was made with it and it was not removed. */
bool state_node_belongs(const struct state *s, uint64_t id);
/* It can run sandboxes of that enum isolation. */
bool state_node_runs(const struct node_row *node, uint8_t isolation);
bool state_has_image(const struct state *s, uint64_t node, struct str digest);
/* The digests that revisions name, each once; their number, or max + 1 if there are more. They live until the tables change. */
uint32_t state_images_wanted(const struct state *s, struct str *ret, uint32_t max);
const struct sandbox_row *state_sandbox(const struct state *s, uint64_t id);
const struct session_row *state_session(const struct state *s, uint64_t pool, struct str identifier);
const struct session_row *state_session_by_generation(const struct state *s, uint64_t generation);

/* Kept by apply, so that nobody counts rows. */
struct pool_counts {
	uint32_t booting, ready, bound, stopping; /* sandboxes */
	uint32_t waiting, live, closing;          /* sessions */
};
struct pool_counts state_pool_counts(const struct state *s, uint64_t pool);
/* Of its ready sandboxes those on cordoned nodes, which stay until others are ready in their place. */
uint32_t state_pool_moving(const struct state *s, uint64_t pool);

/* Walks: call with the previous row, NULL first; the order is the same on every node. The tables must not change meanwhile. */
const struct pool_row *state_next_pool(const struct state *s, const struct pool_row *row);
const struct revision_row *state_next_revision(const struct state *s, uint64_t pool,
					       const struct revision_row *row);
const struct secret_row *state_next_secret(const struct state *s, uint64_t pool,
					   const struct secret_row *row);
const struct operation_row *state_next_operation(const struct state *s, const struct operation_row *row);
const struct node_row *state_next_node(const struct state *s, const struct node_row *row);
const struct join_token_row *state_next_join_token(const struct state *s, const struct join_token_row *row);
const struct sandbox_row *state_next_sandbox(const struct state *s, const struct sandbox_row *row);
const struct sandbox_row *state_next_pool_sandbox(const struct state *s, uint64_t pool,
						  const struct sandbox_row *row);
const struct sandbox_row *state_next_node_sandbox(const struct state *s, uint64_t node,
						  const struct sandbox_row *row);
const struct sandbox_row *state_next_ready(const struct state *s, uint64_t pool,
					   const struct sandbox_row *row);
const struct session_row *state_next_pool_session(const struct state *s, uint64_t pool,
						  const struct session_row *row);
const struct session_row *state_next_waiter(const struct state *s, uint64_t pool,
					    const struct session_row *row); /* oldest first */
const struct bucket_row *state_next_bucket(const struct state *s, uint64_t pool,
					   const struct bucket_row *row);
/* Of all pools, deleted ones too: their bills outlive them. By (pool, start). */
const struct bucket_row *state_next_any_bucket(const struct state *s, const struct bucket_row *row);
const struct rate_row *state_rate(const struct state *s, uint64_t pool);
const struct key_row *state_key(const struct state *s, uint64_t id);
const struct key_row *state_next_key(const struct state *s, const struct key_row *row); /* oldest first */
/* The active one of the kind; NULL: none. */
const struct key_row *state_active_key(const struct state *s, uint8_t kind);
/* How many secrets are sealed under the key. */
uint32_t state_secrets_of_key(const struct state *s, uint64_t key);
const struct record_row *state_next_record(const struct state *s,
					   const struct record_row *row); /* by number */
const struct correction_row *state_next_correction(const struct state *s,
						   const struct correction_row *row); /* by number */

#endif
