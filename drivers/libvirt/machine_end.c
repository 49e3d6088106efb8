/* machine_end.c -- how a machine ends, and what is removed behind it.
 *
 * Killing goes through QEMU's pidfd and waits for nobody. libvirt notices by itself; stop() asks it to be done with the domain,
 * which also removes the domain's cgroup and libvirt's own files, and only then the tap and the directory go. */
#include <errno.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <libvirt/virterror.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "machine.h"

#define DESTROY_MS   30000u
#define KILL_WAIT_MS 10000

void machine_kill(struct driver_instance *i)
{
	i->killed = true;
	if (i->pidfd >= 0)
		(void)!syscall(SYS_pidfd_send_signal, i->pidfd, SIGKILL, NULL, 0);
}

bool machine_wait_over(int pidfd, uint32_t timeout_ms)
{
	struct pollfd p = {pidfd, POLLIN, 0};
	uint64_t end = clock_boot_ms() + timeout_ms;

	if (pidfd < 0)
		return true;
	for (;;) {
		uint64_t now = clock_boot_ms();
		int n = poll(&p, 1, now >= end ? 0 : (int)(end - now));

		if (n > 0)
			return true;
		if (n == 0 && clock_boot_ms() >= end)
			return false;
	}
}

void machine_exit_status(struct driver_instance *i, struct driver_exit *ret)
{
	if (!i->exited) {
		bool killed = i->killed;

		i->exit = (struct driver_exit){.how = SANDBOX_EXIT_UNKNOWN, .wall_ms = clock_wall_ms()};
		if (i->shim != NULL)
			guest_shim_exit(i->shim, &i->exit);
		if (i->exit.how == SANDBOX_EXIT_UNKNOWN && killed) {
			i->exit.how = SANDBOX_EXIT_SIGNAL;
			i->exit.value = SIGKILL;
		}
		machine_kill(
			i); /* its program is over, and a guest that does not switch itself off is of no use */
		i->exited = true;
	}
	*ret = i->exit;
}

/* -- The domain ------------------------------------------------------------------------------------------------------- */

static int destroy_domain(virConnectPtr c, void *arg, struct err *err)
{
	virDomainPtr domain = virDomainLookupByName(c, arg);
	int code, r;

	if (domain == NULL) {
		code = virGetLastErrorCode();
		return code == VIR_ERR_NO_DOMAIN ? 0 : connection_error(err, -EIO, "find the machine");
	}
	r = virDomainDestroy(domain);
	code = r < 0 ? virGetLastErrorCode() : 0;
	/* It ended by itself meanwhile. */
	if (code == VIR_ERR_NO_DOMAIN || code == VIR_ERR_OPERATION_INVALID)
		r = 0;
	if (r < 0)
		r = connection_error(err, -EIO, "destroy the machine");
	virDomainFree(domain);
	return r;
}

int machine_destroy(struct libvirt_driver *d, const char *name, struct err *err)
{
	char *copy = strdup(name);
	int r = copy == NULL ? err_set(err, -ENOMEM, "no memory")
			     : connection_call(d->connection, destroy_domain, copy, free, DESTROY_MS, err);

	if (r != -ETIMEDOUT)
		free(copy);
	return r;
}

/* -- Stop --------------------------------------------------------------------------------------------------------------- */

/* Renamed, whatever it is: the shim has no privileges but may have been taken over, and the next reader looks. */
static void move_log(const struct driver_instance *i)
{
	static const char *const parts[][2] = {{"log", "log"}, {"log.1", "old"}};
	char from[SANDBOX_DIR_MAX + 32], to[SANDBOX_DIR_MAX + 32];

	for (size_t k = 0; i->keep[0] != '\0' && k < 2; k++) {
		snprintf(from, sizeof from, "%s/log/%s", i->dir, parts[k][0]);
		snprintf(to, sizeof to, "%s.%s", i->keep, parts[k][1]);
		(void)!rename(from, to);
	}
}

/* The QEMU of a start that was cut short, or of a domain that came up after its caller had given up. */
static void kill_unheld(struct libvirt_driver *d, const struct driver_instance *i, const char *name)
{
	CLEANUP_FD int pidfd = -1;
	uint64_t since;
	pid_t pid;

	if (machine_qemu(d, name, i->meta.uid_base, &pid, &since, &pidfd, NULL) < 0)
		return;
	(void)!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	machine_wait_over(pidfd, KILL_WAIT_MS);
}

int machine_end_processes(struct libvirt_driver *d, struct driver_instance *i, struct err *err)
{
	int shim = i->shim != NULL ? guest_shim_pidfd(i->shim) : -1;
	char name[MACHINE_NAME_MAX];

	machine_name(d, i->meta.sandbox, name);
	machine_kill(i);
	if (i->pidfd < 0)
		kill_unheld(d, i, name);
	if (!machine_wait_over(i->pidfd, KILL_WAIT_MS) || !machine_wait_over(shim, KILL_WAIT_MS))
		return err_set(err, -EBUSY, "its processes do not end");
	return machine_destroy(d, name, err);
}

int machine_end(struct libvirt_driver *d, struct driver_instance *i, struct err *err)
{
	int r = machine_end_processes(d, i, err);

	if (r == 0)
		r = egress_detach(d->egress, i->meta.slot, err);
	if (r < 0)
		return r;
	move_log(i);
	return sandbox_dir_remove(i->dir, err);
}

int machine_stop(struct driver *base, struct driver_instance *i, uint32_t grace_ms, struct err *err)
{
	int shim = i->shim != NULL ? guest_shim_pidfd(i->shim) : -1, r;
	struct driver_exit status;

	if (shim >= 0 && grace_ms > 0 && !machine_wait_over(shim, 0) &&
	    guest_shim_signal(i->shim, i->meta.stop_signal) == 0)
		machine_wait_over(shim, grace_ms);
	/* Before it is killed: one that ended by itself said how. */
	if (machine_wait_over(shim, 0))
		machine_exit_status(i, &status);
	r = machine_end((struct libvirt_driver *)base, i, err);
	machine_exit_status(i, &status);
	return r < 0 ? err_wrap(err, "stop sandbox %" PRIu64, i->meta.sandbox) : 0;
}
