/* See calls.h. Happy path: encode, send, receive until the reply with the correlation is there.
 * Failure modes: sandboxd is not there or goes away (-ECONNRESET), does not answer (-ETIMEDOUT), or refuses (its code). */
#include "calls.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/clock.h"
#include "core/fd.h"

#define CONNECT_MS 10000
#define ANSWER_S   60

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static int send_request(struct calls *c, enum sandboxd_type type, const void *body, int fd, struct err *err)
{
	CLEANUP_BUF struct buf inner = {0}, outer = {0};
	struct sandboxd_message m = {.type = (uint8_t)type, .correlation = ++c->correlation};
	union control control = {.bytes = {0}};
	struct msghdr h = {0};
	struct iovec iov;

	if (sandboxd_body_codec[type] != NULL)
		codec_encode(&inner, sandboxd_body_codec[type], body);
	m.body = buf_str(&inner);
	codec_encode(&outer, &sandboxd_message_codec, &m);
	iov = (struct iovec){outer.p, outer.n};
	h.msg_iov = &iov;
	h.msg_iovlen = 1;
	if (fd >= 0) {
		h.msg_control = &control;
		h.msg_controllen = sizeof control;
		*CMSG_FIRSTHDR(&h) = (struct cmsghdr){
			.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS, .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&h)), &fd, sizeof fd);
	}
	return sendmsg(c->fd, &h, MSG_NOSIGNAL) < 0 ? err_system(err, -errno, "send to sandboxd") : 0;
}

static int receive(struct calls *c, struct sandboxd_message *ret, int *ret_fd, struct err *err)
{
	static char bytes[SANDBOXD_PACKET_MAX];
	union control control;
	struct iovec iov = {bytes, sizeof bytes};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(c->fd, &h, MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return err_system(err, n < 0 ? -errno : -ECONNRESET, "receive from sandboxd");
	struct cmsghdr *x = CMSG_FIRSTHDR(&h);

	*ret_fd = -1;
	if (x != NULL && x->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(x), sizeof *ret_fd);
	return codec_decode(bytes, (size_t)n, &sandboxd_message_codec, &c->arena, ret, err);
}

int calls_call(struct calls *c, enum sandboxd_type type, const void *body, int fd, struct sandboxd_reply *ret,
	       int *ret_fd, struct err *err)
{
	int r = send_request(c, type, body, fd, err);

	while (r == 0) {
		struct sandboxd_message m;
		CLEANUP_FD int got = -1;

		r = receive(c, &m, &got, err);
		if (r < 0 || m.type != SANDBOXD_REPLY || m.correlation != c->correlation)
			continue;
		r = codec_decode(m.body.p, m.body.n, &sandboxd_reply_codec, &c->arena, ret, err);
		if (r == 0 && ret->code < 0)
			r = err_set(err, ret->code, "sandboxd: %.*s", STR_ARGS(ret->message));
		if (r == 0 && ret_fd != NULL)
			*ret_fd = fd_take(&got);
		return r;
	}
	return r;
}

int calls_open(struct calls *c, const char *path, const char *cluster, struct err *err)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = ANSWER_S};
	uint64_t end = clock_boot_ms() + CONNECT_MS;
	struct sandboxd_hello hello = {.protocol = SANDBOXD_PROTOCOL, .cluster = str_of(cluster), .node = 1};
	struct sandboxd_reply reply;

	*c = (struct calls){.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
	if (c->fd < 0 || str_copy(str_of(path), to.sun_path, sizeof to.sun_path) < 0)
		return err_set(err, -EINVAL, "%s: no socket can be made of it", path);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	while (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0) {
		if (clock_boot_ms() > end)
			return err_system(err, -errno, "connect to %s", path);
		usleep(5000);
	}
	return calls_call(c, SANDBOXD_HELLO, &hello, -1, &reply, NULL, err);
}

void calls_close(struct calls *c)
{
	fd_close(&c->fd);
	arena_done(&c->arena);
}
