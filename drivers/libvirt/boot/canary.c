/* Happy path: QEMU is forked with one end of a socket as the guest's port; the hello is written at once, for it waits there until the
 * guest reads; the answer has the same nonce. Then QEMU is killed, whatever came. */
#include "libvirt_boot/canary.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/fd.h"
#include "crypto/digest.h"
#include "libvirt_guest/protocol.h"

#define PROGRAM    "qemu-system-x86_64"
#define PORT_FD    3
#define EXIT_SETUP 126
#define EXIT_EXEC  127
#define SAID_MAX   4096
#define REASON_MAX 100

/* -- In the child: only calls that are safe between fork and exec --------------------------------------------------- */

_Noreturn static void become_qemu(const struct canary *c, char *const argv[], int port, int said,
				  pid_t parent)
{
	static char path[] = "PATH=/usr/bin:/bin";
	static char *environment[] = {path, NULL};
	const struct rlimit none = {0, 0};
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int high_port = fcntl(port, F_DUPFD_CLOEXEC, 64), high_said = fcntl(said, F_DUPFD_CLOEXEC, 64);
	sigset_t nothing;

	sigemptyset(&nothing);
	sigprocmask(SIG_SETMASK, &nothing, NULL);
	signal(SIGPIPE, SIG_DFL);
	if (setsid() < 0 || null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(high_said, 2) < 0 ||
	    dup2(high_port, PORT_FD) < 0 || close_range(PORT_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0)
		_exit(EXIT_SETUP);
	/* The system calls themselves: libc's own would try to change all threads of the parent's copy. */
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, c->uid, c->uid, c->uid) < 0 ||
	    syscall(SYS_setresuid, c->uid, c->uid, c->uid) < 0 ||
	    prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ||
	    getppid() != parent || chdir("/") < 0)
		_exit(EXIT_SETUP);
	execve(c->emulator, argv, environment);
	_exit(EXIT_EXEC);
}

/* -- In the parent ------------------------------------------------------------------------------------------ */

struct guest {
	pid_t pid;
	int process; /* pidfd */
	int port, said;
	uint64_t nonce, started_ms;
	struct buf answer, words;
};

static int start(const struct canary *c, struct guest *g, struct err *err)
{
	char command_line[BOOT_COMMAND_LINE_SIZE];
	char *const argv[] = {PROGRAM,
			      "-name",
			      "berth-canary",
			      "-no-user-config",
			      "-nodefaults",
			      "-no-reboot",
			      "-display",
			      "none",
			      "-machine",
			      "microvm,acpi=on",
			      "-accel",
			      c->kvm ? "kvm" : "tcg,tb-size=32",
			      "-cpu",
			      c->kvm ? "host" : "qemu64",
			      "-m",
			      "128",
			      "-sandbox",
			      "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
			      "-kernel",
			      (char *)(uintptr_t)c->files->vmlinux,
			      "-initrd",
			      (char *)(uintptr_t)c->files->initrd,
			      "-append",
			      command_line,
			      "-device",
			      "virtio-serial-device",
			      "-chardev",
			      "socket,id=port,fd=3",
			      "-device",
			      "virtserialport,chardev=port,name=" GUEST_PORT,
			      NULL};
	pid_t parent = getpid();
	CLEANUP_FD int port = -1, said = -1;
	int ends[2];

	boot_command_line(!c->kvm, command_line);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) < 0)
		return err_system(err, -errno, "socketpair");
	g->port = ends[0];
	port = ends[1];
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_system(err, -errno, "pipe");
	g->said = ends[0];
	said = ends[1];
	g->started_ms = clock_boot_ms();
	g->pid = fork();
	if (g->pid == 0)
		become_qemu(c, argv, port, said, parent);
	if (g->pid < 0)
		return err_system(err, -errno, "fork");
	g->process = (int)syscall(SYS_pidfd_open, g->pid, 0);
	return g->process < 0 ? err_system(err, -errno, "pidfd_open") : 0;
}

static void stop(struct guest *g)
{
	if (g->pid > 0) {
		kill(g->pid, SIGKILL); /* ours until it is waited for */
		while (waitpid(g->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	fd_close(&g->process);
	fd_close(&g->port);
	fd_close(&g->said);
	buf_done(&g->answer);
	buf_done(&g->words);
}

static int greet(struct guest *g, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	int r;

	crypto_random(&g->nonce, sizeof g->nonce);
	r = guest_frame_write(&b, GUEST_HELLO, &guest_hello_codec, &(struct guest_hello){.nonce = g->nonce});
	if (r == 0)
		r = fd_write_all(g->port, b.p, b.n);
	return r < 0 ? err_system(err, r, "the guest's port") : 0;
}

/* Takes what is there. False: the end. */
static bool take(int fd, struct buf *b)
{
	char chunk[1024];
	ssize_t n = read(fd, chunk, sizeof chunk);

	if (n > 0)
		buf_add(b, chunk, (size_t)n);
	return n > 0 || (n < 0 && errno == EINTR);
}

/* The first line that is not a warning: what follows it is what it led to. */
static int ended(struct guest *g, struct err *err)
{
	struct str rest = buf_str(&g->words), line = STR_NONE;
	char reason[REASON_MAX + 1];

	while (rest.n > 0) {
		bool warning = false;

		(void)str_cut(rest, '\n', &line, &rest);
		for (size_t i = 0; i + 8 <= line.n; i++)
			warning = warning || memcmp(line.p + i, "warning:", 8) == 0;
		if (!warning && line.n > 0)
			break;
	}
	if (line.n == 0)
		return err_set(err, -EIO, "QEMU ended");
	if (str_starts(line, STR(PROGRAM ": ")))
		line = str_slice(line, sizeof(PROGRAM ": ") - 1, line.n);
	line.n = line.n < REASON_MAX ? line.n : REASON_MAX;
	for (size_t i = 0; i < line.n; i++)
		reason[i] = line.p[i] >= ' ' && line.p[i] <= '~' ? line.p[i] : '?';
	reason[line.n] = '\0';
	return err_set(err, -EIO, "QEMU ended: %s", reason);
}

/* 1: the guest answered; 0: not yet. */
static int look_at(struct guest *g, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct guest_hello_answer hello = {0};
	struct guest_frame frame;
	size_t size = 0;
	int r = guest_frame_read(g->answer.p, g->answer.n, GUEST_ANSWER_FRAME_MAX, &frame, &size, err);

	if (r < 0 || size == 0)
		return r;
	if (frame.type != GUEST_HELLO)
		return err_set(err, -EBADMSG, "the guest did not begin with a hello");
	r = guest_frame_body(&frame, &guest_hello_answer_codec, &arena, &hello, err);
	if (r == 0 && hello.nonce != g->nonce)
		r = err_set(err, -EBADMSG, "the guest said hello to somebody else");
	return r < 0 ? r : 1;
}

static int listen_until(struct guest *g, uint64_t deadline, struct err *err)
{
	for (;;) {
		struct pollfd p[] = {{.fd = g->port, .events = POLLIN},
				     {.fd = g->said, .events = POLLIN},
				     {.fd = g->process, .events = POLLIN}};
		uint64_t now = clock_boot_ms();
		int r = now < deadline ? poll(p, 3, (int)(deadline - now)) : 0;

		if (r == 0)
			return err_set(err, -ETIMEDOUT, "the guest did not answer");
		if (r < 0 && errno != EINTR)
			return err_system(err, -errno, "poll");
		if (r < 0)
			continue;
		if (p[1].revents != 0 && take(g->said, &g->words) && g->words.n <= SAID_MAX)
			continue;
		if (p[0].revents != 0 && take(g->port, &g->answer)) {
			r = look_at(g, err);
			if (r != 0)
				return r < 0 ? r : 0;
			continue;
		}
		return ended(g, err);
	}
}

int canary_run(const struct canary *c, uint32_t *ret_hello_ms, struct err *err)
{
	struct guest g = {.port = -1,
			  .said = -1,
			  .process = -1,
			  .answer = BUF_MAX(GUEST_ANSWER_FRAME_MAX),
			  .words = {0}};
	int r = start(c, &g, err);

	if (r == 0)
		r = greet(&g, err);
	if (r == 0)
		r = listen_until(&g, g.started_ms + c->timeout_ms, err);
	if (r == 0)
		*ret_hello_ms = (uint32_t)(clock_boot_ms() - g.started_ms);
	stop(&g);
	return r;
}
