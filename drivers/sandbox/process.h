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

#endif
