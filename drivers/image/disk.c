#include "image/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

static int remove_at(int parent, const char *name);

static int clear_at(int fd)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), r = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	if (d == NULL) {
		r = -errno;
		fd_close(&copy);
		return r;
	}
	while (r == 0 && (e = readdir(d)) != NULL) {
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = remove_at(fd, e->d_name);
	}
	closedir(d);
	return r;
}

/* Unpacked trees are at most NAMES_DEPTH_MAX deep, so the recursion is bounded. */
static int remove_at(int parent, const char *name)
{
	int r;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return -errno;
	CLEANUP_FD int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);

	if (fd < 0)
		return -errno;
	r = clear_at(fd);
	if (r < 0)
		return r;
	return unlinkat(parent, name, AT_REMOVEDIR) < 0 ? -errno : 0;
}

int disk_remove(const char *path, struct err *err)
{
	int r = remove_at(AT_FDCWD, path);

	return r < 0 ? err_system(err, r, "remove %s", path) : 0;
}

int disk_clear(const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = fd < 0 ? -errno : clear_at(fd);

	return r < 0 ? err_system(err, r, "clear %s", path) : 0;
}

int disk_sync(const char *path, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || syncfs(fd) < 0 ? err_system(err, -errno, "write %s to the disk", path) : 0;
}

int disk_sync_names(const char *directory, struct err *err)
{
	CLEANUP_FD int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? err_system(err, -errno, "write %s to the disk", directory) : 0;
}
