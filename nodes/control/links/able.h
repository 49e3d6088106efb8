/* able.h -- what this node can run: from sandboxd's word to the tables.
 *
 * sandboxd says it when it is connected, and when a canary guest has answered or not; the tables' row of this node is then
 * made to say the same, again and again until it does. While sandboxd is away or is finding out anew, what the row says stands: a start
 * that comes too early is tried again, and nothing is taken from a node because its daemon restarts. Thread: the control loop. */
#ifndef CONTROL_ABLE_H
#define CONTROL_ABLE_H

#include "wire/sandboxd.h"

struct control;

/* sandboxd_client_options.able */
void able_told(void *control, const struct sandboxd_able *able);
/* It has decided. */
bool able_known(const struct control *c);
/* Once a turn. */
void able_turn(struct control *c, uint64_t now_ms);

#endif
