#include "rootfs.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/mount.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"

#define PAGE_BYTES 4096u
#define SHM_MAX    (64u << 20)
#define SHM_INODES 16384u

static int write_map(pid_t pid, const char *which, uint32_t base, struct err *err)
{
	char path[64], map[64];
	int n = snprintf(map, sizeof map, "0 %u %u", base, SANDBOX_IDS), r;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, which);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "open %s", path);
	r = fd_write_all(fd, map, (size_t)n);
	return r < 0 ? err_system(err, r, "write \"%s\" to %s", map, path) : 0;
}

/* A user namespace whose id 0 is `base`: made by a child that lives only until the namespace is held by a descriptor. */
static int user_namespace(uint32_t base, int *ret_fd, struct err *err)
{
	char path[64];
	int r, fd;
	long pid = syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid < 0)
		return err_system(err, -errno, "clone(CLONE_NEWUSER)");
	if (pid == 0) {
		for (;;)
			pause();
	}
	snprintf(path, sizeof path, "/proc/%ld/ns/user", pid);
	r = write_map((pid_t)pid, "uid_map", base, err);
	if (r == 0)
		r = write_map((pid_t)pid, "gid_map", base, err);
	fd = r == 0 ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	if (r == 0 && fd < 0)
		r = err_system(err, -errno, "open %s", path);
	kill((pid_t)pid, SIGKILL);
	waitpid((pid_t)pid, NULL, 0);
	if (r == 0)
		*ret_fd = fd;
	return r;
}

static int mount_shifted(const char *from, const char *to, uint32_t base, struct err *err)
{
	CLEANUP_FD int ns = -1;
	CLEANUP_FD int tree = -1;
	int r = user_namespace(base, &ns, err);

	if (r < 0)
		return r;
	struct mount_attr attr = {.attr_set = MOUNT_ATTR_IDMAP | MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID |
					      MOUNT_ATTR_NODEV,
				  .userns_fd = (unsigned)ns};

	tree = (int)syscall(SYS_open_tree, AT_FDCWD, from, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC);
	if (tree < 0)
		return err_system(err, -errno, "open_tree %s", from);
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) != 0)
		return err_system(err, -errno, "shift the ids of %s (mount_setattr)", from);
	if (syscall(SYS_move_mount, tree, "", AT_FDCWD, to, MOVE_MOUNT_F_EMPTY_PATH) != 0)
		return err_system(err, -errno, "mount %s on %s", from, to);
	return 0;
}

static int make_dir(const char *path, mode_t mode, uint32_t owner, struct err *err)
{
	if (mkdir(path, mode) != 0 && errno != EEXIST)
		return err_system(err, -errno, "mkdir %s", path);
	if (chmod(path, mode) != 0 || chown(path, owner, owner) != 0)
		return err_system(err, -errno, "chown %s to %u", path, owner);
	return 0;
}

/* What a file system of memory holds at most, as it says itself. */
static int check_bounds(const char *path, uint64_t bytes, uint64_t inodes, struct err *err)
{
	struct statvfs s;

	if (statvfs(path, &s) != 0)
		return err_system(err, -errno, "statvfs %s", path);
	if ((uint64_t)s.f_blocks * s.f_frsize > bytes || s.f_blocks == 0 || s.f_files > inodes ||
	    s.f_files == 0)
		return err_set(err, -ERANGE,
			       "%s holds %" PRIu64 " bytes in %" PRIu64 " inodes, not %" PRIu64
			       " in %" PRIu64,
			       path, (uint64_t)s.f_blocks * s.f_frsize, (uint64_t)s.f_files, bytes, inodes);
	return 0;
}

static uint64_t shm_bytes(uint64_t memory_bytes)
{
	uint64_t bytes = memory_bytes / 4 < SHM_MAX ? memory_bytes / 4 : SHM_MAX;

	return bytes - bytes % PAGE_BYTES;
}

void rootfs_shm_entry(uint64_t memory_bytes, char *ret, size_t size)
{
	snprintf(ret, size,
		 "tmpfs dev/shm tmpfs rw,nosuid,nodev,mode=1777,size=%" PRIu64 ",nr_inodes=%u,create=dir 0 0",
		 shm_bytes(memory_bytes), SHM_INODES);
}

int rootfs_check_shm(pid_t pid, uint64_t memory_bytes, struct err *err)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/root/dev/shm", (int)pid);
	return check_bounds(path, shm_bytes(memory_bytes), SHM_INODES, err);
}

int rootfs_mount(const char *image, const char *dir, uint32_t uid_base, uint64_t disk_bytes, struct err *err)
{
	char lower[512], tmp[512], upper[600], work[600], root[512], options[2048];
	int r;

	if (strlen(dir) > 400)
		return err_set(err, -ENAMETOOLONG, "%s: path too long", dir);
	snprintf(lower, sizeof lower, "%s/lower", dir);
	snprintf(tmp, sizeof tmp, "%s/upper", dir);
	snprintf(root, sizeof root, "%s/root", dir);
	snprintf(upper, sizeof upper, "%s/upper", tmp);
	snprintf(work, sizeof work, "%s/work", tmp);
	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
		return err_system(err, -errno, "private mount namespace");
	r = mount_shifted(image, lower, uid_base, err);
	if (r < 0)
		return r;
	/* An inode is memory too, about a quarter of a page: without a bound empty files alone take all that there is. */
	snprintf(options, sizeof options, "size=%" PRIu64 ",nr_inodes=%" PRIu64 ",mode=0711", disk_bytes,
		 disk_bytes / PAGE_BYTES);
	if (mount("berth", tmp, "tmpfs", MS_NODEV | MS_NOSUID, options) != 0)
		return err_system(err, -errno, "mount tmpfs (%s) on %s", options, tmp);
	r = check_bounds(tmp, disk_bytes, disk_bytes / PAGE_BYTES, err);
	if (r == 0)
		r = make_dir(upper, 0755, uid_base, err);
	if (r == 0)
		r = make_dir(work, 0700, uid_base, err);
	if (r < 0)
		return r;
	snprintf(options, sizeof options, "lowerdir=%s,upperdir=%s,workdir=%s,volatile", lower, upper, work);
	if (mount("overlay", root, "overlay", MS_NODEV | MS_NOSUID, options) != 0)
		return err_system(err, -errno, "mount overlay (%s) on %s", options, root);
	return 0;
}
