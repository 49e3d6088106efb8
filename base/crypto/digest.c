#include "crypto/digest.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "core/must.h"

void crypto_random(void *p, size_t n)
{
	must(sodium_init() >= 0);
	randombytes_buf(p, n);
}

void crypto_sha256(struct str s, uint8_t ret[SHA256_BYTES])
{
	crypto_hash_sha256(ret, (const unsigned char *)s.p, s.n);
}

void crypto_hex(const void *p, size_t n, char *ret)
{
	sodium_bin2hex(ret, 2 * n + 1, p, n);
}

int crypto_unhex(struct str hex, void *ret, size_t n)
{
	size_t got;

	if (hex.n != 2 * n || sodium_hex2bin(ret, n, hex.p, hex.n, NULL, &got, NULL) != 0 || got != n)
		return -EINVAL;
	return 0;
}

static void uuid_text(uint8_t bytes[16], unsigned version, char ret[UUID_TEXT_SIZE])
{
	char hex[33];

	bytes[6] = (uint8_t)((bytes[6] & 0x0f) | version << 4);
	bytes[8] = (bytes[8] & 0x3f) | 0x80;
	crypto_hex(bytes, 16, hex);
	for (int i = 0, from = 0; i < UUID_TEXT_SIZE - 1; i++)
		ret[i] = i == 8 || i == 13 || i == 18 || i == 23 ? '-' : hex[from++];
	ret[UUID_TEXT_SIZE - 1] = '\0';
}

void crypto_uuid(char ret[UUID_TEXT_SIZE])
{
	uint8_t bytes[16];

	crypto_random(bytes, sizeof bytes);
	uuid_text(bytes, 4, ret);
}

void crypto_identifier_tag(const uint8_t key[32], struct str identifier, char ret[IDENTIFIER_TAG_SIZE])
{
	uint8_t hash[crypto_generichash_BYTES_MIN];

	crypto_generichash(hash, sizeof hash, (const unsigned char *)identifier.p, identifier.n, key, 32);
	crypto_hex(hash, 8, ret);
}

void crypto_wipe(void *p, size_t n)
{
	sodium_memzero(p, n);
}
