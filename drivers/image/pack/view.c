/* The three mounts are copied while the descriptors still belong to this process' own mount namespace, then put into a small tmpfs in
 * a new one, which becomes the root. */
#include "image_pack/view.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/mount.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/fd.h"

#define PLACE "/tmp" /* where the tmpfs is put together, in a namespace where nobody else sees it */

static int copy_mount(int fd, const char *path, uint64_t flags, int *ret, struct err *err)
{
	struct mount_attr attr = {.attr_set = flags | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV};
	CLEANUP_FD int tree =
		(int)syscall(SYS_open_tree, fd, path, OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_EMPTY_PATH);

	if (tree < 0)
		return err_system(err, -errno, "open_tree");
	if (syscall(SYS_mount_setattr, tree, "", AT_EMPTY_PATH, &attr, sizeof attr) < 0)
		return err_system(err, -errno, "mount_setattr");
	*ret = fd_take(&tree);
	return 0;
}

static int put(int tree, const char *at, struct err *err)
{
	return syscall(SYS_move_mount, tree, "", AT_FDCWD, at, MOVE_MOUNT_F_EMPTY_PATH) < 0
		       ? err_system(err, -errno, "mount %s", at)
		       : 0;
}

static int make_place(struct err *err)
{
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("view", PLACE, "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=0755") < 0 || chdir(PLACE) < 0)
		return err_system(err, -errno, "a mount namespace");
	CLEANUP_FD int file = open("disk", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (file < 0 || mkdir("usr", 0755) < 0 || mkdir("image", 0700) < 0 || symlink("usr/lib", "lib") < 0 ||
	    symlink("usr/lib64", "lib64") < 0)
		return err_system(err, -errno, "fill %s", PLACE);
	return 0;
}

int view_enter(int image_fd, int disk_fd, struct err *err)
{
	CLEANUP_FD int image = -1, disk = -1, usr = -1;
	int r = copy_mount(image_fd, "", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOEXEC, &image, err);

	if (r == 0)
		r = copy_mount(disk_fd, "", MOUNT_ATTR_NOEXEC, &disk, err);
	if (r == 0)
		r = copy_mount(AT_FDCWD, "/usr", MOUNT_ATTR_RDONLY, &usr, err);
	if (r == 0)
		r = make_place(err);
	if (r == 0)
		r = put(image, "image", err);
	if (r == 0)
		r = put(disk, "disk", err);
	if (r == 0)
		r = put(usr, "usr", err);
	if (r == 0 &&
	    (syscall(SYS_pivot_root, ".", ".") < 0 || umount2(".", MNT_DETACH) < 0 || chdir("/") < 0 ||
	     mount(NULL, "/", NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) < 0))
		r = err_system(err, -errno, "pivot_root");
	return r;
}
