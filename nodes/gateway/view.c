/* See view.h. Three maps over rows in one arena. Lookups happen once a request. */
#include "gateway/view.h"

#include <ctype.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/map.h"

#define HOST_MAX       255
#define FIRST_ADMITTED 1000 /* see raft-store/state */

struct pool_row {
	struct view_pool pool;
	struct map_node by_host, by_name, by_uid;
};

struct node_row {
	struct view_node node;
	struct map_node by_id;
};

struct view {
	struct arena arena;
	struct map hosts, names, uids, nodes;
	uint64_t newest, removed;
	atomic_uint refs;
};

struct view *view_new(void)
{
	struct view *v = calloc(1, sizeof *v);

	if (v)
		atomic_init(&v->refs, 1);
	return v;
}

struct view *view_ref(struct view *v)
{
	atomic_fetch_add(&v->refs, 1);
	return v;
}

void view_unref(struct view *v)
{
	if (!v || atomic_fetch_sub(&v->refs, 1) != 1)
		return;
	map_done(&v->hosts);
	map_done(&v->names);
	map_done(&v->uids);
	map_done(&v->nodes);
	arena_done(&v->arena);
	free(v);
}

static uint64_t hash_nocase(struct str s, uint64_t seed)
{
	char lower[HOST_MAX + 1];
	size_t n = s.n < sizeof lower ? s.n : sizeof lower;

	for (size_t i = 0; i < n; i++)
		lower[i] = (char)tolower((unsigned char)s.p[i]);
	return str_hash((struct str){lower, n}) ^ seed * 0x9e3779b97f4a7c15ull;
}

static uint64_t hash_name(struct str subscription, struct str group, struct str name)
{
	return hash_nocase(subscription, 1) + hash_nocase(group, 2) + hash_nocase(name, 3);
}

int view_add_pool(struct view *v, const struct view_pool *pool)
{
	struct pool_row *row = arena_alloc(&v->arena, sizeof *row);
	int r = 0;

	if (!row)
		return -ENOMEM;
	row->pool = *pool;
	struct str *strings[] = {&row->pool.subscription, &row->pool.resource_group, &row->pool.name,
				 &row->pool.host, &row->pool.scope};
	for (size_t i = 0; i < sizeof strings / sizeof *strings; i++) {
		*strings[i] = arena_str(&v->arena, *strings[i]);
		if (!strings[i]->p)
			return -ENOMEM;
	}
	if (pool->host.n)
		r = map_insert(&v->hosts, &row->by_host, hash_nocase(pool->host, 0));
	if (!r)
		r = map_insert(&v->names, &row->by_name,
			       hash_name(pool->subscription, pool->resource_group, pool->name));
	if (!r)
		r = map_insert(&v->uids, &row->by_uid, map_hash_u64(pool->uid));
	return r;
}

int view_add_node(struct view *v, const struct view_node *node)
{
	struct node_row *row = arena_alloc(&v->arena, sizeof *row);

	if (!row)
		return -ENOMEM;
	row->node = *node;
	return map_insert(&v->nodes, &row->by_id, map_hash_u64(node->id));
}

static bool host_match(const struct map_node *node, const void *key)
{
	return str_eq_nocase(container_of(node, struct pool_row, by_host)->pool.host,
			     *(const struct str *)key);
}

const struct view_pool *view_by_host(const struct view *v, struct str host)
{
	struct str name, port;

	str_cut(host, ':', &name, &port);
	if (name.n == 0 || name.n > HOST_MAX)
		return NULL;
	if (name.p[name.n - 1] == '.') /* a fully written name is the same name */
		name.n--;
	struct map_node *node = map_find(&v->hosts, hash_nocase(name, 0), host_match, &name);
	return node ? &container_of(node, struct pool_row, by_host)->pool : NULL;
}

static bool name_match(const struct map_node *node, const void *key)
{
	const struct view_pool *pool = &container_of(node, struct pool_row, by_name)->pool;
	const struct str *parts = key;

	return str_eq_nocase(pool->name, parts[2]) && str_eq_nocase(pool->resource_group, parts[1]) &&
	       str_eq_nocase(pool->subscription, parts[0]);
}

const struct view_pool *view_by_name(const struct view *v, struct str subscription, struct str resource_group,
				     struct str name)
{
	struct str parts[] = {subscription, resource_group, name};
	struct map_node *node =
		map_find(&v->names, hash_name(subscription, resource_group, name), name_match, parts);

	return node ? &container_of(node, struct pool_row, by_name)->pool : NULL;
}

static bool uid_match(const struct map_node *node, const void *key)
{
	return container_of(node, struct pool_row, by_uid)->pool.uid == *(const uint64_t *)key;
}

const struct view_pool *view_by_uid(const struct view *v, uint64_t uid)
{
	struct map_node *node = map_find(&v->uids, map_hash_u64(uid), uid_match, &uid);

	return node ? &container_of(node, struct pool_row, by_uid)->pool : NULL;
}

static bool node_match(const struct map_node *node, const void *key)
{
	return container_of(node, struct node_row, by_id)->node.id == *(const uint64_t *)key;
}

const struct view_node *view_node(const struct view *v, uint64_t id)
{
	struct map_node *node = map_find(&v->nodes, map_hash_u64(id), node_match, &id);

	return node ? &container_of(node, struct node_row, by_id)->node : NULL;
}

void view_set_removed(struct view *v, uint64_t newest, uint64_t removed)
{
	v->newest = newest;
	v->removed = removed;
}

bool view_refuses(const struct view *v, uint64_t node)
{
	if (node < FIRST_ADMITTED) /* the cluster was made with it: it may have no row yet */
		return node < 64 && (v->removed & 1ull << node) != 0;
	return node <= v->newest && view_node(v, node) == NULL;
}
