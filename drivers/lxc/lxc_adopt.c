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

/* "00000000000000ab" */
static bool parse_id(const char *name, uint64_t *ret)
{
	char *end;

	if (strlen(name) != 16 || strspn(name, "0123456789abcdef") != 16)
		return false;
	*ret = strtoull(name, &end, 16);
	return true;
}

/* Its shim may be gone while its first process is not yet, or the other way round. */
static void make_over(struct driver_instance *i)
{
	if (i->pidfd >= 0)
		(void)!kill((pid_t)i->running.pid, SIGKILL);
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
	sandbox_dir_path(d->sandboxes, sandbox, i->dir);
	r = sandbox_dir_read_meta(i->dir, &i->meta, i->digest, NULL);
	if (r == 0)
		r = sandbox_dir_read_running(i->dir, &i->running, NULL);
	if (r < 0 && r != -ESTALE && end_half_started(d, i->dir, sandbox, i->meta.slot)) {
		free(i);
		return;
	}
	i->meta.sandbox = sandbox;
	if (r < 0)
		i->running.pid = i->running.shim_pid = -1;
	if (r < 0 || lxc_hold(d, i, NULL) < 0)
		make_over(i);
	if (i->meta.egress)
		egress_adopt(d->egress, i->meta.slot, sandbox_dir_egress_on(i->dir));
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
	if (!parse_id(id, &sandbox))
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
		if (parse_id(e->d_name, &sandbox))
			adopt_one(d, sandbox, found, arg);
	}
	closedir(dir);
	snprintf(prefix, sizeof prefix, "berth-%08x-", d->hash);
	cgroup_find(&d->layout, prefix, remove_stray_group, &l);
	return 0;
}
