/* exchange.h -- one connection and the request that is being served on it.
 * Owns: the socket and the buffers; exchange_done frees both. Thread: the one of its connection. */
#ifndef SAMPLE_EXCHANGE_H
#define SAMPLE_EXCHANGE_H

#include <stdbool.h>
#include <stddef.h>

#define HEAD_MAX    65536
#define HEADERS_MAX 128

struct header {
	const char *name, *value;
};

struct exchange {
	int fd;
	char in[HEAD_MAX + 1]; /* the head, cut into terminated strings, and what was read behind it */
	size_t n_in, at;       /* bytes in `in`; how many were consumed */
	const char *method, *path, *query;
	struct header headers[HEADERS_MAX];
	size_t n_headers;
	bool close, chunked, expects, body_done;
	unsigned long long body_left; /* of the body, or of the current chunk */
};

/* 1: a request was read; 0: the client closed; -1: it was bad, and an answer was sent. */
int exchange_next(struct exchange *x);
/* "" when absent. Names are compared without case. */
const char *exchange_header(const struct exchange *x, const char *name);
/* The number behind name= in the query, or `otherwise`. */
unsigned long long exchange_query(const struct exchange *x, const char *name, unsigned long long otherwise);
/* Up to n bytes of the body; 0 at its end; -1: the connection broke. */
long exchange_body(struct exchange *x, char *to, size_t n);
/* Raw bytes behind the head, for tunnels. False: closed. */
bool exchange_read(struct exchange *x, void *to, size_t n);
bool exchange_write(struct exchange *x, const void *p, size_t n);
/* Drops what is left of the body, so that the connection can be used again. */
bool exchange_drain(struct exchange *x);

#endif
