#include "lease/lease_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

struct on_disk {
	char boot[CLOCK_BOOT_ID_SIZE];
	struct lease_file lease;
};

int lease_file_read(const char *path, struct lease_file *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	struct on_disk disk;
	char boot[CLOCK_BOOT_ID_SIZE];
	int r = fd_read_file(path, sizeof disk, &b, err);

	*ret = (struct lease_file){0};
	if (r == -ENOENT || (r == 0 && b.n == 0))
		return 0;
	if (r < 0)
		return r;
	if (b.n != sizeof disk)
		return err_set(err, -EUCLEAN, "%s: %zu bytes, not %zu", path, b.n, sizeof disk);
	memcpy(&disk, b.p, sizeof disk);
	clock_boot_id(boot);
	if (memcmp(boot, disk.boot, sizeof boot) == 0)
		*ret = disk.lease;
	return 0;
}

int lease_file_open(const char *path, int *ret_fd, struct err *err)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

	if (fd < 0)
		return err_system(err, -errno, "%s", path);
	*ret_fd = fd;
	return 0;
}

int lease_file_write(int fd, const struct lease_file *lease)
{
	struct on_disk disk = {.lease = *lease};

	clock_boot_id(disk.boot);
	return pwrite(fd, &disk, sizeof disk, 0) == (ssize_t)sizeof disk ? 0 : -EIO;
}
