/* actor.h -- what an actor is made of and what its handlers may do.
 *
 * A handler sees its actor, the message, the time and the read-only tables through the context; it returns the next state
 * and emits effects with the functions below. A request that it made ends in exactly one message with its correlation: the
 * reply, or MSG_REFUSED at the deadline. A request that it took is answered by context_reply, or kept as a struct asker
 * and answered later; an actor that ends with askers answers them in its done().
 * Thread: the control loop. Everything in a message and in the context is valid until the handler returns. */
#ifndef RUNTIME_ACTOR_H
#define RUNTIME_ACTOR_H

#include "core/map.h"
#include "runtime/heap.h"
#include "runtime/mailbox.h"
#include "runtime/runtime.h"
#include "runtime/sm.h"
#include "state/state.h"

struct request;

struct message {
	const struct envelope *envelope;
	const void *body; /* the struct of message_body_codec[type]; NULL: the type has none */
};

struct context {
	struct runtime *runtime;
	struct actor *self;
	const struct state *state;
	uint64_t now_ms, node;
	uint32_t n_gateway_loops;
	bool leading;
	bool listed; /* sandboxd has said what runs here */
};

/* The first member of every actor. Written by the runtime alone. */
struct actor {
	const struct actor_class *class;
	uint64_t key;
	uint8_t state;
	uint32_t queued; /* requests in the mailbox */
	struct heap_node timer;
	struct map_node node;
	struct actor *next, *previous;
	struct mailbox stash;
	struct request *requests; /* that wait for a reply */
};

struct actor_class {
	const struct sm_def *sm;
	uint8_t kind;         /* enum address_kind */
	size_t size;          /* of the struct that starts with struct actor */
	uint32_t mailbox_max; /* requests that may wait, deferred ones too */
	bool singleton;       /* the actor with key 0 is always there */
	bool row;             /* one actor for each wanted row of `table` */
	uint8_t table;
	uint32_t
		watches; /* bits of other tables whose changes it is told: singletons all, others those of its pool */
	bool leads; /* told MSG_LEADING */
	bool (*wanted)(const struct context *c,
		       uint64_t key); /* of a row: does this node need an actor for it? */
	void (*init)(struct actor *self, struct context *c); /* may be NULL */
	void (*done)(struct actor *self,
		     struct context *c); /* may be NULL; answers askers, frees what the actor owns */
};

#define WATCH(table) (UINT32_C(1) << (unsigned)(table))

/* Whom to answer, kept beyond the message. Zero: nobody. */
struct asker {
	struct address from;
	uint64_t correlation, deadline_ms;
};

/* Sends without expecting an answer. `body` is the struct of message_body_codec[type], or NULL. */
void context_send(struct context *c, struct address to, uint16_t type, const void *body);
/* Sends a request; the reply or MSG_REFUSED comes with the correlation that is returned, after timeout_ms at the latest. */
uint64_t context_request(struct context *c, struct address to, uint16_t type, const void *body,
			 uint64_t timeout_ms);
/* `type` is an enum command_type; answered by MSG_PROPOSED or MSG_REFUSED. Proposals of followers go to the leader. */
uint64_t context_propose(struct context *c, uint8_t type, const void *body, uint64_t timeout_ms);
/* `type` is an enum sandboxd_type; answered by MSG_DRIVEN or MSG_REFUSED. pool, revision: whose secrets to open, or 0. */
uint64_t context_drive(struct context *c, uint8_t type, const void *body, uint64_t pool, uint64_t revision,
		       uint64_t timeout_ms);
/* Answered by MSG_PROBED or MSG_REFUSED. probe NULL: a TCP connection to the port. */
uint64_t context_probe(struct context *c, uint64_t sandbox, const struct probe *probe, uint16_t port,
		       uint64_t timeout_ms);
/* The log takes, promotes or lets go a node, an enum member_role; answered by MSG_PROPOSED or MSG_REFUSED. */
uint64_t context_member(struct context *c, uint64_t node, uint8_t role, uint64_t timeout_ms);
/* What the node `from` saved of the sandbox is brought here; answered by MSG_DRIVEN or MSG_REFUSED. */
uint64_t context_fetch(struct context *c, uint64_t sandbox, uint64_t save, uint64_t from,
		       uint64_t timeout_ms);
/* Hands leadership to that voter. Nothing is answered: MSG_LEADING tells. */
void context_yield(struct context *c, uint64_t node);
/* The actor's one timer: MSG_TIMER at that time, at least 1 ms from now. 0: none. */
void context_timer(struct context *c, uint64_t at_ms);
/* As context_timer, unless it fires earlier already. */
void context_timer_by(struct context *c, uint64_t at_ms);

struct asker context_asker(const struct message *m);
/* Answers and clears the asker. */
void context_answer(struct context *c, struct asker *asker, uint16_t type, const void *body);
void context_refuse(struct context *c, struct asker *asker, int32_t code, const char *why);
void context_reply(struct context *c, const struct message *m, uint16_t type, const void *body);

/* The lease of this node, see runtime_lease_ms. */
void context_lease(struct context *c, uint64_t until_boot_ms);
uint64_t context_epoch(const struct context *c); /* 0: not joined */
/* What runs here was listed since this node joined, and whatever of it is frozen and has no row was judged. */
bool context_knows_host(const struct context *c);
/* The orphans were. */
void context_judged(struct context *c);
struct disk_room context_disk(const struct context *c);

#endif
