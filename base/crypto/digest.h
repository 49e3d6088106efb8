/* digest.h -- random bytes, SHA-256, keyed hashes and their text forms. Any thread. */
#ifndef CRYPTO_DIGEST_H
#define CRYPTO_DIGEST_H

#include "core/str.h"

#define SHA256_BYTES        32
#define UUID_TEXT_SIZE      37
#define IDENTIFIER_TAG_SIZE 17

void crypto_random(void *p, size_t n);
void crypto_sha256(struct str s, uint8_t ret[SHA256_BYTES]);
/* Lower-case hex with a NUL: 2 * n + 1 bytes. */
void crypto_hex(const void *p, size_t n, char *ret);
/* -EINVAL unless `hex` is exactly 2 * n digits. */
int crypto_unhex(struct str hex, void *ret, size_t n);
/* A random version 4 UUID (RFC 9562). */
void crypto_uuid(char ret[UUID_TEXT_SIZE]);
/* What logs, metrics and traces show of a session identifier: 16 hex digits of its keyed hash. */
void crypto_identifier_tag(const uint8_t key[32], struct str identifier, char ret[IDENTIFIER_TAG_SIZE]);
/* Overwrites memory that held a secret. */
void crypto_wipe(void *p, size_t n);

#endif
