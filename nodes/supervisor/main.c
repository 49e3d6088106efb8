/* berth-supervisor -- keeps a node's two daemons running, for machines where no service manager does.
 *
 * Happy path: reads the node's configuration, makes its directories, starts sandboxd as root and berthd as the configured
 * user, and starts either again when it ends. On SIGTERM it ends both and leaves; sandboxes go on, for the next start.
 * sandboxd freezes what runs when the node's lease ends. If it stands still it does not; so this reads the same deadline, kills
 * a sandboxd that let it pass, and the next one freezes before it does anything else.
 * Failure modes: a second supervisor of the same node is refused by a lock on its pid file; a daemon that ends at once is
 * started with growing pauses and each end is logged. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <libgen.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "child.h"
#include "config/config.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/must.h"
#include "lease/lease_file.h"
#include "purge.h"

#define STOP_MS        8000
#define FENCE_MS       1000 /* for sandboxd to freeze what runs once the lease is over */
#define AGAIN_MS       5000
#define BERTHD_REMOVED 4 /* its exit status: see nodes/control/links/roster.h */

struct supervisor {
	struct config config;
	char config_path[PATH_MAX], programs[PATH_MAX], lease_path[PATH_MAX + 32];
	struct child sandboxd, berthd;
	uid_t uid;
	gid_t gid;
	int lock;
	uint64_t fenced_ms; /* when sandboxd was killed because it had not */
};

static const char *text(struct supervisor *s, struct str value)
{
	return arena_str(&s->config.memory, value).p;
}

static int make_directory(const char *path, uid_t uid, gid_t gid, mode_t mode, struct err *err)
{
	char partial[PATH_MAX];

	if (strlen(path) >= sizeof partial)
		return err_set(err, -ENAMETOOLONG, "%s: too long", path);
	strcpy(partial, path);
	for (char *at = strchr(partial + 1, '/'); at != NULL; at = strchr(at + 1, '/')) {
		*at = '\0';
		if (mkdir(partial, 0755) < 0 && errno != EEXIST)
			return err_system(err, -errno, "make %s", partial);
		*at = '/';
	}
	if ((mkdir(path, mode) < 0 && errno != EEXIST) || chown(path, uid, gid) < 0 || chmod(path, mode) < 0)
		return err_system(err, -errno, "make %s", path);
	return 0;
}

/* state_dir/berthd is the daemon's own; state_dir/sandboxd is root's, passable because containers walk through it. */
static int make_directories(struct supervisor *s, struct err *err)
{
	const char *state = text(s, s->config.state_dir), *run = text(s, s->config.run_dir);
	char path[PATH_MAX], socket[PATH_MAX];
	int r = make_directory(state, 0, 0, 0755, err);

	if (r == 0)
		r = make_directory(run, 0, 0, 0755, err);
	snprintf(path, sizeof path, "%s/berthd", state);
	if (r == 0)
		r = make_directory(path, s->uid, s->gid, 0700, err);
	snprintf(s->lease_path, sizeof s->lease_path, "%s/sandboxd/lease", state);
	snprintf(path, sizeof path, "%s/sandboxd", state);
	if (r == 0)
		r = make_directory(path, 0, 0, 0711, err);
	must(str_copy(s->config.sandboxd_socket, socket, sizeof socket) == 0);
	if (r == 0)
		r = make_directory(dirname(socket), 0, s->gid, 0750, err);
	must(str_copy(s->config.admin_socket, socket, sizeof socket) == 0);
	if (r == 0)
		r = make_directory(dirname(socket), s->uid, s->gid, 0755, err);
	return r;
}

static int take_lock(struct supervisor *s, struct err *err)
{
	char path[PATH_MAX], pid[32];

	snprintf(path, sizeof path, "%s/supervisor.pid", text(s, s->config.run_dir));
	s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (s->lock < 0)
		return err_system(err, -errno, "%s", path);
	if (flock(s->lock, LOCK_EX | LOCK_NB) < 0)
		return err_set(err, -EBUSY, "%s: this node is running already", path);
	int n = snprintf(pid, sizeof pid, "%d\n", (int)getpid());

	if (ftruncate(s->lock, 0) < 0 || pwrite(s->lock, pid, (size_t)n, 0) != n)
		return err_system(err, -errno, "%s", path);
	return 0;
}

static int find_user(struct supervisor *s, struct err *err)
{
	const char *name = text(s, s->config.user);
	struct passwd *user = getpwnam(name);

	if (user == NULL)
		return err_set(err, -ENOENT, "user: there is no user \"%s\" on this machine", name);
	s->uid = user->pw_uid;
	s->gid = user->pw_gid;
	return 0;
}

static void describe_children(struct supervisor *s)
{
	struct child *d = &s->sandboxd, *b = &s->berthd;
	struct config *c = &s->config;
	char sandboxd[PATH_MAX + 16], berthd[PATH_MAX + 16];

	snprintf(sandboxd, sizeof sandboxd, "%s/sandboxd", s->programs);
	snprintf(berthd, sizeof berthd, "%s/berthd", s->programs);
	*d = (struct child){.name = "sandboxd", .program = text(s, str_of(sandboxd))};
	child_arg(d, "sandboxd");
	child_arg(d, "--config=%s", s->config_path);
	*b = (struct child){.name = "berthd",
			    .program = text(s, str_of(berthd)),
			    .uid = s->uid,
			    .gid = s->gid,
			    .user = text(s, c->user)};
	child_arg(b, "berthd");
	child_arg(b, "--config=%s", s->config_path);
}

/* False: berthd says that this node is no part of its cluster any more. */
static bool reap(struct supervisor *s)
{
	struct child *children[] = {&s->sandboxd, &s->berthd};
	bool belongs = true;
	pid_t pid;
	int status;

	/* As a subreaper it also inherits shims whose sandboxd died, and reaps them when they end. */
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		for (int i = 0; i < 2; i++) {
			if (children[i]->pid != pid)
				continue;
			if (children[i] == &s->berthd && WIFEXITED(status) &&
			    WEXITSTATUS(status) == BERTHD_REMOVED) {
				log_warn("this node was removed from its cluster: nothing is started again");
				children[i]->pid = 0;
				belongs = false;
				continue;
			}
			child_ended(children[i], status, clock_boot_ms());
		}
	}
	return belongs;
}

static int start_due(struct supervisor *s)
{
	struct child *children[] = {&s->sandboxd, &s->berthd};
	uint64_t now = clock_boot_ms(), wait = 60000;

	for (int i = 0; i < 2; i++) {
		struct err err = {0};

		if (children[i]->pid != 0)
			continue;
		if (now >= children[i]->retry_ms && child_start(children[i], now, &err) < 0)
			log_error("%s", err.message);
		if (children[i]->pid == 0 && children[i]->retry_ms > now &&
		    children[i]->retry_ms - now < wait)
			wait = children[i]->retry_ms - now;
	}
	return (int)wait;
}

/* An end that the daemon did not mean, such as a crash, is told although it was to end. */
static void tell_stopped(const char *name, int status)
{
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGTERM)
		log_warn("%s was killed by signal %d while it stopped", name, WTERMSIG(status));
	else if (WIFEXITED(status) && WEXITSTATUS(status) != 0)
		log_warn("%s ended with status %d while it stopped", name, WEXITSTATUS(status));
}

static void stop_both(struct supervisor *s)
{
	struct child *children[] = {&s->berthd, &s->sandboxd};
	uint64_t deadline = clock_boot_ms() + STOP_MS;
	int status = 0;

	for (int i = 0; i < 2; i++) {
		pid_t pid = children[i]->pid;

		if (pid == 0)
			continue;
		kill(pid, SIGTERM);
		while (waitpid(pid, &status, WNOHANG) == 0) {
			if (clock_boot_ms() > deadline) {
				log_warn("%s did not end within %d ms: killed", children[i]->name, STOP_MS);
				kill(pid, SIGKILL);
				waitpid(pid, NULL, 0);
				status = 0;
				break;
			}
			usleep(10000);
		}
		tell_stopped(children[i]->name, status);
	}
}

/* Sees that sandboxd keeps the lease. The ms until that has to be looked at again. */
static int watch_lease(struct supervisor *s)
{
	uint64_t now = clock_boot_ms(), due;
	struct lease_file lease;

	if (s->sandboxd.pid == 0 || lease_file_read(s->lease_path, &lease, NULL) < 0)
		return AGAIN_MS;
	due = lease.until_ms + FENCE_MS;
	if (lease.until_ms == 0 || lease.kept_ms == lease.until_ms)
		return AGAIN_MS;
	if (due > now)
		return due - now < AGAIN_MS ? (int)(due - now) : AGAIN_MS;
	if (now - s->fenced_ms >= AGAIN_MS) {
		log_error("the node's lease ended and sandboxd has not frozen what runs: it is killed and "
			  "started again");
		kill(s->sandboxd.pid, SIGKILL);
		s->fenced_ms = now;
	}
	return AGAIN_MS;
}

static void supervise(struct supervisor *s, int signals)
{
	for (;;) {
		struct pollfd p = {.fd = signals, .events = POLLIN};
		struct signalfd_siginfo info;
		int start_ms = start_due(s), lease_ms = watch_lease(s);

		if (poll(&p, 1, start_ms < lease_ms ? start_ms : lease_ms) <= 0)
			continue;
		if (read(signals, &info, sizeof info) != (ssize_t)sizeof info)
			continue;
		if (info.ssi_signo == SIGCHLD && reap(s))
			continue;
		if (info.ssi_signo == SIGHUP && s->berthd.pid != 0)
			kill(s->berthd.pid, SIGHUP);
		else if (info.ssi_signo != SIGHUP)
			break;
	}
	stop_both(s);
}

static int prepare(struct supervisor *s, const char *path, struct err *err)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n < 0 || realpath(path, s->config_path) == NULL)
		return err_system(err, -errno, "%s", path);
	self[n] = '\0';
	snprintf(s->programs, sizeof s->programs, "%s", dirname(self));
	int r = config_load(s->config_path, &s->config, err);

	if (r == 0)
		r = find_user(s, err);
	if (r == 0)
		r = make_directories(s, err);
	return r == 0 ? take_lock(s, err) : r;
}

static const char usage[] = "usage: berth-supervisor FILE          keep berthd and sandboxd of the node that "
			    "FILE configures running until\n"
			    "                                      SIGTERM; SIGHUP is passed to berthd, "
			    "which reads its certificates again\n"
			    "       berth-supervisor --purge FILE  the node is stopped: end its sandboxes "
			    "and remove what they left\n";

int main(int argc, char **argv)
{
	static struct supervisor s = {.lock = -1};
	struct err err = {0};
	sigset_t set;

	log_init("berth-supervisor", LOG_INFO);
	bool purge = argc == 3 && strcmp(argv[1], "--purge") == 0;

	if (!purge && (argc != 2 || argv[1][0] == '-')) {
		fputs(usage, stderr);
		return argc == 2 && strcmp(argv[1], "--help") == 0 ? 0 : 2;
	}
	if (geteuid() != 0) {
		fprintf(stderr, "berth-supervisor: must be started by root\n");
		return 1;
	}
	if (prepare(&s, argv[argc - 1], &err) < 0) {
		fprintf(stderr, "berth-supervisor: %s\n", err.message);
		return 1;
	}
	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigprocmask(SIG_BLOCK, &set, NULL);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	describe_children(&s);
	if (purge) {
		if (purge_node(&s.config, &s.sandboxd, &err) < 0)
			fprintf(stderr, "berth-supervisor: %s\n", err.message);
		return err.code == 0 ? 0 : 1;
	}
	supervise(&s, signalfd(-1, &set, SFD_CLOEXEC));
	child_done(&s.sandboxd);
	child_done(&s.berthd);
	config_done(&s.config);
	return 0;
}
