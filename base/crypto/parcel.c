#include "crypto/parcel.h"

#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "crypto/digest.h"

#define FORMAT      1u
#define MAGIC_BYTES 8u
#define BOX_BYTES   (crypto_box_SEALBYTES + crypto_secretstream_xchacha20poly1305_KEYBYTES)
#define HEAD_BYTES  (MAGIC_BYTES + 4 + BOX_BYTES + crypto_secretstream_xchacha20poly1305_HEADERBYTES)
#define ABYTES      crypto_secretstream_xchacha20poly1305_ABYTES
#define CHUNK_MIN   (1 + ABYTES)
#define CHUNK_MAX   (1 + PARCEL_PIECE_MAX + ABYTES)
#define SUM_BYTES   4
#define PREFIX      "bpk-"

static const char magic[MAGIC_BYTES] = {'b', 'e', 'r', 't', 'h', 'p', 'c', 'l'};

struct parcel_writer {
	crypto_secretstream_xchacha20poly1305_state state;
};

struct parcel_reader {
	uint8_t identity[PARCEL_KEY_BYTES];
	parcel_taken *taken;
	void *context;
	crypto_secretstream_xchacha20poly1305_state state;
	bool opened, ended;
	struct buf in; /* less than one chunk */
};

static void put32(uint8_t to[4], uint32_t x)
{
	for (int i = 0; i < 4; i++)
		to[i] = (uint8_t)(x >> (24 - 8 * i));
}

static uint32_t get32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* -- Keys ------------------------------------------------------------------------------------------------------------ */

static void sum_of(const uint8_t key[PARCEL_KEY_BYTES], uint8_t ret[SUM_BYTES])
{
	uint8_t hash[SHA256_BYTES];

	crypto_sha256((struct str){(const char *)key, PARCEL_KEY_BYTES}, hash);
	memcpy(ret, hash, SUM_BYTES);
}

void parcel_key_text(const uint8_t key[PARCEL_KEY_BYTES], char ret[PARCEL_KEY_TEXT])
{
	uint8_t sum[SUM_BYTES];

	sum_of(key, sum);
	memcpy(ret, PREFIX, 4);
	crypto_hex(key, PARCEL_KEY_BYTES, ret + 4);
	crypto_hex(sum, SUM_BYTES, ret + 4 + 2 * PARCEL_KEY_BYTES);
}

int parcel_key_parse(struct str text, uint8_t ret[PARCEL_KEY_BYTES], struct err *err)
{
	uint8_t key[PARCEL_KEY_BYTES], sum[SUM_BYTES], expected[SUM_BYTES];

	text = str_trim(text);
	if (text.n != PARCEL_KEY_TEXT - 1 || !str_starts(text, STR(PREFIX)) ||
	    crypto_unhex(str_slice(text, 4, 4 + 2 * PARCEL_KEY_BYTES), key, sizeof key) < 0 ||
	    crypto_unhex(str_slice(text, 4 + 2 * PARCEL_KEY_BYTES, text.n), sum, sizeof sum) < 0)
		return err_set(err, -EINVAL, "recipient: expected %s and 72 hex digits", PREFIX);
	sum_of(key, expected);
	if (memcmp(sum, expected, sizeof sum) != 0)
		return err_set(err, -EINVAL,
			       "recipient: its last eight digits do not fit the others: mistyped?");
	memcpy(ret, key, sizeof key);
	return 0;
}

void parcel_key_make(uint8_t ret_public[PARCEL_KEY_BYTES], struct buf *ret_identity)
{
	uint8_t private[PARCEL_KEY_BYTES];
	char text[PARCEL_KEY_TEXT], hex[2 * PARCEL_KEY_BYTES + 1];

	must(sodium_init() >= 0);
	crypto_box_keypair(ret_public, private);
	parcel_key_text(ret_public, text);
	crypto_hex(private, sizeof private, hex);
	buf_printf(ret_identity,
		   "# Opens backups that were made for the recipient below. Keep it away from the cluster.\n"
		   "recipient = %s\nidentity = %s\n",
		   text, hex);
	crypto_wipe(private, sizeof private);
	crypto_wipe(hex, sizeof hex);
}

int parcel_identity_parse(struct str text, uint8_t ret[PARCEL_KEY_BYTES], struct err *err)
{
	struct str line, name, value;

	while (text.n > 0) {
		str_cut(text, '\n', &line, &text);
		if (str_cut(line, '=', &name, &value) && str_eq(str_trim(name), STR("identity")) &&
		    crypto_unhex(str_trim(value), ret, PARCEL_KEY_BYTES) == 0)
			return 0;
	}
	return err_set(err, -EINVAL, "identity file: no line \"identity = <64 hex digits>\"");
}

/* -- Writing --------------------------------------------------------------------------------------------------------- */

struct parcel_writer *parcel_writer_new(const uint8_t recipient[PARCEL_KEY_BYTES], struct buf *to)
{
	struct parcel_writer *w = calloc(1, sizeof *w);
	uint8_t key[crypto_secretstream_xchacha20poly1305_KEYBYTES], head[HEAD_BYTES];

	must(w != NULL && sodium_init() >= 0);
	memcpy(head, magic, sizeof magic);
	put32(head + MAGIC_BYTES, FORMAT);
	crypto_secretstream_xchacha20poly1305_keygen(key);
	must(crypto_box_seal(head + MAGIC_BYTES + 4, key, sizeof key, recipient) == 0);
	must(crypto_secretstream_xchacha20poly1305_init_push(&w->state, head + MAGIC_BYTES + 4 + BOX_BYTES,
							     key) == 0);
	crypto_wipe(key, sizeof key);
	buf_add(to, head, sizeof head);
	return w;
}

void parcel_write(struct parcel_writer *w, uint8_t kind, const void *p, size_t n, bool last, struct buf *to)
{
	uint8_t plain[1 + PARCEL_PIECE_MAX], length[4];
	unsigned char *out;

	must(n <= PARCEL_PIECE_MAX);
	plain[0] = kind;
	memcpy(plain + 1, p, n);
	put32(length, (uint32_t)(1 + n + ABYTES));
	buf_add(to, length, sizeof length);
	out = (unsigned char *)buf_reserve(to, 1 + n + ABYTES);
	if (out != NULL) {
		must(crypto_secretstream_xchacha20poly1305_push(
			     &w->state, out, NULL, plain, 1 + n, length, sizeof length,
			     last ? crypto_secretstream_xchacha20poly1305_TAG_FINAL : 0) == 0);
		to->n += 1 + n + ABYTES;
	}
	crypto_wipe(plain, 1 + n);
}

void parcel_writer_free(struct parcel_writer *w)
{
	if (w != NULL)
		crypto_wipe(w, sizeof *w);
	free(w);
}

/* -- Reading --------------------------------------------------------------------------------------------------------- */

struct parcel_reader *parcel_reader_new(const uint8_t identity[PARCEL_KEY_BYTES], parcel_taken *taken,
					void *context)
{
	struct parcel_reader *r = calloc(1, sizeof *r);

	must(r != NULL && sodium_init() >= 0);
	memcpy(r->identity, identity, sizeof r->identity);
	r->taken = taken;
	r->context = context;
	r->in = BUF_MAX(2 * (size_t)CHUNK_MAX);
	return r;
}

static int take_head(struct parcel_reader *r, const uint8_t *head, struct err *err)
{
	uint8_t public[PARCEL_KEY_BYTES], key[crypto_secretstream_xchacha20poly1305_KEYBYTES];
	int rc;

	if (memcmp(head, magic, sizeof magic) != 0)
		return err_set(err, -EBADMSG, "backup: this is none");
	if (get32(head + MAGIC_BYTES) != FORMAT)
		return err_set(err, -EPROTO, "backup: format %u; this version knows %u",
			       get32(head + MAGIC_BYTES), FORMAT);
	crypto_scalarmult_base(public, r->identity);
	rc = crypto_box_seal_open(key, head + MAGIC_BYTES + 4, BOX_BYTES, public, r->identity);
	if (rc == 0)
		rc = crypto_secretstream_xchacha20poly1305_init_pull(&r->state,
								     head + MAGIC_BYTES + 4 + BOX_BYTES, key);
	crypto_wipe(key, sizeof key);
	if (rc != 0)
		return err_set(err, -ENOKEY,
			       "backup: made for another recipient than this identity, or damaged");
	r->opened = true;
	return 0;
}

static int take_chunk(struct parcel_reader *r, const uint8_t *length, size_t n, struct err *err)
{
	uint8_t plain[1 + PARCEL_PIECE_MAX], tag = 0;
	int rc;

	if (crypto_secretstream_xchacha20poly1305_pull(&r->state, plain, NULL, &tag, length + 4, n, length,
						       4) != 0)
		return err_set(err, -EBADMSG, "backup: damaged");
	r->ended = tag == crypto_secretstream_xchacha20poly1305_TAG_FINAL;
	rc = r->taken(r->context, plain[0], plain + 1, n - CHUNK_MIN, err);
	crypto_wipe(plain, sizeof plain);
	return rc;
}

/* What is whole of `in`. Returns how much was used. */
static int take_all(struct parcel_reader *r, size_t *ret_used, struct err *err)
{
	const uint8_t *p = (const uint8_t *)r->in.p;
	size_t at = 0;

	if (!r->opened) {
		*ret_used = 0;
		if (r->in.n < HEAD_BYTES)
			return 0;
		int rc = take_head(r, p, err);

		if (rc < 0)
			return rc;
		at = HEAD_BYTES;
	}
	while (r->in.n - at >= 4) {
		size_t n = get32(p + at);

		if (r->ended)
			return err_set(err, -EBADMSG, "backup: bytes behind its end");
		if (n < CHUNK_MIN || n > CHUNK_MAX)
			return err_set(err, -EBADMSG, "backup: damaged: a piece of %zu bytes", n);
		if (r->in.n - at - 4 < n)
			break;
		int rc = take_chunk(r, p + at, n, err);

		if (rc < 0)
			return rc;
		at += 4 + n;
	}
	*ret_used = at;
	return 0;
}

int parcel_read(struct parcel_reader *r, const void *p, size_t n, struct err *err)
{
	const char *from = p;

	while (n > 0) {
		size_t part = n < CHUNK_MAX ? n : CHUNK_MAX, used;

		buf_add(&r->in, from, part);
		must(!buf_failed(&r->in));
		int rc = take_all(r, &used, err);

		if (rc < 0)
			return rc;
		buf_drop(&r->in, used);
		from += part;
		n -= part;
	}
	return 0;
}

int parcel_end(const struct parcel_reader *r, struct err *err)
{
	if (!r->ended || r->in.n > 0)
		return err_set(err, -EBADMSG,
			       r->ended ? "backup: bytes behind its end"
					: "backup: cut off: its end is missing");
	return 0;
}

void parcel_reader_free(struct parcel_reader *r)
{
	if (r == NULL)
		return;
	buf_done(&r->in);
	crypto_wipe(r, sizeof *r);
	free(r);
}
