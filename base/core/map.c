#include "map.h"

#include <errno.h>
#include <stdlib.h>

#include "must.h"

struct map_node *map_find(const struct map *m, uint64_t hash, map_match *match, const void *key)
{
	if (m->n_buckets == 0)
		return NULL;
	for (struct map_node *node = m->buckets[hash & (m->n_buckets - 1)]; node != NULL; node = node->next) {
		if (node->hash == hash && match(node, key))
			return node;
	}
	return NULL;
}

static int map_grow(struct map *m)
{
	size_t n_buckets = m->n_buckets == 0 ? 16 : m->n_buckets * 2;
	struct map_node **buckets = calloc(n_buckets, sizeof *buckets);

	if (buckets == NULL)
		return -ENOMEM;
	for (size_t i = 0; i < m->n_buckets; i++) {
		struct map_node *node = m->buckets[i];

		while (node != NULL) {
			struct map_node *next = node->next;

			node->next = buckets[node->hash & (n_buckets - 1)];
			buckets[node->hash & (n_buckets - 1)] = node;
			node = next;
		}
	}
	free(m->buckets);
	m->buckets = buckets;
	m->n_buckets = n_buckets;
	return 0;
}

int map_insert(struct map *m, struct map_node *node, uint64_t hash)
{
	if (m->n >= m->n_buckets && map_grow(m) < 0 && m->n_buckets == 0)
		return -ENOMEM;
	struct map_node **bucket = &m->buckets[hash & (m->n_buckets - 1)];

	*node = (struct map_node){.next = *bucket, .hash = hash};
	*bucket = node;
	m->n++;
	return 0;
}

void map_remove(struct map *m, struct map_node *node)
{
	must(m->n_buckets != 0);
	struct map_node **at = &m->buckets[node->hash & (m->n_buckets - 1)];

	while (*at != node) {
		must(*at != NULL);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	m->n--;
}

struct map_node *map_next(const struct map *m, const struct map_node *node)
{
	size_t bucket = 0;

	if (node != NULL) {
		if (node->next != NULL)
			return node->next;
		bucket = (node->hash & (m->n_buckets - 1)) + 1;
	}
	for (; bucket < m->n_buckets; bucket++) {
		if (m->buckets[bucket] != NULL)
			return m->buckets[bucket];
	}
	return NULL;
}

void map_done(struct map *m)
{
	free(m->buckets);
	*m = (struct map){0};
}

uint64_t map_hash_u64(uint64_t x)
{
	x ^= x >> 33;
	x *= 0xff51afd7ed558ccdu;
	x ^= x >> 33;
	x *= 0xc4ceb9fe1a85ec53u;
	return x ^ x >> 33;
}
