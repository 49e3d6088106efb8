/* seccomp_filter.c -- two programs in one, made by libseccomp. The first refuses by argument and lets everything else on to
 * the second, which is the list of what may be called at all; libseccomp cannot say both in one filter, since an argument can be
 * compared once in a rule. The kernel takes 32 bits of these arguments, so 32 bits are compared: what stands above them can
 * neither hide a refused value nor make an innocent call fail.
 *
 * The list is what the default profiles of Docker and containerd always allow, without what follows; each call was judged for
 * what it reaches outside the sandbox, and for what C libraries and language runtimes do when it is missing:
 *   io_setup ... io_pgetevents   asynchronous I/O draws on one number for the whole machine (fs.aio-max-nr): one sandbox could
 *                                take it from all. Databases and web servers look for it and go on without.
 *   io_uring_*                   calls that no filter sees, and a long row of kernel bugs. ENOSYS: all runtimes fall back.
 *   memfd_secret, modify_ldt, fanotify_mark, name_to_handle_at   nothing that serves requests needs them.
 *   process_vm_readv, _writev    a debugger has ptrace, which answers to the same check. ptrace stays: the kernel asks for the
 *                                tracer's filter again after each stop (since 4.8), and a sandbox sees no process but its own.
 *   clock_adjtime                adjtimex tells the same; to set needs a capability of the host.
 *   clone3                       flags behind a pointer, which a filter cannot see: ENOSYS, and C libraries use clone.
 *   sync                         answers 0 and does nothing: it would write out every file system of the machine, again and
 *                                again if a sandbox likes, while its own files live in memory.
 * chroot stays (it needs no more than the sandbox's own root, and daemons drop into empty folders with it); seccomp and landlock
 * stay, because they only ever take away; mknod stays for FIFOs, the user namespace refuses devices. */
#include "seccomp_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "core/fd.h"

#ifndef PR_SET_MEMORY_MERGE /* newer than the headers of Debian 12 */
#define PR_SET_MEMORY_MERGE 67
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif
#define WHOLE    UINT32_MAX
#define FAMILIES 46 /* what the kernel knows, AF_MAX; above it answers for itself, and the list refuses */

static const char *const allowed[] = {
	"accept",
	"accept4",
	"access",
	"adjtimex",
	"alarm",
	"arch_prctl",
	"bind",
	"brk",
	"capget",
	"capset",
	"chdir",
	"chmod",
	"chown",
	"chroot",
	"clone",
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"close",
	"close_range",
	"connect",
	"copy_file_range",
	"creat",
	"dup",
	"dup2",
	"dup3",
	"epoll_create",
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_pwait2",
	"epoll_wait",
	"eventfd",
	"eventfd2",
	"execve",
	"execveat",
	"exit",
	"exit_group",
	"faccessat",
	"faccessat2",
	"fadvise64",
	"fallocate",
	"fchdir",
	"fchmod",
	"fchmodat",
	"fchmodat2",
	"fchown",
	"fchownat",
	"fcntl",
	"fdatasync",
	"fgetxattr",
	"flistxattr",
	"flock",
	"fork",
	"fremovexattr",
	"fsetxattr",
	"fstat",
	"fstatfs",
	"fsync",
	"ftruncate",
	"futex",
	"futex_waitv",
	"futimesat",
	"get_robust_list",
	"get_thread_area",
	"getcpu",
	"getcwd",
	"getdents",
	"getdents64",
	"getegid",
	"geteuid",
	"getgid",
	"getgroups",
	"getitimer",
	"getpeername",
	"getpgid",
	"getpgrp",
	"getpid",
	"getppid",
	"getpriority",
	"getrandom",
	"getresgid",
	"getresuid",
	"getrlimit",
	"getrusage",
	"getsid",
	"getsockname",
	"getsockopt",
	"gettid",
	"gettimeofday",
	"getuid",
	"getxattr",
	"inotify_add_watch",
	"inotify_init",
	"inotify_init1",
	"inotify_rm_watch",
	"ioctl",
	"ioprio_get",
	"ioprio_set",
	"kill",
	"landlock_add_rule",
	"landlock_create_ruleset",
	"landlock_restrict_self",
	"lchown",
	"lgetxattr",
	"link",
	"linkat",
	"listen",
	"listxattr",
	"llistxattr",
	"lremovexattr",
	"lseek",
	"lsetxattr",
	"lstat",
	"madvise",
	"membarrier",
	"memfd_create",
	"mincore",
	"mkdir",
	"mkdirat",
	"mknod",
	"mknodat",
	"mlock",
	"mlock2",
	"mlockall",
	"mmap",
	"mprotect",
	"mq_getsetattr",
	"mq_notify",
	"mq_open",
	"mq_timedreceive",
	"mq_timedsend",
	"mq_unlink",
	"mremap",
	"msgctl",
	"msgget",
	"msgrcv",
	"msgsnd",
	"msync",
	"munlock",
	"munlockall",
	"munmap",
	"nanosleep",
	"newfstatat",
	"open",
	"openat",
	"openat2",
	"pause",
	"pidfd_open",
	"pidfd_send_signal",
	"pipe",
	"pipe2",
	"pkey_alloc",
	"pkey_free",
	"pkey_mprotect",
	"poll",
	"ppoll",
	"prctl",
	"pread64",
	"preadv",
	"preadv2",
	"prlimit64",
	"process_mrelease",
	"pselect6",
	"ptrace",
	"pwrite64",
	"pwritev",
	"pwritev2",
	"read",
	"readahead",
	"readlink",
	"readlinkat",
	"readv",
	"recvfrom",
	"recvmmsg",
	"recvmsg",
	"remap_file_pages",
	"removexattr",
	"rename",
	"renameat",
	"renameat2",
	"restart_syscall",
	"rmdir",
	"rseq",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigqueueinfo",
	"rt_sigreturn",
	"rt_sigsuspend",
	"rt_sigtimedwait",
	"rt_tgsigqueueinfo",
	"sched_get_priority_max",
	"sched_get_priority_min",
	"sched_getaffinity",
	"sched_getattr",
	"sched_getparam",
	"sched_getscheduler",
	"sched_rr_get_interval",
	"sched_setaffinity",
	"sched_setattr",
	"sched_setparam",
	"sched_setscheduler",
	"sched_yield",
	"seccomp",
	"select",
	"semctl",
	"semget",
	"semop",
	"semtimedop",
	"sendfile",
	"sendmmsg",
	"sendmsg",
	"sendto",
	"set_robust_list",
	"set_thread_area",
	"set_tid_address",
	"setfsgid",
	"setfsuid",
	"setgid",
	"setgroups",
	"setitimer",
	"setpgid",
	"setpriority",
	"setregid",
	"setresgid",
	"setresuid",
	"setreuid",
	"setrlimit",
	"setsid",
	"setsockopt",
	"setuid",
	"setxattr",
	"shmat",
	"shmctl",
	"shmdt",
	"shmget",
	"shutdown",
	"sigaltstack",
	"signalfd",
	"signalfd4",
	"socketpair",
	"splice",
	"stat",
	"statfs",
	"statx",
	"symlink",
	"symlinkat",
	"sync_file_range",
	"syncfs",
	"sysinfo",
	"tee",
	"tgkill",
	"time",
	"timer_create",
	"timer_delete",
	"timer_getoverrun",
	"timer_gettime",
	"timer_settime",
	"timerfd_create",
	"timerfd_gettime",
	"timerfd_settime",
	"times",
	"tkill",
	"truncate",
	"umask",
	"uname",
	"unlink",
	"unlinkat",
	"utime",
	"utimensat",
	"utimes",
	"vfork",
	"vmsplice",
	"wait4",
	"waitid",
	"write",
	"writev",
};

/* Refused with EPERM, so that a program says "not permitted" and not "no such system". */
static const char *const refused[] = {
	"mount",
	"umount2",
	"pivot_root",
	"unshare",
	"setns",
	"bpf",
	"keyctl",
	"add_key",
	"request_key",
	"perf_event_open",
	"userfaultfd",
	"open_by_handle_at",
	"name_to_handle_at",
	"kexec_load",
	"kexec_file_load",
	"init_module",
	"finit_module",
	"delete_module",
	"reboot",
	"swapon",
	"swapoff",
	"syslog",
	"acct",
	"settimeofday",
	"clock_settime",
	"clock_adjtime",
	"sethostname",
	"setdomainname",
	"quotactl",
	"quotactl_fd",
	"process_vm_readv",
	"process_vm_writev",
	"kcmp",
	"pidfd_getfd",
	"move_mount",
	"open_tree",
	"fsopen",
	"fsmount",
	"fsconfig",
	"fspick",
	"mount_setattr",
	"iopl",
	"ioperm",
	"fanotify_init",
	"fanotify_mark",
	"lookup_dcookie",
	"get_mempolicy",
	"move_pages",
	"mbind",
	"migrate_pages",
	"set_mempolicy",
	"vhangup",
	"modify_ldt",
	"nfsservctl",
	"uselib",
	"ustat",
};

/* Refused for one value of an argument. */
static const struct {
	const char *call;
	unsigned argument;
	uint32_t mask, value;
	int error;
} refused_values[] = {
	/* Namespaces: with a user namespace of its own a program has every capability inside, and with them the kernel's
	 * mount, network and netfilter code. */
	{"clone", 0, CLONE_NEWUSER, CLONE_NEWUSER, EPERM},
	{"clone", 0, CLONE_NEWNS, CLONE_NEWNS, EPERM},
	{"clone", 0, CLONE_NEWCGROUP, CLONE_NEWCGROUP, EPERM},
	{"clone", 0, CLONE_NEWUTS, CLONE_NEWUTS, EPERM},
	{"clone", 0, CLONE_NEWIPC, CLONE_NEWIPC, EPERM},
	{"clone", 0, CLONE_NEWPID, CLONE_NEWPID, EPERM},
	{"clone", 0, CLONE_NEWNET, CLONE_NEWNET, EPERM},
	{"clone", 0, CLONE_NEWTIME, CLONE_NEWTIME, EPERM},
	/* Typing into somebody's terminal; line disciplines, which are modules with a history. */
	{"ioctl", 1, WHOLE, TIOCSTI, EPERM},
	{"ioctl", 1, WHOLE, TIOCLINUX, EPERM},
	{"ioctl", 1, WHOLE, TIOCSETD, EPERM},
	/* A core scheduling cookie keeps the neighbours off the other half of a core, unaccounted: as a kernel without it. */
	{"prctl", 0, WHOLE, PR_SCHED_CORE, EINVAL},
	{"prctl", 0, WHOLE, PR_SET_MM, EPERM},
	/* Pages shared with equal ones of others tell by their timing what others hold: as a kernel without it. */
	{"prctl", 0, WHOLE, PR_SET_MEMORY_MERGE, EINVAL},
	{"madvise", 2, WHOLE, MADV_MERGEABLE, EINVAL},
	/* Address randomisation off, data executable: asked for by name, and not by the number that only asks. */
	{"personality", 0, 0x80000000u | ADDR_NO_RANDOMIZE, ADDR_NO_RANDOMIZE, EPERM},
	{"personality", 0, 0x80000000u | READ_IMPLIES_EXEC, READ_IMPLIES_EXEC, EPERM},
	/* A bare protocol number makes the kernel load the module that serves it. */
	{"socket", 2, WHOLE, IPPROTO_RAW, EPERM},
	{"socket", 2, WHOLE, IPPROTO_SCTP, EPROTONOSUPPORT},
	{"socket", 2, WHOLE, IPPROTO_DCCP, EPROTONOSUPPORT},
	{"socket", 2, WHOLE, IPPROTO_UDPLITE, EPROTONOSUPPORT},
	{"socket", 2, WHOLE, 256 /* SMC */, EPROTONOSUPPORT},
};

/* Of what is not in `allowed`, these values of the first argument, and for sockets of the third. Families: others reach parts of
 * the host's kernel that no network namespace parts (vsock, crypto), or that are modules which the call would load. Netlink:
 * addresses and routes, which C libraries and Go read; every other kind administers. MPTCP: Go's servers ask for it. */
#define ANY UINT32_MAX
static const struct {
	const char *call;
	uint32_t first, third;
} allowed_values[] = {
	{"socket", AF_UNIX, ANY},
	{"socket", AF_INET, IPPROTO_IP},
	{"socket", AF_INET, IPPROTO_ICMP},
	{"socket", AF_INET, IPPROTO_TCP},
	{"socket", AF_INET, IPPROTO_UDP},
	{"socket", AF_INET, IPPROTO_MPTCP},
	{"socket", AF_INET6, IPPROTO_IP},
	{"socket", AF_INET6, IPPROTO_TCP},
	{"socket", AF_INET6, IPPROTO_UDP},
	{"socket", AF_INET6, IPPROTO_ICMPV6},
	{"socket", AF_INET6, IPPROTO_MPTCP},
	{"socket", AF_NETLINK, 0 /* NETLINK_ROUTE */},
	{"socketpair", AF_UNIX, ANY},
	{"personality", PER_LINUX, ANY},
	{"personality", PER_LINUX32, ANY},
	{"personality", UNAME26, ANY},
	{"personality", UNAME26 | PER_LINUX32, ANY},
	{"personality", 0xffffffff /* only asks */, ANY},
};

static bool served(const char *call, uint32_t family)
{
	for (size_t i = 0; i < sizeof allowed_values / sizeof *allowed_values; i++) {
		if (strcmp(allowed_values[i].call, call) == 0 && allowed_values[i].first == family)
			return true;
	}
	return false;
}

static struct scmp_arg_cmp equals(unsigned argument, uint32_t mask, uint32_t value)
{
	return (struct scmp_arg_cmp){argument, SCMP_CMP_MASKED_EQ, mask, value};
}

/* Names that this architecture or library does not have need no rule: the default refuses them. */
static int add(scmp_filter_ctx ctx, uint32_t action, const char *name, unsigned n,
	       const struct scmp_arg_cmp *values)
{
	int nr = seccomp_syscall_resolve_name(name);

	return nr == __NR_SCMP_ERROR || nr < 0 ? 0 : seccomp_rule_add_array(ctx, action, nr, n, values);
}

static int refuse_by_argument(scmp_filter_ctx ctx)
{
	static const char *const calls[] = {"socket", "socketpair"};
	struct scmp_arg_cmp a;
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof refused_values / sizeof *refused_values; i++) {
		a = equals(refused_values[i].argument, refused_values[i].mask, refused_values[i].value);
		r = add(ctx, SCMP_ACT_ERRNO((uint32_t)refused_values[i].error), refused_values[i].call, 1,
			&a);
	}
	for (uint32_t i = 0; r == 0 && i < 2 * FAMILIES; i++) {
		a = equals(0, WHOLE, i / 2);
		if (!served(calls[i % 2], i / 2))
			r = add(ctx, SCMP_ACT_ERRNO(EAFNOSUPPORT), calls[i % 2], 1, &a);
	}
	return r;
}

static int list_calls(scmp_filter_ctx ctx)
{
	int r = add(ctx, SCMP_ACT_ERRNO(0), "sync", 0, NULL);

	for (size_t i = 0; r == 0 && i < sizeof allowed / sizeof *allowed; i++)
		r = add(ctx, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
	for (size_t i = 0; r == 0 && i < sizeof refused / sizeof *refused; i++)
		r = add(ctx, SCMP_ACT_ERRNO(EPERM), refused[i], 0, NULL);
	for (size_t i = 0; r == 0 && i < sizeof allowed_values / sizeof *allowed_values; i++) {
		struct scmp_arg_cmp a[] = {equals(0, WHOLE, allowed_values[i].first),
					   equals(2, WHOLE, allowed_values[i].third)};

		r = add(ctx, SCMP_ACT_ALLOW, allowed_values[i].call, allowed_values[i].third == ANY ? 1 : 2,
			a);
	}
	return r;
}

/* The instructions of one filter. A program of another architecture (int 0x80, x32) gets ENOSYS and lives. */
static int build(uint32_t otherwise, int (*fill)(scmp_filter_ctx ctx), struct buf *ret)
{
	scmp_filter_ctx ctx = seccomp_init(otherwise);
	CLEANUP_FD int fd = memfd_create("seccomp", MFD_CLOEXEC);
	int r;

	if (ctx == NULL || fd < 0) {
		seccomp_release(ctx);
		return -ENOMEM;
	}
	r = seccomp_attr_set(ctx, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS));
	if (r == 0)
		r = seccomp_attr_set(ctx, SCMP_FLTATR_CTL_OPTIMIZE, 2); /* a binary tree instead of a list */
	if (r == 0)
		r = fill(ctx);
	if (r == 0)
		r = seccomp_export_bpf(ctx, fd);
	seccomp_release(ctx);
	if (r == 0 && lseek(fd, 0, SEEK_SET) != 0)
		r = -errno;
	return r < 0 ? r : fd_read_all(fd, ret);
}

/* Where the first program allows it goes on to the second, which loads anew what it looks at. */
static void let_pass(struct buf *program)
{
	struct sock_filter *f = (void *)program->p;
	size_t n = program->n / sizeof *f;

	for (size_t i = 0; i < n; i++) {
		if (f[i].code == (BPF_RET | BPF_K) && f[i].k == SECCOMP_RET_ALLOW)
			f[i] = (struct sock_filter){.code = BPF_JMP | BPF_JA, .k = (uint32_t)(n - i - 1)};
	}
}

int seccomp_filter_build(struct buf *ret, struct err *err)
{
	int r = build(SCMP_ACT_ALLOW, refuse_by_argument, ret);

	let_pass(ret);
	if (r == 0)
		r = build(SCMP_ACT_ERRNO(ENOSYS), list_calls, ret);
	return r < 0 ? err_system(err, r, "seccomp filter") : 0;
}
