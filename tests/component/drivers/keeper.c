#include "keeper.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

struct found {
	struct driver_instance *list[64];
	unsigned n;
};

static void on_found(struct driver_instance *i, void *arg)
{
	struct found *f = arg;

	if (f->n < sizeof f->list / sizeof *f->list)
		f->list[f->n++] = i;
}

static void end_all(struct world *w)
{
	struct found found = {.n = 0};
	struct err err = {0};

	if (world_open_driver(w, &err) < 0 || world_adopt(w, on_found, &found, &err) < 0) {
		fprintf(stderr, "keeper: %s\n", err.message);
		return;
	}
	for (unsigned k = 0; k < found.n; k++) {
		w->driver->ops->kill(w->driver, found.list[k]);
		if (w->driver->ops->stop(w->driver, found.list[k], 0, &err) < 0)
			fprintf(stderr, "keeper: %s\n", err.message);
		w->driver->ops->release(w->driver, found.list[k]);
	}
	world_close_driver(w);
	world_end_libvirtd(w);
}

static void keep(struct world *w, int fd)
{
	char byte;

	signal(SIGPIPE, SIG_IGN);
	/* The test's output ends when the test does: whoever reads it does not wait for us. */
	if (!freopen("/dev/null", "w", stdout) || !freopen("/dev/null", "w", stderr))
		_exit(1);
	if (dup2(fd, 3) != 3 || close_range(4, ~0u, 0) != 0)
		_exit(1);
	while (read(3, &byte, 1) < 0 && errno == EINTR)
		continue;
	end_all(w);
	nftw(w->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	_exit(0);
}

int keeper_start(const struct world *w, int *ret_fd)
{
	int fds[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
		return -errno;
	pid_t child = fork();

	if (child < 0) {
		int r = -errno;

		close(fds[0]);
		close(fds[1]);
		return r;
	}
	if (child == 0) {
		struct world copy = *w;

		close(fds[0]);
		setsid();
		if (fork() == 0)
			keep(&copy, fds[1]);
		_exit(0);
	}
	waitpid(child, NULL, 0);
	close(fds[1]);
	*ret_fd = fds[0];
	return 0;
}

void keeper_end(int *fd)
{
	char byte;

	if (*fd < 0)
		return;
	/* Other processes that the test forked may hold a copy: closing would not be enough. */
	shutdown(*fd, SHUT_WR);
	while (read(*fd, &byte, 1) < 0 && errno == EINTR)
		continue;
	fd_close(fd);
}
