/* See listener.h. The socket is polled and accepted from by hand: libuv 1.44's own accepting calls back without end, and
 * serves nobody else, when descriptors ran out and another thread took the one that it keeps for that case. */
#include "loop/listener.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>
#include <netinet/in.h>

#include "core/fd.h"
#include "core/map.h"
#include "core/str.h"

#define BACKLOG         4096
#define ACCEPT_PAUSE_MS 100
#define ACCEPTS_A_TURN  64 /* so that those who are connected are served too */

struct listener {
	struct loop *loop;
	uv_poll_t poll;
	int fd;
	struct tls_ctx *tls;
	listener_accept *accept;
	void *arg;
	struct loop_timer retry;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
	bool closing;
};

/* False: nothing more can be accepted now. */
static bool accept_one(struct listener *l)
{
	int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct stream *s;

	if (fd < 0 && (errno == ECONNABORTED || errno == EINTR || errno == EPROTO))
		return true;
	if (fd < 0) {
		if (errno != EAGAIN) { /* no descriptors, no memory: what waits stays in the kernel */
			uv_poll_stop(&l->poll);
			loop_timer_set(l->loop, &l->retry, ACCEPT_PAUSE_MS);
		}
		return false;
	}
	if (stream_adopt(l->loop, fd, l->tls, NULL, NULL, &s, NULL))
		close(fd);
	else
		l->accept(s, l->arg);
	return true;
}

static void connections(uv_poll_t *poll, int status, int events)
{
	struct listener *l = poll->data;

	(void)status, (void)events;
	for (int i = 0; i < ACCEPTS_A_TURN && !l->closing; i++)
		if (!accept_one(l))
			break;
}

static void poll_again(struct listener *l)
{
	uv_poll_start(&l->poll, UV_READABLE, connections);
}

static void retry(struct loop_timer *timer)
{
	struct listener *l = container_of(timer, struct listener, retry);

	if (!l->closing)
		poll_again(l);
}

static void closed(uv_handle_t *handle)
{
	struct listener *l = handle->data;

	close(l->fd);
	tls_ctx_unref(l->tls);
	free(l);
}

/* Takes the bound socket; on failure it is closed. */
static int make(struct loop *loop, int fd, struct tls_ctx *tls, listener_accept *accept, void *arg,
		struct listener **ret, struct err *err)
{
	struct listener *l = calloc(1, sizeof *l);
	int r = l ? 0 : -ENOMEM;

	if (!r && listen(fd, BACKLOG) < 0)
		r = -errno;
	if (!r)
		r = uv_poll_init(&loop->uv, &l->poll, fd);
	if (r) {
		free(l);
		close(fd);
		return err_system(err, r, "listen");
	}
	l->loop = loop;
	l->fd = fd;
	l->tls = tls ? tls_ctx_ref(tls) : NULL;
	l->accept = accept;
	l->arg = arg;
	l->retry.fire = retry;
	l->poll.data = l;
	poll_again(l);
	*ret = l;
	return 0;
}

static int bound_socket(const struct sockaddr *address, struct err *err)
{
	socklen_t size =
		address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
	CLEANUP_FD int fd = socket(address->sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int on = 1;

	if (fd < 0)
		return err_system(err, -errno, "listen: socket");
	if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) < 0)
		return err_system(err, -errno, "listen: SO_REUSEPORT");
	if (bind(fd, address, size) < 0)
		return err_system(err, -errno, "listen: bind");
	return fd_take(&fd);
}

int listener_tcp(struct loop *loop, const struct sockaddr *address, struct tls_ctx *tls,
		 listener_accept *accept, void *arg, struct listener **ret, struct err *err)
{
	int fd = bound_socket(address, err);

	return fd < 0 ? fd : make(loop, fd, tls, accept, arg, ret, err);
}

static int unix_set_access(const char *path, unsigned mode, gid_t group, struct err *err)
{
	if (group != (gid_t)-1 && chown(path, (uid_t)-1, group) < 0)
		return err_system(err, -errno, "listen on %s: chown", path);
	if (chmod(path, mode) < 0)
		return err_system(err, -errno, "listen on %s: chmod", path);
	return 0;
}

int listener_unix(struct loop *loop, const char *path, unsigned mode, gid_t group, listener_accept *accept,
		  void *arg, struct listener **ret, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = -1;
	struct stat st;
	int r;

	if (str_copy(str_of(path), address.sun_path, sizeof address.sun_path))
		return err_set(err, -ENAMETOOLONG, "listen on %s: at most %zu bytes", path,
			       sizeof address.sun_path - 1);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return err_system(err, -errno, "listen on %s", path);
	r = unix_set_access(path, mode, group, err);
	if (!r)
		r = make(loop, fd_take(&fd), NULL, accept, arg, ret, err);
	if (r)
		unlink(path);
	else
		memcpy((*ret)->path, address.sun_path, sizeof address.sun_path);
	return r;
}

uint16_t listener_port(const struct listener *l)
{
	struct sockaddr_storage a;
	socklen_t size = sizeof a;

	if (l->path[0] || getsockname(l->fd, (struct sockaddr *)&a, &size) < 0)
		return 0;
	if (a.ss_family == AF_INET6)
		return ntohs(((struct sockaddr_in6 *)&a)->sin6_port);
	return ntohs(((struct sockaddr_in *)&a)->sin_port);
}

void listener_close(struct listener *l)
{
	if (l->closing)
		return;
	l->closing = true;
	loop_timer_clear(l->loop, &l->retry);
	if (l->path[0])
		unlink(l->path);
	uv_close((uv_handle_t *)&l->poll, closed);
}
