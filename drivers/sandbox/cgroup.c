#include "cgroup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/fd.h"

#define FILE_BYTES_MAX (1u << 20)
#define TREE_DEPTH_MAX 8
#define READ_BYTES     16384u

static const char *const controller_name[CGROUP_CONTROLLERS] = {
	[CGROUP_MEMORY] = "memory",   [CGROUP_CPU] = "cpu",         [CGROUP_PIDS] = "pids",
	[CGROUP_DEVICES] = "devices", [CGROUP_FREEZER] = "freezer", [CGROUP_CPUACCT] = "cpuacct",
	[CGROUP_IO] = "io",
};

bool cgroup_list_has(const char *list, const char *name, const char *separators)
{
	size_t n = strlen(name);

	while (*list != '\0') {
		size_t word = strcspn(list, separators);

		if (word == n && strncmp(list, name, n) == 0)
			return true;
		list += word;
		list += strspn(list, separators);
	}
	return false;
}

/* -- Layout --------------------------------------------------------------------------------------------------- */

static void read_v2_controllers(const char *root, struct cgroup_hierarchy *h)
{
	CLEANUP_BUF struct buf b = {0};
	char path[CGROUP_PATH_MAX + 300];

	snprintf(path, sizeof path, "%s%s/cgroup.controllers", root, h->mount);
	if (fd_read_file(path, 4096, &b, NULL) < 0)
		return;
	snprintf(h->controllers, sizeof h->controllers, "%s", buf_cstr(&b));
	h->controllers[strcspn(h->controllers, "\n")] = '\0';
	for (char *p = h->controllers; *p != '\0'; p++) {
		if (*p == ' ')
			*p = ',';
	}
}

/* One line of mountinfo: "36 35 0:31 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory". */
static void take_mount(struct cgroup_layout *l, char *line)
{
	char *mid = strstr(line, " - "), *save = NULL, *word, *type, *options = NULL;
	char *mount = NULL, *mount_root = NULL;

	if (mid == NULL || l->n == CGROUP_HIERARCHIES_MAX)
		return;
	*mid = '\0';
	word = strtok_r(line, " ", &save);
	for (int i = 0; word != NULL && i < 5; i++, word = strtok_r(NULL, " ", &save)) {
		if (i == 3)
			mount_root = word;
		if (i == 4)
			mount = word;
	}
	type = strtok_r(mid + 3, " ", &save);
	if (type != NULL && strtok_r(NULL, " ", &save) != NULL)
		options = strtok_r(NULL, " \n", &save);
	if (mount == NULL || options == NULL || strncmp(type, "cgroup", 6) != 0 ||
	    strcmp(mount_root, "/") != 0)
		return;
	struct cgroup_hierarchy h = {.v2 = strcmp(type, "cgroup2") == 0};

	snprintf(h.mount, sizeof h.mount, "%s", mount);
	if (h.v2)
		read_v2_controllers(l->root, &h);
	else
		snprintf(h.controllers, sizeof h.controllers, "%s", options);
	for (unsigned i = 0; i < l->n; i++) {
		if (strcmp(l->h[i].mount, h.mount) == 0)
			return;
	}
	l->h[l->n++] = h;
}

/* The freezer, CPU accounting and the device list of version 2 belong to every group, without a controller. */
static bool serves(const struct cgroup_hierarchy *h, enum cgroup_controller c)
{
	if (h->v2 && (c == CGROUP_FREEZER || c == CGROUP_CPUACCT || c == CGROUP_DEVICES))
		return true;
	return cgroup_list_has(h->controllers, c == CGROUP_IO && !h->v2 ? "blkio" : controller_name[c], ",");
}

int cgroup_layout_read(const char *root, struct cgroup_layout *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	struct cgroup_layout l = {0};
	char path[300], *rest, *line;
	int r;

	snprintf(l.root, sizeof l.root, "%s", root);
	snprintf(path, sizeof path, "%s/proc/self/mountinfo", root);
	r = fd_read_file(path, FILE_BYTES_MAX, &b, err);
	if (r < 0)
		return r;
	rest = (char *)(uintptr_t)buf_cstr(&b);
	while ((line = strsep(&rest, "\n")) != NULL)
		take_mount(&l, line);
	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		l.of[c] = -1;
		for (unsigned pass = 0; pass < 2;
		     pass++) { /* version 1 first: a controller is in one of them */
			for (unsigned i = 0; i < l.n && l.of[c] < 0; i++) {
				if (l.h[i].v2 == (pass == 1) && serves(&l.h[i], (enum cgroup_controller)c))
					l.of[c] = (int)i;
			}
		}
		if (l.of[c] < 0 && c != CGROUP_DEVICES && c != CGROUP_CPUACCT && c != CGROUP_IO)
			return err_set(
				err, -ENOENT,
				"cgroups: no mounted hierarchy has the controller \"%s\"; sandboxes could "
				"not be limited",
				controller_name[c]);
	}
	*ret = l;
	return 0;
}

/* -- Directories ---------------------------------------------------------------------------------------------- */

/* The path behind the mount point of a process's group, from /proc/PID/cgroup: "4:memory:/x". */
int cgroup_dir_in(const struct cgroup_layout *l, pid_t pid, unsigned hierarchy, char *ret, size_t size,
		  struct err *err)
{
	const struct cgroup_hierarchy *h = &l->h[hierarchy];
	CLEANUP_BUF struct buf b = {0};
	char path[320], *rest, *line;
	int r;

	snprintf(path, sizeof path, "%s/proc/%d/cgroup", l->root, (int)pid);
	r = fd_read_file(path, 65536, &b, err);
	if (r < 0)
		return r;
	rest = (char *)(uintptr_t)buf_cstr(&b);
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *id = strsep(&line, ":"), *controllers = line == NULL ? NULL : strsep(&line, ":");
		char first[64];

		if (controllers == NULL || line == NULL)
			continue;
		if (h->v2 ? strcmp(id, "0") != 0 || *controllers != '\0' : *controllers == '\0')
			continue;
		snprintf(first, sizeof first, "%.*s", (int)strcspn(controllers, ","), controllers);
		if (!h->v2 && !cgroup_list_has(h->controllers, first, ","))
			continue;
		if (snprintf(ret, size, "%s%s%s", l->root, h->mount, strcmp(line, "/") == 0 ? "" : line) >=
		    (int)size)
			return err_set(err, -ENAMETOOLONG, "cgroup of process %d: path too long", (int)pid);
		return 0;
	}
	return err_set(err, -ENOENT, "cgroup of process %d: not in the hierarchy at %s", (int)pid, h->mount);
}

int cgroup_dir_of(const struct cgroup_layout *l, pid_t pid, enum cgroup_controller c, char *ret, size_t size,
		  struct err *err)
{
	if (l->of[c] < 0)
		return err_set(err, -ENOENT, "cgroups: no controller \"%s\"", controller_name[c]);
	return cgroup_dir_in(l, pid, (unsigned)l->of[c], ret, size, err);
}

bool cgroup_used(const struct cgroup_layout *l, unsigned hierarchy)
{
	for (int c = 0; c < CGROUP_CONTROLLERS; c++) {
		if (l->of[c] == (int)hierarchy)
			return true;
	}
	return false;
}

/* systemd keeps process 1 in a group of its own, beside which and not in which others belong. */
int cgroup_base(const struct cgroup_layout *l, unsigned hierarchy, char *ret, size_t size, struct err *err)
{
	static const char scope[] = "/init.scope";
	int r = cgroup_dir_in(l, 1, hierarchy, ret, size, err);

	if (r == 0 && strlen(ret) >= strlen(scope) && strcmp(ret + strlen(ret) - strlen(scope), scope) == 0)
		ret[strlen(ret) - strlen(scope)] = '\0';
	return r;
}

int cgroup_own_dir(const struct cgroup_layout *l, unsigned hierarchy, const char *container, char *ret,
		   size_t size, struct err *err)
{
	char base[CGROUP_PATH_MAX];
	int r = cgroup_base(l, hierarchy, base, sizeof base, err);

	if (r == 0 && snprintf(ret, size, "%s/%s", base, container) >= (int)size)
		r = err_set(err, -ENAMETOOLONG, "cgroup of %s: path too long", container);
	return r;
}

/* -- Limits --------------------------------------------------------------------------------------------------- */

static int check_value(const char *dir, const char *file, const char *want, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	char path[CGROUP_PATH_MAX + 128], *got;
	int r;

	snprintf(path, sizeof path, "%s/%s", dir, file);
	r = fd_read_file(path, 4096, &b, err);
	if (r < 0)
		return r;
	got = (char *)(uintptr_t)buf_cstr(&b);
	got[strcspn(got, "\n")] = '\0';
	if (strcmp(got, want) != 0)
		return err_set(err, -ERANGE, "limit %s is \"%.64s\", not \"%s\"", path, got, want);
	return 0;
}

static bool group_has(const char *dir, const char *file)
{
	char path[CGROUP_PATH_MAX + 128];

	snprintf(path, sizeof path, "%s/%s", dir, file);
	return access(path, F_OK) == 0;
}

static int check_memory(const struct cgroup_layout *l, pid_t pid, uint64_t bytes, struct err *err)
{
	bool v2 = l->h[l->of[CGROUP_MEMORY]].v2;
	char dir[CGROUP_PATH_MAX], want[32];
	int r = cgroup_dir_of(l, pid, CGROUP_MEMORY, dir, sizeof dir, err);

	if (r < 0)
		return r;
	snprintf(want, sizeof want, "%" PRIu64, bytes);
	r = check_value(dir, v2 ? "memory.max" : "memory.limit_in_bytes", want, err);
	if (r == 0 && !v2 && group_has(dir, "memory.memsw.limit_in_bytes"))
		r = check_value(dir, "memory.memsw.limit_in_bytes", want, err);
	if (r == 0 && !v2 && group_has(dir, CGROUP_TCP_FILE)) {
		snprintf(want, sizeof want, "%" PRIu64, cgroup_tcp_bytes(bytes));
		r = check_value(dir, CGROUP_TCP_FILE, want, err);
	}
	if (r == 0 && v2 && group_has(dir, "memory.swap.max"))
		r = check_value(dir, "memory.swap.max", "0", err);
	return r;
}

/* "254:0", of the whole disk: limits are its, not its partitions'. False: there is none. */
static bool disk_below(const struct cgroup_layout *l, dev_t fs, char *ret, size_t size)
{
	CLEANUP_BUF struct buf b = {0};
	char at[400];

	if (major(fs) == 0)
		return false;
	snprintf(ret, size, "%u:%u", major(fs), minor(fs));
	snprintf(at, sizeof at, "%s/sys/dev/block/%s/partition", l->root, ret);
	if (access(at, F_OK) == 0) {
		snprintf(at, sizeof at, "%s/sys/dev/block/%s/../dev", l->root, ret);
		if (fd_read_file(at, 32, &b, NULL) < 0)
			return false;
		snprintf(ret, size, "%.*s", (int)strcspn(buf_cstr(&b), "\n"), buf_cstr(&b));
	}
	return true;
}

unsigned cgroup_read_limits(const struct cgroup_layout *l, const struct cgroup_limits *limits,
			    struct cgroup_read_limit ret[2])
{
	uint64_t bytes = limits->read_bytes, reads = bytes / READ_BYTES + 1;
	char disk[32];

	if (l->of[CGROUP_IO] < 0 || bytes == 0 || !disk_below(l, limits->image, disk, sizeof disk))
		return 0;
	if (l->h[l->of[CGROUP_IO]].v2) {
		ret->file = "io.max";
		snprintf(ret->value, sizeof ret->value, "%s rbps=%" PRIu64 " riops=%" PRIu64, disk, bytes,
			 reads);
		snprintf(ret->want, sizeof ret->want,
			 "%s rbps=%" PRIu64 " wbps=max riops=%" PRIu64 " wiops=max", disk, bytes, reads);
		return 1;
	}
	for (unsigned i = 0; i < 2; i++) {
		ret[i].file = i == 0 ? "blkio.throttle.read_bps_device" : "blkio.throttle.read_iops_device";
		snprintf(ret[i].value, sizeof ret[i].value, "%s %" PRIu64, disk, i == 0 ? bytes : reads);
		snprintf(ret[i].want, sizeof ret[i].want, "%s", ret[i].value);
	}
	return 2;
}

static int check_reads(const struct cgroup_layout *l, pid_t pid, const struct cgroup_limits *limits,
		       struct err *err)
{
	struct cgroup_read_limit limit[2];
	unsigned n = cgroup_read_limits(l, limits, limit);
	char dir[CGROUP_PATH_MAX];
	int r = n == 0 ? 0 : cgroup_dir_of(l, pid, CGROUP_IO, dir, sizeof dir, err);

	for (unsigned i = 0; r == 0 && i < n; i++) {
		if (group_has(dir, limit[i].file)) /* a kernel may be built without */
			r = check_value(dir, limit[i].file, limit[i].want, err);
	}
	return r;
}

int cgroup_check_limits(const struct cgroup_layout *l, pid_t pid, const struct cgroup_limits *limits,
			struct err *err)
{
	char dir[CGROUP_PATH_MAX], want[64];
	int r = check_memory(l, pid, limits->memory_bytes, err);

	if (r == 0)
		r = cgroup_dir_of(l, pid, CGROUP_CPU, dir, sizeof dir, err);
	if (r == 0 && l->h[l->of[CGROUP_CPU]].v2) {
		snprintf(want, sizeof want, "%u %u", limits->cpu_milli * (CGROUP_CPU_PERIOD_US / 1000),
			 CGROUP_CPU_PERIOD_US);
		r = check_value(dir, "cpu.max", want, err);
	} else if (r == 0) {
		snprintf(want, sizeof want, "%u", limits->cpu_milli * (CGROUP_CPU_PERIOD_US / 1000));
		r = check_value(dir, "cpu.cfs_quota_us", want, err);
	}
	if (r == 0)
		r = cgroup_dir_of(l, pid, CGROUP_PIDS, dir, sizeof dir, err);
	snprintf(want, sizeof want, "%u", limits->pids_max);
	if (r == 0)
		r = check_value(dir, "pids.max", want, err);
	return r < 0 ? r : check_reads(l, pid, limits, err);
}

/* -- Freezer -------------------------------------------------------------------------------------------------- */

int cgroup_freezer_path(const struct cgroup_layout *l, pid_t pid, char *ret, size_t size, struct err *err)
{
	char dir[CGROUP_PATH_MAX];
	int r = cgroup_dir_of(l, pid, CGROUP_FREEZER, dir, sizeof dir, err);

	if (r < 0)
		return r;
	snprintf(ret, size, "%s/%s", dir, l->h[l->of[CGROUP_FREEZER]].v2 ? "cgroup.freeze" : "freezer.state");
	return 0;
}

int cgroup_freeze(const char *freezer_path, bool frozen, struct err *err)
{
	bool v2 = strstr(freezer_path, "/cgroup.freeze") != NULL;
	const char *word = v2 ? (frozen ? "1" : "0") : (frozen ? "FROZEN" : "THAWED");
	CLEANUP_FD int fd = open(freezer_path, O_WRONLY | O_CLOEXEC);
	int r;

	if (fd < 0)
		return err_system(err, -errno, "open %s", freezer_path);
	r = fd_write_all(fd, word, strlen(word));
	return r < 0 ? err_system(err, r, "write %s to %s", word, freezer_path) : 0;
}

static void kill_listed(const char *procs_path)
{
	CLEANUP_BUF struct buf b = {0};
	char *rest, *line;

	if (fd_read_file(procs_path, FILE_BYTES_MAX, &b, NULL) < 0)
		return;
	rest = (char *)(uintptr_t)buf_cstr(&b);
	while ((line = strsep(&rest, "\n")) != NULL) {
		long pid = strtol(line, NULL, 10);

		if (pid > 1)
			kill((pid_t)pid, SIGKILL);
	}
}

/* Frozen processes neither end nor begin, so their numbers are theirs until they are thawed. */
void cgroup_kill_frozen(const char *freezer_path)
{
	CLEANUP_BUF struct buf b = {0};
	char path[CGROUP_PATH_MAX + 32];
	int dir = (int)(strrchr(freezer_path, '/') - freezer_path);

	if (strstr(freezer_path, "/cgroup.freeze") != NULL) {
		snprintf(path, sizeof path, "%.*s/cgroup.kill", dir, freezer_path);
		CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

		if (fd >= 0)
			(void)!fd_write_all(fd, "1", 1);
		return;
	}
	if (fd_read_file(freezer_path, 64, &b, NULL) < 0 || strncmp(buf_cstr(&b), "THAWED", 6) == 0)
		return;
	snprintf(path, sizeof path, "%.*s/cgroup.procs", dir, freezer_path);
	kill_listed(path);
}

/* -- Figures -------------------------------------------------------------------------------------------------- */

/* The first number in a file, or the one behind `key`. */
static int read_number(const struct cgroup_layout *l, pid_t pid, enum cgroup_controller c, const char *file,
		       const char *key, uint64_t *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	char dir[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + 64];
	const char *at;
	int r = cgroup_dir_of(l, pid, c, dir, sizeof dir, err);

	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%s/%s", dir, file);
	r = fd_read_file(path, 65536, &b, err);
	if (r < 0)
		return r;
	at = key == NULL ? buf_cstr(&b) : strstr(buf_cstr(&b), key);
	*ret = at == NULL ? 0 : strtoull(at + (key == NULL ? 0 : strlen(key)), NULL, 10);
	return 0;
}

int cgroup_stats(const struct cgroup_layout *l, pid_t pid, uint64_t *ret_cpu_us, uint64_t *ret_memory_bytes,
		 uint32_t *ret_pids, struct err *err)
{
	bool cpu_v2 = l->of[CGROUP_CPUACCT] < 0 || l->h[l->of[CGROUP_CPUACCT]].v2;
	bool memory_v2 = l->h[l->of[CGROUP_MEMORY]].v2;
	uint64_t cpu = 0, memory = 0, pids = 0;
	int r = cpu_v2 ? read_number(l, pid, CGROUP_CPUACCT, "cpu.stat", "usage_usec ", &cpu, err)
		       : read_number(l, pid, CGROUP_CPUACCT, "cpuacct.usage", NULL, &cpu, err);

	if (r == 0)
		r = read_number(l, pid, CGROUP_MEMORY, memory_v2 ? "memory.current" : "memory.usage_in_bytes",
				NULL, &memory, err);
	if (r == 0)
		r = read_number(l, pid, CGROUP_PIDS, "pids.current", NULL, &pids, err);
	if (r < 0)
		return r;
	*ret_cpu_us = cpu_v2 ? cpu : cpu / 1000;
	*ret_memory_bytes = memory;
	*ret_pids = (uint32_t)pids;
	return 0;
}

int cgroup_files_bytes(const struct cgroup_layout *l, pid_t pid, uint64_t *ret, struct err *err)
{
	bool v2 = l->h[l->of[CGROUP_MEMORY]].v2;

	return read_number(l, pid, CGROUP_MEMORY, "memory.stat", v2 ? "\nshmem " : "\ntotal_shmem ", ret,
			   err);
}

/* -- Removal -------------------------------------------------------------------------------------------------- */

void cgroup_find(const struct cgroup_layout *l, const char *prefix, cgroup_each *each, void *arg)
{
	for (unsigned i = 0; i < l->n; i++) {
		char base[CGROUP_PATH_MAX], path[2 * CGROUP_PATH_MAX + 64];
		struct dirent *e;
		DIR *d;

		if (!cgroup_used(l, i) || cgroup_base(l, i, base, sizeof base, NULL) < 0 ||
		    (d = opendir(base)) == NULL)
			continue;
		while ((e = readdir(d)) != NULL) {
			if (strncmp(e->d_name, prefix, strlen(prefix)) != 0)
				continue;
			snprintf(path, sizeof path, "%s/%s", base, e->d_name);
			each(path, e->d_name, arg);
		}
		closedir(d);
	}
}

static void kill_members(const char *dir)
{
	char path[2 * CGROUP_PATH_MAX + 96];

	snprintf(path, sizeof path, "%s/freezer.state", dir);
	if (access(path, F_OK) == 0)
		cgroup_freeze(path, false, NULL);
	snprintf(path, sizeof path, "%s/cgroup.procs", dir);
	kill_listed(path);
}

static bool remove_tree(const char *dir, unsigned depth)
{
	char path[2 * CGROUP_PATH_MAX + 400];
	struct dirent *e;
	DIR *d;

	if (depth < TREE_DEPTH_MAX && (d = opendir(dir)) != NULL) {
		while ((e = readdir(d)) != NULL) {
			if (e->d_type != DT_DIR || e->d_name[0] == '.')
				continue;
			if (snprintf(path, sizeof path, "%s/%s", dir, e->d_name) < (int)sizeof path)
				remove_tree(path, depth + 1);
		}
		closedir(d);
	}
	kill_members(dir);
	for (int tries = 0; tries < 50; tries++) {
		if (rmdir(dir) == 0 || errno == ENOENT)
			return true;
		if (errno != EBUSY)
			return false;
		usleep(2000);
	}
	return false;
}

int cgroup_remove(const struct cgroup_layout *l, const char *container)
{
	char dir[CGROUP_PATH_MAX];
	int failed = 0;

	for (unsigned i = 0; i < l->n; i++) {
		if (!cgroup_used(l, i) || cgroup_own_dir(l, i, container, dir, sizeof dir, NULL) < 0)
			continue;
		if (rmdir(dir) != 0 && errno != ENOENT && !remove_tree(dir, 0))
			failed++;
	}
	return failed;
}
