/* berth_qemu.c -- berth-qemu: the <emulator> of our domains. It asks sandboxd for the descriptors of its uid, gives them
 * the numbers that the domain's command line names, and executes QEMU in its own place.
 *
 * It runs as QEMU does: with the sandbox's uid, after libvirt dropped everything else. Without BERTH_HANDOVER in its environment,
 * when libvirt asks an emulator what it can do, it is QEMU.
 * Failure: one line on stderr, which libvirt puts into its error, and exit status 1. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "emulator.h"

static _Noreturn void die(const char *what, const char *why)
{
	fprintf(stderr, "berth-qemu: %s: %s\n", what, why);
	exit(1);
}

/* sandboxd never waits for a peer, so that its answer comes at once or never: the kernel ends the wait when it is gone. */
static size_t ask(const char *path, int fds[EMULATOR_FDS_MAX])
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	char byte;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(EMULATOR_FDS_MAX * sizeof(int))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof a.sun_path)
		die(path, "too long");
	strcpy(a.sun_path, path);
	if (sock < 0 || connect(sock, (struct sockaddr *)&a, sizeof a) != 0)
		die(path, strerror(errno));
	ssize_t n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;

	if (c == NULL || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		die(path, "sandboxd has nothing for this machine");
	size_t bytes = c->cmsg_len - CMSG_LEN(0);

	memcpy(fds, CMSG_DATA(c), bytes);
	close(sock);
	return bytes / sizeof(int);
}

static void place(int fd, int at)
{
	if (fd == at) {
		if (fcntl(fd, F_SETFD, 0) != 0)
			die("descriptor", strerror(errno));
		return;
	}
	if (fcntl(at, F_GETFD) >= 0)
		die("descriptor", EMULATOR_FD_TEXT " or a following one is libvirt's");
	if (dup2(fd, at) < 0)
		die("descriptor", strerror(errno));
	close(fd);
}

int main(int argc, char **argv)
{
	const char *path = getenv(EMULATOR_ENVIRONMENT);
	int fds[EMULATOR_FDS_MAX];

	(void)argc;
	if (path != NULL) {
		size_t n = ask(path, fds);

		for (size_t i = 0; i < n; i++)
			place(fds[i], EMULATOR_FD_FIRST + (int)i);
		unsetenv(EMULATOR_ENVIRONMENT);
	}
	execv(EMULATOR_QEMU, argv);
	die(EMULATOR_QEMU, strerror(errno));
}
