#include "launch.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "boot.h"
#include "core/fd.h"
#include "identity.h"
#include "program/program.h"
#include "program/rlimits.h"

#define FD_FLOOR 16

/* What a container's root keeps: see drivers/lxc/shim/container.c. */
static const int kept[] = {CAP_CHOWN,   CAP_DAC_OVERRIDE, CAP_FOWNER,           CAP_FSETID,
			   CAP_KILL,    CAP_SETGID,       CAP_SETUID,           CAP_SETPCAP,
			   CAP_SETFCAP, CAP_SYS_CHROOT,   CAP_NET_BIND_SERVICE, CAP_AUDIT_WRITE};

static void drop_capabilities(void)
{
	for (int cap = 0; cap <= CAP_LAST_CAP; cap++) {
		bool keep = false;

		for (size_t i = 0; i < sizeof kept / sizeof *kept; i++)
			keep = keep || kept[i] == cap;
		if (!keep && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0) != 0 && errno != EINVAL)
			program_die(125, "drop capability %d: %s", cap, strerror(errno));
	}
}

static char **terminated(const struct str *list, uint32_t n)
{
	char **all = calloc((size_t)n + 1, sizeof *all);

	if (all == NULL)
		program_die(125, "no memory");
	for (uint32_t i = 0; i < n; i++)
		all[i] = (char *)(uintptr_t)(list[i].n > 0 ? list[i].p : "");
	return all;
}

_Noreturn static void become_program(const struct guest_start *s, const int output[2], int report)
{
	struct program p = {.user = s->user.n > 0 ? s->user.p : "",
			    .working_dir = s->working_dir.n > 0 ? s->working_dir.p : "",
			    .resolv_conf = s->resolv_conf.n > 0 ? s->resolv_conf.p : ""};
	struct err err = {0};

	program_report_fd = report;
	if (setsid() < 0 || dup2(output[0], 1) != 1 || dup2(output[1], 2) != 2)
		program_die(125, "descriptors: %s", strerror(errno));
	if (boot_write(BOOT_GROUP "/cgroup.procs", "0") < 0 || !rlimits_set())
		program_die(125, "limits: %s", strerror(errno));
	if (boot_enter_root(&err) < 0)
		program_die(125, "%s", err.message);
	drop_capabilities();
	identity_write_machine_id();
	p.argv = terminated(s->argv, s->n_argv);
	p.env = terminated(s->env, s->n_env);
	program_prepare(&p);
	program_execute(&p);
}

static int open_pipe(int *ret_read, int *ret_write, struct err *err)
{
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) != 0)
		return err_system(err, -errno, "pipe");
	/* Out of the way of the numbers that they become. */
	*ret_read = fcntl(ends[0], F_DUPFD_CLOEXEC, FD_FLOOR);
	*ret_write = fcntl(ends[1], F_DUPFD_CLOEXEC, FD_FLOOR);
	close(ends[0]);
	close(ends[1]);
	return *ret_read < 0 || *ret_write < 0 ? err_set(err, -EMFILE, "descriptors") : 0;
}

int launch_begin(struct launch *l, const struct guest_start *s, struct err *err)
{
	int output[2], report, r;
	char pids[16];

	snprintf(pids, sizeof pids, "%u", s->pids_max);
	if (boot_write(BOOT_GROUP "/pids.max", pids) < 0)
		return err_set(err, -EINVAL, "limit of %s processes", pids);
	l->oom = open(BOOT_GROUP "/memory.events", O_RDONLY | O_CLOEXEC);
	r = l->oom < 0 ? err_system(err, -errno, "memory.events") : 0;
	if (r == 0)
		r = open_pipe(&l->output[0], &output[0], err);
	if (r == 0)
		r = open_pipe(&l->output[1], &output[1], err);
	if (r == 0)
		r = open_pipe(&l->report, &report, err);
	if (r < 0)
		return r;
	fd_set_nonblocking(l->output[0], 1);
	fd_set_nonblocking(l->output[1], 1);
	l->pid = fork();
	if (l->pid < 0)
		return err_system(err, -errno, "fork");
	if (l->pid == 0)
		become_program(s, output, report);
	close(output[0]);
	close(output[1]);
	close(report);
	return 0;
}

uint64_t launch_oom(struct launch *l)
{
	char text[512], *at;
	ssize_t n = pread(l->oom, text, sizeof text - 1, 0);
	uint64_t before = l->killed;

	if (n <= 0)
		return 0;
	text[n] = '\0';
	at = strstr(text, "oom_kill ");
	if (at != NULL)
		l->killed = strtoull(at + strlen("oom_kill "), NULL, 10);
	return l->killed - before;
}
