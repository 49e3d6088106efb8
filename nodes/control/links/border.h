/* border.h -- what may come from another node: one table of messages, one of commands, each with who may send it. What is in
 * neither stays within a node. A worker reports what happens to its own sandboxes, asks, and passes on what its clients ask of others;
 * it changes nothing else, whatever runs on it. Pure. */
#ifndef CONTROL_BORDER_H
#define CONTROL_BORDER_H

#include "control/links/peers.h"
#include "state/command.h"
#include "wire/envelope.h"

/* Who: as the certificate says. */
bool border_lets_frame(bool voter, uint8_t type); /* enum peer_frame */
bool border_lets_message(bool voter, uint16_t type);
/* NULL: it may. Else why not, for people. Looks into commands that name a node: it must be the sender. */
const char *border_refuses_command(bool voter, uint64_t from, const struct command *command);

/* For a test: every type has been thought of. */
bool border_knows_message(uint16_t type);
bool border_knows_command(uint8_t type);

#endif
