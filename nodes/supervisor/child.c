#include "child.h"

#include <errno.h>
#include <grp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/log.h"
#include "core/must.h"

#define FILES_MAX    65536 /* open files that a daemon may have, unless it may have more */
#define PAUSE_MS_MIN 100
#define PAUSE_MS_MAX 5000
#define GOOD_MS      10000

void child_arg(struct child *c, const char *format, ...)
{
	va_list args;
	size_t n = 0;

	while (c->args[n] != NULL)
		n++;
	must(n + 1 < CHILD_ARGS_MAX);
	va_start(args, format);
	must(vasprintf(&c->args[n], format, args) >= 0);
	va_end(args);
}

/* What the operator's shell had set stays there; what a build for tests reads goes along. */
static char **environment(void)
{
	static const char *const kept[] = {"ASAN_OPTIONS",     "UBSAN_OPTIONS",     "LSAN_OPTIONS",
					   "TSAN_OPTIONS",     "LLVM_PROFILE_FILE", "GCOV_PREFIX",
					   "GCOV_PREFIX_STRIP"};
	static char path[] = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
	static char *list[sizeof kept / sizeof *kept + 2];
	size_t n = 0;

	list[n++] = path;
	for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
		const char *value = getenv(kept[i]);

		if (value != NULL)
			must(asprintf(&list[n++], "%s=%s", kept[i], value) >= 0);
	}
	list[n] = NULL;
	return list;
}

/* In the fork: becomes the daemon. It dies with its supervisor; containers do not, they hang on their shims. */
static void child_become(const struct child *c, pid_t supervisor)
{
	struct rlimit files = {FILES_MAX, FILES_MAX}, now;
	sigset_t none;

	if (getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_max < FILES_MAX)
		setrlimit(RLIMIT_NOFILE, &files); /* in vain without the capability: then what is there */
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (c->uid != 0 &&
	    (initgroups(c->user, c->gid) < 0 || setresgid(c->gid, c->gid, c->gid) < 0 ||
	     setresuid(c->uid, c->uid, c->uid) < 0 || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0))
		_exit(126);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	if (getppid() != supervisor)
		_exit(125);
	if (chdir("/") < 0)
		_exit(124);
	execve(c->program, c->args, environment());
	fprintf(stderr, "berth-supervisor: %s: %s\n", c->program, strerror(errno));
	_exit(127);
}

int child_start(struct child *c, uint64_t now_ms, struct err *err)
{
	pid_t self = getpid(), pid = fork();

	if (pid == 0)
		child_become(c, self);
	c->started_ms = now_ms;
	if (pid < 0) {
		c->retry_ms = now_ms + PAUSE_MS_MAX;
		return err_system(err, -errno, "start %s", c->name);
	}
	c->pid = pid;
	return 0;
}

void child_ended(struct child *c, int status, uint64_t now_ms)
{
	c->pid = 0;
	if (c->pause_ms == 0 || now_ms - c->started_ms > GOOD_MS)
		c->pause_ms = PAUSE_MS_MIN;
	else if (c->pause_ms < PAUSE_MS_MAX)
		c->pause_ms = c->pause_ms * 2 > PAUSE_MS_MAX ? PAUSE_MS_MAX : c->pause_ms * 2;
	c->retry_ms = now_ms + c->pause_ms;
	if (WIFSIGNALED(status))
		log_warn("%s was killed by signal %d; starting it again in %u ms", c->name, WTERMSIG(status),
			 (unsigned)c->pause_ms);
	else
		log_warn("%s ended with status %d; starting it again in %u ms", c->name, WEXITSTATUS(status),
			 (unsigned)c->pause_ms);
}

void child_done(struct child *c)
{
	for (size_t i = 0; c->args[i] != NULL; i++)
		free(c->args[i]);
}
