/* reply.h -- answers: whole texts, JSON strings, streams. Thread: the one of the connection. */
#ifndef SAMPLE_REPLY_H
#define SAMPLE_REPLY_H

#include "exchange.h"

/* Text that grows; exits the program when there is no memory. Free .p. */
struct text {
	char *p;
	size_t n, capacity;
};

void text_add(struct text *t, const void *p, size_t n);
void text_printf(struct text *t, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A quoted JSON string. Bytes that are not UTF-8 appear as the characters U+0080 to U+00FF. */
void text_json(struct text *t, const char *p, size_t n);

/* `extra`: further header lines, each with its CR LF, or "". */
bool reply_send(struct exchange *x, const char *status, const char *type, const char *extra, const void *body,
		size_t n);
bool reply_text(struct exchange *x, const char *status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
/* Head of a chunked answer, its chunks, its end (n = 0). */
bool reply_stream(struct exchange *x, const char *type);
bool reply_chunk(struct exchange *x, const void *p, size_t n);

#endif
