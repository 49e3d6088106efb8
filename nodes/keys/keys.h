/* keys.h -- the cluster's keys as this node can use them.
 *
 * The tables hold them sealed under the key ring file of the voters. A voter opens them; a node without the file, a worker,
 * has their public parts alone. Private parts are sealed with "<cluster>/key/<kind>/<public part>" as associated data: they
 * cannot be moved to another row or cluster.
 * Owns: what it opened, and wipes it. Borrows: the ring. Thread: the control loop. */
#ifndef KEYS_KEYS_H
#define KEYS_KEYS_H

#include "crypto/keyring.h"
#include "state/state.h"

#define KEYS_TAG_BYTES      32
#define KEYS_ISSUER_KEPT_MS (25 * 3600000ull) /* longer than any token lives */

struct keys;

/* `ring` NULL: public parts alone. */
struct keys *keys_new(const struct keyring *ring);
void keys_free(struct keys *k);
/* Takes over what the tables hold now. 0, or -EBADMSG when one cannot be opened: the others are in use, and
 * keys_newest() stays below it. */
int keys_refresh(struct keys *k, const struct state *state, struct err *err);

/* The last of the keys up to which this node has all; 0: none. */
uint64_t keys_newest(const struct keys *k);
/* Seals and opens what pools keep secret. NULL: this node cannot. */
const struct keyring *keys_secrets(const struct keys *k);
/* PEM of the active issuer's private key; empty: this node cannot sign tokens. */
struct str keys_issuer(const struct keys *k);
/* PEM of the i-th issuer's public key that tokens are accepted of, the active one first; empty: no more. */
struct str keys_issuer_public(const struct keys *k, unsigned i);
/* PEM of the active CA; the key is empty on nodes that cannot issue certificates. */
struct str keys_ca_cert(const struct keys *k);
struct str keys_ca_key(const struct keys *k);
/* PEM of all CAs whose certificates are accepted: next, active and retiring ones. */
struct str keys_ca_bundle(const struct keys *k);
/* Of tags of identifiers; NULL: not known. */
const uint8_t *keys_tag(const struct keys *k);

/* -- making.c ---------------------------------------------------------------------------------------------------- */

/* A new key of the kind (enum key_kind), sealed under the ring's newest key, in the arena. */
int keys_make(const struct keyring *ring, struct str cluster, uint8_t kind, struct arena *arena,
	      struct key_put *ret, struct err *err);
/* The same of private and public parts that are there already. */
int keys_seal(const struct keyring *ring, struct str cluster, uint8_t kind, struct str private_part,
	      struct str public_part, struct arena *arena, struct key_put *ret, struct err *err);
/* Appends the private part; the caller wipes it. -EBADMSG. */
int keys_open(const struct keyring *ring, struct str cluster, uint8_t kind, struct str sealed,
	      struct str public_part, struct buf *to, struct err *err);

/* The keys of a new cluster, as `berth cluster init` makes them: a file that the first leader puts into the tables. */
struct keys_first {
	struct str cluster;
	struct key_put *keys;
	uint32_t n_keys;
};
extern const struct codec_type keys_first_codec;
/* One of each kind; CA and its certificate are given. */
int keys_make_first(const struct keyring *ring, struct str cluster, struct str ca_key, struct str ca_cert,
		    struct arena *arena, struct keys_first *ret, struct err *err);
/* -ENOENT, -EBADMSG: damaged, or of another cluster. */
int keys_load_first(const char *path, struct str cluster, struct arena *arena, struct keys_first *ret,
		    struct err *err);

#endif
