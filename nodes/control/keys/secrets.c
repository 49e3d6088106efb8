#include "control/keys/secrets.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>

#include "crypto/digest.h"

struct str secrets_pool_id(const struct pool_row *pool, struct arena *arena)
{
	struct str id = arena_printf(
		arena, "/subscriptions/%.*s/resourcegroups/%.*s/providers/microsoft.app/sessionpools/%.*s",
		STR_ARGS(pool->subscription), STR_ARGS(pool->resource_group), STR_ARGS(pool->name));

	for (size_t i = 0; i < id.n; i++)
		((char *)(uintptr_t)id.p)[i] = (char)tolower((unsigned char)id.p[i]);
	return id;
}

static struct str associated_data(struct str pool_id, struct str name, struct arena *arena)
{
	return arena_printf(arena, "%.*s/%.*s", STR_ARGS(pool_id), STR_ARGS(name));
}

static int no_keys(struct err *err)
{
	return err_set(err, -ENOKEY, "this node does not have the cluster's keys");
}

int secrets_seal(const struct keyring *ring, struct str pool_id, struct str name, struct str plain,
		 struct arena *arena, struct str *ret, struct err *err)
{
	CLEANUP_BUF struct buf sealed = {0};
	int r = ring == NULL ? no_keys(err)
			     : keyring_seal(ring, plain, associated_data(pool_id, name, arena), &sealed, err);

	if (r < 0)
		return r;
	*ret = arena_str(arena, buf_str(&sealed));
	return ret->p == NULL ? err_set(err, -ENOMEM, "no memory") : 0;
}

int secrets_open(const struct keyring *ring, const struct state *state, uint64_t pool, struct str name,
		 struct arena *arena, struct str *ret, struct err *err)
{
	const struct pool_row *row = state_pool(state, pool);
	const struct secret_row *secret = row == NULL ? NULL : state_secret(state, pool, name);
	CLEANUP_BUF struct buf plain = {0};

	if (secret == NULL)
		return err_set(err, -ENOENT, "the pool has no secret \"%.*s\"", STR_ARGS(name));
	int r = ring == NULL ? no_keys(err)
			     : keyring_open(ring, secret->sealed,
					    associated_data(secrets_pool_id(row, arena), name, arena), &plain,
					    err);

	if (r < 0)
		return err_wrap(err, "secret \"%.*s\"", STR_ARGS(name));
	*ret = arena_str(arena, buf_str(&plain));
	if (plain.p != NULL)
		crypto_wipe(plain.p, plain.n);
	return ret->p == NULL ? err_set(err, -ENOMEM, "no memory") : 0;
}

const struct str *secrets_value(const struct msg_unsealed *secrets, struct str name)
{
	for (uint32_t i = 0; i < secrets->n_values; i++) {
		if (str_eq(secrets->values[i].name, name))
			return &secrets->values[i].value;
	}
	return NULL;
}

void secrets_wipe(struct msg_unsealed *secrets)
{
	for (uint32_t i = 0; i < secrets->n_values; i++) {
		if (secrets->values[i].value.n > 0)
			crypto_wipe((void *)(uintptr_t)secrets->values[i].value.p,
				    secrets->values[i].value.n);
	}
	secrets->n_values = 0;
}

static int add(const struct keyring *ring, const struct state *state, uint64_t pool, struct str name,
	       struct arena *arena, struct msg_unsealed *to, struct err *err)
{
	struct secret_value *value = &to->values[to->n_values];
	int r = secrets_open(ring, state, pool, name, arena, &value->value, err);

	if (r < 0)
		return r;
	value->name = name;
	to->n_values++;
	return 0;
}

int secrets_of_env(const struct keyring *ring, const struct state *state, uint64_t pool,
		   const struct env_var *env, uint32_t n, struct arena *arena, struct msg_unsealed *ret,
		   struct err *err)
{
	size_t bytes = 0;

	*ret = (struct msg_unsealed){.values = arena_array(arena, n + 1u, sizeof *ret->values)};
	if (ret->values == NULL)
		return err_set(err, -ENOMEM, "no memory");
	for (uint32_t i = 0; i < n; i++) {
		if (env[i].secret_ref.n == 0 || secrets_value(ret, env[i].secret_ref) != NULL)
			continue;
		int r = add(ring, state, pool, env[i].secret_ref, arena, ret, err);

		if (r < 0)
			return err_wrap(err, "environment variable %.*s", STR_ARGS(env[i].name));
		bytes += ret->values[ret->n_values - 1].value.n;
		if (bytes > UNSEALED_BYTES_MAX)
			return err_set(err, -E2BIG, "its secrets have more than %u bytes together",
				       UNSEALED_BYTES_MAX);
	}
	return 0;
}

int secrets_of_image(const struct keyring *ring, const struct state *state,
		     const struct revision_row *revision, struct arena *arena, struct msg_unsealed *ret,
		     struct err *err)
{
	*ret = (struct msg_unsealed){.values = arena_array(arena, 1, sizeof *ret->values)};
	if (ret->values == NULL)
		return err_set(err, -ENOMEM, "no memory");
	if (revision == NULL || !template_credentials_apply(&revision->template) ||
	    revision->template.registry.password_secret.n == 0)
		return 0;
	return add(ring, state, revision->pool, revision->template.registry.password_secret, arena, ret, err);
}

int secrets_fill_env(const struct msg_unsealed *secrets, struct env_var **env, uint32_t n,
		     struct arena *arena, struct err *err)
{
	struct env_var *copy = n == 0 ? NULL : arena_array(arena, n, sizeof *copy);

	if (n == 0)
		return 0;
	if (copy == NULL)
		return err_set(err, -ENOMEM, "no memory");
	memcpy(copy, *env, n * sizeof *copy);
	for (uint32_t i = 0; i < n; i++) {
		const struct str *value = secrets_value(secrets, copy[i].secret_ref);

		if (copy[i].secret_ref.n == 0)
			continue;
		if (value == NULL)
			return err_set(err, -ENOENT, "environment variable %.*s: no secret \"%.*s\"",
				       STR_ARGS(copy[i].name), STR_ARGS(copy[i].secret_ref));
		copy[i].value = *value;
		copy[i].secret_ref = STR_NONE;
	}
	*env = copy;
	return 0;
}
