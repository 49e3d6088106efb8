/* able.h -- what this node can run: from sandboxd's word to the tables.
 *
 * sandboxd says it when it is connected, and when a canary guest has answered or not; the tables' row of this node is then
 * made to say the same, again and again until it does. While sandboxd is away, what it last said stands. Thread: the control
 * loop. */
#ifndef CONTROL_ABLE_H
#define CONTROL_ABLE_H

#include "wire/sandboxd.h"

struct control;

/* sandboxd_client_options.able */
void able_told(void *control, const struct sandboxd_able *able);
/* Once a turn. */
void able_turn(struct control *c, uint64_t now_ms);

#endif
