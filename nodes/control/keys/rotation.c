#include "control/keys/rotation.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "control/api/api.h"
#include "control/keys/secrets.h"
#include "core/log.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "json/build.h"
#include "state/command.h"
#include "wire/sealed.h"

#define EACH_MS    1000
#define ANSWER_MS  5000
#define RESEAL_MAX 64 /* secrets in one step */

_Static_assert(KEYS_ISSUER_KEPT_MS >= (TOKEN_LIFE_MAX_S + TOKEN_SKEW_S) * 1000ull,
	       "a former issuer's tokens live longer than its key");

/* -- The leader's steps ---------------------------------------------------------------------------------------------------- */

static void propose(struct control *c, uint8_t type, const void *body, uint64_t now)
{
	struct address nobody = {ADDRESS_CONTROL, c->config.node_id, 0};

	proposer_submit(c->proposer, type, body, &nobody, 0, now + ANSWER_MS);
}

static bool all_have(const struct state *state, uint64_t key)
{
	const struct node_row *node = NULL;

	while ((node = state_next_node(state, node)) != NULL) {
		if (node->state == NODE_UP && node->newest_key < key)
			return false;
	}
	return true;
}

static void reseal_one(struct control *c, const struct pool_row *pool, const struct secret_row *secret,
		       uint64_t now)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct cmd_secret_reseal body = {.pool = pool->uid, .name = secret->name};
	const struct keyring *ring = keys_secrets(c->keys);
	struct str plain = STR_NONE;
	struct err err = {0};
	int r = secrets_open(ring, c->state, pool->uid, secret->name, &arena, &plain, &err);

	if (r == 0)
		r = secrets_seal(ring, secrets_pool_id(pool, &arena), secret->name, plain, &arena,
				 &body.sealed, &err);
	if (plain.n > 0)
		crypto_wipe((char *)(uintptr_t)plain.p, plain.n);
	body.was = str_hash_stable(secret->sealed, 0);
	if (r < 0)
		log_error("a secret of pool %" PRIu64 " cannot be sealed anew: %s", pool->uid, err.message);
	else
		propose(c, COMMAND_SECRET_RESEAL, &body, now);
}

/* Those that are not sealed under the active key. False: none is left. */
static bool reseal(struct control *c, uint64_t now)
{
	const struct key_row *active = state_active_key(c->state, KEY_SECRETS);
	unsigned n = 0;

	for (const struct pool_row *pool = NULL; (pool = state_next_pool(c->state, pool)) != NULL;) {
		const struct secret_row *secret = NULL;

		while ((secret = state_next_secret(c->state, pool->uid, secret)) != NULL) {
			if (sealed_key(secret->sealed) == active->id)
				continue;
			if (n++ == RESEAL_MAX)
				return true;
			reseal_one(c, pool, secret, now);
		}
	}
	return n > 0;
}

static bool certificates_left(const struct state *state, uint64_t key)
{
	const struct node_row *node = NULL;

	while ((node = state_next_node(state, node)) != NULL) {
		if (node->ca_key == key || node->ca_key == 0)
			return true;
	}
	return false;
}

static bool is_used(struct control *c, const struct key_row *key, uint64_t now)
{
	switch ((enum key_kind)key->kind) {
	case KEY_SECRETS:
		return reseal(c, now);
	case KEY_CA:
		return certificates_left(c->state, key->id);
	case KEY_ISSUER:
	case KEY_TAGS:
	case KEY_KINDS:
		break;
	}
	return false;
}

static void step(struct control *c, const struct key_row *key, uint64_t now)
{
	uint64_t time = state_cluster(c->state)->time_ms;

	if (key->state == KEY_NEXT && all_have(c->state, key->id)) {
		log_info("key %" PRIu64 " of kind %s is used from now on", key->id, key_kind_name[key->kind]);
		propose(c, COMMAND_KEY_USE, &(struct cmd_key){key->id}, now);
	} else if (key->state == KEY_RETIRING && !is_used(c, key, now) &&
		   time - key->since_ms >= key->keep_ms) {
		log_info("key %" PRIu64 " of kind %s is removed: nothing of it is left", key->id,
			 key_kind_name[key->kind]);
		propose(c, COMMAND_KEY_RETIRE, &(struct cmd_key_retire){.id = key->id}, now);
	}
}

void rotation_tick(struct control *c, uint64_t boot_ms)
{
	const struct key_row *key = NULL;

	if (!c->leads || c->ring == NULL || boot_ms < c->rotated_ms || !control_caught_up(c))
		return;
	c->rotated_ms = boot_ms + EACH_MS;
	while ((key = state_next_key(c->state, key)) != NULL)
		step(c, key, boot_ms);
}

/* -- An operator's request --------------------------------------------------------------------------------------------------- */

struct wanted {
	uint8_t kinds[KEY_KINDS];
	unsigned n, done;
	uint64_t ids[KEY_KINDS];
};

static void refuse(struct api_call *call, int status, const char *code, struct str message)
{
	struct arm_reply reply = {0};

	arm_reply_error(&reply, status, code, "%.*s", STR_ARGS(message));
	api_finish(call, &reply);
}

static void answer(struct api_call *call, const struct wanted *w)
{
	json_t *body = json_new_object(), *list = json_put_array(body, "value");
	CLEANUP_BUF struct buf text = {0};
	struct arm_reply reply = {0};

	for (unsigned i = 0; i < w->n; i++) {
		json_t *one = json_push_object(list);

		json_put_u64(one, "id", w->ids[i]);
		json_put_cstr(one, "kind", key_kind_name[w->kinds[i]]);
	}
	json_print(&text, body, false);
	json_decref(body);
	arm_reply_text(&reply, 202, "application/json", buf_str(&text));
	api_finish(call, &reply);
}

static void next(struct api_call *call);

static void kept(struct api_call *call, const struct msg_proposed *result)
{
	struct wanted *w = (struct wanted *)(uintptr_t)call->held;

	if (result->code != 0) {
		refuse(call, result->code == -EBUSY ? 409 : 503,
		       result->code == -EBUSY ? "RotationUnderWay" : "ServiceUnavailable",
		       result->message.n > 0 ? result->message : STR("the cluster did not answer in time"));
		return;
	}
	w->ids[w->done++] = result->id;
	next(call);
}

static void next(struct api_call *call)
{
	struct wanted *w = (struct wanted *)(uintptr_t)call->held;
	struct control *c = api_control(call->api);
	struct cmd_key_put body = {0};
	struct err err = {0};

	if (w->done == w->n) {
		answer(call, w);
		return;
	}
	if (keys_make(c->ring, state_cluster(c->state)->id, w->kinds[w->done], &call->arena, &body.key,
		      &err) < 0) {
		refuse(call, 503, "KeyNotMade", str_of(err.message));
		return;
	}
	log_info("a new key of kind %s was asked for", key_kind_name[w->kinds[w->done]]);
	api_propose(call, COMMAND_KEY_PUT, &body, kept);
}

void rotation_run(struct api_call *call)
{
	static const uint8_t kinds[] = {KEY_SECRETS, KEY_ISSUER, KEY_CA};
	struct control *c = api_control(call->api);
	struct str what = call->outcome.rotate.what;
	struct wanted *w = arena_alloc(&call->arena, sizeof *w);

	must(w != NULL);
	*w = (struct wanted){0};
	for (size_t i = 0; i < sizeof kinds; i++) {
		if (str_eq(what, STR("all")) || str_eq(what, str_of(key_kind_name[kinds[i]])))
			w->kinds[w->n++] = kinds[i];
	}
	call->held = w;
	if (w->n == 0)
		refuse(call, 400, "InvalidKind", STR("what: secrets, issuer, ca or all"));
	else if (c->ring == NULL)
		refuse(call, 403, "NotAVoter",
		       STR("This node is a worker: it does not hold the key ring. Ask at a voter."));
	else
		next(call);
}
