/* shim_main.c -- berth-shim: the parent of one container, started by sandboxd and outliving it.
 *
 * sandboxd executes this program once; that process is forked for each shim (shims.h).
 * Happy path: configuration from descriptor 3; groups with their limits and the out-of-memory watch; root file system in
 * a mount namespace of its own; a child in these groups becomes liblxc's monitor; berth-init says hello from inside
 * with its process id, and the monitor leaves the groups; SHIM_READY; sandboxd reads the limits back, sets up the
 * network and says go; berth-init gets its program; SHIM_RUNNING; then
 * privileges are dropped for good and this process is the logger.
 * Failure: before SHIM_RUNNING all ends here: the monitor is killed (the container with it) and SHIM_FAILED
 * names the cause. sandboxd gone before its go: the same. This process killed later: sandboxd sees it
 * and kills the container; without privileges it cannot take its children along.
 * Invariants: single-threaded (liblxc refuses otherwise); no secret in argv, environment or files. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/sched.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sandbox/cgroup.h"
#include "lxc_shim/cgroup_make.h"
#include "container.h"
#include "core/clock.h"
#include "core/fd.h"
#include "init_spec.h"
#include "logger.h"
#include "lxc_shim/pass_fd.h"
#include "program/rlimits.h"
#include "sandbox/process.h"
#include "rootfs.h"
#include "lxc_shim/shim_config.h"

#define INIT_WAIT_MS  30000
#define GO_WAIT_MS    60000
#define STACK_KEPT    4096
#define STACK_DROPPED (512u * 1024)
#define HOME_FD_MIN   64 /* above whatever else is open */

struct shim {
	struct shim_config config;
	struct cgroup_layout layout;
	struct arena arena;
	char name[65], dir[512], mounts[512];
	struct logger logger;
	int init;        /* our end of the first process's descriptor 0 */
	int exec_report; /* from berth-init: ends when the program runs */
	pid_t first;     /* the container's first process */
};

static void report(struct shim *s, enum shim_event event, const struct err *err)
{
	struct shim_report r = {.event = (uint8_t)event,
				.pid = s->first,
				.shim_pid = getpid(),
				.pid_start = s->first > 0 ? process_start(s->first) : 0,
				.shim_start = process_start(getpid()),
				.started_boot_ms = clock_boot_ms(),
				.started_wall_ms = clock_wall_ms()};
	CLEANUP_BUF struct buf b = {0};

	if (err != NULL) {
		r.code = err->code;
		r.message = str_of(err->message);
	}
	codec_encode(&b, &shim_report_codec, &r);
	(void)!send(SHIM_CONTROL_FD, b.p, b.n, MSG_NOSIGNAL);
}

static int read_config(struct shim *s, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(CODEC_BYTES_MAX);
	int r;

	/* Straight into one piece, so that nothing of it stays behind elsewhere. */
	char *to = buf_reserve(&b, CODEC_BYTES_MAX);
	ssize_t n = to == NULL ? -1 : pread(SHIM_CONFIG_FD, to, CODEC_BYTES_MAX, 0);

	if (n <= 0)
		return err_set(err, -EBADF, "no configuration in descriptor %d", SHIM_CONFIG_FD);
	b.n = (size_t)n;
	close(SHIM_CONFIG_FD);
	r = codec_decode(b.p, b.n, &shim_config_codec, &s->arena, &s->config, err);
	explicit_bzero(b.p, b.n);
	if (r == 0 && str_copy(s->config.name, s->name, sizeof s->name) < 0)
		r = err_set(err, -ENAMETOOLONG, "name of the container");
	if (r == 0 && (str_copy(s->config.dir, s->dir, sizeof s->dir) < 0 || s->config.dir.n > 400))
		r = err_set(err, -ENAMETOOLONG, "directory of the sandbox");
	if (r == 0 && str_copy(s->config.lxc_path, s->mounts, sizeof s->mounts) < 0)
		r = err_set(err, -ENAMETOOLONG, "directory of the mounts");
	return r;
}

/* Secrets: no process of ours holds them longer than it has to. */
static void forget_environment(struct shim *s)
{
	for (uint32_t i = 0; i < s->config.n_env; i++) {
		if (s->config.env[i].n > 0)
			explicit_bzero((char *)(uintptr_t)s->config.env[i].p, s->config.env[i].n);
	}
}

/* -- The monitor: a child ------------------------------------------------------------------------------------- */

static struct cgroup_home home; /* where the monitor returns when its child is in the container's groups */

/* A start goes deep once and stays shallow for the life of its sandbox: the pages below are given back. */
static void drop_stack(void)
{
	char here;
	uintptr_t end = ((uintptr_t)&here - STACK_KEPT) & ~(uintptr_t)4095;

	(void)!madvise((void *)(end - STACK_DROPPED), STACK_DROPPED, MADV_DONTNEED);
}

static void on_go_home(int sig)
{
	int saved = errno;

	(void)sig;
	cgroup_go_home(&home);
	cgroup_home_close(&home);
	drop_stack();
	errno = saved;
}

/* In the container's groups until its child is cloned, so that nobody has to be moved into them by id, which would wait
 * (cgroup_make.h). SIGWINCH is one of the few signals that liblxc's monitor does not block. */
static bool may_go_home(void)
{
	struct sigaction a = {.sa_handler = on_go_home, .sa_flags = SA_RESTART};

	sigemptyset(&a.sa_mask);
	return sigaction(SIGWINCH, &a, NULL) == 0;
}

static void monitor(struct shim *s, int sock, int out, int err_pipe, pid_t parent) __attribute__((noreturn));

static void monitor(struct shim *s, int sock, int out, int err_pipe, pid_t parent)
{
	struct init_result result = {.magic = INIT_RESULT_MAGIC};
	struct err err = {0};

	/* Until the logger gives its privileges away its death ends the monitor; afterwards whoever watches it (the
	 * driver) ends the container. liblxc makes the monitor's death end the container, always. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || getppid() != parent || !rlimits_set() || !may_go_home())
		_exit(1);
	if (dup2(sock, 0) != 0 || dup2(out, 1) != 1 || dup2(err_pipe, 2) != 2)
		_exit(1);
	if (fchown(1, s->config.uid_base, s->config.uid_base) != 0 ||
	    fchown(2, s->config.uid_base, s->config.uid_base) != 0)
		_exit(1);
	close_range(3, HOME_FD_MIN - 1, 0);
	forget_environment(s);
	/* What liblxc does not see it does not use. Only this mount namespace, which is ours, is changed. */
	if (mount(s->dir, "/sys/fs/cgroup", NULL, MS_BIND, NULL) != 0)
		_exit(1);
	if (container_run(&s->config, &result.error_num, &err) < 0) {
		char path[600];
		int fd;

		snprintf(path, sizeof path, "%s/lxc.log", s->dir);
		fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		dprintf(fd, "berth-shim ERROR - %s\n", err.message);
		_exit(1);
	}
	(void)!send(0, &result, sizeof result, MSG_NOSIGNAL);
	_exit(0);
}

static int start_monitor(struct shim *s, struct err *err)
{
	int sock[2], out[2], error[2], on = 1;
	pid_t self = getpid();

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sock) != 0 || pipe2(out, O_CLOEXEC) != 0 ||
	    pipe2(error, O_CLOEXEC) != 0)
		return err_system(err, -errno, "pipes");
	if (setsockopt(sock[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
		return err_system(err, -errno, "SO_PASSCRED");
	s->logger.monitor = cgroup_fork(&s->layout, s->name, err);
	if (s->logger.monitor < 0)
		return err->code;
	if (s->logger.monitor == 0)
		monitor(s, sock[1], out[1], error[1], self);
	close(sock[1]);
	close(out[1]);
	close(error[1]);
	s->init = s->logger.result = sock[0];
	s->logger.out = out[0];
	s->logger.err = error[0];
	s->logger.monitor_pidfd = (int)syscall(SYS_pidfd_open, s->logger.monitor, 0);
	return s->logger.monitor_pidfd < 0 ? err_system(err, -errno, "pidfd of the monitor") : 0;
}

/* -- Meeting berth-init ---------------------------------------------------------------------------------------- */

/* Waits for one descriptor; the monitor's or sandboxd's end stops the wait. */
static int wait_for(struct shim *s, int fd, int timeout_ms, const char *what, struct err *err)
{
	struct pollfd p[] = {{fd, POLLIN, 0}, {s->logger.monitor_pidfd, POLLIN, 0}, {SHIM_CONTROL_FD, 0, 0}};
	int n;

	do
		n = poll(p, 3, timeout_ms);
	while (n < 0 && errno == EINTR);
	if (p[0].revents != 0)
		return 0;
	if (p[1].revents != 0) {
		char cause[256];

		container_last_error(s->dir, cause, sizeof cause);
		return err_set(err, -ECHILD, "the container ended before %s%s%s", what, *cause ? ": " : "",
			       cause);
	}
	if (p[2].revents != 0)
		return err_set(err, -ECONNRESET, "sandboxd is gone");
	return err_set(err, -ETIMEDOUT, "no %s within %d ms", what, timeout_ms);
}

static int meet_init(struct shim *s, struct err *err)
{
	char byte = 0;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int r = wait_for(s, s->init, INIT_WAIT_MS, "its first process said hello", err);

	if (r < 0)
		return r;
	if (recvmsg(s->init, &m, MSG_CMSG_CLOEXEC) != 1 || byte != INIT_HELLO) {
		char cause[256];

		container_last_error(s->dir, cause, sizeof cause);
		return err_set(err, -EPROTO, "the container's first process did not start%s%s",
			       *cause ? ": " : "", cause);
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
		struct ucred cred;

		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
			memcpy(&s->exec_report, CMSG_DATA(c), sizeof s->exec_report);
		if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
			memcpy(&cred, CMSG_DATA(c), sizeof cred);
			s->first = cred.pid;
		}
	}
	if (s->exec_report < 0 || s->first <= 0)
		return err_set(err, -EPROTO, "the container's first process sent no descriptor");
	kill(s->logger.monitor, SIGWINCH); /* on_go_home() */
	cgroup_home_close(&home);
	return 0;
}

/* Everything in one message, see init_spec.h. */
static int send_spec(struct shim *s, struct err *err)
{
	const struct shim_config *c = &s->config;
	CLEANUP_BUF struct buf b = BUF_MAX(INIT_BYTES_MAX);
	struct init_head head = {
		.n_argv = c->n_argv, .n_env = c->n_env, .filter_bytes = (uint32_t)c->filter.n};
	const struct str fixed[] = {c->user, c->working_dir, c->resolv_conf};
	int r;

	if (buf_reserve(&b, INIT_BYTES_MAX) == NULL)
		return err_set(err, -ENOMEM, "no memory for the program's start");
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
		buf_add_str(&b, fixed[i]);
		buf_add(&b, "", 1);
	}
	for (uint32_t i = 0; i < c->n_argv + c->n_env; i++) {
		buf_add_str(&b, i < c->n_argv ? c->argv[i] : c->env[i - c->n_argv]);
		buf_add(&b, "", 1);
	}
	buf_add_str(&b, c->filter);
	forget_environment(s);
	if (buf_failed(&b))
		return err_set(err, -E2BIG, "arguments and environment exceed %u bytes", INIT_BYTES_MAX);
	head.bytes = (uint32_t)b.n;
	r = fd_write_all(s->init, &head, sizeof head);
	if (r == 0)
		r = fd_write_all(s->init, b.p, b.n);
	if (b.p != NULL)
		explicit_bzero(b.p, b.n);
	return r < 0 ? err_system(err, r, "send the program to the container") : 0;
}

static int wait_for_exec(struct shim *s, struct err *err)
{
	char line[512];
	ssize_t n;
	struct pollfd p = {s->exec_report, POLLIN, 0};

	while ((n = poll(&p, 1, INIT_WAIT_MS)) < 0 && errno == EINTR)
		;
	if (n == 0)
		return err_set(err, -ETIMEDOUT, "the program did not begin within %d ms", INIT_WAIT_MS);
	n = read(s->exec_report, line, sizeof line - 1);
	fd_close(&s->exec_report);
	if (n <= 0)
		return 0;
	line[n] = '\0';
	return err_set(err, -ENOEXEC, "%s", line);
}

/* -- Groups and the out-of-memory watch -------------------------------------------------------------------------- */

static int watch_oom(struct shim *s, struct err *err)
{
	struct logger *l = &s->logger;
	char dir[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + 64], text[64];
	unsigned h = (unsigned)s->layout.of[CGROUP_MEMORY];
	int r = cgroup_own_dir(&s->layout, h, s->name, dir, sizeof dir, err);

	if (r < 0)
		return r;
	l->oom_v2 = s->layout.h[h].v2;
	snprintf(path, sizeof path, "%s/%s", dir, l->oom_v2 ? "memory.events" : "memory.oom_control");
	l->oom_file = open(path, O_RDONLY | O_CLOEXEC);
	if (l->oom_file < 0)
		return err_system(err, -errno, "open %s", path);
	if (l->oom_v2) {
		l->oom = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
		if (l->oom < 0 || inotify_add_watch(l->oom, path, IN_MODIFY) < 0)
			return err_system(err, -errno, "watch %s", path);
		return 0;
	}
	l->oom = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	snprintf(path, sizeof path, "%s/cgroup.event_control", dir);
	CLEANUP_FD int control = open(path, O_WRONLY | O_CLOEXEC);

	if (l->oom < 0 || control < 0)
		return err_system(err, -errno, "open %s", path);
	int n = snprintf(text, sizeof text, "%d %d", l->oom, l->oom_file);

	r = fd_write_all(control, text, (size_t)n);
	return r < 0 ? err_system(err, r, "write %s", path) : 0;
}

static int make_groups(struct shim *s, dev_t image, struct err *err)
{
	const struct shim_config *c = &s->config;
	struct cgroup_limits limits = {.memory_bytes = c->memory_bytes,
				       .read_bytes = c->read_bytes,
				       .image = image,
				       .cpu_milli = c->cpu_milli,
				       .pids_max = c->pids_max};
	int r = cgroup_layout_read("", &s->layout, err);

	if (r == 0)
		r = cgroup_make(&s->layout, s->name, &limits, err);
	if (r == 0)
		r = watch_oom(s, err);
	return r == 0 ? cgroup_home_open(&s->layout, HOME_FD_MIN, &home, err) : r;
}

static int open_files(struct shim *s, struct err *err)
{
	char path[640];
	int r;

	snprintf(path, sizeof path, "%s/log", s->dir);
	r = log_writer_open(&s->logger.log, path, s->config.logger_uid, s->config.log_bytes, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%s/exit", s->dir);
	s->logger.exit = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	return s->logger.exit < 0 ? err_system(err, -errno, "open %s", path) : 0;
}

static int drop_privileges(struct shim *s, struct err *err)
{
	uint32_t id = s->config.logger_uid;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || setgroups(0, NULL) != 0 ||
	    setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0)
		return err_system(err, -errno, "become user %u", id);
	return prctl(PR_SET_DUMPABLE, 0) != 0 ? err_system(err, -errno, "PR_SET_DUMPABLE") : 0;
}

/* -- The whole start -------------------------------------------------------------------------------------------- */

static int wait_for_go(struct shim *s, struct err *err)
{
	char go = 0;
	int r = wait_for(s, SHIM_CONTROL_FD, GO_WAIT_MS, "sandboxd said go", err);

	if (r == 0 && (recv(SHIM_CONTROL_FD, &go, 1, 0) != 1 || go != SHIM_GO))
		r = err_set(err, -ECONNRESET, "sandboxd is gone");
	return r;
}

static int start(struct shim *s, struct err *err)
{
	const struct shim_config *c = &s->config;
	struct stat image;
	char root[4097];
	int r = read_config(s, err);

	if (r == 0 && str_copy(c->root, root, sizeof root) < 0)
		r = err_set(err, -ENAMETOOLONG, "root of the image");
	if (r == 0 && stat(root, &image) != 0)
		r = err_system(err, -errno, "%s", root);
	if (r == 0)
		r = make_groups(s, image.st_dev, err);
	if (r == 0)
		r = rootfs_mount(root, s->mounts, c->uid_base, c->disk_bytes, err);
	if (r == 0)
		r = open_files(s, err);
	if (r == 0)
		r = start_monitor(s, err);
	if (r == 0)
		r = meet_init(s, err);
	if (r == 0)
		r = rootfs_check_shm(s->first, c->memory_bytes, err);
	if (r == 0) {
		report(s, SHIM_READY, NULL);
		r = wait_for_go(s, err);
	}
	if (r == 0)
		r = send_spec(s, err);
	if (r == 0)
		r = wait_for_exec(s, err);
	return r == 0 ? drop_privileges(s, err) : r;
}

static int give_up(struct shim *s, const struct err *err)
{
	if (s->logger.monitor > 0) {
		kill(s->logger.monitor, SIGKILL);
		waitpid(s->logger.monitor, NULL, 0);
	}
	report(s, SHIM_FAILED, err);
	return 1;
}

static int run(void)
{
	struct shim s = {.init = -1,
			 .exec_report = -1,
			 .logger = {.out = -1, .err = -1, .oom = -1, .oom_file = -1, .exit = -1}};
	struct err err = {0};

	setsid();
	if (start(&s, &err) < 0)
		return give_up(&s, &err);
	report(&s, SHIM_RUNNING, NULL);
	close(SHIM_CONTROL_FD);
	arena_done(&s.arena);
	malloc_trim(0);
	drop_stack();
	logger_run(&s.logger);
	return 0;
}

/* -- One process that is forked for each shim ------------------------------------------------------------------- */

/* In the new shim: as if it had been executed with these two descriptors. */
static void become_shim(const int fds[PASS_FD_MAX], const char *name, char *room)
{
	int config = fcntl(fds[0], F_DUPFD_CLOEXEC, HOME_FD_MIN);
	int control = fcntl(fds[1], F_DUPFD_CLOEXEC, HOME_FD_MIN);

	if (dup2(config, SHIM_CONFIG_FD) != SHIM_CONFIG_FD ||
	    dup2(control, SHIM_CONTROL_FD) != SHIM_CONTROL_FD)
		_exit(1);
	close_range(SHIM_CONTROL_FD + 1, ~0u, 0);
	signal(SIGCHLD, SIG_DFL);
	prctl(PR_SET_NAME, "berth-shim");
	memset(room, 0, SHIM_NAME_ROOM);
	snprintf(room, SHIM_NAME_ROOM, "%s", name);
}

/* The child returns 0. Nobody waits for it, so its pidfd has to be made with it. */
static pid_t fork_shim(int *ret_pidfd)
{
	struct clone_args args = {
		.flags = CLONE_PIDFD, .pidfd = (uintptr_t)ret_pidfd, .exit_signal = SIGCHLD};

	return (pid_t)syscall(SYS_clone3, &args, sizeof args);
}

static bool serve(char *room)
{
	char name[SHIM_NAME_ROOM];
	int fds[PASS_FD_MAX], pidfd = -1;
	ssize_t n = pass_fd_receive(SHIM_FORKS_FD, name, sizeof name - 1, fds);
	int32_t pid;

	if (n <= 0)
		return false; /* sandboxd is gone */
	name[n] = '\0';
	pid = fork_shim(&pidfd);
	if (pid == 0) {
		become_shim(fds, name, room);
		exit(run());
	}
	if (pid < 0)
		pid = -errno;
	n = pass_fd_send(SHIM_FORKS_FD, &pid, sizeof pid, &pidfd, pid > 0 ? 1 : 0);
	fd_close(&fds[0]);
	fd_close(&fds[1]);
	fd_close(&pidfd);
	return n == 0;
}

int main(int argc, char **argv)
{
	struct sigaction nobody_waits = {.sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT};

	if (argc != 2 || strlen(argv[1]) != SHIM_NAME_ROOM - 1)
		return 2; /* only sandboxd starts it */
	setsid();
	prctl(PR_SET_NAME, "berth-shims");
	sigaction(SIGCHLD, &nobody_waits, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	umask(022);
	while (serve(argv[1]))
		;
	return 0;
}
