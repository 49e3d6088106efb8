/* machine_limits.c -- the bounds of a QEMU, written into the groups that libvirt made for it, and read back: memory, swap, reads,
 * processor time. In force before the guest is told what to start; while it boots, nothing of the image runs, and all the
 * processor that is free is its own.
 *
 * libvirt is not asked for them: a bound of memory in the description also becomes one of what QEMU may lock, which needs
 * privileges that not every root has; it cannot bound reads of a disk that is no PCI device. The groups of QEMU's threads lie
 * below the machine's own, which has the bounds. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "machine.h"
#include "sandbox/cgroup.h"

#define CGROUP_CPU_PERIOD_TEXT "100000"
#define LEVELS_MAX             3 /* one of its threads' groups, those groups, the machine */

/* The machine's own group: the lowest one above the process that has the file and libvirt's name for a machine. */
static int own_group(const struct cgroup_layout *l, pid_t pid, enum cgroup_controller c, const char *file,
		     char ret[CGROUP_PATH_MAX], struct err *err)
{
	char path[CGROUP_PATH_MAX + 64];
	int r = cgroup_dir_of(l, pid, c, ret, CGROUP_PATH_MAX, err);

	for (int level = 0; r == 0 && level < LEVELS_MAX; level++) {
		char *slash = strrchr(ret, '/');

		snprintf(path, sizeof path, "%s/%s", ret, file);
		if (slash != NULL && strstr(slash, "qemu") != NULL && access(path, F_OK) == 0)
			return 0;
		if (slash == NULL)
			break;
		*slash = '\0';
	}
	return r < 0 ? r : err_set(err, -ENOENT, "libvirt made no group with %s for its QEMU", file);
}

static int put(const char *dir, const char *file, const char *value, struct err *err)
{
	char path[CGROUP_PATH_MAX + 64];

	snprintf(path, sizeof path, "%s/%s", dir, file);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	int r = fd < 0 ? -errno : fd_write_all(fd, value, strlen(value));

	return r < 0 ? err_system(err, r, "write %s to %s", value, path) : 0;
}

/* Lines of the file that say other things are others'. */
static int expect(const char *dir, const char *file, const char *value, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	char path[CGROUP_PATH_MAX + 64];
	int r;

	snprintf(path, sizeof path, "%s/%s", dir, file);
	r = fd_read_file(path, 65536, &b, err);
	if (r == 0 && strstr(buf_cstr(&b), value) == NULL)
		r = err_set(err, -ERANGE, "%s: %s is not in force", path, value);
	return r;
}

static int bound_memory(const struct cgroup_layout *l, pid_t pid, uint64_t bytes, struct err *err)
{
	bool v2 = l->h[l->of[CGROUP_MEMORY]].v2;
	const char *file = v2 ? "memory.max" : "memory.limit_in_bytes";
	char dir[CGROUP_PATH_MAX], text[32], path[CGROUP_PATH_MAX + 64];
	const char *swap = v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes";
	int r = own_group(l, pid, CGROUP_MEMORY, file, dir, err);

	snprintf(text, sizeof text, "%" PRIu64, bytes / 4096 * 4096);
	if (r == 0)
		r = put(dir, file, text, err);
	if (r == 0)
		r = expect(dir, file, text, err);
	snprintf(path, sizeof path, "%s/%s", dir, swap);
	/* Not every kernel counts it. Version 1 counts both together. */
	return r == 0 && access(path, F_OK) == 0 ? put(dir, swap, v2 ? "0" : text, err) : r;
}

static int bound_reads(const struct cgroup_layout *l, pid_t pid, const struct cgroup_limits *limits,
		       struct err *err)
{
	struct cgroup_read_limit limit[2];
	unsigned n = cgroup_read_limits(l, limits, limit);
	char dir[CGROUP_PATH_MAX];
	int r = n == 0 ? 0 : own_group(l, pid, CGROUP_IO, limit[0].file, dir, err);

	if (r == -ENOENT)
		return 0; /* a kernel may be built without */
	for (unsigned k = 0; r == 0 && k < n; k++) {
		r = put(dir, limit[k].file, limit[k].value, err);
		if (r == 0)
			r = expect(dir, limit[k].file, limit[k].want, err);
	}
	return r;
}

static int bound_cpu(const struct cgroup_layout *l, pid_t pid, uint32_t cpu_milli, struct err *err)
{
	bool v2 = l->h[l->of[CGROUP_CPU]].v2;
	const char *file = v2 ? "cpu.max" : "cpu.cfs_quota_us";
	uint32_t quota = cpu_milli * (CGROUP_CPU_PERIOD_US / 1000);
	char dir[CGROUP_PATH_MAX], text[32];
	int r = own_group(l, pid, CGROUP_CPU, file, dir, err);

	if (v2)
		snprintf(text, sizeof text, "%u %u", quota, CGROUP_CPU_PERIOD_US);
	else
		snprintf(text, sizeof text, "%u", quota);
	if (r == 0 && !v2)
		r = put(dir, "cpu.cfs_period_us", CGROUP_CPU_PERIOD_TEXT, err);
	if (r == 0)
		r = put(dir, file, text, err);
	return r == 0 ? expect(dir, file, text, err) : r;
}

int machine_bound(pid_t pid, const char *disk, const struct driver_limits *limits, uint64_t host_bytes,
		  struct err *err)
{
	struct cgroup_limits reads = {.read_bytes = limits->read_bytes};
	struct cgroup_layout l;
	struct stat st;
	int r = cgroup_layout_read("", &l, err);

	if (r == 0 && stat(disk, &st) != 0)
		r = err_system(err, -errno, "%s", disk);
	if (r < 0)
		return r;
	reads.image = st.st_dev;
	r = bound_memory(&l, pid, host_bytes, err);
	if (r == 0)
		r = bound_reads(&l, pid, &reads, err);
	return r == 0 ? bound_cpu(&l, pid, limits->cpu_milli, err) : r;
}
