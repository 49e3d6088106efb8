/* copies.h -- the memory of a sandbox that moves, from the node that saved it to the one that takes it, piece by piece as messages
 * of the nodes' links.
 *
 * Happy path: copies_fetch asks the source for the first piece, which tells the length; sandboxd gives a file of that length; pieces are asked
 * for ahead, COPY_AHEAD of them, each checked by its SHA-256; the last one makes the file whole, and the actor is told (MSG_DRIVEN).
 * Failure modes: a piece that is refused, damaged, out of turn or COPY_QUIET_MS late ends the copy, and the actor begins anew.
 * The source gives pieces only to the node that its tables name as the target, of the save that they name.
 * Thread: the control loop. */
#ifndef CONTROL_COPIES_H
#define CONTROL_COPIES_H

#include "control/control.h"
#include "runtime/runtime.h"

#define COPY_AHEAD    4u
#define COPY_QUIET_MS 10000u
#define COPIES_MAX    8u

void copies_fetch(struct control *c, const struct effect *e);
/* MSG_COPY of another node. */
void copies_question(struct control *c, const struct envelope *e);
/* MSG_COPIED, or MSG_REFUSED; false: it is not about a copy. */
bool copies_answered(struct control *c, const struct envelope *e);
/* Once a second. */
void copies_tick(struct control *c);
void copies_close(struct control *c);

#endif
