/* state.c -- what a process in the sandbox has: capabilities, descriptors, limits, identity, time. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attempt.h"

/* chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot audit_write setfcap */
#define KEPT 0xa00405fbul

enum set { INHERITABLE, PERMITTED, EFFECTIVE, BOUNDING, AMBIENT };

static int holds(int condition)
{
	return condition ? 0 : -ATTEMPT_NO;
}

static unsigned long status_field(const char *field)
{
	char line[256];
	unsigned long x = ~0ul;
	FILE *f = fopen("/proc/self/status", "r");
	size_t n = strlen(field);

	while (f != NULL && fgets(line, sizeof line, f) != NULL) {
		if (strncmp(line, field, n) == 0 && line[n] == ':')
			x = strtoul(line + n + 1, NULL, 16);
	}
	if (f != NULL)
		fclose(f);
	return x;
}

static int capabilities(const struct attempt *a)
{
	static const char *const names[] = {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"};
	unsigned long x = status_field(names[a->n[0]]);

	switch ((enum set)a->n[0]) {
	case PERMITTED:
	case EFFECTIVE:
		return holds(x == (geteuid() == 0 ? KEPT : 0));
	case BOUNDING:
		return holds(x == KEPT);
	case INHERITABLE:
	case AMBIENT:
		break;
	}
	return holds(x == 0);
}

static int add_capability(const struct attempt *a)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct data[2] = {{0}};

	data[a->n[0] / 32].permitted = data[a->n[0] / 32].effective = 1u << a->n[0] % 32;
	return outcome(syscall(SYS_capset, &head, data));
}

static int no_new_privileges(const struct attempt *a)
{
	(void)a;
	return holds(prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1 && status_field("Seccomp") == 2);
}

/* A copy of this program, root's and setuid, run by somebody else. */
static int setuid_file(const struct attempt *a)
{
	static const char copy[] = "/tmp/setuid-copy";
	char bytes[65536];
	ssize_t n;
	int status, in = open("/proc/self/exe", O_RDONLY),
		    out = open(copy, O_WRONLY | O_CREAT | O_TRUNC, 0755);

	(void)a;
	while ((n = read(in, bytes, sizeof bytes)) > 0) {
		if (write(out, bytes, (size_t)n) != n)
			return -EIO;
	}
	close(out);
	if (chmod(copy, 04755) != 0)
		return -EIO;
	pid_t child = fork();

	if (child == 0) {
		if (geteuid() == 0 && (setgid(1000) != 0 || setuid(1000) != 0))
			_exit(1);
		execl(copy, copy, "--euid", (char *)NULL);
		_exit(1);
	}
	waitpid(child, &status, 0);
	unlink(copy);
	return holds(status == 0);
}

/* 0, 1, 2, and the one that reads the folder. */
static int descriptors(const struct attempt *a)
{
	DIR *d = opendir(a->n[0] == 0 ? "/proc/self/fd" : "/proc/1/fd");
	struct dirent *e;
	int others = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		others += e->d_name[0] != '.' && atoi(e->d_name) > 2 &&
			  (a->n[0] != 0 || atoi(e->d_name) != dirfd(d));
	return d == NULL ? -errno : holds(others == 0);
}

static int limit(const struct attempt *a)
{
	struct rlimit l;

	if (getrlimit((__rlimit_resource_t)a->n[0], &l) != 0)
		return -errno;
	return holds(l.rlim_max <= (rlim_t)a->n[1]);
}

static int raise_limit(const struct attempt *a)
{
	struct rlimit l = {RLIM_INFINITY, RLIM_INFINITY};

	return outcome(setrlimit((__rlimit_resource_t)a->n[0], &l));
}

static int writes_own_map(const struct attempt *a)
{
	int fd = open(a->n[0] == 0 ? "/proc/self/uid_map" : "/proc/self/gid_map", O_WRONLY);

	if (fd < 0)
		return -errno;
	return outcome(write(fd, "0 0 4294967295\n", 15));
}

static int protects_itself(const struct attempt *a)
{
	int fd = open("/proc/self/oom_score_adj", O_WRONLY);

	(void)a;
	if (fd < 0)
		return -errno;
	return outcome(write(fd, "-1000", 5));
}

static int sandbox_name(const struct attempt *a)
{
	char name[65] = "";

	(void)a;
	gethostname(name, sizeof name - 1);
	return holds(strcmp(name, "sandbox") == 0);
}

/* In a cgroup namespace of its own every group that it is in is the root. */
static int groups_hidden(const struct attempt *a)
{
	char line[512];
	FILE *f = fopen("/proc/self/cgroup", "re");
	int shown = 0;

	(void)a;
	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		shown += strstr(line, "berth-") != NULL || strstr(line, "lxc") != NULL;
	return f == NULL ? -errno : holds(shown == 0);
}

static const struct attempt states[] = {
	{"effective capabilities: twelve harmless ones, none for a plain user",
	 capabilities,
	 "yes",
	 NULL,
	 {EFFECTIVE}},
	{"permitted capabilities: the same", capabilities, "yes", NULL, {PERMITTED}},
	{"bounding set: the same twelve", capabilities, "yes", NULL, {BOUNDING}},
	{"inheritable set: empty", capabilities, "yes", NULL, {INHERITABLE}},
	{"ambient set: empty", capabilities, "yes", NULL, {AMBIENT}},
	{"take CAP_SYS_ADMIN", add_capability, "EPERM", NULL, {CAP_SYS_ADMIN}},
	{"take CAP_NET_RAW", add_capability, "EPERM", NULL, {CAP_NET_RAW}},
	{"take CAP_DAC_READ_SEARCH", add_capability, "EPERM", NULL, {CAP_DAC_READ_SEARCH}},
	{"take CAP_BPF", add_capability, "EPERM", NULL, {CAP_BPF}},
	{"no new privileges, and a filter", no_new_privileges, "yes", NULL, {0}},
	{"a setuid file gives nothing", setuid_file, "yes", NULL, {0}},
	{"no descriptor but 0, 1, 2", descriptors, "yes", NULL, {0}},
	{"nor in process 1", descriptors, "yes", NULL, {1}},
	{"core files: none", limit, "yes", NULL, {RLIMIT_CORE, 0}},
	{"open files: 65536 a process at most", limit, "yes", NULL, {RLIMIT_NOFILE, 65536}},
	{"bytes in message queues: 819200 at most", limit, "yes", NULL, {RLIMIT_MSGQUEUE, 819200}},
	{"locked memory: 64 MiB at most", limit, "yes", NULL, {RLIMIT_MEMLOCK, 64L << 20}},
	{"queued signals: 4096 at most", limit, "yes", NULL, {RLIMIT_SIGPENDING, 4096}},
	{"real-time priority: none", limit, "yes", NULL, {RLIMIT_RTPRIO, 0}},
	{"raise the limit of core files", raise_limit, "EPERM", NULL, {RLIMIT_CORE}},
	{"raise the limit of open files", raise_limit, "EPERM", NULL, {RLIMIT_NOFILE}},
	{"write its own uid map", writes_own_map, "EPERM EACCES", NULL, {0}},
	{"write its own gid map", writes_own_map, "EPERM EACCES", NULL, {1}},
	{"exempt itself from the out-of-memory killer", protects_itself, "EACCES", NULL, {0}},
	{"the names of its groups are hidden", groups_hidden, "yes", NULL, {0}},
	{"the name of the machine is \"sandbox\"", sandbox_name, "yes", NULL, {0}},
};
const struct group group_state = {"What a process has", states, sizeof states / sizeof *states};
