/* cgroup_make.h -- a container's own groups: made, limited, and entered without a wait.
 *
 * liblxc could do it, but it makes two groups in every hierarchy of the machine and moves processes by their id. Such a
 * move waits for a grace period of RCU, 5 to 15 ms, and holds the lock of all groups meanwhile. A child that is cloned
 * into a group (version 2) or a thread that moves itself (version 1) waits for nothing.
 *
 * Owns nothing but the descriptors of struct cgroup_home. Any thread; cgroup_fork() needs a process with a single one. */
#ifndef LXC_CGROUP_MAKE_H
#define LXC_CGROUP_MAKE_H

#include "sandbox/cgroup.h"

/* Makes the group `container` in each hierarchy that has a controller which we use, below the group of process 1, and sets
 * limits, no swap, and the list of devices. What was made stays on failure: cgroup_remove() takes it away. */
int cgroup_make(const struct cgroup_layout *l, const char *container, const struct cgroup_limits *limits,
		struct err *err);

/* The groups in which the calling process is now: the way back for a child of cgroup_fork(). */
struct cgroup_home {
	int fd[CGROUP_HIERARCHIES_MAX];
	unsigned n;
};
/* All descriptors are `fd_min` or above. */
int cgroup_home_open(const struct cgroup_layout *l, int fd_min, struct cgroup_home *ret, struct err *err);
void cgroup_home_close(struct cgroup_home *h);
/* Moves the calling thread, the only one of its process, there. Safe in a signal handler; what fails is left. */
void cgroup_go_home(const struct cgroup_home *h);

/* fork() with the child in the groups of `container`; one that cannot enter them ends. -1: there is none. */
pid_t cgroup_fork(const struct cgroup_layout *l, const char *container, struct err *err);

#endif
