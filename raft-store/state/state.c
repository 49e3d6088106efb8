/* state.c -- making and reading the tables; writing is apply.c's. */
#include "state.h"

#include <stdlib.h>

#include "core/must.h"
#include "wire/sealed.h"
#include "state/apply/apply.h"
#include "state/store.h"

struct state *state_new(void)
{
	struct state *s = malloc(sizeof *s);

	must(s != NULL);
	store_init(s);
	return s;
}

void state_free(struct state *s)
{
	if (s == NULL)
		return;
	store_done(s);
	free(s);
}

uint64_t state_index(const struct state *s)
{
	return s->index;
}

uint64_t state_hash(const struct state *s)
{
	uint64_t hash = 0;

	for (enum kind kind = 0; kind < KINDS; kind++)
		hash = map_hash_u64(hash ^ (s->sums[kind] + kind + 1));
	return hash;
}

/* -- Lookups ---------------------------------------------------------------------------------------------------- */

static const struct row *row_by_id(const struct map_node *node)
{
	return container_of((struct map_node *)(uintptr_t)node, struct row, by_id);
}

static const struct row *row_by_name(const struct map_node *node)
{
	return container_of((struct map_node *)(uintptr_t)node, struct row, by_name);
}

const struct cluster_row *state_cluster(const struct state *s)
{
	return store_find(s, KIND_CLUSTER, (struct tree_key){0});
}

const struct pool_row *state_pool(const struct state *s, uint64_t uid)
{
	return store_find(s, KIND_POOLS, (struct tree_key){.a = uid});
}

static bool pool_name_match(const struct map_node *node, const void *key)
{
	const struct pool_row *pool = (const void *)row_by_name(node)->value, *wanted = key;

	return str_eq_nocase(pool->name, wanted->name) &&
	       str_eq_nocase(pool->resource_group, wanted->resource_group) &&
	       str_eq_nocase(pool->subscription, wanted->subscription);
}

const struct pool_row *state_pool_by_name(const struct state *s, struct str subscription, struct str group,
					  struct str name)
{
	struct pool_row wanted = {.subscription = subscription, .resource_group = group, .name = name};
	const struct map_node *node = map_find(
		&s->pool_names, store_pool_name_hash(subscription, group, name), pool_name_match, &wanted);

	return node == NULL ? NULL : (const void *)row_by_name(node)->value;
}

const struct revision_row *state_revision(const struct state *s, uint64_t pool, uint64_t revision)
{
	return store_find(s, KIND_REVISIONS, (struct tree_key){.a = pool, .b = revision});
}

const struct secret_row *state_secret(const struct state *s, uint64_t pool, struct str name)
{
	return store_find(s, KIND_SECRETS, (struct tree_key){.a = pool, .s = name});
}

const struct operation_row *state_operation(const struct state *s, uint64_t id)
{
	return store_find(s, KIND_OPERATIONS, (struct tree_key){.a = id});
}

const struct node_row *state_node(const struct state *s, uint64_t id)
{
	return store_find(s, KIND_NODES, (struct tree_key){.a = id});
}

const struct node_row *state_node_by_name(const struct state *s, struct str name)
{
	const struct node_row *row = NULL;

	while ((row = state_next_node(s, row)) != NULL && !str_eq_nocase(row->name, name)) {
	}
	return row;
}

const struct join_token_row *state_join_token(const struct state *s, struct str hash)
{
	return store_find(s, KIND_JOIN_TOKENS, (struct tree_key){.s = hash});
}

bool state_node_belongs(const struct state *s, uint64_t id)
{
	if (state_node(s, id) != NULL)
		return true;
	return id < APPLY_FIRST_ID && (id >= 64 || (state_cluster(s)->removed_first & 1ull << id) == 0);
}

bool state_node_runs(const struct node_row *node, uint8_t isolation)
{
	return (node->isolations & 1u << isolation) != 0;
}

bool state_has_image(const struct state *s, uint64_t node, struct str digest)
{
	return store_find(s, KIND_IMAGES, (struct tree_key){.a = node, .s = digest}) != NULL;
}

static bool sandbox_match(const struct map_node *node, const void *key)
{
	const struct sandbox_row *sandbox = (const void *)row_by_id(node)->value;

	return sandbox->id == *(const uint64_t *)key;
}

const struct sandbox_row *state_sandbox(const struct state *s, uint64_t id)
{
	const struct map_node *node = map_find(&s->sandbox_ids, map_hash_u64(id), sandbox_match, &id);

	return node == NULL ? NULL : (const void *)row_by_id(node)->value;
}

static bool identifier_match(const struct map_node *node, const void *key)
{
	const struct session_row *session = (const void *)row_by_name(node)->value, *wanted = key;

	return session->pool == wanted->pool && str_eq(session->identifier, wanted->identifier);
}

const struct session_row *state_session(const struct state *s, uint64_t pool, struct str identifier)
{
	struct session_row wanted = {.pool = pool, .identifier = identifier};
	const struct map_node *node =
		map_find(&s->identifiers, store_identifier_hash(pool, identifier), identifier_match, &wanted);

	return node == NULL ? NULL : (const void *)row_by_name(node)->value;
}

static bool generation_match(const struct map_node *node, const void *key)
{
	const struct session_row *session = (const void *)row_by_id(node)->value;

	return session->generation == *(const uint64_t *)key;
}

const struct session_row *state_session_by_generation(const struct state *s, uint64_t generation)
{
	const struct map_node *node =
		map_find(&s->generations, map_hash_u64(generation), generation_match, &generation);

	return node == NULL ? NULL : (const void *)row_by_id(node)->value;
}

struct pool_counts state_pool_counts(const struct state *s, uint64_t pool)
{
	const struct pool_live *live = store_pool_live(s, pool);

	return live == NULL ? (struct pool_counts){0} : live->counts;
}

static bool some_are_cordoned(const struct state *s)
{
	for (const struct node_row *row = NULL; (row = state_next_node(s, row)) != NULL;) {
		if (row->cordoned)
			return true;
	}
	return false;
}

uint32_t state_pool_moving(const struct state *s, uint64_t pool)
{
	uint32_t n = 0;

	for (const struct sandbox_row *row = NULL;
	     some_are_cordoned(s) && (row = state_next_ready(s, pool, row)) != NULL;)
		n += state_node(s, row->node)->cordoned;
	return n;
}

/* -- Walks ------------------------------------------------------------------------------------------------------ */

static const void *next_of_all(const struct tree *t, const void *row)
{
	const struct row *next = row == NULL ? tree_first(t) : tree_seek(t, t->key(row), true);

	return next == NULL ? NULL : next->value;
}

const struct pool_row *state_next_pool(const struct state *s, const struct pool_row *row)
{
	return next_of_all(&s->rows[KIND_POOLS], row);
}

const struct revision_row *state_next_revision(const struct state *s, uint64_t pool,
					       const struct revision_row *row)
{
	return store_next(&s->rows[KIND_REVISIONS], pool, row);
}

const struct secret_row *state_next_secret(const struct state *s, uint64_t pool, const struct secret_row *row)
{
	return store_next(&s->rows[KIND_SECRETS], pool, row);
}

const struct operation_row *state_next_operation(const struct state *s, const struct operation_row *row)
{
	return next_of_all(&s->rows[KIND_OPERATIONS], row);
}

const struct node_row *state_next_node(const struct state *s, const struct node_row *row)
{
	return next_of_all(&s->rows[KIND_NODES], row);
}

const struct join_token_row *state_next_join_token(const struct state *s, const struct join_token_row *row)
{
	return next_of_all(&s->rows[KIND_JOIN_TOKENS], row);
}

const struct sandbox_row *state_next_sandbox(const struct state *s, const struct sandbox_row *row)
{
	return next_of_all(&s->rows[KIND_SANDBOXES], row);
}

const struct sandbox_row *state_next_pool_sandbox(const struct state *s, uint64_t pool,
						  const struct sandbox_row *row)
{
	return store_next(&s->rows[KIND_SANDBOXES], pool, row);
}

const struct sandbox_row *state_next_node_sandbox(const struct state *s, uint64_t node,
						  const struct sandbox_row *row)
{
	return store_next(&s->by_node, node, row);
}

const struct sandbox_row *state_next_ready(const struct state *s, uint64_t pool,
					   const struct sandbox_row *row)
{
	return store_next(&s->ready, pool, row);
}

const struct session_row *state_next_pool_session(const struct state *s, uint64_t pool,
						  const struct session_row *row)
{
	return store_next(&s->rows[KIND_SESSIONS], pool, row);
}

const struct session_row *state_next_waiter(const struct state *s, uint64_t pool,
					    const struct session_row *row)
{
	return store_next(&s->waiters, pool, row);
}

const struct bucket_row *state_next_bucket(const struct state *s, uint64_t pool, const struct bucket_row *row)
{
	return store_next(&s->rows[KIND_BUCKETS], pool, row);
}

const struct bucket_row *state_next_any_bucket(const struct state *s, const struct bucket_row *row)
{
	return next_of_all(&s->rows[KIND_BUCKETS], row);
}

const struct rate_row *state_rate(const struct state *s, uint64_t pool)
{
	return store_find(s, KIND_RATES, (struct tree_key){.a = pool});
}

const struct record_row *state_next_record(const struct state *s, const struct record_row *row)
{
	return next_of_all(&s->rows[KIND_RECORDS], row);
}

const struct correction_row *state_next_correction(const struct state *s, const struct correction_row *row)
{
	return next_of_all(&s->rows[KIND_CORRECTIONS], row);
}

const struct key_row *state_key(const struct state *s, uint64_t id)
{
	return store_find(s, KIND_KEYS, (struct tree_key){.a = id});
}

const struct key_row *state_next_key(const struct state *s, const struct key_row *row)
{
	return next_of_all(&s->rows[KIND_KEYS], row);
}

const struct key_row *state_active_key(const struct state *s, uint8_t kind)
{
	const struct key_row *row = NULL;

	while ((row = state_next_key(s, row)) != NULL && (row->kind != kind || row->state != KEY_ACTIVE)) {
	}
	return row;
}

uint32_t state_secrets_of_key(const struct state *s, uint64_t key)
{
	const struct secret_row *row = NULL;
	uint32_t n = 0;

	while ((row = next_of_all(&s->rows[KIND_SECRETS], row)) != NULL)
		n += sealed_key(row->sealed) == key;
	return n;
}

uint32_t state_images_wanted(const struct state *s, struct str *ret, uint32_t max)
{
	const struct revision_row *revision = NULL;
	const struct pool_row *pool = NULL;
	uint32_t n = 0;

	while ((pool = state_next_pool(s, pool)) != NULL) {
		while ((revision = state_next_revision(s, pool->uid, revision)) != NULL) {
			struct str digest = revision->template.digest;
			uint32_t i = 0;

			while (i < n && !str_eq(ret[i], digest))
				i++;
			if (digest.n == 0 || i < n)
				continue;
			if (n == max)
				return max + 1;
			ret[n++] = digest;
		}
	}
	return n;
}
