/* keyring.h -- keys that seal secrets at rest: XChaCha20-Poly1305.
 *
 * A ring is a set of keys with ids. One comes from the key ring file (the master: it seals the cluster's keys in the tables),
 * one from those tables (it seals what pools keep secret). The file holds one key a line, "<id> <64 hex digits>"; only its
 * owner may read it; the last one seals. What is sealed begins as wire/sealed.h says, then 24 bytes of nonce, ciphertext and tag. The associated data
 * binds it to its place (a pool and a secret's name), so that one pool's secret cannot be pasted into another's row.
 * Any thread may use a ring that no longer changes. */
#ifndef CRYPTO_KEYRING_H
#define CRYPTO_KEYRING_H

#include "core/buf.h"
#include "core/err.h"

#define KEYRING_KEY_BYTES 32

struct keyring;

struct keyring *keyring_new(void);
void keyring_free(struct keyring *ring); /* wipes the keys; NULL is fine */
/* -ENOENT, -EACCES (readable by others), -EINVAL with the line. */
int keyring_load(const char *path, struct keyring **ret, struct err *err);
/* The same of the file's text; `path` is for messages. */
int keyring_parse(const char *path, struct str text, struct keyring **ret, struct err *err);
/* As the file has it. The caller wipes it. */
void keyring_print(const struct keyring *ring, struct buf *to);
/* -EEXIST: that id is there; -ENOBUFS: too many keys; -EINVAL: id 0. The first one added seals, until keyring_use. */
int keyring_add(struct keyring *ring, uint64_t id, const uint8_t key[KEYRING_KEY_BYTES]);
/* From now on this key seals. -ENOENT. */
int keyring_use(struct keyring *ring, uint64_t id);
/* The key that seals; 0: the ring is empty. */
uint64_t keyring_sealing(const struct keyring *ring);
/* Appends to `to`. -ENOKEY: the ring is empty. */
int keyring_seal(const struct keyring *ring, struct str plain, struct str associated, struct buf *to,
		 struct err *err);
/* -EBADMSG: unknown key id, wrong place, or damaged. The caller wipes what it got. */
int keyring_open(const struct keyring *ring, struct str sealed, struct str associated, struct buf *to,
		 struct err *err);

#endif
