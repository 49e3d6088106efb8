/* Tokens: what is issued is accepted, each thing that could be wrong with one is refused, planes do not mix. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>

#include "crypto/digest.h"
#include "crypto/pki.h"
#include "gateway/token/base64url.h"
#include "gateway/token/token.h"

#define NOW   1700000000ull
#define SCOPE "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/p"

static struct token_keys *ec, *ed;
static EVP_PKEY *ec_key;
static struct err err;

static struct token_keys *keys_of(EVP_PKEY *key)
{
	BIO *bio = BIO_new(BIO_s_mem());
	struct token_keys *k;
	char *p;

	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	long n = BIO_get_mem_data(bio, &p);
	if (token_keys_new((struct str){p, (size_t)n}, STR_NONE, "https://issuer", "https://m.example/", &k,
			   &err))
		fail_msg("%s", err.message);
	BIO_free(bio);
	return k;
}

static int setup(void **state)
{
	EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");

	(void)state;
	ec_key = EVP_EC_gen("P-256");
	ec = keys_of(ec_key);
	ed = keys_of(key);
	EVP_PKEY_free(key);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	token_keys_unref(ec);
	token_keys_unref(ed);
	EVP_PKEY_free(ec_key);
	return 0;
}

static void issue(const struct token_keys *k, enum token_plane plane, struct buf *to)
{
	struct token_role role = {TOKEN_ROLE_EXECUTOR, SCOPE};
	struct token_request q = {
		.subject = STR("me"), .plane = plane, .roles = &role, .n_roles = 1, .now_s = NOW};

	buf_clear(to);
	if (token_issue(k, &q, to, &err))
		fail_msg("%s", err.message);
}

static void test_round_trip(void **state)
{
	struct token_keys *both[] = {ec, ed};
	struct buf token = {0};
	struct token_claims c;

	(void)state;
	for (int i = 0; i < 2; i++) {
		issue(both[i], TOKEN_DATA, &token);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_DATA, NOW, &c, &err), 0);
		assert_string_equal(c.subject, "me");
		assert_int_equal(c.expires_s, NOW + 3600);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_DATA, NOW + 3599, &c, &err), 0);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_DATA, NOW + 3600, &c, &err),
				 -EACCES);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_DATA, NOW - 61, &c, &err),
				 -EACCES);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_MANAGEMENT, NOW, &c, &err),
				 -EACCES);
		assert_int_equal(token_verify(both[1 - i], buf_str(&token), TOKEN_DATA, NOW, &c, &err),
				 -EACCES);
		issue(both[i], TOKEN_MANAGEMENT, &token);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_MANAGEMENT, NOW, &c, &err), 0);
		assert_int_equal(token_verify(both[i], buf_str(&token), TOKEN_DATA, NOW, &c, &err), -EACCES);
	}
	buf_done(&token);
}

/* A set that accepts a second key: both keys' tokens are taken, of one algorithm or of two; the first one signs. */
static void test_two_keys(void **state)
{
	CLEANUP_BUF struct buf pem = {0}, key = {0}, old = {0}, other = {0}, fresh = {0};
	struct token_keys *former, *both;
	struct token_claims c;

	(void)state;
	assert_int_equal(pki_make_key(&key, NULL), 0);
	assert_int_equal(token_keys_new(buf_str(&key), STR_NONE, "https://issuer", "https://m.example/",
					&former, NULL),
			 0);
	issue(former, TOKEN_DATA, &old);
	issue(ec, TOKEN_DATA, &other);
	assert_int_equal(pki_public_key(buf_str(&key), &pem, NULL), 0);
	buf_clear(&key);
	assert_int_equal(pki_make_key(&key, NULL), 0);
	assert_int_equal(
		token_keys_new(buf_str(&key), STR_NONE, "https://issuer", "https://m.example/", &both, NULL),
		0);
	assert_int_equal(token_verify(both, buf_str(&old), TOKEN_DATA, NOW, &c, &err), -EACCES);
	assert_int_equal(token_keys_add(both, STR("no key"), &err), -EINVAL);
	assert_int_equal(token_keys_add(both, buf_str(&pem), &err), 0);
	issue(both, TOKEN_DATA, &fresh);
	assert_int_equal(token_verify(both, buf_str(&old), TOKEN_DATA, NOW, &c, &err), 0);
	assert_int_equal(token_verify(both, buf_str(&fresh), TOKEN_DATA, NOW, &c, &err), 0);
	assert_int_equal(token_verify(both, buf_str(&other), TOKEN_DATA, NOW, &c, &err), -EACCES);
	assert_int_equal(token_verify(former, buf_str(&fresh), TOKEN_DATA, NOW, &c, &err), -EACCES);
	for (int i = 2; i < TOKEN_KEYS_MAX; i++)
		assert_int_equal(token_keys_add(both, buf_str(&pem), &err), 0);
	assert_int_equal(token_keys_add(both, buf_str(&pem), &err), -ENOBUFS);
	token_keys_unref(former);
	token_keys_unref(both);
}

static void test_roles(void **state)
{
	struct token_claims c = {.n_roles = 1, .roles = {{TOKEN_ROLE_EXECUTOR, ""}}};
	static const struct {
		const char *scope;
		bool covers;
	} table[] = {
		{SCOPE, true},
		{"/subscriptions/S/RESOURCEGROUPS/g", true},
		{"/subscriptions/s/", true},
		{"/", true},
		{"/subscriptions/s/resourceGroups/g2", false},
		{"/subscriptions/s/resourceGroups", true},
		{SCOPE "/x", false},
		{"/sub", false},
		{SCOPE "2", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		snprintf(c.roles[0].scope, sizeof c.roles[0].scope, "%s", table[i].scope);
		if (token_has_role(&c, STR(TOKEN_ROLE_EXECUTOR), STR(SCOPE)) != table[i].covers)
			fail_msg("%s", table[i].scope);
		assert_false(token_has_role(&c, STR("Owner"), STR(SCOPE)));
	}
	snprintf(c.roles[0].scope, sizeof c.roles[0].scope, "/");
	snprintf(c.roles[0].role, sizeof c.roles[0].role, "%s", TOKEN_ROLE_EXECUTOR_ID);
	assert_true(token_has_role(&c, STR(TOKEN_ROLE_EXECUTOR), STR(SCOPE)));
}

/* A token of our own making, rightly signed with ES256 whatever it says. */
static void forge(const char *header, const char *claims, struct buf *to)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char der[80], raw[64];
	const unsigned char *at = der;
	size_t n = sizeof der;

	buf_clear(to);
	base64url_encode(to, header, strlen(header));
	buf_add(to, ".", 1);
	base64url_encode(to, claims, strlen(claims));
	assert_int_equal(EVP_DigestSignInit(ctx, NULL, EVP_sha256(), NULL, ec_key), 1);
	assert_int_equal(EVP_DigestSign(ctx, der, &n, (unsigned char *)to->p, to->n), 1);
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &at, (long)n);
	BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32);
	BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32);
	ECDSA_SIG_free(sig);
	EVP_MD_CTX_free(ctx);
	buf_add(to, ".", 1);
	base64url_encode(to, raw, 64);
}

#define HEADER "{\"alg\":\"ES256\"}"
#define CLAIMS(iss, aud, exp, more) \
	"{\"iss\":\"" iss "\",\"sub\":\"x\",\"aud\":" aud ",\"iat\":1700000000,\"exp\":" exp more "}"
#define DATA "\"https://dynamicsessions.io\""
#define GOOD CLAIMS("https://issuer", DATA, "1700003600", "")

static void test_forgeries(void **state)
{
	static const struct {
		const char *header, *claims;
		int result;
	} table[] = {
		{HEADER, GOOD, 0},
		{HEADER, CLAIMS("https://issuer", "[\"a\"," DATA "]", "1700003600", ""), 0},
		{"{\"alg\":\"none\"}", GOOD, -EACCES},
		{"{\"alg\":\"HS256\"}", GOOD, -EACCES},
		{"{\"alg\":\"EdDSA\"}", GOOD, -EACCES},
		{"{\"alg\":\"es256\"}", GOOD, -EACCES},
		{"{}", GOOD, -EACCES},
		{"[]", GOOD, -EACCES},
		{"{\"alg\":\"ES256\",\"crit\":[]}", GOOD, -EACCES},
		{"{\"alg\":\"ES256\",\"jwk\":{}}", GOOD, -EACCES},
		{"{\"alg\":\"ES256\",\"jku\":\"https://x\"}", GOOD, -EACCES},
		{"{\"alg\":\"ES256\",\"x5u\":\"x\"}", GOOD, -EACCES},
		{"{\"alg\":\"ES256\",\"x5c\":[]}", GOOD, -EACCES},
		{"{\"alg\":\"ES256\",\"alg\":\"ES256\"}", GOOD, -EACCES},
		{HEADER, CLAIMS("https://other", DATA, "1700003600", ""), -EACCES},
		{HEADER, CLAIMS("https://issuer", "\"x\"", "1700003600", ""), -EACCES},
		{HEADER, CLAIMS("https://issuer", "[]", "1700003600", ""), -EACCES},
		{HEADER, CLAIMS("https://issuer", DATA, "1700000000", ""), -EACCES},
		{HEADER, CLAIMS("https://issuer", DATA, "\"1700003600\"", ""), -EACCES},
		{HEADER, CLAIMS("https://issuer", DATA, "1700090000", ""), -EACCES}, /* longer than a day */
		{HEADER, CLAIMS("https://issuer", DATA, "1700003600", ",\"nbf\":1700000100"), -EACCES},
		{HEADER, CLAIMS("https://issuer", DATA, "1700003600", ",\"roles\":{}"), -EACCES},
		{HEADER, CLAIMS("https://issuer", DATA, "1700003600", ",\"roles\":[{\"role\":\"r\"}]"),
		 -EACCES},
		{HEADER,
		 CLAIMS("https://issuer", DATA, "1700003600",
			",\"roles\":[{\"role\":\"r\",\"scope\":\"x\"}]"),
		 -EACCES},
		{HEADER, "{\"iss\":\"https://issuer\"}", -EACCES},
		{HEADER, "not json", -EACCES},
	};
	struct buf token = {0};
	struct token_claims c;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		forge(table[i].header, table[i].claims, &token);
		int r = token_verify(ec, buf_str(&token), TOKEN_DATA, NOW, &c, &err);
		if (r != table[i].result)
			fail_msg("%s %s: %d", table[i].header, table[i].claims, r);
	}
	buf_done(&token);
}

static void test_each_byte_matters(void **state)
{
	struct buf token = {0};
	struct token_claims c;

	(void)state;
	issue(ec, TOKEN_DATA, &token);
	for (size_t i = 0; i < token.n; i++) {
		char was = token.p[i];
		token.p[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(token_verify(ec, buf_str(&token), TOKEN_DATA, NOW, &c, NULL), -EACCES);
		token.p[i] = was;
		assert_int_equal(token_verify(ec, (struct str){token.p, i}, TOKEN_DATA, NOW, &c, NULL),
				 -EACCES);
	}
	buf_add(&token, "=", 1);
	assert_int_equal(token_verify(ec, buf_str(&token), TOKEN_DATA, NOW, &c, NULL), -EACCES);
	buf_done(&token);
}

static void test_base64url(void **state)
{
	static const char *const bad[] = {"A", "AB=", "A+==", "AB/C", "AB C", "AAAAA", "AB", "AAB"};
	struct buf b = {0}, text = {0};

	(void)state;
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (!base64url_decode(str_of(bad[i]), &b))
			fail_msg("%s", bad[i]);
	for (size_t n = 0; n < 100; n++) {
		char bytes[100];
		crypto_random(bytes, n ? n : 1);
		buf_clear(&b);
		buf_clear(&text);
		base64url_encode(&text, bytes, n);
		assert_int_equal(base64url_decode(buf_str(&text), &b), 0);
		assert_true(str_eq(buf_str(&b), (struct str){bytes, n}));
	}
	buf_done(&b);
	buf_done(&text);
}

static void test_cache(void **state)
{
	struct token_cache *cache = token_cache_new();
	const struct token_claims *c;
	struct buf token = {0};

	(void)state;
	issue(ec, TOKEN_DATA, &token);
	for (int i = 0; i < 3; i++)
		assert_int_equal(token_cache_verify(cache, ec, buf_str(&token), TOKEN_DATA, NOW, &c, &err),
				 0);
	assert_string_equal(c->subject, "me");
	assert_int_equal(token_cache_verify(cache, ec, buf_str(&token), TOKEN_MANAGEMENT, NOW, &c, &err),
			 -EACCES);
	assert_int_equal(token_cache_verify(cache, ed, buf_str(&token), TOKEN_DATA, NOW, &c, &err), -EACCES);
	assert_int_equal(token_cache_verify(cache, ec, buf_str(&token), TOKEN_DATA, NOW + 3600, &c, &err),
			 -EACCES);
	/* neither another signature nor, in front of the same one, other claims */
	size_t flips[] = {token.n - 10, token.n / 2};
	for (size_t i = 0; i < 2; i++) {
		token.p[flips[i]] ^= 1;
		assert_int_equal(token_cache_verify(cache, ec, buf_str(&token), TOKEN_DATA, NOW, &c, &err),
				 -EACCES);
		token.p[flips[i]] ^= 1;
	}
	assert_int_equal(token_cache_verify(cache, ec, buf_str(&token), TOKEN_DATA, NOW, &c, &err), 0);
	buf_done(&token);
	token_cache_free(cache);
}

static void test_bounds(void **state)
{
	static char long_token[TOKEN_BYTES_MAX + 1];
	struct token_role role = {"r", "/"};
	struct token_request q = {
		.subject = STR("me"), .roles = &role, .n_roles = 1, .now_s = NOW, .life_s = 86401};
	struct token_claims c;
	struct buf to = {0};
	struct str token;

	(void)state;
	memset(long_token, 'A', sizeof long_token);
	assert_int_equal(
		token_verify(ec, (struct str){long_token, sizeof long_token}, TOKEN_DATA, NOW, &c, &err),
		-EACCES);
	assert_int_equal(token_issue(ec, &q, &to, &err), -EINVAL);
	q.life_s = 0;
	q.subject = STR_NONE;
	assert_int_equal(token_issue(ec, &q, &to, &err), -EINVAL);
	assert_int_equal(token_of_header(STR("bEARER abc"), &token), 0);
	assert_true(str_eq(token, STR("abc")));
	assert_int_equal(token_of_header(STR("Basic abc"), &token), -EACCES);
	assert_int_equal(token_of_header(STR("Bearer "), &token), -EACCES);
	assert_int_equal(token_of_header(STR_NONE, &token), -EACCES);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_two_keys),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_forgeries),
		cmocka_unit_test(test_each_byte_matters),
		cmocka_unit_test(test_base64url),
		cmocka_unit_test(test_cache),
		cmocka_unit_test(test_bounds),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
