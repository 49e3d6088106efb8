/* keys.c -- `cluster keys` and `cluster rotate-keys`: what the cluster signs and seals with, and new ones in their place. */
#include <string.h>
#include <unistd.h>

#include "client.h"
#include "core/clock.h"
#include "json/build.h"
#include "output.h"

#define POLL_US   500000
#define SAY_MS    2000
#define KINDS_MAX 8
#define PATH_KEYS "/.berth/v1/keys"

static const struct column columns[] = {
	{"ID", "id"},
	{"KIND", "kind"},
	{"STATE", "state"},
	{"CREATED", "created"},
	{"SINCE", "since"},
	{"KEPT UNTIL", "keptUntil"},
	{"SECRETS", "secrets"},
	{"CERTIFICATES", "certificates"},
	{"NODES WITHOUT", "nodesWithout"},
};
#define N(a) (sizeof(a) / sizeof *(a))

static int show(const struct args *args, const struct response *response)
{
	return output_list(args, response->json, json_object_get(response->json, "value"), columns,
			   N(columns));
}

int cluster_keys_show(const struct args *args)
{
	struct response response = {0};
	struct client c;
	int r = client_init(&c, args, CLIENT_ANY);

	if (r == EXIT_OK)
		r = client_call(&c, "GET", PATH_KEYS, NULL, &response);
	if (r == EXIT_OK)
		r = show(args, &response);
	response_done(&response);
	return r;
}

static const char *text_of(const json_t *json, const char *name)
{
	const char *text = json_string_value(json_object_get(json, name));

	return text != NULL ? text : "";
}

static unsigned long long number(const json_t *json, const char *name)
{
	return (unsigned long long)json_integer_value(json_object_get(json, name));
}

static bool is_asked(const json_t *asked, const json_t *key)
{
	const json_t *one;
	size_t i;

	json_array_foreach(asked, i,
			   one) if (strcmp(text_of(one, "kind"), text_of(key, "kind")) == 0) return true;
	return false;
}

/* What the first key waits for that is not done; false: all are. A former issuer's tokens may live for a day: that is not
 * waited for. */
static bool pending(const json_t *asked, const json_t *keys, char *what, size_t size)
{
	const json_t *key;
	size_t i;

	json_array_foreach(keys, i, key)
	{
		const char *state = text_of(key, "state"), *kind = text_of(key, "kind");

		if (!is_asked(asked, key))
			continue;
		if (strcmp(state, "next") == 0) {
			snprintf(what, size, "%s: %llu nodes do not have the new key yet", kind,
				 number(key, "nodesWithout"));
			return true;
		}
		if (strcmp(state, "retiring") == 0 && strcmp(kind, "issuer") != 0) {
			snprintf(what, size, "%s: %llu %s are still of the former key", kind,
				 number(key, strcmp(kind, "ca") == 0 ? "certificates" : "secrets"),
				 strcmp(kind, "ca") == 0 ? "nodes' certificates" : "secrets");
			return true;
		}
	}
	return false;
}

static int wait_for(struct client *c, const json_t *asked, struct response *ret)
{
	uint64_t began_ms = clock_boot_ms(), said_ms = began_ms;
	char what[160];

	for (;;) {
		int r = client_call(c, "GET", PATH_KEYS, NULL, ret);

		if (r != EXIT_OK)
			return r;
		if (!pending(asked, json_object_get(ret->json, "value"), what, sizeof what))
			return EXIT_OK;
		if (clock_boot_ms() - began_ms > c->timeout_s * 1000ull) {
			fprintf(stderr, "berth: stopped waiting after %u s; the rotation goes on: %s\n",
				c->timeout_s, what);
			return EXIT_TIMEOUT;
		}
		if (c->progress && clock_boot_ms() - said_ms > SAY_MS) {
			said_ms = clock_boot_ms();
			fprintf(stderr, "%s\n", what);
		}
		usleep(POLL_US);
	}
}

int cluster_rotate_run(const struct args *args)
{
	const char *what = args_get(args, "what");
	struct response accepted = {0}, response = {0};
	struct client local, any;
	json_auto_t *body = json_new_object();
	int r = client_init(&local, args, CLIENT_LOCAL);

	if (r == EXIT_OK)
		r = client_init(&any, args, CLIENT_ANY);
	json_put_cstr(body, "what", what != NULL ? what : "all");
	if (r == EXIT_OK)
		r = client_call(&local, "POST", PATH_KEYS "/rotate", body, &accepted);
	if (r == EXIT_OK && !args_has(args, "no-wait"))
		r = wait_for(&any, json_object_get(accepted.json, "value"), &response);
	else if (r == EXIT_OK)
		r = client_call(&any, "GET", PATH_KEYS, NULL, &response);
	if (r == EXIT_OK)
		r = show(args, &response);
	response_done(&accepted);
	response_done(&response);
	return r;
}
