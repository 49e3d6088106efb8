#include "outside.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

static const uint32_t addresses[] = {OUTSIDE_PUBLIC, OUTSIDE_RESOLVER, OUTSIDE_PRIVATE, OUTSIDE_METADATA};
static const uint16_t ports[] = {OUTSIDE_PORT, 53};

#define SOCKETS (sizeof addresses / sizeof *addresses * (sizeof ports / sizeof *ports))

int outside_shell(const char *format, ...)
{
	char command[1024];
	va_list args;

	va_start(args, format);
	vsnprintf(command, sizeof command, format, args);
	va_end(args);
	return system(command);
}

static int bound(uint32_t address, uint16_t port)
{
	const struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(address)};
	int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	must(s >= 0 && bind(s, (const struct sockaddr *)&a, sizeof a) == 0);
	return s;
}

static void answer(int s, int log)
{
	char text[256];
	struct sockaddr_in from;
	socklen_t size = sizeof from;
	ssize_t n = recvfrom(s, text, sizeof text - 1, 0, (struct sockaddr *)&from, &size);

	if (n <= 0)
		return;
	(void)!sendto(s, text, (size_t)n, 0, (struct sockaddr *)&from, size);
	text[n] = '\n';
	(void)!write(log, text, (size_t)n + 1);
}

/* Says that its namespace is there, and then, told that it has addresses, that it serves. */
static _Noreturn void serve(int talk, int log)
{
	struct pollfd polled[SOCKETS];
	unsigned n = 0;
	char byte;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (unshare(CLONE_NEWNET) != 0 || write(talk, "x", 1) != 1 || read(talk, &byte, 1) != 1)
		_exit(1);
	for (unsigned a = 0; a < sizeof addresses / sizeof *addresses; a++)
		for (unsigned p = 0; p < sizeof ports / sizeof *ports; p++)
			polled[n++] = (struct pollfd){bound(addresses[a], ports[p]), POLLIN, 0};
	(void)!write(talk, "x", 1);
	for (;;) {
		if (poll(polled, n, -1) < 0)
			continue;
		for (unsigned i = 0; i < n; i++)
			if (polled[i].revents != 0)
				answer(polled[i].fd, log);
	}
}

static int make_addresses(pid_t pid)
{
	if (outside_shell("ip link set lo up && ip link add up0 type veth peer name out0 netns %d && "
			  "ip link set up0 up && ip addr add 198.51.100.1/24 dev up0 && "
			  "ip addr add 10.9.9.1/24 dev up0 && ip addr add 169.254.169.1/24 dev up0",
			  (int)pid) != 0)
		return -1;
	return outside_shell(
		"nsenter -t %d -n sh -c 'ip link set lo up && ip link set out0 up && "
		"ip addr add 198.51.100.2/24 dev out0 && ip addr add 198.51.100.53/24 dev out0 && "
		"ip addr add 10.9.9.2/24 dev out0 && ip addr add 169.254.169.254/24 dev out0'",
		(int)pid);
}

int outside_open(struct outside *o)
{
	int talk[2], saw[2], r = -1;
	char byte;

	/* A new namespace may inherit the machine's own setting; this one does not forward. */
	if (unshare(CLONE_NEWNET) != 0 || outside_shell("echo 0 >/proc/sys/net/ipv4/ip_forward") != 0 ||
	    socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, talk) != 0 ||
	    pipe2(saw, O_CLOEXEC | O_NONBLOCK) != 0)
		return -1;
	o->pid = fork();
	if (o->pid == 0)
		serve(talk[1], saw[1]);
	close(talk[1]);
	close(saw[1]);
	o->saw = saw[0];
	if (read(talk[0], &byte, 1) == 1 && make_addresses(o->pid) == 0 && write(talk[0], "x", 1) == 1 &&
	    read(talk[0], &byte, 1) == 1)
		r = 0;
	close(talk[0]);
	return r;
}

void outside_close(struct outside *o)
{
	kill(o->pid, SIGKILL);
	waitpid(o->pid, NULL, 0);
	fd_close(&o->saw);
}

bool outside_saw(struct outside *o, const char *text, int ms)
{
	uint64_t end = clock_boot_ms() + (uint64_t)ms;
	char seen[8192] = "";
	size_t n = 0;

	do {
		ssize_t got = read(o->saw, seen + n, sizeof seen - 1 - n);

		n += got > 0 ? (size_t)got : 0;
		seen[n] = '\0';
		if (strstr(seen, text) != NULL)
			return true;
		(void)!poll(&(struct pollfd){o->saw, POLLIN, 0}, 1, 10);
	} while (clock_boot_ms() < end);
	return false;
}

bool outside_answers_host(uint32_t to, uint16_t port)
{
	const struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(to)};
	CLEANUP_FD int s = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	char text[16];

	return sendto(s, "control", 7, 0, (const struct sockaddr *)&a, sizeof a) == 7 &&
	       poll(&(struct pollfd){s, POLLIN, 0}, 1, 5000) == 1 && recv(s, text, sizeof text, 0) == 7;
}
