/* judges.h -- which of the sandboxes that a node found running has no row: answered behind a barrier, so that a row that was
 * committed before the node listed them is seen. Part of the membership actor. */
#ifndef MEMBERSHIP_JUDGES_H
#define MEMBERSHIP_JUDGES_H

#include "runtime/actor.h"

#define JUDGES_MAX 16

struct judges {
	struct {
		struct asker asker;
		uint64_t request, node; /* request 0: free */
		uint64_t *ids;
		uint32_t n_ids;
	} cases[JUDGES_MAX];
};

void judges_take(struct judges *j, struct context *c, const struct message *m);
/* True if the correlation was of one of its barriers. code 0: the barrier is applied. */
bool judges_proposed(struct judges *j, struct context *c, uint64_t request, int32_t code);
void judges_clear(struct judges *j, struct context *c);

#endif
