/* runtime.h -- runs the actors of one node: pure, no I/O, no clock, no random.
 *
 * Happy path: the control loop posts envelopes (from gateways, the API, other nodes, finished effects) and table changes,
 * calls runtime_run(now) until it is idle, and carries out the effects that the actors emitted. Each effect that can
 * finish carries the actor's address and a correlation; its outcome comes back as an envelope with that correlation.
 * Failure modes: a full mailbox, an unknown address or a passed deadline answers the request with MSG_REFUSED; a request
 * without a reply until its deadline gets MSG_REFUSED from its own runtime, exactly once; a late reply is dropped.
 * Owns: actors, mailboxes, timers. Borrows: the tables, for reading. Thread: the control loop (or the simulator). */
#ifndef RUNTIME_RUNTIME_H
#define RUNTIME_RUNTIME_H

#include "core/err.h"
#include "wire/envelope.h"
#include "wire/messages.h"
#include "wire/sandboxd.h"

struct state;
struct runtime;

enum effect_kind {
	EFFECT_SEND,    /* to another node, a gateway loop, the API: envelope */
	EFFECT_PROPOSE, /* a command for the tables; answered by MSG_PROPOSED */
	EFFECT_DRIVE, /* a call of sandboxd; answered by MSG_DRIVEN. START, PULL and RESOLVE name secrets (below) */
	EFFECT_PROBE, /* is the sandbox ready? answered by MSG_PROBED */
	EFFECT_MEMBER, /* make a node what it should be to the log, on the leader; answered by MSG_PROPOSED: 0; -EAGAIN: not now,
			  or not known; else it did not work, and nothing changed */
	EFFECT_FETCH, /* the file that `node` saved of the sandbox becomes one of this node's sandboxd; answered by MSG_DRIVEN */
	EFFECT_YIELD, /* this node leads no more, `node` does; by and by, or not at all */
	EFFECT_KINDS
};

/* Memory of an effect is valid until the call that took it returns. */
struct effect {
	uint8_t kind;
	struct address from;             /* whom the outcome goes to */
	uint64_t correlation;            /* of the outcome; 0: nobody waits */
	uint64_t deadline_ms;            /* CLOCK_BOOTTIME; 0 = none */
	const struct envelope *envelope; /* SEND */
	uint8_t type;                    /* PROPOSE: enum command_type; DRIVE: enum sandboxd_type */
	const void
		*body; /* PROPOSE: struct of command_body_codec[type]; DRIVE: of sandboxd_body_codec[type] */
	/* DRIVE of START, PULL, RESOLVE: whose secrets to open: env[].secret_ref of the revision, registry.password_secret */
	uint64_t pool, revision;
	uint64_t sandbox; /* PROBE; FETCH, with `save` */
	uint64_t save;
	const struct probe *probe; /* PROBE: NULL = TCP on target_port */
	uint16_t target_port;
	uint64_t node; /* MEMBER; YIELD: a voter; FETCH: the source */
	uint8_t role;  /* MEMBER: enum member_role */
};

struct actor_class;

struct runtime_options {
	uint64_t node; /* this node's id */
	uint64_t incarnation;
	uint32_t n_gateway_loops;
	const struct state *state; /* read-only view of the tables */
	/* The actors of a node: cast_classes of cast/cast.h, with CAST_CLASSES elements. */
	const struct actor_class *const *classes;
	uint32_t n_classes;
	/* Carries out one effect; must not call back into the runtime. */
	void (*effect)(void *context, const struct effect *effect);
	void *context;
};

struct runtime *runtime_new(const struct runtime_options *options);
void runtime_free(struct runtime *r);

/* Copies the envelope into the addressee's mailbox. For ADDRESS_GATEWAY, ADDRESS_API and other nodes it becomes an
 * EFFECT_SEND. Never fails: what cannot be delivered is answered with MSG_REFUSED. */
void runtime_post(struct runtime *r, const struct envelope *e, uint64_t now_ms);

/* After each state_apply: makes and ends the actors that stand for rows of this node, tells them. */
struct applied;
void runtime_applied(struct runtime *r, const struct applied *applied, uint64_t now_ms);
/* After a restore, and at start: as if every row had changed. */
void runtime_rescan(struct runtime *r, uint64_t now_ms);
/* Leadership began (tables are up to date: the barrier of the term is applied) or ended. */
void runtime_leading(struct runtime *r, bool leading, uint64_t term, uint64_t now_ms);
/* This node's COMMAND_NODE_JOIN applied: from now on its lease is renewed. Again with the new epoch after it was lost. */
void runtime_joined(struct runtime *r, uint64_t epoch, uint64_t now_ms);
/* Until when (CLOCK_BOOTTIME) this node's lease lasts; 0: it has none. Gateways refuse after it. sandboxd's own fence
 * is moved by the actors (SANDBOXD_FENCE). */
uint64_t runtime_lease_ms(const struct runtime *r);
/* sandboxd (re)connected and listed what runs: each booting, ready or bound row of this node is told (MSG_ADOPTED), running
 * or not; what runs without a row is answered by STOP effects once the leader's judgement allows it. */
void runtime_adopted(struct runtime *r, const struct sandboxd_sandbox *list, uint32_t n, uint64_t now_ms);

/* Told with the next renewals. */
void runtime_disk(struct runtime *r, const struct disk_room *disk);

/* The connection to another node broke, or is there again. */
void runtime_away(struct runtime *r, uint64_t node, bool away);
bool runtime_is_away(const struct runtime *r, uint64_t node);

/* Handles messages and due timers until none is left. */
void runtime_run(struct runtime *r, uint64_t now_ms);
/* When runtime_run should be called again at the latest; UINT64_MAX: only after a post. */
uint64_t runtime_next_ms(const struct runtime *r);

struct runtime_counters {
	uint64_t messages, refused, deferred, timeouts, effects[EFFECT_KINDS];
	uint32_t actors, mailbox_max;
};
struct runtime_counters runtime_counters(const struct runtime *r);

#endif
