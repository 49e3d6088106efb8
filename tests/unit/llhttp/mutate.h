/* mutate.h -- changes of a message that are likely to part two parsers, drawn from a seed. Pure. */
#ifndef LLHTTP_MUTATE_H
#define LLHTTP_MUTATE_H

#include <stdint.h>

#include "core/str.h"

struct mutate_source {
	uint64_t state;             /* the seed at first */
	const struct str *messages; /* to take lines from */
	unsigned n_messages;
};

/* Writes a changed `from` to p[0..size); its length. */
size_t mutate(struct mutate_source *m, struct str from, char *p, size_t size);

#endif
