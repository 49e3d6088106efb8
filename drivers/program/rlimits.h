/* rlimits.h -- what every sandbox's processes are held to beyond cgroups. */
#ifndef PROGRAM_RLIMITS_H
#define PROGRAM_RLIMITS_H

#include <stdbool.h>

/* Sets them for this process and what it will start, and reads them back. */
bool rlimits_set(void);

#endif
