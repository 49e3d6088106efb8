/* pool.c -- the `pool` commands. */
#include <stdlib.h>
#include <string.h>

#include "client.h"
#include "core/fd.h"
#include "json/build.h"
#include "output.h"
#include "pool_body.h"

#define CONTAINER "properties.customContainerTemplate.containers[0]."

static const struct column list_columns[] = {
	{"NAME", "name"},
	{"STATE", "properties.provisioningState"},
	{"IMAGE", CONTAINER "image"},
	{"MAX", "properties.scaleConfiguration.maxConcurrentSessions"},
	{"READY", "properties.scaleConfiguration.readySessionInstances"},
	{"ENDPOINT", "properties.poolManagementEndpoint"},
	{"ISOLATION", "berth.isolation"},
};

static const struct column show_columns[] = {
	{"name", "name"},
	{"location", "location"},
	{"state", "properties.provisioningState"},
	{"endpoint", "properties.poolManagementEndpoint"},
	{"isolation", "berth.isolation"},
	{"image", CONTAINER "image"},
	{"cpu/memory", CONTAINER "resources.cpu/" CONTAINER "resources.memory"},
	{"ready/target", "berth.sandboxes.ready/berth.readyTarget"},
	{"booting", "berth.sandboxes.booting"},
	{"egress", "berth.egress"},
	{"with egress", "berth.sandboxes.withEgress"},
	{"sessions/max", "berth.sessions.live/berth.maxSessions"},
	{"waiting", "berth.sessions.waiting"},
	{"closing", "berth.sessions.closing"},
	{"operation", "berth.operation.phase"},
	{"refused", "berth.operation.message"},
	{"unable", "berth.unable"},
	{"failing", "berth.failure.message"},
	{"in a row", "berth.failure.inARow"},
	{"since", "berth.failure.at"},
};

/* GET of the pool, with its condition below "berth". */
static int fetch(struct client *c, struct buf *path, struct response *ret)
{
	CLEANUP_BUF struct buf url = {0}, status_url = {0};
	struct response status = {0};
	int r;

	buf_printf(&url, "%s?" API_VERSION, buf_cstr(path));
	buf_printf(&status_url, "/.berth/v1%s/status", buf_cstr(path));
	r = client_call(c, "GET", buf_cstr(&url), NULL, ret);
	if (r == EXIT_OK && json_is_object(ret->json)) {
		r = client_call(c, "GET", buf_cstr(&status_url), NULL, &status);
		if (r == EXIT_OK && status.json != NULL)
			json_put(ret->json, "berth", json_incref(status.json));
	}
	response_done(&status);
	return r;
}

static int show(struct client *c, struct buf *path)
{
	struct response response = {0};
	int r = fetch(c, path, &response);

	if (r == EXIT_OK)
		r = output_one(c->args, response.json, show_columns,
			       sizeof show_columns / sizeof *show_columns);
	response_done(&response);
	return r;
}

/* Sends the change, waits for its end unless told not to, shows the pool. */
static int change(struct client *c, const char *method, struct buf *path, const json_t *body,
		  const char *what)
{
	CLEANUP_BUF struct buf url = {0};
	struct response accepted = {0};
	int r;

	buf_printf(&url, "%s?" API_VERSION, buf_cstr(path));
	r = client_call(c, method, buf_cstr(&url), body, &accepted);
	if (r == EXIT_OK && !args_has(c->args, "no-wait"))
		r = client_wait(c, &accepted, what);
	response_done(&accepted);
	return r;
}

int pool_create(const struct args *args)
{
	const char *name = args_get(args, "name"), *file = args_get(args, "file");
	CLEANUP_BUF struct buf path = {0}, what = {0};
	CLEANUP_FREE char *from_file = NULL;
	json_t *body = NULL;
	struct client c;
	int r;

	if (name == NULL && file != NULL) {
		json_t *resource = pool_body_file(file);

		if (resource == NULL)
			return EXIT_USAGE;
		if (json_is_string(json_object_get(resource, "name")))
			from_file = strdup(json_string_value(json_object_get(resource, "name")));
		json_decref(resource);
		name = from_file;
	}
	r = client_pool_path(args, name, &path);
	if (r == EXIT_OK)
		r = client_init(&c, args, CLIENT_ANY);
	if (r == EXIT_OK)
		r = pool_body(args, name, NULL, &body);
	if (r == EXIT_OK) {
		buf_printf(&what, "creating pool %s", name);
		r = change(&c, "PUT", &path, body, buf_cstr(&what));
	}
	if (r == EXIT_OK)
		r = show(&c, &path);
	json_decref(body);
	return r;
}

int pool_update(const struct args *args)
{
	const char *name = args_get(args, "name");
	CLEANUP_BUF struct buf path = {0}, url = {0}, what = {0};
	struct response current = {0};
	json_t *body = NULL;
	struct client c;
	int r = client_pool_path(args, name, &path);

	if (r == EXIT_OK)
		r = client_init(&c, args, CLIENT_ANY);
	if (r != EXIT_OK)
		return r;
	buf_printf(&url, "%s?" API_VERSION, buf_cstr(&path));
	r = client_call(&c, "GET", buf_cstr(&url), NULL, &current);
	if (r == EXIT_OK)
		r = pool_body(args, name, current.json, &body);
	if (r == EXIT_OK) {
		buf_printf(&what, "updating pool %s", name);
		r = change(&c, "PATCH", &path, body, buf_cstr(&what));
	}
	if (r == EXIT_OK)
		r = show(&c, &path);
	response_done(&current);
	json_decref(body);
	return r;
}

int pool_show(const struct args *args)
{
	CLEANUP_BUF struct buf path = {0};
	struct client c;
	int r = client_pool_path(args, args_get(args, "name"), &path);

	if (r == EXIT_OK)
		r = client_init(&c, args, CLIENT_ANY);
	return r == EXIT_OK ? show(&c, &path) : r;
}

int pool_delete(const struct args *args)
{
	CLEANUP_BUF struct buf path = {0}, what = {0};
	struct client c;
	int r = client_pool_path(args, args_get(args, "name"), &path);

	if (r == EXIT_OK)
		r = client_init(&c, args, CLIENT_ANY);
	if (r != EXIT_OK)
		return r;
	buf_printf(&what, "deleting pool %s", args_get(args, "name"));
	return change(&c, "DELETE", &path, NULL, buf_cstr(&what));
}

/* Where `show` has it, too: the tag's name has a dot, which no column's path can say. */
static void put_isolations(json_t *pools)
{
	json_t *pool, *tag;
	size_t i;

	json_array_foreach(pools, i, pool)
	{
		tag = json_object_get(json_object_get(pool, "tags"), "berth.isolation");
		if (json_is_string(tag))
			json_put(json_put_object(pool, "berth"), "isolation", json_incref(tag));
	}
}

/* All pages in one. */
int pool_list(const struct args *args)
{
	CLEANUP_BUF struct buf path = {0};
	json_t *whole = json_new_object(), *all = json_put_array(whole, "value");
	const char *group = args_or(args, "resource-group", NULL, NULL);
	struct client c;
	int r = client_init(&c, args, CLIENT_ANY);

	buf_printf(&path, "/subscriptions/");
	client_escape(&path, args_or(args, "subscription", "BERTH_SUBSCRIPTION",
				     "00000000-0000-0000-0000-000000000000"));
	if (group != NULL) {
		buf_printf(&path, "/resourceGroups/");
		client_escape(&path, group);
	}
	buf_printf(&path, "/providers/Microsoft.App/sessionPools?" API_VERSION);
	while (r == EXIT_OK && path.n > 0) {
		struct response page = {0};
		struct str next, rest;

		r = client_call(&c, "GET", buf_cstr(&path), NULL, &page);
		if (r == EXIT_OK)
			json_array_extend(all, json_object_get(page.json, "value"));
		buf_clear(&path);
		next = json_str_of(json_object_get(page.json, "nextLink"));
		if (r == EXIT_OK && next.n > 8 && str_find(str_slice(next, 8, next.n), '/') < next.n - 8) {
			rest = str_slice(next, 8 + str_find(str_slice(next, 8, next.n), '/'), next.n);
			buf_add_str(&path, rest);
		}
		response_done(&page);
	}
	put_isolations(all);
	if (r == EXIT_OK)
		r = output_list(args, whole, all, list_columns, sizeof list_columns / sizeof *list_columns);
	json_decref(whole);
	return r;
}
