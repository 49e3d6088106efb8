#include "crypto/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/must.h"
#include "wire/sealed.h"
#include "crypto/digest.h"

#define KEYS_MAX     64
#define FILE_MAX     65536
#define NONCE_BYTES  crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES    crypto_aead_xchacha20poly1305_ietf_ABYTES
#define HEADER_BYTES (SEALED_HEAD + NONCE_BYTES)

struct key {
	uint64_t id;
	uint8_t bytes[KEYRING_KEY_BYTES];
};

struct keyring {
	struct key keys[KEYS_MAX];
	size_t n, sealing; /* index of the key that seals */
};

struct keyring *keyring_new(void)
{
	struct keyring *ring = calloc(1, sizeof *ring);

	must(ring != NULL);
	return ring;
}

int keyring_add(struct keyring *ring, uint64_t id, const uint8_t key[KEYRING_KEY_BYTES])
{
	if (id == 0)
		return -EINVAL;
	for (size_t i = 0; i < ring->n; i++) {
		if (ring->keys[i].id == id)
			return -EEXIST;
	}
	if (ring->n == KEYS_MAX)
		return -ENOBUFS;
	ring->keys[ring->n].id = id;
	memcpy(ring->keys[ring->n].bytes, key, KEYRING_KEY_BYTES);
	ring->n++;
	return 0;
}

int keyring_use(struct keyring *ring, uint64_t id)
{
	for (size_t i = 0; i < ring->n; i++) {
		if (ring->keys[i].id == id) {
			ring->sealing = i;
			return 0;
		}
	}
	return -ENOENT;
}

uint64_t keyring_sealing(const struct keyring *ring)
{
	return ring->n == 0 ? 0 : ring->keys[ring->sealing].id;
}

/* -- The file ----------------------------------------------------------------------------------------------------- */

static int parse_line(struct keyring *ring, struct str line)
{
	uint8_t key[KEYRING_KEY_BYTES];
	struct str id, hex;
	uint64_t number;

	if (!str_cut(line, ' ', &id, &hex) || str_u64(id, UINT64_MAX, &number) < 0 ||
	    crypto_unhex(hex, key, sizeof key) < 0)
		return -EINVAL;
	int r = keyring_add(ring, number, key);

	crypto_wipe(key, sizeof key);
	return r;
}

int keyring_parse(const char *path, struct str text, struct keyring **ret, struct err *err)
{
	struct keyring *ring = keyring_new();
	struct str line;
	int number = 0;

	while (text.n > 0) {
		number++;
		str_cut(text, '\n', &line, &text);
		if (line.n > 0 && parse_line(ring, line) < 0) {
			keyring_free(ring);
			return err_set(
				err, -EINVAL,
				"key ring %s line %d: expected \"<id> <64 hex digits>\", each id once, "
				"%d keys at most",
				path, number, KEYS_MAX);
		}
	}
	if (ring->n == 0) {
		keyring_free(ring);
		return err_set(err, -EINVAL, "key ring %s: it holds no key", path);
	}
	ring->sealing = ring->n - 1;
	*ret = ring;
	return 0;
}

int keyring_load(const char *path, struct keyring **ret, struct err *err)
{
	CLEANUP_BUF struct buf text = {0};
	struct stat st;
	int r;

	if (stat(path, &st) < 0)
		return err_system(err, -errno, "key ring %s", path);
	if ((st.st_mode & 037) != 0)
		return err_set(err, -EACCES, "key ring %s: others can read it; mode 0600 or 0640 is allowed",
			       path);
	r = fd_read_file(path, FILE_MAX, &text, err);
	if (r < 0)
		return err_wrap(err, "key ring");
	r = keyring_parse(path, buf_str(&text), ret, err);
	if (text.p != NULL)
		crypto_wipe(text.p, text.n);
	return r;
}

void keyring_print(const struct keyring *ring, struct buf *to)
{
	char hex[2 * KEYRING_KEY_BYTES + 1];

	for (size_t i = 0; i < ring->n; i++) {
		crypto_hex(ring->keys[i].bytes, KEYRING_KEY_BYTES, hex);
		buf_printf(to, "%" PRIu64 " %s\n", ring->keys[i].id, hex);
	}
	crypto_wipe(hex, sizeof hex);
}

void keyring_free(struct keyring *ring)
{
	if (ring != NULL)
		crypto_wipe(ring, sizeof *ring);
	free(ring);
}

/* -- Sealing ------------------------------------------------------------------------------------------------------ */

int keyring_seal(const struct keyring *ring, struct str plain, struct str associated, struct buf *to,
		 struct err *err)
{
	if (ring->n == 0)
		return err_set(err, -ENOKEY, "seal: there is no key");
	const struct key *key = &ring->keys[ring->sealing];
	unsigned char *out = (unsigned char *)buf_reserve(to, HEADER_BYTES + plain.n + TAG_BYTES);

	if (out == NULL)
		return err_set(err, -ENOMEM, "seal: no room for %zu bytes", plain.n);
	out[0] = SEALED_VERSION;
	for (int i = 0; i < 8; i++)
		out[1 + i] = (unsigned char)(key->id >> (56 - 8 * i));
	crypto_random(out + SEALED_HEAD, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + HEADER_BYTES, NULL, (const unsigned char *)plain.p,
						   plain.n, (const unsigned char *)associated.p, associated.n,
						   NULL, out + SEALED_HEAD, key->bytes);
	to->n += HEADER_BYTES + plain.n + TAG_BYTES;
	return 0;
}

int keyring_open(const struct keyring *ring, struct str sealed, struct str associated, struct buf *to,
		 struct err *err)
{
	const unsigned char *in = (const unsigned char *)sealed.p;
	uint64_t id = sealed_key(sealed);

	if (sealed.n < HEADER_BYTES + TAG_BYTES || id == 0)
		return err_set(err, -EBADMSG, "sealed secret: not of this format");
	for (size_t k = 0; k < ring->n; k++) {
		if (ring->keys[k].id != id)
			continue;
		size_t n = sealed.n - HEADER_BYTES;
		unsigned char *out = (unsigned char *)buf_reserve(to, n);

		if (out == NULL)
			return err_set(err, -ENOMEM, "sealed secret: no room for %zu bytes", n);
		if (crypto_aead_xchacha20poly1305_ietf_decrypt(
			    out, NULL, NULL, in + HEADER_BYTES, n, (const unsigned char *)associated.p,
			    associated.n, in + SEALED_HEAD, ring->keys[k].bytes) != 0)
			return err_set(err, -EBADMSG, "sealed secret: damaged, or moved from another place");
		to->n += n - TAG_BYTES;
		return 0;
	}
	return err_set(err, -EBADMSG, "sealed secret: key %" PRIu64 " is not in the key ring", id);
}
