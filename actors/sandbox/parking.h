/* parking.h -- a ready machine that serves nobody stands still and costs no CPU. For the files of this folder.
 * Happy path: parking_check() after everything that may have changed the row or what runs. Ready: parked. The first dial of its
 * session wakes it by itself; a PARK that was under way then may come behind that dial, so a bound row takes it back.
 * Failure: nothing is asked again; after each reconnect sandboxd's list says what stands still. A container is never parked. */
#ifndef SANDBOX_PARKING_H
#define SANDBOX_PARKING_H

#include "runtime/actor.h"

struct parking {
	bool on; /* it stands still, as far as is known: no probe may wake it */
};

void parking_check(struct parking *p, struct context *c, const struct sandbox_row *row);

#endif
