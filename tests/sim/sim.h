/* sim.h -- a whole cluster in one process on virtual time, from a seed: real tables, real actors, one shared log with delays in
 * the place of Raft, faked sandboxd and gateways.
 *
 * Time goes from event to event. Every random choice comes from the seed, so a failing seed replays exactly.
 * The tables are audited after each applied entry (or each few), and what the actors may never do is checked where they would do it. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "cast/cast.h"
#include "runtime/heap.h"
#include "runtime/runtime.h"
#include "state/state.h"

#define SIM_NODES    3
#define SIM_LOOPS    2
#define SIM_ASKS_MAX 4096
#define SIM_RUNS_MAX 1024
#define SIM_WALL_MS  1700000000000u

/* Per mille, drawn at each occasion. */
struct sim_faults {
	uint32_t lose, duplicate;                         /* messages between nodes */
	uint32_t start_fails, start_hangs, crashes, deaf; /* sandboxes; deaf: never answers on its port */
	uint32_t pull_fails;
	uint32_t elections, restarts; /* a second */
};

/* What runs on a node's host. Outlives its daemon. */
struct sim_run {
	uint64_t sandbox;
	uint64_t listens_ms;
	uint16_t port;
	bool egress;
};

struct sim_node {
	struct sim *sim;
	uint64_t id, epoch, sequence, join;
	struct state *tables;
	struct runtime *runtime;
	uint64_t applied;
	struct sim_run runs[SIM_RUNS_MAX];
	uint32_t n_runs, life; /* life: of the daemon; outcomes of an earlier one are dropped */
	struct str images[8];
	uint32_t n_images;
};

/* One open request of a gateway. */
struct sim_ask {
	uint64_t node, deadline_ms;
	char identifier[IDENTIFIER_MAX + 1];
	uint32_t answers;
	bool refused;
	struct msg_opened opened; /* message: not kept */
	uint64_t answered_ms;
};

struct sim_entry {
	struct buf bytes;
	uint64_t proposer; /* node; 0: nobody is told */
	struct address to;
	uint64_t correlation;
	uint32_t life;
};

struct sim {
	uint64_t seed, random, now_ms;
	struct sim_faults faults;
	struct sim_node nodes[SIM_NODES];
	struct heap events;
	struct sim_entry *log, pending[512]; /* pending: appended by the leader, not committed */
	uint32_t n_log, log_capacity, n_pending;
	uint64_t leader, term; /* node id; 0: none */
	struct sim_ask asks[SIM_ASKS_MAX];
	uint32_t n_asks;
	bool busy;          /* what the gateways answer to QUIESCE */
	uint64_t active_ms; /* and their last activity */
	uint32_t n_ended, n_reopened, n_starts, n_stops, n_fences;
	uint64_t served[65536]; /* sandbox id -> generation, checked for change; ids are small numbers here */
	uint32_t check_every;   /* entries between audits of the tables; 0: each entry */
	int32_t put_code;
	bool put_egress; /* of the next sim_put */
	uint64_t put_pool;
	uint32_t n_put;
	int32_t resolve_code; /* what RESOLVE answers */
	uint32_t stop_code_set;
	int32_t stop_code;
};

struct sim *sim_new(uint64_t seed);
void sim_free(struct sim *s);
void sim_run(struct sim *s, uint64_t for_ms);
/* Runs until the condition holds, at most for_ms. False: it never did. */
bool sim_until(struct sim *s, bool (*holds)(struct sim *s), uint64_t for_ms);
uint32_t sim_draw(struct sim *s, uint32_t below);
bool sim_chance(struct sim *s, uint32_t per_mille);
struct sim_node *sim_node(struct sim *s, uint64_t id);
struct state *sim_tables(struct sim *s); /* the leader's, else node 1's */
_Noreturn void sim_fail(const struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Calls fire after delay_ms. `bytes` are copied. */
struct sim_event {
	struct heap_node due;
	void (*fire)(struct sim *s, struct sim_event *e);
	uint64_t node;
	struct address to;
	uint64_t correlation, number;
	uint32_t life;
	uint16_t type;
	struct buf bytes;
};
struct sim_event *sim_after(struct sim *s, uint64_t delay_ms,
			    void (*fire)(struct sim *s, struct sim_event *e));
/* An outcome of an effect, to an actor of that node. */
void sim_outcome(struct sim *s, uint64_t node, uint64_t delay_ms, const struct address *to,
		 uint64_t correlation, uint16_t type, const void *body);
void sim_restart(struct sim *s, struct sim_node *n);

/* log.c */
void sim_propose(struct sim *s, struct sim_node *from, uint8_t type, const void *body, struct address to,
		 uint64_t correlation);
void sim_elect(struct sim *s, uint64_t node);
void sim_apply(struct sim *s, struct sim_node *n); /* everything committed */
void sim_log_done(struct sim *s);

/* drive.c */
void sim_drive(struct sim *s, struct sim_node *n, const struct effect *e);
void sim_probe(struct sim *s, struct sim_node *n, const struct effect *e);
void sim_adopt(struct sim *s, struct sim_node *n);
struct sim_run *sim_run_of(struct sim_node *n, uint64_t sandbox);
void sim_crash(struct sim *s, struct sim_node *n, uint64_t sandbox, int32_t code);

/* clients.c */
void sim_receive(struct sim *s, uint64_t node, const struct envelope *e);
struct sim_ask *sim_open(struct sim *s, uint64_t node, uint64_t pool, const char *identifier, uint64_t gone);
uint64_t sim_put(struct sim *s, const char *name, const char *image, uint32_t max, uint32_t ready,
		 uint64_t cooldown_ms);
void sim_send(struct sim *s, uint64_t node, struct address to, uint16_t type, const void *body,
	      uint64_t correlation);

#endif
