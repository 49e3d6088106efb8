/* map.h -- an intrusive hash map with chaining: the element embeds a map_node and is owned by the caller.
 * Zero-initialised is empty. Grows by doubling, a few buckets with each insert, so that none is long; never shrinks. The caller
 * brings hash and equality. */
#ifndef CORE_MAP_H
#define CORE_MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct map_node {
	struct map_node *next;
	uint64_t hash;
};

struct map {
	struct map_node **buckets;
	size_t n, n_buckets; /* n_buckets: 0 or a power of two */
	/* While it grows: the former buckets, of which those below `moved` are empty; NULL: it does not. */
	struct map_node **old;
	size_t n_old, moved;
};

typedef bool map_match(const struct map_node *node, const void *key);

/* The first node with this hash for which match() holds, or NULL. */
struct map_node *map_find(const struct map *m, uint64_t hash, map_match *match, const void *key);
/* 0 or -ENOMEM. Does not look for an equal element. */
int map_insert(struct map *m, struct map_node *node, uint64_t hash);
void map_remove(struct map *m, struct map_node *node); /* must be in the map */
/* Walks in no order: start with NULL. The current node may be removed only after the next was fetched. */
struct map_node *map_next(const struct map *m, const struct map_node *node);
void map_done(struct map *m); /* frees the buckets, not the elements */
/* A well-spread hash for numbers that we chose ourselves. */
uint64_t map_hash_u64(uint64_t x);

#define container_of(pointer, type, member) ((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
