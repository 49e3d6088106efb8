/* See stream.h. The write path: try the socket when nothing is queued, copy the tail into one uv_write.
 * Reads stay armed between messages; only back-pressure disarms them. */
#include "loop/stream_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>

#include "core/map.h"
#include "core/must.h"

#define IOV_MAX_HERE    8
#define FINISH_STALL_MS 30000
#define KEEP_ALIVE_S    1
/* Who took so much of a message, more than two nodes on the way hold, gets what the kernel likes. */
#define PROVEN_BYTES (3u << 20)

/* --- callbacks to the owner --- */

void stream_fail(struct stream *s, int error)
{
	if (s->failed || s->closing)
		return;
	s->failed = true;
	if (s->armed)
		uv_read_stop(&s->u.stream);
	s->armed = false;
	if (s->finishing)
		stream_close(s);
	else if (s->ops && s->ops->on_error)
		s->ops->on_error(s, s->arg, error);
}

void stream_ended(struct stream *s)
{
	if (s->eof || s->closing || s->failed)
		return;
	s->eof = true;
	if (s->finishing)
		stream_close(s);
	else if (s->ops && s->ops->on_eof)
		s->ops->on_eof(s, s->arg);
}

static void drained(struct stream *s)
{
	if (s->closing || !s->drain_due || stream_queued(s))
		return;
	s->drain_due = false;
	if (!s->finishing && s->ops && s->ops->on_drain)
		s->ops->on_drain(s, s->arg);
}

/* --- writing --- */

static void set_option(struct stream *s, int level, int option, int value)
{
	uv_os_fd_t fd;

	if (s->peer.ss_family != AF_UNIX && uv_fileno(&s->u.handle, &fd) == 0)
		setsockopt(fd, level, option, &value,
			   sizeof value); /* without it all works, only less well */
}

static void set_wide(struct stream *s, bool wide)
{
	s->wide = wide;
	set_option(s, IPPROTO_TCP, TCP_NOTSENT_LOWAT, wide ? 0 : (int)s->unsent_max); /* 0: the system's */
}

void stream_message(struct stream *s)
{
	s->message_at = s->written;
	if (s->wide)
		set_wide(s, false);
}

struct pending_write {
	uv_write_t request;
	char bytes[];
};

static void write_done(uv_write_t *request, int status)
{
	struct stream *s = request->handle->data;

	free(request);
	if (s->closing)
		return;
	if (status < 0)
		stream_fail(s, status);
	else
		drained(s);
}

static int queue_tail(struct stream *s, const uv_buf_t *bufs, unsigned n, size_t skip)
{
	size_t total = 0, at = 0;

	for (unsigned i = 0; i < n; i++)
		total += bufs[i].len;
	struct pending_write *w = malloc(sizeof *w + total - skip);
	if (!w)
		return -ENOMEM;
	for (unsigned i = 0; i < n; i++) {
		size_t cut = skip < bufs[i].len ? skip : bufs[i].len;
		memcpy(w->bytes + at, bufs[i].base + cut, bufs[i].len - cut);
		at += bufs[i].len - cut;
		skip -= cut;
	}
	uv_buf_t one = uv_buf_init(w->bytes, (unsigned)at);
	int r = uv_write(&w->request, &s->u.stream, &one, 1, write_done);
	if (r) {
		free(w);
		return r;
	}
	s->drain_due = true;
	return STREAM_QUEUED;
}

int stream_write_raw(struct stream *s, const uv_buf_t *bufs, unsigned n)
{
	size_t total = 0, sent = 0;

	for (unsigned i = 0; i < n; i++)
		total += bufs[i].len;
	if (total == 0)
		return STREAM_DONE;
	s->written += total;
	if (!s->wide && s->written - s->message_at > PROVEN_BYTES)
		set_wide(s, true);
	if (uv_stream_get_write_queue_size(&s->u.stream) == 0) {
		int r = uv_try_write(&s->u.stream, bufs, n);
		if (r < 0 && r != UV_EAGAIN)
			return r;
		sent = r > 0 ? (size_t)r : 0;
	}
	return sent == total ? STREAM_DONE : queue_tail(s, bufs, n, sent);
}

int stream_write(struct stream *s, const struct iovec *iov, int n)
{
	uv_buf_t bufs[IOV_MAX_HERE];

	must(n >= 0 && n <= IOV_MAX_HERE);
	if (s->closing || s->failed || s->shutdown_due || s->finishing)
		return -EPIPE;
	if (!s->open) {
		for (int i = 0; i < n; i++)
			buf_add(&s->early, iov[i].iov_base, iov[i].iov_len);
		s->drain_due = true;
		return buf_failed(&s->early) ? -ENOMEM : STREAM_QUEUED;
	}
	if (s->tls)
		return stream_tls_write(s, iov, n);
	for (int i = 0; i < n; i++)
		bufs[i] = uv_buf_init(iov[i].iov_base, (unsigned)iov[i].iov_len);
	return stream_write_raw(s, bufs, (unsigned)n);
}

int stream_write_bytes(struct stream *s, const void *p, size_t n)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};

	return stream_write(s, &iov, 1);
}

size_t stream_queued(const struct stream *s)
{
	return uv_stream_get_write_queue_size(&s->u.stream) + s->early.n;
}

/* --- reading --- */

static void read_alloc(uv_handle_t *handle, size_t suggested, uv_buf_t *buf)
{
	struct stream *s = handle->data;

	(void)suggested;
	*buf = uv_buf_init(s->loop->read, sizeof s->loop->read);
}

static void read_done(uv_stream_t *handle, ssize_t n, const uv_buf_t *buf)
{
	struct stream *s = handle->data;

	if (n == 0 || s->closing)
		return;
	if (n == UV_EOF) {
		s->armed = false;
		if (s->tls && !s->eof)
			stream_fail(s, -ECONNABORTED);
		else
			stream_ended(s);
	} else if (n < 0) {
		stream_fail(s, (int)n);
	} else if (s->tls) {
		stream_tls_received(s, buf->base, (size_t)n);
	} else if (!s->finishing && s->ops && s->ops->on_data) {
		s->ops->on_data(s, s->arg, buf->base, (size_t)n);
	}
}

void stream_arm(struct stream *s)
{
	/* A handshake reads whatever the owner wants. */
	bool want = !s->closing && !s->failed && !s->eof && (!s->paused || (s->tls && !s->open));

	if (want && !s->armed) {
		int r = uv_read_start(&s->u.stream, read_alloc, read_done);
		s->armed = r == 0;
	} else if (!want && s->armed) {
		uv_read_stop(&s->u.stream);
		s->armed = false;
	}
}

void stream_pause(struct stream *s)
{
	s->paused = true;
	if (s->open)
		stream_arm(s);
}

static void resumed(struct loop_deferred *deferred)
{
	struct stream *s = container_of(deferred, struct stream, deferred);

	if (s->closing || s->failed || s->paused)
		return;
	stream_tls_pump(s);
	if (!s->closing && s->held.n == 0)
		stream_arm(s);
}

void stream_resume(struct stream *s)
{
	if (s->closing || !s->paused)
		return;
	s->paused = false;
	if (!s->open)
		return;
	if (s->held.n)
		loop_defer(s->loop, &s->deferred);
	else
		stream_arm(s);
}

/* --- making --- */

struct stream *stream_make(struct loop *l, int family, struct tls_ctx *tls, struct err *err)
{
	struct stream *s = calloc(1, sizeof *s);
	int r;

	if (!s) {
		err_set(err, -ENOMEM, "connection: no memory");
		return NULL;
	}
	s->loop = l;
	s->deferred.run = resumed;
	s->unsent_max = STREAM_UNSENT_BYTES;
	s->tls = tls ? tls_session_new(tls, &l->tls_out) : NULL;
	if (tls && !s->tls) {
		free(s);
		err_set(err, -ENOMEM, "TLS session: no memory");
		return NULL;
	}
	r = family == AF_UNIX ? uv_pipe_init(&l->uv, &s->u.pipe, 0) : uv_tcp_init(&l->uv, &s->u.tcp);
	must(r == 0);
	s->u.handle.data = s;
	s->peer.ss_family = (sa_family_t)family;
	return s;
}

void stream_set(struct stream *s, const struct stream_ops *ops, void *arg)
{
	s->ops = ops;
	s->arg = arg;
}

void stream_opened(struct stream *s)
{
	s->open = true;
	if (s->early.n) {
		struct buf early = s->early;
		s->early = (struct buf){0};
		int r = stream_write_bytes(s, early.p, early.n);
		buf_done(&early);
		if (r < 0) {
			stream_fail(s, r);
			return;
		}
	}
	if (s->shutdown_due) {
		s->shutdown_due = false;
		stream_shutdown(s);
	}
	if (!s->finishing && s->ops && s->ops->on_open)
		s->ops->on_open(s, s->arg);
	if (s->closing)
		return;
	drained(s);
	stream_arm(s);
}

static void tune(struct stream *s)
{
	set_option(s, IPPROTO_TCP, TCP_NODELAY, 1);
	set_wide(s, false);
}

void stream_unsent(struct stream *s, uint32_t bytes)
{
	if (s->unsent_max == bytes)
		return;
	s->unsent_max = bytes;
	set_wide(s, s->wide);
}

void stream_receive_buffer(struct stream *s, uint32_t bytes)
{
	set_option(s, SOL_SOCKET, SO_RCVBUF, (int)bytes);
}

void stream_watch(struct stream *s, unsigned ms)
{
	set_option(s, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)ms);
	set_option(s, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_ALIVE_S);
	set_option(s, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_ALIVE_S);
	set_option(s, SOL_SOCKET, SO_KEEPALIVE,
		   1); /* unanswered for TCP_USER_TIMEOUT, it ends the connection */
}

void stream_local(struct stream *s)
{
	uv_os_fd_t fd;

	if (s->peer.ss_family != AF_UNIX && uv_fileno(&s->u.handle, &fd) == 0)
		setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4); /* every kernel has it */
}

void stream_started(struct stream *s)
{
	if (s->peer.ss_family != AF_UNIX) {
		int length = sizeof s->peer;
		uv_tcp_getpeername(&s->u.tcp, (struct sockaddr *)&s->peer, &length);
		tune(s);
	}
	s->open = s->tls == NULL;
	stream_arm(s);
}

static void connected(uv_connect_t *request, int status)
{
	struct stream *s = request->data;

	if (s->closing)
		return;
	if (status < 0) {
		stream_fail(s, status);
		return;
	}
	if (s->tls) {
		stream_arm(s);
		stream_tls_pump(s);
	} else {
		stream_opened(s);
	}
}

static void discard(uv_handle_t *handle)
{
	struct stream *s = handle->data;

	tls_session_free(s->tls);
	free(s);
}

int stream_connect(struct loop *l, const struct sockaddr *address, struct tls_ctx *tls,
		   const struct stream_ops *ops, void *arg, struct stream **ret, struct err *err)
{
	struct stream *s = stream_make(l, address->sa_family, tls, err);
	int r;

	if (!s)
		return -ENOMEM;
	stream_set(s, ops, arg);
	s->connect.data = s;
	memcpy(&s->peer, address,
	       address->sa_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in));
	r = uv_tcp_connect(&s->connect, &s->u.tcp, address, connected);
	if (r) {
		uv_close(&s->u.handle, discard);
		return err_system(err, r, "connect");
	}
	tune(s);
	*ret = s;
	return 0;
}

int stream_connect_unix(struct loop *l, const char *path, const struct stream_ops *ops, void *arg,
			struct stream **ret, struct err *err)
{
	struct stream *s = stream_make(l, AF_UNIX, NULL, err);

	if (!s)
		return -ENOMEM;
	stream_set(s, ops, arg);
	s->connect.data = s;
	uv_pipe_connect(&s->connect, &s->u.pipe, path, connected); /* failures come to the callback */
	*ret = s;
	return 0;
}

int stream_adopt(struct loop *l, int fd, struct tls_ctx *tls, const struct stream_ops *ops, void *arg,
		 struct stream **ret, struct err *err)
{
	struct sockaddr_storage own;
	socklen_t length = sizeof own;

	if (getsockname(fd, (struct sockaddr *)&own, &length) < 0)
		return err_system(err, -errno, "adopt a socket");
	struct stream *s = stream_make(l, own.ss_family, tls, err);
	if (!s)
		return -ENOMEM;
	stream_set(s, ops, arg);
	int r = own.ss_family == AF_UNIX ? uv_pipe_open(&s->u.pipe, fd) : uv_tcp_open(&s->u.tcp, fd);
	if (r) {
		uv_close(&s->u.handle, discard);
		return err_system(err, r, "adopt a socket");
	}
	stream_started(s);
	if (tls)
		stream_tls_pump(s); /* a client speaks first; a server has nothing to do yet */
	*ret = s;
	return 0;
}

/* --- ending --- */

static void shutdown_done(uv_shutdown_t *request, int status)
{
	struct stream *s = request->data;

	if (status < 0 && status != UV_ECANCELED && status != UV_ENOTCONN)
		stream_fail(s, status);
	else if (s->finishing && s->eof)
		stream_close(s);
}

void stream_shutdown(struct stream *s)
{
	if (s->closing || s->failed || s->shutdown_due)
		return;
	s->shutdown_due = true;
	if (!s->open)
		return; /* stream_opened comes back to it */
	if (s->tls) {
		tls_session_shutdown(s->tls);
		if (stream_tls_flush(s) < 0)
			return;
	}
	s->shutdown.data = s;
	if (!s->shutdown_sent)
		s->shutdown_sent = uv_shutdown(&s->shutdown, &s->u.stream, shutdown_done) == 0;
}

static void closed(uv_handle_t *handle)
{
	struct stream *s = handle->data;

	if (s->ops && s->ops->on_closed)
		s->ops->on_closed(s, s->arg);
	tls_session_free(s->tls);
	buf_done(&s->held);
	buf_done(&s->early);
	free(s);
}

/* What the other side does not take would stay with the kernel for minutes, and it would not hear of the end. */
static void drop_unsent(struct stream *s)
{
	struct linger at_once = {.l_onoff = 1};
	uv_os_fd_t fd;

	if (uv_fileno(&s->u.handle, &fd) == 0)
		setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
}

void stream_close(struct stream *s)
{
	if (s->closing)
		return;
	if (stream_queued(s))
		drop_unsent(s);
	if (s->tls && s->open && !s->failed && !s->shutdown_due && stream_queued(s) == 0) {
		tls_session_shutdown(s->tls); /* best effort */
		stream_tls_flush(s);
	}
	s->closing = true;
	loop_defer_cancel(s->loop, &s->deferred);
	loop_timer_clear(s->loop, &s->finish_timer);
	uv_close(&s->u.handle, closed);
}

/* What somebody reads slowly is not cut off. A receiver with a large buffer acknowledges nothing for a while, then much. */
static void finish_timeout(struct loop_timer *timer)
{
	struct stream *s = container_of(timer, struct stream, finish_timer);
	uint64_t acked = stream_queued(s) ? stream_acked(s) : 0;

	s->finish_stalled_ms = acked > s->finish_acked ? 0 : s->finish_stalled_ms + s->finish_ms;
	s->finish_acked = acked;
	if (stream_queued(s) && s->finish_stalled_ms < FINISH_STALL_MS)
		loop_timer_set(s->loop, &s->finish_timer, s->finish_ms);
	else
		stream_close(s);
}

void stream_finish(struct stream *s, unsigned wait_ms)
{
	if (s->closing || s->finishing)
		return;
	if (s->failed || (s->eof && stream_queued(s) == 0)) {
		stream_close(s);
		return;
	}
	stream_shutdown(s);
	s->finishing = true;
	s->finish_timer.fire = finish_timeout;
	s->finish_ms = wait_ms;
	s->finish_acked = stream_queued(s) ? stream_acked(s) : 0;
	loop_timer_set(s->loop, &s->finish_timer, wait_ms);
	buf_clear(&s->held);
	s->paused = false;
	stream_arm(s);
}

/* --- asking --- */

uint64_t stream_acked(const struct stream *s)
{
	uint64_t left = uv_stream_get_write_queue_size(&s->u.stream);
	uv_os_fd_t fd;
	int unacked = 0; /* a FIN counts as one */

	if (uv_fileno(&s->u.handle, &fd) || ioctl(fd, SIOCOUTQ, &unacked) < 0)
		return 0;
	left += (unsigned)unacked;
	return s->written > left ? s->written - left : 0;
}

void stream_acknowledge(const struct stream *s)
{
	uv_os_fd_t fd;
	int on = 1;

	if (uv_fileno(&s->u.handle, &fd) == 0) /* in vain for unix sockets */
		setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

const struct sockaddr *stream_peer(const struct stream *s)
{
	return (const struct sockaddr *)&s->peer;
}

int stream_identity(const struct stream *s, struct tls_identity *ret)
{
	return s->tls ? tls_session_identity(s->tls, ret) : -ENOENT;
}

const char *stream_refusal(const struct stream *s)
{
	return s->tls && !s->open ? tls_session_refusal(s->tls) : NULL;
}

int stream_peer_uid(const struct stream *s, uid_t *ret)
{
	struct ucred cred;
	socklen_t length = sizeof cred;
	uv_os_fd_t fd;
	int r = uv_fileno(&s->u.handle, &fd);

	if (r)
		return r;
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &length) < 0)
		return -errno;
	*ret = cred.uid;
	return 0;
}
