/* Checked tokens of one loop: two slots per bucket, the younger stays. A stale or foreign entry can never answer, since the
 * whole SHA-256 of token and plane is compared. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "crypto/digest.h"
#include "gateway/token/token.h"
#include "gateway/token/token_keys.h"

#define BUCKETS      1024
#define SLOTS        2
#define CACHE_LIFE_S 300

struct entry {
	uint8_t hash[SHA256_BYTES];
	uint64_t keys, until_s; /* until_s 0: empty */
	struct token_claims *claims;
};

struct token_cache {
	struct entry entries[BUCKETS][SLOTS];
};

struct token_cache *token_cache_new(void)
{
	return calloc(1, sizeof(struct token_cache));
}

void token_cache_free(struct token_cache *c)
{
	if (!c)
		return;
	for (size_t b = 0; b < BUCKETS; b++)
		for (size_t s = 0; s < SLOTS; s++)
			free(c->entries[b][s].claims);
	free(c);
}

static void hash_of(struct str token, enum token_plane plane, uint8_t ret[SHA256_BYTES])
{
	crypto_sha256(token, ret);
	ret[0] ^= (uint8_t)plane; /* the planes' entries differ in one bit: none is the other's */
}

int token_cache_verify(struct token_cache *c, const struct token_keys *k, struct str token,
		       enum token_plane plane, uint64_t now_s, const struct token_claims **ret,
		       struct err *err)
{
	uint64_t keys = token_keys_serial(k);
	uint8_t hash[SHA256_BYTES];
	struct entry *bucket, *victim;
	int r;

	if (token.n > TOKEN_BYTES_MAX)
		return err_set(err, -EACCES, "token: must have 1 to %d bytes", TOKEN_BYTES_MAX);
	hash_of(token, plane, hash);
	bucket = c->entries[((size_t)hash[1] << 8 | hash[2]) % BUCKETS];
	victim = &bucket[0];
	for (size_t s = 0; s < SLOTS; s++) {
		struct entry *e = &bucket[s];
		if (e->until_s > now_s && e->keys == keys && memcmp(e->hash, hash, sizeof hash) == 0) {
			*ret = e->claims;
			return 0;
		}
		if (e->until_s < victim->until_s)
			victim = e;
	}
	struct token_claims claims;
	r = token_verify(k, token, plane, now_s, &claims, err);
	if (r) /* a wrong token evicts nothing */
		return r;
	if (!victim->claims)
		victim->claims = malloc(sizeof *victim->claims);
	if (!victim->claims)
		return err_set(err, -ENOMEM, "token: no memory");
	*victim->claims = claims;
	memcpy(victim->hash, hash, sizeof hash);
	victim->keys = keys;
	victim->until_s = now_s + CACHE_LIFE_S;
	if (victim->until_s > victim->claims->expires_s)
		victim->until_s = victim->claims->expires_s;
	*ret = victim->claims;
	return 0;
}
