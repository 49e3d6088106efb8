/* lxc_start.c -- starting one container through berth-shim; lxc_driver.c tells the whole way. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/fd.h"
#include "lxc_instance.h"
#include "lxc_shim/shim_config.h"

#define REPORT_WAIT_MS 90000
#define SHIM_END_MS    10000

void lxc_container_name(const struct lxc_driver *d, uint64_t sandbox, char ret[CONTAINER_NAME_MAX])
{
	snprintf(ret, CONTAINER_NAME_MAX, "berth-%08x-%016" PRIx64, d->hash, sandbox);
}

/* -- The shim process ------------------------------------------------------------------------------------------- */

static int config_memfd(struct lxc_driver *d, const struct driver_start *how, const char *dir,
			const char *name, int *ret_fd, struct err *err)
{
	char init[300], resolv[512] = "";
	CLEANUP_BUF struct buf b = BUF_MAX(CODEC_BYTES_MAX);
	CLEANUP_FD int fd = memfd_create("berth-shim", MFD_CLOEXEC);
	int r;

	snprintf(init, sizeof init, "%s/berth-init", d->bin_dir);
	if (how->egress)
		egress_resolv_conf(d->egress, resolv, sizeof resolv);
	struct shim_config c = {.name = str_of(name),
				.dir = str_of(dir),
				.lxc_path = str_of(d->lxc_path),
				.root = str_of(how->root),
				.init = str_of(init),
				.user = how->user,
				.working_dir = how->working_dir,
				.resolv_conf = str_of(resolv),
				.argv = how->argv,
				.n_argv = how->n_argv,
				.env = how->env,
				.n_env = how->n_env,
				.filter = buf_str(&d->filter),
				.uid_base = how->uid_base,
				.logger_uid = how->logger_uid,
				.cpu_milli = how->limits.cpu_milli,
				.pids_max = how->limits.pids_max,
				.memory_bytes = how->limits.memory_bytes,
				.disk_bytes = how->limits.disk_bytes,
				.log_bytes = how->limits.log_bytes,
				.read_bytes = how->limits.read_bytes};

	codec_encode(&b, &shim_config_codec, &c);
	if (fd < 0 || buf_failed(&b))
		return err_set(err, -E2BIG, "arguments and environment exceed %u bytes", CODEC_BYTES_MAX);
	r = fd_write_all(fd, b.p, b.n);
	explicit_bzero(b.p, b.n);
	if (r < 0)
		return err_system(err, r, "configuration of the shim");
	*ret_fd = fd_take(&fd);
	return 0;
}

static int read_report(int control, enum shim_event want, struct shim_report *ret, struct err *err)
{
	CLEANUP_ARENA struct arena a = {0};
	struct pollfd p = {control, POLLIN, 0};
	char bytes[SHIM_REPORT_MAX];
	struct shim_report r;
	ssize_t n;
	int e;

	while ((n = poll(&p, 1, REPORT_WAIT_MS)) < 0 && errno == EINTR)
		;
	if (n == 0)
		return err_set(err, -ETIMEDOUT, "the shim said nothing within %d ms", REPORT_WAIT_MS);
	n = recv(control, bytes, sizeof bytes, 0);
	if (n <= 0)
		return err_set(err, -ECHILD, "the shim ended without a word");
	e = codec_decode(bytes, (size_t)n, &shim_report_codec, &a, &r, err);
	if (e < 0)
		return e;
	if (r.event == SHIM_FAILED)
		return err_set(err, r.code < 0 ? r.code : -EIO, "%.*s", STR_ARGS(r.message));
	if (r.event != want)
		return err_set(err, -EPROTO, "the shim reports out of order");
	r.message = STR_NONE;
	*ret = r;
	return 0;
}

/* -- Holding on to it ------------------------------------------------------------------------------------------- */

int lxc_hold(struct lxc_driver *d, struct driver_instance *i, struct err *err)
{
	pid_t pid = (pid_t)i->base.running.pid;
	char path[64];
	int r;

	i->shim_pidfd = process_open((pid_t)i->base.running.shim_pid, i->base.running.shim_start);
	i->pidfd = process_open(pid, i->base.running.pid_start);
	if (i->shim_pidfd < 0 || i->pidfd < 0)
		return err_set(err, -ESRCH, "its processes are gone");
	snprintf(path, sizeof path, "/proc/%d/ns/net", (int)pid);
	i->netns = open(path, O_RDONLY | O_CLOEXEC);
	r = i->netns < 0 ? err_system(err, -errno, "open %s", path)
			 : cgroup_freezer_path(&d->layout, pid, i->freezer, sizeof i->freezer, err);
	/* Still the same process: then all of the above was its. */
	if (r == 0 && process_start(pid) != i->base.running.pid_start)
		r = err_set(err, -ESRCH, "its first process is gone");
	return r;
}

static struct sandbox_running running_of(const struct shim_report *r)
{
	return (struct sandbox_running){.pid = r->pid,
					.shim_pid = r->shim_pid,
					.pid_start = r->pid_start,
					.shim_start = r->shim_start,
					.started_boot_ms = r->started_boot_ms,
					.started_wall_ms = r->started_wall_ms};
}

static int start_with(struct lxc_driver *d, struct driver_instance *i, int control,
		      const struct driver_start *how, struct err *err)
{
	struct cgroup_limits limits = {.memory_bytes = how->limits.memory_bytes,
				       .read_bytes = how->limits.read_bytes,
				       .cpu_milli = how->limits.cpu_milli,
				       .pids_max = how->limits.pids_max};
	struct shim_report ready, done;
	struct stat image;
	char go = SHIM_GO;
	int r = read_report(control, SHIM_READY, &ready, err);

	if (r < 0)
		return r;
	i->base.running = running_of(&ready);
	r = lxc_hold(d, i, err);
	if (r == 0 && stat(how->root, &image) != 0)
		r = err_system(err, -errno, "%s", how->root);
	/* Those of the process that runs, not of the group that was meant for it. */
	if (r == 0) {
		limits.image = image.st_dev;
		r = cgroup_check_limits(&d->layout, (pid_t)i->base.running.pid, &limits, err);
	}
	if (r == 0 && how->egress)
		r = egress_attach(d->egress, how->slot, i->netns, err);
	if (r == 0)
		r = sandbox_dir_write_running(i->base.dir, &i->base.running, err);
	if (r < 0)
		return r;
	if (send(control, &go, 1, MSG_NOSIGNAL) != 1)
		return err_system(err, -errno, "say go to the shim");
	r = read_report(control, SHIM_RUNNING, &done, err);
	if (r == 0) {
		i->base.running.started_boot_ms = done.started_boot_ms;
		i->base.running.started_wall_ms = done.started_wall_ms;
		r = sandbox_dir_write_running(i->base.dir, &i->base.running, err);
	}
	return r;
}

/* The shim gives up when the socket ends; one that does not is killed, and its children with it. */
static void end_shim(int pidfd)
{
	struct pollfd p = {pidfd, POLLIN, 0};

	if (poll(&p, 1, SHIM_END_MS) == 1)
		return;
	(void)!syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
	(void)!poll(&p, 1, SHIM_END_MS);
}

static struct driver_instance *new_instance(struct lxc_driver *d, const struct driver_start *how)
{
	struct driver_instance *i = calloc(1, sizeof *i);

	if (i == NULL)
		return NULL;
	instance_init(&i->base, d->sandboxes, how);
	i->pidfd = i->shim_pidfd = i->netns = -1;
	return i;
}

int lxc_start(struct driver *base, const struct driver_start *how, struct driver_instance **ret,
	      struct err *err)
{
	struct lxc_driver *d = (struct lxc_driver *)base;
	struct driver_instance *i = new_instance(d, how);
	CLEANUP_FD int config = -1, shim = -1;
	char name[CONTAINER_NAME_MAX];
	int control[2] = {-1, -1}, r;
	pid_t pid = -1;

	*ret = NULL;
	if (i == NULL)
		return err_set(err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", how->sandbox);
	lxc_container_name(d, how->sandbox, name);
	r = sandbox_dir_make(i->base.dir, &i->base.meta, err);
	if (r < 0) {
		base->ops->release(base, i);
		return err_wrap(err, "start sandbox %" PRIu64, how->sandbox);
	}
	r = config_memfd(d, how, i->base.dir, name, &config, err);
	if (r == 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0)
		r = err_system(err, -errno, "socketpair");
	if (r == 0)
		r = shims_start(d->shims, name, config, control[1], &pid, &shim, err);
	fd_close(&control[1]);
	if (r == 0)
		r = sandbox_dir_write_shim(i->base.dir, pid, process_start(pid), err);
	if (r == 0)
		r = start_with(d, i, control[0], how, err);
	fd_close(&control[0]);
	if (r < 0) {
		if (shim >= 0)
			end_shim(shim);
		if (lxc_remove_host_objects(d, i->base.dir, how->sandbox, how->slot, NULL) < 0)
			*ret = i;
		else
			base->ops->release(base, i);
		return err_wrap(err, "start sandbox %" PRIu64, how->sandbox);
	}
	*ret = i;
	return 0;
}
