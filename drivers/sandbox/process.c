#include "process.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

#define FIELD_START_TIME 22 /* of proc(5)'s stat */

uint64_t process_start(pid_t pid)
{
	CLEANUP_BUF struct buf b = {0};
	char path[64], *at;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (fd_read_file(path, 4096, &b, NULL) < 0)
		return 0;
	/* The name, in parentheses, may hold anything; the third field follows the last one. */
	at = strrchr((char *)(uintptr_t)buf_cstr(&b), ')');
	for (int field = 2; at != NULL && field < FIELD_START_TIME; field++) {
		at = strchr(at, ' ');
		if (at != NULL)
			at++;
	}
	return at == NULL ? 0 : strtoull(at, NULL, 10);
}

int process_open(pid_t pid, uint64_t start)
{
	int fd;

	if (pid <= 0)
		return -ESRCH;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0)
		return -errno;
	if (start == 0 || process_start(pid) != start) {
		close(fd);
		return -ESRCH;
	}
	return fd;
}

bool process_wait(int pidfd, uint32_t timeout_ms)
{
	struct pollfd p = {pidfd, POLLIN, 0};
	uint64_t end = clock_boot_ms() + timeout_ms;

	if (pidfd < 0)
		return true;
	for (;;) {
		uint64_t now = clock_boot_ms();
		int n = poll(&p, 1, now >= end ? 0 : (int)(end - now));

		if (n > 0)
			return true;
		if (n == 0 && clock_boot_ms() >= end)
			return false;
	}
}
