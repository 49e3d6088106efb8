/* See ticket.h. AES-256-CBC and HMAC-SHA256 over it, which OpenSSL drives; here are the keys and their ages alone.
 * Failure mode: without random bytes no ticket is given, and the handshake goes on. */
#include "tls/ticket.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "core/clock.h"

struct ticket_key {
	unsigned char name[16], seal[32], sign[32];
};

struct ticket_keys {
	pthread_mutex_t lock;
	struct ticket_key newest, before; /* under lock */
	uint64_t made_s;                  /* of the newest; under lock */
};

static int ring_index = -1;
static pthread_once_t ring_once = PTHREAD_ONCE_INIT;

static void ring_free(void *parent, void *p, CRYPTO_EX_DATA *data, int index, long a, void *b)
{
	struct ticket_keys *ring = p;

	(void)parent, (void)data, (void)index, (void)a, (void)b;
	if (!ring)
		return;
	pthread_mutex_destroy(&ring->lock);
	OPENSSL_clear_free(ring, sizeof *ring);
}

static void ring_index_make(void)
{
	ring_index = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, ring_free);
}

static struct ticket_keys *ring_of(SSL_CTX *ctx)
{
	return SSL_CTX_get_ex_data(ctx, ring_index);
}

static bool rotate(struct ticket_keys *ring)
{
	struct ticket_key fresh;

	if (RAND_priv_bytes((unsigned char *)&fresh, sizeof fresh) != 1)
		return false;
	ring->before = ring->newest;
	ring->newest = fresh;
	ring->made_s = clock_boot_ms() / 1000;
	OPENSSL_cleanse(&fresh, sizeof fresh);
	return true;
}

/* 1: use *ret; 2: use it, and give a new ticket; 0: no such key; -1: none can be made. */
static int pick(struct ticket_keys *ring, const unsigned char *name, bool sealing, struct ticket_key *ret)
{
	int r = 1;

	pthread_mutex_lock(&ring->lock);
	if (clock_boot_ms() / 1000 - ring->made_s >= TICKET_LIFE_S && !rotate(ring))
		r = -1;
	if (r == 1 && !sealing && memcmp(name, ring->newest.name, sizeof ring->newest.name) != 0)
		r = memcmp(name, ring->before.name, sizeof ring->before.name) == 0 ? 2 : 0;
	*ret = r == 2 ? ring->before : ring->newest;
	pthread_mutex_unlock(&ring->lock);
	return r;
}

static int seal_or_open(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
			EVP_MAC_CTX *mac, int sealing)
{
	struct ticket_key key;
	int r = pick(ring_of(SSL_get_SSL_CTX(ssl)), name, sealing, &key);
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key.sign, sizeof key.sign),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){"SHA256"}, 0),
		OSSL_PARAM_construct_end()};

	if (r > 0 && sealing) {
		memcpy(name, key.name, sizeof key.name);
		if (RAND_bytes(iv, 16) != 1)
			r = -1;
	}
	if (r > 0 && (EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key.seal, iv, sealing) != 1 ||
		      EVP_MAC_CTX_set_params(mac, params) != 1))
		r = -1;
	OPENSSL_cleanse(&key, sizeof key);
	/* In 1.3 each ticket is for one use (RFC 8446, C.4): there is a new one, and its bytes acknowledge the client's
	 * last ones, for which a client without NODELAY would wait 40 ms. */
	return r == 1 && !sealing && SSL_version(ssl) == TLS1_3_VERSION ? 2 : r;
}

int ticket_keys_rotate(SSL_CTX *ctx)
{
	struct ticket_keys *ring = ring_of(ctx);

	pthread_mutex_lock(&ring->lock);
	bool made = rotate(ring);
	pthread_mutex_unlock(&ring->lock);
	return made ? 0 : -EIO;
}

int ticket_keys_attach(SSL_CTX *ctx, struct err *err)
{
	struct ticket_keys *ring = OPENSSL_zalloc(sizeof *ring); /* freed by OpenSSL, wiped */

	pthread_once(&ring_once, ring_index_make);
	if (!ring)
		return err_set(err, -ENOMEM, "TLS tickets: no memory");
	pthread_mutex_init(&ring->lock, NULL);
	bool made = rotate(ring);

	made = made && rotate(ring); /* both are drawn: a name of zeros must open nothing */
	if (!made || SSL_CTX_set_ex_data(ctx, ring_index, ring) != 1) {
		ring_free(NULL, ring, NULL, 0, 0, NULL);
		return err_set(err, -EIO, "TLS tickets: no random key");
	}
	SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, seal_or_open);
	SSL_CTX_set_timeout(ctx, TICKET_LIFE_S);
	return 0;
}
