/* private.h -- the inside of a sandbox's actor, for this folder's handlers alone: sandbox.c (its rise, its service, its table), resting.c
 * (asleep and awake), stopping.c (its end). */
#ifndef SANDBOX_PRIVATE_H
#define SANDBOX_PRIVATE_H

#include "ending.h"
#include "outbound.h"
#include "parking.h"
#include "sandbox.h"

#define SANDBOX_RETRY_MS   1000
#define SANDBOX_PROPOSE_MS 5000

struct sandbox {
	struct actor actor;
	uint64_t request;  /* the one whose outcome counts */
	uint64_t begun_ms; /* of the first start or the adoption */
	uint64_t probe_gap_ms;
	uint32_t failures;     /* of the liveness probe, in a row */
	uint16_t exposed_port; /* that the image names; 0: none, or not known */
	struct asker halter;
	struct ending ending;
	struct outbound outbound;
	struct parking parking;
	uint8_t telling; /* enum command_type: what is proposed of its rest; NONE: sandboxd is asked */
	bool left;       /* it is stopped because it moved away */
	bool going;      /* it is loaded: GO_ON was asked for */
};

/* NULL: the row is gone, or another node's. */
const struct sandbox_row *sandbox_row_of(const struct actor *a, const struct context *c);
/* Is the message the outcome that counts? */
bool sandbox_awaited(const struct sandbox *self, const struct message *m);

/* sandbox.c: it runs, and the row says so. */
uint8_t sandbox_serve(struct sandbox *self, struct context *c);

/* starting.c */
/* What every start of it says, whether from its image or from a file; its program is not in it. Borrows from all three. */
struct sandboxd_start sandbox_start_of(const struct sandbox_row *row, const struct pool_row *pool,
				       const struct template *t);

/* resting.c: `running` and `save` as sandboxd's list says. */
uint8_t sandbox_rest_begin(struct sandbox *self, struct context *c, bool running, uint64_t save);
uint8_t sandbox_save(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_saved(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_woken(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_rest_changed(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_rest_told(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_rest_again(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_rest_adopted(struct actor *a, struct context *c, const struct message *m);

/* stopping.c: transitions and handlers of the end; each returns the next state. */
uint8_t sandbox_stop(struct sandbox *self, struct context *c, uint32_t grace_ms);
uint8_t sandbox_propose_gone(struct sandbox *self, struct context *c);
uint8_t sandbox_stopped(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_stop_lost(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_stop_again(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_stopping_exited(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_stopping_halt(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_ending_halt(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_ended(struct actor *a, struct context *c, const struct message *m);
uint8_t sandbox_end_again(struct actor *a, struct context *c, const struct message *m);

#endif
