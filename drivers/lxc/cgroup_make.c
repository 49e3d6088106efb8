/* cgroup_make.c -- see cgroup_make.h.
 *
 * Invariant: a device that is not listed cannot be opened in the container, although the container could make none
 * anyway; version 1 has files for it, version 2 a program of the kernel's own small machine. */
#include "cgroup_make.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/bpf.h>
#include <linux/sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/fd.h"

#define CPU_SHARES_OF_ONE 1024u
#define ANY_MINOR         -1

/* The usual harmless ones, and terminals of its own: null, zero, full, random, urandom, tty, ptmx, pts. */
static const struct {
	int major, minor;
} devices[] = {{1, 3}, {1, 5}, {1, 7}, {1, 8}, {1, 9}, {5, 0}, {5, 2}, {136, ANY_MINOR}};

#define DEVICES (sizeof devices / sizeof *devices)

/* -- Files ---------------------------------------------------------------------------------------------------- */

static int write_text(const char *dir, const char *file, const char *text, struct err *err)
{
	char path[CGROUP_PATH_MAX + 128];
	int r;

	snprintf(path, sizeof path, "%s/%s", dir, file);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	r = fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
	return r < 0 ? err_system(err, r, "write %s to %s", text, path) : 0;
}

static int write_number(const char *dir, const char *file, uint64_t number, struct err *err)
{
	char text[32];

	snprintf(text, sizeof text, "%" PRIu64, number);
	return write_text(dir, file, text, err);
}

static bool has(const char *dir, const char *file)
{
	char path[CGROUP_PATH_MAX + 128];

	snprintf(path, sizeof path, "%s/%s", dir, file);
	return access(path, F_OK) == 0;
}

/* -- Limits --------------------------------------------------------------------------------------------------- */

static int limit_memory(bool v2, const char *dir, const struct cgroup_limits *limits, struct err *err)
{
	int r = write_number(dir, v2 ? "memory.max" : "memory.limit_in_bytes", limits->memory_bytes, err);

	/* No swap, where the kernel accounts it. */
	if (r < 0)
		return r;
	if (v2)
		return has(dir, "memory.swap.max") ? write_text(dir, "memory.swap.max", "0", err) : 0;
	if (has(dir, CGROUP_TCP_FILE))
		r = write_number(dir, CGROUP_TCP_FILE, cgroup_tcp_bytes(limits->memory_bytes), err);
	if (r < 0)
		return r;
	if (has(dir, "memory.memsw.limit_in_bytes"))
		return write_number(dir, "memory.memsw.limit_in_bytes", limits->memory_bytes, err);
	return has(dir, "memory.swappiness") ? write_text(dir, "memory.swappiness", "0", err) : 0;
}

static int limit_cpu(bool v2, const char *dir, const struct cgroup_limits *limits, struct err *err)
{
	uint32_t quota = limits->cpu_milli * (CGROUP_CPU_PERIOD_US / 1000);
	uint32_t shares = limits->cpu_milli * CPU_SHARES_OF_ONE / 1000;
	char text[64];
	int r;

	if (v2) {
		snprintf(text, sizeof text, "%u %u", quota, CGROUP_CPU_PERIOD_US);
		return write_text(dir, "cpu.max", text, err);
	}
	r = write_number(dir, "cpu.cfs_period_us", CGROUP_CPU_PERIOD_US, err);
	if (r == 0)
		r = write_number(dir, "cpu.cfs_quota_us", quota, err);
	return r == 0 && shares >= 2 ? write_number(dir, "cpu.shares", shares, err) : r;
}

static int limit_reads(const struct cgroup_layout *l, const char *dir, const struct cgroup_limits *limits,
		       struct err *err)
{
	struct cgroup_read_limit limit[2];
	unsigned n = cgroup_read_limits(l, limits, limit);
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n; i++) {
		if (has(dir, limit[i].file))
			r = write_text(dir, limit[i].file, limit[i].value, err);
	}
	return r;
}

static int list_devices_v1(const char *dir, struct err *err)
{
	char text[32];
	int r = write_text(dir, "devices.deny", "a", err);

	for (size_t i = 0; r == 0 && i < DEVICES; i++) {
		if (devices[i].minor == ANY_MINOR)
			snprintf(text, sizeof text, "c %d:* rwm", devices[i].major);
		else
			snprintf(text, sizeof text, "c %d:%d rwm", devices[i].major, devices[i].minor);
		r = write_text(dir, "devices.allow", text, err);
	}
	return r;
}

/* -- Devices, version 2 ----------------------------------------------------------------------------------------- */

#define INSN(c, d, s, o, i) \
	((struct bpf_insn){.code = (c), .dst_reg = (d), .src_reg = (s), .off = (short)(o), .imm = (i)})
#define LOAD(to, field) \
	INSN(BPF_LDX | BPF_MEM | BPF_W, to, BPF_REG_1, offsetof(struct bpf_cgroup_dev_ctx, field), 0)
#define SKIP_UNLESS(reg, value, n) INSN(BPF_JMP | BPF_JNE | BPF_K, reg, 0, n, value)
#define INSNS_PER_DEVICE           4

static size_t device_program(struct bpf_insn p[])
{
	size_t n = 0;

	p[n++] = LOAD(BPF_REG_2, access_type); /* the kind of device in the lower half */
	p[n++] = INSN(BPF_ALU | BPF_AND | BPF_K, BPF_REG_2, 0, 0, 0xffff);
	p[n++] = LOAD(BPF_REG_3, major);
	p[n++] = LOAD(BPF_REG_4, minor);
	p[n++] = SKIP_UNLESS(BPF_REG_2, BPF_DEVCG_DEV_CHAR, DEVICES * INSNS_PER_DEVICE);
	for (size_t i = 0; i < DEVICES; i++) {
		p[n++] = SKIP_UNLESS(BPF_REG_3, devices[i].major, 3);
		p[n++] = devices[i].minor == ANY_MINOR ? INSN(BPF_JMP | BPF_JA, 0, 0, 0, 0)
						       : SKIP_UNLESS(BPF_REG_4, devices[i].minor, 2);
		p[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1);
		p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	}
	p[n++] = INSN(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0);
	p[n++] = INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
	return n;
}

static int list_devices_v2(const char *dir, struct err *err)
{
	struct bpf_insn program[8 + DEVICES * INSNS_PER_DEVICE];
	union bpf_attr load = {.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE, .insns = (uintptr_t)program};
	union bpf_attr attach = {.attach_type = BPF_CGROUP_DEVICE};

	load.license = (uintptr_t) "Apache-2.0";
	load.insn_cnt = (uint32_t)device_program(program);
	CLEANUP_FD int group = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CLEANUP_FD int loaded = (int)syscall(SYS_bpf, BPF_PROG_LOAD, &load, sizeof load);

	if (group < 0 || loaded < 0)
		return err_system(err, -errno, "the list of devices for %s", dir);
	attach.target_fd = (uint32_t)group;
	attach.attach_bpf_fd = (uint32_t)loaded;
	/* It stays as long as the group does. */
	if (syscall(SYS_bpf, BPF_PROG_ATTACH, &attach, sizeof attach) != 0)
		return err_system(err, -errno, "attach the list of devices to %s", dir);
	return 0;
}

/* -- Groups --------------------------------------------------------------------------------------------------- */

static bool serves(const struct cgroup_layout *l, unsigned h, enum cgroup_controller c)
{
	return l->of[c] == (int)h;
}

/* What the group's parent has to hand down; only the ones that it has not handed down yet. */
static int delegate(const struct cgroup_layout *l, unsigned h, const char *base, struct err *err)
{
	static const struct {
		enum cgroup_controller c;
		const char *name;
	} wanted[] = {
		{CGROUP_MEMORY, "memory"}, {CGROUP_CPU, "cpu"}, {CGROUP_PIDS, "pids"}, {CGROUP_IO, "io"}};
	CLEANUP_BUF struct buf b = {0};
	char path[CGROUP_PATH_MAX + 64], text[32];
	int r;

	snprintf(path, sizeof path, "%s/cgroup.subtree_control", base);
	r = fd_read_file(path, 4096, &b, err);
	for (size_t i = 0; r == 0 && i < sizeof wanted / sizeof *wanted; i++) {
		if (!serves(l, h, wanted[i].c) || cgroup_list_has(buf_cstr(&b), wanted[i].name, " \n"))
			continue;
		snprintf(text, sizeof text, "+%s", wanted[i].name);
		r = write_text(base, "cgroup.subtree_control", text, err);
	}
	return r;
}

static int make_one(const struct cgroup_layout *l, unsigned h, const char *container,
		    const struct cgroup_limits *limits, struct err *err)
{
	bool v2 = l->h[h].v2;
	char base[CGROUP_PATH_MAX], dir[CGROUP_PATH_MAX];
	int r = cgroup_base(l, h, base, sizeof base, err);

	if (r == 0)
		r = cgroup_own_dir(l, h, container, dir, sizeof dir, err);
	if (r == 0 && v2)
		r = delegate(l, h, base, err);
	if (r == 0 && mkdir(dir, 0755) != 0)
		r = err_system(err, -errno, "mkdir %s", dir);
	if (r == 0 && serves(l, h, CGROUP_MEMORY))
		r = limit_memory(v2, dir, limits, err);
	if (r == 0 && serves(l, h, CGROUP_CPU))
		r = limit_cpu(v2, dir, limits, err);
	if (r == 0 && serves(l, h, CGROUP_PIDS))
		r = write_number(dir, "pids.max", limits->pids_max, err);
	if (r == 0 && serves(l, h, CGROUP_IO))
		r = limit_reads(l, dir, limits, err);
	if (r == 0 && serves(l, h, CGROUP_DEVICES))
		r = v2 ? list_devices_v2(dir, err) : list_devices_v1(dir, err);
	return r;
}

int cgroup_make(const struct cgroup_layout *l, const char *container, const struct cgroup_limits *limits,
		struct err *err)
{
	int r = 0;

	for (unsigned h = 0; r == 0 && h < l->n; h++) {
		if (cgroup_used(l, h))
			r = make_one(l, h, container, limits, err);
	}
	return r;
}

/* -- Entering and leaving --------------------------------------------------------------------------------------- */

/* A version 2 group takes whole processes only, and a process that moves waits; going home by then keeps nobody. */
static int open_members(const struct cgroup_layout *l, unsigned h, const char *dir, struct err *err)
{
	char path[CGROUP_PATH_MAX + 32];
	int fd;

	snprintf(path, sizeof path, "%s/%s", dir, l->h[h].v2 ? "cgroup.procs" : "tasks");
	fd = open(path, O_WRONLY | O_CLOEXEC);
	return fd < 0 ? err_system(err, -errno, "open %s", path) : fd;
}

int cgroup_home_open(const struct cgroup_layout *l, int fd_min, struct cgroup_home *ret, struct err *err)
{
	struct cgroup_home home = {.n = 0};
	char dir[CGROUP_PATH_MAX];
	int r = 0;

	for (unsigned h = 0; r >= 0 && h < l->n; h++) {
		if (!cgroup_used(l, h))
			continue;
		CLEANUP_FD int fd = -1;

		r = cgroup_dir_in(l, getpid(), h, dir, sizeof dir, err);
		if (r == 0)
			r = fd = open_members(l, h, dir, err);
		if (fd >= 0)
			r = home.fd[home.n++] = fcntl(fd, F_DUPFD_CLOEXEC, fd_min);
	}
	if (r < 0) {
		cgroup_home_close(&home);
		return r;
	}
	*ret = home;
	return 0;
}

void cgroup_home_close(struct cgroup_home *h)
{
	while (h->n > 0)
		fd_close(&h->fd[--h->n]);
}

void cgroup_go_home(const struct cgroup_home *h)
{
	for (unsigned i = 0; i < h->n; i++)
		(void)!write(h->fd[i], "0", 1);
}

static bool enter_v1(const struct cgroup_home *groups)
{
	for (unsigned i = 0; i < groups->n; i++) {
		if (write(groups->fd[i], "0", 1) != 1)
			return false;
	}
	return true;
}

static pid_t fork_into(int group)
{
	struct clone_args args = {.exit_signal = SIGCHLD};

	if (group < 0)
		return fork();
	args.flags = CLONE_INTO_CGROUP;
	args.cgroup = (unsigned)group;
	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

pid_t cgroup_fork(const struct cgroup_layout *l, const char *container, struct err *err)
{
	struct cgroup_home v1 = {.n = 0};
	CLEANUP_FD int v2 = -1;
	char dir[CGROUP_PATH_MAX];
	pid_t pid = -1;
	int r = 0;

	for (unsigned h = 0; r >= 0 && h < l->n; h++) {
		if (!cgroup_used(l, h))
			continue;
		r = cgroup_own_dir(l, h, container, dir, sizeof dir, err);
		if (r < 0)
			break;
		if (l->h[h].v2) {
			v2 = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			r = v2 < 0 ? err_system(err, -errno, "open %s", dir) : 0;
			continue;
		}
		r = open_members(l, h, dir, err);
		if (r >= 0)
			v1.fd[v1.n++] = r;
	}
	if (r >= 0)
		pid = fork_into(v2);
	if (pid == 0 && !enter_v1(&v1))
		_exit(1);
	if (r >= 0 && pid < 0)
		err_system(err, -errno, "fork");
	cgroup_home_close(&v1);
	return pid;
}
