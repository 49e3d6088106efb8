/* raft_io.h -- libraft's disk and network in memory, on the simulator's clock.
 *
 * A disk keeps term, vote, the log and one snapshot. Writes wait in one queue and are made one after the other; a crash finds the
 * first of it unmade, torn (some of its entries are there) or made, and the others unmade. A snapshot of the machine's own is
 * written beside the log; one that was received replaces it. Messages are copied when they are sent, and may be lost,
 * delayed and overtaken; what was sent to a daemon that is gone meanwhile is lost with its connection.
 * Owns: copies of messages. Borrows: the library's requests and entries, until it has answered them. */
#ifndef SIM_RAFT_RAFT_IO_H
#define SIM_RAFT_RAFT_IO_H

#include <raft.h>

#include "sim/sim.h"

/* Fills *io for the library, of the node's present life. */
void sim_io_open(struct sim_node *n, struct raft_io *io);
/* The daemon ended: what was under way is made, torn or lost. Before the library is closed. */
void sim_io_crash(struct sim_node *n);
void sim_io_free(struct sim_node *n); /* behind raft_close */
void sim_io_tick(struct sim_node *n);
void sim_io_turn(struct sim_node *n); /* at the end of the node's turn */

#endif
