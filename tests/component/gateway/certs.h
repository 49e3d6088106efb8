/* certs.h -- certificates made on the spot for tests of TLS: a CA and leaves under it, as PEM texts. */
#ifndef TESTS_GATEWAY_CERTS_H
#define TESTS_GATEWAY_CERTS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include "core/buf.h"
#include "tls/tls.h"

struct test_ca {
	EVP_PKEY *key;
	X509 *cert;
	struct buf pem;
};

static inline void test_bio_text(BIO *bio, struct buf *to)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);
	buf_add(to, p, (size_t)n);
	BIO_free(bio);
}

static inline X509 *test_cert(EVP_PKEY *key, const char *cn, const char *san, X509 *issuer,
			      EVP_PKEY *issuer_key)
{
	X509 *x = X509_new();
	X509V3_CTX v3;
	static long serial = 1;

	X509_set_version(x, 2);
	ASN1_INTEGER_set(X509_get_serialNumber(x), serial++);
	X509_gmtime_adj(X509_getm_notBefore(x), -60);
	X509_gmtime_adj(X509_getm_notAfter(x), 3600);
	X509_set_pubkey(x, key);
	X509_NAME_add_entry_by_txt(X509_get_subject_name(x), "CN", MBSTRING_ASC, (const unsigned char *)cn,
				   -1, -1, 0);
	X509_set_issuer_name(x, issuer ? X509_get_subject_name(issuer) : X509_get_subject_name(x));
	X509V3_set_ctx(&v3, issuer ? issuer : x, x, NULL, NULL, 0);
	if (!issuer) {
		X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, NID_basic_constraints, "critical,CA:TRUE");
		X509_add_ext(x, e, -1);
		X509_EXTENSION_free(e);
	}
	if (san) {
		X509_EXTENSION *e = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, san);
		X509_add_ext(x, e, -1);
		X509_EXTENSION_free(e);
	}
	assert_true(X509_sign(x, issuer_key ? issuer_key : key, EVP_sha256()) > 0);
	return x;
}

static inline void test_ca_make(struct test_ca *ca)
{
	memset(ca, 0, sizeof *ca);
	ca->key = EVP_EC_gen("P-256");
	ca->cert = test_cert(ca->key, "test CA", NULL, NULL, NULL);
	BIO *bio = BIO_new(BIO_s_mem());
	PEM_write_bio_X509(bio, ca->cert);
	test_bio_text(bio, &ca->pem);
}

static inline void test_ca_done(struct test_ca *ca)
{
	EVP_PKEY_free(ca->key);
	X509_free(ca->cert);
	buf_done(&ca->pem);
}

/* Both as texts, appended. */
static inline void test_pem(X509 *x, EVP_PKEY *key, struct buf *ret_cert, struct buf *ret_key)
{
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_X509(bio, x);
	test_bio_text(bio, ret_cert);
	bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL);
	test_bio_text(bio, ret_key);
}

/* A context whose leaf says `cn` and `san`; checked against `trust` when given. */
static inline struct tls_ctx *test_ctx(struct test_ca *ca, enum tls_role role, const char *cn,
				       const char *san, struct test_ca *trust)
{
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = test_cert(key, cn, san, ca->cert, ca->key);
	struct buf cert = {0}, pem = {0};
	struct tls_ctx *c = NULL;
	struct err err = {0};

	test_pem(x, key, &cert, &pem);
	struct tls_options o = {.role = role, .cert = buf_str(&cert), .key = buf_str(&pem)};
	if (trust)
		o.ca = buf_str(&trust->pem);
	if (tls_ctx_new(&o, &c, &err))
		fail_msg("%s", err.message);
	buf_done(&cert);
	buf_done(&pem);
	X509_free(x);
	EVP_PKEY_free(key);
	return c;
}

#endif
