/* cluster.c -- `cluster init|start|stop`: options for tools/cluster, which does the work on this machine. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cluster/cluster.h"
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

int cluster_init_run(const struct args *args)
{
	CLEANUP_BUF struct buf extra = {0};
	const char *const *lines;
	size_t n = args_all(args, "set", &lines);
	struct err err = {0};
	struct cluster_plan plan = {
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
	int r;

	for (size_t i = 0; i < n; i++) {
		const char *value = strchr(lines[i], '=');

		if (value == NULL || strpbrk(lines[i], "\r\n") != NULL)
			return fprintf(stderr, "berth: --set: '%s' is not NAME=VALUE\n", lines[i]),
			       EXIT_USAGE;
		buf_printf(&extra, "%.*s = %s\n", (int)(value - lines[i]), lines[i], value + 1);
	}
	plan.extra = n > 0 ? buf_cstr(&extra) : NULL;
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
