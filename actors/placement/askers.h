/* askers.h -- open requests that wait, grouped by (pool, identifier): one proposal a group, in the order of their coming.
 * Owns: the groups. Part of the placement actor; cleared when the node ceases to lead. */
#ifndef PLACEMENT_ASKERS_H
#define PLACEMENT_ASKERS_H

#include "runtime/actor.h"

struct group;

struct askers {
	struct map groups, requests; /* by (pool, identifier); by the correlation of the proposal */
	struct heap due;
	struct group *first, *last;
	uint32_t n;
	bool again; /* sessions or pools changed: look at every group again */
};

/* Answers at once, or keeps the asker. */
void askers_open(struct askers *as, struct context *c, const struct message *m);
/* The session's row changed; NULL row: it went. */
void askers_session_changed(struct askers *as, struct context *c, const struct session_row *row);
/* True if the correlation was of one of its proposals. body NULL: no outcome is known. */
bool askers_proposed(struct askers *as, struct context *c, uint64_t request, const struct msg_proposed *body);
/* Whose time is over, who can be tried again. Returns when to call next, UINT64_MAX: when something changes. */
uint64_t askers_tick(struct askers *as, struct context *c);
/* Refuses all (-EAGAIN). */
void askers_clear(struct askers *as, struct context *c);
void askers_done(struct askers *as);

#endif
