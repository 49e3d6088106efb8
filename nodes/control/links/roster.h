/* roster.h -- whom the links of this node lead to: the nodes of the tables, and until they say more the configuration's.
 *
 * Happy path: a row that comes or gets another address is dialled from now on; a row that goes is told so, and dialled no more.
 * A node that was away when it was removed is told when it comes back.
 * Failure modes: nobody counts as removed before these tables are as new as this node's own joining, nor one whose number these tables have not
 * come to yet. A node that is told by a voter
 * that it was removed notes that on disk, ends, and does not start again.
 * Thread: the control loop. */
#ifndef CONTROL_ROSTER_H
#define CONTROL_ROSTER_H

#include "control/links/peers.h"

#define ROSTER_FAREWELLS_MAX 16
#define EXIT_REMOVED         4 /* of berthd; its supervisor ends too */

struct control;

struct roster {
	uint64_t dialled[PEERS_MAX];
	unsigned n_dialled;
	struct {
		uint64_t node, until_ms; /* node 0: free */
		char address[64];        /* to be dialled; empty: it is */
	} farewells[ROSTER_FAREWELLS_MAX];
	bool dirty; /* a node's row changed */
};

int roster_open(struct control *c, struct err *err);
/* Once a turn, and four times a second. */
void roster_turn(struct control *c);
void roster_tick(struct control *c, uint64_t boot_ms);
/* As consensus_network.admits. */
bool roster_knows(void *control, uint64_t node);
/* As peers_options.admits. */
bool roster_admits(void *control, uint64_t node, struct str address);
/* As peers_options.foreign: the older incarnation gives way, and ends. */
void roster_foreign(void *control, const struct peer_from *from, struct str address, uint64_t incarnation);
/* A frame PEER_REMOVED, of a voter. */
void roster_told(struct control *c, uint64_t from);
/* At the start: err says what to do. */
bool roster_was_removed(const struct control *c, struct err *err);

#endif
