/* inlet.h -- where messages of the gateway's threads enter the control loop: envelopes, questions about forwarded
 * sessions, requests of the management API. One bounded mailbox. */
#ifndef CONTROL_INLET_H
#define CONTROL_INLET_H

#include "control/control.h"

int inlet_open(struct control *c, struct err *err);
/* The callbacks of the gateway that lead here. */
void inlet_fill(struct control *c, struct gateway_config *g);
/* Something was applied: answers the questions that waited for it, and those whose time is over. */
void inlet_applied(struct control *c);
/* consensus_proposed of entries: their results come by apply. */
void inlet_proposed(void *control, int status, uint64_t index);

#endif
