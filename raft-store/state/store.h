/* store.h -- the tables behind state.h: the only place that changes rows, their hash maps, counts and the hash.
 *
 * A row is changed by putting a whole new one: struct session_row r = *old; r.state = ...; store_put(s, KIND_SESSIONS, &r).
 * Replaced and removed rows stay readable until store_begin(), so pointers into the tables hold during one entry and
 * a walk that seeks from its last row may change the tables on its way.
 * Thread: the control loop. Without memory the program ends (must). */
#ifndef STATE_STORE_H
#define STATE_STORE_H

#include "core/map.h"
#include "state/state.h"
#include "state/tree.h"

/* Every tree of rows; a snapshot holds them in this order, so that a row comes after what it refers to. */
enum kind {
	KIND_CLUSTER,
	KIND_NODES,
	KIND_IMAGES,
	KIND_POOLS,
	KIND_REVISIONS,
	KIND_SECRETS,
	KIND_OPERATIONS,
	KIND_SANDBOXES,
	KIND_SESSIONS,
	KIND_RATES,
	KIND_BUCKETS,
	KIND_RECORDS,
	KIND_CORRECTIONS,
	KIND_RESULTS,
	KIND_KEYS,
	KIND_JOIN_TOKENS,
	KINDS
};

/* The result of an executed command, kept to answer a repetition. */
struct result_row {
	uint64_t node, sequence;
	struct result result;
};

struct kind_type {
	const struct codec_type *codec;
	struct tree_key (*key)(const void *value);
	uint8_t table;
	bool silent; /* changes are not reported */
};
extern const struct kind_type kind_types[KINDS];

/* Numbers of one pool that nobody should count; not replicated, follows the rows. */
struct pool_live {
	struct map_node by_uid;
	uint64_t uid;
	struct pool_counts counts;
};

struct state {
	struct tree rows[KINDS];
	uint64_t sums[KINDS]; /* of the rows' hashes */
	/* more orders over the same rows */
	struct tree ready;   /* ready sandboxes by (pool, id) */
	struct tree waiters; /* waiting sessions by (pool, generation) */
	struct tree by_node; /* sandboxes by (node, id) */
	struct map pool_names, pool_lives, sandbox_ids, generations, identifiers;
	uint64_t index;
	struct row **replaced; /* dropped by store_begin */
	size_t n_replaced, replaced_max;
	struct change *changes;
	size_t n_changes, changes_max;
	struct buf encoded; /* scratch for hashing */
	struct arena arena; /* of the entry and its results */
};

void store_init(struct state *s);
void store_done(struct state *s);
/* Before each entry: forgets the last one's changes, replaced rows and memory. */
void store_begin(struct state *s);

/* A copy of *value becomes the row of its key. Returns the row's struct. */
const void *store_put(struct state *s, enum kind kind, const void *value);
/* As store_put, without a change being reported. */
const void *store_put_silent(struct state *s, enum kind kind, const void *value);
/* The row that `value` is the struct of. */
void store_remove(struct state *s, enum kind kind, const void *value);

/* NULL: none. */
const void *store_find(const struct state *s, enum kind kind, struct tree_key key);
/* The row behind `row` (the first for NULL) among those whose key starts with `a`. */
const void *store_next(const struct tree *t, uint64_t a, const void *row);
struct pool_live *store_pool_live(const struct state *s, uint64_t uid);
uint64_t store_pool_name_hash(struct str subscription, struct str group, struct str name);
uint64_t store_identifier_hash(uint64_t pool, struct str identifier);
/* Of a freshly made row; what its content adds to the sum. */
uint64_t store_row_hash(struct buf *scratch, enum kind kind, const void *value);

#endif
