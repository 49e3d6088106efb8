/* logger.h -- the long life of berth-shim: lines of stdout and stderr into a bounded log, out-of-memory events
 * counted, until the container's monitor ends; then the exit is written down.
 *
 * A line: "2026-01-02T03:04:05.678Z stdout F text" (as Kubernetes writes them; P instead of F: the line goes on in
 * the next one). Rotation: `log` becomes `log.1` at half of the bound. Runs without privileges; every file that it
 * cannot open is handed in open. */
#ifndef LXC_LOGGER_H
#define LXC_LOGGER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct logger {
	const char *dir; /* holds `log`; the logger's user owns it */
	uint64_t bytes_max;
	int out, err;   /* read ends */
	int log;        /* DIR/log, appending */
	uint64_t bytes; /* in DIR/log */
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
