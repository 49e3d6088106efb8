/* proposer.h -- carries this node's commands to the leader and their results back, whoever leads meanwhile.
 *
 * Happy path: a command gets this epoch's next sequence and waits. Once a turn all that wait go out together: as one entry
 * when this node leads (with the commands that other nodes forwarded), else as one frame to the leader. Every voter applies
 * every entry, so the result is read off the local apply: when the caller hears of it, the local tables have it.
 * Failure modes: no leader, a lost frame, a lost leadership: what is not answered is sent again, with the same
 * sequence, when the leader changes or after RESEND_MS; apply executes it once. At its deadline a command is
 * answered -EINPROGRESS: it may still be executed.
 * Owns: copies of the commands. Thread: the control loop. */
#ifndef CONTROL_PROPOSER_H
#define CONTROL_PROPOSER_H

#include "core/err.h"
#include "state/state.h"
#include "wire/envelope.h"

struct proposer;

/* The result is valid during the call; NULL with code -EINPROGRESS (deadline, new epoch) or -ENOBUFS (too many wait).
 * -EPERM: this node may not propose that. -ENOSPC, with a message: nothing new may begin. */
typedef void proposer_done(void *context, const struct address *to, uint64_t correlation, int code,
			   const struct result *result);

struct proposer_options {
	uint64_t node;
	const struct state *state;
	proposer_done *done;
	/* Appends an entry to the log; this node leads. 0 or -errno: then it is tried again. */
	int (*propose)(void *context, const void *entry, size_t n);
	/* Sends encoded struct forward to the leader. 0 or -errno: then it is tried again. */
	int (*forward)(void *context, uint64_t leader, const void *p, size_t n);
	/* Why nothing new may begin just now: the disk is nearly full; NULL: it may. Commands that begin something are refused then
	 * with -ENOSPC, on the leader. Optional, as the next one. */
	const char *(*full)(void *context);
	/* Sends encoded struct refusal to a node whose commands were refused so. */
	void (*refuse)(void *context, uint64_t node, const void *p, size_t n);
	/* Why a node, this one too, may not propose a command; NULL: it may. Optional. */
	const char *(*refuses)(void *context, uint64_t from, const struct command *command);
	void *context;
};

/* What goes to the leader: commands of one node. */
struct forward {
	struct command *commands;
	uint32_t n_commands;
};
extern const struct codec_type forward_codec;

/* What the leader did not take; without bodies. */
struct refusal {
	struct command *commands;
	uint32_t n_commands;
	struct str message;
};
extern const struct codec_type refusal_codec;

struct proposer *proposer_new(const struct proposer_options *options);
void proposer_free(struct proposer *p);

/* `body` is the struct of command_body_codec[type] (NULL for a command without one). deadline_ms: CLOCK_BOOTTIME. */
void proposer_submit(struct proposer *p, uint8_t type, const void *body, const struct address *to,
		     uint64_t correlation, uint64_t deadline_ms);
/* Another node's commands. They are kept while this node is elected, for others know that before it may propose; else
 * they are dropped and come again. -EBADMSG, -EPERM, -EPROTO: none of them is taken. */
int proposer_forwarded(struct proposer *p, uint64_t from, const void *bytes, size_t n, struct err *err);
/* The leader refused commands of this node. -EBADMSG. */
int proposer_refused(struct proposer *p, const void *bytes, size_t n, struct err *err);
/* The epoch that NODE_JOIN gave this node. Until then only commands without an epoch go out. What was sent in an earlier epoch is
 * answered -EINPROGRESS. */
void proposer_joined(struct proposer *p, uint64_t epoch);
/* leader 0: unknown; this node without `self`: elected, but not yet sure of all that was committed. */
void proposer_leader(struct proposer *p, uint64_t leader, bool self);
/* After each state_apply. */
void proposer_applied(struct proposer *p, const struct applied *applied);
/* Sends what is due, answers what is over. Call once a turn and at proposer_next_ms. */
void proposer_turn(struct proposer *p, uint64_t boot_ms, uint64_t wall_ms);
uint64_t proposer_next_ms(const struct proposer *p);
uint64_t proposer_epoch(const struct proposer *p);
/* Cluster time by this node's clocks: exact on the leader, an estimate elsewhere. */
uint64_t proposer_time_ms(const struct proposer *p, uint64_t boot_ms);

#endif
