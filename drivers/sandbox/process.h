/* process.h -- small facts about processes from /proc, for telling one from a later one with the same number. */
#ifndef SANDBOX_PROCESS_H
#define SANDBOX_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

/* Clock ticks after boot when it started; 0 if there is no such process. */
uint64_t process_start(pid_t pid);
/* A pidfd of the process that has this number and start; -ESRCH if it is gone. */
int process_open(pid_t pid, uint64_t start);

#endif
