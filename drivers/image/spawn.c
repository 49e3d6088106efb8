#include "image/spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

#define TICK_MS     200
#define EXIT_SETUP  126
#define EXIT_EXEC   127
#define PARKED_FROM 64 /* where descriptors wait while 3 to 6 are put in place */

/* -- In the child, between fork and exec: only calls that are safe there -------------------------------------------- */

struct launch {
	int program, request, result, blobs, source, null;
	char *argv[4];
};

static void place(int from, int to)
{
	if (dup2(from, to) < 0)
		_exit(EXIT_SETUP);
}

static void place_descriptors(struct launch *l)
{
	int *all[] = {&l->program, &l->request, &l->result, &l->blobs, &l->source, &l->null};

	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		*all[i] = fcntl(*all[i], F_DUPFD_CLOEXEC, PARKED_FROM);
		if (*all[i] < 0)
			_exit(EXIT_SETUP);
	}
	place(l->null, 0);
	place(l->null, 1);
	place(l->request, IMAGE_FD_REQUEST);
	place(l->result, IMAGE_FD_RESULT);
	place(l->blobs, IMAGE_FD_BLOBS);
	place(l->source, IMAGE_FD_SOURCE);
	if (close_range(IMAGE_FD_SOURCE + 1, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		_exit(EXIT_SETUP);
}

/* The system calls themselves: libc's own would try to change all threads of the parent's copy. */
static void become(uint32_t uid, uint32_t gid)
{
	if (syscall(SYS_setgroups, 0, NULL) < 0 || syscall(SYS_setresgid, gid, gid, gid) < 0 ||
	    syscall(SYS_setresuid, uid, uid, uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		_exit(EXIT_SETUP);
}

_Noreturn static void child(const struct spawn *s, struct launch *l, pid_t parent)
{
	static char path[] = "PATH=/usr/bin:/bin", sanitizer[] = "ASAN_OPTIONS=detect_leaks=0";
	static char *environment[] = {path, sanitizer, NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	umask(077);
	if (setsid() < 0)
		_exit(EXIT_SETUP);
	place_descriptors(l);
	if (s->no_network && unshare(CLONE_NEWNET | CLONE_NEWIPC) < 0)
		_exit(EXIT_SETUP);
	if (!s->as_root)
		become(s->uid, s->gid);
	/* A change of user clears it, so last. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(EXIT_SETUP);
	syscall(SYS_execveat, l->program, "", l->argv, environment, AT_EMPTY_PATH);
	_exit(EXIT_EXEC);
}

/* -- In the parent ------------------------------------------------------------------------------------------ */

static int write_request(const struct spawn *s, int *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(IMAGE_MESSAGE_MAX);
	CLEANUP_FD int fd = memfd_create("request", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r;

	codec_encode(&b, s->request_type, s->request);
	if (buf_failed(&b))
		return err_set(err, -E2BIG, "%s: the request is too long", s->name);
	r = fd < 0 ? -errno : fd_write_all(fd, b.p, b.n);
	explicit_bzero(b.p, b.n); /* it may hold a password */
	if (r == 0 && (lseek(fd, 0, SEEK_SET) < 0 ||
		       fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0))
		r = -errno;
	if (r < 0)
		return err_system(err, r, "%s: request", s->name);
	*ret = fd_take(&fd);
	return 0;
}

static void report(const struct spawn *s)
{
	struct stat st;

	if (s->progress != NULL && s->blobs >= 0 && fstat(s->blobs, &st) == 0)
		s->progress(s->context, s->stage, (uint64_t)st.st_size);
}

/* Reads until the child closes its end. */
static int collect(const struct spawn *s, int fd, struct buf *b, struct err *err)
{
	uint64_t deadline = clock_boot_ms() + s->total_ms;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		int r = poll(&p, 1, TICK_MS);
		char chunk[16384];

		if (r < 0 && errno != EINTR)
			return err_system(err, -errno, "%s: poll", s->name);
		if (r > 0) {
			ssize_t n = read(fd, chunk, sizeof chunk);

			if (n < 0 && errno != EINTR)
				return err_system(err, -errno, "%s: read", s->name);
			if (n == 0)
				return 0;
			if (n > 0)
				buf_add(b, chunk, (size_t)n);
			if (buf_failed(b))
				return err_set(err, -EBADMSG, "%s: its result is too long", s->name);
		} else {
			report(s);
		}
		if (clock_boot_ms() > deadline)
			return err_set(err, -ETIMEDOUT, "%s did not finish within %u s", s->name,
				       s->total_ms / 1000);
	}
}

static int reap(pid_t pid)
{
	int status = 0;

	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	return status;
}

static int no_result(const struct spawn *s, int status, struct err *err)
{
	if (WIFSIGNALED(status))
		return err_set(err, -EIO, "%s was killed by signal %d", s->name, WTERMSIG(status));
	if (WEXITSTATUS(status) == EXIT_SETUP)
		return err_set(err, -EIO, "%s could not be set up: does sandboxd run as root?", s->name);
	if (WEXITSTATUS(status) == EXIT_EXEC)
		return err_set(err, -EIO, "%s: cannot execute %s", s->name, s->program);
	return err_set(err, -EIO, "%s ended with exit code %d and without a result", s->name,
		       WEXITSTATUS(status));
}

/* The last line of what it said, which may be anything. */
static int said(const struct spawn *s, const struct buf *b, struct err *err)
{
	char line[128];
	size_t end = b->n, n = 0;

	while (end > 0 && b->p[end - 1] == '\n')
		end--;
	for (size_t i = end; i > 0 && b->p[i - 1] != '\n'; i--)
		n++;
	n = n < sizeof line ? n : sizeof line - 1;
	for (size_t i = 0; i < n; i++) {
		char c = b->p[end - n + i];

		line[i] = c >= ' ' && c <= '~' ? c : '?';
	}
	line[n] = '\0';
	return err_set(err, -EIO, "%s: %s", s->name, line);
}

int spawn_run(const struct spawn *s, struct arena *arena, void *ret_result, struct err *err)
{
	CLEANUP_FD int program = open(s->program, O_RDONLY | O_CLOEXEC),
		       null = open("/dev/null", O_RDWR | O_CLOEXEC);
	CLEANUP_FD int request = -1, from = -1, to = -1;
	CLEANUP_BUF struct buf b = BUF_MAX(IMAGE_MESSAGE_MAX);
	char uid[16], gid[16];
	pid_t parent = getpid(), pid;
	int ends[2], r, status;

	if (program < 0 || null < 0)
		return err_system(err, -errno, "%s: open %s", s->name,
				  program < 0 ? s->program : "/dev/null");
	r = write_request(s, &request, err);
	if (r < 0)
		return r;
	if (pipe2(ends, O_CLOEXEC) < 0)
		return err_system(err, -errno, "%s: pipe", s->name);
	from = ends[0];
	to = ends[1];
	snprintf(uid, sizeof uid, "%u", s->uid);
	snprintf(gid, sizeof gid, "%u", s->gid);
	struct launch launch = {.program = program,
				.request = request,
				.result = to,
				.null = null,
				.blobs = s->blobs < 0 ? null : s->blobs,
				.source = s->source < 0 ? null : s->source,
				.argv = {(char *)(uintptr_t)s->name, s->as_root ? uid : NULL, gid, NULL}};

	pid = fork();
	if (pid == 0)
		child(s, &launch, parent);
	if (pid < 0)
		return err_system(err, -errno, "%s: fork", s->name);
	fd_close(&to);
	r = collect(s, from, &b, err);
	if (r < 0)
		kill(pid, SIGKILL);
	status = reap(pid);
	if (r < 0)
		return r;
	if (s->result_type == NULL && status == 0)
		return 0;
	if (s->result_type == NULL && b.n > 0 && WIFEXITED(status))
		return said(s, &b, err);
	if (b.n == 0 || status != 0)
		return no_result(s, status, err);
	r = codec_decode(b.p, b.n, s->result_type, arena, ret_result, err);
	if (r < 0)
		err_wrap(err, "%s", s->name);
	return r;
}
