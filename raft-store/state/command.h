/* command.h -- what changes the tables. One Raft entry holds one struct entry: cluster time and a batch of commands.
 *
 * A command names who asks (node, epoch) and a sequence of that epoch. Apply keeps the last 1,024 results of a node and
 * answers a repeated command from there; one older than those is refused, never executed. So a retry after an unknown
 * outcome is safe. A malformed or refused command changes nothing and has an error as its result, the same on every node. */
#ifndef STATE_COMMAND_H
#define STATE_COMMAND_H

#include "core/codec.h"
#include "state/tables.h"

/* What this program may be asked for. A program of a higher level writes, as long as the cluster's is lower, what that level's
 * programs wrote, field by field; `berth cluster upgrade` raises the cluster's once all nodes have it. */
#ifndef FEATURE_LEVEL
#define FEATURE_LEVEL 1
#endif
#define ENTRY_COMMANDS_MAX 256
#define RESULTS_KEPT       1024

enum command_type {
	COMMAND_NONE,
	COMMAND_CLUSTER_INIT, /* cmd_cluster_init: the first entry of a cluster; once */
	COMMAND_NODE_JOIN,    /* cmd_node_join: a node (re)starts: new epoch; result.id = epoch */
	COMMAND_NODE_RENEW,   /* cmd_node_renew: leases of all that asked within this second */
	COMMAND_NODE_LOST,   /* cmd_node_lost: names the renewal it judged by; no-op if a newer one applied */
	COMMAND_NODE_ORDER,  /* msg_node_order: cordon, uncordon, drain, cancel */
	COMMAND_NODE_IMAGES, /* cmd_node_images: a node says which images it holds (the whole list) */
	COMMAND_POOL_PUT,    /* msg_pool_put: result.id = pool uid, result.operation */
	COMMAND_POOL_DELETE, /* msg_pool_delete: result.operation; the row goes when nothing of it is left */
	COMMAND_OPERATION_STEP,   /* cmd_operation_step */
	COMMAND_SANDBOX_BOOT,     /* cmd_sandbox_boot: result.id = sandbox id */
	COMMAND_SANDBOX_READY,    /* cmd_sandbox: booting -> ready, or bound to the oldest waiter at once */
	COMMAND_SANDBOX_STOPPING, /* cmd_sandbox: ready/booting -> stopping; never a bound one */
	COMMAND_SANDBOX_GONE, /* cmd_sandbox_gone: it no longer runs; frees the reservation; closes its session */
	COMMAND_SESSION_OPEN, /* cmd_session_open: returns the existing one, binds a ready sandbox, or waits */
	COMMAND_SESSION_CLOSING, /* cmd_session_closing: live -> closing; anyone may ask */
	COMMAND_SESSION_CLOSED,  /* cmd_session_closed: by the owner, once the sandbox no longer runs */
	COMMAND_WAITERS_EXPIRE,  /* no body: waiting sessions past expires_ms go */
	COMMAND_RECORDS_TRIM,    /* cmd_records_trim: voters copied the records up to a number */
	COMMAND_KEY_PUT,         /* cmd_key_put: a new key, `next`; result.id */
	COMMAND_KEY_USE,         /* cmd_key: next -> active, and the active one before it -> retiring */
	COMMAND_KEY_RETIRE,      /* cmd_key_retire: a retiring or next one goes */
	COMMAND_SECRET_RESEAL,   /* cmd_secret_reseal: the same secret under another key */
	COMMAND_NODE_KEYS,       /* cmd_node_keys: which keys the asking node has */
	COMMAND_NODE_TOKEN,      /* cmd_node_token: a token that admits one node */
	COMMAND_NODE_ADMIT,      /* cmd_node_admit: a node shows such a token; result.id = its id */
	COMMAND_NODE_LEAVE,      /* cmd_node_leave: a node is to go for good: what runs there ends */
	COMMAND_NODE_DROP,       /* cmd_node_drop: a leaving node of which nothing is left goes */
	COMMAND_MEMBER_BEGIN,    /* cmd_member_begin: one change of voters begins; result.operation */
	COMMAND_MEMBER_END,      /* cmd_member_end: and ends */
	COMMAND_CLUSTER_LEVEL,   /* msg_cluster_level: every node has it */
	COMMAND_SESSION_SUSPEND, /* cmd_session: a session of a virtual machine is to sleep: awake -> saving */
	COMMAND_SESSION_WAKE,    /* cmd_session: asleep -> waking, if there is room */
	COMMAND_SANDBOX_MOVE,    /* cmd_sandbox_move: awake -> saving, or asleep, with room at the target */
	COMMAND_SANDBOX_SAVED, /* cmd_sandbox_save: by its node: the file is whole, nothing of it runs: saving -> saved */
	COMMAND_SANDBOX_KEPT, /* cmd_sandbox_save: it stays: saving, or saved for a move -> waking */
	COMMAND_SANDBOX_MOVED, /* cmd_sandbox_save: by the target, which has all of it: it is the target's from here on */
	COMMAND_SANDBOX_AWAKE, /* cmd_sandbox_save: by its node: it runs: waking -> awake */
	COMMAND_NODE_ABLE,     /* cmd_node_able: what the asking node can run */
	COMMAND_TYPES
};

struct command {
	uint8_t type;
	uint16_t feature; /* the level it needs; above the cluster's: refused before it is proposed */
	uint64_t node, epoch, sequence;
	struct str body;
};

struct entry {
	uint64_t incarnation;
	uint64_t time_ms; /* the proposing leader's cluster time; apply clamps so that it never goes back */
	struct command *commands;
	uint32_t n_commands;
};

struct key_put {
	uint8_t kind; /* enum key_kind */
	struct str sealed, public_part;
	uint64_t keep_ms; /* how long it is kept while retiring */
};
struct cmd_cluster_init {
	struct str id;
	struct settings settings;
	struct key_put *keys; /* active at once */
	uint32_t n_keys;
	uint32_t feature_level; /* to begin with; 0: the program's */
};
struct cmd_node_join {
	uint64_t id;
	uint32_t feature_level; /* of its program */
	struct str name, raft_address, control_address, peer_address, api_address, labels, version;
	struct str boot; /* which boot of its machine; another one than before: nothing of it runs any more */
	bool voter;
	uint64_t cpu_milli, memory_bytes;
	/* As in node_row. isolations 0: not known yet, so as before; of a new node, containers. */
	uint32_t isolations;
	struct str no_vm;
};
struct renewal {
	uint64_t node, epoch;
	uint64_t sent_ms; /* the node's own CLOCK_BOOTTIME, echoed */
	struct disk_room disk;
};
struct cmd_node_renew {
	struct renewal *renewals;
	uint32_t n_renewals;
};
struct cmd_node_lost {
	uint64_t node, epoch, renewed_ms;
};
struct cmd_node_images {
	uint64_t node;
	struct str *digests;
	uint32_t n_digests;
};
struct cmd_operation_step {
	uint64_t operation;
	uint8_t phase; /* the next one; refused if the row is not in `from` */
	uint8_t from;
	struct str digest;        /* RESOLVE -> CACHE */
	struct str code, message; /* -> FAILED */
};
struct cmd_sandbox_boot {
	uint64_t pool, revision, node;
};
struct cmd_sandbox {
	uint64_t sandbox;
};
struct cmd_sandbox_gone {
	uint64_t sandbox;
	uint64_t stopped_ms; /* cluster time when the last of it stopped running; clamped to [ready, now] */
	bool failed;         /* it never became ready, or crashed: counts against the pool */
	bool unserved;       /* its session never got a byte from it: nothing is billed for the session */
	struct str message;
	bool out_of_memory; /* that is why its process is gone */
};
struct cmd_session_open {
	uint64_t pool;
	struct str identifier;
	uint64_t preferred; /* a ready sandbox; another one is taken if it is not ready any more */
	bool require_existing;
};
struct cmd_session_closing {
	uint64_t pool, generation;
	uint8_t reason;
};
struct cmd_session_closed {
	uint64_t pool, generation;
	uint64_t stopped_ms;
	bool unserved;
};
struct cmd_session {
	uint64_t pool, generation;
};
struct cmd_sandbox_move {
	uint64_t sandbox, target;
};
struct cmd_sandbox_save {
	uint64_t sandbox, save; /* of the row, as it is while this is true */
};
struct cmd_records_trim {
	uint64_t up_to;
};

struct cmd_key_put {
	struct key_put key;
};
struct cmd_key {
	uint64_t id;
};
struct cmd_key_retire {
	uint64_t id;
	bool early; /* before keep_ms is over: what it signed is refused from now on */
};
struct cmd_secret_reseal {
	uint64_t pool;
	struct str name;
	uint64_t was; /* str_hash_stable(sealed, 0) of what was opened */
	struct str sealed;
};
struct cmd_node_keys {
	uint64_t newest_key, ca_key; /* as in node_row */
};
struct cmd_node_able {
	uint32_t isolations; /* as in node_row; not 0 */
	struct str no_vm;
};

#define JOIN_TOKENS_MAX 64
#define NODES_MAX_ROWS  64 /* what one node's links are made for */
struct cmd_node_token {
	struct str hash;
	bool voter;
	uint64_t life_ms; /* from a second to a week */
};
struct cmd_node_admit {
	struct str hash; /* of the token's secret */
	struct str key;  /* of the node's public key */
	struct str name, raft_address, control_address, peer_address, api_address, version;
};
struct cmd_node_leave {
	uint64_t node;
	bool force; /* though it has sessions */
};
struct cmd_node_drop {
	uint64_t node;
};
struct cmd_member_begin {
	uint64_t node;
	uint8_t role; /* enum member_role */
};
struct cmd_member_end {
	uint64_t operation;
	struct str message; /* why it failed; empty: it is so */
};

struct result {
	int32_t code; /* 0 or -errno; see state.h for each command's */
	struct str message;
	uint64_t index;
	uint64_t id, operation;
	struct session_ref session;
	bool created;
	bool waiting; /* OPEN: no sandbox yet; the session row tells when */
};

/* What a worker may ask for; of what is its own alone, which apply checks. */
bool command_of_workers(uint8_t type);

extern const struct codec_type command_codec, entry_codec, result_codec, key_put_codec;
extern const struct codec_type *const command_body_codec[COMMAND_TYPES];
extern const char *const command_type_name[COMMAND_TYPES];

/* It ends something, keeps a node alive, or answers what is under way: it is proposed also while the disk of the log has only
 * its reserve left. The others begin something. */
bool command_ends(uint8_t type);

#endif
