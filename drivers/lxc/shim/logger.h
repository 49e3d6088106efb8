/* logger.h -- the long life of berth-shim: stdout and stderr into the log (sandbox/log_writer.h), out-of-memory events
 * counted, until the container's monitor ends; then the exit is written down. Runs without privileges; every file that it
 * cannot open is handed in open. */
#ifndef LXC_LOGGER_H
#define LXC_LOGGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "sandbox/log_writer.h"

struct logger {
	struct log_writer log;
	int out, err; /* read ends */
	int oom;      /* eventfd of memory.oom_control (version 1), inotify of memory.events (2); -1: none */
	int oom_file; /* memory.oom_control or memory.events, for reading */
	bool oom_v2;
	int result; /* struct init_result comes from here */
	int exit;   /* DIR/exit, for writing */
	int monitor_pidfd;
	pid_t monitor;
};

/* Returns when the container is over and its exit is written. */
void logger_run(struct logger *l);

#endif
