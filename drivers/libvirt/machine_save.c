/* machine_save.c -- a machine into a file, and on from there.
 *
 * Happy path: it is suspended, and QEMU writes all of its memory, of its template's too, and its devices. It stays suspended, until it
 * is stopped, or goes on. What was loaded from a file (machine_start.c) goes on likewise: it is resumed, its guest answers, and
 * its clock is set.
 * Failures: what could not be saved is resumed, unless libvirt is stuck: then it stands still until it is asked to go on, or stopped. */
#include <errno.h>
#include <inttypes.h>
#include <libvirt/libvirt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_clone/vmstate.h"
#include "machine.h"

#define SAVE_MS     120000u
#define GO_ON_MS    30000u
#define HELLO_MS    30000
#define STATE_BYTES (64ull << 20) /* beside memory */

struct saving {
	char name[MACHINE_NAME_MAX];
	int fd;
};

static void free_saving(void *arg)
{
	struct saving *s = arg;

	fd_close(&s->fd);
	free(s);
}

static virDomainPtr find(virConnectPtr c, const char *name, int *ret_state, struct err *err)
{
	virDomainPtr domain = virDomainLookupByName(c, name);

	if (domain == NULL || virDomainGetState(domain, ret_state, NULL, 0) != 0) {
		connection_error(err, -EIO, "find the machine");
		if (domain != NULL)
			virDomainFree(domain);
		return NULL;
	}
	return domain;
}

static int save_domain(virConnectPtr c, void *arg, struct err *err)
{
	struct saving *s = arg;
	int state, r = 0;
	virDomainPtr domain = find(c, s->name, &state, err);

	if (domain == NULL)
		return -EIO;
	if (state != VIR_DOMAIN_PAUSED && virDomainSuspend(domain) != 0)
		r = connection_error(err, -EIO, "suspend the machine");
	if (r == 0)
		r = vmstate_save(domain, VMSTATE_ALL, s->fd,
				 virDomainGetMaxMemory(domain) * 1024ull + STATE_BYTES, SAVE_MS, err);
	if (r < 0)
		(void)virDomainResume(domain);
	virDomainFree(domain);
	return r;
}

static int resume_domain(virConnectPtr c, void *arg, struct err *err)
{
	struct saving *s = arg;
	int state, r = 0;
	virDomainPtr domain = find(c, s->name, &state, err);

	if (domain == NULL)
		return -EIO;
	if (state == VIR_DOMAIN_PAUSED && virDomainResume(domain) != 0)
		r = connection_error(err, -EIO, "resume the machine");
	virDomainFree(domain);
	return r;
}

/* fd: -1 or borrowed. */
static int call(struct libvirt_driver *d, const struct driver_instance *i, connection_work *work, int fd,
		uint32_t timeout_ms, struct err *err)
{
	struct saving *s = calloc(1, sizeof *s);
	int r;

	if (s == NULL)
		return err_set(err, -ENOMEM, "no memory");
	machine_name(d, i->base.meta.sandbox, s->name);
	s->fd = fd < 0 ? -1 : dup(fd);
	r = fd >= 0 && s->fd < 0 ? err_system(err, -errno, "file")
				 : connection_call(d->connection, work, s, free_saving, timeout_ms, err);
	if (r != -ETIMEDOUT)
		free_saving(s);
	return r;
}

int machine_save(struct driver *base, struct driver_instance *i, int fd, struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;
	int r;

	if (lseek(fd, 0, SEEK_SET) != 0 || ftruncate(fd, 0) != 0)
		r = err_system(err, -errno, "file");
	else
		r = call(d, i, save_domain, fd, SAVE_MS + GO_ON_MS, err);
	if (r < 0 && i->shim != NULL)
		(void)guest_shim_clock(i->shim);
	return r < 0 ? err_wrap(err, "save sandbox %" PRIu64, i->base.meta.sandbox) : 0;
}

int machine_go_on(struct driver *base, struct driver_instance *i, struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;
	int r = i->shim == NULL ? err_set(err, -ESRCH, "it is over")
				: call(d, i, resume_domain, -1, GO_ON_MS, err);

	if (r == 0)
		r = guest_shim_hello(i->shim, HELLO_MS, err);
	if (r == 0)
		(void)guest_shim_clock(i->shim);
	return r < 0 ? err_wrap(err, "go on with sandbox %" PRIu64, i->base.meta.sandbox) : 0;
}
