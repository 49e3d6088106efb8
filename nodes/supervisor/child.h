/* child.h -- one supervised daemon: started, watched, restarted with a growing pause. Thread: main. */
#ifndef SUPERVISOR_CHILD_H
#define SUPERVISOR_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

#define CHILD_ARGS_MAX 48

struct child {
	const char *name;
	const char *program;
	char *args[CHILD_ARGS_MAX]; /* owned, NULL-terminated, args[0] is the name */
	uid_t uid;                  /* 0: stays root */
	gid_t gid;
	const char *user; /* for its supplementary groups */
	pid_t pid;        /* 0 while not running */
	uint64_t started_ms, retry_ms, pause_ms;
};

/* Appends one printf-made argument. */
void child_arg(struct child *c, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Forks and execs. On failure the child is due again after its pause. */
int child_start(struct child *c, uint64_t now_ms, struct err *err);
/* It ended: decides when it is started again (0.1 s, doubling up to 5 s; from 0.1 s anew after ten good seconds). */
void child_ended(struct child *c, int status, uint64_t now_ms);
void child_done(struct child *c);

#endif
