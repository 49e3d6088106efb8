/* cause.h -- why an image could not be had, as ARM errors name it. */
#ifndef POOL_CAUSE_H
#define POOL_CAUSE_H

#include "wire/template.h"

struct cause {
	bool passes;      /* may be over after a while: tried again */
	const char *code; /* of the ARM error */
	char message[768];
};

/* code: the negative errno of sandboxd. -ENOENT: no such image; -EACCES: credentials refused; time-outs and
 * refused connections: the registry; others: the image itself. -EPERM: this cluster's settings forbid it. */
void cause_of(struct cause *ret, const struct template *t, int32_t code, struct str message);

/* No node can run sandboxes of the pool's isolation; `why`: as able.h tells it. */
void cause_unable(struct cause *ret, bool passes, const char *why);

/* Says more about the node than about the image: it was not asked, or has no room. */
bool cause_is_of_node(int32_t code);

#endif
