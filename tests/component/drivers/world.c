#include "world.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "drivers_net/egress.h"
#include "keeper.h"
#include "libvirt_driver/libvirt_driver.h"
#include "lxc/lxc_driver.h"
#include "scripted/scripted_driver.h"

#define BUSYBOX "/bin/busybox"

static const char *const applets[] = {"sh",   "httpd",    "cat",     "echo",   "sleep",    "id",   "env",
				      "kill", "ls",       "dd",      "true",   "mount",    "nc",   "wget",
				      "head", "touch",    "unshare", "stat",   "ip",       "seq",  "trap",
				      "ping", "nslookup", "test",    "printf", "hostname", "grep", "date"};

const char *world_lacks_lxc(void)
{
	if (geteuid() != 0)
		return "needs root";
	if (access(BUSYBOX, X_OK) != 0)
		return "needs " BUSYBOX " (busybox-static)";
	if (access("/proc/self/ns/user", F_OK) != 0)
		return "needs user namespaces";
	if (access("/sys/fs/cgroup", F_OK) != 0)
		return "needs cgroups";
	return NULL;
}

const char *world_lacks_libvirt(void)
{
	if (geteuid() != 0)
		return "needs root";
	if (access(BUSYBOX, X_OK) != 0)
		return "needs " BUSYBOX " (busybox-static)";
	if (access("/usr/sbin/libvirtd", X_OK) != 0)
		return "needs /usr/sbin/libvirtd (libvirt-daemon-system)";
	if (access("/usr/bin/qemu-system-x86_64", X_OK) != 0)
		return "needs /usr/bin/qemu-system-x86_64 (qemu-system-x86)";
	if (access("/usr/bin/mkfs.erofs", X_OK) != 0)
		return "needs /usr/bin/mkfs.erofs (erofs-utils)";
	if (access("/dev/net/tun", F_OK) != 0)
		return "needs /dev/net/tun";
	return NULL;
}

static void write_text(const char *dir, const char *name, const char *text)
{
	char path[256];
	struct err err;

	snprintf(path, sizeof path, "%s/%s", dir, name);
	must(fd_write_file(path, 0644, text, strlen(text), &err) == 0);
}

static void make_root(struct world *w)
{
	static const char *const dirs[] = {"",     "/bin",  "/etc", "/tmp", "/www",
					   "/dev", "/proc", "/sys", "/data"};
	char path[300], target[64];

	for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++) {
		snprintf(path, sizeof path, "%s%s", w->root, dirs[i]);
		must(mkdir(path, 0755) == 0 && chmod(path, i == 3 ? 01777 : 0755) == 0);
	}
	CLEANUP_BUF struct buf b = {0};
	struct err err;

	must(fd_read_file(BUSYBOX, 8u << 20, &b, &err) == 0);
	snprintf(path, sizeof path, "%s/bin/busybox", w->root);
	must(fd_write_file(path, 0755, b.p, b.n, &err) == 0);
	for (size_t i = 0; i < sizeof applets / sizeof *applets; i++) {
		snprintf(path, sizeof path, "%s/bin/%s", w->root, applets[i]);
		snprintf(target, sizeof target, "busybox");
		must(symlink(target, path) == 0);
	}
	snprintf(path, sizeof path, "%s/data", w->root);
	must(chown(path, 1000, 1000) == 0);
	write_text(w->root, "etc/passwd",
		   "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000:web:/home/web:/bin/sh\n");
	write_text(w->root, "etc/group", "root:x:0:\nweb:x:1000:\nextra:x:2000:web\n");
	write_text(w->root, "www/index.html", "hello\n");
	write_text(w->root, "bin/bad-interpreter", "#!/no/such/shell\n");
	snprintf(path, sizeof path, "%s/bin/bad-interpreter", w->root);
	must(chmod(path, 0755) == 0);
}

static int open_lxc(struct world *w, struct err *err)
{
	struct lxc_driver_options o = {.cluster = STR("test"),
				       .node = w->node,
				       .state_dir = w->dir,
				       .bin_dir = BERTH_BIN,
				       .egress = w->egress};

	return lxc_driver_new(&o, &w->driver, err);
}

static int open_libvirt(struct world *w, struct err *err)
{
	struct libvirt_driver_options o = {.cluster = STR("test"),
					   .node = w->node,
					   .state_dir = w->dir,
					   .bin_dir = BERTH_BIN,
					   .egress = w->egress,
					   .emulation = true,
					   .canary_uid = WORLD_UIDS - 1};

	return libvirt_driver_new(&o, &w->driver, err);
}

int world_open_driver(struct world *w, struct err *err)
{
	const struct egress_options net = {.hash = (uint32_t)str_hash_stable(STR("test"), w->node),
					   .base = 0x64400000,
					   .resolvers = "198.51.100.53",
					   .denied = "",
					   .limits = {1000, 1000, 100000, 1u << 30}};
	int r = egress_new(&net, &w->egress, err);

	if (r < 0)
		return r;
	signal(SIGPIPE, SIG_IGN); /* as sandboxd does: libvirt's client writes to a daemon that is gone */
	return w->kind == WORLD_LIBVIRT ? open_libvirt(w, err) : open_lxc(w, err);
}

int world_adopt(struct world *w, driver_found *found, void *arg, struct err *err)
{
	int r = w->driver->ops->adopt(w->driver, found, arg, err);

	return r == 0 ? egress_settle(w->egress, err) : r;
}

void world_close_driver(struct world *w)
{
	if (w->driver != NULL)
		w->driver->ops->close(w->driver);
	if (w->egress != NULL)
		egress_free(w->egress);
	w->driver = NULL;
	w->egress = NULL;
}

/* -- Counting -------------------------------------------------------------------------------------------------- */

static long counted;
static char
	ours[32]; /* how the names of this driver's host objects begin: others may run on this machine too */

static int count_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)where;
	if (kind == FTW_D && strstr(path, ours) != NULL)
		counted++;
	return 0;
}

static int count_any(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)path;
	(void)st;
	(void)kind;
	(void)where;
	counted++;
	return 0;
}

/* Its shim, or its QEMU; words of a command line end with NUL. */
static bool is_ours(const struct buf *line, const char *dir)
{
	char qemu[64];

	snprintf(qemu, sizeof qemu, "guest=%s", ours);
	return (line->n > 11 && strncmp(line->p, "berth-shim", 10) == 0 &&
		memmem(line->p, line->n, ours, strlen(ours)) != NULL) ||
	       memmem(line->p, line->n, qemu, strlen(qemu)) != NULL ||
	       (memmem(line->p, line->n, "berth-vmshim", 12) != NULL &&
		memmem(line->p, line->n, dir, strlen(dir)) != NULL);
}

static long count_processes(const char *dir)
{
	DIR *d = opendir("/proc");
	struct dirent *e;
	long n = 0;

	while (d != NULL && (e = readdir(d)) != NULL) {
		CLEANUP_BUF struct buf b = {0};
		char path[300];

		if (e->d_name[0] < '0' || e->d_name[0] > '9')
			continue;
		snprintf(path, sizeof path, "/proc/%s/cmdline", e->d_name);
		if (fd_read_file(path, 65536, &b, NULL) == 0 && b.n > 0 && is_ours(&b, dir))
			n++;
	}
	if (d != NULL)
		closedir(d);
	return n;
}

static long count_names(const char *dir, const char *prefix)
{
	DIR *d = opendir(dir);
	struct dirent *e;
	long n = 0;

	while (d != NULL && (e = readdir(d)) != NULL)
		n += strncmp(e->d_name, prefix, strlen(prefix)) == 0;
	if (d != NULL)
		closedir(d);
	return n;
}

/* Interfaces are the egress's, of either kind of sandbox; the rest is the driver's and its libvirtd's. */
static void count_machines(const struct world *w, struct world_counts *ret)
{
	char path[200], prefix[16];

	snprintf(prefix, sizeof prefix, "bth%06xn",
		 (uint32_t)str_hash_stable(STR("test"), w->node) & 0xffffff);
	ret->interfaces = count_names("/sys/class/net", prefix);
	snprintf(path, sizeof path, "%s/vm/machines", w->dir);
	ret->files += count_names(path, "0");
	snprintf(path, sizeof path, "%s/vm/libvirtd/run/qemu", w->dir);
	ret->files += count_names(path, "berth-");
	snprintf(path, sizeof path, "%s/vm/libvirtd/lib/qemu", w->dir);
	ret->files += count_names(path, "domain-");
}

static struct world_counts count_host(const struct world *w)
{
	struct world_counts ret = {0};
	CLEANUP_BUF struct buf b = {0};
	char path[200];

	snprintf(ours, sizeof ours, "berth-%08x-", (uint32_t)str_hash_stable(STR("test"), w->node));
	if (fd_read_file("/proc/self/mountinfo", 4u << 20, &b, NULL) == 0) {
		/* Of this world: others may mount on this machine too. */
		for (const char *at = buf_cstr(&b); (at = strstr(at, w->dir)) != NULL; at += strlen(w->dir))
			ret.mounts++;
	}
	counted = 0;
	nftw("/sys/fs/cgroup", count_entry, 16, FTW_PHYS);
	ret.cgroups = counted;
	counted = 0;
	snprintf(path, sizeof path, "%s/sandboxes", w->dir);
	nftw(path, count_any, 16, FTW_PHYS);
	snprintf(path, sizeof path, "/run/lxc/lock/%s/lxc", w->dir);
	ret.files = counted;
	counted = 0;
	nftw(path, count_any, 16, FTW_PHYS);
	ret.files += counted > 0 ? counted - 1 : 0;
	ret.processes = count_processes(w->dir);
	count_machines(w, &ret);
	return ret;
}

/* -- Opening and closing ---------------------------------------------------------------------------------------- */

static int make_disk(struct world *w)
{
	char command[512];

	snprintf(w->disk, sizeof w->disk, "%s/image.erofs", w->dir);
	snprintf(command, sizeof command, "mkfs.erofs --quiet %s %s >/dev/null 2>&1", w->disk, w->root);
	if (system(command) != 0 || chmod(w->disk, 0444) != 0) {
		fprintf(stderr, "%s failed\n", command);
		return -EIO;
	}
	return 0;
}

static int open_real(struct world *w, struct err *err)
{
	int r;

	make_root(w);
	r = w->kind == WORLD_LIBVIRT ? make_disk(w) : 0;
	if (r == 0)
		r = keeper_start(w, &w->keeper);
	if (r == 0)
		r = world_open_driver(w, err);
	return r == 0 && w->driver->ops->prove != NULL ? w->driver->ops->prove(w->driver, err) : r;
}

int world_open(struct world *w, enum world_kind kind)
{
	struct err err = {0};
	int r;

	*w = (struct world){.kind = kind, .next_id = 1, .node = (uint64_t)getpid(), .keeper = -1};
	snprintf(w->dir, sizeof w->dir, "/tmp/berth-test.%d", (int)getpid());
	snprintf(w->root, sizeof w->root, "%s/image", w->dir);
	if (mkdir(w->dir, 0711) != 0 || chmod(w->dir, 0711) != 0)
		return -errno;
	r = kind == WORLD_SCRIPTED ? scripted_driver_new(&w->driver, &err) : open_real(w, &err);
	if (r < 0)
		fprintf(stderr, "%s\n", err.message);
	else
		w->before = count_host(w);
	return r;
}

pid_t world_libvirtd_pid(const struct world *w, const char *file)
{
	CLEANUP_BUF struct buf b = {0};
	char path[200];

	snprintf(path, sizeof path, "%s/vm/libvirtd/%s", w->dir, file);
	return fd_read_file(path, 64, &b, NULL) == 0 ? (pid_t)atol(buf_cstr(&b)) : -1;
}

void world_end_libvirtd(const struct world *w)
{
	pid_t launcher = world_libvirtd_pid(w, "lock"), libvirtd = world_libvirtd_pid(w, "run/libvirtd.pid");
	uint64_t end = clock_boot_ms() + 20000;

	if (launcher <= 0)
		return;
	(void)kill(launcher, SIGTERM);
	while ((kill(launcher, 0) == 0 || (libvirtd > 0 && kill(libvirtd, 0) == 0)) && clock_boot_ms() < end)
		usleep(5000);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

int world_left_behind(const struct world *w)
{
	struct world_counts after = count_host(w), before = w->before;

	if (memcmp(&before, &after, sizeof after) == 0)
		return 0;
	fprintf(stderr,
		"left behind: mounts %ld -> %ld, cgroups %ld -> %ld, processes %ld -> %ld, files %ld -> %ld, "
		"interfaces %ld -> %ld\n",
		before.mounts, after.mounts, before.cgroups, after.cgroups, before.processes, after.processes,
		before.files, after.files, before.interfaces, after.interfaces);
	return -1;
}

int world_close(struct world *w)
{
	int r = world_left_behind(w);

	world_close_driver(w);
	keeper_end(&w->keeper);
	world_end_libvirtd(w);
	nftw(w->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	return r;
}

void world_program(struct world *w, struct world_start *s, const char *const *argv)
{
	uint64_t id = w->next_id++;

	*s = (struct world_start){.how = {.sandbox = id,
					  .pool_uid = 7,
					  .revision = 1,
					  .slot = (uint32_t)id % 64,
					  .uid_base = WORLD_UIDS + (uint32_t)(id % 64 + 1) * 65536,
					  .logger_uid = WORLD_UIDS + (uint32_t)id,
					  .digest = STR("sha256:7e57"),
					  .root = w->root,
					  .disk = w->disk[0] != '\0' ? w->disk : NULL,
					  .stop_signal = SIGTERM,
					  .target_port = 8080,
					  .limits = {.cpu_milli = 500,
						     .pids_max = 64,
						     .memory_bytes = 64u << 20,
						     .disk_bytes = 16u << 20,
						     .log_bytes = 1u << 20,
						     .read_bytes = 64u << 20}}};
	for (; argv[s->how.n_argv] != NULL; s->how.n_argv++)
		s->argv[s->how.n_argv] = str_of(argv[s->how.n_argv]);
	s->how.argv = s->argv;
	s->how.env = s->env;
}

/* -- Using an instance ------------------------------------------------------------------------------------------ */

static int get_once(struct world *w, struct driver_instance *i, uint16_t port)
{
	static const char request[] = "GET / HTTP/1.0\r\n\r\n";
	CLEANUP_FD int fd = -1;
	struct err err = {0};
	struct pollfd p;
	char head[256];
	int r = w->driver->ops->dial(w->driver, i, port, &fd, &err), code = 0;
	socklen_t n = sizeof code;

	if (r < 0)
		return r;
	p = (struct pollfd){fd, POLLOUT, 0};
	if (poll(&p, 1, 5000) != 1)
		return -ETIMEDOUT;
	getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &n);
	if (code != 0)
		return -code;
	fd_set_nonblocking(fd, 0);
	if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) < 0)
		return -errno;
	p.events = POLLIN;
	if (poll(&p, 1, 5000) != 1)
		return -ETIMEDOUT;
	ssize_t got = recv(fd, head, sizeof head - 1, 0);

	if (got <= 12)
		return -EPROTO;
	head[got] = '\0';
	return atoi(head + 9);
}

int world_get(struct world *w, struct driver_instance *i, uint16_t port)
{
	uint64_t end = clock_boot_ms() + 10000;
	int r;

	while ((r = get_once(w, i, port)) == -ECONNREFUSED && clock_boot_ms() < end)
		usleep(2000);
	return r;
}

bool world_wait(struct world *w, struct driver_instance *i, struct driver_exit *ret)
{
	struct pollfd p = {w->driver->ops->exit_fd(w->driver, i), POLLIN, 0};

	if (p.fd >= 0 && poll(&p, 1, 20000) != 1)
		return false;
	w->driver->ops->exit_status(w->driver, i, ret);
	return true;
}

bool world_log_has(struct world *w, struct driver_instance *i, const char *text, char *ret, size_t size)
{
	uint64_t end = clock_boot_ms() + 5000;

	for (;;) {
		CLEANUP_BUF struct buf b = {0};
		CLEANUP_FD int fd = -1;

		if (w->driver->ops->log(w->driver, i, &fd, NULL) == 0 && fd_read_all(fd, &b) == 0) {
			snprintf(ret, size, "%s", buf_cstr(&b));
			if (strstr(ret, text) != NULL)
				return true;
		}
		if (clock_boot_ms() > end)
			return false;
		usleep(5000);
	}
}
