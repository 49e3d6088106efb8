/* exchange.c -- reads HTTP/1.1 requests from a blocking socket.
 * Happy path: exchange_next fills the buffer up to the empty line, cuts it into strings and learns how the body is
 * framed; exchange_body then hands the body out, first from the buffer, then from the socket.
 * Failure modes: a head that is too large or not HTTP gets 400 or 431 and the connection closes. */
#include "exchange.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

bool exchange_write(struct exchange *x, const void *p, size_t n)
{
	const char *from = p;

	while (n > 0) {
		ssize_t sent = send(x->fd, from, n, MSG_NOSIGNAL);

		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0)
			return false;
		from += sent;
		n -= (size_t)sent;
	}
	return true;
}

static long more(struct exchange *x, void *to, size_t n)
{
	ssize_t got;

	do
		got = recv(x->fd, to, n, 0);
	while (got < 0 && errno == EINTR);
	return got;
}

/* From the buffer first. At most n bytes; <= 0 when the connection is over. */
static long take(struct exchange *x, char *to, size_t n)
{
	size_t here = x->n_in - x->at;

	if (here == 0)
		return more(x, to, n);
	if (here > n)
		here = n;
	memcpy(to, x->in + x->at, here);
	x->at += here;
	return (long)here;
}

bool exchange_read(struct exchange *x, void *to, size_t n)
{
	char *at = to;

	while (n > 0) {
		long got = take(x, at, n);

		if (got <= 0)
			return false;
		at += got;
		n -= (size_t)got;
	}
	return true;
}

static int refuse(struct exchange *x, const char *status)
{
	char text[160];
	int n = snprintf(text, sizeof text, "HTTP/1.1 %s\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
			 status);

	exchange_write(x, text, (size_t)n);
	return -1;
}

/* Reads until the empty line is in the buffer; *ret_end is its end. */
static int fill_head(struct exchange *x, char **ret_end)
{
	memmove(x->in, x->in + x->at, x->n_in - x->at);
	x->n_in -= x->at;
	x->at = 0;
	for (;;) {
		x->in[x->n_in] = '\0';
		char *end = memmem(x->in, x->n_in, "\r\n\r\n", 4);

		if (end != NULL) {
			*ret_end = end + 4;
			return 1;
		}
		if (x->n_in == HEAD_MAX)
			return refuse(x, "431 Request Header Fields Too Large");
		long got = more(x, x->in + x->n_in, HEAD_MAX - x->n_in);

		if (got <= 0)
			return 0;
		x->n_in += (size_t)got;
	}
}

static bool parse_line(struct exchange *x, char *line)
{
	char *path = strchr(line, ' ');
	char *version = path == NULL ? NULL : strchr(path + 1, ' ');

	if (version == NULL || strncmp(version + 1, "HTTP/1.", 7) != 0)
		return false;
	*path++ = '\0';
	*version++ = '\0';
	x->method = line;
	x->path = path;
	x->query = "";
	x->close = strcmp(version, "HTTP/1.0") == 0;
	char *query = strchr(path, '?');

	if (query != NULL) {
		*query++ = '\0';
		x->query = query;
	}
	return true;
}

static bool parse_header(struct exchange *x, char *line)
{
	char *value = strchr(line, ':');

	if (value == NULL || value == line || x->n_headers == HEADERS_MAX)
		return false;
	*value++ = '\0';
	value += strspn(value, " \t");
	x->headers[x->n_headers++] = (struct header){line, value};
	return true;
}

int exchange_next(struct exchange *x)
{
	char *end, *next;
	int r = fill_head(x, &end);

	if (r <= 0)
		return r;
	x->n_headers = 0;
	for (char *line = x->in; line < end - 2; line = next) {
		next = strstr(line, "\r\n");
		if (next == NULL)
			return refuse(x, "400 Bad Request"); /* a NUL in the head */
		*next = '\0';
		next += 2;
		if (!(line == x->in ? parse_line(x, line) : parse_header(x, line)))
			return refuse(x, "400 Bad Request");
	}
	x->at = (size_t)(end - x->in);
	x->chunked = strcasecmp(exchange_header(x, "transfer-encoding"), "chunked") == 0;
	x->body_left = x->chunked ? 0 : strtoull(exchange_header(x, "content-length"), NULL, 10);
	x->body_done = !x->chunked && x->body_left == 0;
	x->expects = strcasecmp(exchange_header(x, "expect"), "100-continue") == 0;
	if (strcasecmp(exchange_header(x, "connection"), "close") == 0)
		x->close = true;
	return 1;
}

const char *exchange_header(const struct exchange *x, const char *name)
{
	for (size_t i = 0; i < x->n_headers; i++) {
		if (strcasecmp(x->headers[i].name, name) == 0)
			return x->headers[i].value;
	}
	return "";
}

unsigned long long exchange_query(const struct exchange *x, const char *name, unsigned long long otherwise)
{
	size_t n = strlen(name);

	for (const char *at = x->query; *at != '\0'; at += strcspn(at, "&"), at += *at == '&') {
		if (strncmp(at, name, n) == 0 && at[n] == '=')
			return strtoull(at + n + 1, NULL, 10);
	}
	return otherwise;
}

/* The size line of the next chunk, and of the trailer behind the last. */
static bool next_chunk(struct exchange *x)
{
	char line[64];
	size_t n = 0;

	while (n < sizeof line - 1 && exchange_read(x, line + n, 1)) {
		if (line[n++] != '\n')
			continue;
		line[n] = '\0';
		if (line[0] == '\r' && !x->body_done) {
			n = 0; /* the end of the chunk before */
			continue;
		}
		if (x->body_done) {
			if (line[0] == '\r')
				return true;
			n = 0; /* a trailer */
			continue;
		}
		x->body_left = strtoull(line, NULL, 16);
		if (x->body_left > 0)
			return true;
		x->body_done = true;
		n = 0;
	}
	return false;
}

long exchange_body(struct exchange *x, char *to, size_t n)
{
	if (x->body_done)
		return 0;
	if (x->expects) {
		x->expects = false;
		if (!exchange_write(x, "HTTP/1.1 100 Continue\r\n\r\n", 25))
			return -1;
	}
	if (x->chunked && x->body_left == 0) {
		if (!next_chunk(x))
			return -1;
		if (x->body_done)
			return 0;
	}
	if (n > x->body_left)
		n = (size_t)x->body_left;
	long got = take(x, to, n);

	if (got <= 0)
		return -1;
	x->body_left -= (unsigned long long)got;
	x->body_done = !x->chunked && x->body_left == 0;
	return got;
}

bool exchange_drain(struct exchange *x)
{
	char bytes[16384];
	long got;

	if (x->expects && !x->body_done)
		return false; /* the client waits for a 100 that will not come: close */
	while ((got = exchange_body(x, bytes, sizeof bytes)) > 0)
		;
	return got == 0;
}
