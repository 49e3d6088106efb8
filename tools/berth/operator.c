/* operator.c -- commands about the cluster as a whole: nodes, images, the bill, tokens. */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "core/clock.h"
#include "json/build.h"
#include "output.h"

static const struct column node_columns[] = {
	{"ID", "id"},
	{"NAME", "name"},
	{"STATE", "state"},
	{"SCHEDULING", "scheduling"},
	{"ROLE", "role"},
	{"LEADER", "leader"},
	{"CPU", "cpuMilliReserved/cpuMilli"},
	{"MEMORY", "memoryBytesReserved/memoryBytes"},
	{"READY", "ready"},
	{"BOUND", "bound"},
	{"BOOTING", "booting"},
	{"DISK %", "diskUsedPercent"},
	{"RENEWED", "renewed"},
	{"ADDRESS", "apiAddress"},
	{"RUNS", "isolations"},
};
static const struct column node_more_columns[] = {
	{"EPOCH", "epoch"},
	{"VERSION", "version"},
	{"SANDBOXD", "sandboxdVersion"},
	{"UPTIME S", "uptimeSeconds"},
	{"LEASE MS", "leaseMs"},
	{"LABELS", "labels"},
	{"NO VM", "noVm"},
	{"DISK FREE", "diskBytesFree/diskBytes"},
	{"ANSWERED", "answered"},
	{"REQUESTS", "figures.requests"},
	{"429", "figures.refused429"},
	{"503", "figures.refused503"},
	{"BAD", "figures.badRequests"},
	{"LOG INDEX", "figures.logIndex"},
	/* Of the node that the command asks alone. */
	{"EGRESS RULES", "network.rules"},
	{"PROBLEM", "network.problem"},
	{"REPAIRS", "network.repairs"},
	{"REPAIRED", "network.repaired"},
};
static const struct column storage_columns[] = {
	{"KIND", "kind"},      {"COUNT", "count"},   {"BYTES", "bytes"},
	{"BOUND", "bytesMax"}, {"OLDEST", "oldest"}, {"AGE BOUND S", "ageSecondsMax"},
};
static const struct column image_columns[] = {
	{"REFERENCE", "reference"}, {"DIGEST", "digest"},      {"BYTES", "bytes"},
	{"USERS", "users"},         {"LAST USED", "lastUsed"},
};
/* Of each node, as it is right now. */
static const struct column health_columns[] = {
	{"ID", "id"},
	{"NAME", "name"},
	{"ROLE", "role"},
	{"STATE", "state"},
	{"LEADER", "leader"},
	{"ANSWERED", "answered"},
	{"LAG", "lag"},
	{"CLOCK SKEW MS", "clockSkewMs"},
	{"DISK FREE", "diskBytesFree/diskBytes"},
	{"SCHEDULING", "scheduling"},
	{"VERSION", "version"},
	{"ADDRESS", "apiAddress"},
};
static const struct column status_columns[] = {
	{"cluster", "id"},         {"health", "health"},
	{"version", "version"},    {"leader", "leader"},
	{"asked node", "node"},    {"term", "term"},
	{"index", "index"},        {"pools", "pools"},
	{"time", "time"},          {"domain", "settings.domain"},
	{"quorum", "quorum.text"}, {"isolation", "settings.isolation"},
};
#define N(a) (sizeof(a) / sizeof *(a))

static int get(const struct args *args, const char *path, struct response *ret)
{
	struct client c;
	int r = client_init(&c, args, CLIENT_ANY);

	return r == EXIT_OK ? client_call(&c, "GET", path, NULL, ret) : r;
}

int cluster_status_show(const struct args *args)
{
	struct response response = {0};
	enum output_form form;
	int r = get(args, "/.berth/v1/cluster/status", &response);

	if (r == EXIT_OK)
		r = output_one(args, response.json, status_columns, N(status_columns));
	if (r == EXIT_OK && output_form(args, &form) == EXIT_OK && form == OUTPUT_TABLE) {
		putchar('\n');
		r = output_list(args, response.json, json_object_get(response.json, "nodes"), health_columns,
				N(health_columns));
	}
	response_done(&response);
	return r;
}

int node_list(const struct args *args)
{
	struct response response = {0};
	int r = get(args, "/.berth/v1/nodes", &response);

	if (r == EXIT_OK)
		r = output_list(args, response.json, json_object_get(response.json, "value"), node_columns,
				N(node_columns));
	response_done(&response);
	return r;
}

/* A line, or in a table lines, of the node; then a line for each kind of what it keeps. */
int node_show(const struct args *args)
{
	const char *name = args->rest != NULL ? args->rest : args_get(args, "name");
	struct column columns[N(node_columns) + N(node_more_columns)];
	CLEANUP_BUF struct buf path = {0};
	struct response response = {0};
	enum output_form form;
	int r = output_form(args, &form);

	if (name == NULL)
		return fprintf(stderr, "berth: node show NODE\n"), EXIT_USAGE;
	memcpy(columns, node_columns, sizeof node_columns);
	memcpy(columns + N(node_columns), node_more_columns, sizeof node_more_columns);
	buf_printf(&path, "/.berth/v1/nodes/");
	client_escape(&path, name);
	if (r == EXIT_OK)
		r = get(args, buf_cstr(&path), &response);
	if (r == EXIT_OK)
		r = output_one(args, response.json, columns, N(columns));
	if (r == EXIT_OK && form == OUTPUT_TABLE)
		putchar('\n');
	if (r == EXIT_OK && form != OUTPUT_JSON)
		r = output_list(args, response.json, json_object_get(response.json, "storage"),
				storage_columns, N(storage_columns));
	response_done(&response);
	return r;
}

int image_list(const struct args *args)
{
	struct response response = {0};
	int r = get(args, "/.berth/v1/images", &response);

	if (r == EXIT_OK)
		r = output_list(args, response.json, json_object_get(response.json, "value"), image_columns,
				N(image_columns));
	response_done(&response);
	return r;
}

/* Each node keeps its own store. */
int image_import(const struct args *args)
{
	const char *file = args->rest != NULL ? args->rest : args_get(args, "file"),
		   *name = args_get(args, "name");
	char path[PATH_MAX];
	json_t *body;
	struct client c;
	int r, worst = EXIT_OK;

	if (file == NULL || name == NULL)
		return fprintf(stderr, "berth: image import --name REFERENCE PATH\n"), EXIT_USAGE;
	if (realpath(file, path) == NULL)
		return fprintf(stderr, "berth: %s: %s\n", file, strerror(errno)), EXIT_FAILED;
	r = client_init(&c, args, CLIENT_LOCAL);
	if (r != EXIT_OK)
		return r;
	body = json_new_object();
	json_put_cstr(body, "reference", name);
	json_put_cstr(body, "path", path);
	for (size_t i = 0; i < c.n_places; i++) {
		struct response response = {0};

		if (c.progress)
			fprintf(stderr, "importing through %s\n", c.places[i].socket);
		r = client_call_at(&c, i, "POST", "/.berth/v1/images/import", body, &response);
		if (r == EXIT_OK)
			r = output_one(args, response.json, image_columns, 2);
		if (worst == EXIT_OK)
			worst = r;
		response_done(&response);
	}
	json_decref(body);
	return worst;
}

/* A node that has not got the image is no failure while another has. */
int image_remove(const struct args *args)
{
	const char *digest = args->rest != NULL ? args->rest : args_get(args, "digest");
	CLEANUP_BUF struct buf path = {0};
	bool found = false;
	struct client c;
	int r, worst = EXIT_OK;

	if (digest == NULL)
		return fprintf(stderr, "berth: image remove DIGEST\n"), EXIT_USAGE;
	r = client_init(&c, args, CLIENT_LOCAL);
	if (r != EXIT_OK)
		return r;
	buf_printf(&path, "/.berth/v1/images/");
	client_escape(&path, digest);
	for (size_t i = 0; i < c.n_places; i++) {
		struct response response = {0};

		r = client_call_at(&c, i, "DELETE", buf_cstr(&path), NULL, &response);
		if (r == EXIT_OK)
			r = output_one(args, response.json, image_columns + 1, 1);
		found = found || r == EXIT_OK;
		if (r != EXIT_OK && (worst == EXIT_OK || worst == EXIT_NOT_FOUND))
			worst = r;
		response_done(&response);
	}
	return worst == EXIT_NOT_FOUND && found ? EXIT_OK : worst;
}

int image_prune(const struct args *args)
{
	struct client c;
	int r = client_init(&c, args, CLIENT_LOCAL), worst = EXIT_OK;

	if (r != EXIT_OK)
		return r;
	for (size_t i = 0; i < c.n_places; i++) {
		struct response response = {0};

		r = client_call_at(&c, i, "POST", "/.berth/v1/images/prune", NULL, &response);
		if (r == EXIT_OK)
			r = output_list(args, response.json, json_object_get(response.json, "value"),
					image_columns, N(image_columns));
		if (worst == EXIT_OK)
			worst = r;
		response_done(&response);
	}
	return worst;
}

/* "now" and "-90m", "-12h", "-30d" become times; all else goes as it is. */
static void put_time(struct buf *to, const char *name, const char *value)
{
	static const struct {
		char unit;
		uint64_t ms;
	} units[] = {{'s', 1000}, {'m', 60000}, {'h', 3600000}, {'d', 86400000}};
	char text[CLOCK_TEXT_SIZE], *end;
	uint64_t now = clock_wall_ms();

	if (value == NULL)
		return;
	buf_printf(to, "&%s=", name);
	if (strcmp(value, "now") == 0) {
		client_escape(to, clock_text(now, text));
		return;
	}
	if (value[0] == '-') {
		uint64_t x = strtoull(value + 1, &end, 10);

		for (size_t i = 0; i < N(units); i++) {
			if (end != value + 1 && end[0] == units[i].unit && end[1] == '\0' &&
			    x <= now / units[i].ms) {
				client_escape(to, clock_text(now - x * units[i].ms, text));
				return;
			}
		}
	}
	client_escape(to, value);
}

int billing_export(const struct args *args)
{
	CLEANUP_BUF struct buf path = {0};
	struct client c;
	int r = client_init(&c, args, CLIENT_ANY);

	if (r != EXIT_OK)
		return r;
	buf_printf(&path, "/.berth/v1/billing?format=");
	client_escape(&path, args_or(args, "format", NULL, "csv"));
	put_time(&path, "from", args_get(args, "from"));
	put_time(&path, "to", args_get(args, "to"));
	return client_stream(&c, buf_cstr(&path));
}

static void put_roles(const struct args *args, bool data, json_t *body)
{
	const char *const *values;
	size_t n = args_all(args, "role", &values);
	json_t *list = json_put_array(body, "roles"), *role;

	for (size_t i = 0; i < n; i++) {
		struct str name, scope;

		role = json_push_object(list);
		if (!str_cut(str_of(values[i]), '@', &name, &scope))
			scope = STR("/");
		json_put_str(role, "role", name);
		json_put_str(role, "scope", scope);
	}
	if (n > 0)
		return;
	role = json_push_object(list);
	json_put_cstr(role, "role", data ? "Azure ContainerApps Session Executor" : "Owner");
	json_put_cstr(role, "scope", "/");
}

int token_issue(const struct args *args)
{
	const char *audience = args_or(args, "audience", NULL, "management");
	json_t *body = json_new_object();
	struct response response = {0};
	struct client c;
	int r = client_init(&c, args, CLIENT_LOCAL);

	json_put_cstr(body, "audience", audience);
	json_put_cstr(body, "subject", args_or(args, "subject", NULL, "operator"));
	if (args_get(args, "ttl") != NULL)
		json_put_i64(body, "ttlSeconds", strtoll(args_get(args, "ttl"), NULL, 10));
	put_roles(args, strcmp(audience, "data") == 0 || strstr(audience, "dynamicsessions") != NULL, body);
	if (r == EXIT_OK)
		r = client_call(&c, "POST", "/.berth/v1/tokens", body, &response);
	if (r == EXIT_OK)
		r = output_token(args, response.json);
	response_done(&response);
	json_decref(body);
	return r;
}
