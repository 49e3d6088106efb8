/* private.h -- the inside of a sandbox's actor, for sandbox.c (its rise, its service, its table) and stopping.c (its end) alone. */
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
};

/* NULL: the row is gone. */
const struct sandbox_row *sandbox_row_of(const struct actor *a, const struct context *c);
/* Is the message the outcome that counts? */
bool sandbox_awaited(const struct sandbox *self, const struct message *m);

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
