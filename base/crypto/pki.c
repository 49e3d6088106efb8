#include "crypto/pki.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <time.h>

static void key_free(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void cert_free(X509 **cert)
{
	X509_free(*cert);
}

static void bio_free(BIO **bio)
{
	BIO_free(*bio);
}

#define CLEANUP_KEY  __attribute__((cleanup(key_free)))
#define CLEANUP_CERT __attribute__((cleanup(cert_free)))
#define CLEANUP_BIO  __attribute__((cleanup(bio_free)))

static int fail(struct err *err, const char *what)
{
	char text[160];

	ERR_error_string_n(ERR_get_error(), text, sizeof text);
	ERR_clear_error();
	return err_set(err, -EINVAL, "%s: %s", what, text);
}

static void take_bio(BIO *bio, struct buf *to)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);

	buf_add(to, p, (size_t)n);
}

int pki_make_key(struct buf *ret_pem, struct err *err)
{
	CLEANUP_KEY EVP_PKEY *key = EVP_EC_gen("P-256");
	CLEANUP_BIO BIO *bio = BIO_new(BIO_s_mem());

	if (key == NULL || bio == NULL || !PEM_write_bio_PKCS8PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL))
		return fail(err, "make a private key");
	take_bio(bio, ret_pem);
	return 0;
}

static EVP_PKEY *read_key(struct str pem)
{
	CLEANUP_BIO BIO *bio = pem.n > 0 && pem.n <= PKI_PEM_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;

	return bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, NULL);
}

static X509 *read_cert(struct str pem)
{
	CLEANUP_BIO BIO *bio = pem.n > 0 ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;

	return bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
}

int pki_public_key(struct str key_pem, struct buf *ret_pem, struct err *err)
{
	CLEANUP_KEY EVP_PKEY *key = read_key(key_pem);
	CLEANUP_BIO BIO *bio = BIO_new(BIO_s_mem());

	if (key == NULL || bio == NULL || !PEM_write_bio_PUBKEY(bio, key))
		return fail(err, "read a private key");
	take_bio(bio, ret_pem);
	return 0;
}

static bool add_extension(X509 *cert, X509 *issuer, int nid, const char *value)
{
	X509V3_CTX context;

	X509V3_set_ctx_nodb(&context);
	X509V3_set_ctx(&context, issuer, cert, NULL, NULL, 0);
	X509_EXTENSION *extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);

	if (extension == NULL)
		return false;
	bool ok = X509_add_ext(cert, extension, -1) == 1;

	X509_EXTENSION_free(extension);
	return ok;
}

static bool add_extensions(X509 *cert, X509 *issuer, const struct pki_request *request)
{
	CLEANUP_BUF struct buf names = BUF_MAX(4096);

	for (unsigned i = 0; i < request->n_names; i++)
		buf_printf(&names, "%s%s", i == 0 ? "" : ",", request->names[i]);
	return add_extension(cert, issuer, NID_basic_constraints,
			     request->authority ? "critical,CA:TRUE,pathlen:0" : "critical,CA:FALSE") &&
	       add_extension(cert, issuer, NID_key_usage,
			     request->authority ? "critical,keyCertSign,cRLSign"
						: "critical,digitalSignature") &&
	       (request->authority ||
		add_extension(cert, issuer, NID_ext_key_usage, "serverAuth,clientAuth")) &&
	       add_extension(cert, issuer, NID_subject_key_identifier, "hash") &&
	       add_extension(cert, issuer, NID_authority_key_identifier, "keyid") &&
	       (request->n_names == 0 || add_extension(cert, issuer, NID_subject_alt_name, buf_cstr(&names)));
}

static bool set_serial(X509 *cert)
{
	BIGNUM *number = BN_new();
	bool ok = number != NULL && BN_rand(number, 127, BN_RAND_TOP_ANY, BN_RAND_BOTTOM_ANY) &&
		  BN_to_ASN1_INTEGER(number, X509_get_serialNumber(cert)) != NULL;

	BN_free(number);
	return ok;
}

/* Of the public key `key`. `issuer` NULL: self-signed. */
static int issue(const struct pki_request *request, EVP_PKEY *key, X509 *issuer, EVP_PKEY *signer,
		 struct buf *ret_pem, struct err *err)
{
	CLEANUP_CERT X509 *cert = X509_new();
	CLEANUP_BIO BIO *bio = BIO_new(BIO_s_mem());

	if (cert == NULL || bio == NULL)
		return fail(err, "issue a certificate");
	X509_NAME *name = X509_get_subject_name(cert);

	X509_set_version(cert, X509_VERSION_3);
	X509_gmtime_adj(X509_getm_notBefore(cert), -(long)PKI_BACKDATED_S);
	X509_gmtime_adj(X509_getm_notAfter(cert), (long)request->lifetime_s);
	if (!set_serial(cert) || !X509_set_pubkey(cert, key) ||
	    !X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
					(const unsigned char *)request->common_name, -1, -1, 0) ||
	    !X509_set_issuer_name(cert, issuer != NULL ? X509_get_subject_name(issuer) : name) ||
	    !add_extensions(cert, issuer != NULL ? issuer : cert, request) ||
	    X509_sign(cert, signer, EVP_sha256()) == 0 || !PEM_write_bio_X509(bio, cert))
		return fail(err, "issue a certificate");
	take_bio(bio, ret_pem);
	return 0;
}

int pki_issue(const struct pki_request *request, struct str key_pem, struct str issuer_cert_pem,
	      struct str issuer_key_pem, struct buf *ret_pem, struct err *err)
{
	CLEANUP_KEY EVP_PKEY *key = read_key(key_pem);
	CLEANUP_CERT X509 *issuer = issuer_cert_pem.n > 0 ? read_cert(issuer_cert_pem) : NULL;
	CLEANUP_KEY EVP_PKEY *signer = read_key(issuer_cert_pem.n > 0 ? issuer_key_pem : key_pem);

	if (key == NULL || signer == NULL || (issuer_cert_pem.n > 0 && issuer == NULL))
		return fail(err, "issue a certificate: unreadable key or issuer");
	return issue(request, key, issuer, signer, ret_pem, err);
}

/* -- Requests ------------------------------------------------------------------------------------------------------ */

static void csr_free(X509_REQ **csr)
{
	X509_REQ_free(*csr);
}

#define CLEANUP_CSR __attribute__((cleanup(csr_free)))

int pki_make_csr(struct str key_pem, struct buf *ret_pem, struct err *err)
{
	CLEANUP_KEY EVP_PKEY *key = read_key(key_pem);
	CLEANUP_CSR X509_REQ *csr = X509_REQ_new();
	CLEANUP_BIO BIO *bio = BIO_new(BIO_s_mem());

	if (key == NULL || csr == NULL || bio == NULL || !X509_REQ_set_pubkey(csr, key) ||
	    X509_REQ_sign(csr, key, EVP_sha256()) == 0 || !PEM_write_bio_X509_REQ(bio, csr))
		return fail(err, "make a certificate request");
	take_bio(bio, ret_pem);
	return 0;
}

static bool is_p256(EVP_PKEY *key)
{
	char group[32] = "";

	return EVP_PKEY_get_base_id(key) == EVP_PKEY_EC &&
	       EVP_PKEY_get_group_name(key, group, sizeof group, NULL) == 1 &&
	       strcmp(group, SN_X9_62_prime256v1) == 0;
}

int pki_issue_csr(const struct pki_request *request, struct str csr_pem, struct str issuer_cert_pem,
		  struct str issuer_key_pem, struct buf *ret_pem, struct err *err)
{
	CLEANUP_BIO BIO *in =
		csr_pem.n > 0 && csr_pem.n <= PKI_PEM_MAX ? BIO_new_mem_buf(csr_pem.p, (int)csr_pem.n) : NULL;
	CLEANUP_CSR X509_REQ *csr = in != NULL ? PEM_read_bio_X509_REQ(in, NULL, NULL, NULL) : NULL;
	EVP_PKEY *key = csr != NULL ? X509_REQ_get0_pubkey(csr) : NULL;

	if (key == NULL)
		return fail(err, "certificate request: unreadable");
	if (!is_p256(key))
		return err_set(err, -EINVAL, "certificate request: its key must be EC P-256");
	if (X509_REQ_verify(csr, key) != 1)
		return fail(err, "certificate request: it is not signed by its key");
	CLEANUP_CERT X509 *issuer = read_cert(issuer_cert_pem);
	CLEANUP_KEY EVP_PKEY *signer = read_key(issuer_key_pem);

	if (issuer == NULL || signer == NULL)
		return fail(err, "issue a certificate: unreadable issuer");
	return issue(request, key, issuer, signer, ret_pem, err);
}

/* -- Reading certificates -------------------------------------------------------------------------------------------- */

static bool seconds_of(const ASN1_TIME *at, uint64_t *ret)
{
	struct tm tm;
	time_t seconds;

	if (!ASN1_TIME_to_tm(at, &tm))
		return false;
	seconds = timegm(&tm);
	*ret = (uint64_t)seconds;
	return seconds > 0;
}

int pki_times(struct str cert_pem, struct pki_times *ret, struct err *err)
{
	CLEANUP_CERT X509 *cert = read_cert(cert_pem);
	struct pki_times t;

	if (cert == NULL || !seconds_of(X509_get0_notBefore(cert), &t.made_s) ||
	    !seconds_of(X509_get0_notAfter(cert), &t.until_s))
		return fail(err, "read a certificate");
	t.made_s += PKI_BACKDATED_S;
	*ret = t;
	return 0;
}

bool pki_issued_by(struct str cert_pem, struct str issuer_cert_pem)
{
	CLEANUP_CERT X509 *cert = read_cert(cert_pem);
	CLEANUP_CERT X509 *issuer = read_cert(issuer_cert_pem);
	bool is = cert != NULL && issuer != NULL && X509_verify(cert, X509_get0_pubkey(issuer)) == 1;

	ERR_clear_error();
	return is;
}
