/* server.h -- one server of the log on a node: consensus without its loop, files and sockets.
 *
 * The library, the guard, proposals, reads and the state machine's callbacks are the product's (consensus/parts.h); the disk and the
 * network are raft_io.h's, and the node's turn stands for the loop's. */
#ifndef SIM_RAFT_SERVER_H
#define SIM_RAFT_SERVER_H

#include "sim/sim.h"

#define SERVER_ELECTION_MS  300
#define SERVER_HEARTBEAT_MS 50

void server_start(struct sim_node *n); /* from its disk; the first time with the members */
void server_stop(struct sim_node *n);  /* as a crash does; idempotent */
void server_turn(struct sim_node *n);  /* at the end of the node's turn */

const char *server_address(uint64_t node);

#endif
