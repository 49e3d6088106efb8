#include "crypto/sha256.h"

#include <openssl/evp.h>
#include <stdio.h>

#include "core/must.h"

/* struct sha256 is OpenSSL's context under a name of our own. */
static EVP_MD_CTX *context_of(struct sha256 *s)
{
	return (EVP_MD_CTX *)(void *)s;
}

struct sha256 *sha256_new(void)
{
	EVP_MD_CTX *c = EVP_MD_CTX_new();

	must(c != NULL && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1);
	return (struct sha256 *)(void *)c;
}

void sha256_add(struct sha256 *s, const void *p, size_t n)
{
	must(EVP_DigestUpdate(context_of(s), p, n) == 1);
}

void sha256_end(struct sha256 *s, char ret_hex[SHA256_HEX_SIZE])
{
	unsigned char bytes[EVP_MAX_MD_SIZE];
	unsigned n = 0;

	must(EVP_DigestFinal_ex(context_of(s), bytes, &n) == 1 && n == 32);
	EVP_MD_CTX_free(context_of(s));
	for (unsigned i = 0; i < n; i++)
		snprintf(ret_hex + 2 * i, 3, "%02x", bytes[i]);
}
