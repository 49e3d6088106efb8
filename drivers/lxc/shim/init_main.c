/* init_main.c -- berth-init: the first program in a container. It waits until the host side is ready, becomes the
 * image's user, and executes the image's program in its own place, so that this is process 1.
 *
 * Happy path: hello to berth-shim over descriptor 0; limits and network are then checked and set up outside; the
 * spec arrives; user and groups are looked up in the image's own files (here, inside, with nothing of the host to
 * win); seccomp filter; execve.
 * Failure: one line through the pipe that went out with the hello, exit status 127 (not found) or 126.
 * Static and without any of our libraries: the root file system may hold no C library at all. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init_spec.h"
#include "program/program.h"

/* -- Talking to the shim -------------------------------------------------------------------------------------- */

static void hello(int sock, int pipe_read)
{
	char byte = INIT_HELLO;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pipe_read, sizeof pipe_read);
	if (sendmsg(sock, &m, MSG_NOSIGNAL) != 1)
		_exit(125);
}

static void read_exactly(int fd, void *to, size_t n)
{
	char *p = to;

	while (n > 0) {
		ssize_t got = read(fd, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			_exit(125); /* the shim gave up */
		p += got;
		n -= (size_t)got;
	}
}

static const char *next_string(char **at, const char *end)
{
	char *nul = memchr(*at, '\0', (size_t)(end - *at));
	const char *s = *at;

	if (nul == NULL)
		program_die(125, "start message is cut short");
	*at = nul + 1;
	return s;
}

static char **next_strings(char **at, const char *end, uint32_t n)
{
	char **list = calloc((size_t)n + 2, sizeof *list);

	if (list == NULL)
		program_die(125, "no memory");
	for (uint32_t i = 0; i < n; i++)
		list[i] = (char *)next_string(at, end);
	return list;
}

static void receive(int sock, struct program *ret, struct sock_fprog *ret_filter)
{
	struct init_head head;
	char *bytes, *at, *end;

	read_exactly(sock, &head, sizeof head);
	if (head.bytes > INIT_BYTES_MAX || head.filter_bytes > head.bytes || head.n_argv == 0 ||
	    head.n_argv > head.bytes || head.n_env > head.bytes)
		program_die(125, "start message is malformed");
	bytes = malloc(head.bytes + 1u);
	if (bytes == NULL)
		program_die(125, "no memory");
	read_exactly(sock, bytes, head.bytes);
	at = bytes;
	end = bytes + head.bytes - head.filter_bytes;
	ret->user = next_string(&at, end);
	ret->working_dir = next_string(&at, end);
	ret->resolv_conf = next_string(&at, end);
	ret->argv = next_strings(&at, end, head.n_argv);
	ret->env = next_strings(&at, end, head.n_env);
	ret_filter->len = (unsigned short)(head.filter_bytes / sizeof(struct sock_filter));
	ret_filter->filter = malloc(head.filter_bytes + 1u); /* aligned */
	if (ret_filter->filter == NULL)
		program_die(125, "no memory");
	memcpy(ret_filter->filter, end, head.filter_bytes);
}

int main(void)
{
	struct program program = {0};
	struct sock_fprog filter;
	int report[2], sock;

	sock = fcntl(0, F_DUPFD_CLOEXEC, 3);
	if (sock < 0 || pipe2(report, O_CLOEXEC) != 0)
		_exit(125);
	hello(sock, report[0]);
	close(report[0]);
	program_report_fd = report[1];
	receive(sock, &program, &filter);
	close(sock);
	program_prepare(&program);
	if (filter.len == 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0)
		program_die(126, "seccomp filter: %s", strerror(errno));
	program_execute(&program);
}
