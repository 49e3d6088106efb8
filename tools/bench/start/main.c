/* bench-start -- from nothing to the first HTTP answer: a sandbox of sandboxd beside containers of OCI runtimes, in turns.
 *
 *   bench-start --socket SANDBOXD_SOCKET --image ARCHIVE --bundle BUNDLE [--runtime crun|runc]... [--rounds N] [--hold N]
 *   bench-start --socket SANDBOXD_SOCKET --image ARCHIVE --filter FILE
 *   bench-start --socket SANDBOXD_SOCKET --image ARCHIVE --machines on [--rounds N] [--hold N]
 *
 * Happy path: the archive is imported; then in each round START, DIAL and GET, STOP; and for each runtime
 * `run --detach`, a connection through the container's network namespace and GET, `delete`; the bundle is
 * BUNDLE/<runtime>. A line each on stdout, in microseconds:
 *   berth|<runtime> <until it runs> <until the first byte>
 * With --hold it ends with N of each running: it prints "held berth|<runtime> PID...", waits for the end of its stdin,
 * and ends them. All are asked on port 80 and tried again each 0.2 ms while nobody listens.
 * With --machines there are virtual machines of sandboxd alone, and a round is: one with a size of memory that no other had, one like
 * all others, and that one again, parked meanwhile: "first", "next" and "ready" instead of "berth". Those that are held are parked.
 * With --filter it only writes the seccomp filter of a sandbox into FILE, for the runtimes to load the same.
 * Failure modes: whatever fails is said, what runs is ended, the exit status is 1. Needs root. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/filter.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "calls.h"
#include "core/clock.h"
#include "core/fd.h"

#define CLUSTER   "00000000-0000-4000-8000-00000000be4c"
#define HOLD_MAX  64
#define RUNTIMES  2
#define RETRY_US  200
#define RETRIES   25000
#define ABLE_MS   120000 /* until the node has found out whether it runs machines */
#define PARK_US   300000
#define MACHINE   (128ull << 20)
#define CONTAINER (256ull << 20)

struct bench {
	const char *socket, *image, *bundle, *filter, *runtimes[RUNTIMES];
	unsigned n_runtimes, rounds, hold;
	unsigned done; /* rounds of former runs, whose machines' sizes are not taken again */
	bool machines;
	struct calls calls;
	struct str digest;
	int own_net;
	uint64_t next_sandbox;
	unsigned next_name;
};

static uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* Asks over the connected socket; 0 once a byte of the answer is there. */
static int get(int fd, struct err *err)
{
	static const char request[] = "GET / HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n";
	char answer[12];

	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
	if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0 ||
	    recv(fd, answer, sizeof answer, MSG_WAITALL) != sizeof answer ||
	    memcmp(answer, "HTTP/1.1 200", 12) != 0)
		return err_set(err, -EPROTO, "the server did not answer 200");
	return 0;
}

/* -- sandboxd -------------------------------------------------------------------------------------------------- */

static int import_image(struct bench *b, struct err *err)
{
	struct sandboxd_image image = {.reference = STR("bench/sample:1")};
	struct sandboxd_reply reply;
	CLEANUP_FD int fd = open(b->image, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "%s", b->image);
	int r = calls_call(&b->calls, SANDBOXD_IMPORT, &image, fd, &reply, NULL, err);

	if (r == 0)
		b->digest = reply.digest;
	return r;
}

static int berth_dial(struct bench *b, uint64_t sandbox, int *ret_fd, struct err *err)
{
	struct sandboxd_dial dial = {.sandbox = sandbox, .port = 80, .timeout_ms = 5000};
	struct sandboxd_reply reply;

	for (unsigned i = 0;; i++) {
		int r = calls_call(&b->calls, SANDBOXD_DIAL, &dial, -1, &reply, ret_fd, err);

		if (r != -ECONNREFUSED || i == RETRIES)
			return r;
		usleep(RETRY_US);
	}
}

static int berth_answer(struct bench *b, uint64_t sandbox, struct err *err)
{
	CLEANUP_FD int fd = -1;
	int r = berth_dial(b, sandbox, &fd, err);

	return r < 0 ? r : get(fd, err);
}

static int berth_start(struct bench *b, uint64_t memory_bytes, const char *what, uint64_t *ret_sandbox,
		       int64_t *ret_pid, struct err *err)
{
	struct sandboxd_start start = {.sandbox = ++b->next_sandbox,
				       .pool = STR("bench"),
				       .pool_uid = 1,
				       .revision = 1,
				       .digest = b->digest,
				       .cpu_milli = 1000,
				       .memory_bytes = memory_bytes,
				       .target_port = 80,
				       .isolation = b->machines ? ISOLATION_VM : ISOLATION_CONTAINER};
	struct sandboxd_reply reply;
	uint64_t began = now_us();
	int r = calls_call(&b->calls, SANDBOXD_START, &start, -1, &reply, NULL, err);

	/* A node that has just begun is finding out whether it runs machines. */
	for (unsigned tries = 0; r == -EAGAIN && tries < 600; tries++) {
		usleep(100000);
		began = now_us();
		r = calls_call(&b->calls, SANDBOXD_START, &start, -1, &reply, NULL, err);
	}
	uint64_t runs = now_us();

	if (r < 0)
		return r;
	*ret_sandbox = start.sandbox;
	*ret_pid = reply.pid;
	r = berth_answer(b, start.sandbox, err);
	if (r == 0 && what != NULL)
		printf("%s %" PRIu64 " %" PRIu64 "\n", what, runs - began, now_us() - began);
	return r;
}

static int berth_park(struct bench *b, uint64_t sandbox, struct err *err)
{
	struct sandboxd_park park = {.sandbox = sandbox, .on = true};
	struct sandboxd_reply reply;

	return calls_call(&b->calls, SANDBOXD_PARK, &park, -1, &reply, NULL, err);
}

static int berth_stop(struct bench *b, uint64_t sandbox, struct err *err)
{
	struct sandboxd_stop stop = {.sandbox = sandbox};
	struct sandboxd_reply reply;

	return calls_call(&b->calls, SANDBOXD_STOP, &stop, -1, &reply, NULL, err);
}

/* -- OCI runtimes ---------------------------------------------------------------------------------------------- */

static int run_program(char *const *argv, struct err *err)
{
	posix_spawn_file_actions_t actions;
	pid_t pid;
	int status, r = posix_spawn_file_actions_init(&actions);

	/* What the container prints is none of our figures. */
	if (r == 0)
		r = posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
	if (r == 0)
		r = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
	posix_spawn_file_actions_destroy(&actions);
	if (r != 0)
		return err_system(err, -r, "%s", argv[0]);
	if (waitpid(pid, &status, 0) < 0 || !WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, -EIO, "%s %s failed", argv[0], argv[1]);
	return 0;
}

static void container_name(unsigned number, char *to, size_t size)
{
	snprintf(to, size, "berth-bench-%d-%u", (int)getpid(), number);
}

/* A socket that belongs to the container's network namespace. */
static int socket_inside(struct bench *b, int net, struct err *err)
{
	int fd = -1;

	if (setns(net, CLONE_NEWNET) == 0)
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		err_system(err, -errno, "a socket in the container's network namespace");
	if (setns(b->own_net, CLONE_NEWNET) < 0)
		exit(1); /* nothing that this process does from here on would be in its place */
	return fd;
}

static int container_dial(struct bench *b, int64_t pid, int *ret_fd, struct err *err)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(80), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	char path[64];

	snprintf(path, sizeof path, "/proc/%" PRId64 "/ns/net", pid);
	CLEANUP_FD int net = open(path, O_RDONLY | O_CLOEXEC);

	for (unsigned i = 0;; i++) {
		CLEANUP_FD int fd = net < 0 ? -1 : socket_inside(b, net, err);

		if (fd < 0)
			return -EIO;
		if (connect(fd, (struct sockaddr *)&to, sizeof to) == 0) {
			*ret_fd = fd_take(&fd);
			return 0;
		}
		if (errno != ECONNREFUSED || i == RETRIES)
			return err_system(err, -errno, "connect into the container");
		usleep(RETRY_US);
	}
}

static int read_pid(const char *path, int64_t *ret, struct err *err)
{
	CLEANUP_BUF struct buf text = {0};
	int r = fd_read_file(path, 64, &text, err);

	if (r == 0) {
		buf_add(&text, "", 1);
		*ret = atoll(text.p);
	}
	return r;
}

/* The program, and what makes crun write its groups itself instead of asking systemd. */
static size_t command_line(const char *runtime, char *argv[])
{
	static char cgroupfs[] = "--cgroup-manager=cgroupfs";
	size_t n = 0;

	argv[n++] = (char *)(uintptr_t)runtime;
	if (strcmp(runtime, "crun") == 0)
		argv[n++] = cgroupfs;
	return n;
}

static int container_start(struct bench *b, const char *runtime, unsigned number, int64_t *ret_pid, bool tell,
			   struct err *err)
{
	char name[64], bundle[300], file[320], *argv[12];
	char run[] = "run", detach[] = "--detach", pid_file[] = "--pid-file", bundle_is[] = "--bundle";
	char *const rest[] = {run, detach, pid_file, file, bundle_is, bundle, name, NULL};
	CLEANUP_FD int fd = -1;

	container_name(number, name, sizeof name);
	snprintf(bundle, sizeof bundle, "%s/%s", b->bundle, runtime);
	snprintf(file, sizeof file, "%s/pid", bundle);
	memcpy(argv + command_line(runtime, argv), rest, sizeof rest);
	uint64_t began = now_us();
	int r = run_program(argv, err);

	if (r == 0)
		r = read_pid(file, ret_pid, err);
	uint64_t runs = now_us();

	if (r == 0)
		r = container_dial(b, *ret_pid, &fd, err);
	if (r == 0)
		r = get(fd, err);
	if (r == 0 && tell)
		printf("%s %" PRIu64 " %" PRIu64 "\n", runtime, runs - began, now_us() - began);
	return r;
}

static int container_delete(const char *runtime, unsigned number, struct err *err)
{
	char name[64], *argv[12], delete[] = "delete", force[] = "--force";
	char *const rest[] = {delete, force, name, NULL};

	container_name(number, name, sizeof name);
	memcpy(argv + command_line(runtime, argv), rest, sizeof rest);
	return run_program(argv, err);
}

/* -- Rounds ---------------------------------------------------------------------------------------------------- */

static int machine_round(struct bench *b, unsigned number, struct err *err)
{
	uint64_t first = 0, next = 0, began;
	int64_t pid;
	struct err late = {0};
	int r = berth_start(b, MACHINE + ((uint64_t)number << 20), "first", &first, &pid, err);

	if (first != 0)
		berth_stop(b, first, r == 0 ? err : &late);
	if (r == 0)
		r = berth_start(b, MACHINE, "next", &next, &pid, err);
	if (r == 0)
		r = berth_park(b, next, err);
	usleep(PARK_US);
	began = now_us();
	if (r == 0)
		r = berth_answer(b, next, err);
	if (r == 0)
		printf("ready 0 %" PRIu64 "\n", now_us() - began);
	if (next != 0)
		berth_stop(b, next, r == 0 ? err : &late);
	return r;
}

/* Until a machine starts: before that the node finds out whether it can. */
static int wait_until_able(struct bench *b, struct err *err)
{
	uint64_t end = clock_boot_ms() + ABLE_MS;

	for (;;) {
		uint64_t sandbox = 0;
		int64_t pid;
		struct err late = {0};
		int r = berth_start(b, MACHINE, NULL, &sandbox, &pid, err);

		if (sandbox != 0)
			berth_stop(b, sandbox, &late);
		if (r != -ENODEV || clock_boot_ms() > end)
			return r;
		usleep(100000);
	}
}

static int one_round(struct bench *b, bool tell, struct err *err)
{
	uint64_t sandbox = 0;
	int64_t pid;
	struct err again = {0};
	int r = berth_start(b, CONTAINER, tell ? "berth" : NULL, &sandbox, &pid, err);

	if (sandbox != 0)
		berth_stop(b, sandbox, r == 0 ? err : &again);
	for (unsigned i = 0; r == 0 && i < b->n_runtimes; i++) {
		unsigned number = ++b->next_name;

		r = container_start(b, b->runtimes[i], number, &pid, tell, err);
		container_delete(b->runtimes[i], number, r == 0 ? err : &again);
	}
	return r;
}

static void print_held(const char *what, const int64_t *pids, unsigned n)
{
	printf("held %s", what);
	for (unsigned i = 0; i < n; i++)
		printf(" %" PRId64, pids[i]);
	printf("\n");
	fflush(stdout);
}

static int hold(struct bench *b, struct err *err)
{
	int64_t berth[HOLD_MAX], others[RUNTIMES][HOLD_MAX];
	uint64_t sandboxes[HOLD_MAX] = {0};
	unsigned n, first = b->next_name + 1;
	struct err late = {0};
	int r = 0;

	for (n = 0; r == 0 && n < b->hold; n++) {
		r = berth_start(b, b->machines ? MACHINE : CONTAINER, NULL, &sandboxes[n], &berth[n], err);
		if (r == 0 && b->machines)
			r = berth_park(b, sandboxes[n], err);
		for (unsigned k = 0; r == 0 && k < b->n_runtimes; k++)
			r = container_start(b, b->runtimes[k], ++b->next_name, &others[k][n], false, err);
	}
	if (r == 0) {
		print_held("berth", berth, n);
		for (unsigned k = 0; k < b->n_runtimes; k++)
			print_held(b->runtimes[k], others[k], n);
		while (getchar() != EOF)
			;
	}
	for (unsigned i = 0; i < n; i++) {
		if (sandboxes[i] != 0)
			berth_stop(b, sandboxes[i], &late);
	}
	for (unsigned i = first; i <= b->next_name; i++)
		container_delete(b->runtimes[(i - first) % b->n_runtimes], i, &late);
	return r;
}

/* The filter of system calls as the kernel has it for a process. */
static ssize_t read_filter(pid_t pid, struct sock_filter *to)
{
	ssize_t n = -1;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) != 0)
		return -1;
	if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && waitpid(pid, NULL, __WALL) == pid)
		n = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, NULL, to);
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
	return n;
}

static int write_filter(struct bench *b, struct err *err)
{
	static struct sock_filter filter[BPF_MAXINSNS];
	uint64_t sandbox = 0;
	int64_t pid = 0;
	CLEANUP_FD int fd = open(b->filter, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int r = fd < 0 ? err_system(err, -errno, "%s", b->filter)
		       : berth_start(b, CONTAINER, NULL, &sandbox, &pid, err);

	if (r < 0)
		return r;
	ssize_t n = read_filter((pid_t)pid, filter);

	r = n <= 0 ? err_system(err, -errno, "read the seccomp filter of a sandbox")
		   : fd_write_all(fd, filter, (size_t)n * sizeof *filter);
	berth_stop(b, sandbox, r < 0 ? &(struct err){0} : err);
	return r;
}

static int run(struct bench *b, struct err *err)
{
	b->own_net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	if (b->own_net < 0)
		return err_system(err, -errno, "/proc/self/ns/net");
	int r = calls_open(&b->calls, b->socket, CLUSTER, err);

	if (r == 0)
		r = import_image(b, err);
	if (r == 0 && b->filter != NULL)
		r = write_filter(b, err);
	else if (r == 0) /* the caches are warm for all */
		r = b->machines ? wait_until_able(b, err) : one_round(b, false, err);
	for (unsigned i = 0; r == 0 && b->filter == NULL && i < b->rounds; i++)
		r = b->machines ? machine_round(b, b->done + i + 1, err) : one_round(b, true, err);
	fflush(stdout);
	if (r == 0 && b->filter == NULL && b->hold > 0)
		r = hold(b, err);
	calls_close(&b->calls);
	fd_close(&b->own_net);
	return r;
}

static int usage(void)
{
	fprintf(stderr,
		"usage: bench-start --socket SANDBOXD_SOCKET --image ARCHIVE --bundle BUNDLE "
		"[--runtime crun|runc]... [--rounds 0-10000] [--hold 0-%d]\n"
		"       bench-start --socket SANDBOXD_SOCKET --image ARCHIVE --filter FILE\n"
		"       bench-start --socket SANDBOXD_SOCKET --image ARCHIVE --machines on [--rounds "
		"0-10000] [--done 0-1000] [--hold 0-%d]\n",
		HOLD_MAX, HOLD_MAX);
	return 2;
}

static bool number(const char *text, uint64_t max, unsigned *ret)
{
	uint64_t value;

	if (str_u64(str_of(text), max, &value) < 0)
		return false;
	*ret = (unsigned)value;
	return true;
}

int main(int argc, char **argv)
{
	struct bench b = {.rounds = 20};
	struct err err = {0};

	for (int i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--runtime") == 0 && b.n_runtimes < RUNTIMES)
			b.runtimes[b.n_runtimes++] = argv[i + 1];
		else if (strcmp(argv[i], "--socket") == 0)
			b.socket = argv[i + 1];
		else if (strcmp(argv[i], "--image") == 0)
			b.image = argv[i + 1];
		else if (strcmp(argv[i], "--bundle") == 0)
			b.bundle = argv[i + 1];
		else if (strcmp(argv[i], "--filter") == 0)
			b.filter = argv[i + 1];
		else if (strcmp(argv[i], "--machines") == 0)
			b.machines = strcmp(argv[i + 1], "on") == 0;
		else if ((strcmp(argv[i], "--rounds") != 0 || !number(argv[i + 1], 10000, &b.rounds)) &&
			 (strcmp(argv[i], "--done") != 0 || !number(argv[i + 1], 1000, &b.done)) &&
			 (strcmp(argv[i], "--hold") != 0 || !number(argv[i + 1], HOLD_MAX, &b.hold)))
			return usage();
	}
	if (argc % 2 != 1 || b.socket == NULL || b.image == NULL ||
	    (b.bundle != NULL) + (b.filter != NULL) + b.machines != 1)
		return usage();
	signal(SIGPIPE, SIG_IGN);
	if (run(&b, &err) < 0) {
		fprintf(stderr, "bench-start: %s\n", err.message);
		return 1;
	}
	return 0;
}
