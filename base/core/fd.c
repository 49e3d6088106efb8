#include "fd.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void fd_close(int *fd)
{
	int saved = errno;

	if (*fd >= 0)
		close(*fd);
	*fd = -1;
	errno = saved;
}

int fd_take(int *fd)
{
	int taken = *fd;

	*fd = -1;
	return taken;
}

int fd_write_all(int fd, const void *p, size_t n)
{
	const char *from = p;

	while (n > 0) {
		ssize_t wrote = write(fd, from, n);

		if (wrote < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		from += wrote;
		n -= (size_t)wrote;
	}
	return 0;
}

int fd_read_all(int fd, struct buf *b)
{
	for (;;) {
		char chunk[16384];
		ssize_t got = read(fd, chunk, sizeof chunk);

		if (got < 0) {
			if (errno == EINTR)
				continue;
			return -errno;
		}
		if (got == 0)
			return 0;
		buf_add(b, chunk, (size_t)got);
		if (buf_failed(b))
			return -EFBIG;
	}
}

int fd_read_file(const char *path, size_t max, struct buf *ret, struct err *err)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	CLEANUP_BUF struct buf b = BUF_MAX(max);
	int r;

	if (fd < 0)
		return err_system(err, -errno, "read %s", path);
	r = fd_read_all(fd, &b);
	if (r == -EFBIG)
		return err_set(err, r, "read %s: larger than %zu bytes", path, max);
	if (r < 0)
		return err_system(err, r, "read %s", path);
	*ret = b;
	b = (struct buf){0};
	return 0;
}

static int sync_directory_of(const char *path)
{
	char copy[PATH_MAX];

	if (strlen(path) >= sizeof copy)
		return -ENAMETOOLONG;
	strcpy(copy, path);
	CLEANUP_FD int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	return fd < 0 || fsync(fd) < 0 ? -errno : 0;
}

int fd_write_file(const char *path, unsigned mode, const void *p, size_t n, struct err *err)
{
	char temporary[PATH_MAX];

	if (snprintf(temporary, sizeof temporary, "%s.XXXXXX", path) >= (int)sizeof temporary)
		return err_set(err, -ENAMETOOLONG, "write %s: the path is too long", path);
	CLEANUP_FD int fd = mkostemp(temporary, O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "write %s", path);
	int r = fchmod(fd, mode) < 0 ? -errno : fd_write_all(fd, p, n);

	if (r == 0 && (fsync(fd) < 0 || rename(temporary, path) < 0))
		r = -errno;
	if (r < 0) {
		unlink(temporary);
		return err_system(err, r, "write %s", path);
	}
	r = sync_directory_of(path);
	return r < 0 ? err_system(err, r, "write %s: sync its directory", path) : 0;
}

int fd_set_nonblocking(int fd, int on)
{
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0)
		return -errno;
	flags = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
	return fcntl(fd, F_SETFL, flags) < 0 ? -errno : 0;
}

void mem_free(void *pointer_to_pointer)
{
	void *p;

	memcpy(&p, pointer_to_pointer, sizeof p);
	free(p);
}

int fd_make_directory(const char *path, unsigned mode, struct err *err)
{
	struct stat st;

	if (mkdir(path, mode) < 0 && errno != EEXIST)
		return err_system(err, -errno, "make %s", path);
	if (lstat(path, &st) < 0)
		return err_system(err, -errno, "stat %s", path);
	if (!S_ISDIR(st.st_mode) || st.st_uid != geteuid())
		return err_set(err, -EPERM, "%s: must be a directory that belongs to user %u", path,
			       geteuid());
	if (chmod(path, mode) < 0)
		return err_system(err, -errno, "change mode of %s", path);
	return 0;
}
