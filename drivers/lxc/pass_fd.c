#include "pass_fd.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "core/must.h"

union control {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(PASS_FD_MAX * sizeof(int))];
};

int pass_fd_send(int sock, const void *bytes, size_t n, const int *fds, size_t n_fds)
{
	struct iovec iov = {(void *)(uintptr_t)bytes, n};
	union control control = {.bytes = {0}};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	ssize_t sent;

	must(n_fds <= PASS_FD_MAX);
	if (n_fds > 0) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(n_fds * sizeof(int));
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(n_fds * sizeof(int));
		memcpy(CMSG_DATA(c), fds, n_fds * sizeof(int));
	}
	do
		sent = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (sent < 0 && errno == EINTR);
	return sent < 0 ? -errno : 0;
}

ssize_t pass_fd_receive(int sock, void *bytes, size_t size, int ret_fds[PASS_FD_MAX])
{
	struct iovec iov = {bytes, size};
	union control control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n;

	for (size_t i = 0; i < PASS_FD_MAX; i++)
		ret_fds[i] = -1;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return -errno;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(ret_fds, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0));
	}
	return n;
}
