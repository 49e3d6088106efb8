#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define FIELD_START_TIME 22 /* of proc(5)'s stat */
#define FIRST_FD         3
#define FD_FLOOR         16

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

static void set_files(posix_spawn_file_actions_t *files, int report, const int *fds, unsigned n_fds)
{
	posix_spawn_file_actions_init(files);
	posix_spawn_file_actions_addopen(files, 0, "/dev/null", O_RDWR, 0);
	posix_spawn_file_actions_adddup2(files, 0, 1);
	posix_spawn_file_actions_adddup2(files, report < 0 ? 0 : report, 2);
	for (unsigned k = 0; k < n_fds; k++)
		posix_spawn_file_actions_adddup2(files, fds[k], FIRST_FD + (int)k);
	posix_spawn_file_actions_addclosefrom_np(files, FIRST_FD + (int)n_fds);
}

static void set_signals(posix_spawnattr_t *attr)
{
	sigset_t none, all;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawnattr_init(attr);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setsigdefault(attr, &all);
	posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

static int spawn(const char *path, char *const argv[], char *const env[], int report, const int *fds,
		 unsigned n_fds, pid_t *ret_pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	int r;

	set_files(&files, report, fds, n_fds);
	set_signals(&attr);
	r = posix_spawn(ret_pid, path, &files, &attr, argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&files);
	return -r;
}

int process_spawn(const char *path, char *const argv[], char *const env[], int report, const int *fds,
		  unsigned n_fds, pid_t *ret_pid)
{
	int high[PROCESS_FDS_MAX + 1], r = 0;
	unsigned n = 0;

	must(n_fds <= PROCESS_FDS_MAX);
	/* Above the numbers that they become, so that none replaces another. */
	for (; n <= n_fds && r == 0; n++) {
		int fd = n < n_fds ? fds[n] : report;

		high[n] = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, FD_FLOOR);
		r = fd >= 0 && high[n] < 0 ? -errno : 0;
	}
	if (r == 0)
		r = spawn(path, argv, env, high[n_fds], high, n_fds, ret_pid);
	while (n > 0)
		fd_close(&high[--n]);
	return r;
}
