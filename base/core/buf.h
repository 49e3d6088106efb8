/* buf.h -- a growing byte buffer with a bound. Owns its memory; zero-initialised is empty and unbounded.
 * A failed append (bound, no memory) marks the buffer: later appends do nothing, buf_failed() tells at the end. */
#ifndef CORE_BUF_H
#define CORE_BUF_H

#include <stdbool.h>
#include <stdarg.h>
#include <stddef.h>

#include "str.h"

struct buf {
	char *p;
	size_t n, capacity;
	size_t max; /* bytes; 0 = no bound */
	bool failed;
};

#define BUF_MAX(bytes) ((struct buf){.max = (bytes)})

void buf_done(struct buf *b);
void buf_clear(struct buf *b); /* keeps the memory */
/* Room for n more bytes behind the end, or NULL. The caller adds to b->n what it wrote. */
char *buf_reserve(struct buf *b, size_t n);
void buf_add(struct buf *b, const void *p, size_t n);
void buf_add_str(struct buf *b, struct str s);
void buf_printf(struct buf *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
void buf_vprintf(struct buf *b, const char *format, va_list args) __attribute__((format(printf, 2, 0)));
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
static inline bool buf_failed(const struct buf *b)
{
	return b->failed;
}
static inline struct str buf_str(const struct buf *b)
{
	return (struct str){b->p, b->n};
}
/* The bytes with a NUL behind them (not counted in n), or "" when failed. */
const char *buf_cstr(struct buf *b);

#define CLEANUP_BUF __attribute__((cleanup(buf_done)))

#endif
