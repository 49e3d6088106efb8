/* See channel.h. One packet is read at a time, at most 64 in a turn so that other handles get theirs. */
#include "loop/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/map.h"
#include "core/must.h"

#define READS_PER_TURN 64

struct packet {
	struct loop_link link;
	size_t n, n_fds;
	int fds[CHANNEL_FDS_MAX];
	char bytes[];
};

struct channel {
	struct loop *loop;
	uv_poll_t poll;
	int fd;
	const struct channel_ops *ops;
	void *arg;
	struct loop_link queue;
	size_t queued;
	struct loop_deferred failing; /* a send that failed closes from here */
	int error;
	bool closing;
	char in[CHANNEL_BYTES_MAX];
};

static void packet_free(struct packet *p)
{
	for (size_t i = 0; i < p->n_fds; i++)
		close(p->fds[i]);
	free(p);
}

static void closed(uv_handle_t *handle)
{
	struct channel *c = handle->data;

	close(c->fd);
	while (!loop_list_empty(&c->queue)) {
		struct packet *p = container_of(c->queue.next, struct packet, link);
		loop_list_remove(&p->link);
		packet_free(p);
	}
	if (c->ops->on_closed)
		c->ops->on_closed(c, c->arg, c->error);
	free(c);
}

static void end(struct channel *c, int error)
{
	if (c->closing)
		return;
	c->closing = true;
	c->error = error;
	loop_defer_cancel(c->loop, &c->failing);
	uv_close((uv_handle_t *)&c->poll, closed);
}

void channel_close(struct channel *c)
{
	end(c, 0);
}

static void failing_run(struct loop_deferred *deferred)
{
	struct channel *c = container_of(deferred, struct channel, failing);

	end(c, c->error);
}

/* --- sending --- */

static int send_now(int fd, const void *p, size_t n, const int *fds, size_t n_fds)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
	} control = {0};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};

	if (n_fds) {
		message.msg_control = control.bytes;
		message.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *head = CMSG_FIRSTHDR(&message);
		head->cmsg_level = SOL_SOCKET;
		head->cmsg_type = SCM_RIGHTS;
		head->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(head), fds, n_fds * sizeof(int));
	}
	ssize_t r;
	do {
		r = sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
	} while (r < 0 && errno == EINTR);
	return r < 0 ? -errno : 0;
}

static int enqueue(struct channel *c, const void *p, size_t n, const int *fds, size_t n_fds)
{
	struct packet *packet;

	if (c->queued == CHANNEL_QUEUE_MAX)
		return -ENOBUFS;
	packet = malloc(sizeof *packet + n);
	if (!packet)
		return -ENOMEM;
	*packet = (struct packet){.n = n};
	memcpy(packet->bytes, p, n);
	for (; packet->n_fds < n_fds; packet->n_fds++) {
		int copy = fcntl(fds[packet->n_fds], F_DUPFD_CLOEXEC, 0);
		if (copy < 0) {
			int r = -errno;
			packet_free(packet);
			return r;
		}
		packet->fds[packet->n_fds] = copy;
	}
	loop_list_add(&c->queue, &packet->link);
	c->queued++;
	return 0;
}

static void ready(uv_poll_t *poll, int status, int events);

int channel_send(struct channel *c, const void *p, size_t n, const int *fds, size_t n_fds)
{
	int r;

	if (c->closing || c->error)
		return -EPIPE;
	if (n == 0 || n > CHANNEL_BYTES_MAX || n_fds > CHANNEL_FDS_MAX)
		return -EMSGSIZE;
	r = c->queued ? -EAGAIN : send_now(c->fd, p, n, fds, n_fds);
	if (r == 0)
		return 0;
	if (r != -EAGAIN) {
		c->error = r;
		loop_defer(c->loop, &c->failing);
		return -EPIPE;
	}
	r = enqueue(c, p, n, fds, n_fds);
	if (r == 0)
		uv_poll_start(&c->poll, UV_READABLE | UV_WRITABLE, ready);
	return r;
}

static void flush(struct channel *c)
{
	while (!loop_list_empty(&c->queue)) {
		struct packet *p = container_of(c->queue.next, struct packet, link);
		int r = send_now(c->fd, p->bytes, p->n, p->fds, p->n_fds);
		if (r == -EAGAIN)
			return;
		if (r < 0) {
			end(c, r);
			return;
		}
		loop_list_remove(&p->link);
		c->queued--;
		packet_free(p);
	}
	uv_poll_start(&c->poll, UV_READABLE, ready);
}

/* --- receiving --- */

/* Takes the descriptors out of the control data; -EBADMSG (and none are kept) if there are too many. */
static int take_fds(struct msghdr *message, int fds[CHANNEL_FDS_MAX], size_t *ret_n)
{
	size_t n = 0;
	int r = message->msg_flags & (MSG_TRUNC | MSG_CTRUNC) ? -EBADMSG : 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t more = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < more; i++) {
			int fd;
			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (n < CHANNEL_FDS_MAX) {
				fds[n++] = fd;
			} else {
				close(fd);
				r = -EBADMSG;
			}
		}
	}
	for (size_t i = 0; r && i < n; i++)
		close(fds[i]);
	*ret_n = r ? 0 : n;
	return r;
}

/* 1: there may be more; 0: nothing now; < 0: the channel ended. */
static int receive(struct channel *c)
{
	union {
		struct cmsghdr align;
		char bytes[CMSG_SPACE(CHANNEL_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {.iov_base = c->in, .iov_len = sizeof c->in};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.bytes,
				 .msg_controllen = sizeof control.bytes};
	int fds[CHANNEL_FDS_MAX];
	size_t n_fds;
	ssize_t n = recvmsg(c->fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

	if (n < 0) {
		if (errno == EAGAIN || errno == EINTR)
			return 0;
		end(c, -errno);
		return -1;
	}
	int r = take_fds(&message, fds, &n_fds);
	if (n == 0 || r) {
		for (size_t i = 0; i < n_fds; i++)
			close(fds[i]);
		end(c, r);
		return -1;
	}
	c->ops->on_message(c, c->arg, c->in, (size_t)n, fds, n_fds);
	return c->closing ? -1 : 1;
}

static void ready(uv_poll_t *poll, int status, int events)
{
	struct channel *c = poll->data;

	if (c->closing)
		return;
	if (status < 0) {
		end(c, status);
		return;
	}
	if (events & UV_WRITABLE)
		flush(c);
	for (int i = 0; (events & UV_READABLE) && !c->closing && i < READS_PER_TURN; i++)
		if (receive(c) <= 0)
			break;
}

/* --- making --- */

int channel_open(struct loop *l, int fd, const struct channel_ops *ops, void *arg, struct channel **ret,
		 struct err *err)
{
	struct channel *c = malloc(sizeof *c);
	int r;

	if (!c)
		return err_set(err, -ENOMEM, "channel: no memory");
	memset(c, 0, offsetof(struct channel, in));
	c->loop = l;
	c->fd = fd;
	c->ops = ops;
	c->arg = arg;
	c->failing.run = failing_run;
	loop_list_init(&c->queue);
	r = uv_poll_init(&l->uv, &c->poll, fd);
	if (r) {
		free(c);
		return err_system(err, r, "channel");
	}
	c->poll.data = c;
	must(!uv_poll_start(&c->poll, UV_READABLE, ready));
	*ret = c;
	return 0;
}

int channel_connect(struct loop *l, const char *path, uid_t uid, const struct channel_ops *ops, void *arg,
		    struct channel **ret, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct ucred cred;
	socklen_t size = sizeof cred;
	CLEANUP_FD int fd = -1;
	int r;

	if (str_copy(str_of(path), address.sun_path, sizeof address.sun_path))
		return err_set(err, -ENAMETOOLONG, "connect to %s: at most %zu bytes", path,
			       sizeof address.sun_path - 1);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) < 0)
		return err_system(err, -errno, "connect to %s", path);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &size) < 0)
		return err_system(err, -errno, "connect to %s: SO_PEERCRED", path);
	if (uid != (uid_t)-1 && cred.uid != uid && cred.uid != 0)
		return err_set(err, -EPERM, "connect to %s: its owner is uid %u, not %u", path, cred.uid,
			       uid);
	r = channel_open(l, fd, ops, arg, ret, err);
	if (!r)
		fd_take(&fd);
	return r;
}
