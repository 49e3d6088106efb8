/* making.c -- new keys, sealed; and the file of a new cluster's first ones. */
#include <errno.h>

#include "core/fd.h"
#include "core/must.h"
#include "crypto/digest.h"
#include "crypto/pki.h"
#include "keys/keys.h"

#define FIRST_MAX   65536
#define CA_DAYS     3650
#define RANDOM_SIZE 32

static void wipe(struct buf *b)
{
	if (b->p != NULL)
		crypto_wipe(b->p, b->n);
	buf_done(b);
}

#define CLEANUP_SECRET __attribute__((cleanup(wipe)))

static void associated(struct buf *to, struct str cluster, uint8_t kind, struct str public_part)
{
	buf_printf(to, "%.*s/key/%s/", STR_ARGS(cluster), key_kind_name[kind]);
	buf_add_str(to, public_part);
}

int keys_seal(const struct keyring *ring, struct str cluster, uint8_t kind, struct str private_part,
	      struct str public_part, struct arena *arena, struct key_put *ret, struct err *err)
{
	CLEANUP_BUF struct buf place = {0}, sealed = {0};

	associated(&place, cluster, kind, public_part);
	int r = keyring_seal(ring, private_part, buf_str(&place), &sealed, err);

	if (r < 0) {
		err_wrap(err, "key of kind %s", key_kind_name[kind]);
		return r;
	}
	*ret = (struct key_put){.kind = kind,
				.sealed = arena_str(arena, buf_str(&sealed)),
				.public_part = arena_str(arena, public_part),
				.keep_ms = kind == KEY_ISSUER ? KEYS_ISSUER_KEPT_MS : 0};
	must(ret->sealed.p != NULL);
	return 0;
}

int keys_open(const struct keyring *ring, struct str cluster, uint8_t kind, struct str sealed,
	      struct str public_part, struct buf *to, struct err *err)
{
	CLEANUP_BUF struct buf place = {0};

	associated(&place, cluster, kind, public_part);
	int r = keyring_open(ring, sealed, buf_str(&place), to, err);

	if (r < 0)
		err_wrap(err, "key of kind %s", key_kind_name[kind]);
	return r;
}

static int make_parts(uint8_t kind, struct buf *private_part, struct buf *public_part, struct err *err)
{
	struct pki_request ca = {
		.common_name = "Berth cluster CA", .lifetime_s = CA_DAYS * PKI_DAY_S, .authority = true};
	uint8_t bytes[RANDOM_SIZE];
	int r;

	if (kind == KEY_SECRETS || kind == KEY_TAGS) {
		crypto_random(bytes, sizeof bytes);
		buf_add(private_part, bytes, sizeof bytes);
		crypto_wipe(bytes, sizeof bytes);
		return 0;
	}
	r = pki_make_key(private_part, err);
	if (r < 0)
		return r;
	return kind == KEY_CA ? pki_issue(&ca, buf_str(private_part), STR_NONE, STR_NONE, public_part, err)
			      : pki_public_key(buf_str(private_part), public_part, err);
}

int keys_make(const struct keyring *ring, struct str cluster, uint8_t kind, struct arena *arena,
	      struct key_put *ret, struct err *err)
{
	CLEANUP_SECRET struct buf private_part = {0};
	CLEANUP_BUF struct buf public_part = {0};
	int r = make_parts(kind, &private_part, &public_part, err);

	return r < 0 ? r
		     : keys_seal(ring, cluster, kind, buf_str(&private_part), buf_str(&public_part), arena,
				 ret, err);
}

/* -- The first keys ----------------------------------------------------------------------------------------------- */

static const struct codec_field first_fields[] = {
	CODEC_STR(struct keys_first, cluster, 64),
	CODEC_LIST(struct keys_first, keys, KEY_KINDS, &key_put_codec),
};
const struct codec_type keys_first_codec = CODEC_TYPE(struct keys_first, "first keys", first_fields);

int keys_make_first(const struct keyring *ring, struct str cluster, struct str ca_key, struct str ca_cert,
		    struct arena *arena, struct keys_first *ret, struct err *err)
{
	struct key_put *list = arena_array(arena, KEY_KINDS, sizeof *list);
	int r = 0;

	must(list != NULL);
	for (uint8_t kind = 0; r == 0 && kind < KEY_KINDS; kind++)
		r = kind == KEY_CA ? keys_seal(ring, cluster, kind, ca_key, ca_cert, arena, &list[kind], err)
				   : keys_make(ring, cluster, kind, arena, &list[kind], err);
	if (r == 0)
		*ret = (struct keys_first){.cluster = cluster, .keys = list, .n_keys = KEY_KINDS};
	return r;
}

int keys_load_first(const char *path, struct str cluster, struct arena *arena, struct keys_first *ret,
		    struct err *err)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct keys_first first;
	int r = fd_read_file(path, FIRST_MAX, &bytes, err);

	if (r == 0)
		r = codec_decode(bytes.p, bytes.n, &keys_first_codec, arena, &first, err);
	if (r < 0)
		return err_wrap(err, "first_keys %s", path);
	if (!str_eq(first.cluster, cluster))
		return err_set(err, -EBADMSG, "first_keys %s: of cluster %.*s", path,
			       STR_ARGS(first.cluster));
	*ret = first;
	return 0;
}
