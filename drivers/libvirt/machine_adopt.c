/* machine_adopt.c -- after a restart of sandboxd: what still runs is held again, what ended meanwhile tells how, what never
 * finished starting is over. By files alone: libvirtd may be gone, and the machines serve without it.
 *
 * prove() comes later, on a thread: libvirtd answers, kernel and initrd are there, a canary said hello; and domains of this node's
 * name that have no directory are removed. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/fd.h"
#include "machine.h"

#define LIST_MS    60000u
#define STRAYS_MAX 4096

/* -- Adoption ------------------------------------------------------------------------------------------------------------ */

/* Of what ended or never began nothing is held: its stop() looks for what is left of it. */
static void make_over(struct driver_instance *i)
{
	machine_kill(i);
	process_wait(i->pidfd, 2000);
	fd_close(&i->pidfd);
}

static void adopt_one(struct libvirt_driver *d, uint64_t sandbox, driver_found *found, void *arg)
{
	struct driver_instance *i = calloc(1, sizeof *i);
	int r;

	if (i == NULL)
		return;
	i->pidfd = -1;
	if (instance_read(&i->base, d->machines, sandbox) == 0) {
		r = process_open((pid_t)i->base.running.pid, i->base.running.pid_start);
		i->pidfd = r < 0 ? -1 : r;
	}
	if (guest_shim_adopt(i->base.dir, &i->shim, NULL) < 0)
		i->shim = NULL;
	if (i->pidfd < 0 || i->shim == NULL || guest_shim_pidfd(i->shim) < 0)
		make_over(i);
	egress_adopt_tap(d->egress, i->base.meta.slot,
			 i->base.meta.egress && sandbox_dir_egress_on(i->base.dir));
	found(i, arg);
}

int machine_adopt(struct driver *base, driver_found *found, void *arg, struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;
	DIR *dir = opendir(d->machines);
	struct dirent *e;
	uint64_t sandbox;

	if (dir == NULL)
		return err_system(err, -errno, "open %s", d->machines);
	while ((e = readdir(dir)) != NULL) {
		if (sandbox_dir_id(e->d_name, &sandbox))
			adopt_one(d, sandbox, found, arg);
	}
	closedir(dir);
	return 0;
}

/* -- Proof --------------------------------------------------------------------------------------------------------------- */

struct strays {
	size_t n;
	char names[STRAYS_MAX][MACHINE_NAME_MAX];
};

static int list_domains(virConnectPtr c, void *arg, struct err *err)
{
	struct strays *s = arg;
	virDomainPtr *all = NULL;
	int n = virConnectListAllDomains(c, &all, 0);

	if (n < 0)
		return connection_error(err, -EIO, "list machines");
	for (int k = 0; k < n; k++) {
		const char *name = virDomainGetName(all[k]);

		if (name != NULL && strlen(name) < MACHINE_NAME_MAX && s->n < STRAYS_MAX)
			snprintf(s->names[s->n++], MACHINE_NAME_MAX, "%s", name);
		virDomainFree(all[k]);
	}
	free(all);
	return 0;
}

static bool is_stray(const struct libvirt_driver *d, const char *name)
{
	char prefix[MACHINE_NAME_MAX], dir[SANDBOX_DIR_MAX];
	uint64_t sandbox;

	snprintf(prefix, sizeof prefix, "berth-%08x-", d->hash);
	if (strncmp(name, prefix, strlen(prefix)) != 0 || !sandbox_dir_id(name + strlen(prefix), &sandbox))
		return false;
	sandbox_dir_path(d->machines, sandbox, dir);
	return access(dir, F_OK) != 0;
}

static int remove_strays(struct libvirt_driver *d, struct err *err)
{
	struct strays *s = calloc(1, sizeof *s);
	int r = s == NULL ? err_set(err, -ENOMEM, "no memory")
			  : connection_call(d->connection, list_domains, s, free, LIST_MS, err);

	for (size_t k = 0; r == 0 && k < s->n; k++) {
		if (is_stray(d, s->names[k]))
			r = machine_destroy(d, s->names[k], err);
	}
	if (r != -ETIMEDOUT)
		free(s);
	return r;
}

int machine_prove(struct driver *base, struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;
	char dir[MACHINE_PATH_MAX + 16], guest[MACHINE_PATH_MAX];
	struct boot_options o = {
		.dir = dir, .guest = guest, .kernel = d->kernel[0] != '\0' ? d->kernel : NULL};
	int r;

	snprintf(dir, sizeof dir, "%s/boot", d->vm_dir);
	snprintf(guest, sizeof guest, "%s/berth-guest", d->bin_dir);
	r = boot_files_prepare(&o, &d->files, err);
	if (r == 0)
		r = remove_strays(d, err);
	if (r < 0)
		return r;
	/* QEMU reads these files only while it starts, and none does now: what an older kernel left can go. */
	const char *used[] = {d->files.version};

	(void)boot_files_sweep(dir, used, 1, NULL);
	struct accel_options a = {.files = &d->files, .uid = d->canary_uid, .emulation = d->emulation};

	accel_prove(&a, &d->accel);
	if (d->accel.kind == ACCEL_NONE)
		return err_set(err, -ENODEV, "%s", d->accel.reason);
	boot_command_line(d->accel.kind == ACCEL_EMULATION, d->command_line);
	return 0;
}
