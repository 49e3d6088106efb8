/* launch.h -- the image's program: begun in its own root, group and session; its outputs are pipes here. */
#ifndef GUEST_INIT_LAUNCH_H
#define GUEST_INIT_LAUNCH_H

#include <sys/types.h>

#include "libvirt_guest/protocol.h"

struct launch {
	pid_t pid;
	int report;      /* ends without a byte when the program was executed, else a line for people comes */
	int output[2];   /* stdout, stderr; -1: at its end */
	int oom;         /* memory.events of its group */
	uint64_t killed; /* for want of memory, as far as launch_oom has seen */
};

/* Strings end with a NUL behind them, as decoded ones do. */
int launch_begin(struct launch *l, const struct guest_start *s, struct err *err);

/* How many processes were killed for want of memory since the last call. */
uint64_t launch_oom(struct launch *l);

#endif
