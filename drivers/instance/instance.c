#include "instance.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

void instance_init(struct instance *i, const char *parent, const struct driver_start *how)
{
	i->meta = (struct sandbox_meta){.sandbox = how->sandbox,
					.pool_uid = how->pool_uid,
					.revision = how->revision,
					.slot = how->slot,
					.uid_base = how->uid_base,
					.target_port = how->target_port,
					.egress = how->egress,
					.stop_signal = how->stop_signal};
	(void)str_copy(how->digest, i->digest, sizeof i->digest);
	i->meta.digest = str_of(i->digest);
	sandbox_dir_path(parent, how->sandbox, i->dir);
}

int instance_read(struct instance *i, const char *parent, uint64_t sandbox)
{
	int r;

	sandbox_dir_path(parent, sandbox, i->dir);
	r = sandbox_dir_read_meta(i->dir, &i->meta, i->digest, NULL);
	if (r == 0)
		r = sandbox_dir_read_running(i->dir, &i->running, NULL);
	i->meta.sandbox = sandbox;
	i->meta.digest = str_of(i->digest);
	if (r < 0)
		i->running.pid = i->running.shim_pid = -1;
	return r;
}

void instance_info(const struct instance *i, struct driver_info *ret)
{
	*ret = (struct driver_info){.sandbox = i->meta.sandbox,
				    .pool_uid = i->meta.pool_uid,
				    .revision = i->meta.revision,
				    .started_boot_ms = i->running.started_boot_ms,
				    .started_wall_ms = i->running.started_wall_ms,
				    .pid = i->running.pid,
				    .slot = i->meta.slot,
				    .uid_base = i->meta.uid_base,
				    .target_port = i->meta.target_port,
				    .egress = i->meta.egress && sandbox_dir_egress_on(i->dir)};
	memcpy(ret->digest, i->digest, sizeof ret->digest);
}

/* Not waiting for a writer, should whoever keeps the log have put a pipe there. */
int instance_log(const struct instance *i, int *ret_fd, struct err *err)
{
	char path[SANDBOX_DIR_MAX + 32];
	int fd;

	snprintf(path, sizeof path, "%s/log/log", i->dir);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0)
		return err_system(err, -errno, "log of sandbox %" PRIu64, i->meta.sandbox);
	*ret_fd = fd;
	return 0;
}

void instance_keep_log(struct instance *i, const char *path)
{
	if (strlen(path) < sizeof i->keep)
		snprintf(i->keep, sizeof i->keep, "%s", path);
}

/* Renamed, whatever it is: who wrote it has no privileges but may have been taken over, and the next reader looks. */
void instance_move_log(const struct instance *i)
{
	static const char *const parts[][2] = {{"log", "log"}, {"log.1", "old"}};
	char from[SANDBOX_DIR_MAX + 32], to[SANDBOX_DIR_MAX + 32];

	for (size_t k = 0; i->keep[0] != '\0' && k < 2; k++) {
		snprintf(from, sizeof from, "%s/log/%s", i->dir, parts[k][0]);
		snprintf(to, sizeof to, "%s.%s", i->keep, parts[k][1]);
		(void)!rename(from, to);
	}
}

int instance_egress(const struct instance *i, struct egress *e, bool on, struct err *err)
{
	if (!i->meta.egress)
		return on ? err_set(err, -ENOTSUP,
				    "sandbox %" PRIu64 " was started without egress; a new revision gives it",
				    i->meta.sandbox)
			  : 0;
	/* The file first: a sandboxd that comes after must not turn on again what was turned off. */
	int r = on ? 0 : sandbox_dir_set_egress(i->dir, false, err);

	if (r == 0)
		r = egress_switch(e, i->meta.slot, on, err);
	if (r < 0 && !on) /* it is still on, and whoever asks is told so */
		(void)sandbox_dir_set_egress(i->dir, true, NULL);
	return r == 0 && on ? sandbox_dir_set_egress(i->dir, true, err) : r;
}
