/* secrets.h -- seals and opens what pools keep secret, and fills it into calls of sandboxd.
 * The associated data of a secret is "<pool's resource id in lower case>/<secret's name>": a ciphertext cannot be moved.
 * Borrows: the cluster's ring of keys (NULL: this node has none, -ENOKEY) and tables. Thread: the control loop. */
#ifndef CONTROL_SECRETS_H
#define CONTROL_SECRETS_H

#include "core/arena.h"
#include "crypto/keyring.h"
#include "state/state.h"
#include "wire/sandboxd.h"

/* The resource id of a pool, in lower case. */
struct str secrets_pool_id(const struct pool_row *pool, struct arena *arena);
int secrets_seal(const struct keyring *ring, struct str pool_id, struct str name, struct str plain,
		 struct arena *arena, struct str *ret, struct err *err);
/* -ENOENT with the secret's name: the pool has none of that name. -EBADMSG: it cannot be opened. */
int secrets_open(const struct keyring *ring, const struct state *state, uint64_t pool, struct str name,
		 struct arena *arena, struct str *ret, struct err *err);
/* What env[].secret_ref names, each once. -E2BIG: more than UNSEALED_BYTES_MAX. */
int secrets_of_env(const struct keyring *ring, const struct state *state, uint64_t pool,
		   const struct env_var *env, uint32_t n, struct arena *arena, struct msg_unsealed *ret,
		   struct err *err);
/* The password of the registry of a revision's image; none if it needs none. */
int secrets_of_image(const struct keyring *ring, const struct state *state,
		     const struct revision_row *revision, struct arena *arena, struct msg_unsealed *ret,
		     struct err *err);
/* NULL: not among them. */
const struct str *secrets_value(const struct msg_unsealed *secrets, struct str name);
/* Replaces each env[].secret_ref by the secret's value; *env is copied into the arena first. -ENOENT. */
int secrets_fill_env(const struct msg_unsealed *secrets, struct env_var **env, uint32_t n,
		     struct arena *arena, struct err *err);
/* Overwrites the values. */
void secrets_wipe(struct msg_unsealed *secrets);

#endif
