/* able.h -- which nodes can run a pool's sandboxes, and why none can.
 *
 * What a node can run is its isolations and its labels; whether it is up or has room is not asked here. Nothing is ever run
 * with another isolation than its pool's: a pool that no node can run gets no sandbox, and its askers are told this text.
 * Pure: reads the tables. */
#ifndef STATE_ABLE_H
#define STATE_ABLE_H

#include "state/state.h"

#define ABLE_TEXT_MAX 600

enum able {
	ABLE_SOME,  /* a node that is up can */
	ABLE_LATER, /* none; one that is lost could, or one that is up has not said yet */
	ABLE_NONE   /* none, and all have said why */
};

bool able_node(const struct node_row *node, const struct pool_row *pool, const struct template *t);
/* Of the nodes with the pool's labels. `text` is set unless SOME: a sentence without a full stop, with each node's reason. */
enum able able_nodes(const struct state *s, const struct pool_row *pool, const struct template *t,
		     char text[ABLE_TEXT_MAX]);

#endif
