/* calls.c -- system calls: refused whole, or for what they are asked. Made by number: no C library decides in between. */
#include <errno.h>
#include <fcntl.h>
#include <linux/reboot.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "attempt.h"

/* Arguments that the kernel could take if it let the call in: zeros, and memory to read or write. */
static char memory[4096];

static int call(const struct attempt *a)
{
	return outcome(syscall(a->n[0], a->n[1], a->n[2], a->n[3], 0, 0, 0));
}

static int call_memory(const struct attempt *a)
{
	return outcome(syscall(a->n[0], memory, memory + 64, memory + 128, 64, 0, 0));
}

static int call_mount(const struct attempt *a)
{
	return outcome(syscall(SYS_mount, "none", a->n[0] != 0 ? "/" : "/tmp", "tmpfs", a->n[0], NULL));
}

static int call_umount(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(SYS_umount2, "/proc", 2 /* MNT_DETACH */));
}

static int call_pivot(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(SYS_pivot_root, "/tmp", "/tmp"));
}

static int call_open_tree(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(SYS_open_tree, AT_FDCWD, "/", 1 /* OPEN_TREE_CLONE */));
}

static int call_fsopen(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(SYS_fsopen, "tmpfs", 0));
}

static int call_clone(const struct attempt *a)
{
	long pid = syscall(SYS_clone, a->n[0] | SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return outcome(pid);
}

static int call_clone3(const struct attempt *a)
{
	uint64_t args[11] = {(uint64_t)a->n[0], 0, 0, 0, SIGCHLD};
	long pid = syscall(SYS_clone3, args, sizeof args);

	if (pid == 0)
		_exit(0);
	return outcome(pid);
}

static int call_setns(const struct attempt *a)
{
	(void)a;
	int fd = open("/proc/1/ns/net", O_RDONLY);

	return outcome(syscall(SYS_setns, fd < 0 ? 0 : fd, 0));
}

static int call_handle(const struct attempt *a)
{
	/* The root directory of most file systems is inode 2: what "shocker" asks for. */
	struct {
		unsigned bytes;
		int type;
		unsigned char handle[8];
	} h = {8, 1, {2}};

	(void)a;
	return outcome(syscall(SYS_open_by_handle_at, 0, &h, O_RDONLY));
}

static int call_reboot(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(SYS_reboot, LINUX_REBOOT_MAGIC1, LINUX_REBOOT_MAGIC2, LINUX_REBOOT_CMD_CAD_OFF,
			       NULL));
}

static int call_set_time(const struct attempt *a)
{
	struct timespec now;

	(void)a;
	clock_gettime(CLOCK_REALTIME, &now);
	return outcome(syscall(SYS_clock_settime, CLOCK_REALTIME, &now));
}

static int call_adjtimex(const struct attempt *a)
{
	struct timex t = {.modes = (unsigned)a->n[0], .tick = 10000};

	return outcome(syscall(SYS_adjtimex, &t));
}

static int call_hostname(const struct attempt *a)
{
	return outcome(syscall(a->n[0], "elsewhere", 9));
}

#if defined(__x86_64__)
static int call_int80(const struct attempt *a)
{
	int r = 20; /* getpid */

	(void)a;
	__asm__ volatile("int $0x80" : "+a"(r) : : "memory", "r8", "r9", "r10", "r11");
	return r < 0 ? r : 0;
}

static int call_x32(const struct attempt *a)
{
	(void)a;
	return outcome(syscall(0x40000000L | SYS_getpid));
}

static int call_vsyscall(const struct attempt *a)
{
	time_t (*vsyscall_time)(time_t *) = (time_t(*)(time_t *))(uintptr_t)0xffffffffff600400ul;

	(void)a;
	return vsyscall_time(NULL) > 0 ? 0 : -ENOSYS;
}
#endif

static const struct attempt calls[] = {
	{"mount a tmpfs", call_mount, "EPERM", NULL, {0}},
	{"remount / writable (MS_REMOUNT)", call_mount, "EPERM", NULL, {32}},
	{"bind mount", call_mount, "EPERM", NULL, {4096}},
	{"umount2 /proc", call_umount, "EPERM", NULL, {0}},
	{"pivot_root", call_pivot, "EPERM", NULL, {0}},
	{"open_tree", call_open_tree, "EPERM", NULL, {0}},
	{"move_mount", call, "EPERM", NULL, {SYS_move_mount}},
	{"mount_setattr", call, "EPERM", NULL, {SYS_mount_setattr}},
	{"fsopen", call_fsopen, "EPERM", NULL, {0}},
	{"fsmount", call, "EPERM", NULL, {SYS_fsmount}},
	{"fsconfig", call, "EPERM", NULL, {SYS_fsconfig}},
	{"fspick", call, "EPERM", NULL, {SYS_fspick}},
	{"unshare, a user namespace", call, "EPERM", NULL, {SYS_unshare, CLONE_NEWUSER}},
	{"unshare, a mount namespace", call, "EPERM", NULL, {SYS_unshare, CLONE_NEWNS}},
	{"unshare, a network namespace", call, "EPERM", NULL, {SYS_unshare, CLONE_NEWNET}},
	{"clone, a user namespace", call_clone, "EPERM", NULL, {CLONE_NEWUSER}},
	{"clone, user and network namespace", call_clone, "EPERM", NULL, {CLONE_NEWUSER | CLONE_NEWNET}},
	{"clone, a mount namespace", call_clone, "EPERM", NULL, {CLONE_NEWNS}},
	{"clone, a pid namespace", call_clone, "EPERM", NULL, {CLONE_NEWPID}},
	{"clone, an ipc namespace", call_clone, "EPERM", NULL, {CLONE_NEWIPC}},
	{"clone, a uts namespace", call_clone, "EPERM", NULL, {CLONE_NEWUTS}},
	{"clone, a cgroup namespace", call_clone, "EPERM", NULL, {CLONE_NEWCGROUP}},
	{"clone, a time namespace", call_clone, "EPERM", NULL, {0x80}},
	{"clone, as fork does", call_clone, "allowed", NULL, {0}},
	{"clone3, a user namespace", call_clone3, "ENOSYS", NULL, {CLONE_NEWUSER}},
	{"clone3, as fork does", call_clone3, "ENOSYS", NULL, {0}},
	{"setns", call_setns, "EPERM", NULL, {0}},
	{"bpf", call_memory, "EPERM", NULL, {SYS_bpf}},
	{"perf_event_open", call_memory, "EPERM", NULL, {SYS_perf_event_open}},
	{"userfaultfd", call, "EPERM", NULL, {SYS_userfaultfd, UFFD_USER_MODE_ONLY}},
	{"io_uring_setup", call, "ENOSYS", NULL, {SYS_io_uring_setup, 1, 0}},
	{"io_uring_enter", call, "ENOSYS", NULL, {SYS_io_uring_enter}},
	{"io_uring_register", call, "ENOSYS", NULL, {SYS_io_uring_register}},
	{"io_setup", call_memory, "ENOSYS", NULL, {SYS_io_setup}},
	{"keyctl, join a session keyring", call, "EPERM", NULL, {SYS_keyctl, 1, 0}},
	{"add_key", call_memory, "EPERM", NULL, {SYS_add_key}},
	{"request_key", call_memory, "EPERM", NULL, {SYS_request_key}},
	{"open_by_handle_at (shocker)", call_handle, "EPERM", NULL, {0}},
	{"name_to_handle_at", call, "EPERM", NULL, {SYS_name_to_handle_at, AT_FDCWD}},
	{"process_vm_readv", call, "EPERM", NULL, {SYS_process_vm_readv, 1}},
	{"process_vm_writev", call, "EPERM", NULL, {SYS_process_vm_writev, 1}},
	{"process_madvise", call, "ENOSYS", NULL, {SYS_process_madvise}},
	{"pidfd_getfd", call, "EPERM", NULL, {SYS_pidfd_getfd}},
	{"kcmp", call, "EPERM", NULL, {SYS_kcmp, 1, 1, 0}},
	{"kexec_load", call, "EPERM", NULL, {SYS_kexec_load}},
#ifdef SYS_kexec_file_load
	{"kexec_file_load", call, "EPERM", NULL, {SYS_kexec_file_load}},
#endif
	{"init_module", call_memory, "EPERM", NULL, {SYS_init_module}},
	{"finit_module", call, "EPERM", NULL, {SYS_finit_module}},
	{"delete_module", call_memory, "EPERM", NULL, {SYS_delete_module}},
	{"reboot", call_reboot, "EPERM", NULL, {0}},
	{"swapon", call_memory, "EPERM", NULL, {SYS_swapon}},
	{"swapoff", call_memory, "EPERM", NULL, {SYS_swapoff}},
	{"syslog (dmesg), read all", call, "EPERM", NULL, {SYS_syslog, 3, 0, 0}},
	{"syslog, size of the buffer", call, "EPERM", NULL, {SYS_syslog, 10, 0, 0}},
	{"acct", call_memory, "EPERM", NULL, {SYS_acct}},
	{"quotactl", call_memory, "EPERM", NULL, {SYS_quotactl}},
	{"quotactl_fd", call, "EPERM", NULL, {SYS_quotactl_fd}},
	{"settimeofday", call_memory, "EPERM", NULL, {SYS_settimeofday}},
	{"clock_settime", call_set_time, "EPERM", NULL, {0}},
	{"clock_adjtime", call_memory, "EPERM", NULL, {SYS_clock_adjtime}},
	{"adjtimex, set the tick", call_adjtimex, "EPERM", NULL, {ADJ_TICK}},
	{"adjtimex, read", call_adjtimex, "allowed", NULL, {0}},
	{"sethostname", call_hostname, "EPERM", NULL, {SYS_sethostname}},
	{"setdomainname", call_hostname, "EPERM", NULL, {SYS_setdomainname}},
#if defined(__x86_64__)
	{"iopl", call, "EPERM", NULL, {SYS_iopl, 3}},
	{"ioperm", call, "EPERM", NULL, {SYS_ioperm, 0x80, 1, 1}},
	{"modify_ldt", call_memory, "EPERM", NULL, {SYS_modify_ldt}},
	{"a 32-bit call (int 0x80)", call_int80, "ENOSYS SIGSEGV", NULL, {0}},
	{"an x32 call", call_x32, "ENOSYS", NULL, {0}},
	{"a call through the vsyscall page", call_vsyscall, "allowed SIGSEGV", NULL, {0}},
#endif
	{"fanotify_init", call, "EPERM", NULL, {SYS_fanotify_init}},
	{"vhangup", call, "EPERM", NULL, {SYS_vhangup}},
	{"mbind", call, "EPERM", NULL, {SYS_mbind}},
	{"move_pages", call, "EPERM", NULL, {SYS_move_pages}},
	{"a call that no kernel has", call, "ENOSYS", NULL, {1000}},
	{"sync (answers, and does nothing)", call, "allowed", NULL, {SYS_sync}},
};
const struct group group_calls = {"System calls", calls, sizeof calls / sizeof *calls};

/* -- By argument ---------------------------------------------------------------------------------------------- */

static int open_terminal(void)
{
	int master = open("/dev/ptmx", O_RDWR | O_NOCTTY), zero = 0;

	if (master >= 0)
		ioctl(master, TIOCSPTLCK, &zero);
	return master;
}

/* With something in the upper half of the request, which the kernel does not look at. */
static int terminal_ioctl(const struct attempt *a)
{
	int terminal = open_terminal();
	char byte = 'x';

	return terminal < 0 ? outcome(-1)
			    : outcome(syscall(SYS_ioctl, terminal, a->n[0] | a->n[1] << 32, &byte));
}

static int ask_window_size(const struct attempt *a)
{
	int terminal = open_terminal();

	(void)a;
	return terminal < 0 ? outcome(-1) : outcome(syscall(SYS_ioctl, terminal, TIOCGWINSZ, memory));
}

static int ask_madvise(const struct attempt *a)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	return outcome(madvise(page, 4096, (int)a->n[0]));
}

static const struct attempt values[] = {
	{"ioctl TIOCSTI", terminal_ioctl, "EPERM", NULL, {TIOCSTI}},
	{"ioctl TIOCSTI with upper bits", terminal_ioctl, "EPERM", NULL, {TIOCSTI, 1}},
	{"ioctl TIOCLINUX", terminal_ioctl, "EPERM", NULL, {TIOCLINUX}},
	{"ioctl TIOCSETD", terminal_ioctl, "EPERM", NULL, {TIOCSETD}},
	{"ioctl TIOCGWINSZ", ask_window_size, "allowed", NULL, {0}},
	{"personality ADDR_NO_RANDOMIZE", call, "EPERM", NULL, {SYS_personality, ADDR_NO_RANDOMIZE}},
	{"personality READ_IMPLIES_EXEC", call, "EPERM", NULL, {SYS_personality, READ_IMPLIES_EXEC}},
	{"personality PER_BSD", call, "ENOSYS", NULL, {SYS_personality, PER_BSD}},
	{"personality, ask", call, "allowed", NULL, {SYS_personality, 0xffffffff}},
	{"prctl PR_SET_MM", call, "EPERM", NULL, {SYS_prctl, PR_SET_MM, PR_SET_MM_BRK}},
	{"prctl PR_SCHED_CORE", call, "EINVAL", NULL, {SYS_prctl, PR_SCHED_CORE, 1}},
	{"prctl PR_SET_MEMORY_MERGE", call, "EINVAL", NULL, {SYS_prctl, 67, 1}},
	{"prctl PR_SET_NO_NEW_PRIVS 0", call, "EINVAL", NULL, {SYS_prctl, PR_SET_NO_NEW_PRIVS, 0}},
	{"prctl PR_CAP_AMBIENT, raise CAP_SYS_ADMIN",
	 call,
	 "EPERM",
	 NULL,
	 {SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, 21}},
	{"prctl PR_SET_SECCOMP off", call, "EINVAL", NULL, {SYS_prctl, PR_SET_SECCOMP, 0}},
	{"madvise MADV_MERGEABLE", ask_madvise, "EINVAL", NULL, {MADV_MERGEABLE}},
	{"madvise MADV_HWPOISON", ask_madvise, "EPERM EINVAL", NULL, {MADV_HWPOISON}},
	{"madvise MADV_DONTNEED", ask_madvise, "allowed", NULL, {MADV_DONTNEED}},
};
const struct group group_values = {"Arguments of calls", values, sizeof values / sizeof *values};
