#include "boot.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/fd.h"
#include "libvirt_guest/initramfs.h"

#define PAGE_BYTES 4096u
#define SHM_MAX    (64u << 20) /* as a container's */
#define LIST_MAX   4096

struct mounted {
	const char *type, *at, *options;
	unsigned long flags;
};

static int make_mounts(const struct mounted *all, size_t n, struct err *err)
{
	for (size_t i = 0; i < n; i++) {
		if (mkdir(all[i].at, 0755) != 0 && errno != EEXIST)
			return err_system(err, -errno, "mkdir %s", all[i].at);
		if (mount(all[i].type, all[i].at, all[i].type, all[i].flags, all[i].options) != 0)
			return err_system(err, -errno, "mount %s on %s", all[i].type, all[i].at);
	}
	return 0;
}

int boot_write(const char *path, const char *text)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	return fd < 0 ? -errno : fd_write_all(fd, text, strlen(text));
}

/* -- The kernel ----------------------------------------------------------------------------------------------- */

static int load_module(const char *name, struct err *err)
{
	char path[128];

	snprintf(path, sizeof path, INITRAMFS_MODULES "/%s", name);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	/* ENODEV: faster code for another processor. */
	if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST && errno != ENODEV))
		return err_system(err, -errno, "load %s", path);
	unlink(path); /* it is memory */
	return 0;
}

static int load_modules(struct err *err)
{
	CLEANUP_BUF struct buf list = {0};
	struct str rest, line;
	int r = fd_read_file(INITRAMFS_MODULE_LIST, LIST_MAX, &list, err);

	rest = buf_str(&list);
	while (r == 0 && rest.n > 0) {
		char name[64];

		str_cut(rest, '\n', &line, &rest);
		if (line.n > 0 && str_copy(line, name, sizeof name) == 0)
			r = load_module(name, err);
	}
	return r;
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR);

	for (int to = 0; fd >= 0 && to < 3; to++)
		dup2(fd, to);
	if (fd > 2)
		close(fd);
}

int boot_kernel(struct err *err)
{
	static const struct mounted all[] = {
		{"devtmpfs", "/dev", NULL, MS_NOSUID},
		{"proc", "/proc", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"sysfs", "/sys", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
		{"cgroup2", "/cg", NULL, MS_NOSUID | MS_NODEV | MS_NOEXEC},
	};
	int r = make_mounts(all, sizeof all / sizeof *all, err);

	if (r < 0)
		return r;
	open_console();
	/* A kernel that is broken ends its machine at once, and whoever watches sees it. */
	boot_write("/proc/sys/kernel/panic", "-1");
	boot_write("/proc/sys/kernel/panic_on_oops", "1");
	boot_write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
	boot_write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
	r = load_modules(err);
	if (r == 0 && boot_write("/cg/cgroup.subtree_control", "+pids +memory") < 0)
		r = err_set(err, -ENOSYS, "no cgroups for pids and memory");
	if (r == 0 && mkdir(BOOT_GROUP, 0755) != 0)
		r = err_system(err, -errno, "mkdir " BOOT_GROUP);
	return r;
}

/* -- The image's root ------------------------------------------------------------------------------------------ */

static int mount_root(struct err *err)
{
	static const struct mounted layers[] = {
		{"tmpfs", "/up", "mode=0711", MS_NOSUID | MS_NODEV},
	};
	int r;

	mkdir("/lo", 0755);
	mkdir(BOOT_ROOT, 0755);
	if (mount(INITRAMFS_DISK, "/lo", "erofs", MS_RDONLY | MS_NOSUID | MS_NODEV, "") != 0)
		return err_system(err, -errno, "mount the image's disk");
	r = make_mounts(layers, 1, err);
	if (r < 0)
		return r;
	mkdir("/up/upper", 0755);
	mkdir("/up/work", 0700);
	if (mount("overlay", BOOT_ROOT, "overlay", MS_NOSUID | MS_NODEV,
		  "lowerdir=/lo,upperdir=/up/upper,workdir=/up/work,volatile") != 0)
		return err_system(err, -errno, "mount the image's root");
	return 0;
}

static int make_devices(struct err *err)
{
	static const struct {
		const char *path;
		unsigned major, minor;
	} nodes[] = {{"null", 1, 3},   {"zero", 1, 5},    {"full", 1, 7},
		     {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}};
	static const char *const links[][2] = {{"/proc/self/fd", "fd"},
					       {"/proc/self/fd/0", "stdin"},
					       {"/proc/self/fd/1", "stdout"},
					       {"/proc/self/fd/2", "stderr"},
					       {"pts/ptmx", "ptmx"}};
	char path[64];

	umask(0);
	for (size_t i = 0; i < sizeof nodes / sizeof *nodes; i++) {
		snprintf(path, sizeof path, BOOT_ROOT "/dev/%s", nodes[i].path);
		if (mknod(path, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)) != 0)
			return err_system(err, -errno, "mknod %s", path);
	}
	for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
		snprintf(path, sizeof path, BOOT_ROOT "/dev/%s", links[i][1]);
		(void)!symlink(links[i][0], path);
	}
	umask(022);
	return 0;
}

/* Settings of the kernel are not for the image, as in a container. */
static int protect(const char *path, struct err *err)
{
	if (mount(path, path, NULL, MS_BIND, NULL) != 0 ||
	    mount(NULL, path, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV | MS_NOEXEC,
		  NULL) != 0)
		return err_system(err, -errno, "make %s read-only", path);
	return 0;
}

static int mount_inside(struct err *err)
{
	char shm[96];
	struct sysinfo info;
	uint64_t bytes = sysinfo(&info) == 0 ? (uint64_t)info.totalram * info.mem_unit / 4 : SHM_MAX;
	unsigned long none = MS_NOSUID | MS_NODEV | MS_NOEXEC;
	int r;

	snprintf(shm, sizeof shm, "mode=1777,size=%" PRIu64 ",nr_inodes=16384",
		 bytes < SHM_MAX ? bytes : SHM_MAX);
	const struct mounted first[] = {
		{"proc", BOOT_ROOT "/proc", NULL, none},
		{"sysfs", BOOT_ROOT "/sys", NULL, none | MS_RDONLY},
		{"tmpfs", BOOT_ROOT "/dev", "mode=0755,size=512k,nr_inodes=1024", MS_NOSUID | MS_NOEXEC},
		{"devpts", BOOT_ROOT "/dev/pts", "newinstance,ptmxmode=0666,mode=0620,gid=5,max=16",
		 MS_NOSUID | MS_NOEXEC},
		{"mqueue", BOOT_ROOT "/dev/mqueue", NULL, none},
		{"tmpfs", BOOT_ROOT "/dev/shm", shm, MS_NOSUID | MS_NODEV},
	};

	r = make_mounts(first, sizeof first / sizeof *first, err);
	if (r == 0)
		r = make_devices(err);
	if (r == 0)
		r = protect(BOOT_ROOT "/proc/sys", err);
	if (r == 0)
		r = protect(BOOT_ROOT "/proc/sysrq-trigger", err);
	return r;
}

int boot_root(int disk_ms, struct err *err)
{
	static bool done;
	int r;

	if (done)
		return 0;
	for (int ms = 0; access(INITRAMFS_DISK, F_OK) != 0; ms++) {
		if (ms >= disk_ms)
			return err_set(err, -ENODEV, "the machine has no disk with an image");
		usleep(1000);
	}
	r = mount_root(err);
	if (r == 0)
		r = mount_inside(err);
	done = r == 0;
	return r;
}

int boot_disk_bytes(uint64_t bytes, struct err *err)
{
	char options[96];

	/* As a container's: an inode is memory too. */
	snprintf(options, sizeof options, "size=%" PRIu64 ",nr_inodes=%" PRIu64, bytes, bytes / PAGE_BYTES);
	if (mount("tmpfs", "/up", "tmpfs", MS_REMOUNT | MS_NOSUID | MS_NODEV, options) != 0)
		return err_system(err, -errno, "writable layer of %" PRIu64 " bytes", bytes);
	return 0;
}

int boot_enter_root(struct err *err)
{
	if (unshare(CLONE_NEWNS) != 0 || chdir(BOOT_ROOT) != 0 || mount(".", "/", NULL, MS_MOVE, NULL) != 0 ||
	    chroot(".") != 0 || chdir("/") != 0)
		return err_system(err, -errno, "enter the image's root");
	return 0;
}
