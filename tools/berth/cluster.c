/* cluster.c -- `cluster init|start|stop|backup|restore|recover`: options for tools/cluster, which does the work on this machine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "cluster/cluster.h"
#include "cluster/recovery.h"
#include "command.h"
#include "core/buf.h"

#define DIR_DEFAULT   "/var/lib/berth"
#define START_SECONDS 60

static void say(void *context, const char *line)
{
	(void)context;
	fprintf(stderr, "%s\n", line);
}

static int finish(int r, const struct err *err)
{
	if (r >= 0)
		return EXIT_OK;
	fprintf(stderr, "berth: %s\n", err->message);
	return r == -ETIMEDOUT ? EXIT_TIMEOUT : EXIT_FAILED;
}

static unsigned number(const struct args *args, const char *name, const char *otherwise)
{
	return (unsigned)strtoul(args_or(args, name, NULL, otherwise), NULL, 10);
}

/* EXIT_USAGE after a message. `extra` holds the lines of --set. */
static int plan_of(const struct args *args, struct buf *extra, struct cluster_plan *ret)
{
	const char *const *lines;
	size_t n = args_all(args, "set", &lines);

	*ret = (struct cluster_plan){
		.dir = args_or(args, "dir", "BERTH_DIR", DIR_DEFAULT),
		.nodes = number(args, "nodes", "3"),
		.workers = number(args, "workers", "0"),
		.host = args_or(args, "host", NULL, "127.0.0.1"),
		.base_port = number(args, "base-port", "7400"),
		.user = args_or(args, "user", NULL, "berth"),
		.admin_group = args_get(args, "admin-group"),
		.domain = args_get(args, "domain"),
		.environment = args_get(args, "environment"),
		.region = args_get(args, "region"),
		.tls_cert = args_get(args, "tls-cert"),
		.tls_key = args_get(args, "tls-key"),
		.gateway_loops = number(args, "gateway-loops", "1"),
	};
	for (size_t i = 0; i < n; i++) {
		const char *value = strchr(lines[i], '=');

		if (value == NULL || strpbrk(lines[i], "\r\n") != NULL) {
			fprintf(stderr, "berth: --set: '%s' is not NAME=VALUE\n", lines[i]);
			return EXIT_USAGE;
		}
		buf_printf(extra, "%.*s = %s\n", (int)(value - lines[i]), lines[i], value + 1);
	}
	ret->extra = n > 0 ? buf_cstr(extra) : NULL;
	return EXIT_OK;
}

#define CONTAINERS_WARNING                                                                                   \
	"containers share the kernel of their host: for hostile code make pools with --isolation vm, or it " \
	"the cluster's default"

/* The cluster's default isolation; NULL: nobody said, so the program's. False, after a message: no such word. */
static bool choose_isolation(const struct args *args, const char **ret)
{
	static char answer[32];
	const char *chosen = args_get(args, "isolation");

	if (chosen == NULL && isatty(STDIN_FILENO) && isatty(STDERR_FILENO)) {
		fprintf(stderr,
			"Sandboxes of pools that name no isolation run in: vm or container? [container] ");
		if (fgets(answer, sizeof answer, stdin) != NULL)
			answer[strcspn(answer, "\r\n")] = '\0';
		if (answer[0] != '\0')
			chosen = answer;
	}
	if (chosen != NULL && strcmp(chosen, "vm") != 0 && strcmp(chosen, "container") != 0) {
		fprintf(stderr, "berth: --isolation: vm or container, not '%s'\n", chosen);
		return false;
	}
	if (chosen == NULL || strcmp(chosen, "vm") != 0)
		fprintf(stderr, "warning: " CONTAINERS_WARNING "\n");
	*ret = chosen;
	return true;
}

int cluster_init_run(const struct args *args)
{
	CLEANUP_BUF struct buf extra = {0};
	struct cluster_plan plan;
	struct err err = {0};
	int r = plan_of(args, &extra, &plan);

	if (r == EXIT_OK && !choose_isolation(args, &plan.isolation))
		r = EXIT_USAGE;
	if (r != EXIT_OK)
		return r;
	r = cluster_init(&plan, say, NULL, &err);
	if (r >= 0 && plan.domain != NULL)
		cluster_names(&plan, say, NULL);
	return finish(r, &err);
}

int cluster_start_run(const struct args *args)
{
	struct err err = {0};

	return finish(cluster_start(args_or(args, "dir", "BERTH_DIR", DIR_DEFAULT),
				    args_has(args, "timeout") ? number(args, "timeout", "60") : START_SECONDS,
				    say, NULL, &err),
		      &err);
}

int cluster_stop_run(const struct args *args)
{
	struct err err = {0};

	return finish(cluster_stop(args_or(args, "dir", "BERTH_DIR", DIR_DEFAULT), args_has(args, "purge"),
				   say, NULL, &err),
		      &err);
}

/* -- Beginning anew --------------------------------------------------------------------------------------------------- */

/* EXIT_USAGE, after a message, for the first option that is missing. */
static int needs(const struct args *args, const char *const *names, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (args_has(args, names[i]))
			continue;
		fprintf(stderr, "berth: --%s is missing\nTry: berth %s --help\n", names[i],
			args->command->words);
		return EXIT_USAGE;
	}
	return EXIT_OK;
}

static void print(void *context, const char *line)
{
	(void)context;
	printf("%s\n", line);
}

int cluster_backup_key_run(const struct args *args)
{
	struct err err = {0};
	int r = needs(args, (const char *const[]){"to"}, 1);

	return r != EXIT_OK ? r : finish(backup_key_new(args_get(args, "to"), print, NULL, &err), &err);
}

/* Into a file beside it, which takes its name once it is whole. */
static int download(const struct args *args, const char *path)
{
	CLEANUP_BUF struct buf part = {0}, url = {0};
	struct client client;
	FILE *to;
	int r = client_init(&client, args, CLIENT_LOCAL);

	if (r != EXIT_OK)
		return r;
	buf_printf(&part, "%s.part", path);
	buf_printf(&url, "/.berth/v1/backup?recipient=");
	client_escape(&url, args_get(args, "recipient"));
	to = fopen(buf_cstr(&part), "wxe");
	if (to == NULL) {
		fprintf(stderr, "berth: %s: %s\n", buf_cstr(&part), strerror(errno));
		return EXIT_FAILED;
	}
	r = client_download(&client, buf_cstr(&url), to);
	if (r == EXIT_OK && (fflush(to) != 0 || fsync(fileno(to)) != 0)) {
		fprintf(stderr, "berth: %s: %s\n", buf_cstr(&part), strerror(errno));
		r = EXIT_FAILED;
	}
	fclose(to);
	if (r == EXIT_OK && rename(buf_cstr(&part), path) != 0) {
		fprintf(stderr, "berth: %s: %s\n", path, strerror(errno));
		r = EXIT_FAILED;
	}
	if (r != EXIT_OK)
		unlink(buf_cstr(&part));
	return r;
}

int cluster_backup_run(const struct args *args)
{
	struct err err = {0};
	const char *const check[] = {"check", "identity"}, *const make[] = {"to", "recipient"};
	bool checks = args_has(args, "check");
	int r = needs(args, checks ? check : make, 2);

	if (r != EXIT_OK)
		return r;
	if (checks)
		return finish(
			backup_check(args_get(args, "check"), args_get(args, "identity"), print, NULL, &err),
			&err);
	return download(args, args_get(args, "to"));
}

int cluster_restore_run(const struct args *args)
{
	CLEANUP_BUF struct buf extra = {0};
	struct cluster_plan plan;
	struct err err = {0};
	int r = needs(args, (const char *const[]){"from", "identity"}, 2);

	if (r == EXIT_OK)
		r = plan_of(args, &extra, &plan);
	if (r != EXIT_OK)
		return r;
	return finish(
		cluster_restore(&plan, args_get(args, "from"), args_get(args, "identity"), say, NULL, &err),
		&err);
}

int cluster_recover_run(const struct args *args)
{
	struct err err = {0};
	int r = needs(args, (const char *const[]){"dir"}, 1);

	return r != EXIT_OK ? r
			    : finish(cluster_recover(args_get(args, "dir"), args_has(args, "yes"), say, NULL,
						     &err),
				     &err);
}
