/* serve.c -- the management API over the tests' tables, as an HTTP server for the command line tool: one request a
 * connection, on a unix socket. An operation ends at its second poll (or fails when its image is "missing:1"). It ends
 * with its standard input. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <poll.h>

#include <cmocka.h>

#include "core/fd.h"
#include "fixture.h"

#define HEAD_MAX 16384

static struct fixture fixture;
static unsigned polls;

/* Reads one request; false when it is not one. */
static bool receive(int fd, struct buf *text, struct str *ret_head, struct str *ret_body)
{
	for (;;) {
		char *end, *length;
		ssize_t n = read(fd, buf_reserve(text, 4096), 4096);

		if (n <= 0)
			return false;
		text->n += (size_t)n;
		end = strstr(buf_cstr(text), "\r\n\r\n");
		if (end == NULL)
			continue;
		length = strcasestr(text->p, "\r\ncontent-length:");
		*ret_head = (struct str){text->p, (size_t)(end - text->p)};
		*ret_body = str_slice(buf_str(text), ret_head->n + 4, text->n);
		if (length == NULL || length > end || ret_body->n >= strtoul(length + 17, NULL, 10))
			return true;
		if (strcasestr(text->p, "expect: 100") != NULL && ret_body->n == 0)
			fd_write_all(fd, "HTTP/1.1 100 Continue\r\n\r\n", 25);
	}
}

static void end_operation(const char *path)
{
	const struct operation_row *row = state_operation(fixture.state, fixture.operation);
	const struct revision_row *revision =
		row == NULL ? NULL : state_revision(fixture.state, row->pool, row->revision);

	/* "slow:1" never ends */
	if (revision != NULL && str_eq(revision->template.image, STR("slow:1")))
		return;
	if (strstr(path, "/operation") == NULL || row == NULL || row->phase >= PHASE_SUCCEEDED ||
	    ++polls % 2 == 1)
		return;
	fixture_finish(&fixture, revision == NULL || !str_eq(revision->template.image, STR("missing:1")));
}

static void task_reply(struct arm_reply *reply)
{
	CLEANUP_BUF struct buf text = {0};
	struct str json =
		STR("{\"value\":[{\"reference\":\"a:1\",\"digest\":\"sha256:x\",\"bytes\":1,\"users\":0}]}");

	if (fixture.outcome.task == ARM_TASK_TOKEN)
		json = STR("{\"token\":\"header.body.signature\",\"expiresAt\":\"2026-01-01T00:00:00Z\"}");
	else if (fixture.outcome.task == ARM_TASK_IMPORT)
		json = STR("{\"reference\":\"a:1\",\"digest\":\"sha256:x\"}");
	else if (fixture.outcome.task == ARM_TASK_LOGS)
		json = STR("line \033[31mone\n");
	else if (fixture.outcome.task == ARM_TASK_NODE)
		json = fixture.outcome.node.head;
	else if (fixture.outcome.task == ARM_TASK_STATUS)
		json = fixture.outcome.status;
	else if (fixture.outcome.task == ARM_TASK_EXPORT) {
		buf_add_str(&text, fixture.outcome.export.head);
		buf_add_str(&text, arm_export_end(fixture.outcome.export.csv));
		json = buf_str(&text);
	}
	arm_reply_text(reply, 200, "application/json", json);
}

static void find_host(struct str head)
{
	static char url[256];
	struct str line, rest = head;
	bool more = true;

	while (more) {
		more = str_cut(rest, '\n', &line, &rest);
		if (line.n > 6 && str_eq_nocase(str_slice(line, 0, 6), STR("host: ")))
			fixture.host = str_slice(line, 6, line.n - (line.p[line.n - 1] == '\r'));
	}
	snprintf(url, sizeof url, "https://%.*s", STR_ARGS(fixture.host));
	fixture.arm.url = str_of(url);
}

static void serve(int fd)
{
	CLEANUP_BUF struct buf text = {0}, out = {0};
	struct str head, body, method, rest, target, path, query = STR("");
	CLEANUP_FREE char *m = NULL, *p = NULL, *q = NULL;

	if (!receive(fd, &text, &head, &body))
		return;
	str_cut(head, ' ', &method, &rest);
	str_cut(rest, ' ', &target, &rest);
	if (!str_cut(target, '?', &path, &query))
		query = STR("");
	m = strndup(method.p, method.n);
	p = strndup(path.p, path.n);
	q = strndup(query.p, query.n);
	find_host(head);
	end_operation(p);
	if (fixture_call(&fixture, m, p, q, body) == 0)
		task_reply(&fixture.reply);
	buf_printf(&out, "HTTP/1.1 %d X\r\nconnection: close\r\ncontent-length: %zu\r\n",
		   fixture.reply.status, fixture.reply.body.n);
	for (uint32_t i = 0; i < fixture.reply.n_headers; i++)
		buf_printf(&out, "%s: %.*s\r\n", fixture.reply.headers[i].name,
			   STR_ARGS(fixture.reply.headers[i].value));
	buf_printf(&out, "\r\n");
	buf_add_str(&out, buf_str(&fixture.reply.body));
	fd_write_all(fd, out.p, out.n);
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct pollfd fds[2] = {{.fd = STDIN_FILENO, .events = POLLIN}, {.events = POLLIN}};

	if (argc != 2 || str_copy(str_of(argv[1]), address.sun_path, sizeof address.sun_path) < 0)
		return 2;
	fixture_init(&fixture);
	fixture.caller.local = true;
	fds[1].fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (bind(fds[1].fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fds[1].fd, 16) < 0) {
		perror(argv[1]);
		return 1;
	}
	while (poll(fds, 2, -1) >= 0 && fds[0].revents == 0) {
		CLEANUP_FD int fd = accept(fds[1].fd, NULL, NULL);

		if (fd >= 0)
			serve(fd);
	}
	fixture_done(&fixture);
	unlink(argv[1]);
	return 0;
}
