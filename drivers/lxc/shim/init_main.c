/* init_main.c -- berth-init: the first program in a container. It waits until the host side is ready, becomes the
 * image's user, and executes the image's program in its own place, so that this is process 1.
 *
 * Happy path: hello to berth-shim over descriptor 0; limits and network are then checked and set up outside; the
 * spec arrives; user and groups are looked up in the image's own files (here, inside, with nothing of the host to
 * win); seccomp filter; execve.
 * Failure: one line through the pipe that went out with the hello, exit status 127 (not found) or 126.
 * Static and without any of our libraries: the root file system may hold no C library at all. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "init_spec.h"

#define ACCOUNT_FILE_MAX (1u << 20)
#define GROUPS_MAX       64

struct spec {
	const char *user, *working_dir, *resolv_conf;
	char **argv, **env;
	struct sock_fprog filter;
};

struct account {
	uid_t uid;
	gid_t gid, groups[GROUPS_MAX];
	size_t n_groups;
	char home[256];
};

static int report_fd = -1;

static void __attribute__((noreturn, format(printf, 2, 3))) die(int status, const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (report_fd >= 0)
		(void)!write(report_fd, line, strlen(line));
	_exit(status);
}

/* -- Talking to the shim -------------------------------------------------------------------------------------- */

static void hello(int sock, int pipe_read)
{
	char byte = INIT_HELLO;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &pipe_read, sizeof pipe_read);
	if (sendmsg(sock, &m, MSG_NOSIGNAL) != 1)
		_exit(125);
}

static void read_exactly(int fd, void *to, size_t n)
{
	char *p = to;

	while (n > 0) {
		ssize_t got = read(fd, p, n);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			_exit(125); /* the shim gave up */
		p += got;
		n -= (size_t)got;
	}
}

static const char *next_string(char **at, const char *end)
{
	char *nul = memchr(*at, '\0', (size_t)(end - *at));
	const char *s = *at;

	if (nul == NULL)
		die(125, "start message is cut short");
	*at = nul + 1;
	return s;
}

static char **next_strings(char **at, const char *end, uint32_t n)
{
	char **list = calloc((size_t)n + 2, sizeof *list);

	if (list == NULL)
		die(125, "no memory");
	for (uint32_t i = 0; i < n; i++)
		list[i] = (char *)next_string(at, end);
	return list;
}

static void receive(int sock, struct spec *ret)
{
	struct init_head head;
	char *bytes, *at, *end;

	read_exactly(sock, &head, sizeof head);
	if (head.bytes > INIT_BYTES_MAX || head.filter_bytes > head.bytes || head.n_argv == 0 ||
	    head.n_argv > head.bytes || head.n_env > head.bytes)
		die(125, "start message is malformed");
	bytes = malloc(head.bytes + 1u);
	if (bytes == NULL)
		die(125, "no memory");
	read_exactly(sock, bytes, head.bytes);
	at = bytes;
	end = bytes + head.bytes - head.filter_bytes;
	ret->user = next_string(&at, end);
	ret->working_dir = next_string(&at, end);
	ret->resolv_conf = next_string(&at, end);
	ret->argv = next_strings(&at, end, head.n_argv);
	ret->env = next_strings(&at, end, head.n_env);
	ret->filter.len = (unsigned short)(head.filter_bytes / sizeof(struct sock_filter));
	ret->filter.filter = malloc(head.filter_bytes + 1u); /* aligned */
	if (ret->filter.filter == NULL)
		die(125, "no memory");
	memcpy(ret->filter.filter, end, head.filter_bytes);
}

/* -- The image's user ------------------------------------------------------------------------------------------ */

static char *read_text(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	char *text = calloc(1, ACCOUNT_FILE_MAX + 1);
	size_t n = 0;
	ssize_t got;

	if (text == NULL)
		die(125, "no memory");
	if (fd < 0)
		return text;
	while (n < ACCOUNT_FILE_MAX && (got = read(fd, text + n, ACCOUNT_FILE_MAX - n)) > 0)
		n += (size_t)got;
	close(fd);
	return text;
}

/* Splits a line at ':' into at most n fields, in place; missing ones are "". */
static void split_fields(char *line, char **fields, size_t n)
{
	static char empty[1] = "";

	for (size_t i = 0; i < n; i++)
		fields[i] = line != NULL ? strsep(&line, ":") : empty;
}

static bool number(const char *s, uint32_t *ret)
{
	char *end;
	unsigned long x;

	if (*s < '0' || *s > '9')
		return false;
	errno = 0;
	x = strtoul(s, &end, 10);
	if (*end != '\0' || errno != 0 || x > 65535)
		return false;
	*ret = (uint32_t)x;
	return true;
}

/* Finds name (or the numeric id, when name is NULL) in /etc/passwd. */
static bool find_user(const char *name, uid_t uid, struct account *a, char *ret_name, size_t size)
{
	char *text = read_text("/etc/passwd"), *rest = text, *line;
	bool found = false;

	while (!found && (line = strsep(&rest, "\n")) != NULL) {
		char *f[7];
		uint32_t id, group;

		split_fields(line, f, 7);
		if (!number(f[2], &id) || !number(f[3], &group))
			continue;
		if (name != NULL ? strcmp(f[0], name) != 0 : id != uid)
			continue;
		a->uid = id;
		a->gid = group;
		snprintf(a->home, sizeof a->home, "%s", f[5]);
		snprintf(ret_name, size, "%s", f[0]);
		found = true;
	}
	free(text);
	return found;
}

static bool has_member(char *members, const char *name)
{
	char *m;

	while ((m = strsep(&members, ",")) != NULL) {
		if (*name != '\0' && strcmp(m, name) == 0)
			return true;
	}
	return false;
}

/* With a group's name: its id. Without: the groups that list the user. */
static bool read_groups(const char *group, const char *user, struct account *a)
{
	char *text = read_text("/etc/group"), *rest = text, *line;
	bool found = false;

	while ((line = strsep(&rest, "\n")) != NULL) {
		char *f[4];
		uint32_t id;

		split_fields(line, f, 4);
		if (!number(f[2], &id))
			continue;
		if (group != NULL && strcmp(f[0], group) == 0) {
			a->gid = id;
			found = true;
			break;
		}
		if (group == NULL && a->n_groups < GROUPS_MAX && has_member(f[3], user))
			a->groups[a->n_groups++] = id;
	}
	free(text);
	return found;
}

static void find_account(const char *wanted, struct account *a)
{
	char user[256], name[256] = "", *group;
	uint32_t id;

	snprintf(user, sizeof user, "%s", *wanted != '\0' ? wanted : "0");
	group = strchr(user, ':');
	if (group != NULL)
		*group++ = '\0';
	if (number(user, &id)) {
		a->uid = id;
		find_user(NULL, id, a, name, sizeof name);
		a->uid = id;
	} else if (!find_user(user, 0, a, name, sizeof name)) {
		die(126, "user \"%s\" is not in the image's /etc/passwd", user);
	}
	if (group == NULL || *group == '\0')
		read_groups(NULL, name, a);
	else if (number(group, &id))
		a->gid = id;
	else if (!read_groups(group, NULL, a))
		die(126, "group \"%s\" is not in the image's /etc/group", group);
}

static void become(const struct account *a)
{
	/* /dev/stdout and /dev/stderr can be opened again by the user only if they are his. */
	(void)!fchown(1, a->uid, a->gid);
	(void)!fchown(2, a->uid, a->gid);
	if (setgroups(a->n_groups, a->groups) != 0 || setresgid(a->gid, a->gid, a->gid) != 0 ||
	    setresuid(a->uid, a->uid, a->uid) != 0)
		die(126, "become user %u:%u: %s", a->uid, a->gid, strerror(errno));
}

/* -- The program ----------------------------------------------------------------------------------------------- */

static const char *env_get(char **env, const char *name)
{
	size_t n = strlen(name);

	for (; *env != NULL; env++) {
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	}
	return NULL;
}

/* Our two entries fit behind the image's: next_strings() left room for one, so the list is made anew. */
static char **env_complete(char **env, const char *home)
{
	static char path[] = "PATH=" INIT_DEFAULT_PATH, home_text[300];
	size_t n = 0;
	char **all;

	while (env[n] != NULL)
		n++;
	all = calloc(n + 3, sizeof *all);
	if (all == NULL)
		die(125, "no memory");
	memcpy(all, env, n * sizeof *all);
	if (env_get(env, "PATH") == NULL)
		all[n++] = path;
	if (env_get(env, "HOME") == NULL) {
		snprintf(home_text, sizeof home_text, "HOME=%s", *home != '\0' ? home : "/");
		all[n] = home_text;
	}
	return all;
}

/* The file of argv[0], as a shell finds it. */
static void resolve(const char *name, const char *path, char *ret, size_t size)
{
	bool denied = false;

	if (strchr(name, '/') != NULL) {
		if (access(name, F_OK) != 0)
			die(127, "\"%s\": no such file in the image", name);
		snprintf(ret, size, "%s", name);
		return;
	}
	for (const char *at = path; at != NULL && *name != '\0';
	     at = strchr(at, ':') ? strchr(at, ':') + 1 : NULL) {
		int n = (int)strcspn(at, ":");
		struct stat st;

		snprintf(ret, size, "%.*s/%s", n, n > 0 ? at : ".", name);
		if (stat(ret, &st) != 0 || !S_ISREG(st.st_mode))
			continue;
		if (access(ret, X_OK) == 0)
			return;
		denied = true;
	}
	die(denied ? 126 : 127, "\"%s\": %s in the image's PATH (%s)", name,
	    denied ? "not executable" : "not found", path);
}

static void enter_dir(const char *dir)
{
	char path[4096];

	if (*dir == '\0')
		dir = "/";
	if (chdir(dir) == 0)
		return;
	/* As container engines do: a working directory that the image lacks is made. */
	snprintf(path, sizeof path, "%s", dir);
	for (char *p = path + 1; *p != '\0'; p++) {
		if (*p == '/') {
			*p = '\0';
			mkdir(path, 0755);
			*p = '/';
		}
	}
	mkdir(path, 0755);
	if (chdir(dir) != 0)
		die(126, "working directory \"%s\": %s", dir, strerror(errno));
}

static void replace_file(const char *path, const char *text)
{
	int fd;

	mkdir("/etc", 0755);
	unlink(path);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return; /* an image with an odd /etc does without */
	(void)!write(fd, text, strlen(text));
	close(fd);
}

static void prepare_files(const struct spec *s)
{
	struct stat st;

	if (*s->resolv_conf != '\0')
		replace_file("/etc/resolv.conf", s->resolv_conf);
	if (stat("/etc/hosts", &st) != 0 || st.st_size == 0)
		replace_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
}

static void reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

int main(void)
{
	struct spec spec = {0};
	struct account account = {0};
	char file[4096];
	int report[2], sock, null;

	sock = fcntl(0, F_DUPFD_CLOEXEC, 3);
	if (sock < 0 || pipe2(report, O_CLOEXEC) != 0)
		_exit(125);
	hello(sock, report[0]);
	close(report[0]);
	report_fd = report[1];
	receive(sock, &spec);
	close(sock);
	null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) != 0)
		die(126, "/dev/null: %s", strerror(errno));
	if (null > 2)
		close(null);
	umask(022);
	reset_signals();
	prepare_files(&spec);
	find_account(spec.user, &account);
	enter_dir(spec.working_dir);
	become(&account);
	spec.env = env_complete(spec.env, account.home);
	resolve(spec.argv[0], env_get(spec.env, "PATH"), file, sizeof file);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		die(126, "no_new_privs: %s", strerror(errno));
	if (spec.filter.len == 0 || syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &spec.filter) != 0)
		die(126, "seccomp filter: %s", strerror(errno));
	execve(file, spec.argv, spec.env);
	if (errno == ENOENT)
		die(127, "\"%s\": the interpreter or loader that it names is not in the image", file);
	die(126, "\"%s\": %s", file, strerror(errno));
}
