/* See listener.h. */
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
#include "loop/stream_internal.h"

#define BACKLOG         4096
#define ACCEPT_PAUSE_MS 100

struct listener {
	struct loop *loop;
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} u;
	struct tls_ctx *tls;
	listener_accept *accept;
	void *arg;
	struct loop_timer retry;
	char path[sizeof((struct sockaddr_un *)0)->sun_path];
	bool closing;
};

static void refused(uv_handle_t *handle)
{
	struct stream *s = handle->data;

	tls_session_free(s->tls);
	free(s);
}

static void connection(uv_stream_t *server, int status)
{
	struct listener *l = server->data;
	struct stream *s;

	if (l->closing)
		return;
	if (status < 0) {
		if (status == UV_EMFILE || status == UV_ENFILE || status == UV_ENOBUFS || status == UV_ENOMEM)
			loop_timer_set(l->loop, &l->retry, ACCEPT_PAUSE_MS);
		return;
	}
	s = stream_make(l->loop, l->path[0] ? AF_UNIX : AF_INET, l->tls, NULL);
	if (!s)
		return; /* stays unaccepted in uv: the timer below tries again */
	if (uv_accept(server, &s->u.stream)) {
		uv_close(&s->u.handle, refused);
		return;
	}
	stream_started(s);
	l->accept(s, l->arg);
}

/* libuv stops at EMFILE until the listening starts anew. */
static void listen_again(struct loop_timer *timer)
{
	struct listener *l = container_of(timer, struct listener, retry);

	if (!l->closing)
		uv_listen(&l->u.stream, BACKLOG, connection);
}

static void closed(uv_handle_t *handle)
{
	struct listener *l = handle->data;

	tls_ctx_unref(l->tls);
	free(l);
}

static struct listener *make(struct loop *loop, struct tls_ctx *tls, listener_accept *accept, void *arg)
{
	struct listener *l = calloc(1, sizeof *l);

	if (!l)
		return NULL;
	l->loop = loop;
	l->tls = tls ? tls_ctx_ref(tls) : NULL;
	l->accept = accept;
	l->arg = arg;
	l->retry.fire = listen_again;
	l->u.handle.data = l;
	return l;
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
	struct listener *l;
	int r, fd = bound_socket(address, err);

	if (fd < 0)
		return fd;
	l = make(loop, tls, accept, arg);
	if (!l) {
		close(fd);
		return err_set(err, -ENOMEM, "listen: no memory");
	}
	uv_tcp_init(&loop->uv, &l->u.tcp);
	r = uv_tcp_open(&l->u.tcp, fd);
	if (r)
		close(fd);
	else
		r = uv_listen(&l->u.stream, BACKLOG, connection);
	if (r) {
		listener_close(l);
		return err_system(err, r, "listen");
	}
	*ret = l;
	return 0;
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
	struct listener *l;
	struct stat st;
	int r;

	if (strlen(path) >= sizeof l->path)
		return err_set(err, -ENAMETOOLONG, "listen on %s: at most %zu bytes", path,
			       sizeof l->path - 1);
	if (lstat(path, &st) == 0 && S_ISSOCK(st.st_mode))
		unlink(path);
	l = make(loop, NULL, accept, arg);
	if (!l)
		return err_set(err, -ENOMEM, "listen: no memory");
	uv_pipe_init(&loop->uv, &l->u.pipe, 0);
	r = uv_pipe_bind(&l->u.pipe, path);
	if (r) {
		err_system(err, r, "listen on %s", path);
		listener_close(l);
		return r;
	}
	memcpy(l->path, path, strlen(path) + 1);
	r = unix_set_access(path, mode, group, err);
	if (!r) {
		r = uv_listen(&l->u.stream, BACKLOG, connection);
		if (r)
			err_system(err, r, "listen on %s", path);
	}
	if (r) {
		listener_close(l);
		return r;
	}
	*ret = l;
	return 0;
}

uint16_t listener_port(const struct listener *l)
{
	struct sockaddr_storage a;
	int size = sizeof a;

	if (l->path[0] || uv_tcp_getsockname(&l->u.tcp, (struct sockaddr *)&a, &size))
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
	uv_close(&l->u.handle, closed);
}
