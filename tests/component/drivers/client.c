#include "client.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define WAIT_MS 20000

int client_connect(struct client *c, const char *path)
{
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	uint64_t end = clock_boot_ms() + 10000;

	*c = (struct client){.fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0)};
	must(str_copy(str_of(path), to.sun_path, sizeof to.sun_path) == 0);
	while (connect(c->fd, (struct sockaddr *)&to, sizeof to) != 0) {
		if (clock_boot_ms() > end)
			return -errno;
		usleep(5000);
	}
	return 0;
}

void client_close(struct client *c)
{
	fd_close(&c->fd);
	arena_done(&c->arena);
}

uint64_t client_send(struct client *c, enum sandboxd_type type, const void *body, int fd)
{
	CLEANUP_BUF struct buf inner = {0}, outer = {0};
	struct sandboxd_message m = {.type = (uint8_t)type, .correlation = ++c->correlation};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
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
		struct cmsghdr *x = CMSG_FIRSTHDR(&h);

		x->cmsg_level = SOL_SOCKET;
		x->cmsg_type = SCM_RIGHTS;
		x->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(x), &fd, sizeof fd);
	}
	(void)!sendmsg(c->fd, &h, MSG_NOSIGNAL);
	return c->correlation;
}

/* One packet, within the time. */
static int receive(struct client *c, uint64_t end, struct sandboxd_message *ret, int *ret_fd)
{
	static char bytes[SANDBOXD_PACKET_MAX];
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec iov = {bytes, sizeof bytes};
	struct msghdr h = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct pollfd p = {c->fd, POLLIN, 0};
	uint64_t now = clock_boot_ms();

	*ret_fd = -1;
	if (poll(&p, 1, now < end ? (int)(end - now) : 0) != 1)
		return -ETIMEDOUT;
	ssize_t n = recvmsg(c->fd, &h, MSG_CMSG_CLOEXEC);

	if (n <= 0)
		return -ECONNRESET;
	struct cmsghdr *x = CMSG_FIRSTHDR(&h);

	if (x != NULL && x->cmsg_type == SCM_RIGHTS)
		memcpy(ret_fd, CMSG_DATA(x), sizeof *ret_fd);
	return codec_decode(bytes, (size_t)n, &sandboxd_message_codec, &c->arena, ret, NULL);
}

static void take_event(struct client *c, const struct sandboxd_message *m)
{
	if (m->type == SANDBOXD_EXITED && c->n_exits < 64)
		must(codec_decode(m->body.p, m->body.n, sandboxd_body_codec[SANDBOXD_EXITED], &c->arena,
				  &c->exits[c->n_exits++], NULL) == 0);
	if (m->type == SANDBOXD_ABLE) {
		must(codec_decode(m->body.p, m->body.n, &sandboxd_able_codec, &c->arena, &c->able, NULL) ==
		     0);
		c->told_able = true;
	}
}

int client_wait(struct client *c, uint64_t correlation, struct sandboxd_reply *ret, int *ret_fd)
{
	uint64_t end = clock_boot_ms() + WAIT_MS;

	for (;;) {
		struct sandboxd_message m;
		CLEANUP_FD int fd = -1;
		int r = receive(c, end, &m, &fd);

		if (r < 0)
			return r;
		if (m.type == SANDBOXD_REPLY && m.correlation == correlation) {
			if (ret_fd != NULL)
				*ret_fd = fd_take(&fd);
			return codec_decode(m.body.p, m.body.n, sandboxd_body_codec[SANDBOXD_REPLY],
					    &c->arena, ret, NULL);
		}
		take_event(c, &m);
	}
}

int client_call(struct client *c, enum sandboxd_type type, const void *body, struct sandboxd_reply *ret,
		int *ret_fd)
{
	struct sandboxd_reply mine = {0}, *r = ret == NULL ? &mine : ret;
	int code = client_wait(c, client_send(c, type, body, -1), r, ret_fd);

	return code < 0 ? code : r->code;
}

int client_hello(struct client *c, const char *cluster, uint64_t node)
{
	struct sandboxd_hello h = {.protocol = SANDBOXD_PROTOCOL, .cluster = str_of(cluster), .node = node};

	return client_call(c, SANDBOXD_HELLO, &h, NULL, NULL);
}

bool client_wait_exit(struct client *c, uint64_t sandbox, struct sandboxd_exited *ret)
{
	uint64_t end = clock_boot_ms() + WAIT_MS;

	for (;;) {
		struct sandboxd_message m;
		CLEANUP_FD int fd = -1;

		for (unsigned i = 0; i < c->n_exits; i++) {
			if (c->exits[i].sandbox == sandbox) {
				*ret = c->exits[i];
				return true;
			}
		}
		if (receive(c, end, &m, &fd) < 0)
			return false;
		take_event(c, &m);
	}
}

bool client_wait_able(struct client *c, struct sandboxd_able *ret)
{
	uint64_t end = clock_boot_ms() + WAIT_MS;

	while (!c->told_able) {
		struct sandboxd_message m;
		CLEANUP_FD int fd = -1;

		if (receive(c, end, &m, &fd) < 0)
			return false;
		take_event(c, &m);
	}
	*ret = c->able;
	return true;
}
