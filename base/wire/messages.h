/* messages.h -- the types of messages and the body of each, once for senders and receivers.
 * A type whose body is listed as NULL in message_body_codec has none. */
#ifndef WIRE_MESSAGES_H
#define WIRE_MESSAGES_H

#include "core/codec.h"
#include "wire/envelope.h"
#include "wire/holding.h"
#include "wire/template.h"

enum message_type {
	MSG_NONE,

	/* what the runtime and the effects' executor tell actors */
	MSG_TIMER,    /* the actor's one timer fired */
	MSG_LEADING,  /* leading: this node began or ceased to lead; sent to the actors of the leader */
	MSG_CHANGED,  /* changed: the row that the actor stands for was changed by an applied command */
	MSG_PROPOSED, /* proposed: reply to a proposal: applied, or refused, or unknown */
	MSG_DRIVEN,   /* sandboxd_reply: reply to a call of sandboxd */
	MSG_EXITED,   /* sandboxd_exited: the sandbox's process is gone */
	MSG_ADOPTED,  /* adopted: sandboxd's list after a (re)connect; one per sandbox of ours */
	MSG_PROBED,   /* probed: reply to a probe */

	/* gateway -> placement on the leader */
	MSG_OPEN,   /* open: the session for an identifier, made if need be */
	MSG_OPENED, /* opened: the reply */
	/* gateway -> the owner's session */
	MSG_DEAD, /* session_event: its sandbox refused a connection */
	/* session -> the gateway loops of its node, and back */
	MSG_QUIESCE, /* session_event: admit no more; reply with quiet */
	MSG_QUIET,   /* quiet */
	MSG_REOPEN,  /* session_event: admit again */
	MSG_ENDED,   /* session_event: forget it, close its connections and tunnels */

	/* reaper <-> session */
	MSG_REAP,   /* reap: close if idle, or whatever */
	MSG_REAPED, /* reaped: the reply */

	/* API -> pool of its node */
	MSG_POOL_PUT,    /* pool_put: create or replace */
	MSG_POOL_DELETE, /* pool_delete */
	MSG_POOL_ANSWER, /* pool_answer: accepted with an operation, or refused */
	/* API -> placement of its node */
	MSG_STOP,    /* stop: end the session of an identifier */
	MSG_STOPPED, /* stopped: the reply, once it is closing */

	/* placement or pool -> actors of another node; they go through committed rows where they must survive */
	MSG_CACHE,  /* cache: have this image, say when */
	MSG_CACHED, /* cached: the reply */

	MSG_REFUSED, /* refused: no such actor here, mailbox full, wrong state, or deadline passed: ends any request */

	/* session -> its sandbox, on one node, and back */
	MSG_HALT,   /* halt: stop what runs; the session's end is committed by the session */
	MSG_HALTED, /* halted: nothing of it runs any more */
	/* membership of any node <-> membership of the leader */
	MSG_RENEW,   /* renew: prolong my lease */
	MSG_RENEWED, /* renewed: the lease lasts from the sending of the renewal that this answers */
	/* runtime -> orphans of its node <-> membership of the leader */
	MSG_ORPHANS, /* orphans: sandboxes that run here without a row of ours */
	MSG_JUDGE,   /* orphans: which of these may be stopped? answered behind a barrier */
	MSG_JUDGED,  /* orphans: those that no row stands for */
	/* control of any node <-> control of a sandbox's node */
	MSG_LOG,    /* log: a piece of a sandbox's console log */
	MSG_LOGGED, /* logged: the reply */
	/* control of any node <-> control of the leader */
	MSG_INDEX,   /* up to which entry must my tables go, to show what yours show? */
	MSG_INDEXED, /* indexed: the reply */
	/* control of any node <-> control of the sessions' owner <-> its gateway loops */
	MSG_ACTIVITY, /* activity: when were these sessions last used? */
	MSG_ACTIVE,   /* active: the reply; sessions that were never used here are left out */
	/* control of any node <-> control of one */
	MSG_HOLDINGS, /* what do you keep, and how are you? */
	MSG_HELD,     /* held: the reply */
	MSG_PULSE,    /* how far are you? */
	MSG_PULSED,   /* pulsed: the reply, at once */
	/* control of a worker <-> control of a voter */
	MSG_UNSEAL,   /* unseal: the secrets that my sandbox, or an image that I pull, needs */
	MSG_UNSEALED, /* unsealed: the reply */
	MSG_RELAY,    /* relay: a request of a client that changes something */
	MSG_RELAYED,  /* relayed: the reply */
	/* API -> drain of its node */
	MSG_NODE_ORDER,    /* node_order: which sandboxes a node may get */
	MSG_CLUSTER_LEVEL, /* cluster_level: raise the cluster's feature level */
	MSG_NODE_ORDERED,  /* node_ordered: the reply to both */
	/* control of any node <-> control of the leader */
	MSG_CERTIFY,   /* certify: a certificate for this key of mine */
	MSG_CERTIFIED, /* certified: the reply */
	/* session -> the gateway loops of its node */
	MSG_PART, /* session_event: its sandbox is being saved: end what is under way, go on holding what comes */
	/* session -> its sandbox, on one node */
	MSG_SAVE, /* no request is under way any more: write its memory down; the row shows what came of it */
	/* API -> placement of its node */
	MSG_REST,   /* rest: suspend or resume a session */
	MSG_RESTED, /* rested: the reply, once that has begun */
	/* control of the node that a sandbox moves to <-> control of its node */
	MSG_COPY,   /* copy: a piece of its memory */
	MSG_COPIED, /* copied: the reply */
	MSG_TYPES
};

/* Where an identifier's session is: everything that a gateway needs to forward to it. */
struct session_ref {
	uint64_t pool, generation, sandbox;
	uint64_t node;      /* the owner */
	uint64_t index;     /* of the entry that opened it: an owner that lags waits for it */
	uint64_t opened_ms; /* cluster time */
};

enum open_code {
	OPEN_OK,
	OPEN_UNKNOWN_POOL, /* 404 */
	OPEN_NO_SESSION,   /* 404: required to exist, and it does not */
	OPEN_FULL,         /* 429: max sessions reached, or the queue's time is over */
	OPEN_CANNOT_START, /* 503: the pool cannot start anything; message says why */
	OPEN_CLOSING,      /* 503: the old session of this identifier is still ending */
	OPEN_UNAVAILABLE,  /* 503: no leader, no quorum, or the owner is away */
	OPEN_RESTING,      /* 503 after 30 s: it is moving, or waking; ask again */
	OPEN_CODES
};

struct msg_leading {
	bool leading;
	uint64_t term;
};
struct msg_changed {
	uint8_t table;
	uint64_t key;
	uint64_t index;
	uint64_t pool;
	bool removed;
};
struct msg_proposed {
	int32_t code; /* 0 applied; -EAGAIN not leader; -EINPROGRESS unknown; else the command's refusal */
	struct str message;
	uint64_t index;
	uint64_t id; /* what the command made: sandbox id, generation, pool uid, operation id */
	struct session_ref session;
	bool created;
	uint64_t operation;
	bool waiting; /* SESSION_OPEN: no sandbox yet */
};
struct msg_adopted {
	uint64_t sandbox;
	int64_t pid;
	bool running, egress, parked;
	uint64_t save; /* a file of its memory is here */
};
struct msg_probed {
	bool ok;
	struct str message;
};

struct msg_open {
	uint64_t pool;
	struct str identifier;
	bool require_existing;
	uint64_t gone; /* a sandbox that the asker found dead; 0 = none */
};
struct msg_opened {
	uint8_t code;       /* enum open_code */
	struct str message; /* the cause, for people */
	struct session_ref session;
	bool created;
	uint32_t allocation_ms, retry_after_s;
};
struct msg_session_event {
	uint64_t pool, generation, sandbox;
	struct str identifier;
	struct str reason;
};
struct msg_quiet {
	uint64_t generation;
	uint32_t in_flight;             /* requests, and tunnels that carried bytes within the cooldown */
	uint64_t last_activity_boot_ms; /* 0: never seen here */
	bool served;                    /* an answer of its sandbox went through here */
	uint32_t requests;              /* of in_flight, what is no tunnel */
};
enum reap_reason {
	REAP_IDLE,
	REAP_MAX_ALIVE,
	REAP_STOPPED,
	REAP_EXITED,
	REAP_POOL_DELETED,
	REAP_DEAD,
	REAP_OUT_OF_MEMORY,
	REAP_DRAINED, /* its node's drain reached its deadline */
	REAP_REASONS
};
struct msg_reap {
	uint8_t reason;
};
struct msg_reaped {
	bool closed;
	uint64_t last_activity_boot_ms;
};

struct secret_put {
	struct str name;
	struct str sealed;
}; /* empty `sealed`: keep the stored one of this name */

/* What the tables keep of a pool beside its document. */
struct pool_limits {
	uint32_t max_sessions, ready_target;
	uint64_t cooldown_ms, max_alive_ms; /* max_alive_ms 0 = none */
	uint8_t lifecycle;                  /* enum pool_lifecycle */
	bool egress;
};
enum pool_lifecycle { LIFECYCLE_TIMED, LIFECYCLE_ON_EXIT, LIFECYCLES };

struct msg_pool_put {
	struct str subscription, resource_group, name;
	struct str
		document; /* the resource as JSON, without secrets and read-only fields; nodes/arm owns its form */
	struct pool_limits limits;
	struct template template;
	struct secret_put *secrets;
	uint32_t n_secrets;
	uint64_t expect_uid; /* 0: create, or replace whatever is there; else -ESTALE unless it is this one */
	uint64_t
		expect_operation; /* of the pool that was read to make this; 0: any; else -ESTALE unless it is the last one */
	bool new_revision; /* the template differs from the stored one */
	uint8_t isolation; /* enum isolation; of a pool that is there: as it is, else refused */
};
struct msg_pool_delete {
	uint64_t pool;
};
struct msg_pool_answer {
	int32_t code; /* 0, or -errno: -EEXIST, -ENOENT, -EBUSY, -EAGAIN, ... */
	struct str message;
	uint64_t pool, operation;
	bool created;
};
struct msg_stop {
	uint64_t pool;
	struct str identifier;
};
struct msg_stopped {
	int32_t code;
	struct str message;
}; /* -ENOENT: no such session */

struct msg_rest {
	uint64_t pool;
	struct str identifier;
	bool resume;
};
struct msg_rested {
	int32_t code; /* as SESSION_SUSPEND's and SESSION_WAKE's; -ENOENT: no such session */
	struct str message;
	uint64_t index; /* of the entry */
};

struct msg_cache {
	uint64_t pool;
	struct str image, digest;
};
struct msg_cached {
	int32_t code;
	struct str message;
	struct str digest;
};

struct msg_halt {
	uint32_t grace_ms;
	bool unserved;
	struct str reason;
};
struct msg_halted {
	uint64_t stopped_ms;
}; /* wall clock of the node */
/* Of the disk below a node's state_dir. */
struct disk_room {
	uint64_t bytes, free;
	bool nearly_full; /* as its configuration says: it gets no new sandbox */
};
struct msg_renew {
	uint64_t node, epoch, sent_ms; /* sent_ms: CLOCK_BOOTTIME of the node that asks */
	struct disk_room disk;
};
struct msg_renewed {
	uint64_t epoch, sent_ms;
};
#define ORPHANS_MAX 4096
struct msg_orphans {
	uint64_t node;
	uint64_t *sandboxes;
	uint32_t n_sandboxes;
};

struct msg_refused {
	int32_t code;
	struct str message;
};

enum node_order { NODE_CORDON, NODE_UNCORDON, NODE_DRAIN, NODE_DRAIN_CANCEL, NODE_ORDERS };
/* Each order is idempotent. */
struct msg_node_order {
	uint64_t node;
	uint8_t order;        /* enum node_order */
	uint64_t deadline_ms; /* DRAIN: from now on; then what is left is stopped */
};
struct msg_cluster_level {
	uint32_t feature_level;
};
struct msg_node_ordered {
	int32_t code;
	struct str message;
	uint64_t index; /* of the entry that did it */
};

#define LOG_PIECE_MAX 65536
struct msg_log {
	uint64_t sandbox, offset;
	uint32_t tail; /* > 0: start at the last so many lines */
	/* Of ended sandboxes: `find` asks which is the newest that fits, and brings no bytes. */
	uint64_t pool;  /* that it has to be of; 0: any */
	struct str tag; /* of `find`: of the session's identifier; empty: any */
	bool find;
	bool older; /* the part that was rotated before the rest */
};
struct msg_logged {
	int32_t code;
	struct str message;
	struct str bytes;
	uint64_t offset;            /* of the next piece */
	uint64_t sandbox, ended_ms; /* of `find`; ended_ms: wall clock */
};

#define COPY_PIECE_MAX (256u * 1024)
struct msg_copy {
	uint64_t sandbox, save, offset;
};
struct msg_copied {
	int32_t code; /* -EAGAIN: not yet */
	struct str message;
	uint64_t offset, bytes; /* bytes: of all */
	struct str piece, sum;  /* sum: SHA-256 of the piece */
};

#define CERTIFICATE_MAX 16384
struct msg_certify {
	uint8_t use;    /* 0: between nodes; 1: of clients' TLS */
	struct str csr; /* PEM */
};
struct msg_certified {
	struct str cert; /* PEM */
};
struct msg_indexed {
	uint64_t index;
};
#define ACTIVITY_MAX 1000
struct msg_activity {
	uint64_t *generations;
	uint32_t n_generations;
};
struct msg_active { /* two lists of one length */
	uint64_t *generations;
	uint32_t n_generations;
	uint64_t *ago_ms; /* 0: right now */
	uint32_t n_ago_ms;
};

struct msg_pulsed {
	uint64_t index;   /* of the last entry in its tables */
	uint64_t wall_ms; /* its clock */
};

#define FIGURES_MAX 32
struct figure {
	struct str name;
	uint64_t value;
};
struct msg_held {
	uint64_t uptime_ms, lease_ms;         /* lease_ms: that it still lasts; 0: it ended */
	struct str version, sandboxd_version; /* sandboxd's empty: it is not connected */
	struct holding *holdings;
	uint32_t n_holdings;
	struct figure *figures; /* counters since the start, and what has no better place */
	uint32_t n_figures;
};

struct msg_unseal {
	uint64_t sandbox;        /* the secrets of its environment; 0: the password of a registry */
	uint64_t pool, revision; /* whose image is pulled */
};
#define UNSEALED_BYTES_MAX (512u * 1024) /* of all values: no more fits into a start */
struct secret_value {
	struct str name, value;
};
struct msg_unsealed {
	int32_t code; /* 0; -EPERM: not yours; -EAGAIN: not known here yet; others as they came */
	struct str message;
	struct secret_value *values;
	uint32_t n_values;
};

#define RELAY_TARGET_MAX  8192
#define RELAY_BODY_MAX    (512u * 1024)
#define RELAY_HEADERS_MAX 16
struct msg_relay {
	struct str method, path, query, host, authorization, content_type, accept, client_request_id;
	bool tls;      /* how the client came */
	uint64_t pool; /* that host or path name; 0: none */
	struct str body;
};
struct msg_relayed {
	uint32_t status;
	struct http_header *headers;
	uint32_t n_headers;
	struct str body;
};

extern const struct codec_type session_ref_codec, pool_limits_codec, secret_put_codec, pool_put_codec,
	pool_delete_codec, node_order_codec, cluster_level_codec, disk_room_codec;
extern const struct codec_type *const message_body_codec[MSG_TYPES];
extern const char *const message_type_name[MSG_TYPES];

#endif
