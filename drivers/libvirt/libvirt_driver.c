/* libvirt_driver.c -- see libvirt_driver.h, machine.h and driver.h. machine_start.c, machine_end.c and machine_adopt.c tell how
 * machines begin, end, and are found again; here is what is asked of one that runs, none of which waits for libvirt. */
#include "libvirt_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "core/fd.h"
#include "libvirt_launcher/libvirtd.h"
#include "machine.h"

#define BOOTS_PER_CPU 2
/* sun_path has 108 bytes: <vm>/machines/<16>/qemu/agent, <vm>/libvirtd/run/libvirt-sock. */
#define STATE_DIR_MAX (LIBVIRTD_DIR_MAX - 9)

void machine_name(const struct libvirt_driver *d, uint64_t sandbox, char ret[MACHINE_NAME_MAX])
{
	snprintf(ret, MACHINE_NAME_MAX, "berth-%08x-%016" PRIx64, d->hash, sandbox);
}

void machine_handover_path(const struct libvirt_driver *d, char ret[MACHINE_PATH_MAX])
{
	snprintf(ret, MACHINE_PATH_MAX, "%.*s/handover", MACHINE_PATH_MAX - 16, d->vm_dir);
}

/* -- Its QEMU ------------------------------------------------------------------------------------------------------------ */

/* Whether it was started as that domain's; libvirt's file may be of a QEMU that is gone, and its pid another's. */
static bool is_qemu_of(pid_t pid, const char *name, uint32_t uid)
{
	CLEANUP_BUF struct buf b = {0};
	char path[64], word[MACHINE_NAME_MAX + 8];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d", (int)pid);
	if (stat(path, &st) != 0)
		return false;
	snprintf(path, sizeof path, "/proc/%d/cmdline", (int)pid);
	if (fd_read_file(path, 1u << 20, &b, NULL) < 0)
		return false;
	snprintf(word, sizeof word, "guest=%s,", name);
	if (b.n == 0 || memmem(b.p, b.n, word, strlen(word)) == NULL)
		return false;
	/* Of a process that may not be dumped /proc is root's; its status tells. */
	buf_done(&b);
	snprintf(path, sizeof path, "/proc/%d/status", (int)pid);
	if (fd_read_file(path, 65536, &b, NULL) < 0)
		return false;
	char *at = strstr((char *)(uintptr_t)buf_cstr(&b), "\nUid:");

	return at != NULL && strtoul(at + 5, NULL, 10) == uid;
}

int machine_qemu(const struct libvirt_driver *d, const char *name, uint32_t uid, pid_t *ret_pid,
		 uint64_t *ret_start, int *ret_pidfd, struct err *err)
{
	CLEANUP_BUF struct buf b = {0};
	char path[MACHINE_PATH_MAX + 64];
	uint64_t since;
	pid_t pid;
	int fd;

	snprintf(path, sizeof path, "%s/%s.pid", d->pids, name);
	if (fd_read_file(path, 64, &b, NULL) < 0)
		return err_set(err, -ESRCH, "%s: no such file", path);
	pid = (pid_t)atol(buf_cstr(&b));
	since = pid > 0 ? process_start(pid) : 0;
	fd = process_open(pid, since);
	if (fd < 0 || !is_qemu_of(pid, name, uid) || process_start(pid) != since) {
		fd_close(&fd);
		return err_set(err, -ESRCH, "its QEMU has ended");
	}
	*ret_pid = pid;
	*ret_start = since;
	*ret_pidfd = fd;
	return 0;
}

/* -- What is asked of one ------------------------------------------------------------------------------------------------ */

static void op_keep_log(struct driver *d, struct driver_instance *i, const char *path)
{
	(void)d;
	instance_keep_log(&i->base, path);
}

static int op_egress(struct driver *d, struct driver_instance *i, bool on, struct err *err)
{
	return instance_egress(&i->base, ((struct libvirt_driver *)d)->egress, on, err);
}

static int op_dial(struct driver *base, struct driver_instance *i, uint16_t port, int *ret_fd,
		   struct err *err)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;

	if (i->pidfd < 0)
		return err_set(err, -ECONNREFUSED, "sandbox %" PRIu64 " is not running",
			       i->base.meta.sandbox);
	return egress_dial(d->egress, i->base.meta.slot, port, ret_fd, err);
}

static int op_freeze(struct driver *d, struct driver_instance *i, bool frozen, struct err *err)
{
	(void)d;
	if (i->pidfd < 0 ||
	    syscall(SYS_pidfd_send_signal, i->pidfd, frozen ? SIGSTOP : SIGCONT, NULL, 0) != 0)
		return err_set(err, -ESRCH, "sandbox %" PRIu64 " is not running", i->base.meta.sandbox);
	/* Its clock stood still. */
	if (!frozen && i->shim != NULL)
		(void)guest_shim_clock(i->shim);
	return 0;
}

static void op_kill(struct driver *d, struct driver_instance *i)
{
	(void)d;
	machine_kill(i);
}

static int op_exit_fd(struct driver *d, struct driver_instance *i)
{
	(void)d;
	return i->pidfd >= 0 && i->shim != NULL ? guest_shim_pidfd(i->shim) : -1;
}

static void op_exit_status(struct driver *d, struct driver_instance *i, struct driver_exit *ret)
{
	(void)d;
	machine_exit_status(i, ret);
}

static void op_info(struct driver *d, struct driver_instance *i, struct driver_info *ret)
{
	(void)d;
	instance_info(&i->base, ret);
}

/* Of QEMU: the guest's own words would be the guest's. Pages of files count for nobody, as a clone shares its template's. */
static int op_stats(struct driver *d, struct driver_instance *i, struct driver_stats *ret, struct err *err)
{
	pid_t pid = (pid_t)i->base.running.pid;
	unsigned long resident = 0, shared = 0;
	CLEANUP_BUF struct buf b = {0};
	struct timespec cpu;
	clockid_t clock;
	char path[64];

	(void)d;
	snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	if (i->pidfd < 0 || clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &cpu) != 0 ||
	    fd_read_file(path, 256, &b, NULL) < 0 ||
	    sscanf(buf_cstr(&b), "%*u %lu %lu", &resident, &shared) != 2 ||
	    process_start(pid) != i->base.running.pid_start)
		return err_set(err, -ESRCH, "sandbox %" PRIu64 " is not running", i->base.meta.sandbox);
	*ret = (struct driver_stats){.cpu_us = (uint64_t)cpu.tv_sec * 1000000 + (uint64_t)cpu.tv_nsec / 1000,
				     .memory_bytes = (resident - shared) * (uint64_t)sysconf(_SC_PAGESIZE)};
	return 0;
}

static int op_log(struct driver *d, struct driver_instance *i, int *ret_fd, struct err *err)
{
	(void)d;
	return instance_log(&i->base, ret_fd, err);
}

static void op_release(struct driver *d, struct driver_instance *i)
{
	(void)d;
	fd_close(&i->pidfd);
	guest_shim_free(i->shim);
	free(i);
}

/* What only copies were made of goes when nobody makes any; who cannot make one is told. */
static int op_tend(struct driver *base, struct err *err)
{
	return templates_tend(((struct libvirt_driver *)base)->templates, err);
}

static void op_close(struct driver *base)
{
	struct libvirt_driver *d = (struct libvirt_driver *)base;

	connection_free(d->connection);
	handover_free(d->handover);
	templates_free(d->templates);
	sem_destroy(&d->boots);
	free(d);
}

static const struct driver_ops libvirt_ops = {
	.name = "libvirt",
	.wants_disk = true,
	.adopt = machine_adopt,
	.prove = machine_prove,
	.start = machine_start,
	.keep_log = op_keep_log,
	.stop = machine_stop,
	.egress = op_egress,
	.dial = op_dial,
	.freeze = op_freeze,
	.save = machine_save,
	.go_on = machine_go_on,
	.kill = op_kill,
	.exit_fd = op_exit_fd,
	.exit_status = op_exit_status,
	.info = op_info,
	.stats = op_stats,
	.log = op_log,
	.tend = op_tend,
	.release = op_release,
	.close = op_close,
};

/* -- The driver ---------------------------------------------------------------------------------------------------------- */

static int make_dirs(struct libvirt_driver *d, const char *state_dir, struct err *err)
{
	const char *const dirs[] = {d->vm_dir, d->machines};

	if (snprintf(d->vm_dir, sizeof d->vm_dir, "%s/vm", state_dir) > STATE_DIR_MAX)
		return err_set(err, -ENAMETOOLONG, "state directory %s: too long for machines' sockets",
			       state_dir);
	snprintf(d->machines, sizeof d->machines, "%s/vm/machines", state_dir);
	for (size_t k = 0; k < sizeof dirs / sizeof *dirs; k++) {
		if ((mkdir(dirs[k], 0711) != 0 && errno != EEXIST) || chmod(dirs[k], 0711) != 0)
			return err_system(err, -errno, "mkdir %s", dirs[k]);
	}
	return 0;
}

static int connect_to(struct libvirt_driver *d, const char *uri, struct err *err)
{
	bool own = uri == NULL || uri[0] == '\0';
	char dir[MACHINE_PATH_MAX + 16];
	struct connection_options o = {.uri = uri, .dir = dir, .bin_dir = d->bin_dir};

	snprintf(dir, sizeof dir, "%s/libvirtd", d->vm_dir);
	if (own)
		snprintf(d->pids, sizeof d->pids, "%.*s/run/qemu", MACHINE_PATH_MAX - 16, dir);
	else
		snprintf(d->pids, sizeof d->pids, "/run/libvirt/qemu");
	return connection_new(&o, &d->connection, err);
}

int libvirt_driver_new(const struct libvirt_driver_options *o, struct driver **ret, struct err *err)
{
	struct libvirt_driver *d = calloc(1, sizeof *d);
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);
	char socket[MACHINE_PATH_MAX];
	int r;

	if (d == NULL)
		return err_set(err, -ENOMEM, "libvirt driver: no memory");
	d->base.ops = &libvirt_ops;
	d->hash = (uint32_t)str_hash_stable(o->cluster, o->node);
	d->egress = o->egress;
	d->emulation = o->emulation;
	snprintf(d->kernel, sizeof d->kernel, "%s", o->kernel != NULL ? o->kernel : "");
	d->canary_uid = o->canary_uid;
	snprintf(d->bin_dir, sizeof d->bin_dir, "%s", o->bin_dir);
	sem_init(&d->boots, 0, BOOTS_PER_CPU * (unsigned)(cpus < 1 ? 1 : cpus));
	r = make_dirs(d, o->state_dir, err);
	if (r == 0)
		r = connect_to(d, o->uri, err);
	machine_handover_path(d, socket);
	if (r == 0)
		r = handover_new(socket, &d->handover, err);
	if (r == 0)
		r = templates_new(&d->templates, err);
	if (r < 0) {
		op_close(&d->base);
		return r;
	}
	*ret = &d->base;
	return 0;
}
