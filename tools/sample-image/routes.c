/* routes.c -- the sample server's paths.
 *
 *   /run          runs the body with /bin/sh -c; answers its output, X-Exit-Code tells how it ended
 *   /count        counts in memory: 1, 2, 3 ...: proves that the same process answers
 *   /instance     16 hex digits drawn at start: tells sandboxes apart
 *   /ws           WebSocket echo
 *   /sse          events, n= of them (5), one every ms= (200)
 *   /slow         answers after ms= (1000)
 *   /bytes        n= bytes (1024) of the pattern 0123456789; chunked=1 streams them
 *   /upload       counts the body's bytes: {"bytes", "fnv1a"}; hash=0 only counts
 *   /status       answers with code= (200)
 *   /exit         answers, then the process ends with code= (0)
 *   /env          the environment as a JSON object
 *   else          the request as JSON: method, path, query, headers, body, instance, count */
#include "routes.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "reply.h"
#include "websocket.h"

#define BODY_MAX (1u << 20)

static char instance[17];
static _Atomic uint64_t counter;

void routes_init(void)
{
	uint64_t drawn = 0;

	if (getrandom(&drawn, sizeof drawn, 0) != (ssize_t)sizeof drawn)
		drawn = (uint64_t)time(NULL);
	snprintf(instance, sizeof instance, "%016" PRIx64, drawn);
}

static void pause_ms(unsigned long long ms)
{
	struct timespec t = {(time_t)(ms / 1000), (long)(ms % 1000) * 1000000};

	nanosleep(&t, NULL);
}

/* The whole body; false when it is too large or the client left. */
static bool read_body(struct exchange *x, struct text *ret)
{
	char bytes[16384];
	long got;

	text_add(ret, "", 0);
	while ((got = exchange_body(x, bytes, sizeof bytes)) > 0) {
		if (ret->n + (size_t)got > BODY_MAX) {
			x->close = true;
			reply_text(x, "413 Content Too Large", "at most %u bytes\n", BODY_MAX);
			return false;
		}
		text_add(ret, bytes, (size_t)got);
	}
	return got == 0;
}

static bool serve_echo(struct exchange *x)
{
	struct text body = {0}, json = {0};

	if (!read_body(x, &body)) {
		free(body.p);
		return false;
	}
	text_printf(&json, "{\"method\":");
	text_json(&json, x->method, strlen(x->method));
	text_printf(&json, ",\"path\":");
	text_json(&json, x->path, strlen(x->path));
	text_printf(&json, ",\"query\":");
	text_json(&json, x->query, strlen(x->query));
	text_printf(&json, ",\"headers\":[");
	for (size_t i = 0; i < x->n_headers; i++) {
		text_printf(&json, i == 0 ? "[" : ",[");
		text_json(&json, x->headers[i].name, strlen(x->headers[i].name));
		text_printf(&json, ",");
		text_json(&json, x->headers[i].value, strlen(x->headers[i].value));
		text_printf(&json, "]");
	}
	text_printf(&json, "],\"body\":");
	text_json(&json, body.p, body.n);
	text_printf(&json, ",\"instance\":\"%s\",\"count\":%" PRIu64 "}\n", instance, atomic_load(&counter));
	bool ok = reply_send(x, "200 OK", "application/json", "", json.p, json.n);

	free(json.p);
	free(body.p);
	return ok;
}

/* In the child: the shell, with its output on `out`. */
_Noreturn static void become_shell(int out, const char *command)
{
	dup2(out, 1);
	dup2(out, 2);
	execl("/bin/sh", "sh", "-c", command, (char *)NULL);
	_exit(127);
}

static bool serve_run(struct exchange *x)
{
	struct text body = {0}, output = {0};
	char chunk[16384], extra[64];
	int out[2], status = 0;
	ssize_t got;

	if (!read_body(x, &body) || pipe2(out, O_CLOEXEC) < 0) {
		free(body.p);
		return false;
	}
	pid_t child = fork();

	if (child == 0)
		become_shell(out[1], body.p);
	close(out[1]);
	text_add(&output, "", 0);
	while ((got = read(out[0], chunk, sizeof chunk)) > 0) {
		if (output.n < BODY_MAX)
			text_add(&output, chunk, (size_t)got);
	}
	close(out[0]);
	if (child > 0)
		waitpid(child, &status, 0);
	snprintf(extra, sizeof extra, "X-Exit-Code: %d\r\n",
		 child < 0             ? 126
		 : WIFSIGNALED(status) ? 128 + WTERMSIG(status)
				       : WEXITSTATUS(status));
	bool ok = reply_send(x, "200 OK", "text/plain", extra, output.p, output.n);

	free(output.p);
	free(body.p);
	return ok;
}

static bool serve_count(struct exchange *x)
{
	return reply_text(x, "200 OK", "%" PRIu64 "\n", atomic_fetch_add(&counter, 1) + 1);
}

static bool serve_instance(struct exchange *x)
{
	return reply_text(x, "200 OK", "%s\n", instance);
}

static bool serve_websocket(struct exchange *x)
{
	websocket_echo(x);
	return false;
}

static bool serve_events(struct exchange *x)
{
	unsigned long long n = exchange_query(x, "n", 5), ms = exchange_query(x, "ms", 200);
	bool ok = reply_stream(x, "text/event-stream");

	for (unsigned long long i = 1; ok && i <= n; i++) {
		char event[64];
		int size = snprintf(event, sizeof event, "id: %llu\ndata: event %llu\n\n", i, i);

		ok = reply_chunk(x, event, (size_t)size);
		if (i < n)
			pause_ms(ms);
	}
	return ok && reply_chunk(x, NULL, 0);
}

static bool serve_slow(struct exchange *x)
{
	unsigned long long ms = exchange_query(x, "ms", 1000);

	pause_ms(ms);
	return reply_text(x, "200 OK", "slept %llu ms\n", ms);
}

static bool serve_bytes(struct exchange *x)
{
	unsigned long long n = exchange_query(x, "n", 1024);
	bool chunked = exchange_query(x, "chunked", 0) != 0, ok;
	char pattern[16000], head[160];

	for (size_t i = 0; i < sizeof pattern; i++)
		pattern[i] = (char)('0' + i % 10);
	snprintf(head, sizeof head,
		 "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\nContent-Length: %llu\r\n\r\n",
		 n);
	ok = chunked ? reply_stream(x, "application/octet-stream") : exchange_write(x, head, strlen(head));
	while (ok && n > 0) {
		size_t piece = n < sizeof pattern ? (size_t)n : sizeof pattern;

		ok = chunked ? reply_chunk(x, pattern, piece) : exchange_write(x, pattern, piece);
		n -= piece;
	}
	return ok && (!chunked || reply_chunk(x, NULL, 0));
}

static bool serve_upload(struct exchange *x)
{
	uint64_t n = 0, hash = 14695981039346656037u;
	bool hashed = exchange_query(x, "hash", 1) != 0;
	char bytes[65536], json[96];
	long got;

	while ((got = exchange_body(x, bytes, sizeof bytes)) > 0) {
		n += (uint64_t)got;
		for (long i = 0; hashed && i < got; i++)
			hash = (hash ^ (uint8_t)bytes[i]) * 1099511628211u;
	}
	if (got < 0)
		return false;
	int size = snprintf(json, sizeof json, "{\"bytes\":%" PRIu64 ",\"fnv1a\":\"%016" PRIx64 "\"}\n", n,
			    hash);

	return reply_send(x, "200 OK", "application/json", "", json, (size_t)size);
}

static bool serve_status(struct exchange *x)
{
	char status[32];

	snprintf(status, sizeof status, "%u Asked", (unsigned)(exchange_query(x, "code", 200) % 1000));
	return reply_text(x, status, "%s\n", status);
}

static bool serve_exit(struct exchange *x)
{
	int code = (int)(exchange_query(x, "code", 0) & 255);

	x->close = true;
	reply_text(x, "200 OK", "exit %d\n", code);
	pause_ms(50); /* lets the answer leave */
	_exit(code);
}

static bool serve_env(struct exchange *x)
{
	struct text json = {0};

	text_printf(&json, "{");
	for (char **e = environ; *e != NULL; e++) {
		size_t name = strcspn(*e, "=");

		text_printf(&json, e == environ ? "" : ",");
		text_json(&json, *e, name);
		text_printf(&json, ":");
		text_json(&json, *e + name + ((*e)[name] == '='), strlen(*e + name + ((*e)[name] == '=')));
	}
	text_printf(&json, "}\n");
	bool ok = reply_send(x, "200 OK", "application/json", "", json.p, json.n);

	free(json.p);
	return ok;
}

static const struct {
	const char *path;
	bool (*serve)(struct exchange *x);
} routes[] = {
	{"/run", serve_run},      {"/count", serve_count},   {"/instance", serve_instance},
	{"/ws", serve_websocket}, {"/sse", serve_events},    {"/slow", serve_slow},
	{"/bytes", serve_bytes},  {"/upload", serve_upload}, {"/status", serve_status},
	{"/exit", serve_exit},    {"/env", serve_env},
};

bool routes_serve(struct exchange *x)
{
	bool (*serve)(struct exchange *) = serve_echo;

	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++) {
		if (strcmp(x->path, routes[i].path) == 0)
			serve = routes[i].serve;
	}
	return serve(x) && !x->close && exchange_drain(x);
}
