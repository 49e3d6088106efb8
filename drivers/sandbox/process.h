/* process.h -- small facts about processes from /proc, for telling one from a later one with the same number. */
#ifndef SANDBOX_PROCESS_H
#define SANDBOX_PROCESS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Clock ticks after boot when it started; 0 if there is no such process. */
uint64_t process_start(pid_t pid);
/* A pidfd of the process that has this number and start; -ESRCH if it is gone. */
int process_open(pid_t pid, uint64_t start);
/* Whether it has ended, after so long at the most; true also for -1. */
bool process_wait(int pidfd, uint32_t timeout_ms);

#define PROCESS_FDS_MAX 2
/* Runs the program with default signals. Its descriptors: /dev/null as 0 and 1, and as 2 if `report` is -1, else that; fds[k] as
 * 3 + k, and no other. All stay the caller's. 0 or -errno. */
int process_spawn(const char *path, char *const argv[], char *const env[], int report, const int *fds,
		  unsigned n_fds, pid_t *ret_pid);

#endif
