#include "keys/keys.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "crypto/digest.h"

struct keys {
	const struct keyring *ring;
	uint64_t newest;
	struct keyring *secrets; /* NULL: none could be opened */
	struct buf issuer, ca_key, ca_cert, ca_bundle;
	struct buf issuers[KEYS_OF_A_KIND_MAX]; /* public parts */
	unsigned n_issuers;
	uint8_t tag[KEYS_TAG_BYTES];
	bool has_tag;
};

static void wipe(struct buf *b)
{
	if (b->p != NULL)
		crypto_wipe(b->p, b->n);
	buf_done(b);
}

struct keys *keys_new(const struct keyring *ring)
{
	struct keys *k = calloc(1, sizeof *k);

	must(k != NULL);
	k->ring = ring;
	return k;
}

static void forget(struct keys *k)
{
	keyring_free(k->secrets);
	wipe(&k->issuer);
	wipe(&k->ca_key);
	buf_done(&k->ca_cert);
	buf_done(&k->ca_bundle);
	for (unsigned i = 0; i < k->n_issuers; i++)
		buf_done(&k->issuers[i]);
	crypto_wipe(k->tag, sizeof k->tag);
}

void keys_free(struct keys *k)
{
	if (k == NULL)
		return;
	forget(k);
	free(k);
}

/* -- Taking over ---------------------------------------------------------------------------------------------------- */

static int take_secret(struct keys *k, const struct key_row *row, struct str part)
{
	int r;

	if (part.n != KEYRING_KEY_BYTES)
		return -EBADMSG;
	if (k->secrets == NULL)
		k->secrets = keyring_new();
	r = keyring_add(k->secrets, row->id, (const uint8_t *)part.p);
	if (r == 0 && row->state == KEY_ACTIVE)
		keyring_use(k->secrets, row->id);
	return r;
}

static void take_public(struct keys *k, const struct key_row *row)
{
	if (row->kind == KEY_CA) {
		buf_add_str(&k->ca_bundle, row->public_part);
		if (row->state == KEY_ACTIVE)
			buf_add_str(&k->ca_cert, row->public_part);
	} else if (row->kind == KEY_ISSUER && k->n_issuers < KEYS_OF_A_KIND_MAX) {
		buf_add_str(&k->issuers[k->n_issuers++], row->public_part);
		if (row->state == KEY_ACTIVE && k->n_issuers > 1) { /* the active one first */
			struct buf last = k->issuers[k->n_issuers - 1];

			k->issuers[k->n_issuers - 1] = k->issuers[0];
			k->issuers[0] = last;
		}
	}
}

static int take_private(struct keys *k, const struct state *state, const struct key_row *row, struct err *err)
{
	struct buf part = {0};
	int r = keys_open(k->ring, state_cluster(state)->id, row->kind, row->sealed, row->public_part, &part,
			  err);

	if (r == 0 && row->kind == KEY_SECRETS)
		r = take_secret(k, row, buf_str(&part));
	if (r == 0 && row->kind == KEY_TAGS && part.n == sizeof k->tag) {
		memcpy(k->tag, part.p, sizeof k->tag);
		k->has_tag = true;
	}
	if (r == 0 && row->kind == KEY_ISSUER && row->state == KEY_ACTIVE)
		buf_add_str(&k->issuer, buf_str(&part));
	if (r == 0 && row->kind == KEY_CA && row->state == KEY_ACTIVE)
		buf_add_str(&k->ca_key, buf_str(&part));
	wipe(&part);
	return r;
}

int keys_refresh(struct keys *k, const struct state *state, struct err *err)
{
	struct keys fresh = {.ring = k->ring};
	int r, failed = 0;

	for (const struct key_row *row = NULL; (row = state_next_key(state, row)) != NULL;) {
		take_public(&fresh, row);
		r = k->ring == NULL ? 0 : take_private(&fresh, state, row, failed == 0 ? err : NULL);
		if (failed == 0)
			failed = r;
		if (failed == 0)
			fresh.newest = row->id;
	}
	forget(k);
	*k = fresh;
	crypto_wipe(&fresh, sizeof fresh);
	return failed;
}

/* -- What there is -------------------------------------------------------------------------------------------------- */

uint64_t keys_newest(const struct keys *k)
{
	return k->newest;
}

const struct keyring *keys_secrets(const struct keys *k)
{
	return k->secrets;
}

struct str keys_issuer(const struct keys *k)
{
	return buf_str(&k->issuer);
}

struct str keys_issuer_public(const struct keys *k, unsigned i)
{
	return i < k->n_issuers ? buf_str(&k->issuers[i]) : STR_NONE;
}

struct str keys_ca_cert(const struct keys *k)
{
	return buf_str(&k->ca_cert);
}

struct str keys_ca_key(const struct keys *k)
{
	return buf_str(&k->ca_key);
}

struct str keys_ca_bundle(const struct keys *k)
{
	return buf_str(&k->ca_bundle);
}

const uint8_t *keys_tag(const struct keys *k)
{
	return k->has_tag ? k->tag : NULL;
}
