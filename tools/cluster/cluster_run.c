/* Starting and ending the supervisors of the nodes below one directory, on this machine. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cluster/cluster.h"
#include "config/config.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define STOP_MS 20000

struct node {
	char name[64], dir[PATH_MAX], conf[PATH_MAX + 16];
	struct config config;
};

struct nodes {
	struct node list[CLUSTER_NODES_MAX];
	unsigned n;
};

static int compare(const void *a, const void *b)
{
	return strcmp(((const struct node *)a)->name, ((const struct node *)b)->name);
}

static void nodes_done(struct nodes *nodes)
{
	for (unsigned i = 0; i < nodes->n; i++)
		config_done(&nodes->list[i].config);
}

#define CLEANUP_NODES __attribute__((cleanup(nodes_done)))

/* Every folder of `dir` that holds a berth.conf. */
static int find_nodes(const char *dir, struct nodes *ret, struct err *err)
{
	DIR *d = opendir(dir);
	struct dirent *entry;
	int r = 0;

	if (d == NULL)
		return err_system(err, -errno, "%s", dir);
	while (r == 0 && (entry = readdir(d)) != NULL) {
		struct node *node = &ret->list[ret->n];

		if (entry->d_name[0] == '.' || ret->n == CLUSTER_NODES_MAX ||
		    strlen(entry->d_name) >= sizeof node->name)
			continue;
		strcpy(node->name, entry->d_name);
		snprintf(node->dir, sizeof node->dir, "%s/%s", dir, entry->d_name);
		snprintf(node->conf, sizeof node->conf, "%s/%s/berth.conf", dir, entry->d_name);
		if (access(node->conf, F_OK) < 0)
			continue;
		r = config_load(node->conf, &node->config, err);
		if (r == 0)
			ret->n++;
	}
	closedir(d);
	if (r == 0 && ret->n == 0)
		r = err_set(err, -ENOENT, "%s: no node in it; make a cluster with: berth cluster init", dir);
	qsort(ret->list, ret->n, sizeof ret->list[0], compare);
	return r;
}

static void run_path(const struct node *node, const char *name, char *path, size_t size)
{
	snprintf(path, size, "%.*s/%s", STR_ARGS(node->config.run_dir), name);
}

/* The pid of the node's supervisor, 0 if none holds the lock. */
static pid_t supervisor_pid(const struct node *node)
{
	char path[PATH_MAX], text[32] = "";

	run_path(node, "supervisor.pid", path, sizeof path);
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0 || flock(fd, LOCK_SH | LOCK_NB) == 0 || errno != EWOULDBLOCK)
		return 0;
	return read(fd, text, sizeof text - 1) > 0 ? (pid_t)atoi(text) : 0;
}

static int beside_us(const char *program, char *path, size_t size)
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);

	if (n < 0)
		return -errno;
	self[n] = '\0';
	*strrchr(self, '/') = '\0';
	snprintf(path, size, "%s/%s", self, program);
	return 0;
}

static int spawn_supervisor(const struct node *node, struct err *err)
{
	char program[PATH_MAX + 32], log[PATH_MAX + 16];

	if (beside_us("berth-supervisor", program, sizeof program) < 0 || access(program, X_OK) < 0)
		return err_set(err, -ENOENT, "%s is missing beside this program", program);
	snprintf(log, sizeof log, "%s/log", node->dir);
	CLEANUP_FD int out = open(log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	CLEANUP_FD int in = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (out < 0 || in < 0)
		return err_system(err, -errno, "%s", log);
	pid_t pid = fork();

	if (pid < 0)
		return err_system(err, -errno, "start %s", program);
	if (pid == 0) {
		if (setsid() < 0 || dup2(in, 0) < 0 || dup2(out, 1) < 0 || dup2(out, 2) < 0)
			_exit(126);
		if (fork() != 0)
			_exit(0);
		execl(program, "berth-supervisor", node->conf, (char *)NULL);
		_exit(127);
	}
	waitpid(pid, NULL, 0);
	return 0;
}

/* One GET /ready over the admin socket: 200, or what it says is missing. */
static bool is_ready(const struct node *node, char *why, size_t size)
{
	static const char request[] = "GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	char answer[2048];
	size_t n = 0;

	snprintf(why, size, "berthd does not answer yet");
	if (str_copy(node->config.admin_socket, address.sun_path, sizeof address.sun_path) < 0)
		return false;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval second = {.tv_sec = 1};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &second, sizeof second);
	if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 ||
	    fd_write_all(fd, request, sizeof request - 1) < 0)
		return false;
	for (;;) {
		ssize_t got = read(fd, answer + n, sizeof answer - 1 - n);

		if (got <= 0)
			break;
		n += (size_t)got;
	}
	answer[n] = '\0';
	char *body = strstr(answer, "\r\n\r\n");

	if (body != NULL) {
		body[4 + strcspn(body + 4, "\n")] = '\0';
		snprintf(why, size, "%s", body + 4);
	}
	return strncmp(answer, "HTTP/1.1 200", 12) == 0;
}

static bool was_removed(const struct node *node)
{
	char path[PATH_MAX];

	snprintf(path, sizeof path, "%.*s/berthd/removed", STR_ARGS(node->config.state_dir));
	return access(path, F_OK) == 0;
}

/* Ready, or no node any more. */
static bool is_settled(const struct node *node, char *why, size_t size)
{
	return was_removed(node) || is_ready(node, why, size);
}

int cluster_start(const char *dir, unsigned timeout_s, cluster_progress *say, void *context, struct err *err)
{
	CLEANUP_NODES struct nodes nodes = {0};
	uint64_t deadline = clock_boot_ms() + timeout_s * 1000ull;
	char line[512], why[256];
	int r = geteuid() != 0 ? err_set(err, -EPERM, "nodes are started by root")
			       : find_nodes(dir, &nodes, err);

	for (unsigned i = 0; r == 0 && i < nodes.n; i++) {
		if (supervisor_pid(&nodes.list[i]) == 0 && !was_removed(&nodes.list[i]))
			r = spawn_supervisor(&nodes.list[i], err);
	}
	for (unsigned i = 0; r == 0 && i < nodes.n; i++) {
		while (!is_settled(&nodes.list[i], why, sizeof why)) {
			if (clock_boot_ms() > deadline)
				return err_set(err, -ETIMEDOUT,
					       "%s is not ready after %u s: %s (its log: %s/log)",
					       nodes.list[i].name, timeout_s, why, nodes.list[i].dir);
			usleep(50000);
		}
		if (was_removed(&nodes.list[i]))
			snprintf(line, sizeof line,
				 "%s was removed from its cluster, and does not run; end it with: berth node "
				 "purge %s",
				 nodes.list[i].name, nodes.list[i].name);
		else
			snprintf(line, sizeof line, "%s is ready: %.*s", nodes.list[i].name,
				 STR_ARGS(nodes.list[i].config.api_url));
		say(context, line);
	}
	return r;
}

static int purge_node(const struct node *node, struct err *err)
{
	char program[PATH_MAX + 32];
	int status;

	must(beside_us("berth-supervisor", program, sizeof program) == 0);
	pid_t pid = fork();

	if (pid < 0)
		return err_system(err, -errno, "purge %s", node->name);
	if (pid == 0) {
		char log[PATH_MAX + 16];

		snprintf(log, sizeof log, "%s/log", node->dir);
		int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);

		if (fd >= 0)
			dup2(fd, 2);
		execl(program, "berth-supervisor", "--purge", node->conf, (char *)NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		continue;
	if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
		return err_set(err, -EIO, "%s: not all of its sandboxes could be removed (its log: %s/log)",
			       node->name, node->dir);
	return 0;
}

int cluster_stop(const char *dir, bool purge, cluster_progress *say, void *context, struct err *err)
{
	CLEANUP_NODES struct nodes nodes = {0};
	pid_t pids[CLUSTER_NODES_MAX] = {0};
	uint64_t deadline = clock_boot_ms() + STOP_MS;
	char line[512];
	int r = geteuid() != 0 ? err_set(err, -EPERM, "nodes are stopped by root")
			       : find_nodes(dir, &nodes, err);

	for (unsigned i = 0; r == 0 && i < nodes.n; i++) {
		pids[i] = supervisor_pid(&nodes.list[i]);
		if (pids[i] > 0)
			kill(pids[i], SIGTERM);
	}
	for (unsigned i = 0; r == 0 && i < nodes.n; i++) {
		while (supervisor_pid(&nodes.list[i]) != 0) {
			if (clock_boot_ms() > deadline)
				return err_set(err, -ETIMEDOUT,
					       "%s did not end; its supervisor is process %d",
					       nodes.list[i].name, (int)pids[i]);
			usleep(20000);
		}
		if (purge)
			r = purge_node(&nodes.list[i], err);
		snprintf(line, sizeof line, "%s is stopped%s", nodes.list[i].name,
			 purge ? ", its sandboxes are gone" : "");
		if (r == 0)
			say(context, line);
	}
	return r;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
	(void)st;
	(void)type;
	(void)at;
	return remove(path) < 0 ? -errno : 0;
}

int cluster_purge(const char *dir, const char *name, bool force, cluster_progress *say, void *context,
		  struct err *err)
{
	CLEANUP_NODES struct nodes nodes = {0};
	struct node *node = NULL;
	char line[512];
	int r = geteuid() != 0 ? err_set(err, -EPERM, "nodes are purged by root")
			       : find_nodes(dir, &nodes, err);

	for (unsigned i = 0; r == 0 && i < nodes.n; i++) {
		if (strcmp(nodes.list[i].name, name) == 0)
			node = &nodes.list[i];
	}
	if (r < 0)
		return r;
	if (node == NULL)
		return err_set(err, -ENOENT, "%s/%s: there is no node", dir, name);
	if (supervisor_pid(node) != 0)
		return err_set(err, -EBUSY, "%s runs: its supervisor is process %d; stop it first", name,
			       (int)supervisor_pid(node));
	if (!force && !was_removed(node))
		return err_set(err, -EPERM,
			       "%s was not removed from its cluster, as far as it knows: do that first "
			       "(berth node remove "
			       "%s), or use --force",
			       name, name);
	r = purge_node(node, err);
	if (r == 0 && nftw(node->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT) != 0)
		r = err_system(err, -errno, "remove %s", node->dir);
	snprintf(line, sizeof line, "%s is purged: its sandboxes and files are gone", name);
	if (r == 0)
		say(context, line);
	return r;
}
