#include "program/program.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "program/account.h"

int program_report_fd = -1;

void program_die(int status, const char *format, ...)
{
	char line[512];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof line, format, args);
	va_end(args);
	if (program_report_fd >= 0)
		(void)!write(program_report_fd, line, strlen(line));
	_exit(status);
}

static const char *env_get(char **env, const char *name)
{
	size_t n = strlen(name);

	for (; *env != NULL; env++) {
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
	}
	return NULL;
}

/* A new list: our two entries behind the image's. */
static char **env_complete(char **env, const char *home)
{
	static char path[] = "PATH=" PROGRAM_DEFAULT_PATH, home_text[300];
	size_t n = 0;
	char **all;

	while (env[n] != NULL)
		n++;
	all = calloc(n + 3, sizeof *all);
	if (all == NULL)
		program_die(125, "no memory");
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
			program_die(127, "\"%s\": no such file in the image", name);
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
	program_die(denied ? 126 : 127, "\"%s\": %s in the image's PATH (%s)", name,
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
		program_die(126, "working directory \"%s\": %s", dir, strerror(errno));
}

void program_replace_file(const char *path, const char *text)
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

static void prepare_files(const struct program *p)
{
	struct stat st;

	if (*p->resolv_conf != '\0')
		program_replace_file("/etc/resolv.conf", p->resolv_conf);
	if (stat("/etc/hosts", &st) != 0 || st.st_size == 0)
		program_replace_file("/etc/hosts", "127.0.0.1 localhost\n::1 localhost ip6-localhost\n");
}

static void reset_signals(void)
{
	sigset_t none;

	for (int s = 1; s < NSIG; s++)
		signal(s, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static void empty_stdin(void)
{
	int null = open("/dev/null", O_RDONLY);

	if (null < 0 || dup2(null, 0) != 0)
		program_die(126, "/dev/null: %s", strerror(errno));
	if (null > 2)
		close(null);
}

void program_prepare(struct program *p)
{
	struct account account = {0};

	empty_stdin();
	umask(022);
	reset_signals();
	prepare_files(p);
	account_find(p->user, &account);
	enter_dir(p->working_dir);
	account_become(&account);
	p->env = env_complete(p->env, account.home);
	resolve(p->argv[0], env_get(p->env, "PATH"), p->file, sizeof p->file);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		program_die(126, "no_new_privs: %s", strerror(errno));
}

void program_execute(const struct program *p)
{
	execve(p->file, p->argv, p->env);
	if (errno == ENOENT)
		program_die(127, "\"%s\": the interpreter or loader that it names is not in the image",
			    p->file);
	program_die(126, "\"%s\": %s", p->file, strerror(errno));
}
