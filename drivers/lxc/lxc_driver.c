/* lxc_driver.c -- see lxc_driver.h and driver.h.
 *
 * Start: directory and meta file; berth-shim with its configuration in a memfd; SHIM_READY gives the process id, from
 * which pidfd and network namespace are opened and kept; egress; the file `running`; go; SHIM_RUNNING.
 * Invariants: a sandbox with a `running` file is adopted by the next sandboxd, one without is removed, and its shim
 * ends by itself because its socket did. A pid is used only together with its start time. */
#include "lxc_driver.h"

#include <errno.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "lxc_instance.h"

#define KILL_WAIT_MS 10000
#define ENDS_AT_ONCE 4

/* -- Exit, signals -------------------------------------------------------------------------------------------- */

static void signal_first(struct driver_instance *i, int sig)
{
	if (i->pidfd >= 0)
		(void)!syscall(SYS_pidfd_send_signal, i->pidfd, sig, NULL, 0);
}

static void op_kill(struct driver *d, struct driver_instance *i)
{
	(void)d;
	signal_first(i, SIGKILL);
	if (i->freezer[0] == '\0')
		return;
	/* Its first process takes the others along, but not before they ran once more: over its lease that is too late. */
	cgroup_kill_frozen(i->freezer);
	(void)!cgroup_freeze(i->freezer, false, NULL);
}

static int op_exit_fd(struct driver *d, struct driver_instance *i)
{
	(void)d;
	return i->shim_pidfd;
}

static void op_exit_status(struct driver *d, struct driver_instance *i, struct driver_exit *ret)
{
	struct sandbox_exit e;

	if (!i->exited) {
		i->exit = (struct driver_exit){.how = SANDBOX_EXIT_UNKNOWN, .wall_ms = clock_wall_ms()};
		if (sandbox_dir_read_exit(i->base.dir, &e))
			i->exit = (struct driver_exit){
				.how = (enum sandboxd_exit)e.how, .value = e.value, .wall_ms = e.wall_ms};
		else
			op_kill(d,
				i); /* the shim was killed, and without privileges it could not take its child along */
		i->exited = true;
	}
	*ret = i->exit;
}

/* -- Stop ------------------------------------------------------------------------------------------------------ */

int lxc_remove_host_objects(struct lxc_driver *d, const char *dir, uint64_t sandbox, uint32_t slot,
			    struct err *err)
{
	char name[CONTAINER_NAME_MAX], lock[SANDBOX_DIR_MAX + 200];
	int left, r;

	lxc_container_name(d, sandbox, name);
	left = cgroup_remove(&d->layout, name);
	snprintf(lock, sizeof lock, "/run/lxc/lock/%s/.%s", d->lxc_path, name);
	unlink(lock);
	r = egress_detach(d->egress, slot, err);
	if (r < 0)
		return r;
	if (left > 0)
		return err_set(err, -EBUSY, "%d cgroup directories of %s could not be removed", left, name);
	return sandbox_dir_remove(dir, err);
}

static void op_keep_log(struct driver *d, struct driver_instance *i, const char *path)
{
	(void)d;
	instance_keep_log(&i->base, path);
}

static int end_now(struct lxc_driver *d, struct driver_instance *i, struct err *err)
{
	struct driver_exit status;

	op_kill(&d->base, i);
	if (!process_wait(i->shim_pidfd, KILL_WAIT_MS)) {
		(void)!syscall(SYS_pidfd_send_signal, i->shim_pidfd, SIGKILL, NULL, 0);
		if (!process_wait(i->shim_pidfd, KILL_WAIT_MS))
			return err_set(err, -EBUSY, "its processes do not end");
	}
	op_exit_status(&d->base, i, &status);
	instance_move_log(&i->base);
	return lxc_remove_host_objects(d, i->base.dir, i->base.meta.sandbox, i->base.meta.slot, err);
}

static int op_stop(struct driver *base, struct driver_instance *i, uint32_t grace_ms, struct err *err)
{
	struct lxc_driver *d = (struct lxc_driver *)base;
	int r;

	if (!process_wait(i->shim_pidfd, 0) && grace_ms > 0) {
		signal_first(i, i->base.meta.stop_signal);
		process_wait(i->shim_pidfd, grace_ms);
	}
	/* In turns: processes die on their own time, and all of a pool's at once would leave no CPU to requests. */
	while (sem_wait(&d->ends) != 0)
		;
	r = end_now(d, i, err);
	sem_post(&d->ends);
	return r < 0 ? err_wrap(err, "stop sandbox %" PRIu64, i->base.meta.sandbox) : 0;
}

/* -- Connections, freezing, figures --------------------------------------------------------------------------- */

static int op_dial(struct driver *base, struct driver_instance *i, uint16_t port, int *ret_fd,
		   struct err *err)
{
	struct lxc_driver *d = (struct lxc_driver *)base;
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CLEANUP_FD int s = -1;
	int saved = 0;

	if (i->netns < 0)
		return err_set(err, -ECONNREFUSED, "sandbox %" PRIu64 " is not running",
			       i->base.meta.sandbox);
	if (setns(i->netns, CLONE_NEWNET) != 0)
		return err_system(err, -errno, "enter the network namespace of sandbox %" PRIu64,
				  i->base.meta.sandbox);
	s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s < 0)
		saved = errno;
	must(setns(d->own_netns, CLONE_NEWNET) == 0);
	if (s < 0)
		return err_system(err, -saved, "socket in sandbox %" PRIu64, i->base.meta.sandbox);
	if (connect(s, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS)
		return err_system(err, -errno, "connect to port %u of sandbox %" PRIu64, port,
				  i->base.meta.sandbox);
	*ret_fd = fd_take(&s);
	return 0;
}

static int op_freeze(struct driver *d, struct driver_instance *i, bool frozen, struct err *err)
{
	(void)d;
	if (i->freezer[0] == '\0')
		return err_set(err, -ESRCH, "sandbox %" PRIu64 " is not running", i->base.meta.sandbox);
	return cgroup_freeze(i->freezer, frozen, err);
}

static void op_info(struct driver *d, struct driver_instance *i, struct driver_info *ret)
{
	(void)d;
	instance_info(&i->base, ret);
}

static int op_stats(struct driver *base, struct driver_instance *i, struct driver_stats *ret, struct err *err)
{
	struct lxc_driver *d = (struct lxc_driver *)base;

	int r = cgroup_stats(&d->layout, (pid_t)i->base.running.pid, &ret->cpu_us, &ret->memory_bytes,
			     &ret->pids, err);

	return r == 0 ? cgroup_files_bytes(&d->layout, (pid_t)i->base.running.pid, &ret->files_bytes, err)
		      : r;
}

static int op_log(struct driver *d, struct driver_instance *i, int *ret_fd, struct err *err)
{
	(void)d;
	return instance_log(&i->base, ret_fd, err);
}

static int op_egress(struct driver *d, struct driver_instance *i, bool on, struct err *err)
{
	return instance_egress(&i->base, ((struct lxc_driver *)d)->egress, on, err);
}

static void op_release(struct driver *d, struct driver_instance *i)
{
	(void)d;
	fd_close(&i->pidfd);
	fd_close(&i->shim_pidfd);
	fd_close(&i->netns);
	free(i);
}

static void op_close(struct driver *base)
{
	struct lxc_driver *d = (struct lxc_driver *)base;

	sem_destroy(&d->ends);
	shims_free(d->shims);
	fd_close(&d->own_netns);
	buf_done(&d->filter);
	free(d);
}

static const struct driver_ops lxc_ops = {
	.name = "lxc",
	.adopt = lxc_adopt,
	.start = lxc_start,
	.keep_log = op_keep_log,
	.stop = op_stop,
	.egress = op_egress,
	.dial = op_dial,
	.freeze = op_freeze,
	.kill = op_kill,
	.exit_fd = op_exit_fd,
	.exit_status = op_exit_status,
	.info = op_info,
	.stats = op_stats,
	.log = op_log,
	.release = op_release,
	.close = op_close,
};

/* -- The driver ------------------------------------------------------------------------------------------------ */

static int prepare_dir(const char *dir, const char *below, mode_t mode, struct err *err)
{
	char path[300];

	snprintf(path, sizeof path, "%s%s", dir, below);
	if ((mkdir(path, mode) != 0 && errno != EEXIST) || chmod(path, mode) != 0)
		return err_system(err, -errno, "mkdir %s", path);
	return 0;
}

/* The points of mounts too, see rootfs.h. */
static int prepare_dirs(struct lxc_driver *d, const char *state_dir, struct err *err)
{
	int r;

	if (snprintf(d->sandboxes, sizeof d->sandboxes, "%s/sandboxes", state_dir) >=
		    (int)sizeof d->sandboxes - 32 ||
	    snprintf(d->lxc_path, sizeof d->lxc_path, "%s/lxc", state_dir) >= (int)sizeof d->lxc_path)
		return err_set(err, -ENAMETOOLONG, "state directory %s: path too long", state_dir);
	r = prepare_dir(d->sandboxes, "", 0711, err);
	if (r == 0)
		r = prepare_dir(d->lxc_path, "", 0711, err);
	if (r == 0)
		r = prepare_dir(d->lxc_path, "/lower", 0755, err);
	if (r == 0)
		r = prepare_dir(d->lxc_path, "/upper", 0700, err);
	return r == 0 ? prepare_dir(d->lxc_path, "/root", 0755, err) : r;
}

int lxc_driver_new(const struct lxc_driver_options *o, struct driver **ret, struct err *err)
{
	struct lxc_driver *d = calloc(1, sizeof *d);
	int r;

	if (d == NULL)
		return err_set(err, -ENOMEM, "lxc driver: no memory");
	d->base.ops = &lxc_ops;
	sem_init(&d->ends, 0, ENDS_AT_ONCE);
	d->hash = (uint32_t)str_hash_stable(o->cluster, o->node);
	d->own_netns = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
	snprintf(d->bin_dir, sizeof d->bin_dir, "%s", o->bin_dir);
	d->egress = o->egress;
	r = d->own_netns < 0 ? err_system(err, -errno, "open the network namespace") : 0;
	if (r == 0)
		r = prepare_dirs(d, o->state_dir, err);
	if (r == 0)
		r = cgroup_layout_read("", &d->layout, err);
	if (r == 0)
		r = seccomp_filter_build(&d->filter, err);
	if (r == 0)
		r = shims_new(d->bin_dir, &d->shims, err);
	if (r < 0) {
		fd_close(&d->own_netns);
		buf_done(&d->filter);
		free(d);
		return r;
	}
	*ret = &d->base;
	return 0;
}
