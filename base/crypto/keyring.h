/* keyring.h -- seals secrets at rest: XChaCha20-Poly1305 under the newest key of a key ring file.
 *
 * The file holds one key a line, "<id> <64 hex digits>", newest last; only its owner may read it. A sealed secret is
 * one byte of version, four of key id (big endian), 24 of nonce, then ciphertext and tag. The associated data binds it to
 * its place (pool uid and secret name), so that one pool's secret cannot be pasted into another's row.
 * Any thread may use a ring that no longer changes. */
#ifndef CRYPTO_KEYRING_H
#define CRYPTO_KEYRING_H

#include "core/buf.h"
#include "core/err.h"

struct keyring;

/* -ENOENT, -EACCES (readable by others), -EINVAL with the line. */
int keyring_load(const char *path, struct keyring **ret, struct err *err);
void keyring_free(struct keyring *ring); /* wipes the keys; NULL is fine */
/* Writes a new file with one random key; -EEXIST if there is one. */
int keyring_create(const char *path, struct err *err);
/* Appends to `to`. */
int keyring_seal(const struct keyring *ring, struct str plain, struct str associated, struct buf *to,
		 struct err *err);
/* -EBADMSG: unknown key id, wrong place, or damaged. The caller wipes what it got. */
int keyring_open(const struct keyring *ring, struct str sealed, struct str associated, struct buf *to,
		 struct err *err);
/* A key derived from the oldest one for another purpose, e.g. tags of identifiers. */
void keyring_derive(const struct keyring *ring, struct str purpose, uint8_t ret[32]);

#endif
