#include "control/links/probe.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/map.h"
#include "core/must.h"
#include "loop/stream.h"

#define TIMEOUT_MS 1000
#define ANSWER_MAX 64 /* "HTTP/1.1 200" is all that counts */

struct asking {
	struct loop *loop;
	probe_done *done;
	void *arg;
	struct stream *stream;
	struct buf request; /* empty: a connection is enough */
	char answer[ANSWER_MAX];
	size_t n;
	struct loop_timer timer;
	struct loop_deferred finish;
	uint32_t timeout_ms;
	bool ok;
	char message[160];
};

static void finish_run(struct loop_deferred *deferred)
{
	struct asking *a = container_of(deferred, struct asking, finish);

	loop_timer_clear(a->loop, &a->timer);
	a->done(a->arg, a->ok, a->message);
	buf_done(&a->request);
	free(a);
}

static void conclude(struct asking *a, bool ok, const char *message)
{
	if (a->message[0] == '\0') {
		a->ok = ok;
		snprintf(a->message, sizeof a->message, "%s", message);
	}
	if (a->stream != NULL)
		stream_close(a->stream);
	else
		loop_defer(a->loop, &a->finish);
}

static void judge(struct asking *a)
{
	int status = 0;

	if (a->n < 12)
		return;
	if (memcmp(a->answer, "HTTP/1.", 7) == 0)
		status = atoi(a->answer + 9);
	char text[80];

	snprintf(text, sizeof text, status > 0 ? "the probe answered %d" : "the probe's answer is not HTTP",
		 status);
	conclude(a, status >= 200 && status < 400, text);
}

static void on_data(struct stream *s, void *arg, const char *p, size_t n)
{
	struct asking *a = arg;
	size_t take = n < ANSWER_MAX - 1 - a->n ? n : ANSWER_MAX - 1 - a->n;

	(void)s;
	memcpy(a->answer + a->n, p, take);
	a->n += take;
	judge(a);
}

static void on_eof(struct stream *s, void *arg)
{
	(void)s;
	conclude(arg, false, "the probe's connection was closed without an answer");
}

static void on_error(struct stream *s, void *arg, int error)
{
	(void)s;
	conclude(arg, false, strerror(-error));
}

static void on_closed(struct stream *s, void *arg)
{
	struct asking *a = arg;

	(void)s;
	a->stream = NULL;
	loop_defer(a->loop, &a->finish);
}

static const struct stream_ops ops = {
	.on_data = on_data, .on_eof = on_eof, .on_error = on_error, .on_closed = on_closed};

static void on_timeout(struct loop_timer *timer)
{
	conclude(container_of(timer, struct asking, timer), false, "the probe was not answered in time");
}

static void on_dialed(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct asking *a = arg;
	char text[160];

	(void)context;
	if (reply->code < 0 || fd < 0) {
		snprintf(text, sizeof text, "%.*s", STR_ARGS(reply->message));
		conclude(a, false, text[0] != '\0' ? text : "no connection");
	} else if (a->request.n == 0) {
		close(fd);
		conclude(a, true, "the port answers");
	} else if (stream_adopt(a->loop, fd, NULL, &ops, a, &a->stream, NULL) < 0) {
		close(fd);
		conclude(a, false, "no memory for the probe");
	} else {
		loop_timer_set(a->loop, &a->timer, a->timeout_ms);
		if (stream_write_bytes(a->stream, a->request.p, a->request.n) < 0)
			conclude(a, false, "the probe's connection broke");
	}
}

static void write_request(struct asking *a, const struct probe *p)
{
	struct str path = p->path.n > 0 ? p->path : STR("/");
	bool host = false;

	buf_printf(&a->request, "GET %.*s HTTP/1.1\r\n", STR_ARGS(path));
	for (uint32_t i = 0; i < p->n_headers; i++) {
		host |= str_eq_nocase(p->headers[i].name, STR("host"));
		buf_printf(&a->request, "%.*s: %.*s\r\n", STR_ARGS(p->headers[i].name),
			   STR_ARGS(p->headers[i].value));
	}
	if (!host)
		buf_printf(&a->request, "Host: %.*s\r\n",
			   STR_ARGS(p->host.n > 0 ? p->host : STR("localhost")));
	buf_printf(&a->request, "User-Agent: berth-probe\r\nConnection: close\r\n\r\n");
}

void probe_start(struct loop *loop, struct sandboxd_client *sandboxd, uint64_t sandbox,
		 const struct probe *probe, uint16_t target_port, probe_done *done, void *arg)
{
	struct asking *a = calloc(1, sizeof *a);

	must(a != NULL);
	*a = (struct asking){.loop = loop,
			     .done = done,
			     .arg = arg,
			     .timer = {.fire = on_timeout},
			     .finish = {.run = finish_run},
			     .timeout_ms = TIMEOUT_MS};
	if (probe != NULL && probe->timeout_s > 0)
		a->timeout_ms = probe->timeout_s * 1000;
	if (probe != NULL && probe->how == PROBE_HTTP)
		write_request(a, probe);
	struct sandboxd_dial dial = {.sandbox = sandbox,
				     .timeout_ms = a->timeout_ms,
				     .port = probe != NULL && probe->port != 0 ? probe->port : target_port};

	sandboxd_client_call(sandboxd, SANDBOXD_DIAL, &dial, -1, loop_now(loop) + a->timeout_ms + 2000,
			     on_dialed, a);
}
