/* arena.h -- memory that goes all at once: one arena a message. Zero-initialised is empty.
 * Pointers from it stay valid until arena_done. Not for threads to share. */
#ifndef CORE_ARENA_H
#define CORE_ARENA_H

#include <stddef.h>

#include "str.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks;
	size_t total; /* bytes handed out */
	size_t max;   /* 0 = no bound */
};

/* Zeroed, aligned for any type. NULL when the bound or the machine's memory is reached. */
void *arena_alloc(struct arena *a, size_t n);
/* n elements of `size`; NULL on overflow too. */
void *arena_array(struct arena *a, size_t n, size_t size);
/* A copy that lives as long as the arena, with a NUL behind it; .p is NULL when there is no memory. */
struct str arena_str(struct arena *a, struct str s);
struct str arena_printf(struct arena *a, const char *format, ...) __attribute__((format(printf, 2, 3)));
void arena_done(struct arena *a);

#define CLEANUP_ARENA __attribute__((cleanup(arena_done)))

#endif
