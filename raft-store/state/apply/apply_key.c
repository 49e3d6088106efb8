/* apply_key.c -- the cluster's keys: next -> active -> retiring -> gone.
 * A key is used only once every node that is up has it, and goes only when nothing is left that it sealed or signed; so a
 * rotation may stop anywhere and be taken up by any later leader. */
#include <errno.h>
#include <inttypes.h>

#include "wire/sealed.h"
#include "state/apply/apply.h"

const char *apply_key_fault(const struct key_put *put)
{
	if (put->sealed.n == 0)
		return "sealed: empty";
	if ((put->kind == KEY_ISSUER || put->kind == KEY_CA) && put->public_part.n == 0)
		return "public_part: empty";
	if (put->keep_ms > APPLY_DURATION_MAX)
		return "keep_ms: above a hundred years";
	return NULL;
}

static const struct key_row *put_row(struct apply *a, const struct key_put *put, uint8_t state)
{
	return store_put(a->s, KIND_KEYS,
			 &(struct key_row){.id = apply_next_id(a),
					   .kind = put->kind,
					   .state = state,
					   .sealed = put->sealed,
					   .public_part = put->public_part,
					   .created_ms = a->now_ms,
					   .since_ms = a->now_ms,
					   .keep_ms = put->keep_ms});
}

void apply_key_found(struct apply *a, const struct key_put *put)
{
	put_row(a, put, KEY_ACTIVE);
}

bool apply_sealed_is_known(const struct apply *a, struct str sealed)
{
	const struct key_row *key = state_key(a->s, sealed_key(sealed));

	return state_active_key(a->s, KEY_SECRETS) == NULL || (key != NULL && key->kind == KEY_SECRETS);
}

static const struct key_row *find(struct apply *a, uint64_t id)
{
	const struct key_row *key = state_key(a->s, id);

	if (key == NULL)
		apply_refuse(a, -ENOENT, "no key %" PRIu64, id);
	return key;
}

void apply_key_put(struct apply *a, const void *body)
{
	const struct cmd_key_put *c = body;
	const char *fault = apply_key_fault(&c->key);
	const struct key_row *key = NULL;
	unsigned n = 0;
	bool next = false;

	if (!apply_by_voter(a))
		return;
	while ((key = state_next_key(a->s, key)) != NULL) {
		n += key->kind == c->key.kind;
		next |= key->kind == c->key.kind && key->state == KEY_NEXT;
	}
	if (fault != NULL)
		apply_refuse(a, -EINVAL, "key.%s", fault);
	else if (c->key.kind == KEY_TAGS && n > 0)
		apply_refuse(a, -EINVAL, "key.kind: the key of tags does not change");
	else if (next || n >= KEYS_OF_A_KIND_MAX)
		apply_refuse(a, -EBUSY, "keys of %s are being rotated: %u of them are there",
			     key_kind_name[c->key.kind], n);
	else
		a->result->id = put_row(a, &c->key, KEY_NEXT)->id;
}

/* The first node that is up and does not have it; NULL: none. */
static const struct node_row *node_without(const struct state *s, uint64_t key)
{
	const struct node_row *node = NULL;

	while ((node = state_next_node(s, node)) != NULL &&
	       (node->state != NODE_UP || node->newest_key >= key)) {
	}
	return node;
}

static void set_state(struct apply *a, const struct key_row *key, uint8_t state)
{
	struct key_row row = *key;

	row.state = state;
	row.since_ms = a->now_ms;
	store_put(a->s, KIND_KEYS, &row);
}

void apply_key_use(struct apply *a, const void *body)
{
	const struct cmd_key *c = body;
	const struct key_row *key, *active;
	const struct node_row *node;

	if (!apply_by_voter(a) || (key = find(a, c->id)) == NULL)
		return;
	if (key->state != KEY_NEXT) {
		apply_refuse(a, -EALREADY, "key %" PRIu64 " is %s", c->id, key_state_name[key->state]);
		return;
	}
	node = node_without(a->s, c->id);
	if (node != NULL) {
		apply_refuse(a, -EAGAIN, "node %" PRIu64 " does not have key %" PRIu64 " yet", node->id,
			     c->id);
		return;
	}
	active = state_active_key(a->s, key->kind);
	if (active != NULL)
		set_state(a, active, KEY_RETIRING);
	set_state(a, key, KEY_ACTIVE);
	a->result->id = c->id;
}

/* What is still of the key; 0: nothing, it may go. */
static uint32_t uses(const struct state *s, const struct key_row *key)
{
	const struct node_row *node = NULL;
	uint32_t n = 0;

	if (key->kind == KEY_SECRETS)
		return state_secrets_of_key(s, key->id);
	while (key->kind == KEY_CA && (node = state_next_node(s, node)) != NULL)
		n += node->ca_key == key->id || node->ca_key == 0;
	return n;
}

void apply_key_retire(struct apply *a, const void *body)
{
	const struct cmd_key_retire *c = body;
	const struct key_row *key;
	uint32_t n;

	if (!apply_by_voter(a) || (key = find(a, c->id)) == NULL)
		return;
	if (key->state == KEY_ACTIVE) {
		apply_refuse(a, -EBUSY, "key %" PRIu64 " is the active one", c->id);
	} else if (key->state == KEY_RETIRING && (n = uses(a->s, key)) > 0) {
		apply_refuse(a, -EBUSY, "key %" PRIu64 ": %u %s are still of it", c->id, n,
			     key->kind == KEY_CA ? "nodes' certificates" : "secrets");
	} else if (key->state == KEY_RETIRING && !c->early && a->now_ms - key->since_ms < key->keep_ms) {
		apply_refuse(a, -EAGAIN, "key %" PRIu64 " is kept for %" PRIu64 " ms more", c->id,
			     key->keep_ms - (a->now_ms - key->since_ms));
	} else {
		a->result->id = c->id;
		store_remove(a->s, KIND_KEYS, key);
	}
}

void apply_secret_reseal(struct apply *a, const void *body)
{
	const struct cmd_secret_reseal *c = body;
	const struct secret_row *secret = state_secret(a->s, c->pool, c->name);
	const struct key_row *active = state_active_key(a->s, KEY_SECRETS);

	if (!apply_by_voter(a))
		return;
	if (secret == NULL)
		apply_refuse(a, -ENOENT, "pool %" PRIu64 " has no secret \"%.*s\"", c->pool,
			     STR_ARGS(c->name));
	else if (str_hash_stable(secret->sealed, 0) != c->was)
		apply_refuse(a, -ESTALE, "secret \"%.*s\" was changed meanwhile", STR_ARGS(c->name));
	else if (active == NULL || sealed_key(c->sealed) != active->id)
		apply_refuse(a, -ESTALE, "secret \"%.*s\": not sealed under the active key",
			     STR_ARGS(c->name));
	else
		store_put(a->s, KIND_SECRETS,
			  &(struct secret_row){.pool = c->pool, .name = c->name, .sealed = c->sealed});
}

void apply_node_keys(struct apply *a, const void *body)
{
	const struct cmd_node_keys *c = body;
	const struct node_row *node = state_node(a->s, a->command->node);
	struct node_row row;

	if (node == NULL) { /* is_new() saw to it, but nothing here relies on that */
		apply_refuse(a, -ENOENT, "no node %" PRIu64, a->command->node);
		return;
	}
	if (c->newest_key > a->cluster.counter || c->ca_key > a->cluster.counter) {
		apply_refuse(a, -EINVAL, "newest_key and ca_key: allowed up to %" PRIu64, a->cluster.counter);
		return;
	}
	row = *node;
	row.newest_key = c->newest_key;
	row.ca_key = c->ca_key;
	store_put(a->s, KIND_NODES, &row);
}
