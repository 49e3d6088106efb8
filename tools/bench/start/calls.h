/* calls.h -- a blocking client of sandboxd for one caller: a request, its reply, no events.
 * Owns: the connection, and the memory that replies point into, until calls_close. */
#ifndef BENCH_START_CALLS_H
#define BENCH_START_CALLS_H

#include "core/arena.h"
#include "core/err.h"
#include "wire/sandboxd.h"

struct calls {
	int fd;
	uint64_t correlation;
	struct arena arena;
};

/* Tries for 10 s, then says hello. */
int calls_open(struct calls *c, const char *socket, const char *cluster, struct err *err);
void calls_close(struct calls *c);
/* The reply's code, with its message in `err`. `fd` < 0: none goes along. ret_fd may be NULL; on success it is the
 * caller's, -1 when none came. Waits for 60 s. */
int calls_call(struct calls *c, enum sandboxd_type type, const void *body, int fd, struct sandboxd_reply *ret,
	       int *ret_fd, struct err *err);

#endif
