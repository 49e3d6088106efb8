/* drain.c -- `node cordon|uncordon|drain`: orders about a node, and the progress of its drain. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "core/clock.h"
#include "json/build.h"
#include "output.h"

#define DEADLINE "30m"
#define POLL_US  500000
#define SAY_MS   2000 /* progress, where stderr is no terminal */

static const struct column columns[] = {
	{"NAME", "name"},       {"STATE", "state"},          {"SCHEDULING", "scheduling"},
	{"LEADER", "leader"},   {"READY", "ready"},          {"BOUND", "bound"},
	{"BUSY", "busy"},       {"STARTED", "started"},      {"DEADLINE", "deadline"},
	{"DRAINED", "drained"}, {"ELAPSED MS", "elapsedMs"},
};
static const struct column session_columns[] = {
	{"POOL", "pool"},
	{"IDENTIFIER", "identifier"},
	{"HASH", "identifierHash"},
	{"STATE", "state"},
	{"BUSY", "busy"},
	{"OPENED", "opened"},
	{"LAST ACTIVITY", "lastActivity"},
	{"ENDS AT LATEST", "endsAtLatest"},
};
#define N(a) (sizeof(a) / sizeof *(a))

/* "/.berth/v1/nodes/NAME/<what>" and a client. */
static int begin(const struct args *args, const char *what, struct client *ret, struct buf *path)
{
	const char *name = args->rest != NULL ? args->rest : args_get(args, "name");

	if (name == NULL || name[0] == '\0')
		return fprintf(stderr, "berth: %s NODE\n", args->command->words), EXIT_USAGE;
	buf_printf(path, "/.berth/v1/nodes/");
	client_escape(path, name);
	buf_printf(path, "/%s", what);
	return client_init(ret, args, CLIENT_ANY);
}

static int show(const struct args *args, const json_t *json)
{
	enum output_form form;
	int r = output_form(args, &form);

	if (r == EXIT_OK)
		r = output_one(args, json, columns, N(columns));
	if (r != EXIT_OK || form != OUTPUT_TABLE || json_array_size(json_object_get(json, "sessions")) == 0)
		return r;
	putchar('\n');
	return output_list(args, json, json_object_get(json, "sessions"), session_columns,
			   N(session_columns));
}

static int order(const struct args *args, const char *method, const char *what, const json_t *body)
{
	CLEANUP_BUF struct buf path = {0};
	struct response response = {0};
	struct client c;
	int r = begin(args, what, &c, &path);

	if (r == EXIT_OK)
		r = client_call(&c, method, buf_cstr(&path), body, &response);
	if (r == EXIT_OK)
		r = show(args, response.json);
	response_done(&response);
	return r;
}

int node_cordon(const struct args *args)
{
	return order(args, "POST", "cordon", NULL);
}

int node_uncordon(const struct args *args)
{
	return order(args, "POST", "uncordon", NULL);
}

int cluster_upgrade(const struct args *args)
{
	static const struct column level_columns[] = {{"FEATURE LEVEL", "featureLevel"},
						      {"VERSION", "version"}};
	struct response response = {0};
	struct client c;
	int r = client_init(&c, args, CLIENT_ANY);

	if (r == EXIT_OK)
		r = client_call(&c, "POST", "/.berth/v1/cluster/upgrade", NULL, &response);
	if (r == EXIT_OK)
		r = output_one(args, response.json, level_columns, N(level_columns));
	response_done(&response);
	return r;
}

/* -- Waiting for a drain ------------------------------------------------------------------------------------------ */

static uint64_t number(const json_t *json, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(json, key));
}

static void say(const struct client *c, const json_t *json, uint64_t *said_ms)
{
	bool terminal = isatty(STDERR_FILENO);
	uint64_t now = clock_boot_ms();

	if (!c->progress || (!terminal && now < *said_ms + SAY_MS))
		return;
	*said_ms = now;
	fprintf(stderr,
		"%s%s: %s, %llu ready and %llu bound left, %llu of these busy; empty within %llu s%s%s",
		terminal ? "\r\033[K" : "", json_string_value(json_object_get(json, "name")),
		json_string_value(json_object_get(json, "scheduling")),
		(unsigned long long)(number(json, "ready") + number(json, "booting")),
		(unsigned long long)number(json, "bound"), (unsigned long long)number(json, "busy"),
		(unsigned long long)(number(json, "emptyWithinMs") + 999) / 1000,
		json_is_true(json_object_get(json, "leader")) ? ", and it still leads" : "",
		terminal ? "" : "\n");
	fflush(stderr);
}

/* Until the node is drained; somebody else may cancel it. */
static int wait_for(struct client *c, const char *path, struct response *ret)
{
	uint64_t began_ms = clock_boot_ms(), said_ms = 0;
	bool bounded = args_has(c->args, "timeout");
	int r;

	for (;;) {
		const char *now;

		r = client_call(c, "GET", path, NULL, ret);
		if (r != EXIT_OK)
			return r;
		now = json_string_value(json_object_get(ret->json, "scheduling"));
		if (now == NULL || strcmp(now, "draining") != 0)
			break;
		if (bounded && clock_boot_ms() - began_ms > c->timeout_s * 1000ull)
			return fprintf(stderr, "berth: stopped waiting after %u s; the drain goes on\n",
				       c->timeout_s),
			       EXIT_TIMEOUT;
		say(c, ret->json, &said_ms);
		usleep(POLL_US);
	}
	if (said_ms != 0 && isatty(STDERR_FILENO))
		fputc('\n', stderr);
	if (strcmp(json_string_value(json_object_get(ret->json, "scheduling")), "drained") != 0)
		return fprintf(stderr, "berth: the drain was cancelled\n"), EXIT_FAILED;
	fprintf(stderr, "%s is drained: empty after %.1f s\n",
		json_string_value(json_object_get(ret->json, "name")),
		(double)number(ret->json, "elapsedMs") / 1000);
	return EXIT_OK;
}

int node_drain(const struct args *args)
{
	const char *deadline = args_or(args, "deadline", NULL, DEADLINE);
	CLEANUP_BUF struct buf path = {0};
	struct response response = {0};
	json_t *body;
	uint64_t ms;
	struct client c;
	int r;

	if (args_has(args, "cancel"))
		return order(args, "DELETE", "drain", NULL);
	if (args_has(args, "show"))
		return order(args, "GET", "drain", NULL);
	if (str_duration(str_of(deadline), &ms) < 0)
		return fprintf(stderr, "berth: --deadline: \"%s\" is no duration such as 90s, 30m or 2h\n",
			       deadline),
		       EXIT_USAGE;
	r = begin(args, "drain", &c, &path);
	if (r != EXIT_OK)
		return r;
	body = json_new_object();
	json_put_u64(body, "deadlineSeconds", ms / 1000);
	r = client_call(&c, "POST", buf_cstr(&path), body, &response);
	json_decref(body);
	if (r == EXIT_OK && args_has(args, "wait"))
		r = wait_for(&c, buf_cstr(&path), &response);
	if (r == EXIT_OK)
		r = show(args, response.json);
	response_done(&response);
	return r;
}
