/* See token.h. Happy path of a check: three parts, the header says nothing but our algorithm, the signature is the key's,
 * the claims are for us and for now. Each refusal has its own words, for the log alone. */
#include "gateway/token/token.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "crypto/digest.h"
#include "gateway/token/base64url.h"
#include "gateway/token/token_keys.h"
#include "json/build.h"
#include "json/json.h"

#define ISSUER_MAX 256
#define SIGNATURE  64 /* bytes, of ES256 and EdDSA alike */

struct one_key {
	EVP_PKEY *key;
	bool ec;
};

struct token_keys {
	struct one_key keys[TOKEN_KEYS_MAX]; /* the first one signs */
	unsigned n;
	bool can_sign;
	char issuer[ISSUER_MAX], management[ISSUER_MAX];
	uint64_t serial; /* differs for each set of keys: caches forget by it */
	atomic_uint refs;
};

static _Atomic uint64_t next_serial = 1;

/* --- keys --- */

static EVP_PKEY *read_key(struct str private_pem, struct str public_pem)
{
	struct str pem = private_pem.n ? private_pem : public_pem;
	BIO *bio = pem.n && pem.n < 65536 ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	EVP_PKEY *key = NULL;

	if (bio)
		key = private_pem.n ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t) "")
				    : PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL);
	BIO_free(bio);
	ERR_clear_error();
	return key;
}

static int kind_of(EVP_PKEY *key, bool *ret_ec)
{
	char group[32] = "";
	size_t n = 0;

	if (EVP_PKEY_get_id(key) == EVP_PKEY_ED25519) {
		*ret_ec = false;
		return 0;
	}
	if (EVP_PKEY_get_id(key) != EVP_PKEY_EC ||
	    EVP_PKEY_get_group_name(key, group, sizeof group, &n) != 1 || strcmp(group, "prime256v1") != 0)
		return -EINVAL;
	*ret_ec = true;
	return 0;
}

static int add_key(struct token_keys *k, struct str private_pem, struct str public_pem, struct err *err)
{
	struct one_key *one = &k->keys[k->n];

	if (k->n == TOKEN_KEYS_MAX)
		return err_set(err, -ENOBUFS, "token keys: more than %d", TOKEN_KEYS_MAX);
	one->key = read_key(private_pem, public_pem);
	if (!one->key || kind_of(one->key, &one->ec)) {
		EVP_PKEY_free(one->key);
		return err_set(err, -EINVAL, "token key: must be a PEM key of type EC P-256 or Ed25519");
	}
	k->n++;
	return 0;
}

int token_keys_add(struct token_keys *k, struct str public_pem, struct err *err)
{
	return add_key(k, STR_NONE, public_pem, err);
}

int token_keys_new(struct str private_pem, struct str public_pem, const char *issuer,
		   const char *management_audience, struct token_keys **ret, struct err *err)
{
	struct token_keys *k = calloc(1, sizeof *k);

	if (!k)
		return err_set(err, -ENOMEM, "token keys: no memory");
	k->can_sign = private_pem.n > 0;
	atomic_init(&k->refs, 1);
	k->serial = atomic_fetch_add(&next_serial, 1);
	if (add_key(k, private_pem, public_pem, err)) {
		token_keys_unref(k);
		return -EINVAL;
	}
	if (str_copy(str_of(issuer), k->issuer, sizeof k->issuer) || !k->issuer[0] ||
	    str_copy(str_of(management_audience), k->management, sizeof k->management) || !k->management[0]) {
		token_keys_unref(k);
		return err_set(err, -EINVAL, "token issuer and audience: 1 to %d bytes each", ISSUER_MAX - 1);
	}
	*ret = k;
	return 0;
}

struct token_keys *token_keys_ref(struct token_keys *k)
{
	atomic_fetch_add(&k->refs, 1);
	return k;
}

void token_keys_unref(struct token_keys *k)
{
	if (!k || atomic_fetch_sub(&k->refs, 1) != 1)
		return;
	for (unsigned i = 0; i < k->n; i++)
		EVP_PKEY_free(k->keys[i].key);
	free(k);
}

/* --- signatures: ES256 is r and s, 32 bytes each (RFC 7518, 3.4); OpenSSL speaks DER --- */

static int der_of_raw(const unsigned char raw[SIGNATURE], unsigned char der[80])
{
	ECDSA_SIG *sig = ECDSA_SIG_new();
	BIGNUM *r = BN_bin2bn(raw, 32, NULL), *s = BN_bin2bn(raw + 32, 32, NULL);
	unsigned char *at = der;
	int n = -1;

	if (sig && r && s && ECDSA_SIG_set0(sig, r, s) == 1) {
		r = s = NULL; /* the signature's now */
		n = i2d_ECDSA_SIG(sig, &at);
	}
	BN_free(r);
	BN_free(s);
	ECDSA_SIG_free(sig);
	return n;
}

static bool raw_of_der(const unsigned char *der, size_t n, unsigned char raw[SIGNATURE])
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);
	bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, 32) == 32 &&
		  BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + 32, 32) == 32;

	ECDSA_SIG_free(sig);
	return ok;
}

static bool signature_ok(const struct one_key *k, struct str signed_part, const unsigned char raw[SIGNATURE])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char der[80];
	const unsigned char *sig = raw;
	int n = SIGNATURE;
	bool ok;

	if (k->ec) {
		n = der_of_raw(raw, der);
		sig = der;
	}
	ok = ctx && n > 0 &&
	     EVP_DigestVerifyInit(ctx, NULL, k->ec ? EVP_sha256() : NULL, NULL, k->key) == 1 &&
	     EVP_DigestVerify(ctx, sig, (size_t)n, (const unsigned char *)signed_part.p, signed_part.n) == 1;
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

/* By any of the keys of the algorithm that the header names. */
static bool signed_by_one(const struct token_keys *k, bool ec, struct str signed_part,
			  const unsigned char raw[SIGNATURE])
{
	for (unsigned i = 0; i < k->n; i++) {
		if (k->keys[i].ec == ec && signature_ok(&k->keys[i], signed_part, raw))
			return true;
	}
	return false;
}

static bool sign(const struct one_key *k, struct str text, unsigned char raw[SIGNATURE])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	unsigned char sig[80];
	size_t n = sizeof sig;
	bool ok = ctx && EVP_DigestSignInit(ctx, NULL, k->ec ? EVP_sha256() : NULL, NULL, k->key) == 1 &&
		  EVP_DigestSign(ctx, sig, &n, (const unsigned char *)text.p, text.n) == 1;

	if (ok && k->ec)
		ok = raw_of_der(sig, n, raw);
	else if (ok)
		memcpy(raw, sig, SIGNATURE);
	EVP_MD_CTX_free(ctx);
	ERR_clear_error();
	return ok;
}

/* --- checking --- */

static int parse_part(struct str part, json_t **ret)
{
	CLEANUP_BUF struct buf text = {.max = TOKEN_BYTES_MAX};

	if (base64url_decode(part, &text))
		return -EACCES;
	return json_parse(buf_str(&text), &(struct json_bounds){.bytes_max = TOKEN_BYTES_MAX, .depth_max = 6},
			  ret, NULL)
		       ? -EACCES
		       : 0;
}

static int check_header(const struct token_keys *k, struct str part, bool *ret_ec, struct err *err)
{
	static const char *const refused[] = {"crit", "jwk", "jku", "x5u", "x5c", "b64", "zip", "enc"};
	json_auto_t *header = NULL;
	struct str alg = STR_NONE, type = STR_NONE;

	if (parse_part(part, &header) || !json_is_object(header))
		return err_set(err, -EACCES, "token: malformed header");
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
		if (json_object_get(header, refused[i]))
			return err_set(err, -EACCES, "token: header field %s is not allowed", refused[i]);
	bool named = json_get_str(header, JSON_REQUIRED, 16, &alg, NULL, "alg") == 0, ours = false;

	for (unsigned i = 0; named && !ours && i < k->n; i++) {
		ours = str_eq(alg, k->keys[i].ec ? STR("ES256") : STR("EdDSA"));
		*ret_ec = k->keys[i].ec;
	}
	if (!ours)
		return err_set(err, -EACCES, "token: not this key's algorithm");
	if (json_get_str(header, JSON_OPTIONAL, 16, &type, NULL, "typ") ||
	    (type.n && !str_eq_nocase(type, STR("JWT"))))
		return err_set(err, -EACCES, "token: not a JWT");
	return 0;
}

/* With or without a slash at the end. */
static struct str bare(struct str s)
{
	while (s.n && s.p[s.n - 1] == '/')
		s.n--;
	return s;
}

static bool audience_ok(const struct token_keys *k, const json_t *claims, enum token_plane plane)
{
	struct str want = bare(plane == TOKEN_DATA ? STR(TOKEN_AUDIENCE_DATA) : str_of(k->management));
	const json_t *aud = json_object_get(claims, "aud");
	size_t i, n = json_array_size(aud);

	if (json_is_string(aud))
		return str_eq(bare(json_str_of(aud)), want);
	for (i = 0; i < n && i < 8; i++)
		if (str_eq(bare(json_str_of(json_array_get(aud, i))), want))
			return true;
	return false;
}

static int check_times(const json_t *claims, uint64_t now_s, uint64_t *ret_expires, struct err *err)
{
	uint64_t exp = 0, nbf = 0, iat = 0;

	if (json_get_u64(claims, JSON_REQUIRED, 1, INT64_MAX, &exp, NULL, "exp") ||
	    json_get_u64(claims, JSON_OPTIONAL, 0, INT64_MAX, &nbf, NULL, "nbf") ||
	    json_get_u64(claims, JSON_REQUIRED, 1, INT64_MAX, &iat, NULL, "iat"))
		return err_set(err, -EACCES, "token: exp, nbf or iat is missing or malformed");
	if (exp <= now_s)
		return err_set(err, -EACCES, "token: expired");
	if (nbf > now_s + TOKEN_SKEW_S || iat > now_s + TOKEN_SKEW_S)
		return err_set(err, -EACCES, "token: not valid yet");
	if (exp - iat > TOKEN_LIFE_MAX_S)
		return err_set(err, -EACCES, "token: lives longer than the issuer allows");
	*ret_expires = exp;
	return 0;
}

static int read_roles(const json_t *claims, struct token_claims *ret, struct err *err)
{
	const json_t *roles = json_object_get(claims, "roles");
	size_t n = json_array_size(roles);

	if (roles && (!json_is_array(roles) || n > TOKEN_ROLES_MAX))
		return err_set(err, -EACCES, "token: roles must be a list of at most %d", TOKEN_ROLES_MAX);
	for (size_t i = 0; i < n; i++) {
		const json_t *one = json_array_get(roles, i);
		struct token_role *r = &ret->roles[i];
		struct str role, scope;
		if (json_get_str(one, JSON_REQUIRED, sizeof r->role - 1, &role, NULL, "role") ||
		    json_get_str(one, JSON_REQUIRED, sizeof r->scope - 1, &scope, NULL, "scope") ||
		    !scope.n || scope.p[0] != '/' || str_copy(role, r->role, sizeof r->role) ||
		    str_copy(scope, r->scope, sizeof r->scope))
			return err_set(err, -EACCES, "token: roles[%zu] is malformed", i);
	}
	ret->n_roles = (unsigned)n;
	return 0;
}

static int check_claims(const struct token_keys *k, struct str part, enum token_plane plane, uint64_t now_s,
			struct token_claims *ret, struct err *err)
{
	json_auto_t *claims = NULL;
	struct str iss = STR_NONE, sub = STR_NONE;
	int r;

	if (parse_part(part, &claims) || !json_is_object(claims))
		return err_set(err, -EACCES, "token: malformed claims");
	if (json_get_str(claims, JSON_REQUIRED, ISSUER_MAX, &iss, NULL, "iss") ||
	    !str_eq(iss, str_of(k->issuer)))
		return err_set(err, -EACCES, "token: another issuer's");
	if (!audience_ok(k, claims, plane))
		return err_set(err, -EACCES, "token: for another audience");
	if (json_get_str(claims, JSON_REQUIRED, TOKEN_SUBJECT_MAX - 1, &sub, NULL, "sub") ||
	    str_copy(sub, ret->subject, sizeof ret->subject))
		return err_set(err, -EACCES, "token: sub is missing or malformed");
	r = check_times(claims, now_s, &ret->expires_s, err);
	return r ? r : read_roles(claims, ret, err);
}

int token_verify(const struct token_keys *k, struct str token, enum token_plane plane, uint64_t now_s,
		 struct token_claims *ret, struct err *err)
{
	CLEANUP_BUF struct buf raw = {.max = SIGNATURE + 2};
	struct str header, claims, signature, rest;
	struct token_claims c = {0};
	bool ec = false;
	int r;

	if (token.n == 0 || token.n > TOKEN_BYTES_MAX)
		return err_set(err, -EACCES, "token: must have 1 to %d bytes", TOKEN_BYTES_MAX);
	if (!str_cut(token, '.', &header, &rest) || !str_cut(rest, '.', &claims, &signature) ||
	    str_find(signature, '.') != signature.n)
		return err_set(err, -EACCES, "token: must have three parts");
	r = check_header(k, header, &ec, err);
	if (r)
		return r;
	if (base64url_decode(signature, &raw) || raw.n != SIGNATURE)
		return err_set(err, -EACCES, "token: malformed signature");
	if (!signed_by_one(k, ec, (struct str){token.p, header.n + 1 + claims.n},
			   (const unsigned char *)raw.p))
		return err_set(err, -EACCES, "token: wrong signature");
	r = check_claims(k, claims, plane, now_s, &c, err);
	if (!r)
		*ret = c;
	return r;
}

int token_of_header(struct str value, struct str *ret_token)
{
	struct str token;

	if (value.n < 8 || !str_eq_nocase(str_slice(value, 0, 7), STR("bearer ")))
		return -EACCES;
	token = str_slice(value, 7, value.n);
	while (token.n && token.p[0] == ' ')
		token = str_slice(token, 1, token.n);
	*ret_token = token;
	return token.n ? 0 : -EACCES;
}

static bool scope_covers(struct str given, struct str scope)
{
	given = bare(given);
	scope = bare(scope);
	if (given.n > scope.n || !str_eq_nocase(given, str_slice(scope, 0, given.n)))
		return false;
	return given.n == scope.n || scope.p[given.n] == '/';
}

bool token_has_role(const struct token_claims *c, struct str role, struct str scope)
{
	for (unsigned i = 0; i < c->n_roles; i++) {
		struct str given = str_of(c->roles[i].role);
		bool same = str_eq_nocase(given, role) || (str_eq(role, STR(TOKEN_ROLE_EXECUTOR)) &&
							   str_eq_nocase(given, STR(TOKEN_ROLE_EXECUTOR_ID)));
		if (same && scope_covers(str_of(c->roles[i].scope), scope))
			return true;
	}
	return false;
}

/* --- issuing --- */

static int check_request(const struct token_keys *k, const struct token_request *q, struct err *err)
{
	if (!k->can_sign)
		return err_set(err, -ENOKEY, "token: this node holds no signing key");
	if (q->subject.n == 0 || q->subject.n >= TOKEN_SUBJECT_MAX)
		return err_set(err, -EINVAL, "subject: must have 1 to %d bytes", TOKEN_SUBJECT_MAX - 1);
	if (q->life_s > TOKEN_LIFE_MAX_S)
		return err_set(err, -EINVAL, "lifetime: at most %d seconds", TOKEN_LIFE_MAX_S);
	if (q->n_roles > TOKEN_ROLES_MAX)
		return err_set(err, -EINVAL, "roles: at most %d", TOKEN_ROLES_MAX);
	for (unsigned i = 0; i < q->n_roles; i++)
		if (!q->roles[i].role[0] || q->roles[i].scope[0] != '/')
			return err_set(err, -EINVAL, "roles[%u]: needs a role and a scope that begins with /",
				       i);
	return 0;
}

static void print_claims(const struct token_keys *k, const struct token_request *q, struct buf *to)
{
	json_auto_t *claims = json_new_object();
	char id[UUID_TEXT_SIZE];

	crypto_uuid(id);
	json_put_cstr(claims, "iss", k->issuer);
	json_put_str(claims, "sub", q->subject);
	json_put_cstr(claims, "aud", q->plane == TOKEN_DATA ? TOKEN_AUDIENCE_DATA : k->management);
	json_put_u64(claims, "iat", q->now_s);
	json_put_u64(claims, "nbf", q->now_s);
	json_put_u64(claims, "exp", q->now_s + (q->life_s ? q->life_s : TOKEN_LIFE_S));
	json_put_cstr(claims, "jti", id);
	json_t *roles = json_put_array(claims, "roles");
	for (unsigned i = 0; i < q->n_roles; i++) {
		json_t *one = json_push_object(roles);
		json_put_cstr(one, "role", q->roles[i].role);
		json_put_cstr(one, "scope", q->roles[i].scope);
	}
	json_print(to, claims, false);
}

int token_issue(const struct token_keys *k, const struct token_request *request, struct buf *to,
		struct err *err)
{
	static const char es256[] = "{\"alg\":\"ES256\",\"typ\":\"JWT\"}",
			  eddsa[] = "{\"alg\":\"EdDSA\",\"typ\":\"JWT\"}";
	CLEANUP_BUF struct buf claims = {.max = TOKEN_BYTES_MAX};
	CLEANUP_BUF struct buf token = {.max = TOKEN_BYTES_MAX};
	unsigned char raw[SIGNATURE];
	int r = check_request(k, request, err);

	if (r)
		return r;
	print_claims(k, request, &claims);
	base64url_encode(&token, k->keys[0].ec ? es256 : eddsa, sizeof es256 - 1);
	buf_add(&token, ".", 1);
	base64url_encode(&token, claims.p, claims.n);
	if (buf_failed(&claims) || buf_failed(&token))
		return err_set(err, -EINVAL, "token: longer than %d bytes: fewer or shorter roles",
			       TOKEN_BYTES_MAX);
	if (!sign(&k->keys[0], buf_str(&token), raw))
		return err_set(err, -EIO, "token: signing failed");
	buf_add(&token, ".", 1);
	base64url_encode(&token, raw, sizeof raw);
	if (buf_failed(&token))
		return err_set(err, -EINVAL, "token: longer than %d bytes: fewer or shorter roles",
			       TOKEN_BYTES_MAX);
	buf_add_str(to, buf_str(&token));
	return buf_failed(to) ? err_set(err, -ENOMEM, "token: no memory") : 0;
}

uint64_t token_keys_serial(const struct token_keys *k)
{
	return k->serial;
}
