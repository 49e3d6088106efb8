/* machine_clone.c -- a machine from a template: ready in the time that a QEMU takes to begin.
 *
 * Happy path: templates_get(); over its memory, mapped privately, a QEMU that loads its devices; its guest goes on where the
 * template's was saved, and says hello again.
 * The first one of a key makes the template itself, in the place that is its own: same name, user, tap and agent's socket, and its
 * shim's files in <dir>/template. That machine is gone before anything of the sandbox's begins.
 * Failures: no template can be had, or a clone does not come up (the template is spoilt then): it boots cold, as if there were none. */
#include <errno.h>
#include <libvirt/libvirt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_clone/emulator.h"
#include "libvirt_clone/templates.h"
#include "libvirt_clone/vmstate.h"
#include "machine_boot.h"

#define SAVE_MS      20000u
#define SAVE_CALL_MS 30000u

/* -- Making a template --------------------------------------------------------------------------------------------- */

struct saving {
	char name[MACHINE_NAME_MAX];
	int state;
};

static int save_domain(virConnectPtr c, void *arg, struct err *err)
{
	struct saving *s = arg;
	virDomainPtr domain = virDomainLookupByName(c, s->name);
	int r;

	if (domain == NULL)
		return connection_error(err, -EIO, "find the template");
	if (virDomainSuspend(domain) != 0)
		r = connection_error(err, -EIO, "suspend the template");
	else
		r = vmstate_save(domain, VMSTATE_DEVICES, s->state, TEMPLATES_STATE_BYTES, SAVE_MS, err);
	virDomainFree(domain);
	return r;
}

static void free_saving(void *arg)
{
	struct saving *s = arg;

	fd_close(&s->state);
	free(s);
}

static int save(const struct machine_boot *b, int state, struct err *err)
{
	struct saving *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return err_set(err, -ENOMEM, "no memory");
	memcpy(s->name, b->name, sizeof s->name);
	s->state = dup(state);
	r = s->state < 0 ? err_system(err, -errno, "state of a template")
			 : connection_call(b->d->connection, save_domain, s, free_saving, SAVE_CALL_MS, err);
	if (r != -ETIMEDOUT)
		free_saving(s);
	return r;
}

static int make(void *arg, int memory, int state, struct err *err)
{
	const struct machine_boot *b = arg;
	const struct machine_memory_of from = {
		.kind = MACHINE_MEMORY_TEMPLATE, .handed_over = memory, .load = -1};
	struct driver_instance t = {
		.base.meta = {.sandbox = b->how->sandbox, .slot = b->how->slot, .uid_base = b->how->uid_base},
		.pidfd = -1};
	int r, ended;

	sandbox_dir_path(b->d->machines, b->how->sandbox, t.base.dir);
	snprintf(t.base.dir + strlen(t.base.dir), sizeof t.base.dir - strlen(t.base.dir), "/template");
	if (mkdir(t.base.dir, 0711) != 0)
		return err_system(err, -errno, "mkdir %s", t.base.dir);
	r = machine_boot(b, &from, &t, err);
	if (r == 0)
		r = save(b, state, err);
	ended = machine_end_processes(b->d, &t, r == 0 ? err : NULL);
	fd_close(&t.pidfd);
	guest_shim_free(t.shim);
	if (ended == 0)
		ended = sandbox_dir_remove(t.base.dir, r == 0 ? err : NULL);
	return r < 0 ? r : ended;
}

/* -- Cloning ------------------------------------------------------------------------------------------------------- */

static int from_template(const struct machine_boot *b, const struct templates_entry *template,
			 struct driver_instance *i, struct err *err)
{
	struct machine_memory_of from = {
		.kind = MACHINE_MEMORY_CLONE, .handed_over = templates_memory(template), .load = -1};
	int r = templates_state(template, &from.load, err);

	if (r == 0)
		r = machine_boot(b, &from, i, err);
	fd_close(&from.load);
	return r;
}

static int get(const struct machine_boot *b, const struct driver_instance *i, struct templates_entry **ret,
	       struct err *err)
{
	char model[64], version[BOOT_VERSION_SIZE + 64];
	struct stat qemu;
	struct templates_key key = {.pool_uid = b->how->pool_uid,
				    .digest = i->base.digest,
				    .version = version,
				    .cpu_model = model,
				    .memory_bytes = b->memory_bytes,
				    .vcpus = b->vcpus};

	snprintf(model, sizeof model, "%s %s", b->kvm ? "kvm" : "tcg",
		 b->cpu_model == NULL ? "host" : b->cpu_model);
	/* It may be replaced while this process runs, and is looked at once for kernel and initrd. */
	if (stat(EMULATOR_QEMU, &qemu) != 0)
		return err_system(err, -errno, EMULATOR_QEMU);
	snprintf(version, sizeof version, "%s %llu %lld.%09ld", b->d->files.version,
		 (unsigned long long)qemu.st_ino, (long long)qemu.st_mtim.tv_sec, qemu.st_mtim.tv_nsec);
	if (i->base.digest[0] == '\0')
		return err_set(err, -EINVAL, "an image without a digest has no template");
	return templates_get(b->d->templates, &key, make, (void *)(uintptr_t)b, ret, err);
}

/* What did not come up is gone before another one of the same name begins. */
static int clear_away(const struct machine_boot *b, struct driver_instance *i, struct err *err)
{
	int r = machine_end_processes(b->d, i, err);

	if (r < 0)
		return r;
	fd_close(&i->pidfd);
	guest_shim_free(i->shim);
	i->shim = NULL;
	i->killed = false;
	return 0;
}

int machine_clone(const struct machine_boot *b, struct driver_instance *i, struct err *err)
{
	const struct machine_memory_of own = {.kind = MACHINE_MEMORY_OWN, .handed_over = -1, .load = -1};
	struct templates_entry *template;
	struct err why = {.code = 0};
	int r = get(b, i, &template, &why);

	if (r == 0) {
		r = from_template(b, template, i, &why);
		if (r == 0) {
			templates_put(b->d->templates, template);
			return 0;
		}
		templates_spoil(b->d->templates, template, &why);
	}
	r = clear_away(b, i, err);
	return r == 0 ? machine_boot(b, &own, i, err) : r;
}
