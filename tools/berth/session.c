/* session.c -- the `session` commands and `logs`. */
#include "client.h"
#include "json/build.h"
#include "output.h"

static const struct column columns[] = {
	{"IDENTIFIER", "identifier"},
	{"HASH", "identifierHash"},
	{"STATE", "state"},
	{"SANDBOX", "sandbox"},
	{"NODE", "nodeName"},
	{"OPENED", "opened"},
	{"LAST ACTIVITY", "lastActivity"},
	{"ENDED", "ended"},
	{"REASON", "reason"},
	{"ISOLATION", "isolation"},
};
#define N_COLUMNS (sizeof columns / sizeof *columns)

/* "/.berth/v1<pool>/<what>", a client, and the identifier when one is needed. */
static int begin(const struct args *args, const char *what, bool identifier, struct client *ret,
		 struct buf *path)
{
	int r;

	buf_printf(path, "/.berth/v1");
	r = client_pool_path(args, args_get(args, "name"), path);
	if (r != EXIT_OK)
		return r;
	buf_printf(path, "/%s", what);
	if (identifier && args_get(args, "identifier") == NULL) {
		fprintf(stderr, "berth: --identifier ID is needed\n");
		return EXIT_USAGE;
	}
	if (identifier) {
		buf_printf(path, "?identifier=");
		client_escape(path, args_get(args, "identifier"));
	}
	return client_init(ret, args, CLIENT_ANY);
}

int session_list(const struct args *args)
{
	json_t *whole = json_new_object(), *all = json_put_array(whole, "value");
	CLEANUP_BUF struct buf path = {0};
	size_t skip = 0;
	struct client c;
	int r = begin(args, "sessions", false, &c, &path);

	while (r == EXIT_OK) {
		CLEANUP_BUF struct buf url = {0};
		struct response page = {0};
		bool last;

		buf_printf(&url, "%s?skip=%zu%s", buf_cstr(&path), skip,
			   args_has(args, "ended") ? "&ended=true" : "");
		r = client_call(&c, "GET", buf_cstr(&url), NULL, &page);
		if (r == EXIT_OK)
			json_array_extend(all, json_object_get(page.json, "value"));
		skip += json_array_size(json_object_get(page.json, "value"));
		last = !json_is_string(json_object_get(page.json, "nextLink"));
		response_done(&page);
		if (last)
			break;
	}
	if (r == EXIT_OK)
		r = output_list(args, whole, all, columns, N_COLUMNS);
	json_decref(whole);
	return r;
}

int session_show(const struct args *args)
{
	CLEANUP_BUF struct buf path = {0};
	struct response response = {0};
	struct client c;
	int r = begin(args, "sessions", true, &c, &path);

	if (r == EXIT_OK)
		r = client_call(&c, "GET", buf_cstr(&path), NULL, &response);
	if (r == EXIT_OK)
		r = output_one(args, response.json, columns, N_COLUMNS);
	response_done(&response);
	return r;
}

static int act(const struct args *args, const char *call, const char *said)
{
	CLEANUP_BUF struct buf path = {0};
	struct response response = {0};
	struct client c;
	int r = begin(args, call, true, &c, &path);

	if (r == EXIT_OK)
		r = client_call(&c, "POST", buf_cstr(&path), NULL, &response);
	if (r == EXIT_OK)
		fprintf(stderr, "%s\n", said);
	response_done(&response);
	return r;
}

int session_stop(const struct args *args)
{
	return act(args, "stopSession", "the session is closing");
}

int session_suspend(const struct args *args)
{
	return act(args, "suspendSession", "the session is being suspended");
}

int session_resume(const struct args *args)
{
	return act(args, "resumeSession", "the session is waking");
}

int logs_show(const struct args *args)
{
	static const char *const passed[] = {"identifier", "sandbox", "tail"};
	CLEANUP_BUF struct buf path = {0};
	struct client c;
	char mark = '?';
	int r = begin(args, "logs", false, &c, &path);

	for (size_t i = 0; i < sizeof passed / sizeof *passed; i++) {
		if (args_get(args, passed[i]) == NULL)
			continue;
		buf_printf(&path, "%c%s=", mark, passed[i]);
		client_escape(&path, args_get(args, passed[i]));
		mark = '&';
	}
	if (args_has(args, "follow"))
		buf_printf(&path, "%cfollow=true", mark);
	return r == EXIT_OK ? client_stream(&c, buf_cstr(&path)) : r;
}
