/* files.c -- the kernel's files, devices, and the host's file system. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "attempt.h"

static int open_to_write(const struct attempt *a)
{
	int fd = open(a->what, O_WRONLY | O_CLOEXEC);

	return outcome(fd);
}

/* Some may be opened and then refuse to be read. */
static int open_to_read(const struct attempt *a)
{
	char byte;
	int fd = open(a->what, O_RDONLY | O_CLOEXEC | O_NONBLOCK);

	return fd < 0 ? outcome(-1) : outcome(read(fd, &byte, 1));
}

#define WRITE(path)                                                     \
	{                                                               \
		path, open_to_write, "EACCES EPERM EROFS ENOENT", NULL, \
		{                                                       \
			0                                               \
		}                                                       \
	}
#define READ(path)                                               \
	{                                                        \
		path, open_to_read, "EACCES EPERM ENOENT", NULL, \
		{                                                \
			0                                        \
		}                                                \
	}

static const struct attempt written[] = {
	WRITE("/proc/sysrq-trigger"),
	WRITE("/proc/sys/kernel/core_pattern"),
	WRITE("/proc/sys/kernel/modprobe"),
	WRITE("/proc/sys/kernel/hotplug"),
	WRITE("/proc/sys/kernel/sysrq"),
	WRITE("/proc/sys/kernel/panic"),
	WRITE("/proc/sys/kernel/panic_on_oops"),
	WRITE("/proc/sys/kernel/hostname"),
	WRITE("/proc/sys/kernel/domainname"),
	WRITE("/proc/sys/kernel/randomize_va_space"),
	WRITE("/proc/sys/kernel/kptr_restrict"),
	WRITE("/proc/sys/kernel/dmesg_restrict"),
	WRITE("/proc/sys/kernel/perf_event_paranoid"),
	WRITE("/proc/sys/kernel/unprivileged_bpf_disabled"),
	WRITE("/proc/sys/kernel/yama/ptrace_scope"),
	WRITE("/proc/sys/kernel/usermodehelper/bset"),
	WRITE("/proc/sys/kernel/keys/maxkeys"),
	WRITE("/proc/sys/vm/drop_caches"),
	WRITE("/proc/sys/vm/overcommit_memory"),
	WRITE("/proc/sys/vm/panic_on_oom"),
	WRITE("/proc/sys/vm/mmap_min_addr"),
	WRITE("/proc/sys/fs/file-max"),
	WRITE("/proc/sys/fs/suid_dumpable"),
	WRITE("/proc/sys/fs/protected_symlinks"),
	WRITE("/proc/sys/fs/binfmt_misc/register"),
	WRITE("/proc/sys/fs/aio-max-nr"),
	WRITE("/proc/sys/fs/inotify/max_user_watches"),
	WRITE("/proc/sys/dev/tty/ldisc_autoload"),
	WRITE("/proc/sys/net/core/bpf_jit_enable"),
	WRITE("/proc/irq/default_smp_affinity"),
	WRITE("/proc/mtrr"),
	WRITE("/proc/scsi/scsi"),
	WRITE("/proc/acpi/wakeup"),
	WRITE("/proc/latency_stats"),
	WRITE("/sys/kernel/uevent_helper"),
	WRITE("/sys/kernel/profiling"),
	WRITE("/sys/kernel/mm/ksm/run"),
	WRITE("/sys/kernel/mm/transparent_hugepage/enabled"),
	WRITE("/sys/kernel/kexec_crash_size"),
	WRITE("/sys/power/state"),
	WRITE("/sys/class/mem/null/uevent"),
	WRITE("/sys/block/vda/queue/scheduler"),
	WRITE("/sys/fs/cgroup/release_agent"),
	WRITE("/sys/fs/cgroup/notify_on_release"),
	WRITE("/sys/fs/cgroup/cgroup.procs"),
	WRITE("/sys/fs/cgroup/memory/release_agent"),
	WRITE("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
	WRITE("/sys/fs/cgroup/devices/devices.allow"),
	WRITE("/sys/kernel/debug/tracing/trace"),
	WRITE("/sys/kernel/tracing/kprobe_events"),
	WRITE("/sys/firmware/efi/efivars"),
	WRITE("/sys/fs/selinux/enforce"),
	WRITE("/sys/kernel/security/apparmor/.load"),
};
const struct group group_writes = {"Kernel files, opened for writing", written,
				   sizeof written / sizeof *written};

/* Names are for all to read; addresses are zeros. */
static int addresses(const struct attempt *a)
{
	char line[512], *end;
	FILE *f = fopen(a->what, "re");

	if (f == NULL)
		return -errno;
	while (fgets(line, sizeof line, f) != NULL) {
		if (strtoull(line, &end, 16) != 0 && *end == ' ')
			return 0;
	}
	return -EACCES;
}

/* The owner of another user namespace is shown as nobody, 65534. */
static int foreign_keys(const struct attempt *a)
{
	char line[512], owner[16];
	FILE *f = fopen(a->what, "re");

	if (f == NULL)
		return -errno;
	while (fgets(line, sizeof line, f) != NULL) {
		if (sscanf(line, "%*s %*s %*s %*s %*s %15s", owner) == 1 && atoi(owner) == 65534)
			return 0;
	}
	return -EACCES;
}

static int host_file(const struct attempt *a)
{
	char path[512];

	snprintf(path, sizeof path, "%s%s", a->what, told("BERTH_MARKER"));
	return open_to_read(&(struct attempt){.what = path});
}

/* Out of a chroot with a descriptor from before: as far up as it goes. */
static int chroot_escape(const struct attempt *a)
{
	int root = open("/", O_RDONLY | O_DIRECTORY);

	(void)a;
	mkdir("/tmp/chroot", 0755);
	if (chroot("/tmp/chroot") != 0)
		return -errno;
	if (fchdir(root) != 0)
		return -errno;
	for (int i = 0; i < 64; i++) {
		if (chdir("..") != 0)
			return -errno;
	}
	if (chroot(".") != 0)
		return -errno;
	return open_to_read(&(struct attempt){.what = told("BERTH_MARKER")});
}

static const struct attempt read_[] = {
	READ("/proc/kcore"),
	READ("/proc/kmsg"),
	READ("/proc/kpagecount"),
	READ("/proc/kpageflags"),
	READ("/proc/kpagecgroup"),
	READ("/proc/vmallocinfo"),
	READ("/proc/timer_list"),
	READ("/proc/sched_debug"),
	READ("/proc/slabinfo"),
	READ("/proc/latency_stats"),
	READ("/sys/firmware/dmi/tables/DMI"),
	READ("/sys/firmware/acpi/tables/DSDT"),
	READ("/sys/class/powercap/intel-rapl:0/energy_uj"),
	READ("/sys/kernel/debug/sched/debug"),
	READ("/sys/kernel/tracing/trace"),
	READ("/sys/kernel/security/lockdown"),
	READ("/sys/fs/cgroup/cgroup.procs"),
	READ("/sys/fs/cgroup/memory/tasks"),
	READ("/sys/fs/pstore/dmesg-efi-0"),
	{"/proc/kallsyms", addresses, "EACCES", NULL, {0}},
	{"/proc/keys", foreign_keys, "EACCES ENOENT", NULL, {0}},
	{"/proc/1/root", host_file, "ENOENT EACCES", NULL, {0}},
	{"/proc/self/cwd/../../../../../..", host_file, "ENOENT", NULL, {0}},
	{"/proc/self/task/1/root/..", host_file, "ENOENT EACCES", NULL, {0}},
	{"the host's files by a way out of chroot", chroot_escape, "ENOENT", "EPERM", {0}},
	READ("/run/docker.sock"),
	READ("/run/containerd/containerd.sock"),
	READ("/run/crio/crio.sock"),
	READ("/run/dbus/system_bus_socket"),
	READ("/run/systemd/private"),
	READ("/run/lxc/lock"),
	READ("/var/lib/berth"),
	READ("/run/berth"),
	READ("/var/run/secrets/kubernetes.io/serviceaccount/token"),
	READ("/etc/shadow"),
};
const struct group group_reads = {"Files, opened for reading", read_, sizeof read_ / sizeof *read_};

/* -- Devices ---------------------------------------------------------------------------------------------------- */

static int make_device(const struct attempt *a)
{
	static const char path[] = "/tmp/device";
	int r = outcome(syscall(SYS_mknodat, AT_FDCWD, path, a->n[0] | 0666,
				makedev((unsigned)a->n[1], (unsigned)a->n[2])));

	unlink(path);
	return r;
}

static const struct attempt devices[] = {
	{"mknod, a disk (block 254:0)", make_device, "EPERM", NULL, {S_IFBLK, 254, 0}},
	{"mknod, a disk (block 8:0)", make_device, "EPERM", NULL, {S_IFBLK, 8, 0}},
	{"mknod, a loop device", make_device, "EPERM", NULL, {S_IFBLK, 7, 0}},
	{"mknod, memory (char 1:1)", make_device, "EPERM", NULL, {S_IFCHR, 1, 1}},
	{"mknod, kmsg (char 1:11)", make_device, "EPERM", NULL, {S_IFCHR, 1, 11}},
	{"mknod, fuse (char 10:229)", make_device, "EPERM", NULL, {S_IFCHR, 10, 229}},
	{"mknod, a FIFO", make_device, "allowed", NULL, {S_IFIFO, 0, 0}},
	READ("/dev/mem"),
	READ("/dev/kmem"),
	READ("/dev/port"),
	READ("/dev/kmsg"),
	READ("/dev/fuse"),
	READ("/dev/loop-control"),
	READ("/dev/loop0"),
	READ("/dev/vda"),
	READ("/dev/sda"),
	READ("/dev/nvme0n1"),
	READ("/dev/dm-0"),
	READ("/dev/mapper/control"),
	READ("/dev/kvm"),
	READ("/dev/net/tun"),
	READ("/dev/vhost-net"),
	READ("/dev/vhost-vsock"),
	READ("/dev/vsock"),
	READ("/dev/userfaultfd"),
	READ("/dev/uinput"),
	READ("/dev/cpu/0/msr"),
	READ("/dev/autofs"),
	READ("/dev/btrfs-control"),
	READ("/dev/rtc0"),
	READ("/dev/nvram"),
	READ("/dev/watchdog"),
	READ("/dev/dri/card0"),
	READ("/dev/console/../tty1"),
	{"/dev/null", open_to_read, "allowed", NULL, {0}},
	{"/dev/urandom", open_to_read, "allowed", NULL, {0}},
	{"/dev/zero", open_to_read, "allowed", NULL, {0}},
};
const struct group group_devices = {"Devices", devices, sizeof devices / sizeof *devices};

/* -- What the kernel keeps by name ---------------------------------------------------------------------------------- */

static int own_file(const struct attempt *a)
{
	int fd = open(a->what, O_RDWR | O_CREAT | O_TRUNC, 0600), r;

	if (fd < 0)
		return -errno;
	r = outcome(write(fd, "x", 1));
	unlink(a->what);
	return r;
}

static int run_memory(const struct attempt *a)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)a;
	return p == MAP_FAILED ? -errno : 0;
}

static int own_memfd(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(SYS_memfd_create, "x", 0));
}

static const struct attempt own[] = {
	{"/tmp/own", own_file, "allowed", NULL, {0}},
	{"/dev/shm/own", own_file, "allowed", NULL, {0}},
	{"memfd_create", own_memfd, "allowed", NULL, {0}},
	{"memory to write and run, as just-in-time compilers do", run_memory, "allowed", NULL, {0}},
};
const struct group group_kernel = {"What has to work", own, sizeof own / sizeof *own};
