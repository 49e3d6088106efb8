/* shims.c -- see shims.h. Failure mode: the process is gone, say killed: it is begun again, once for each start. */
#include "shims.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"
#include "lxc_shim/pass_fd.h"
#include "lxc_shim/shim_config.h"
#include "sandbox/process.h"

_Static_assert(SHIM_FORKS_FD == 3, "the only descriptor that it is given");

struct shims {
	char bin_dir[256];
	pthread_mutex_t lock; /* one question and its answer at a time */
	pid_t pid;            /* -1: none */
	int sock;
};

static int begin(struct shims *s, struct err *err)
{
	char path[300], room[SHIM_NAME_ROOM], program[] = "berth-shim";
	char *const argv[] = {program, room, NULL};
	/* Its children share what the linker did before they were forked; nothing is left to do in each. */
	char *const env[] = {(char[]){"PATH=/usr/sbin:/usr/bin:/sbin:/bin"}, (char[]){"LD_BIND_NOW=1"}, NULL};
	CLEANUP_FD int theirs = -1;
	int pair[2], r;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return err_system(err, -errno, "socketpair");
	CLEANUP_FD int ours = pair[0];

	theirs = pair[1];
	memset(room, '-', sizeof room - 1);
	room[sizeof room - 1] = '\0';
	snprintf(path, sizeof path, "%s/berth-shim", s->bin_dir);
	r = process_spawn(path, argv, env, -1, &theirs, 1, &s->pid);
	if (r < 0) {
		s->pid = -1;
		return err_system(err, r, "run %s", path);
	}
	s->sock = fd_take(&ours);
	return 0;
}

/* It ends when its socket does, whoever else holds a copy of it; its children go on. */
static void end(struct shims *s)
{
	if (s->sock >= 0)
		shutdown(s->sock, SHUT_RDWR);
	fd_close(&s->sock);
	if (s->pid > 0)
		(void)!waitpid(s->pid, NULL, 0);
	s->pid = -1;
}

int shims_new(const char *bin_dir, struct shims **ret, struct err *err)
{
	struct shims *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return err_set(err, -ENOMEM, "shims: no memory");
	snprintf(s->bin_dir, sizeof s->bin_dir, "%s", bin_dir);
	pthread_mutex_init(&s->lock, NULL);
	s->sock = s->pid = -1;
	r = begin(s, err);
	if (r < 0) {
		shims_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void shims_free(struct shims *s)
{
	if (s == NULL)
		return;
	end(s);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static int ask(struct shims *s, const char *name, const int fds[PASS_FD_MAX], int32_t *ret_pid,
	       int ret_fds[PASS_FD_MAX], struct err *err)
{
	int r = s->pid < 0 ? begin(s, err) : 0;
	ssize_t n;

	if (r < 0)
		return r;
	r = pass_fd_send(s->sock, name, strlen(name), fds, PASS_FD_MAX);
	if (r < 0)
		return err_system(err, r, "ask for a shim");
	n = pass_fd_receive(s->sock, ret_pid, sizeof *ret_pid, ret_fds);
	if (n != (ssize_t)sizeof *ret_pid)
		return err_set(err, -ECONNRESET, "the process that makes shims is gone");
	return 0;
}

int shims_start(struct shims *s, const char *name, int config, int control, pid_t *ret_pid, int *ret_pidfd,
		struct err *err)
{
	const int fds[PASS_FD_MAX] = {config, control};
	int got[PASS_FD_MAX] = {-1, -1}, r;
	int32_t pid = 0;

	pthread_mutex_lock(&s->lock);
	r = ask(s, name, fds, &pid, got, err);
	if (r < 0) {
		end(s);
		r = ask(s, name, fds, &pid, got, err);
	}
	pthread_mutex_unlock(&s->lock);
	if (r < 0)
		return r;
	if (pid <= 0 || got[0] < 0)
		return err_system(err, pid < 0 ? pid : -EPROTO, "fork a shim");
	*ret_pid = pid;
	*ret_pidfd = got[0];
	return 0;
}
