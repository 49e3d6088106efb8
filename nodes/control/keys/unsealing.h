/* unsealing.h -- calls of sandboxd that need secrets: a voter opens them itself, a worker asks the voter that feeds it.
 *
 * Happy path: the voter sees in its tables that the sandbox boots on the node that asks (or that the node pulls a pool's image),
 * and answers with the values, which the worker fills into the call and overwrites.
 * Failure modes: no answer within UNSEALING_MS, or a voter whose tables do not go so far: -ETIMEDOUT or -EAGAIN, and the actor tries
 * again; what is another node's is refused and logged.
 * Owns: copies of the calls that wait. Thread: the control loop. */
#ifndef CONTROL_KEYS_UNSEALING_H
#define CONTROL_KEYS_UNSEALING_H

#include "control/control.h"

#define UNSEALING_MAX 256
#define UNSEALING_MS  3000

/* Carries out an EFFECT_DRIVE: at once, or when the secrets are here. */
void unsealing_drive(struct control *c, const struct effect *e);
/* MSG_UNSEAL, MSG_UNSEALED or its refusal. */
void unsealing_question(struct control *c, const struct envelope *question);
void unsealing_answered(struct control *c, const struct envelope *answer);
/* An answer was handled: overwrites it, and the frame that it came in. */
void unsealing_wipe(const struct envelope *answer, const void *frame, size_t n);
/* Ends calls that waited too long. */
void unsealing_tick(struct control *c, uint64_t boot_ms);

#endif
