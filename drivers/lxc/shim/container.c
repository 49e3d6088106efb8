#include "container.h"

#include <errno.h>
#include <inttypes.h>
#include <lxc/lxccontainer.h>
#ifdef __SANITIZE_THREAD__
#include <sanitizer/common_interface_defs.h>
#endif
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "core/fd.h"
#include "init_spec.h"
#include "rootfs.h"

struct setup {
	struct lxc_container *c;
	struct err *err;
	int result;
};

static void __attribute__((format(printf, 3, 4)))
set(struct setup *s, const char *key, const char *format, ...)
{
	char value[2048];
	va_list args;

	if (s->result < 0)
		return;
	va_start(args, format);
	int n = vsnprintf(value, sizeof value, format, args);
	va_end(args);
	if (n >= (int)sizeof value || !s->c->set_config_item(s->c, key, value))
		s->result = err_set(s->err, -EINVAL, "liblxc refuses %s = %s", key, value);
}

static const char *const fixed[][2] = {
	{"lxc.console.path", "none"},
	{"lxc.tty.max", "0"},
	{"lxc.pty.max", "16"},
	{"lxc.autodev", "1"},
	{"lxc.mount.auto", "proc:rw sys:ro"},
	{"lxc.no_new_privs", "1"},
	{"lxc.cap.keep",
	 "chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service sys_chroot "
	 "setfcap audit_write"},
	{"lxc.sysctl.net.ipv4.ip_unprivileged_port_start", "0"},
	{"lxc.net.0.type", "empty"},
	{"lxc.net.0.flags", "up"},
	{"lxc.uts.name", "sandbox"},
};

/* No key for cgroups: the calling process is in the container's groups, see cgroup_make.h. */
static int configure(struct lxc_container *lxc, const struct shim_config *c, struct err *err)
{
	struct setup s = {.c = lxc, .err = err};
	char shm[160];

	lxc->clear_config(lxc);
	for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
		set(&s, fixed[i][0], "%s", fixed[i][1]);
	rootfs_shm_entry(c->memory_bytes, shm, sizeof shm);
	set(&s, "lxc.mount.entry", "%s", shm);
	set(&s, "lxc.log.file", "%.*s/lxc.log", STR_ARGS(c->dir));
	set(&s, "lxc.log.level", "ERROR");
	set(&s, "lxc.rootfs.path", "dir:%.*s/root", STR_ARGS(c->lxc_path));
	set(&s, "lxc.idmap", "u 0 %u %u", c->uid_base, SANDBOX_IDS);
	set(&s, "lxc.idmap", "g 0 %u %u", c->uid_base, SANDBOX_IDS);
	set(&s, "lxc.mount.entry", "%.*s %s none bind,ro,nosuid,create=file 0 0", STR_ARGS(c->init),
	    INIT_PATH + 1);
	return s.result;
}

int container_run(const struct shim_config *c, int *ret_error_num, struct err *err)
{
	char name[65], path[4096], init[] = INIT_PATH;
	char *const argv[] = {init, NULL};
	struct lxc_container *lxc;
	int r;

	if (str_copy(c->name, name, sizeof name) < 0 || str_copy(c->lxc_path, path, sizeof path) < 0)
		return err_set(err, -EINVAL, "name or path of the container");
	lxc = lxc_container_new(name, path);
	if (lxc == NULL)
		return err_set(err, -ENOMEM, "liblxc: no container object for %s", name);
	r = configure(lxc, c, err);
	if (r == 0) {
		lxc->want_daemonize(lxc, false);
		lxc->want_close_all_fds(lxc, false); /* all are close-on-exec */
#ifdef __SANITIZE_THREAD__
		__sanitizer_sandbox_on_notify(
			NULL); /* ends the sanitizer's thread: liblxc refuses to start with one */
#endif
		lxc->start(lxc, 0, argv);
		*ret_error_num = lxc->error_num;
	}
	lxc_container_put(lxc);
	return r;
}

/* Lines read "lxc NAME 20260102030405.678 ERROR    file - ../src/x.c:function:123 - message". */
void container_last_error(const char *dir, char *ret, size_t size)
{
	CLEANUP_BUF struct buf b = {0};
	char path[600], *rest, *line;

	*ret = '\0';
	snprintf(path, sizeof path, "%s/lxc.log", dir);
	if (fd_read_file(path, 262144, &b, NULL) < 0)
		return;
	rest = (char *)(uintptr_t)buf_cstr(&b);
	while ((line = strsep(&rest, "\n")) != NULL) {
		char *message = strstr(line, " - ");

		if (message != NULL && strstr(message + 3, " - ") != NULL)
			message = strstr(message + 3, " - ");
		/* The first one is the cause; what follows only says that its callers failed too. */
		if (message != NULL && strstr(line, " ERROR ") != NULL) {
			snprintf(ret, size, "%s", message + 3);
			return;
		}
	}
}
