#include "crypto/pin.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>

#include "crypto/digest.h"

static int pin_of_cert(X509 *cert, char ret[PIN_TEXT_SIZE])
{
	unsigned char *der = NULL;
	uint8_t hash[SHA256_BYTES];
	int n = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(cert), &der);

	if (n <= 0)
		return -EINVAL;
	crypto_sha256((struct str){(const char *)der, (size_t)n}, hash);
	OPENSSL_free(der);
	crypto_hex(hash, sizeof hash, ret);
	return 0;
}

int pin_of(struct str cert_pem, char ret[PIN_TEXT_SIZE], struct err *err)
{
	BIO *bio = BIO_new_mem_buf(cert_pem.p, (int)cert_pem.n);
	X509 *cert = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
	int r = cert == NULL ? -EINVAL : pin_of_cert(cert, ret);

	X509_free(cert);
	BIO_free(bio);
	ERR_clear_error();
	return r < 0 ? err_set(err, r, "the CA's certificate cannot be read") : 0;
}

int pin_find(struct str bundle_pem, struct str pin, struct buf *to, struct err *err)
{
	BIO *in = BIO_new_mem_buf(bundle_pem.p, (int)bundle_pem.n), *out = BIO_new(BIO_s_mem());
	int r = -ENOENT;
	X509 *cert;

	while (r == -ENOENT && in != NULL && out != NULL &&
	       (cert = PEM_read_bio_X509(in, NULL, NULL, NULL)) != NULL) {
		char found[PIN_TEXT_SIZE], *text;

		if (pin_of_cert(cert, found) == 0 && str_eq(pin, str_of(found)) &&
		    PEM_write_bio_X509(out, cert)) {
			long n = BIO_get_mem_data(out, &text);

			buf_add(to, text, (size_t)n);
			r = 0;
		}
		X509_free(cert);
	}
	BIO_free(in);
	BIO_free(out);
	ERR_clear_error();
	return r < 0 ? err_set(err, r, "none of its CAs has the pinned key") : 0;
}
