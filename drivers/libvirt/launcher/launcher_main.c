/* launcher_main.c -- berth-libvirtd: see libvirtd.h.
 *
 * Happy path: the lock, the background, directories and configuration, the mount namespace, libvirtd; then it waits.
 * Failures: libvirtd dies: it is begun again, later each time while it dies at once. The launcher dies: the kernel ends libvirtd
 * with it, and sandboxd begins another. In both cases the machines serve on, and the next libvirtd finds them in run/ and lib/.
 * Invariant: nothing is mounted outside of its own namespace. */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "libvirtd.h"

#define IDLE_SECONDS "60"
#define AGAIN_MS_MAX 5000u
#define LIVED_MS     10000u
#define LOGS_SECONDS 30

static const char libvirtd_conf[] = "auth_unix_ro = \"none\"\n"
				    "auth_unix_rw = \"none\"\n"
				    "unix_sock_ro_perms = \"0700\"\n"
				    "unix_sock_rw_perms = \"0700\"\n"
				    "max_clients = 200\n"
				    "max_client_requests = 32\n"
				    "min_workers = 5\n"
				    "max_workers = 80\n"
				    "log_level = 3\n"
				    "log_outputs = \"3:file:/var/log/libvirt/libvirtd.log\"\n";

/* QEMU's user is the domain's own; nobody's files are given to it, and nothing is remembered on them. */
static const char qemu_conf[] = "security_driver = \"none\"\n"
				"user = \"root\"\n"
				"group = \"root\"\n"
				"dynamic_ownership = 0\n"
				"remember_owner = 0\n"
				"namespaces = []\n"
				"stdio_handler = \"file\"\n"
				"seccomp_sandbox = 1\n"
				"clear_emulator_capabilities = 1\n"
				"max_processes = 256\n"
				"max_core = 0\n"
				"dump_guest_core = 0\n";

static const struct {
	const char *own, *libvirts;
} places[] = {{"etc", "/etc/libvirt"},
	      {"lib", "/var/lib/libvirt"},
	      {"run", "/run/libvirt"},
	      {"cache", "/var/cache/libvirt"}};

static volatile sig_atomic_t asked_to_end;

static void on_term(int sig)
{
	(void)sig;
	asked_to_end = 1;
}

/* -- Files ------------------------------------------------------------------------------------------------------ */

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	(void)!remove(path);
	return 0;
}

static void remove_tree(const char *dir, const char *name)
{
	char path[300];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* What libvirt noted of machines before this boot names processes that are others now. */
static int forget_former_boots(const char *dir)
{
	char path[300], id[CLOCK_BOOT_ID_SIZE];
	CLEANUP_BUF struct buf b = {0};

	clock_boot_id(id);
	snprintf(path, sizeof path, "%s/boot", dir);
	if (fd_read_file(path, sizeof id, &b, NULL) == 0 && strcmp(buf_cstr(&b), id) == 0)
		return 0;
	remove_tree(dir, "run");
	remove_tree(dir, "lib");
	return fd_write_file(path, 0600, id, strlen(id), NULL);
}

static int prepare_files(const char *dir)
{
	char path[300];
	int r = forget_former_boots(dir);

	for (size_t i = 0; r == 0 && i < sizeof places / sizeof *places; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, places[i].own);
		/* QEMU's users pass through to the sockets below. */
		if ((mkdir(path, 0755) != 0 && errno != EEXIST) || chmod(path, 0711) != 0 ||
		    (mkdir(places[i].libvirts, 0755) != 0 && errno != EEXIST))
			r = -errno;
	}
	snprintf(path, sizeof path, "%s/etc/libvirtd.conf", dir);
	if (r == 0)
		r = fd_write_file(path, 0600, libvirtd_conf, strlen(libvirtd_conf), NULL);
	snprintf(path, sizeof path, "%s/etc/qemu.conf", dir);
	return r == 0 ? fd_write_file(path, 0600, qemu_conf, strlen(qemu_conf), NULL) : r;
}

static int enter_namespace(const char *dir)
{
	char path[300];

	if (unshare(CLONE_NEWNS) != 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) != 0)
		return -errno;
	for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, places[i].own);
		if (mount(path, places[i].libvirts, NULL, MS_BIND, NULL) != 0)
			return -errno;
	}
	if (mkdir("/var/log/libvirt", 0755) != 0 && errno != EEXIST)
		return -errno;
	return mount("berth-logs", "/var/log/libvirt", "tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC,
		     "size=32m,mode=0711") != 0
		       ? -errno
		       : 0;
}

static time_t logs_older_than;

static int remove_old_log(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)where;
	if (kind == FTW_F && st->st_mtime < logs_older_than)
		(void)unlink(path);
	return 0;
}

/* What QEMUs complained about, of machines that are mostly gone: one that still writes keeps its file. */
static void remove_old_logs(void)
{
	logs_older_than = time(NULL) - 10 * LOGS_SECONDS;
	nftw("/var/log/libvirt/qemu", remove_old_log, 16, FTW_PHYS);
}

/* -- libvirtd --------------------------------------------------------------------------------------------------- */

static pid_t begin_libvirtd(void)
{
	char *const argv[] = {(char[]){"libvirtd"},
			      (char[]){"--timeout"},
			      (char[]){IDLE_SECONDS},
			      (char[]){"--pid-file"},
			      (char[]){"/run/libvirt/libvirtd.pid"},
			      (char[]){"--config"},
			      (char[]){"/etc/libvirt/libvirtd.conf"},
			      NULL};
	pid_t parent = getpid(), pid = fork();
	sigset_t none;

	if (pid != 0)
		return pid;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvp("libvirtd", argv);
	_exit(127);
}

/* Until libvirtd ends; its status. Also reaps QEMUs, whose parent this became. */
static int wait_for(pid_t libvirtd)
{
	int status;

	for (;;) {
		pid_t pid = waitpid(-1, &status, WNOHANG);

		if (pid == libvirtd || (pid < 0 && errno == ECHILD))
			return status;
		if (pid > 0)
			continue;
		if (asked_to_end)
			(void)kill(libvirtd, SIGKILL);
		sigset_t wanted;

		sigemptyset(&wanted);
		sigaddset(&wanted, SIGCHLD);
		sigaddset(&wanted, SIGTERM);
		/* Blocked, so that none is lost between waitpid and here. */
		int sig = sigtimedwait(&wanted, NULL, &(struct timespec){.tv_sec = LOGS_SECONDS});

		if (sig == SIGTERM)
			asked_to_end = 1;
		else if (sig < 0)
			remove_old_logs();
	}
}

static int run(void)
{
	uint64_t again_ms = 50;

	for (;;) {
		uint64_t began = clock_boot_ms();
		pid_t pid = begin_libvirtd();
		int status = pid < 0 ? -1 : wait_for(pid);

		if (asked_to_end || (pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0))
			return 0;
		if (clock_boot_ms() - began > LIVED_MS)
			again_ms = 50;
		usleep((useconds_t)again_ms * 1000);
		again_ms = again_ms * 2 > AGAIN_MS_MAX ? AGAIN_MS_MAX : again_ms * 2;
	}
}

/* -- The launcher ----------------------------------------------------------------------------------------------- */

/* 0: it is ours. 1: another one has it. */
static int take_lock(const char *dir)
{
	char path[300];
	int fd;

	if (mkdir(dir, 0711) != 0 && errno != EEXIST)
		return -errno;
	snprintf(path, sizeof path, "%s/lock", dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0)
		return 0; /* kept open: the lock is this process's */
	return errno == EWOULDBLOCK ? 1 : -errno;
}

static int write_pid(const char *dir)
{
	char path[300], text[32];
	int n = snprintf(text, sizeof text, "%d\n", (int)getpid());

	snprintf(path, sizeof path, "%s/lock", dir);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_TRUNC | O_CLOEXEC | O_NOFOLLOW);

	return fd < 0 ? -errno : fd_write_all(fd, text, (size_t)n);
}

static void set_signals(void)
{
	struct sigaction term = {.sa_handler = on_term};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	sigaction(SIGTERM, &term, NULL);
	signal(SIGINT, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
}

int main(int argc, char **argv)
{
	const char *dir = argv[1];
	int r;

	if (argc != 2 || dir[0] != '/' || strlen(dir) > LIBVIRTD_DIR_MAX) {
		fprintf(stderr,
			"usage: berth-libvirtd DIR\n\nRuns a libvirtd of its own below DIR, for sandboxd.\n");
		return 2;
	}
	umask(022);
	r = take_lock(dir);
	if (r == 1)
		return 0;
	if (r == 0)
		r = prepare_files(dir);
	if (r < 0) {
		fprintf(stderr, "berth-libvirtd: %s: %s\n", dir, strerror(-r));
		return 1;
	}
	/* The lock goes along: it belongs to the open file, which the child keeps. */
	pid_t pid = fork();

	if (pid != 0)
		return pid < 0 ? 1 : 0;
	setsid();
	set_signals();
	(void)prctl(PR_SET_CHILD_SUBREAPER, 1);
	(void)!chdir("/");
	r = write_pid(dir);
	if (r == 0)
		r = enter_namespace(dir);
	return r == 0 ? run() : 1;
}
