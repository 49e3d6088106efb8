#include "image_child/lockdown.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <signal.h>
#include <sys/capability.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

/* Memory, time, own state: what any program of ours and libc need. */
static const char *const calls_basic[] = {
	"brk",
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"close",
	"close_range",
	"dup",
	"dup2",
	"dup3",
	"exit",
	"exit_group",
	"fcntl",
	"fstat",
	"futex",
	"getegid",
	"geteuid",
	"getgid",
	"getpid",
	"getrandom",
	"getrlimit",
	"gettid",
	"gettimeofday",
	"getuid",
	"lseek",
	"madvise",
	"membarrier",
	"mmap",
	"mprotect",
	"mremap",
	"munmap",
	"nanosleep",
	"newfstatat",
	"pread64",
	"prlimit64",
	"pwrite64",
	"read",
	"readv",
	"restart_syscall",
	"rseq",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"sched_getaffinity",
	"sched_yield",
	"set_robust_list",
	"sigaltstack",
	"statx",
	"sysinfo",
	"tgkill",
	"uname",
	"write",
	"writev",
};

/* Reading files: certificates, the resolver's configuration, layouts. */
static const char *const calls_files[] = {
	"access", "faccessat", "faccessat2", "ftruncate", "getcwd",     "getdents64",
	"ioctl",  "open",      "openat",     "readlink",  "readlinkat", "stat",
};

static const char *const calls_network[] = {
	"accept4",    "bind",     "clone",       "connect",     "epoll_create1", "epoll_ctl", "epoll_pwait",
	"epoll_wait", "eventfd2", "getpeername", "getsockname", "getsockopt",    "pipe",      "pipe2",
	"poll",       "ppoll",    "recvfrom",    "recvmmsg",    "recvmsg",       "select",    "pselect6",
	"sendmmsg",   "sendmsg",  "sendto",      "setsockopt",  "shutdown",      "socket",    "socketpair",
};

static const char *const calls_tree[] = {
	"fchdir", "fchmod",  "fchmodat", "fchown",    "fchownat", "fsync",
	"linkat", "mkdirat", "mknodat",  "symlinkat", "unlinkat", "utimensat",
};

/* Starting a program, and what mkfs.erofs and its libraries need. */
static const char *const calls_program[] = {
	"arch_prctl", "execve", "fallocate", "llistxattr", "set_tid_address", "statfs",
};

enum { CALLS_NETWORK = 1, CALLS_TREE = 2, CALLS_PROGRAM = 4 };

static int allow(scmp_filter_ctx filter, const char *const *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int number = seccomp_syscall_resolve_name(calls[i]);
		int r = number == __NR_SCMP_ERROR ? 0 : seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);

		if (r < 0)
			return r;
	}
	return 0;
}

#define ALLOW(filter, list) allow(filter, list, sizeof(list) / sizeof *(list))

static int filter_calls(unsigned lists, struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r;

	if (filter == NULL)
		return err_set(err, -ENOMEM, "seccomp: no memory");
	r = ALLOW(filter, calls_basic);
	if (r == 0)
		r = ALLOW(filter, calls_files);
	if (r == 0 && (lists & CALLS_NETWORK))
		r = ALLOW(filter, calls_network);
	if (r == 0 && (lists & CALLS_TREE))
		r = ALLOW(filter, calls_tree);
	if (r == 0 && (lists & CALLS_PROGRAM))
		r = ALLOW(filter, calls_program);
	if (r == 0)
		r = seccomp_rule_add(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r == 0 ? 0 : err_system(err, r, "seccomp filter");
}

static int set_limits(uint64_t file_bytes_max, struct err *err)
{
	const struct rlimit file = {file_bytes_max, file_bytes_max}, none = {0, 0};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0 ||
	    setrlimit(RLIMIT_CORE, &none) < 0 || setrlimit(RLIMIT_FSIZE, &file) < 0)
		return err_system(err, -errno, "set limits");
	return 0;
}

int lockdown_fetch(bool network, uint64_t file_bytes_max, struct err *err)
{
	int r = set_limits(file_bytes_max, err);

	return r < 0 ? r : filter_calls(network ? CALLS_NETWORK : 0, err);
}

/* Exactly these; beyond an exec only if inherited, and then one. */
static int keep_capabilities(const cap_value_t *keep, int n, bool inherit, struct err *err)
{
	cap_t caps = cap_init();
	int r = 0;

	if (caps == NULL)
		return err_set(err, -ENOMEM, "capabilities: no memory");
	if (cap_set_flag(caps, CAP_PERMITTED, n, keep, CAP_SET) < 0 ||
	    cap_set_flag(caps, CAP_EFFECTIVE, n, keep, CAP_SET) < 0 ||
	    (inherit && cap_set_flag(caps, CAP_INHERITABLE, n, keep, CAP_SET) < 0) ||
	    cap_set_proc(caps) < 0 || (inherit && cap_set_ambient(keep[0], CAP_SET) < 0))
		r = err_system(err, -errno, "drop capabilities");
	cap_free(caps);
	return r;
}

static int become(uint32_t uid, uint32_t gid, struct err *err)
{
	return prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0) < 0 || setgroups(0, NULL) < 0 ||
			       setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0
		       ? err_system(err, -errno, "become user %u", uid)
		       : 0;
}

/* The parent asked for it, but the change of user took it away. */
static int die_with(pid_t parent, struct err *err)
{
	return prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 || getppid() != parent
		       ? err_set(err, -ESRCH, "sandboxd is gone")
		       : 0;
}

int lockdown_unpack(int root_fd, uint32_t uid, uint32_t gid, uint64_t file_bytes_max, struct err *err)
{
	static const cap_value_t keep[] = {CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_FOWNER, CAP_FSETID};
	pid_t parent = getppid();
	int r;

	if (fchdir(root_fd) < 0 || chroot(".") < 0 || chdir("/") < 0)
		return err_system(err, -errno, "chroot");
	close(root_fd);
	r = become(uid, gid, err);
	if (r == 0)
		r = keep_capabilities(keep, 4, false, err);
	if (r == 0)
		r = die_with(parent, err);
	if (r == 0)
		r = set_limits(file_bytes_max, err);
	return r < 0 ? r : filter_calls(CALLS_TREE, err);
}

int lockdown_pack(uint32_t uid, uint32_t gid, uint64_t file_bytes_max, struct err *err)
{
	static const cap_value_t keep[] = {CAP_DAC_READ_SEARCH};
	pid_t parent = getppid();
	int r = become(uid, gid, err);

	if (r == 0)
		r = keep_capabilities(keep, 1, true, err);
	if (r == 0)
		r = die_with(parent, err);
	if (r == 0)
		r = set_limits(file_bytes_max, err);
	return r < 0 ? r : filter_calls(CALLS_PROGRAM, err);
}
