/* lxc_adopt.c -- after a restart of sandboxd: what still runs is held again, what ended meanwhile tells how, and
 * everything else that carries this node's name is removed. */
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/fd.h"
#include "lxc_instance.h"

#define SHIM_END_MS 5000

/* Its shim may be gone while its first process is not yet, or the other way round. */
static void make_over(struct driver_instance *i)
{
	if (i->pidfd >= 0)
		(void)!kill((pid_t)i->base.running.pid, SIGKILL);
	if (i->shim_pidfd >= 0 && i->pidfd < 0)
		(void)!poll(&(struct pollfd){i->shim_pidfd, POLLIN, 0}, 1, 2000);
	fd_close(&i->pidfd);
	fd_close(&i->shim_pidfd);
	fd_close(&i->netns);
	i->freezer[0] = '\0';
}

/* A start that never finished: its shim ends by itself, because the socket to the sandboxd of then has ended; but
 * not before it has noticed. False: something of it is left, so it is held like one that is over. */
static bool end_half_started(struct lxc_driver *d, const char *dir, uint64_t sandbox, uint32_t slot)
{
	int64_t pid = -1;
	uint64_t start = 0;

	if (sandbox_dir_read_shim(dir, &pid, &start, NULL) == 0) {
		CLEANUP_FD int fd = process_open((pid_t)pid, start);

		if (fd >= 0 && poll(&(struct pollfd){fd, POLLIN, 0}, 1, SHIM_END_MS) != 1)
			(void)!kill((pid_t)pid, SIGKILL);
	}
	return lxc_remove_host_objects(d, dir, sandbox, slot, NULL) == 0;
}

static void adopt_one(struct lxc_driver *d, uint64_t sandbox, driver_found *found, void *arg)
{
	struct driver_instance *i = calloc(1, sizeof *i);
	int r;

	if (i == NULL)
		return;
	i->pidfd = i->shim_pidfd = i->netns = -1;
	r = instance_read(&i->base, d->sandboxes, sandbox);
	if (r < 0 && r != -ESTALE && end_half_started(d, i->base.dir, sandbox, i->base.meta.slot)) {
		free(i);
		return;
	}
	if (r < 0 || lxc_hold(d, i, NULL) < 0)
		make_over(i);
	if (i->base.meta.egress)
		egress_adopt(d->egress, i->base.meta.slot, sandbox_dir_egress_on(i->base.dir));
	found(i, arg);
}

struct leftovers {
	struct lxc_driver *d;
};

/* Groups of this node's containers that have no directory. */
static void remove_stray_group(const char *dir, const char *container, void *arg)
{
	struct leftovers *l = arg;
	char name[CONTAINER_NAME_MAX], path[SANDBOX_DIR_MAX], id[17];
	uint64_t sandbox;

	(void)dir;
	snprintf(id, sizeof id, "%.16s", container + strlen("berth-00000000-"));
	if (!sandbox_dir_id(id, &sandbox))
		return;
	sandbox_dir_path(l->d->sandboxes, sandbox, path);
	if (access(path, F_OK) == 0)
		return;
	lxc_container_name(l->d, sandbox, name);
	(void)!cgroup_remove(&l->d->layout, name);
}

int lxc_adopt(struct driver *base, driver_found *found, void *arg, struct err *err)
{
	struct lxc_driver *d = (struct lxc_driver *)base;
	DIR *dir = opendir(d->sandboxes);
	struct leftovers l = {.d = d};
	struct dirent *e;
	char prefix[32];
	uint64_t sandbox;

	if (dir == NULL)
		return err_system(err, -errno, "open %s", d->sandboxes);
	while ((e = readdir(dir)) != NULL) {
		if (sandbox_dir_id(e->d_name, &sandbox))
			adopt_one(d, sandbox, found, arg);
	}
	closedir(dir);
	snprintf(prefix, sizeof prefix, "berth-%08x-", d->hash);
	cgroup_find(&d->layout, prefix, remove_stray_group, &l);
	return 0;
}
