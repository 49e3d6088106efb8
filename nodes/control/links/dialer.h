/* dialer.h -- connections into local sandboxes for the gateway loops: each loop has a channel of its own to sandboxd, so
 * that a dial never waits for the control loop. Thread: each loop's own. */
#ifndef CONTROL_DIALER_H
#define CONTROL_DIALER_H

#include "gateway/gateway.h"

struct dialer;

struct dialer *dialer_new(struct str socket, struct str cluster, uint64_t node);
/* Sets dial, loop_start and loop_stop of the gateway, whose `arg` is struct control. */
void dialer_fill(struct gateway_config *g);

#endif
