/* control.h -- the control loop of a node: the composition root of berthd.
 *
 * It owns the tables, consensus, the actors' runtime, the connections to other nodes and to sandboxd, and the management
 * API; the gateway loops run on threads of their own. It decides nothing: events become envelopes or commands, effects of
 * actors are carried out, results are posted back. One turn (control_turn) empties the inbox, runs the actors, sends commands.
 * Thread: one, all of it, except the functions that say otherwise. */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "arm/arm.h"
#include "config/config.h"
#include "consensus/consensus.h"
#include "control/links/leaderbox.h"
#include "control/links/peers.h"
#include "control/proposer.h"
#include "control/links/sandboxd_client.h"
#include "control/links/roster.h"
#include "control/links/silence.h"
#include "core/buf.h"
#include "core/map.h"
#include "crypto/keyring.h"
#include "gateway/gateway.h"
#include "gateway/token/token.h"
#include "keys/keys.h"
#include "loop/loop.h"
#include "loop/mailbox.h"
#include "runtime/runtime.h"
#include "state/state.h"
#include "tls/tls.h"

struct backing;
struct certificates;
struct copies;
struct dialer;
struct feeder;
struct intake;
struct api;
struct gather;
struct note;
struct unsealing;
struct relay;
struct events;
struct reader;
struct records;

/* An encoded envelope on its way into the runtime. */
struct inbox_item {
	struct inbox_item *next;
	struct buf bytes;
};

struct control {
	struct config config;
	struct loop loop;
	struct state *state;
	struct consensus *consensus; /* NULL on a worker; replica.h says what both know */
	struct feeder *feeder;       /* of workers, on a voter */
	struct intake *intake;       /* from a voter, on a worker */
	struct runtime *runtime;
	struct proposer *proposer;
	struct leaderbox *leaderbox;
	struct silence silence;
	struct roster roster;
	struct peers *peers;
	struct sandboxd_client *sandboxd;
	struct gateway *gateway;
	struct dialer *dialer;
	struct mailbox *mailbox; /* of gateway loops */
	struct keyring *ring;    /* of the file; NULL: a worker */
	struct certificates *certificates;
	struct keys *keys;         /* of the cluster, from the tables */
	struct token_keys *tokens; /* made of them; NULL: none are known yet */
	struct tls_ctx *tls_server, *peer_server, *peer_client;
	struct api *api;
	struct records *records;
	struct reader *reader;
	struct events *events;

	struct inbox_item *inbox, **inbox_last;
	struct note *questions; /* inlet.c: forwarded sessions that this node must first hear of */
	unsigned n_questions;
	struct loop_deferred turn;
	struct loop_timer timer, tick;
	uv_signal_t terminate, hangup;

	struct mailbox *pages; /* export.c: of billing records, from the reader's thread */
	unsigned n_exports;
	struct backing *backing; /* backup.c: the one under way */
	uint64_t records_exported;

	struct gather *gathers; /* activity.c */
	unsigned n_gathers;
	struct copies *copies; /* moving/copies.c; NULL: none yet */
	struct relay *relays;  /* api/relay.c: of workers' clients */
	uint64_t relays_made;
	struct unsealing *unsealings; /* keys/unsealing.c: calls that wait for secrets */
	unsigned n_unsealings;
	uint64_t unsealings_made;
	uint64_t gather_key;

	struct arm_network network; /* as sandboxd last told */
	struct {
		uint32_t isolations; /* 0: nothing yet */
		char no_vm[NO_VM_MAX + 1];
		uint64_t told_ms; /* not proposed again before */
	} able;                   /* what this node can run, by sandboxd's word: links/able.h */
	uint64_t incarnation;     /* of the cluster, as far as is known */
	uint64_t leader;          /* as the actors know it; 0: none */
	bool disk_nearly_full;
	bool leads, started, stopping, allowed, view_dirty, keys_dirty, joining;
	uint64_t join_correlation;
	uint64_t yield_ms;                         /* no hand-over before */
	uint64_t resend_ms;                        /* to a leader that did not lead yet; 0: nothing */
	uint64_t records_handed, trim_ms, disk_ms; /* bookkeeping.c */
	uint64_t rotated_ms;                       /* rotation.c: not again before */
	uint64_t keys_told_ms;                     /* keyholder.c: not again before */
	uint64_t ca_key;   /* of the tables, that signed the certificate between nodes; 0: not known */
	bool voter_speaks; /* whose commands are looked at right now: a voter's */
	uint64_t started_boot_ms, complained_ms;
	uint8_t tag_key[32]; /* of identifier tags in logs and lists */
	int exit_status;
};

/* Runs the node until SIGTERM. Returns the exit status of the program. */
int control_run(const char *config_path);

/* Of the cluster; it does not change while this process lives. */
uint64_t control_incarnation(const struct control *c);
/* The tables are at least as new as this process's own joining: until then they may lack what was acknowledged long ago. */
bool control_caught_up(const struct control *c);
/* Soon, but not inside this call: a turn. */
void control_kick(struct control *c);
/* Puts an envelope into the runtime's inbox of the next turn. */
void control_deliver(struct control *c, const struct envelope *e);
/* Answers a request whose addressee cannot be reached. */
void control_refuse(struct control *c, const struct envelope *request, int code, const char *why);
/* Sends to a gateway loop, the API, or a node; NODE_LEADER too. */
void control_send(struct control *c, const struct envelope *e);
/* A message of this node's control loop; `body`, of that type, is encoded into `bytes`, which it borrows.
 * NULL: without a body. */
struct envelope control_message(const struct control *c, struct buf *bytes, struct address to, uint16_t type,
				const void *body);

/* log.c: of a voter */
int control_open_log(struct control *c, struct err *err);
/* Why nothing new may begin: what people are told. Valid until the next call. */
const char *control_log_full(struct control *c);
/* The tables cannot go on: the program ends, and its supervisor starts it anew. */
void control_failed(struct control *c, const char *why);
/* What a node should not have sent; logged once a second at most. */
void control_complain(struct control *c, uint64_t node, const char *what);
/* Proposes this node's (re)start; result: its epoch. */
void control_join(struct control *c);

/* keyholder.c: the cluster's keys, from the tables to whoever uses them. */
int keyholder_open(struct control *c, struct err *err);
/* After a change of TABLE_KEYS; once a turn. */
void keyholder_turn(struct control *c);
void keyholder_close(struct control *c);

/* Callbacks of timers and peers, set by start.c. */
void control_turn(struct loop_deferred *deferred);
void control_timer(struct loop_timer *timer);
void control_tick(struct loop_timer *timer);
void control_frame(void *control, const struct peer_from *from, uint8_t type, const void *p, size_t n);
void control_peer(void *control, uint64_t node, bool reachable);

/* effects.c: carries out one effect of an actor. */
void effects_carry_out(void *control, const struct effect *effect);
/* A call of sandboxd with what it needs of secrets; with their code below 0 it fails. */
void effects_drive(struct control *c, const struct effect *e, const struct msg_unsealed *secrets);
void effects_proposed(void *control, const struct address *to, uint64_t correlation, int code,
		      const struct result *result);
/* bookkeeping.c: billing records on disk. */
int bookkeeping_open(struct control *c, struct err *err);
void bookkeeping_close(struct control *c);
void bookkeeping_tick(struct control *c, uint64_t now);
/* views.c: pools and nodes as the gateway needs them. */
void views_publish(struct control *c);

#endif
