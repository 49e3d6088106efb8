/* engine.h -- the runtime's insides, for the files of this folder. */
#ifndef RUNTIME_ENGINE_H
#define RUNTIME_ENGINE_H

#include "runtime/actor.h"

#define CLASSES_MAX 16

/* A request of an actor that waits for its reply. */
struct request {
	struct map_node node;
	struct heap_node deadline;
	struct request *next, *previous; /* of the same actor */
	struct actor *owner;
	uint64_t correlation;
};

#define AWAY_MAX 64 /* one beyond is found by its missing renewals */

struct runtime {
	struct runtime_options options;
	const struct actor_class *classes[CLASSES_MAX]; /* by kind */
	struct map actors, requests;
	struct actor *first, *last; /* in the order of their making */
	struct heap timers, deadlines;
	struct mailbox queue;
	struct runtime_counters counters;
	uint64_t now_ms, correlation, epoch, lease_ms, term;
	bool leading, listed, running;
	bool unjudged; /* something is frozen here without a row, and nobody has judged it yet */
	struct disk_room disk;
	uint64_t away[AWAY_MAX]; /* nodes */
	uint32_t n_away;
};

struct context engine_context(struct runtime *r, struct actor *self);
struct actor *engine_find(struct runtime *r, uint8_t kind, uint64_t key);
/* Finds it or makes it. NULL without memory. */
struct actor *engine_make(struct runtime *r, const struct actor_class *class, uint64_t key);
void engine_end(struct runtime *r, struct actor *a);
/* Hands a letter to its actor. Takes the letter. */
void engine_deliver(struct runtime *r, struct letter *l);
/* Puts a message of the runtime itself into the queue. */
void engine_tell(struct runtime *r, const struct actor *to, uint16_t type, const void *body,
		 uint64_t correlation);
/* The lease is asked for now, not with the next second. */
void engine_renew(struct runtime *r);
void engine_refuse(struct runtime *r, const struct envelope *e, int32_t code, const char *why);
/* NULL: nobody waits for it. */
struct request *engine_request(struct runtime *r, uint64_t correlation);
void engine_forget(struct runtime *r, struct request *q);
bool engine_is_reply(uint16_t type);
/* Of the cluster, as the tables say now; 0: not known yet. */
uint64_t engine_incarnation(const struct runtime *r);
void engine_effect(struct runtime *r, const struct effect *effect);

#endif
