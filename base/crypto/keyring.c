#include "crypto/keyring.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/must.h"
#include "crypto/digest.h"

#define KEYS_MAX     64
#define VERSION      1
#define NONCE_BYTES  crypto_aead_xchacha20poly1305_ietf_NPUBBYTES
#define TAG_BYTES    crypto_aead_xchacha20poly1305_ietf_ABYTES
#define HEADER_BYTES (1 + 4 + NONCE_BYTES)

struct key {
	uint32_t id;
	uint8_t bytes[32];
};

struct keyring {
	struct key keys[KEYS_MAX];
	size_t n;
};

static int parse_line(struct keyring *ring, struct str line)
{
	struct str id, hex;
	uint64_t number;

	if (ring->n == KEYS_MAX || !str_cut(line, ' ', &id, &hex) || str_u64(id, UINT32_MAX, &number) < 0)
		return -EINVAL;
	struct key *key = &ring->keys[ring->n];

	if (crypto_unhex(hex, key->bytes, sizeof key->bytes) < 0)
		return -EINVAL;
	key->id = (uint32_t)number;
	ring->n++;
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
	r = fd_read_file(path, 65536, &text, err);
	if (r < 0)
		return err_wrap(err, "key ring");
	struct keyring *ring = calloc(1, sizeof *ring);

	must(ring != NULL);
	struct str rest = buf_str(&text), line;
	int number = 0;

	while (rest.n > 0) {
		number++;
		str_cut(rest, '\n', &line, &rest);
		if (line.n > 0 && parse_line(ring, line) < 0) {
			keyring_free(ring);
			crypto_wipe(text.p, text.n);
			return err_set(err, -EINVAL, "key ring %s line %d: expected \"<id> <64 hex digits>\"",
				       path, number);
		}
	}
	crypto_wipe(text.p, text.n);
	if (ring->n == 0) {
		keyring_free(ring);
		return err_set(err, -EINVAL, "key ring %s: it holds no key", path);
	}
	*ret = ring;
	return 0;
}

void keyring_free(struct keyring *ring)
{
	if (ring != NULL)
		crypto_wipe(ring, sizeof *ring);
	free(ring);
}

int keyring_create(const char *path, struct err *err)
{
	uint8_t key[32];
	char hex[65], line[80];

	if (access(path, F_OK) == 0)
		return err_set(err, -EEXIST, "key ring %s: it exists already", path);
	crypto_random(key, sizeof key);
	crypto_hex(key, sizeof key, hex);
	int n = snprintf(line, sizeof line, "1 %s\n", hex);
	int r = fd_write_file(path, 0600, line, (size_t)n, err);

	crypto_wipe(key, sizeof key);
	crypto_wipe(hex, sizeof hex);
	crypto_wipe(line, sizeof line);
	return r;
}

int keyring_seal(const struct keyring *ring, struct str plain, struct str associated, struct buf *to,
		 struct err *err)
{
	const struct key *key = &ring->keys[ring->n - 1];
	unsigned char *out = (unsigned char *)buf_reserve(to, HEADER_BYTES + plain.n + TAG_BYTES);

	if (out == NULL)
		return err_set(err, -ENOMEM, "seal: no room for %zu bytes", plain.n);
	out[0] = VERSION;
	for (int i = 0; i < 4; i++)
		out[1 + i] = (unsigned char)(key->id >> (24 - 8 * i));
	crypto_random(out + 5, NONCE_BYTES);
	crypto_aead_xchacha20poly1305_ietf_encrypt(out + HEADER_BYTES, NULL, (const unsigned char *)plain.p,
						   plain.n, (const unsigned char *)associated.p, associated.n,
						   NULL, out + 5, key->bytes);
	to->n += HEADER_BYTES + plain.n + TAG_BYTES;
	return 0;
}

int keyring_open(const struct keyring *ring, struct str sealed, struct str associated, struct buf *to,
		 struct err *err)
{
	const unsigned char *in = (const unsigned char *)sealed.p;
	uint32_t id = 0;

	if (sealed.n < HEADER_BYTES + TAG_BYTES || in[0] != VERSION)
		return err_set(err, -EBADMSG, "sealed secret: not of this format");
	for (int i = 0; i < 4; i++)
		id = id << 8 | in[1 + i];
	for (size_t k = 0; k < ring->n; k++) {
		if (ring->keys[k].id != id)
			continue;
		size_t n = sealed.n - HEADER_BYTES;
		unsigned char *out = (unsigned char *)buf_reserve(to, n);

		if (out == NULL)
			return err_set(err, -ENOMEM, "sealed secret: no room for %zu bytes", n);
		if (crypto_aead_xchacha20poly1305_ietf_decrypt(
			    out, NULL, NULL, in + HEADER_BYTES, n, (const unsigned char *)associated.p,
			    associated.n, in + 5, ring->keys[k].bytes) != 0)
			return err_set(err, -EBADMSG, "sealed secret: damaged, or moved from another place");
		to->n += n - TAG_BYTES;
		return 0;
	}
	return err_set(err, -EBADMSG, "sealed secret: key %u is not in the key ring", id);
}

void keyring_derive(const struct keyring *ring, struct str purpose, uint8_t ret[32])
{
	crypto_generichash(ret, 32, (const unsigned char *)purpose.p, purpose.n, ring->keys[0].bytes, 32);
}
