/* sha256.h -- a running SHA-256, ending as hex. */
#ifndef CRYPTO_SHA256_H
#define CRYPTO_SHA256_H

#include <stddef.h>

#define SHA256_HEX_SIZE 65

struct sha256;

struct sha256 *sha256_new(void);
void sha256_add(struct sha256 *s, const void *p, size_t n);
/* 64 lower-case digits and a NUL; frees s. */
void sha256_end(struct sha256 *s, char ret_hex[SHA256_HEX_SIZE]);

#endif
