#include "map.h"

#include <errno.h>
#include <stdlib.h>

#include "must.h"

#define MOVED_AT_ONCE 8 /* of n_old buckets: long before it has to grow again */

/* Invariant: what belongs into an old bucket that was not moved yet is there. */
static bool in_old(const struct map *m, uint64_t hash)
{
	return m->old != NULL && (hash & (m->n_old - 1)) >= m->moved;
}

/* Where a node with this hash is, or goes. */
static struct map_node **bucket_of(const struct map *m, uint64_t hash)
{
	if (in_old(m, hash))
		return &m->old[hash & (m->n_old - 1)];
	return &m->buckets[hash & (m->n_buckets - 1)];
}

struct map_node *map_find(const struct map *m, uint64_t hash, map_match *match, const void *key)
{
	if (m->n_buckets == 0)
		return NULL;
	for (struct map_node *node = *bucket_of(m, hash); node != NULL; node = node->next) {
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
	must(m->old == NULL);
	m->old = m->buckets;
	m->n_old = m->n_buckets;
	m->moved = 0;
	m->buckets = buckets;
	m->n_buckets = n_buckets;
	return 0;
}

static void move_some(struct map *m)
{
	for (unsigned i = 0; i < MOVED_AT_ONCE && m->moved < m->n_old; i++) {
		struct map_node *node = m->old[m->moved++];

		while (node != NULL) {
			struct map_node *next = node->next;
			struct map_node **to = &m->buckets[node->hash & (m->n_buckets - 1)];

			node->next = *to;
			*to = node;
			node = next;
		}
	}
	if (m->moved == m->n_old) {
		free(m->old);
		m->old = NULL;
	}
}

int map_insert(struct map *m, struct map_node *node, uint64_t hash)
{
	if (m->old != NULL)
		move_some(m);
	else if (m->n >= m->n_buckets && map_grow(m) < 0 && m->n_buckets == 0)
		return -ENOMEM;
	struct map_node **bucket = bucket_of(m, hash);

	*node = (struct map_node){.next = *bucket, .hash = hash};
	*bucket = node;
	m->n++;
	return 0;
}

/* Moves nothing: whoever walks may remove as it goes. */
void map_remove(struct map *m, struct map_node *node)
{
	must(m->n_buckets != 0);
	struct map_node **at = bucket_of(m, node->hash);

	while (*at != node) {
		must(*at != NULL);
		at = &(*at)->next;
	}
	*at = node->next;
	node->next = NULL;
	m->n--;
}

/* First the old buckets, then the new ones. */
struct map_node *map_next(const struct map *m, const struct map_node *node)
{
	size_t n_old = m->old == NULL ? 0 : m->n_old, at = 0;

	if (node != NULL) {
		if (node->next != NULL)
			return node->next;
		at = 1 + (in_old(m, node->hash) ? node->hash & (n_old - 1)
						: n_old + (node->hash & (m->n_buckets - 1)));
	}
	for (; at < n_old; at++) {
		if (m->old[at] != NULL && at >= m->moved)
			return m->old[at];
	}
	for (; at < n_old + m->n_buckets; at++) {
		if (m->buckets[at - n_old] != NULL)
			return m->buckets[at - n_old];
	}
	return NULL;
}

void map_done(struct map *m)
{
	free(m->old);
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
