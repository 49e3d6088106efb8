/* cluster_keys.c -- the cluster's keys as operators see them: kind, state, what is still of them, never a private part; and
 * backups, which hold them all. */
#include "arm/cluster.h"
#include "core/must.h"

static uint32_t nodes_without(const struct state *state, uint64_t key)
{
	uint32_t n = 0;

	for (const struct node_row *node = NULL; (node = state_next_node(state, node)) != NULL;)
		n += node->state == NODE_UP && node->newest_key < key;
	return n;
}

static uint32_t certificates_of(const struct state *state, uint64_t key)
{
	uint32_t n = 0;

	for (const struct node_row *node = NULL; (node = state_next_node(state, node)) != NULL;)
		n += node->ca_key == key;
	return n;
}

static void put_key(const struct call *c, json_t *to, const struct key_row *key)
{
	json_put_u64(to, "id", key->id);
	json_put_cstr(to, "kind", key_kind_name[key->kind]);
	json_put_cstr(to, "state", key_state_name[key->state]);
	json_put_time(to, "created", key->created_ms);
	json_put_time(to, "since", key->since_ms);
	if (key->state == KEY_RETIRING && key->keep_ms > 0)
		json_put_time(to, "keptUntil", key->since_ms + key->keep_ms);
	json_put_u64(to, "nodesWithout", nodes_without(c->state, key->id));
	if (key->kind == KEY_SECRETS)
		json_put_u64(to, "secrets", state_secrets_of_key(c->state, key->id));
	if (key->kind == KEY_CA)
		json_put_u64(to, "certificates", certificates_of(c->state, key->id));
	if (key->public_part.n > 0)
		json_put_str(to, "public", key->public_part);
}

void cluster_keys(struct call *c)
{
	json_t *body = json_new_object(), *value = json_put_array(body, "value");

	for (const struct key_row *key = NULL; (key = state_next_key(c->state, key)) != NULL;)
		put_key(c, json_push_object(value), key);
	call_json(c, 200, body);
}

void cluster_backup(struct call *c)
{
	struct str recipient = call_query(c, "recipient");

	if (recipient.n == 0) {
		call_error(c, 400, "InvalidRecipient",
			   "recipient: whom the backup is encrypted to is missing.");
		return;
	}
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_BACKUP;
	c->out->backup.recipient = arena_str(c->arena, recipient);
}

void cluster_rotate(struct call *c)
{
	struct str what = STR("all");
	struct err err = {0};
	json_t *body = call_body(c);

	if (body == NULL)
		return;
	if (json_get_str(body, JSON_OPTIONAL, 16, &what, &err, "what") < 0) {
		call_error(c, 400, "InvalidRequestContent", "%s.", err.message);
	} else {
		c->out->kind = ARM_TASK;
		c->out->task = ARM_TASK_ROTATE;
		c->out->rotate.what = arena_str(c->arena, what);
	}
	json_decref(body);
}
