#include "arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "must.h"

#define CHUNK_BYTES 4096

struct arena_chunk {
	struct arena_chunk *next;
	size_t used, size;
	_Alignas(max_align_t) char bytes[];
};

void *arena_alloc(struct arena *a, size_t n)
{
	size_t align = _Alignof(max_align_t), rounded;
	struct arena_chunk *c = a->chunks;

	if (__builtin_add_overflow(n, align - 1, &rounded))
		return NULL;
	rounded &= ~(align - 1);
	if (a->max != 0 && (rounded > a->max || a->total > a->max - rounded))
		return NULL;
	if (c == NULL || c->size - c->used < rounded) {
		size_t size = rounded > CHUNK_BYTES ? rounded : CHUNK_BYTES;

		c = malloc(sizeof *c + size);
		if (c == NULL)
			return NULL;
		*c = (struct arena_chunk){.next = a->chunks, .size = size};
		a->chunks = c;
	}
	void *p = c->bytes + c->used;

	c->used += rounded;
	a->total += rounded;
	return memset(p, 0, rounded);
}

void *arena_array(struct arena *a, size_t n, size_t size)
{
	size_t bytes;

	return __builtin_mul_overflow(n, size, &bytes) ? NULL : arena_alloc(a, bytes);
}

struct str arena_str(struct arena *a, struct str s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (p == NULL)
		return STR_NONE;
	if (s.n > 0)
		memcpy(p, s.p, s.n);
	return (struct str){p, s.n};
}

struct str arena_printf(struct arena *a, const char *format, ...)
{
	va_list args;
	int n;
	char *p;

	va_start(args, format);
	n = vsnprintf(NULL, 0, format, args);
	va_end(args);
	must(n >= 0);
	p = arena_alloc(a, (size_t)n + 1);
	if (p == NULL)
		return STR_NONE;
	va_start(args, format);
	vsnprintf(p, (size_t)n + 1, format, args);
	va_end(args);
	return (struct str){p, (size_t)n};
}

void arena_done(struct arena *a)
{
	struct arena_chunk *c = a->chunks;

	while (c != NULL) {
		struct arena_chunk *next = c->next;

		free(c);
		c = next;
	}
	*a = (struct arena){.max = a->max};
}
