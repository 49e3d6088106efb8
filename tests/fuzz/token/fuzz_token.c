/* Bearer tokens. The first byte says what the rest is: a text in the place of a token, with or without its scheme; a text in
 * base64url; or a header and claims, a NUL between them, which are signed here with the right key, so that what lies
 * behind the signature is reached too. Holds: a text that nobody signed is refused; claims that are taken are within their
 * bounds, terminated and not over; base64url has one form of each text; nothing of a refused token comes out. */
#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "core/must.h"
#include "gateway/token/base64url.h"
#include "gateway/token/token.h"

#define NOW 1700000000u

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static EVP_PKEY *key;
static struct token_keys *keys;

/* The same key each time, so that a corpus may hold whole tokens. */
static void once(void)
{
	static const unsigned char seed[32] = "a key of the fuzzer's and no one";
	struct err err = {0};
	BIO *bio;
	char *p;

	if (keys)
		return;
	key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, seed, sizeof seed);
	bio = BIO_new(BIO_s_mem());
	must(key && bio && PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) == 1);
	long n = BIO_get_mem_data(bio, &p);
	must(token_keys_new((struct str){p, (size_t)n}, STR_NONE, "https://issuer", "https://m.example",
			    &keys, &err) == 0);
	BIO_free(bio);
}

static bool ends_within(const char *text, size_t size)
{
	return memchr(text, 0, size) != NULL;
}

static int check(struct str token, enum token_plane plane)
{
	static const struct token_claims blank;
	struct token_claims c = blank;
	struct err err = {0};
	int r = token_verify(keys, token, plane, NOW, &c, &err);

	if (r) {
		must(r == -EACCES && err.message[0] && !c.subject[0] && !c.expires_s && !c.n_roles);
		return r;
	}
	must(c.n_roles <= TOKEN_ROLES_MAX && c.expires_s > NOW && ends_within(c.subject, sizeof c.subject));
	for (unsigned i = 0; i < c.n_roles; i++) {
		must(ends_within(c.roles[i].role, sizeof c.roles[i].role));
		must(ends_within(c.roles[i].scope, sizeof c.roles[i].scope) && c.roles[i].scope[0] == '/');
		must(token_has_role(&c, str_of(c.roles[i].role), str_of(c.roles[i].scope)));
	}
	token_has_role(&c, STR(TOKEN_ROLE_EXECUTOR), STR("/subscriptions/s/resourceGroups/g"));
	struct token_claims late = blank;
	must(token_verify(keys, token, plane, c.expires_s, &late, &err) == -EACCES);
	return 0;
}

static void check_unsigned(struct str text)
{
	struct str token = text;

	/* the corpus and what comes of it may hold whole tokens: then the signature is ours, and all is well */
	token_of_header(text, &token);
	must(token.n <= text.n);
	check(token, TOKEN_DATA);
}

static void check_signed(struct str header, struct str claims)
{
	CLEANUP_BUF struct buf token = {.max = 1 << 20};
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char signature[64];
	size_t n = sizeof signature;

	base64url_encode(&token, header.p, header.n);
	buf_add(&token, ".", 1);
	base64url_encode(&token, claims.p, claims.n);
	must(!buf_failed(&token) && ctx && EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1);
	must(EVP_DigestSign(ctx, signature, &n, (const unsigned char *)token.p, token.n) == 1);
	EVP_MD_CTX_free(ctx);
	buf_add(&token, ".", 1);
	base64url_encode(&token, signature, n);
	int data = check(buf_str(&token), TOKEN_DATA);
	check(buf_str(&token), TOKEN_MANAGEMENT);
	if (data == 0) { /* one other bit anywhere in it, and it is nobody's */
		token.p[claims.n % token.n] ^= 1;
		must(check(buf_str(&token), TOKEN_DATA) == -EACCES);
	}
}

static void check_base64url(struct str text)
{
	CLEANUP_BUF struct buf bytes = {.max = 1 << 20}, back = {.max = 1 << 20};

	base64url_encode(&back, text.p, text.n);
	must(base64url_decode(buf_str(&back), &bytes) == 0 && str_eq(buf_str(&bytes), text));
	buf_clear(&bytes);
	buf_clear(&back);
	if (base64url_decode(text, &bytes))
		return;
	base64url_encode(&back, bytes.p, bytes.n);
	must(str_eq(buf_str(&back), text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct str header, claims, text = {(const char *)data + 1, size - 1};

	if (size < 1 || size > 3 * TOKEN_BYTES_MAX)
		return 0;
	once();
	if (data[0] % 4 == 0) {
		check_unsigned(text);
	} else if (data[0] % 4 == 1) {
		check_base64url(text);
	} else {
		str_cut(text, '\0', &header, &claims);
		check_signed(header, claims);
	}
	return 0;
}
