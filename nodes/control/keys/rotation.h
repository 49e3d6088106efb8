/* rotation.h -- keys that are rotated, step by step, by whoever leads.
 *
 * Happy path: an operator's request put a new key into the tables, as `next`. Every node says when it has it; then the leader
 * has it used, seals anew what the former key sealed, and has that one removed once nothing of it is left and its time is over.
 * Each step is derived from the tables alone: a leader that takes over goes on where the one before it was.
 * Failure modes: a node that is up and cannot open a key, or gets no new certificate, holds its rotation up; the keys' list shows
 * which step waits. Nothing is refused meanwhile. Thread: the control loop. */
#ifndef CONTROL_ROTATION_H
#define CONTROL_ROTATION_H

#include <stdint.h>

struct control;
struct api_call;

/* Four times a second. */
void rotation_tick(struct control *c, uint64_t boot_ms);
/* An operator's request, over the admin socket of a voter. */
void rotation_run(struct api_call *call);

#endif
