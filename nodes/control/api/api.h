/* api.h -- requests of the management API on the control loop: who asks, what arm makes of it, what comes back.
 * Health, readiness and, inside, metrics are answered here, without a token. Thread: the control loop. */
#ifndef CONTROL_API_H
#define CONTROL_API_H

#include "control/control.h"
#include "crypto/digest.h"

struct api *api_new(struct control *c);
/* Takes the request; it is answered exactly once through the gateway. */
void api_request(struct api *a, struct gateway_api_request *request);
/* An actor's answer, or its refusal, to ADDRESS_API. */
void api_answered(struct api *a, const struct envelope *e);
/* reads.c, the leader's side: answers MSG_INDEX behind a barrier. */
void reads_question(struct control *c, const struct envelope *question);
/* The client of a streamed answer went away. */
void api_gone(struct api *a, uint64_t id);
/* The client took the last chunk of a streamed answer. */
void api_taken(struct api *a, uint64_t id);
void api_leader(struct api *a, uint64_t leader, uint64_t term);
/* Once a turn: answers held until the tables show them, and requests whose time is over. */
void api_turn(struct api *a);

/* One request while it is worked on; for tasks.c. */
struct api_call {
	struct map_node node; /* by id */
	struct api *api;
	struct gateway_api_request *request;
	struct arena arena;
	struct arm_request question; /* arm's continuation points to it */
	struct arm_outcome outcome;
	uint64_t deadline_ms; /* CLOCK_BOOTTIME */
	uint64_t asks;        /* the correlation of what it waits for: answers to anything before come late */
	char id[UUID_TEXT_SIZE]; /* x-ms-request-id */
	uint8_t again;           /* how often a PATCH was merged anew */
	bool reads;              /* waits for tables that show all that was acknowledged before; reads.c */
	uint64_t index;          /* which they do once they go so far; 0: not known yet */
	uint64_t asked_ms;       /* when the leader was asked for it */
	uint32_t owners_left;    /* of sessions, asked for their activity */
	bool asks_node;          /* what it keeps; node.c */
	struct status *status;   /* how far all nodes are; status.c */
	void (*proposed)(struct api_call *call, const struct msg_proposed *result); /* of api_propose */
	bool waits;         /* for an actor's answer */
	bool relayed;       /* for a voter's; relay.c */
	uint16_t held_type; /* an answer that waits for the tables; 0: none */
	const void *held;
	/* An answer in pieces: a log, or an export. */
	bool streaming;
	uint32_t finds_left;     /* nodes that were asked for a log of an ended sandbox; tasks.c */
	uint64_t found_ms;       /* when the newest of those that they have ended */
	bool log_older;          /* of an ended one, the part that was rotated before */
	struct export *export;   /* export.c */
	struct backing *backing; /* backup.c */
	uint64_t log_offset;
	struct loop_timer poll;
};

struct control *api_control(struct api *a);
/* NULL: it was answered, or its client is gone. */
struct api_call *api_call_of(const struct api *a, uint64_t id);
/* Sends the reply and forgets the call. */
void api_finish(struct api_call *call, struct arm_reply *reply);
/* Forgets a call that was answered through the gateway directly. */
void api_drop(struct api_call *call);
/* Sends a message whose answer comes back to this call, by its deadline. NULL: without a body. */
void api_send(struct api_call *call, struct address to, uint16_t type, const void *body);
/* Proposes a command; `proposed` gets what came of it, -EINPROGRESS when that is not known. */
void api_propose(struct api_call *call, uint8_t type, const void *body,
		 void (*proposed)(struct api_call *call, const struct msg_proposed *result));
/* Begins an answer in pieces. False: the client is gone. */
bool api_stream(struct api_call *call, const char *content_type);
/* reads.c: calls api_serve once these tables are the latest, or answers 503. */
void reads_begin(struct api_call *call);
/* NULL: refused. */
void reads_answered(struct api_call *call, const struct msg_indexed *answer);
/* Another node leads. */
void reads_leader(struct api_call *call);
void reads_turn(struct api_call *call, uint64_t now);
/* node.c: one node in full. NULL: it did not answer. */
void node_ask(struct api_call *call);
void node_answer(struct api_call *call, const struct msg_held *held);
void node_question(struct control *c, const struct envelope *question);
/* export.c: closed billing records, page by page. */
int exports_open(struct control *c, struct err *err);
void export_run(struct api_call *call);
void export_taken(struct api_call *call);
void export_tick(struct api_call *call, uint64_t now);
void export_gone(struct api_call *call);
/* status.c: how far all nodes are. `answer` NULL: it was refused. */
void status_run(struct api_call *call);
void status_answered(struct api_call *call, uint64_t node, const struct msg_pulsed *answer);
void status_turn(struct api_call *call, uint64_t now);
void status_question(struct control *c, const struct envelope *question);
/* joining.c: nodes that come and go. */
void joining_ca_run(struct api_call *call);
void joining_token_run(struct api_call *call);
void joining_run(struct api_call *call);
void joining_leave_run(struct api_call *call);
/* backup.c: the tables, encrypted, piece by piece. */
void backup_run(struct api_call *call);
void backup_taken(struct api_call *call);
void backup_tick(struct api_call *call, uint64_t now);
void backup_gone(struct api_call *call);
/* tasks.c */
void tasks_run(struct api_call *call);
/* An answer to a question which logs of ended sandboxes a node has; NULL: no more of them are waited for. */
void tasks_found(struct api_call *call, uint64_t node, const struct msg_logged *found);
void tasks_taken(struct api_call *call);
void tasks_logged(struct api_call *call, const struct msg_logged *piece);
/* The owner's side of a log: answers MSG_LOG. */
void tasks_log(struct control *c, const struct envelope *request);
/* activity.c: when sessions were last used. Asks the owners that the outcome names, then api_serve. */
void activity_ask(struct api_call *call);
void activity_answered(struct api_call *call, uint16_t type, const void *body);
/* The owner's side: asks the gateway loops of this node. */
void activity_question(struct control *c, const struct envelope *question);
void activity_gathered(struct control *c, const struct envelope *answer);
void activity_tick(struct control *c, uint64_t now);
/* Makes what arm makes of the request. */
void api_serve(struct api_call *call);
/* metrics.c: Prometheus text; "ok" and what an operator should know; and the causes why this node is not ready (empty: it is). */
void metrics_write(struct control *c, struct buf *to);
void metrics_health(struct control *c, struct buf *to);
void metrics_not_ready(struct control *c, struct buf *to);

#endif
