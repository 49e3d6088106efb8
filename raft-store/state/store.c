#include "store.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

/* -- The kinds of rows and their keys ------------------------------------------------------------------------ */

#define KEY(function, T, first, second)                                \
	static struct tree_key function(const void *value)             \
	{                                                              \
		const struct T *row = value;                           \
		(void)row;                                             \
		return (struct tree_key){.a = (first), .b = (second)}; \
	}

KEY(cluster_key, cluster_row, 0, 0)
KEY(node_key, node_row, row->id, 0)
KEY(pool_key, pool_row, row->uid, 0)
KEY(revision_key, revision_row, row->pool, row->revision)
KEY(operation_key, operation_row, row->id, 0)
KEY(sandbox_key, sandbox_row, row->pool, row->id)
KEY(sandbox_node_key, sandbox_row, row->node, row->id)
KEY(session_key, session_row, row->pool, row->generation)
KEY(rate_key, rate_row, row->pool, 0)
KEY(bucket_key, bucket_row, row->pool, row->start_ms)
KEY(record_key, record_row, row->number, 0)
KEY(correction_key, correction_row, row->number, 0)
KEY(result_key, result_row, row->node, row->sequence)
KEY(key_key, key_row, row->id, 0)

static struct tree_key image_key(const void *value)
{
	const struct image_row *row = value;

	return (struct tree_key){.a = row->node, .s = row->digest};
}

static struct tree_key secret_key(const void *value)
{
	const struct secret_row *row = value;

	return (struct tree_key){.a = row->pool, .s = row->name};
}

static struct tree_key join_token_key(const void *value)
{
	const struct join_token_row *row = value;

	return (struct tree_key){.s = row->hash};
}

static const struct codec_field result_row_fields[] = {
	CODEC_U64(struct result_row, node),
	CODEC_U64(struct result_row, sequence),
	CODEC_ONE(struct result_row, result, &result_codec),
};
static const struct codec_type result_row_codec =
	CODEC_TYPE(struct result_row, "kept result", result_row_fields);

const struct kind_type kind_types[KINDS] = {
	[KIND_CLUSTER] = {&cluster_row_codec, cluster_key, TABLE_CLUSTER, true},
	[KIND_NODES] = {&node_row_codec, node_key, TABLE_NODES, false},
	[KIND_IMAGES] = {&image_row_codec, image_key, TABLE_IMAGES, false},
	[KIND_POOLS] = {&pool_row_codec, pool_key, TABLE_POOLS, false},
	[KIND_REVISIONS] = {&revision_row_codec, revision_key, TABLE_REVISIONS, false},
	[KIND_SECRETS] = {&secret_row_codec, secret_key, TABLE_SECRETS, false},
	[KIND_OPERATIONS] = {&operation_row_codec, operation_key, TABLE_OPERATIONS, false},
	[KIND_SANDBOXES] = {&sandbox_row_codec, sandbox_key, TABLE_SANDBOXES, false},
	[KIND_SESSIONS] = {&session_row_codec, session_key, TABLE_SESSIONS, false},
	[KIND_RATES] = {&rate_row_codec, rate_key, TABLE_LEDGER, true},
	[KIND_BUCKETS] = {&bucket_row_codec, bucket_key, TABLE_LEDGER, true},
	[KIND_RECORDS] = {&record_row_codec, record_key, TABLE_LEDGER, true},
	[KIND_CORRECTIONS] = {&correction_row_codec, correction_key, TABLE_LEDGER, true},
	[KIND_RESULTS] = {&result_row_codec, result_key, TABLE_CLUSTER, true},
	[KIND_KEYS] = {&key_row_codec, key_key, TABLE_KEYS, false},
	[KIND_JOIN_TOKENS] = {&join_token_row_codec, join_token_key, TABLE_JOIN_TOKENS, false},
};

/* -- Hash maps and further orders: each row is taken out and put in here alone -------------------------------- */

static uint64_t lower_hash(struct str s, uint64_t seed)
{
	char text[256];
	size_t n = s.n < sizeof text ? s.n : sizeof text;

	for (size_t i = 0; i < n; i++)
		text[i] = (char)(s.p[i] >= 'A' && s.p[i] <= 'Z' ? s.p[i] + ('a' - 'A') : s.p[i]);
	return map_hash_u64(str_hash((struct str){text, n}) + seed * 0x9e3779b97f4a7c15u);
}

uint64_t store_pool_name_hash(struct str subscription, struct str group, struct str name)
{
	return lower_hash(name, lower_hash(group, lower_hash(subscription, 0)));
}

uint64_t store_identifier_hash(uint64_t pool, struct str identifier)
{
	return str_hash(identifier) ^ map_hash_u64(pool);
}

static void insert(struct map *m, struct map_node *node, uint64_t hash)
{
	must(map_insert(m, node, hash) == 0);
}

static void index_pool(struct state *s, struct row *row, bool add)
{
	const struct pool_row *pool = (const void *)row->value;
	struct pool_live *live;

	if (add)
		insert(&s->pool_names, &row->by_name,
		       store_pool_name_hash(pool->subscription, pool->resource_group, pool->name));
	else
		map_remove(&s->pool_names, &row->by_name);
	if (add && store_pool_live(s, pool->uid) == NULL) {
		live = calloc(1, sizeof *live);
		must(live != NULL);
		live->uid = pool->uid;
		insert(&s->pool_lives, &live->by_uid, map_hash_u64(pool->uid));
	}
}

static void index_sandbox(struct state *s, struct row *row, bool add)
{
	const struct sandbox_row *sandbox = (const void *)row->value;
	struct pool_live *live = store_pool_live(s, sandbox->pool);
	uint32_t one = add ? 1 : UINT32_MAX;

	must(live != NULL);
	if (add) {
		insert(&s->sandbox_ids, &row->by_id, map_hash_u64(sandbox->id));
		tree_put(&s->by_node, row);
	} else {
		map_remove(&s->sandbox_ids, &row->by_id);
		tree_remove(&s->by_node, sandbox_node_key(sandbox));
	}
	switch ((enum sandbox_state)sandbox->state) {
	case SANDBOX_BOOTING:
		live->counts.booting += one;
		break;
	case SANDBOX_READY:
		live->counts.ready += one;
		if (add)
			tree_put(&s->ready, row);
		else
			tree_remove(&s->ready, sandbox_key(sandbox));
		break;
	case SANDBOX_BOUND:
		live->counts.bound += one;
		break;
	case SANDBOX_STOPPING:
		live->counts.stopping += one;
		break;
	case SANDBOX_STATES:
		must(false);
	}
}

static void index_session(struct state *s, struct row *row, bool add)
{
	const struct session_row *session = (const void *)row->value;
	struct pool_live *live = store_pool_live(s, session->pool);
	uint32_t one = add ? 1 : UINT32_MAX;

	must(live != NULL);
	if (add) {
		insert(&s->generations, &row->by_id, map_hash_u64(session->generation));
		insert(&s->identifiers, &row->by_name,
		       store_identifier_hash(session->pool, session->identifier));
	} else {
		map_remove(&s->generations, &row->by_id);
		map_remove(&s->identifiers, &row->by_name);
	}
	switch ((enum session_state)session->state) {
	case SESSION_WAITING:
		live->counts.waiting += one;
		if (add)
			tree_put(&s->waiters, row);
		else
			tree_remove(&s->waiters, session_key(session));
		break;
	case SESSION_LIVE:
		live->counts.live += one;
		break;
	case SESSION_CLOSING:
		live->counts.closing += one;
		break;
	case SESSION_STATES:
		must(false);
	}
}

static void index_row(struct state *s, enum kind kind, struct row *row, bool add)
{
	if (kind == KIND_POOLS)
		index_pool(s, row, add);
	else if (kind == KIND_SANDBOXES)
		index_sandbox(s, row, add);
	else if (kind == KIND_SESSIONS)
		index_session(s, row, add);
}

static bool live_match(const struct map_node *node, const void *key)
{
	return container_of((struct map_node *)(uintptr_t)node, struct pool_live, by_uid)->uid ==
	       *(const uint64_t *)key;
}

struct pool_live *store_pool_live(const struct state *s, uint64_t uid)
{
	struct map_node *node = map_find(&s->pool_lives, map_hash_u64(uid), live_match, &uid);

	return node == NULL ? NULL : container_of(node, struct pool_live, by_uid);
}

/* -- Begin and end --------------------------------------------------------------------------------------------- */

void store_init(struct state *s)
{
	*s = (struct state){0};
	for (enum kind kind = 0; kind < KINDS; kind++)
		s->rows[kind].key = kind_types[kind].key;
	s->ready.key = sandbox_key;
	s->waiters.key = session_key;
	s->by_node.key = sandbox_node_key;
	store_put(s, KIND_CLUSTER, &(struct cluster_row){.feature_level = FEATURE_LEVEL});
	store_begin(s);
}

void store_begin(struct state *s)
{
	for (size_t i = 0; i < s->n_replaced; i++)
		row_drop(s->replaced[i]);
	s->n_replaced = 0;
	s->n_changes = 0;
	arena_done(&s->arena);
}

void store_done(struct state *s)
{
	struct map_node *node, *next;

	store_begin(s);
	for (node = map_next(&s->pool_lives, NULL); node != NULL; node = next) {
		next = map_next(&s->pool_lives, node);
		free(container_of(node, struct pool_live, by_uid));
	}
	map_done(&s->pool_lives);
	map_done(&s->pool_names);
	map_done(&s->sandbox_ids);
	map_done(&s->generations);
	map_done(&s->identifiers);
	tree_done(&s->ready);
	tree_done(&s->waiters);
	tree_done(&s->by_node);
	for (enum kind kind = 0; kind < KINDS; kind++)
		tree_done(&s->rows[kind]);
	free(s->replaced);
	free(s->changes);
	buf_done(&s->encoded);
}

/* -- Writing --------------------------------------------------------------------------------------------------- */

static void report(struct state *s, enum kind kind, const void *value, bool removed)
{
	struct tree_key key = kind_types[kind].key(value);
	struct change change = {.table = kind_types[kind].table, .key = key.a, .removed = removed};

	if (s->n_changes == s->changes_max) {
		s->changes_max = s->changes_max == 0 ? 64 : s->changes_max * 2;
		s->changes = realloc(s->changes, s->changes_max * sizeof *s->changes);
		must(s->changes != NULL);
	}
	if (kind == KIND_SANDBOXES || kind == KIND_SESSIONS || kind == KIND_REVISIONS) {
		change.key = key.b;
		change.pool = key.a;
	} else if (kind == KIND_POOLS || kind == KIND_SECRETS) {
		change.pool = key.a;
	} else if (kind == KIND_OPERATIONS) {
		change.pool = ((const struct operation_row *)value)->pool;
	}
	s->changes[s->n_changes++] = change;
}

/* Keeps the row alive until the next entry. */
static void retire(struct state *s, struct row *row)
{
	if (s->n_replaced == s->replaced_max) {
		s->replaced_max = s->replaced_max == 0 ? 64 : s->replaced_max * 2;
		s->replaced = realloc(s->replaced, s->replaced_max * sizeof(struct row *));
		must(s->replaced != NULL);
	}
	s->replaced[s->n_replaced++] = row_hold(row);
}

uint64_t store_row_hash(struct buf *scratch, enum kind kind, const void *value)
{
	buf_clear(scratch);
	codec_encode(scratch, kind_types[kind].codec, value);
	must(!buf_failed(scratch));
	return map_hash_u64(str_hash_stable(buf_str(scratch), kind));
}

const void *store_put_silent(struct state *s, enum kind kind, const void *value)
{
	struct row *old = tree_find(&s->rows[kind], kind_types[kind].key(value));
	struct row *row = row_new(kind_types[kind].codec, value);

	row->hash = store_row_hash(&s->encoded, kind, row->value);
	if (old != NULL) {
		retire(s, old);
		index_row(s, kind, old, false);
		s->sums[kind] -= old->hash;
	}
	tree_put(&s->rows[kind], row);
	s->sums[kind] += row->hash;
	index_row(s, kind, row, true);
	row_drop(row); /* the tree holds it */
	return row->value;
}

const void *store_put(struct state *s, enum kind kind, const void *value)
{
	const void *row = store_put_silent(s, kind, value);

	if (!kind_types[kind].silent)
		report(s, kind, row, false);
	return row;
}

void store_remove(struct state *s, enum kind kind, const void *value)
{
	struct row *row = tree_find(&s->rows[kind], kind_types[kind].key(value));
	struct pool_live *live;

	must(row != NULL);
	retire(s, row);
	index_row(s, kind, row, false);
	s->sums[kind] -= row->hash;
	tree_remove(&s->rows[kind], kind_types[kind].key(row->value));
	if (!kind_types[kind].silent)
		report(s, kind, row->value, true);
	if (kind == KIND_POOLS) {
		live = store_pool_live(s, ((const struct pool_row *)(const void *)row->value)->uid);
		map_remove(&s->pool_lives, &live->by_uid);
		free(live);
	}
}

/* -- Reading --------------------------------------------------------------------------------------------------- */

const void *store_find(const struct state *s, enum kind kind, struct tree_key key)
{
	const struct row *row = tree_find(&s->rows[kind], key);

	return row == NULL ? NULL : row->value;
}

const void *store_next(const struct tree *t, uint64_t a, const void *row)
{
	const struct row *next = row == NULL ? tree_seek(t, (struct tree_key){.a = a}, false)
					     : tree_seek(t, t->key(row), true);

	return next == NULL || t->key(next->value).a != a ? NULL : next->value;
}
