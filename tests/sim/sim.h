/* sim.h -- a whole cluster in one process on virtual time, from a seed: real tables, actors and proposer, the real library
 * behind the real guard over disks and a network in memory; faked sandboxd, gateways and clients.
 *
 * Time goes from event to event. Every random choice comes from the seed, so a failing seed replays exactly; `trace` is a
 * hash of all events, equal in both runs. Each node has clocks of its own, which drift and jump. What must hold is judged at each
 * applied entry and each served request (judge/); a violation ends the process with the seed. */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "cast/cast.h"
#include "control/links/leaderbox.h"
#include "control/proposer.h"
#include "runtime/heap.h"
#include "runtime/runtime.h"
#include "state/state.h"

#define SIM_NODES     3 /* voters, unless sim_options say otherwise */
#define SIM_VOTERS    5
#define SIM_NODES_MAX 56
#define SIM_LOOPS     2
#define SIM_ASKS_MAX  4096
#define SIM_RUNS_MAX  256
#define SIM_OVER_MAX  256
#define SIM_WALL_MS   1700000000000u
#define SIM_SKEW_MS   400 /* how far a wall clock may be wrong; more is refused when a node joins */

struct sim;
struct sim_node;
struct sim_event;
struct sim_io;
struct sim_disk;
struct consensus;
struct judge;

/* What a run can meet; counted in sim.counts. */
enum sim_fault {
	FAULT_LOST,      /* a message between nodes */
	FAULT_DOUBLED,   /* a message between actors */
	FAULT_DELAYED,   /* a message that others overtake */
	FAULT_CUT,       /* a link, both ways */
	FAULT_DEAF,      /* a link, one way */
	FAULT_KILL,      /* berthd; its sandboxes go on */
	FAULT_REBOOT,    /* a machine, with all that ran there */
	FAULT_STOP,      /* berthd is stopped for a while, and goes on */
	FAULT_TORN,      /* a write that was under way at a crash: a part of it is there */
	FAULT_UNWRITTEN, /* ... none of it */
	FAULT_DISK_SLOW,
	FAULT_DISK_FULL, /* a write of the log fails: the program ends */
	FAULT_METADATA,  /* term or vote cannot be written */
	FAULT_CLOCK,     /* a wall clock jumps */
	FAULT_TRANSFER,  /* leadership is handed over */
	FAULT_START_FAILS,
	FAULT_START_HANGS,
	FAULT_SANDBOX_CRASH,
	FAULT_SANDBOX_DEAF, /* never answers on its port */
	FAULT_PULL_FAILS,
	FAULT_SNAPSHOT, /* taken; not a fault, but what cuts the log */
	FAULT_INSTALL,  /* a snapshot was sent to a node */
	FAULT_FEED,     /* a worker lost its voter */
	FAULT_SAVE_FAILS,
	FAULT_LOAD_FAILS,
	FAULT_SAVED, /* not a fault: a session slept or moved */
	FAULT_MOVED, /* neither: it went on on another node */
	FAULT_ABLE,  /* a node runs virtual machines no more, or again */
	FAULTS
};
extern const char *const sim_fault_name[FAULTS];

/* Per mille, drawn at each occasion. */
struct sim_faults {
	uint32_t lose, duplicate, delay;                  /* messages between nodes */
	uint32_t start_fails, start_hangs, crashes, deaf; /* sandboxes; deaf: never answers on its port */
	uint32_t pull_fails;
	/* A second, somewhere in the cluster. */
	uint32_t kills, reboots, stops, cuts, one_way, slow_disks, full_disks, metadata, clocks, transfers,
		feeds, ables;
};

/* What runs on a node's host. Outlives its daemon. */
struct sim_run {
	uint64_t sandbox;
	uint64_t listens_ms;
	uint16_t port;
	bool egress;
	uint8_t isolation;
	bool parked;
	bool saving, loaded;  /* both: it does nothing; loaded: from a file, until GO_ON */
	uint64_t save, count; /* that it was loaded from; requests that it served: its memory */
	bool stopping, still; /* still: frozen while it was being stopped, which no lease thaws */
};

/* A sandbox's memory, whole. */
struct sim_file {
	uint64_t sandbox, save, count;
};

/* What the gateway loops of a node know of a session whose sandbox is here. */
struct sim_account {
	uint64_t generation, active_ms;        /* boot time */
	uint32_t in_flight, number;            /* number: no other account of the node has it */
	bool quiet, admitted, vouched, served; /* vouched: by the tables, not by placement's word alone */
};

/* A gateway's route cache: for the identifiers of the run. */
struct sim_route {
	uint64_t generation, sandbox, node, index;
};
#define SIM_POOLS       3
#define SIM_IDENTIFIERS 32 /* user-0 and on */

/* CLOCK_BOOTTIME goes at its own rate; the wall clock goes with it, and jumps. */
struct sim_clock {
	uint64_t base_ms, since_ms; /* boot time was base_ms at virtual time since_ms */
	int64_t ppm, wall_off_ms;
};

struct sim_node {
	struct sim *sim;
	uint64_t id;
	bool voter, up, joining, allowed;
	uint32_t life; /* of the daemon; what belongs to an earlier one is dropped */
	struct sim_clock clock;
	uint64_t asleep_until_ms; /* the daemon is stopped until then; 0: it is not */

	struct state *tables;
	struct runtime *runtime;
	struct proposer *proposer;
	struct leaderbox *leaderbox;
	uint64_t leader, join;
	bool leads;

	struct sim_disk *disk; /* outlives the daemon */
	struct sim_io *io;
	struct consensus *consensus;             /* of voters */
	uint64_t disk_ms_max, feeder, fed_index; /* feeder, fed_index: of workers */

	struct heap_node wake, raft_tick, tick; /* of the daemon, in sim.events */

	/* The host. */
	struct sim_run runs[SIM_RUNS_MAX];
	uint32_t n_runs;
	struct sim_file files[SIM_RUNS_MAX];
	uint32_t n_files;
	uint64_t fence_ms; /* sandboxd's own deadline, boot time; 0: none */
	uint32_t able;     /* 1 << enum isolation: what it can run */
	bool changed;      /* it could once, or could not */
	uint64_t able_told_ms;
	struct {
		uint64_t sandbox, wall_ms;
		bool left;    /* what is left of it waits for a stop */
	} over[SIM_OVER_MAX]; /* what ran here, and when the last of it was gone */
	uint32_t n_over;
	struct str images[8];
	uint32_t n_images;

	/* The gateway. */
	struct sim_route routes[SIM_POOLS][SIM_IDENTIFIERS];
	struct sim_account *accounts;
	uint32_t n_accounts, accounts_capacity, accounts_made;
};

/* A client's request for an identifier. */
struct sim_visit {
	uint64_t node; /* whose gateway it came to */
	uint64_t pool, gone, begun_ms, deadline_ms;
	uint32_t slot, identifier, tries;
	struct sim_route route; /* that it went by */
	uint32_t account;       /* that counts it as in flight */
};
#define SIM_VISITS_MAX 8192

struct sim_stop {
	uint64_t pool, begun_ms, index; /* index: that its node must have applied */
	uint32_t identifier;
	bool answered;
};
#define SIM_STOPS_MAX    256
#define STOP_CORRELATION 2000000

/* One open request of a gateway. */
struct sim_ask {
	uint64_t node, deadline_ms;
	uint64_t invoked_ms, answered_ms;
	char identifier[IDENTIFIER_MAX + 1];
	uint64_t pool;
	uint32_t answers, life;
	bool refused;
	struct msg_opened opened; /* message: not kept */
	struct sim_visit *visit;  /* the client's request that this is for; NULL: none */
};

/* A pool as it shall be. */
struct sim_put {
	const char *name, *image;
	uint32_t max, ready;
	uint64_t cooldown_ms;
	uint64_t begun_ms, acknowledged_ms; /* acknowledged_ms 0: its outcome is not known */
	uint8_t isolation;
};
#define SIM_UPDATES_MAX   64
#define ORDER_CORRELATION 3000000

struct sim_options {
	uint32_t n_voters, n_workers; /* 0 voters: 3 */
	uint64_t cpu_milli;           /* of each node; 0: 64 cores */
	bool unguarded;
	uint64_t no_vm; /* 1 << id: of nodes that cannot run virtual machines */
	uint32_t snapshot_threshold, snapshot_trailing; /* 0: as in production */
};

struct sim {
	uint64_t seed, random, now_ms, trace;
	struct sim_options options;
	struct sim_faults faults;
	bool storm; /* faults of links, disks and daemons are short */
	uint32_t n_voters, n_nodes;
	struct sim_node nodes[SIM_NODES_MAX];
	struct heap events;
	bool cut[SIM_NODES_MAX + 1][SIM_NODES_MAX + 1]; /* from, to */
	struct judge *judge;
	struct sim_ask asks[SIM_ASKS_MAX];
	uint32_t n_asks;
	struct sim_visit visits[SIM_VISITS_MAX];
	uint32_t n_visits;
	struct sim_stop stops[SIM_STOPS_MAX];
	uint32_t n_user_stops;
	struct sim_put updates[SIM_UPDATES_MAX];
	uint32_t n_updates;
	bool busy;          /* what the gateways answer to QUIESCE, beside what is true */
	uint64_t active_ms; /* and their last activity */
	uint32_t n_ended, n_reopened, n_starts, n_stops, n_fences, n_served, n_stale, n_refused;
	uint64_t counts[FAULTS], n_events;
	int32_t put_code;
	bool put_egress;       /* of the next sim_put */
	uint8_t put_isolation; /* the same */
	uint64_t put_pool;
	uint32_t n_put;
	int32_t resolve_code; /* what RESOLVE answers */
	uint32_t stop_code_set;
	int32_t stop_code;
	uint32_t n_ordered; /* answers to orders about nodes */
};

struct sim *sim_new(uint64_t seed); /* three voters, no faults, until all have joined */
struct sim *sim_new_with(uint64_t seed, const struct sim_options *options);
void sim_free(struct sim *s);
void sim_run(struct sim *s, uint64_t for_ms);
/* Runs until the condition holds, at most for_ms. False: it never did. */
bool sim_until(struct sim *s, bool (*holds)(struct sim *s), uint64_t for_ms);
uint32_t sim_draw(struct sim *s, uint32_t below);
bool sim_chance(struct sim *s, uint32_t per_mille);
/* The same, and counts the fault when it is met. */
bool sim_meets(struct sim *s, uint32_t per_mille, enum sim_fault fault);
struct sim_node *sim_node(struct sim *s, uint64_t id);
uint64_t sim_leader(struct sim *s);      /* the newest that leads; 0: none */
struct state *sim_tables(struct sim *s); /* the leader's, else those of the node that applied most */
uint64_t sim_boot_ms(const struct sim_node *n);
uint64_t sim_wall_ms(const struct sim_node *n);
/* When that node's boot clock will show it. */
uint64_t sim_at_boot(const struct sim_node *n, uint64_t boot_ms);
_Noreturn void sim_fail(const struct sim *s, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Something that happens later. One of a daemon (sim_after_on) is dropped with it, and waits while it is stopped. */
struct sim_event {
	struct heap_node due;
	void (*fire)(struct sim *s, struct sim_event *e);
	void (*drop)(struct sim *s, struct sim_event *e); /* when it does not fire; NULL: nothing to free */
	uint64_t node;
	uint32_t life;
	struct address to;
	uint64_t correlation, number;
	uint16_t type;
	struct buf bytes;
	void *arg;
};
struct sim_event *sim_after(struct sim *s, uint64_t delay_ms,
			    void (*fire)(struct sim *s, struct sim_event *e));
struct sim_event *sim_after_on(struct sim_node *n, uint64_t delay_ms,
			       void (*fire)(struct sim *s, struct sim_event *e));

/* node.c: a daemon's life, and its turn. */
void node_boot(struct sim_node *n);
void node_kill(struct sim_node *n); /* until node_boot */
void node_turn(struct sim_node *n);
void node_fire(struct sim_node *n, struct heap_node *due); /* one of its own three */
void node_send(struct sim_node *n, const struct envelope *e);
void node_deliver(struct sim_node *n, const struct envelope *e);
void node_applied(struct sim_node *n, const struct applied *applied);
void node_restored(struct sim_node *n);
void node_commands(struct sim_node *n, uint64_t from, const void *p, size_t size);
void node_leading(struct sim_node *n, bool leads, uint64_t term);
/* An outcome of an effect, to an actor of that node. */
void node_outcome(struct sim_node *n, uint64_t delay_ms, const struct address *to, uint64_t correlation,
		  uint16_t type, const void *body);

/* wire.c: between nodes. */
/* False: it is lost. A delay in *ret_ms. */
bool wire_passes(struct sim *s, uint64_t from, uint64_t to, uint64_t *ret_ms);
bool wire_is_open(struct sim *s, uint64_t from, uint64_t to); /* as far as its sender can know */
void wire_envelope(struct sim_node *from, uint64_t to, const struct envelope *e);
int wire_commands(void *from_node, uint64_t leader, const void *p, size_t n); /* proposer_options.forward */

/* feed.c: of workers, which hear of entries from a voter */
void feed_start(struct sim_node *n);
void feed_lose(struct sim_node *n); /* its voter; another is asked */
uint64_t feed_leader(const struct sim_node *n);

/* faults.c */
void sim_restart(struct sim *s, struct sim_node *n);    /* berthd: killed, and at once there again */
void sim_able(struct sim_node *n, bool vm);             /* what its host can run from now on */
void sim_elect(struct sim *s, uint64_t node);           /* hands leadership over, and waits for it */
void faults_second(struct sim *s, struct sim_event *e); /* draws what sim.faults says, each second */
void faults_end(struct sim *s);                         /* all heals */

/* drive.c */
void sim_drive(struct sim *s, struct sim_node *n, const struct effect *e);
void sim_probe(struct sim *s, struct sim_node *n, const struct effect *e);
void sim_adopt(struct sim *s, struct sim_node *n);

/* saves.c */
void sim_save(struct sim *s, struct sim_node *n, const struct effect *effect);
void sim_go_on(struct sim *s, struct sim_node *n, const struct effect *effect);
void sim_fetch(struct sim *s, struct sim_node *n, const struct effect *effect);
int32_t sim_load(struct sim *s, struct sim_node *n, const struct sandboxd_start *body); /* 0: it is loaded */
struct sim_file *sim_file_of(struct sim_node *n, uint64_t sandbox);
bool sim_file_remove(struct sim_node *n, uint64_t sandbox);
struct sim_run *sim_run_of(struct sim_node *n, uint64_t sandbox);
bool sim_frozen(const struct sim_node *n);
bool sim_acts(const struct sim_node *n, const struct sim_run *r); /* it runs, and is not frozen */
void sim_crash(struct sim *s, struct sim_node *n, uint64_t sandbox, int32_t code);
void host_reboot(struct sim_node *n); /* nothing runs any more, and nobody knows since when */

/* gateway.c */
void gateway_visit(struct sim *s, uint64_t node, uint32_t slot, uint64_t pool, uint32_t identifier,
		   uint64_t gone);
void gateway_opened(struct sim_node *n, const struct sim_ask *open);
void gateway_stop(struct sim *s, uint64_t node, uint64_t pool, uint32_t identifier);
void gateway_stopped(struct sim *s, uint64_t number, int32_t code);
void gateway_quiesce(struct sim_node *n, const struct envelope *e, const struct msg_session_event *event);
void gateway_reopened(struct sim_node *n, uint64_t generation);
void gateway_ended(struct sim_node *n, uint64_t generation);

/* clients.c */
void sim_receive(struct sim_node *n, const struct envelope *e);
struct sim_ask *sim_open(struct sim *s, uint64_t node, uint64_t pool, const char *identifier, uint64_t gone);
uint64_t sim_put(struct sim *s, const char *name, const char *image, uint32_t max, uint32_t ready,
		 uint64_t cooldown_ms);
void sim_update(struct sim *s, uint64_t node, const struct sim_put *p); /* does not wait */
void sim_send(struct sim *s, uint64_t node, struct address to, uint16_t type, const void *body,
	      uint64_t correlation);

#endif
