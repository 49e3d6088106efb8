/* Checked tokens of one loop: two slots per bucket, the younger stays. A slot is found by the token's end, its signature,
 * and answers only for the very bytes that were checked, on the same plane: no digest of 1.2 KB a request. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"
#include "gateway/token/token.h"
#include "gateway/token/token_keys.h"

#define BUCKETS      1024
#define SLOTS        2
#define CACHE_LIFE_S 300
#define HASHED_BYTES 48 /* of a signature; only tokens that hold come in, so nobody chooses them */

struct checked {
	struct token_claims claims;
	size_t n;
	char token[];
};

struct entry {
	uint64_t keys, until_s; /* until_s 0: empty */
	enum token_plane plane;
	struct checked *checked;
};

struct token_cache {
	struct entry entries[BUCKETS][SLOTS];
};

struct token_cache *token_cache_new(void)
{
	return calloc(1, sizeof(struct token_cache));
}

static void forget(struct entry *e)
{
	if (e->checked)
		crypto_wipe(e->checked->token, e->checked->n);
	free(e->checked);
	*e = (struct entry){0};
}

void token_cache_free(struct token_cache *c)
{
	if (!c)
		return;
	for (size_t b = 0; b < BUCKETS; b++)
		for (size_t s = 0; s < SLOTS; s++)
			forget(&c->entries[b][s]);
	free(c);
}

static bool holds(const struct entry *e, struct str token, enum token_plane plane, uint64_t keys,
		  uint64_t now_s)
{
	return e->until_s > now_s && e->keys == keys && e->plane == plane &&
	       str_eq((struct str){e->checked->token, e->checked->n}, token);
}

static int keep(struct entry *e, struct str token, const struct token_claims *claims)
{
	struct checked *checked = malloc(sizeof *checked + token.n);

	if (!checked)
		return -ENOMEM;
	forget(e);
	checked->claims = *claims;
	checked->n = token.n;
	memcpy(checked->token, token.p, token.n);
	e->checked = checked;
	return 0;
}

int token_cache_verify(struct token_cache *c, const struct token_keys *k, struct str token,
		       enum token_plane plane, uint64_t now_s, const struct token_claims **ret,
		       struct err *err)
{
	uint64_t keys = token_keys_serial(k);
	struct entry *bucket, *victim;
	struct token_claims claims;
	int r;

	if (token.n > TOKEN_BYTES_MAX)
		return err_set(err, -EACCES, "token: must have 1 to %d bytes", TOKEN_BYTES_MAX);
	struct str end = str_slice(token, token.n > HASHED_BYTES ? token.n - HASHED_BYTES : 0, token.n);
	bucket = c->entries[str_hash(end) % BUCKETS];
	victim = &bucket[0];
	for (size_t s = 0; s < SLOTS; s++) {
		struct entry *e = &bucket[s];
		if (holds(e, token, plane, keys, now_s)) {
			*ret = &e->checked->claims;
			return 0;
		}
		if (e->until_s < victim->until_s)
			victim = e;
	}
	r = token_verify(k, token, plane, now_s, &claims, err);
	if (r) /* a wrong token evicts nothing */
		return r;
	if (keep(victim, token, &claims))
		return err_set(err, -ENOMEM, "token: no memory");
	victim->keys = keys;
	victim->plane = plane;
	victim->until_s = now_s + CACHE_LIFE_S < claims.expires_s ? now_s + CACHE_LIFE_S : claims.expires_s;
	*ret = &victim->checked->claims;
	return 0;
}
