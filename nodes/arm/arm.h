/* arm.h -- the management API as a library: Microsoft.App/sessionPools as Azure's clients speak it, what they ask around it,
 * the `.management` calls of a pool, and Berth's own small API below /.berth/v1/.
 *
 * Happy path: the caller reads a whole request, checks its token, calls arm_handle(). The outcome is a reply, or a message to
 * post to an actor (ARM_POST: the actor's answer goes to arm_answer(), which makes the reply), or work that only the
 * process can do (ARM_TASK: tokens, logs, images). Nothing is changed here: tables are only read.
 * Failure modes: everything wrong with a request becomes a reply in ARM's error form. arm_handle itself never fails.
 * Ownership: the request, its strings and the arena stay valid until the reply was made; a reply's body is its own (arm_reply_done).
 * Thread: the control loop (reads the tables). No I/O, no clock, no random. */
#ifndef ARM_ARM_H
#define ARM_ARM_H

#include "core/arena.h"
#include "core/buf.h"
#include "core/err.h"
#include "core/str.h"
#include "state/state.h"
#include "wire/envelope.h"
#include "wire/messages.h"

#define ARM_BODY_MAX    (512u * 1024) /* of a request; larger: answer 413 without calling arm_handle */
#define ARM_HEADERS_MAX 12

/* A role that a token carries, as it names it; the scope is a resource id or "/". Known roles (case does not matter):
 *   Owner, Contributor, "Container Apps SessionPools Contributor"  read and change pools; Owner also sees identifiers
 *   Reader, "Container Apps SessionPools Reader"                   read
 *   "Azure ContainerApps Session Executor"                         the `.management` calls, session list with identifiers
 * (Azure's built-in roles; ids are accepted in place of names, see access.c.) */
struct arm_role {
	struct str role, scope;
};

struct arm_caller {
	struct str subject;
	const struct arm_role *roles;
	uint32_t n_roles;
	bool local; /* came over the admin socket: may do everything */
};

/* When a session was last used: its owner alone knows. */
struct arm_activity {
	uint64_t node, generation;
	uint64_t at_ms; /* wall clock; 0: not known */
};

struct arm_request {
	struct str method, path, query; /* as received: still percent-encoded; the query without '?' */
	struct str body;
	struct str scheme, host; /* "https", the Host header: links in answers begin so */
	struct arm_caller caller;
	uint64_t now_ms;                     /* wall clock */
	const struct arm_activity *activity; /* NULL: not asked for yet */
	uint32_t n_activity;
	uint64_t pool; /* not 0: a call below this pool's endpoint; path is then "/.management/..." */
};

/* The rules for outbound traffic of this node's sandboxes. */
struct arm_network {
	uint32_t repairs;     /* somebody else had changed them */
	uint64_t repaired_ms; /* wall clock; 0: never */
	char problem[256];    /* why they cannot be written now; empty: they can */
};

/* What the process knows and the tables do not. Filled by the composition root; lives as long as requests do. */
struct arm {
	struct str url;              /* of this endpoint, for links when a request has no usable Host */
	uint64_t node, leader, term; /* kept current by the owner; leader 0: none known */
	const struct arm_network *network;
	void *context; /* of the callbacks */
	/* Encrypts a secret; the result in the arena, at most SECRET_MAX + 64 bytes. `pool_id` is the resource id in lower case. */
	int (*seal)(void *context, struct str pool_id, struct str name, struct str plain, struct arena *arena,
		    struct str *ret_sealed, struct err *err);
	/* A keyed hash of an identifier, for callers who may not see it: hex digits, terminated. */
	void (*hash_identifier)(void *context, struct str identifier, char ret_hex[33]);
};

struct arm_header {
	const char *name; /* lower case, static */
	struct str value; /* in the arena */
};

struct arm_reply {
	int status;
	struct arm_header headers[ARM_HEADERS_MAX];
	uint32_t n_headers;
	struct buf body; /* empty with 202 and 204 */
};

/* Work for the process itself. It answers with arm_reply_json, arm_reply_error or a stream of its own. */
enum arm_task {
	ARM_TASK_TOKEN, /* token: mint one; answer {"token","expiresAt"}. Only ever from the admin socket */
	ARM_TASK_LOGS,  /* logs: stream text lines of one sandbox; its node may be another one */
	ARM_TASK_IMAGES, /* the images of this node: answer {"value":[{"digest","reference","bytes","users","lastUsed"}]} */
	ARM_TASK_NODE, /* node: ask it what it keeps and how it is; answer `head`, an object, with that in it */
	ARM_TASK_EXPORT, /* export: stream `head`, each closed record of the range by arm_export_record, then arm_export_end */
	ARM_TASK_PRUNE, /* remove what nothing uses from this node: answer as IMAGES, of what went. Admin socket alone */
	ARM_TASK_FORGET, /* forget: remove one image from this node. Admin socket alone */
	ARM_TASK_IMPORT, /* import: an archive or layout on this host; admin socket alone: answer {"digest","reference"} */
	ARM_TASK_STATUS, /* status: ask all nodes how far they are; answer `head`, an object, with that in it */
	ARM_TASK_CA,     /* answer the cluster's CA, PEM: nothing secret */
	ARM_TASK_JOIN_TOKEN, /* join_token: mint one; answer {"token","expiresAt","role"} */
	ARM_TASK_JOIN,       /* join: a machine that shows such a token wants to be a node */
	ARM_TASK_LEAVE,      /* leave: a node is to go for good */
	ARM_TASK_ROTATE,     /* rotate: new keys of these kinds; answer their ids. Admin socket alone */
	ARM_TASK_BACKUP,     /* backup: stream the tables, encrypted to its recipient. Admin socket alone */
	ARM_TASKS
};

struct arm_token_ask {
	struct str subject, audience;
	uint32_t ttl_s; /* 60 to 86,400 */
	struct arm_role *roles;
	uint32_t n_roles;
};
struct arm_logs_ask {
	uint64_t pool, sandbox,
		node;   /* node 0: of one that ended, wherever its log is; sandbox 0: the last one */
	struct str tag; /* of an ended one: keyed hash of the identifier; empty: of any */
	bool follow;
	uint32_t tail; /* lines from the end; 0 = all that is kept */
};
struct arm_import_ask {
	struct str reference;
	struct str path; /* absolute, of this host */
};

struct arm_backup_ask {
	struct str recipient; /* as the operator gave it */
};
struct arm_rotate_ask {
	struct str what; /* secrets, issuer, ca or all */
};
struct arm_node_ask {
	uint64_t node;
	struct str head; /* JSON, of the tables */
};
struct arm_export_ask {
	uint64_t from_ms, to_ms; /* records that overlap [from, to) */
	bool csv;
	struct str head; /* all that comes before the records */
};

struct arm_join_token_ask {
	bool voter;
	uint64_t life_ms;
};
/* Nothing of it is believed before the token was looked at. */
struct arm_join_ask {
	struct str secret, csr,
		clients_csr; /* of the token; PEM: of the certificate between nodes, of clients' TLS */
	struct str name, raft_address, control_address, peer_address, api_address, version;
	uint64_t clock_ms; /* the machine's wall clock when it asked */
	uint64_t feature_level;
};
struct arm_leave_ask {
	uint64_t node;
	bool force;
	struct str name; /* for the answer */
};

enum arm_outcome_kind { ARM_REPLY, ARM_POST, ARM_TASK, ARM_ASK };

struct arm_outcome {
	uint8_t kind;           /* enum arm_outcome_kind */
	struct arm_reply reply; /* REPLY */

	/* POST: an envelope for `to` with the body encoded by message_body_codec[type]. Give the reply, or MSG_REFUSED, to
	 * arm_answer(). */
	struct address to;
	uint16_t type;
	const void *body;

	uint8_t task; /* TASK: enum arm_task */
	struct arm_token_ask token;
	struct arm_logs_ask logs;
	struct arm_import_ask import;
	struct str forget; /* a digest */
	struct arm_node_ask node;
	struct arm_export_ask export;
	struct str status; /* JSON, of the tables */
	struct arm_join_token_ask join_token;
	struct arm_join_ask join;
	struct arm_leave_ask leave;
	struct arm_backup_ask backup;
	struct arm_rotate_ask rotate;

	struct arm_activity
		*asks; /* ASK: find these out, as far as possible, and call arm_handle again with them */
	uint32_t n_asks;

	const struct arm_continuation *then; /* of arm_answer */
};

/* True: this request needs no token (what a client asks to learn where to get one). */
bool arm_public(struct str method, struct str path);

void arm_handle(const struct arm *arm, const struct arm_request *request, const struct state *state,
		struct arena *arena, struct arm_outcome *ret);

/* True when this node's tables show what the answer tells of. A follower can be behind the leader that answered: hold
 * the answer until then (or a second), so that the client's next GET here finds the pool. */
bool arm_shown(const struct state *state, uint16_t type, const void *body);

/* True: the pool was changed between the reading and the writing of a PATCH. Call arm_handle again, with new tables. */
bool arm_again(const struct arm_outcome *outcome, uint16_t type, const void *body);

/* The actor's answer `type` with its decoded body (MSG_POOL_ANSWER, MSG_STOPPED, MSG_RESTED, MSG_NODE_ORDERED, MSG_REFUSED) becomes the reply. */
void arm_answer(const struct arm *arm, const struct arm_outcome *outcome, const struct state *state,
		uint16_t type, const void *body, struct arena *arena, struct arm_reply *ret);

/* A record as the export shows it; `first`: no other came before. Pure: for any thread. */
void arm_export_record(struct buf *to, bool csv, bool first, const struct record_row *record);
struct str arm_export_end(bool csv);

/* For tasks, and for what the caller refuses itself (401 with code "InvalidAuthenticationToken", 413, 503, ...). */
void arm_reply_error(struct arm_reply *ret, int status, const char *code, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
void arm_reply_text(struct arm_reply *ret, int status, const char *content_type, struct str body);
void arm_reply_header(struct arm_reply *r, const char *name, struct str value);
void arm_reply_done(struct arm_reply *r);

#endif
