/* cgroup.h -- where each cgroup controller is on this machine (version 1, 2, or both at once), and what berth does
 * with a container's groups: read limits back, freeze, count, remove.
 *
 * Owns nothing; a layout is a plain value. Any thread. The machine's files are reached below a root directory that
 * is "" in production and a tree of files in tests. */
#ifndef LXC_CGROUP_H
#define LXC_CGROUP_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

#define CGROUP_HIERARCHIES_MAX 24
#define CGROUP_PATH_MAX        512

enum cgroup_controller {
	CGROUP_MEMORY,
	CGROUP_CPU,
	CGROUP_PIDS,
	CGROUP_DEVICES,
	CGROUP_FREEZER,
	CGROUP_CPUACCT,
	CGROUP_CONTROLLERS
};

struct cgroup_hierarchy {
	char mount[CGROUP_PATH_MAX];
	char controllers[256]; /* comma-separated; of version 2: what cgroup.controllers lists */
	bool v2;
};

struct cgroup_layout {
	char root[256];
	struct cgroup_hierarchy h[CGROUP_HIERARCHIES_MAX];
	unsigned n;
	int of[CGROUP_CONTROLLERS]; /* index into h, or -1 */
};

/* Reads <root>/proc/self/mountinfo. -ENOENT names the controller (memory, cpu, pids, freezer) that is nowhere. */
int cgroup_layout_read(const char *root, struct cgroup_layout *ret, struct err *err);

/* Whether the controller's directory of process 1, in which containers are made, has this file. */
bool cgroup_base_has(const struct cgroup_layout *l, enum cgroup_controller c, const char *file);

/* The directory of a process in a controller's hierarchy, without root's ambiguity: absolute on the host. */
int cgroup_dir_of(const struct cgroup_layout *l, pid_t pid, enum cgroup_controller c, char *ret, size_t size,
		  struct err *err);

struct cgroup_limits {
	uint64_t memory_bytes;
	uint32_t cpu_milli, pids_max;
};

#define CGROUP_CPU_PERIOD_US 100000u

/* Version 2: no swap for the process's group, where the kernel accounts swap. Version 1 has it in the configuration. */
int cgroup_deny_swap(const struct cgroup_layout *l, pid_t pid, struct err *err);

/* -ERANGE, with the file and both values, when a limit is not in force for the process. */
int cgroup_check_limits(const struct cgroup_layout *l, pid_t pid, const struct cgroup_limits *limits,
			struct err *err);

/* The file to write and the words for frozen and thawed. */
int cgroup_freezer_path(const struct cgroup_layout *l, pid_t pid, char *ret, size_t size, struct err *err);
int cgroup_freeze(const char *freezer_path, bool frozen, struct err *err);

int cgroup_stats(const struct cgroup_layout *l, pid_t pid, uint64_t *ret_cpu_us, uint64_t *ret_memory_bytes,
		 uint32_t *ret_pids, struct err *err);

/* Calls back with each directory, in each hierarchy, that liblxc made for containers whose name starts with prefix. */
typedef void cgroup_each(const char *dir, const char *container, void *arg);
void cgroup_find(const struct cgroup_layout *l, const char *prefix, cgroup_each *each, void *arg);
/* Kills what is in the directories of exactly this container and removes them. The number that would not go. */
int cgroup_remove(const struct cgroup_layout *l, const char *container);
/* liblxc's "lxc.pivot", one for all containers, through which monitors leave: removed when nobody is in it. */
void cgroup_remove_pivot(const struct cgroup_layout *l);

#endif
