/* cgroup.h -- where each cgroup controller is on this machine (version 1, 2, or both at once), and what berth does
 * with a container's groups: read limits back, freeze, count, remove.
 *
 * Owns nothing; a layout is a plain value. Any thread. The machine's files are reached below a root directory that
 * is "" in production and a tree of files in tests. */
#ifndef SANDBOX_CGROUP_H
#define SANDBOX_CGROUP_H

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
	CGROUP_IO, /* "blkio" in version 1 */
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

/* Whether a controller of ours is there, so that containers have a group in this hierarchy. */
bool cgroup_used(const struct cgroup_layout *l, unsigned hierarchy);

/* The directory below which containers' groups are made, and that of a container's group, made or not. */
int cgroup_base(const struct cgroup_layout *l, unsigned hierarchy, char *ret, size_t size, struct err *err);
int cgroup_own_dir(const struct cgroup_layout *l, unsigned hierarchy, const char *container, char *ret,
		   size_t size, struct err *err);

/* Whether the word stands in the list. */
bool cgroup_list_has(const char *list, const char *name, const char *separators);

/* The directory of a process's group. */
int cgroup_dir_in(const struct cgroup_layout *l, pid_t pid, unsigned hierarchy, char *ret, size_t size,
		  struct err *err);

/* The directory of a process in a controller's hierarchy, without root's ambiguity: absolute on the host. */
int cgroup_dir_of(const struct cgroup_layout *l, pid_t pid, enum cgroup_controller c, char *ret, size_t size,
		  struct err *err);

struct cgroup_limits {
	uint64_t memory_bytes;
	uint64_t read_bytes; /* a second, from the image's disk: what is written is memory */
	dev_t image;         /* its file system */
	uint32_t cpu_milli, pids_max;
};

#define CGROUP_CPU_PERIOD_US 100000u
/* Version 1 counts what waits in TCP sockets apart: a quarter of the memory, on top of it. */
#define CGROUP_TCP_FILE "memory.kmem.tcp.limit_in_bytes"
static inline uint64_t cgroup_tcp_bytes(uint64_t memory_bytes)
{
	return memory_bytes / 16384 * 4096; /* whole pages: that is what is read back */
}

/* A file that limits reads, what is written to it, and what it then says. */
struct cgroup_read_limit {
	const char *file;
	char value[96], want[128];
};
/* Bytes, and a read for each 16 KiB of them. The number of limits: 0 where the image has no disk (memory, network), or no
 * hierarchy limits disks. */
unsigned cgroup_read_limits(const struct cgroup_layout *l, const struct cgroup_limits *limits,
			    struct cgroup_read_limit ret[2]);

/* -ERANGE, with the file and both values, when a limit is not in force for the process. */
int cgroup_check_limits(const struct cgroup_layout *l, pid_t pid, const struct cgroup_limits *limits,
			struct err *err);

/* The file to write and the words for frozen and thawed. */
int cgroup_freezer_path(const struct cgroup_layout *l, pid_t pid, char *ret, size_t size, struct err *err);
/* SIGKILL to all that is frozen there: thawed, none of it runs another instruction. */
void cgroup_kill_frozen(const char *freezer_path);
int cgroup_freeze(const char *freezer_path, bool frozen, struct err *err);

/* Of the memory: files in it, as a writable layer's. */
int cgroup_files_bytes(const struct cgroup_layout *l, pid_t pid, uint64_t *ret, struct err *err);
int cgroup_stats(const struct cgroup_layout *l, pid_t pid, uint64_t *ret_cpu_us, uint64_t *ret_memory_bytes,
		 uint32_t *ret_pids, struct err *err);

/* Calls back with each directory, in each hierarchy, of containers whose name starts with prefix. */
typedef void cgroup_each(const char *dir, const char *container, void *arg);
void cgroup_find(const struct cgroup_layout *l, const char *prefix, cgroup_each *each, void *arg);
/* Kills what is in the directories of exactly this container and removes them. The number that would not go. */
int cgroup_remove(const struct cgroup_layout *l, const char *container);

#endif
