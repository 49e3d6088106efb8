/* cause.h -- why an image could not be had, as ARM errors name it. */
#ifndef POOL_CAUSE_H
#define POOL_CAUSE_H

#include "wire/template.h"

struct cause {
	bool passes;      /* may be over after a while: tried again */
	const char *code; /* of the ARM error */
	char message[768];
};

/* code: the negative errno of sandboxd. -ENOENT: no such image; -EACCES, -EPERM: credentials refused; time-outs and
 * refused connections: the registry; others: the image itself. */
void cause_of(struct cause *ret, const struct template *t, int32_t code, struct str message);

#endif
