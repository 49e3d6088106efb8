/* client.c -- see client.h.
 *
 * A place that cannot be reached or answers 503 is left for the next one; after all were tried there is a second round one
 * second later, and as long as one of them answers (503: the cluster elects a leader) there are more. A request that may have been executed (the connection broke after it was sent) is repeated only when
 * that is harmless: all of the API's writes are (PUT, PATCH, DELETE of a named pool, stop of a named session). */
#include <ctype.h>
#include <curl/curl.h>
#include <glob.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

#include "client.h"
#include "core/clock.h"
#include "core/log.h"
#include "json/build.h"

#define ROUNDS            2  /* when nobody answers */
#define ROUNDS_LIVE       10 /* when somebody does, with 503 */
#define CONNECT_MS        3000
#define REQUEST_S         120
#define PROGRESS_AFTER_MS 2000

static void add_place(struct client *c, const char *url, size_t n, const char *socket)
{
	struct client_place *p = &c->places[c->n_places];

	while (n > 0 && url[n - 1] == '/')
		n--;
	if (c->n_places == CLIENT_PLACES_MAX || n == 0 || n > sizeof p->url - 16 ||
	    strlen(socket) >= sizeof p->socket)
		return;
	snprintf(p->url, sizeof p->url, "%s%.*s", strstr(url, "://") == NULL ? "https://" : "", (int)n, url);
	snprintf(p->socket, sizeof p->socket, "%s", socket);
	c->n_places++;
}

static void add_endpoints(struct client *c, const char *list)
{
	while (list != NULL && *list != '\0') {
		size_t n = strcspn(list, ", ");

		add_place(c, list, n, "");
		list += n + (list[n] != '\0');
	}
}

static void add_sockets(struct client *c)
{
	const char *socket = args_or(c->args, "socket", "BERTH_SOCKET", NULL);
	char pattern[512];
	glob_t found = {0};

	if (socket != NULL) {
		add_place(c, "http://localhost", strlen("http://localhost"), socket);
		return;
	}
	snprintf(pattern, sizeof pattern, "%s/*/run/admin/socket",
		 args_or(c->args, "dir", "BERTH_DIR", "/var/lib/berth"));
	if (glob(pattern, 0, NULL, &found) == 0)
		for (size_t i = 0; i < found.gl_pathc; i++)
			if (access(found.gl_pathv[i], R_OK | W_OK) == 0)
				add_place(c, "http://localhost", strlen("http://localhost"),
					  found.gl_pathv[i]);
	globfree(&found);
}

int client_init(struct client *c, const struct args *args, enum client_need need)
{
	const char *endpoints = args_or(args, "endpoint", "BERTH_ENDPOINTS", NULL);
	const char *timeout = args_or(args, "timeout", NULL, "600");

	*c = (struct client){.args = args};
	c->token = args_or(args, "token", "BERTH_TOKEN", NULL);
	c->ca = args_or(args, "ca", "BERTH_CA", NULL);
	c->timeout_s = (unsigned)strtoul(timeout, NULL, 10);
	c->progress = args_has(args, "progress") || isatty(STDERR_FILENO);
	if (need == CLIENT_LOCAL || args_has(args, "socket") ||
	    (c->token == NULL && !args_has(args, "endpoint")))
		add_sockets(c);
	if (c->n_places == 0 && need == CLIENT_ANY)
		add_endpoints(c, endpoints);
	if (c->n_places > 0)
		return EXIT_OK;
	if (need == CLIENT_LOCAL)
		fprintf(stderr, "berth: this goes over a node's admin socket, and none is here that you may "
				"use: give --socket, or\n"
				"BERTH_DIR, and be root or in the cluster's admin group\n");
	else
		fprintf(stderr, "berth: where is the cluster? Give --endpoint or BERTH_ENDPOINTS (and a "
				"token), or --socket or\n"
				"BERTH_DIR on a node\n");
	return EXIT_USAGE;
}

static size_t on_body(char *p, size_t size, size_t n, void *to)
{
	struct response *r = to;

	buf_add(&r->body, p, size * n);
	return buf_failed(&r->body) ? 0 : size * n;
}

static void keep(char *to, size_t size, const char *value, size_t n)
{
	while (n > 0 && isspace((unsigned char)value[n - 1]))
		n--;
	while (n > 0 && isspace((unsigned char)*value)) {
		value++;
		n--;
	}
	snprintf(to, size, "%.*s", (int)n, value);
}

static size_t on_header(char *p, size_t size, size_t n, void *to)
{
	struct response *r = to;
	size_t total = size * n;
	char number[32];

	if (total > 9 && strncasecmp(p, "location:", 9) == 0)
		keep(r->location, sizeof r->location, p + 9, total - 9);
	else if (total > 21 && strncasecmp(p, "azure-asyncoperation:", 21) == 0)
		keep(r->operation, sizeof r->operation, p + 21, total - 21);
	else if (total > 12 && strncasecmp(p, "retry-after:", 12) == 0) {
		keep(number, sizeof number, p + 12, total - 12);
		r->retry_after_s = (unsigned)strtoul(number, NULL, 10);
	}
	return total;
}

void response_done(struct response *r)
{
	buf_done(&r->body);
	json_decref(r->json);
	*r = (struct response){0};
}

static void trust(CURL *curl, const struct client *c)
{
	struct curl_blob pem = {(void *)(uintptr_t)c->ca_pem.p, c->ca_pem.n, CURL_BLOB_COPY};

	if (c->ca != NULL)
		curl_easy_setopt(curl, CURLOPT_CAINFO, c->ca);
	if (c->ca_pem.n > 0)
		curl_easy_setopt(curl, CURLOPT_CAINFO_BLOB, &pem);
	if (c->unverified) {
		curl_easy_setopt(curl, CURLOPT_SSL_VERIFYPEER, 0L);
		curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L);
	}
}

/* One request. CURLE_* of the transfer. */
static CURLcode perform(struct client *c, const struct client_place *place, const char *method,
			const char *path, struct str body, struct response *ret,
			char message[CURL_ERROR_SIZE])
{
	CURL *curl = curl_easy_init();
	CLEANUP_BUF struct buf url = {0}, bearer = {0};
	struct curl_slist *headers = curl_slist_append(NULL, "content-type: application/json"),
			  *really = NULL;
	char to[160];
	CURLcode code;
	long status = 0;

	response_done(ret);
	ret->body.max = CLIENT_BODY_MAX;
	message[0] = '\0';
	buf_printf(&url, "%s%s", place->url, path);
	if (c->token != NULL && place->socket[0] == '\0') {
		buf_printf(&bearer, "authorization: Bearer %s", c->token);
		headers = curl_slist_append(headers, buf_cstr(&bearer));
	}
	curl_easy_setopt(curl, CURLOPT_URL, buf_cstr(&url));
	curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, method);
	curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, message);
	curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
	curl_easy_setopt(curl, CURLOPT_TIMEOUT, (long)REQUEST_S);
	curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(curl, CURLOPT_WRITEDATA, ret);
	curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(curl, CURLOPT_HEADERDATA, ret);
	if (place->socket[0] != '\0')
		curl_easy_setopt(curl, CURLOPT_UNIX_SOCKET_PATH, place->socket);
	trust(curl, c);
	if (place->really[0] != '\0') {
		snprintf(to, sizeof to, "::%s", place->really);
		really = curl_slist_append(NULL, to);
		curl_easy_setopt(curl, CURLOPT_CONNECT_TO, really);
	}
	if (body.p != NULL || strcmp(method, "POST") == 0) {
		curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body.n);
		curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body.p != NULL ? body.p : "");
	}
	code = curl_easy_perform(curl);
	curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
	ret->status = (int)status;
	if (message[0] == '\0')
		snprintf(message, CURL_ERROR_SIZE, "%s", curl_easy_strerror(code));
	curl_slist_free_all(headers);
	curl_slist_free_all(really);
	curl_easy_cleanup(curl);
	return code;
}

static void say(struct str text)
{
	char line[2048];

	log_escape(text.p, text.n, line, sizeof line);
	fprintf(stderr, "%s", line);
}

static int exit_code_of(int status)
{
	if (status < 400)
		return EXIT_OK;
	if (status == 401 || status == 403)
		return EXIT_REFUSED;
	if (status == 404)
		return EXIT_NOT_FOUND;
	return status == 429 || status >= 500 ? EXIT_UNAVAILABLE : EXIT_FAILED;
}

/* {"error":{...}} or an operation's: every detail on a line of its own. */
static void print_error(const json_t *json, int status, struct str body)
{
	const json_t *error = json_object_get(json, "error"), *details = json_object_get(error, "details"),
		     *detail;
	size_t i;

	if (!json_is_object(error)) {
		fprintf(stderr, "berth: the cluster answered %d: ", status);
		say(str_slice(body, 0, body.n < 500 ? body.n : 500));
		fputc('\n', stderr);
		return;
	}
	if (json_array_size(details) < 2) {
		fprintf(stderr, "berth: ");
		say(json_str_of(json_object_get(error, "message")));
		fprintf(stderr, " (");
		say(json_str_of(json_object_get(error, "code")));
		fprintf(stderr, ")\n");
		return;
	}
	fprintf(stderr, "berth: %zu fields are not valid:\n", json_array_size(details));
	json_array_foreach(details, i, detail)
	{
		fprintf(stderr, "  ");
		say(json_str_of(json_object_get(detail, "message")));
		fputc('\n', stderr);
	}
}

static int finish(struct response *ret)
{
	struct str body = buf_str(&ret->body);

	if (body.n > 0 && (body.p[0] == '{' || body.p[0] == '['))
		json_parse(body, &(struct json_bounds){.bytes_max = CLIENT_BODY_MAX, .values_max = 50000000},
			   &ret->json, NULL);
	if (ret->status >= 400)
		print_error(ret->json, ret->status, body);
	return exit_code_of(ret->status);
}

static int call(struct client *c, size_t first, size_t n, const char *method, const char *path,
		const json_t *body, struct response *ret)
{
	char message[CURL_ERROR_SIZE] = "";
	CLEANUP_BUF struct buf text = {0};
	CURLcode code = CURLE_OK;
	size_t last = first, rounds = c->once ? 1 : ROUNDS;

	if (body != NULL)
		json_print(&text, body, false);
	for (size_t i = 0; i < n * rounds; i++) {
		size_t at = (first + i % n) % c->n_places;

		if (i > 0 && i % n == 0)
			sleep(1);
		last = at;
		code = perform(c, &c->places[at], method, path, body != NULL ? buf_str(&text) : STR_NONE, ret,
			       message);
		if (code == CURLE_OK && ret->status != 503) {
			c->first = at;
			return finish(ret);
		}
		if (code == CURLE_OK && !c->once)
			rounds = ROUNDS_LIVE;
		if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE)
			break;
	}
	if (code == CURLE_OK)
		return finish(ret);
	fprintf(stderr, "berth: none of %zu node%s answered. The last, %s%s%s: ", n, n == 1 ? "" : "s",
		c->places[last].url, c->places[last].socket[0] != '\0' ? " at " : "", c->places[last].socket);
	say(str_of(message));
	fputc('\n', stderr);
	return EXIT_UNAVAILABLE;
}

int client_call(struct client *c, const char *method, const char *path, const json_t *body,
		struct response *ret)
{
	return call(c, c->first, c->n_places, method, path, body, ret);
}

int client_call_at(struct client *c, size_t place, const char *method, const char *path, const json_t *body,
		   struct response *ret)
{
	return call(c, place, 1, method, path, body, ret);
}

struct stream {
	CURL *curl;
	struct response error; /* the body of an error is kept, not shown */
	bool terminal;
	FILE *to;
};

static size_t on_stream(char *p, size_t size, size_t n, void *to)
{
	struct stream *s = to;
	size_t total = size * n;
	long status = 0;

	curl_easy_getinfo(s->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status >= 400) {
		buf_add(&s->error.body, p, total);
		return total;
	}
	if (!s->terminal) {
		fwrite(p, 1, total, s->to);
	} else {
		for (size_t i = 0; i < total; i++) {
			unsigned char x = (unsigned char)p[i];

			if ((x < 0x20 && x != '\n' && x != '\t') || x == 0x7f || (x >= 0x80 && x < 0xa0))
				printf("\\x%02x", x);
			else
				putchar(x);
		}
	}
	return fflush(s->to) == 0 ? total : 0;
}

static int stream_to(struct client *c, const char *path, FILE *to, bool terminal)
{
	char message[CURL_ERROR_SIZE] = "";
	int r = EXIT_UNAVAILABLE;

	for (size_t i = 0; i < c->n_places; i++) {
		const struct client_place *place = &c->places[(c->first + i) % c->n_places];
		struct stream s = {.curl = curl_easy_init(), .terminal = terminal, .to = to};
		struct curl_slist *headers = NULL;
		CLEANUP_BUF struct buf url = {0}, bearer = {0};
		CURLcode code;
		long status = 0;

		s.error.body.max = 65536;
		buf_printf(&url, "%s%s", place->url, path);
		if (c->token != NULL && place->socket[0] == '\0') {
			buf_printf(&bearer, "authorization: Bearer %s", c->token);
			headers = curl_slist_append(headers, buf_cstr(&bearer));
		}
		curl_easy_setopt(s.curl, CURLOPT_URL, buf_cstr(&url));
		curl_easy_setopt(s.curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(s.curl, CURLOPT_ERRORBUFFER, message);
		curl_easy_setopt(s.curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
		curl_easy_setopt(s.curl, CURLOPT_NOSIGNAL, 1L);
		curl_easy_setopt(s.curl, CURLOPT_WRITEFUNCTION, on_stream);
		curl_easy_setopt(s.curl, CURLOPT_WRITEDATA, &s);
		if (place->socket[0] != '\0')
			curl_easy_setopt(s.curl, CURLOPT_UNIX_SOCKET_PATH, place->socket);
		if (c->ca != NULL)
			curl_easy_setopt(s.curl, CURLOPT_CAINFO, c->ca);
		code = curl_easy_perform(s.curl);
		curl_easy_getinfo(s.curl, CURLINFO_RESPONSE_CODE, &status);
		s.error.status = (int)status;
		curl_slist_free_all(headers);
		curl_easy_cleanup(s.curl);
		if (code == CURLE_OK && (status != 503 || i + 1 == c->n_places))
			r = finish(&s.error);
		response_done(&s.error);
		/* Once something was shown, another node would show it again. */
		if (status != 0 && (status != 503 || i + 1 == c->n_places))
			return code == CURLE_OK ? r : EXIT_UNAVAILABLE;
	}
	fprintf(stderr, "berth: no node answered: ");
	say(str_of(message));
	fputc('\n', stderr);
	return r;
}

int client_stream(struct client *c, const char *path)
{
	return stream_to(c, path, stdout, isatty(STDOUT_FILENO));
}

int client_download(struct client *c, const char *path, FILE *to)
{
	return stream_to(c, path, to, false);
}

static void show_progress(const struct client *c, const char *what, uint64_t began_ms, bool last)
{
	uint64_t ms = clock_boot_ms() - began_ms;

	if (!c->progress || ms < PROGRESS_AFTER_MS)
		return;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "\r%s: %llu s%s", what, (unsigned long long)(ms / 1000), last ? "\n" : "");
	else if (last || ms / 1000 % 10 < 2)
		fprintf(stderr, "%s: %llu s%s\n", what, (unsigned long long)(ms / 1000),
			last ? ", ended" : "");
	fflush(stderr);
}

/* Behind scheme and host: the next poll may go to another node. */
static const char *path_of(const char *url)
{
	const char *p = strstr(url, "://");

	p = p == NULL ? url : strchr(p + 3, '/');
	return p == NULL ? "/" : p;
}

int client_wait(struct client *c, struct response *accepted, const char *what)
{
	bool by_status = accepted->operation[0] != '\0';
	uint64_t began_ms = clock_boot_ms(), pause_ms = 200;
	struct response poll = {0};
	char path[1024];
	int r = EXIT_OK;

	if (!by_status && accepted->location[0] == '\0')
		return EXIT_OK;
	snprintf(path, sizeof path, "%s", path_of(by_status ? accepted->operation : accepted->location));
	for (;;) {
		struct str status;

		r = client_call(c, "GET", path, NULL, &poll);
		if (r != EXIT_OK)
			break;
		status = json_str_of(json_object_get(poll.json, "status"));
		if (by_status ? !str_eq(status, STR("InProgress")) : poll.status != 202)
			break;
		if (clock_boot_ms() - began_ms > c->timeout_s * 1000ull) {
			fprintf(stderr, "berth: stopped waiting after %u s; the operation goes on\n",
				c->timeout_s);
			r = EXIT_TIMEOUT;
			break;
		}
		show_progress(c, what, began_ms, false);
		usleep((useconds_t)(pause_ms * 1000));
		pause_ms = pause_ms < 1000 ? pause_ms * 2 : 1000;
	}
	show_progress(c, what, began_ms, true);
	if (r == EXIT_OK && by_status &&
	    !str_eq(json_str_of(json_object_get(poll.json, "status")), STR("Succeeded"))) {
		print_error(poll.json, poll.status, buf_str(&poll.body));
		r = EXIT_FAILED;
	}
	response_done(&poll);
	return r;
}

void client_escape(struct buf *to, const char *text)
{
	for (; *text != '\0'; text++) {
		unsigned char x = (unsigned char)*text;

		if (isalnum(x) || strchr("-._~", x) != NULL)
			buf_add(to, text, 1);
		else
			buf_printf(to, "%%%02X", x);
	}
}

int client_pool_path(const struct args *args, const char *name, struct buf *ret)
{
	if (name == NULL || name[0] == '\0') {
		fprintf(stderr, "berth: --name POOL is needed\nTry: berth %s --help\n", args->command->words);
		return EXIT_USAGE;
	}
	buf_printf(ret, "/subscriptions/");
	client_escape(ret, args_or(args, "subscription", "BERTH_SUBSCRIPTION",
				   "00000000-0000-0000-0000-000000000000"));
	buf_printf(ret, "/resourceGroups/");
	client_escape(ret, args_or(args, "resource-group", "BERTH_RESOURCE_GROUP", "default"));
	buf_printf(ret, "/providers/Microsoft.App/sessionPools/");
	client_escape(ret, name);
	return EXIT_OK;
}
