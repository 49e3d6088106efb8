/* founding.h -- what restoring and recovering share: the numbers of a new incarnation, and a node's log that begins with tables. */
#ifndef CLUSTER_FOUNDING_H
#define CLUSTER_FOUNDING_H

#include "core/err.h"
#include "state/state.h"

/* Incarnation and counter for the cluster of these tables. */
void founding_numbers(const struct state *state, struct reincarnation *to);
/* Makes the log of the node whose folder this is (with its berth.conf), beginning with the tables; an old log is set aside
 * as raft.before-<incarnation>. All is owned as berthd needs it. */
int founding_log(const char *node_dir, const struct state *state, uint64_t term, uint64_t index,
		 struct err *err);

#endif
