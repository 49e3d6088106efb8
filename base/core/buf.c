#include "buf.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "must.h"

void buf_done(struct buf *b)
{
	free(b->p);
	*b = (struct buf){.max = b->max};
}

void buf_clear(struct buf *b)
{
	b->n = 0;
	b->failed = false;
}

char *buf_reserve(struct buf *b, size_t n)
{
	size_t need, capacity;
	char *p;

	if (b->failed)
		return NULL;
	if (__builtin_add_overflow(b->n, n, &need) || (b->max != 0 && need > b->max)) {
		b->failed = true;
		return NULL;
	}
	if (need <= b->capacity && b->p != NULL)
		return b->p + b->n;
	capacity = b->capacity < 64 ? 64 : b->capacity * 2;
	if (capacity < need)
		capacity = need;
	p = realloc(b->p, capacity);
	if (p == NULL) {
		b->failed = true;
		return NULL;
	}
	b->p = p;
	b->capacity = capacity;
	return b->p + b->n;
}

void buf_add(struct buf *b, const void *p, size_t n)
{
	char *to = buf_reserve(b, n);

	if (to == NULL || n == 0)
		return;
	memcpy(to, p, n);
	b->n += n;
}

void buf_add_str(struct buf *b, struct str s)
{
	buf_add(b, s.p, s.n);
}

void buf_vprintf(struct buf *b, const char *format, va_list args)
{
	va_list again;
	int n;

	va_copy(again, args);
	n = vsnprintf(NULL, 0, format, again);
	va_end(again);
	must(n >= 0);
	char *to = buf_reserve(b, (size_t)n + 1);

	if (to == NULL)
		return;
	vsnprintf(to, (size_t)n + 1, format, args);
	b->n += (size_t)n;
}

void buf_printf(struct buf *b, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	buf_vprintf(b, format, args);
	va_end(args);
}

void buf_drop(struct buf *b, size_t n)
{
	must(n <= b->n);
	if (n == 0)
		return;
	b->n -= n;
	memmove(b->p, b->p + n, b->n);
}

const char *buf_cstr(struct buf *b)
{
	char *end = buf_reserve(b, 1);

	if (end == NULL)
		return "";
	*end = '\0';
	return b->p;
}
