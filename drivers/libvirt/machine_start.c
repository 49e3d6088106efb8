/* machine_start.c -- starting one machine.
 *
 * Happy path: its directory, with a link to the image's disk; its tap; the domain, whose QEMU boots; the shim on the agent's channel;
 * the guest says hello, and no process of the image has run; limits are read back; the guest is told what to start, and did; the
 * file `running`. Boots take turns: all of a pool's at once would leave no CPU to requests, nor finish sooner.
 * Failures: whatever was made is removed again; what cannot be, because libvirtd is gone or stuck, is handed to the caller as an
 * instance that is over. A sandboxd that dies meanwhile leaves no `running`: the next one removes the machine. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "machine_boot.h"

#define START_MS 60000

struct start {
	struct machine_boot b;
	struct libvirt_driver *d;
	const struct driver_start *how;
	struct driver_instance *i;
};

/* -- Files and network --------------------------------------------------------------------------------------------- */

static int make_files(struct start *s, struct err *err)
{
	char qemu[SANDBOX_DIR_MAX + 32];
	int r = sandbox_dir_make(s->i->base.dir, &s->i->base.meta, err);

	if (r < 0)
		return r;
	snprintf(qemu, sizeof qemu, "%s/qemu", s->i->base.dir);
	if (mkdir(qemu, 0700) != 0 || chown(qemu, 0, s->how->uid_base) != 0 || chmod(qemu, 0710) != 0)
		return err_system(err, -errno, "mkdir %s", qemu);
	snprintf(s->b.disk, sizeof s->b.disk, "%s/qemu/disk", s->i->base.dir);
	snprintf(s->b.agent, sizeof s->b.agent, "%s/qemu/agent", s->i->base.dir);
	if (s->how->disk == NULL)
		return err_set(err, -EINVAL, "the image has no disk");
	if (link(s->how->disk, s->b.disk) != 0)
		return err_system(err, -errno, "link %s to %s", s->how->disk, s->b.disk);
	return 0;
}

static int make_network(struct start *s, struct err *err)
{
	int r = egress_attach_tap(s->d->egress, s->how->slot, s->how->egress, s->b.tap, err);

	egress_mac(s->d->egress, s->how->slot, s->b.mac);
	return r;
}

static int tell_guest(struct start *s, struct err *err)
{
	const struct driver_start *how = s->how;
	char resolv[512] = "", hostname[32];
	struct guest_spec spec = {.argv = how->argv,
				  .n_argv = how->n_argv,
				  .env = how->env,
				  .n_env = how->n_env,
				  .user = how->user,
				  .working_dir = how->working_dir,
				  .mac = s->b.mac,
				  .gateway_mac = egress_gateway_mac,
				  .prefix = 31,
				  .pids_max = how->limits.pids_max,
				  .disk_bytes = how->limits.disk_bytes};
	int r;

	snprintf(hostname, sizeof hostname, "sandbox-%" PRIx64, how->sandbox);
	spec.hostname = str_of(hostname);
	egress_addresses(s->d->egress, how->slot, &spec.address, &spec.gateway);
	if (how->egress)
		egress_resolv_conf(s->d->egress, resolv, sizeof resolv);
	spec.resolv_conf = str_of(resolv);
	/* What was saved has its program; the slot, and so the addresses, may be others than then. */
	if (how->saved > 0)
		r = guest_shim_network(s->i->shim, &spec, err);
	else
		r = guest_shim_start(s->i->shim, &spec, START_MS, err);
	s->i->base.running.started_boot_ms = clock_boot_ms();
	s->i->base.running.started_wall_ms = clock_wall_ms();
	return r == 0 ? sandbox_dir_write_running(s->i->base.dir, &s->i->base.running, err) : r;
}

/* -- All of it --------------------------------------------------------------------------------------------------------- */

static int start(struct start *s, struct err *err)
{
	const struct machine_memory_of saved = {
		.kind = MACHINE_MEMORY_LOADED, .handed_over = -1, .load = s->how->saved};
	uint64_t began_ms = clock_boot_ms();
	int r = make_files(s, err);

	if (r == 0)
		r = make_network(s, err);
	if (r == 0)
		r = s->how->saved > 0 ? machine_boot(&s->b, &saved, s->i, err)
				      : machine_clone(&s->b, s->i, err);
	if (r == 0)
		r = machine_bound((pid_t)s->i->base.running.pid, s->b.disk, &s->how->limits, s->b.host_bytes,
				  err);
	if (r < 0)
		return r;
	log_debug("sandbox %" PRIu64 ": its machine answers after %" PRIu64 " ms", s->how->sandbox,
		  clock_boot_ms() - began_ms);
	return tell_guest(s, err);
}

static struct driver_instance *new_instance(struct libvirt_driver *d, const struct driver_start *how)
{
	struct driver_instance *i = calloc(1, sizeof *i);

	if (i == NULL)
		return NULL;
	instance_init(&i->base, d->machines, how);
	i->pidfd = -1;
	return i;
}

int machine_start(struct driver *base, const struct driver_start *how, struct driver_instance **ret,
		  struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;
	struct start s = {.d = d, .how = how, .i = new_instance(d, how)};
	int r;

	*ret = NULL;
	if (s.i == NULL)
		return err_set(err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", how->sandbox);
	machine_boot_init(&s.b, d, how);
	r = start(&s, err);
	if (r == 0) {
		*ret = s.i;
		return 0;
	}
	/* A directory that was there already is not this start's. */
	if (r == -EEXIST || machine_end(d, s.i, NULL) == 0)
		base->ops->release(base, s.i);
	else
		*ret = s.i;
	return err_wrap(err, "start sandbox %" PRIu64, how->sandbox);
}
