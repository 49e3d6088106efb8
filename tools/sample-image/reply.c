/* reply.c -- writes HTTP/1.1 answers. A write that fails means that the client went away: the caller closes. */
#include "reply.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void text_add(struct text *t, const void *p, size_t n)
{
	if (t->n + n + 1 > t->capacity) {
		t->capacity = (t->n + n + 1) * 2;
		t->p = realloc(t->p, t->capacity);
		if (t->p == NULL)
			exit(71);
	}
	if (n > 0)
		memcpy(t->p + t->n, p, n);
	t->n += n;
	t->p[t->n] = '\0';
}

void text_printf(struct text *t, const char *format, ...)
{
	char *line = NULL;
	va_list args;

	va_start(args, format);
	int n = vasprintf(&line, format, args);

	va_end(args);
	if (n < 0)
		exit(71);
	text_add(t, line, (size_t)n);
	free(line);
}

/* Length of the UTF-8 sequence at p, 0 if it is none. Surrogates and overlong forms are not told apart. */
static size_t sequence(const unsigned char *p, size_t n)
{
	size_t length = p[0] < 0x80                   ? 1
			: p[0] >= 0xc2 && p[0] < 0xe0 ? 2
			: p[0] >= 0xe0 && p[0] < 0xf0 ? 3
			: p[0] >= 0xf0 && p[0] < 0xf5 ? 4
						      : 0;

	if (length > n)
		return 0;
	for (size_t i = 1; i < length; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
	}
	return length;
}

void text_json(struct text *t, const char *p, size_t n)
{
	const unsigned char *u = (const unsigned char *)p;
	size_t length;

	text_add(t, "\"", 1);
	for (size_t i = 0; i < n; i += length) {
		length = sequence(u + i, n - i);
		if (u[i] == '"' || u[i] == '\\')
			text_printf(t, "\\%c", u[i]);
		else if (length == 0 || u[i] < 0x20 || u[i] == 0x7f)
			text_printf(t, "\\u%04x", u[i]);
		else
			text_add(t, p + i, length);
		if (length == 0)
			length = 1;
	}
	text_add(t, "\"", 1);
}

bool reply_send(struct exchange *x, const char *status, const char *type, const char *extra, const void *body,
		size_t n)
{
	struct text head = {0};

	text_printf(&head, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n%s%s\r\n", status, type,
		    n, extra, x->close ? "Connection: close\r\n" : "");
	if (strcmp(x->method, "HEAD") != 0)
		text_add(&head, body, n);
	bool ok = exchange_write(x, head.p, head.n);

	free(head.p);
	return ok;
}

bool reply_text(struct exchange *x, const char *status, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	int n = vsnprintf(text, sizeof text, format, args);

	va_end(args);
	if (n >= (int)sizeof text)
		n = sizeof text - 1;
	return reply_send(x, status, "text/plain", "", text, (size_t)n);
}

bool reply_stream(struct exchange *x, const char *type)
{
	char head[256];
	int n = snprintf(head, sizeof head,
			 "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: "
			 "chunked\r\nCache-Control: no-store\r\n\r\n",
			 type);

	return exchange_write(x, head, (size_t)n);
}

bool reply_chunk(struct exchange *x, const void *p, size_t n)
{
	char size[32];
	int digits = snprintf(size, sizeof size, "%zx\r\n", n);

	return exchange_write(x, size, (size_t)digits) && (n == 0 || exchange_write(x, p, n)) &&
	       exchange_write(x, "\r\n", 2);
}
