#include "confine.h"

#include <errno.h>
#include <grp.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

static const char *const calls[] = {
	"accept4",
	"brk",
	"clock_gettime",
	"clock_nanosleep",
	"close",
	"dup3",
	"exit",
	"exit_group",
	"fcntl",
	"fstat",
	"futex",
	"getpid",
	"getrandom",
	"lseek",
	"madvise",
	"mmap",
	"mprotect",
	"mremap",
	"munmap",
	"newfstatat",
	"openat",
	"poll",
	"ppoll",
	"pread64",
	"pwrite64",
	"read",
	"readv",
	"recvfrom",
	"recvmsg",
	"renameat",
	"restart_syscall",
	"rt_sigaction",
	"rt_sigprocmask",
	"rt_sigreturn",
	"sched_yield",
	"sendmsg",
	"sendto",
	"sigaltstack",
	"write",
	"writev",
};

static int filter_calls(struct err *err)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(EPERM));
	int r = 0;

	if (filter == NULL)
		return err_set(err, -ENOMEM, "seccomp: no memory");
	for (size_t i = 0; r == 0 && i < sizeof calls / sizeof *calls; i++) {
		int number = seccomp_syscall_resolve_name(calls[i]);

		if (number != __NR_SCMP_ERROR)
			r = seccomp_rule_add(filter, SCMP_ACT_ALLOW, number, 0);
	}
	if (r == 0)
		r = seccomp_load(filter);
	seccomp_release(filter);
	return r == 0 ? 0 : err_system(err, r, "seccomp filter");
}

int confine(uint32_t id, struct err *err)
{
	const struct rlimit none = {0, 0}, files = {32, 32};

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || setgroups(0, NULL) != 0 ||
	    setresgid(id, id, id) != 0 || setresuid(id, id, id) != 0)
		return err_system(err, -errno, "become user %u", id);
	if (prctl(PR_SET_DUMPABLE, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0 ||
	    setrlimit(RLIMIT_NPROC, &none) != 0 || setrlimit(RLIMIT_NOFILE, &files) != 0)
		return err_system(err, -errno, "limits");
	return filter_calls(err);
}
