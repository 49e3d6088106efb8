/* tables.h -- the rows that Raft replicates. Everything is integers and bytes; times are cluster milliseconds.
 * Rows are written by apply alone (state.h); readers get const pointers that stay valid until the next apply. */
#ifndef STATE_TABLES_H
#define STATE_TABLES_H

#include "core/codec.h"
#include "wire/messages.h"
#include "wire/template.h"

enum table {
	TABLE_CLUSTER,
	TABLE_POOLS,
	TABLE_REVISIONS,
	TABLE_SECRETS,
	TABLE_OPERATIONS,
	TABLE_NODES,
	TABLE_IMAGES,
	TABLE_SANDBOXES,
	TABLE_SESSIONS,
	TABLE_LEDGER,
	TABLE_KEYS,
	TABLE_JOIN_TOKENS,
	TABLES
};

/* Fixed by `berth cluster init`, for the life of the cluster. */
struct settings {
	uint64_t cooldown_ms_min;                   /* 300,000 in production; tests go below */
	uint64_t queue_ms;                          /* how long a first request waits for a sandbox: 10,000 */
	uint64_t lease_ms;                          /* 15,000 */
	uint64_t lost_ms;                           /* 20,000 after the last renewal a node counts as lost */
	uint64_t operation_kept_ms;                 /* 86,400,000 */
	uint32_t overcommit_cpu, overcommit_memory; /* reservations may reach capacity x this: 8 and 1 */
	struct str domain, environment, region; /* of the pools' endpoints: <pool>.<env>.<region>.<domain> */
	struct str tenant;
	uint64_t pull_retry_ms; /* how long a pull that may succeed later is tried again; 0: 300,000 */
	uint64_t start_ms;      /* until a sandbox's port has to answer; 0: 60,000 */
	uint8_t isolation;      /* enum isolation: of pools that name none */
};

struct cluster_row {
	struct str id;          /* a uuid */
	uint64_t incarnation;   /* restore and recover raise it */
	uint32_t feature_level; /* commands above it are never proposed */
	uint64_t counter;       /* pool uids, sandbox ids, generations, operation ids: none is used twice */
	uint64_t time_ms;       /* cluster time of the last applied entry */
	struct settings settings;
	uint64_t member_operation; /* the change of voters that is under way; 0: none */
	uint64_t removed_first;    /* bits 1 << id of the nodes the cluster was made with that were removed */
};

enum provisioning {
	PROVISIONING_IN_PROGRESS,
	PROVISIONING_SUCCEEDED,
	PROVISIONING_FAILED,
	PROVISIONING_CANCELED,
	PROVISIONING_DELETING,
	PROVISIONINGS
};

struct pool_row {
	uint64_t uid;
	struct str subscription, resource_group, name; /* as first written; compared without case */
	struct str document;
	struct pool_limits limits;
	uint8_t provisioning;      /* enum provisioning */
	uint64_t operation;        /* the last one */
	uint64_t desired_revision; /* what new sandboxes should run, once its operation succeeded */
	uint64_t active_revision;  /* what ready sandboxes run now; 0 before the first success */
	uint64_t created_ms, changed_ms;
	struct str failure; /* why sandboxes of it do not become ready; empty when they do */
	uint32_t failures;  /* in a row; a sandbox that becomes ready clears it */
	uint64_t failed_ms;
	uint32_t sessions_over; /* sessions beyond max_sessions since a PUT lowered it; falls as they end */
	uint8_t isolation;      /* enum isolation; never changes */
};

struct revision_row {
	uint64_t pool, revision;  /* revision: from the counter */
	struct template template; /* template.digest is set when its operation resolved the tag */
	uint64_t created_ms;
};

struct secret_row {
	uint64_t pool;
	struct str name;
	struct str
		sealed; /* wire/sealed.h; its key is an active or retiring row of KEY_SECRETS. nodes/control seals and opens */
};

/* What the cluster signs and seals with. A new key is `next` until every node that is up has it, then active, the one that is
 * used; the active one before it is retiring: what it signed or sealed is still accepted, until nothing of that is left. */
enum key_kind {
	KEY_SECRETS, /* 32 bytes: seals what pools keep secret */
	KEY_ISSUER,  /* PEM: signs tokens; public part: the public key */
	KEY_CA,      /* PEM: signs the nodes' certificates; public part: its certificate */
	KEY_TAGS, /* 32 bytes: tags of identifiers; never changes, or the logs of ended sandboxes would not be found */
	KEY_KINDS
};
enum key_state { KEY_NEXT, KEY_ACTIVE, KEY_RETIRING, KEY_STATES };
#define KEYS_OF_A_KIND_MAX 4
#define KEY_PART_MAX       8192

struct key_row {
	uint64_t id; /* from the counter */
	uint8_t kind, state;
	struct str sealed, public_part; /* sealed under the key ring file of the voters */
	uint64_t created_ms, since_ms;  /* since_ms: in this state */
	uint64_t
		keep_ms; /* how long it is kept at least while retiring: as long as what it signed is valid */
};

enum operation_kind {
	OPERATION_CREATE,
	OPERATION_UPDATE,
	OPERATION_DELETE,
	OPERATION_MEMBER, /* of a node, not of a pool: it is made a standby or a voter, or leaves the log */
	OPERATION_KINDS
};
/* The leader derives the next step from the phase alone, so a new leader goes on where the old one was. */
enum operation_phase {
	PHASE_RESOLVE,
	PHASE_CACHE,
	PHASE_DRAIN,
	PHASE_CHANGE,
	PHASE_SUCCEEDED,
	PHASE_FAILED,
	PHASE_CANCELED,
	PHASES
};

struct operation_row {
	uint64_t id, pool, revision;
	uint8_t kind, phase;
	struct str code, message;      /* of a failure: the ARM error's code and message */
	uint64_t started_ms, ended_ms; /* ended_ms 0 while it runs */
	uint64_t node;                 /* MEMBER: which one, and what it is to be */
	uint8_t role;                  /* enum member_role */
};

enum node_state {
	NODE_UP,
	NODE_LOST,
	NODE_NEW, /* admitted, and never started yet */
	NODE_STATES
};

/* What a node is to the log, as far as the tables know. A standby gets all entries, and is not counted. */
enum member_role { MEMBER_NONE, MEMBER_STANDBY, MEMBER_VOTER, MEMBER_ROLES };

struct node_row {
	uint64_t id;
	struct str name;
	struct str raft_address, control_address, peer_address,
		api_address; /* host:port; the last one a URL */
	bool voter;          /* it may become one */
	uint8_t member;      /* enum member_role */
	uint8_t state;       /* enum node_state */
	bool leaving;        /* it is being removed for good */
	bool cordoned;       /* it gets no new sandbox; its ready ones go once others are ready elsewhere */
	bool draining;       /* and it is being emptied */
	uint64_t epoch;      /* new at each start of its berthd */
	uint64_t sequence;   /* the highest executed of this epoch */
	uint64_t renewed_ms; /* cluster time of the last renewal */
	uint64_t cpu_milli, memory_bytes;       /* capacity before overcommit */
	uint64_t cpu_reserved, memory_reserved; /* kept by apply */
	struct str labels, version;
	struct str boot;        /* of its machine, when it joined */
	uint64_t newest_key;    /* of the cluster's keys: the node has all up to this one */
	uint64_t ca_key;        /* the KEY_CA that issued the node's certificate; 0: not told yet */
	struct disk_room disk;  /* as of its last renewal */
	uint32_t feature_level; /* of its program */
	/* While it drains. */
	bool drain_cordoned; /* by the drain itself: its cancelling uncordons */
	uint64_t drain_started_ms, drain_deadline_ms;
	uint64_t drained_ms; /* when its last sandbox went; 0: some are left */
	uint32_t isolations; /* 1 << enum isolation, or'ed: what it can run; 0: it never started */
	struct str no_vm;    /* without 1 << ISOLATION_VM: why not, in one sentence; empty: not known yet */
};

/* Admits one node, once. */
struct join_token_row {
	struct str hash; /* of the token's secret: 64 hex digits */
	bool voter;      /* the node may become one */
	uint64_t expires_ms;
	uint64_t node;  /* that it admitted; 0: it was not used */
	struct str key; /* hash of that node's public key, which may ask again with it */
};

/* Node `node` holds the flattened image `digest`. */
struct image_row {
	uint64_t node;
	struct str digest;
};

enum sandbox_state { SANDBOX_BOOTING, SANDBOX_READY, SANDBOX_BOUND, SANDBOX_STOPPING, SANDBOX_STATES };

/* Of a bound sandbox that is a virtual machine: what becomes of its memory. docs/moving.md has the moves between them. */
enum sandbox_rest {
	REST_AWAKE,  /* it runs on its node */
	REST_SAVING, /* its node pauses it and writes its memory to a file */
	REST_SAVED,  /* it is that file and nothing else: asleep, or on its way to `target` */
	REST_WAKING, /* its node makes it run again */
	RESTS
};

struct sandbox_row {
	uint64_t id, pool, revision, node;
	uint64_t node_epoch; /* of the node when it was made */
	uint8_t state;
	uint64_t generation; /* of its session, once bound: never changes afterwards */
	uint32_t cpu_milli;
	uint64_t memory_bytes; /* reserved on the node until the row goes */
	uint64_t created_ms, ready_ms;
	bool egress;     /* as its pool had it when it was made; turned off with the pool's, never on again */
	uint8_t rest;    /* enum sandbox_rest; above AWAKE only while bound */
	uint64_t save;   /* names the last file: from the counter, at each SAVING */
	uint64_t target; /* of a move: where it goes, with its reservation there too; 0: it does not move */
	bool asleep;     /* suspended: nothing is reserved, and it is billed as such */
	uint64_t slept_ms;  /* since when it is asleep, or woke up; 0: it never slept */
	uint64_t asleep_ms; /* all sleep before slept_ms */
};

enum session_state { SESSION_WAITING, SESSION_LIVE, SESSION_CLOSING, SESSION_STATES };

struct session_row {
	uint64_t pool;
	struct str identifier;
	uint64_t generation, sandbox, node; /* sandbox and node 0 while waiting */
	uint8_t state;
	uint8_t reason; /* enum reap_reason, while closing */
	uint64_t index; /* of the entry that made it live */
	uint64_t asked_ms, opened_ms, closing_ms;
	uint64_t expires_ms; /* of the wait */
	uint8_t rest;        /* of its sandbox */
};

/* A sum that cannot overflow: milli-vCPU x ms and bytes x ms. */
struct sum128 {
	uint64_t high, low;
};

/* What a pool consumed in one hour (or, after 35 days, one day). */
struct bucket_row {
	uint64_t pool;
	uint64_t start_ms;
	uint32_t width_ms; /* 3,600,000 or 86,400,000 */
	struct sum128 cpu_milli_ms, memory_byte_ms, sandbox_ms, session_ms;
	bool final;
	struct sum128 asleep_byte_ms;
};

/* A pool's rates since `since_ms`; each change first accrues. */
struct rate_row {
	uint64_t pool;
	uint64_t since_ms;
	uint64_t cpu_milli, memory_bytes, sandboxes, sessions;
	uint64_t asleep_bytes;
};

/* One closed session or one sandbox that ended unbound. */
struct record_row {
	uint64_t number; /* from the counter */
	uint64_t pool, sandbox, generation, node, revision;
	struct str pool_name;
	uint64_t ready_ms, opened_ms, closed_ms, stopped_ms; /* opened_ms 0: never bound */
	uint32_t cpu_milli;
	uint64_t memory_bytes;
	uint8_t reason;
	uint64_t asleep_ms; /* of the time between opened and closed */
};

/* What a back-dated end takes from hours that were final already: subtract it from the bill of [from_ms, to_ms). */
struct correction_row {
	uint64_t number; /* from the counter, one series with the records */
	uint64_t pool, sandbox, generation;
	uint64_t from_ms, to_ms, made_ms;
	struct sum128 cpu_milli_ms, memory_byte_ms, sandbox_ms, session_ms;
	struct sum128 asleep_byte_ms;
};

extern const struct codec_type settings_codec, cluster_row_codec, pool_row_codec, revision_row_codec,
	secret_row_codec, operation_row_codec, node_row_codec, image_row_codec, sandbox_row_codec,
	session_row_codec, bucket_row_codec, rate_row_codec, record_row_codec, correction_row_codec,
	key_row_codec, join_token_row_codec;
extern const char *const table_name[TABLES];
extern const char *const member_role_name[MEMBER_ROLES];
extern const char *const provisioning_name[PROVISIONINGS]; /* as ARM writes them: "InProgress", ... */
extern const char *const sandbox_state_name[SANDBOX_STATES];
extern const char *const sandbox_rest_name[RESTS];
extern const char *const session_state_name[SESSION_STATES];
extern const char *const reap_reason_name[REAP_REASONS];
extern const char *const key_kind_name[KEY_KINDS];
extern const char *const key_state_name[KEY_STATES];

#endif
