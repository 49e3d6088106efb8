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
#include "lxc/lxc_driver.h"
#include "scripted/scripted_driver.h"

#define BUSYBOX "/bin/busybox"

static const char *const applets[] = {"sh",   "httpd",    "cat",     "echo",   "sleep",    "id",  "env",
				      "kill", "ls",       "dd",      "true",   "mount",    "nc",  "wget",
				      "head", "touch",    "unshare", "stat",   "ip",       "seq", "trap",
				      "ping", "nslookup", "test",    "printf", "hostname", "grep"};

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

int world_open_driver(struct world *w, struct err *err)
{
	const struct egress_options net = {.hash = (uint32_t)str_hash_stable(STR("test"), w->node),
					   .base = 0x64400000,
					   .resolvers = "198.51.100.53",
					   .denied = "",
					   .limits = {1000, 1000, 100000, 1u << 30}};
	struct lxc_driver_options o = {
		.cluster = STR("test"), .node = w->node, .state_dir = w->dir, .bin_dir = BERTH_BIN};
	int r = egress_new(&net, &w->egress, err);

	o.egress = w->egress;
	return r == 0 ? lxc_driver_new(&o, &w->driver, err) : r;
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

static long count_processes(void)
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
		if (fd_read_file(path, 65536, &b, NULL) == 0 &&
		    strncmp(buf_cstr(&b), "berth-shim", 10) == 0 &&
		    strncmp(buf_cstr(&b) + 11, ours, strlen(ours)) == 0)
			n++;
	}
	if (d != NULL)
		closedir(d);
	return n;
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
	ret.processes = count_processes();
	return ret;
}

/* -- Opening and closing ---------------------------------------------------------------------------------------- */

int world_open(struct world *w, bool lxc)
{
	struct err err = {0};

	*w = (struct world){.next_id = 1, .node = (uint64_t)getpid(), .keeper = -1};
	snprintf(w->dir, sizeof w->dir, "/tmp/berth-test.%d", (int)getpid());
	snprintf(w->root, sizeof w->root, "%s/image", w->dir);
	if (mkdir(w->dir, 0711) != 0 || chmod(w->dir, 0711) != 0)
		return -errno;
	int r;

	if (!lxc) {
		r = scripted_driver_new(&w->driver, &err);
	} else {
		make_root(w);
		r = keeper_start(w, &w->keeper);
		if (r < 0)
			return r;
		r = world_open_driver(w, &err);
	}
	if (r < 0)
		fprintf(stderr, "%s\n", err.message);
	else
		w->before = count_host(w);
	return r;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

int world_close(struct world *w)
{
	struct world_counts after = count_host(w), before = w->before;

	world_close_driver(w);
	keeper_end(&w->keeper);
	nftw(w->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
	if (memcmp(&before, &after, sizeof after) == 0)
		return 0;
	fprintf(stderr,
		"left behind: mounts %ld -> %ld, cgroups %ld -> %ld, shims %ld -> %ld, files %ld -> %ld\n",
		before.mounts, after.mounts, before.cgroups, after.cgroups, before.processes, after.processes,
		before.files, after.files);
	return -1;
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
					  .root = w->root,
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
