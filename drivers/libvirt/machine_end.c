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

/* The QEMU of a start that was cut short, or of a domain that came up after its caller had given up. */
static void kill_unheld(struct libvirt_driver *d, const struct driver_instance *i, const char *name)
{
	CLEANUP_FD int pidfd = -1;
	uint64_t since;
	pid_t pid;

	if (machine_qemu(d, name, i->base.meta.uid_base, &pid, &since, &pidfd, NULL) < 0)
		return;
	(void)!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	process_wait(pidfd, KILL_WAIT_MS);
}

int machine_end_processes(struct libvirt_driver *d, struct driver_instance *i, struct err *err)
{
	int shim = i->shim != NULL ? guest_shim_pidfd(i->shim) : -1;
	char name[MACHINE_NAME_MAX];

	machine_name(d, i->base.meta.sandbox, name);
	machine_kill(i);
	if (i->pidfd < 0)
		kill_unheld(d, i, name);
	if (!process_wait(i->pidfd, KILL_WAIT_MS) || !process_wait(shim, KILL_WAIT_MS))
		return err_set(err, -EBUSY, "its processes do not end");
	return machine_destroy(d, name, err);
}

int machine_end(struct libvirt_driver *d, struct driver_instance *i, struct err *err)
{
	int r = machine_end_processes(d, i, err);

	if (r == 0)
		r = egress_detach(d->egress, i->base.meta.slot, err);
	if (r < 0)
		return r;
	instance_move_log(&i->base);
	return sandbox_dir_remove(i->base.dir, err);
}

int machine_stop(struct driver *base, struct driver_instance *i, uint32_t grace_ms, struct err *err)
{
	int shim = i->shim != NULL ? guest_shim_pidfd(i->shim) : -1, r;
	struct driver_exit status;

	if (shim >= 0 && grace_ms > 0 && !process_wait(shim, 0) &&
	    guest_shim_signal(i->shim, i->base.meta.stop_signal) == 0)
		process_wait(shim, grace_ms);
	/* Before it is killed: one that ended by itself said how. */
	if (process_wait(shim, 0))
		machine_exit_status(i, &status);
	r = machine_end((struct libvirt_driver *)base, i, err);
	machine_exit_status(i, &status);
	return r < 0 ? err_wrap(err, "stop sandbox %" PRIu64, i->base.meta.sandbox) : 0;
}
