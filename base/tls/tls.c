/* A session reads ciphertext from lent memory and writes it to a buffer, through a BIO of our own: no memory BIO, no
 * descriptor, so plain and TLS streams share one path.
 * Failure modes: a bad certificate, key or CA fails tls_ctx_new and names the part; a failed handshake or record is
 * -EPROTO and leaves at most an alert in the output. Invariant: OpenSSL's error queue is empty between calls. */
#include "tls/tls.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "core/fd.h"
#include "core/must.h"
#include "tls/ticket.h"

#define PEM_BYTES_MAX (1u << 20)
#define CIPHERS_1_2   "ECDHE+AESGCM:ECDHE+CHACHA20"

struct tls_ctx {
	pthread_mutex_t lock;
	SSL_CTX *ssl_ctx; /* under lock */
	unsigned refs;    /* under lock */
	enum tls_role role;
	const char *also_name; /* NULL: none */
	struct tls_ctx *also;
};

struct tls_session {
	SSL *ssl;
	struct buf *out;
	const char *in;
	size_t in_left;
};

static int fail_ssl(struct err *err, const char *what)
{
	char text[160] = "unknown reason";
	unsigned long code = ERR_peek_last_error();

	if (code)
		ERR_error_string_n(code, text, sizeof text);
	ERR_clear_error();
	return err_set(err, -EINVAL, "%s: %s", what, text);
}

/* --- the BIO --- */

static int bio_read(BIO *bio, char *to, int n)
{
	struct tls_session *s = BIO_get_data(bio);

	BIO_clear_retry_flags(bio);
	if (n <= 0)
		return 0;
	if (s->in_left == 0) {
		BIO_set_retry_read(bio);
		return -1;
	}
	size_t take = (size_t)n < s->in_left ? (size_t)n : s->in_left;
	memcpy(to, s->in, take);
	s->in += take;
	s->in_left -= take;
	return (int)take;
}

static int bio_write(BIO *bio, const char *from, int n)
{
	struct tls_session *s = BIO_get_data(bio);

	if (n <= 0)
		return 0;
	buf_add(s->out, from, (size_t)n);
	return buf_failed(s->out) ? -1 : n;
}

static long bio_ctrl(BIO *bio, int command, long a, void *p)
{
	(void)bio, (void)a, (void)p;
	return command == BIO_CTRL_FLUSH;
}

static int bio_create(BIO *bio)
{
	BIO_set_init(bio, 1);
	return 1;
}

static BIO_METHOD *bio_method;
static pthread_once_t bio_once = PTHREAD_ONCE_INIT;

static void bio_method_make(void)
{
	bio_method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "berth stream");
	must(bio_method);
	BIO_meth_set_read(bio_method, bio_read);
	BIO_meth_set_write(bio_method, bio_write);
	BIO_meth_set_ctrl(bio_method, bio_ctrl);
	BIO_meth_set_create(bio_method, bio_create);
}

/* --- contexts --- */

static int no_passphrase(char *buffer, int size, int writing, void *arg)
{
	(void)buffer, (void)size, (void)writing, (void)arg;
	return 0;
}

static BIO *pem_bio(struct str pem)
{
	return pem.n && pem.n <= PEM_BYTES_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
}

static int use_chain(SSL_CTX *ctx, struct str pem, struct err *err)
{
	BIO *bio = pem_bio(pem);
	X509 *leaf = bio ? PEM_read_bio_X509_AUX(bio, NULL, no_passphrase, NULL) : NULL;
	X509 *more;
	int ok = leaf && SSL_CTX_use_certificate(ctx, leaf) == 1;

	X509_free(leaf);
	while (ok && (more = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
		ok = SSL_CTX_add0_chain_cert(ctx, more) == 1;
		if (!ok)
			X509_free(more);
	}
	BIO_free(bio);
	if (!ok)
		return fail_ssl(err, "certificate");
	ERR_clear_error(); /* the end of the chain is reported as an error */
	return 0;
}

static int use_key(SSL_CTX *ctx, struct str pem, struct err *err)
{
	BIO *bio = pem_bio(pem);
	EVP_PKEY *key = bio ? PEM_read_bio_PrivateKey(bio, NULL, no_passphrase, NULL) : NULL;
	int ok = key && SSL_CTX_use_PrivateKey(ctx, key) == 1 && SSL_CTX_check_private_key(ctx) == 1;

	EVP_PKEY_free(key);
	BIO_free(bio);
	return ok ? 0 : fail_ssl(err, "private key");
}

static int use_ca(SSL_CTX *ctx, struct str pem, enum tls_role role, struct err *err)
{
	BIO *bio = pem_bio(pem);
	X509_STORE *store = SSL_CTX_get_cert_store(ctx);
	X509 *ca;
	int n = 0, ok = bio != NULL;

	while (ok && (ca = PEM_read_bio_X509(bio, NULL, no_passphrase, NULL))) {
		ok = X509_STORE_add_cert(store, ca) == 1;
		if (ok && role != TLS_CLIENT)
			ok = SSL_CTX_add_client_CA(ctx, ca) == 1;
		X509_free(ca);
		n++;
	}
	BIO_free(bio);
	if (!ok || n == 0)
		return fail_ssl(err, "CA certificate");
	ERR_clear_error();
	SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, NULL);
	return 0;
}

/* RFC 7301, 3.2: who offers protocols, and not this one, gets an alert. */
static int choose_http(SSL *ssl, const unsigned char **ret, unsigned char *ret_n,
		       const unsigned char *offered, unsigned n, void *arg)
{
	static const unsigned char http[] = "\x08http/1.1";
	unsigned char *chosen = NULL;

	(void)ssl, (void)arg;
	if (SSL_select_next_proto(&chosen, ret_n, http, sizeof http - 1, offered, n) !=
	    OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*ret = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static int set_role(SSL_CTX *ctx, enum tls_role role, struct err *err)
{
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets alone */
	if (role == TLS_HTTPS) {
		SSL_CTX_set_alpn_select_cb(ctx, choose_http, NULL);
		return ticket_keys_attach(ctx, err);
	}
	SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET); /* nodes show their certificate each time */
	SSL_CTX_set_num_tickets(ctx, 0);
	return 0;
}

static int ssl_ctx_make(const struct tls_options *o, SSL_CTX **ret, struct err *err)
{
	SSL_CTX *ctx = SSL_CTX_new(o->role == TLS_CLIENT ? TLS_client_method() : TLS_server_method());
	int r = 0;

	if (!ctx)
		return err_set(err, -ENOMEM, "TLS: no memory");
	SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION);
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
					 SSL_OP_CIPHER_SERVER_PREFERENCE);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"berth", 5);
	if (SSL_CTX_set_cipher_list(ctx, CIPHERS_1_2) != 1)
		r = fail_ssl(err, "TLS ciphers");
	if (!r)
		r = set_role(ctx, o->role, err);
	if (!r && o->role != TLS_CLIENT && (!o->cert.n || !o->key.n))
		r = err_set(err, -EINVAL, "TLS: a server needs a certificate and a key");
	if (!r && o->cert.n)
		r = use_chain(ctx, o->cert, err);
	if (!r && o->key.n)
		r = use_key(ctx, o->key, err);
	if (!r && o->ca.n)
		r = use_ca(ctx, o->ca, o->role, err);
	if (r) {
		SSL_CTX_free(ctx);
		return r;
	}
	*ret = ctx;
	return 0;
}

static int on_name(SSL *ssl, int *alert, void *arg)
{
	struct tls_ctx *c = arg;
	const char *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

	(void)alert;
	if (name == NULL || strcmp(name, c->also_name) != 0)
		return SSL_TLSEXT_ERR_OK;
	pthread_mutex_lock(&c->also->lock);
	SSL_certs_clear(ssl);
	bool shown = SSL_use_cert_and_key(ssl, SSL_CTX_get0_certificate(c->also->ssl_ctx),
					  SSL_CTX_get0_privatekey(c->also->ssl_ctx), NULL, 1) == 1;
	pthread_mutex_unlock(&c->also->lock);
	ERR_clear_error();
	return shown ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_NOACK;
}

static void show_also(struct tls_ctx *c, SSL_CTX *ctx)
{
	SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
	SSL_CTX_set_tlsext_servername_arg(ctx, c);
}

void tls_ctx_also(struct tls_ctx *c, const char *name, struct tls_ctx *other)
{
	pthread_mutex_lock(&c->lock);
	c->also_name = name;
	c->also = other;
	show_also(c, c->ssl_ctx);
	pthread_mutex_unlock(&c->lock);
}

int tls_ctx_new(const struct tls_options *options, struct tls_ctx **ret, struct err *err)
{
	struct tls_ctx *c = calloc(1, sizeof *c);
	int r;

	pthread_once(&bio_once, bio_method_make);
	if (!c)
		return err_set(err, -ENOMEM, "TLS: no memory");
	r = ssl_ctx_make(options, &c->ssl_ctx, err);
	if (r) {
		free(c);
		return r;
	}
	pthread_mutex_init(&c->lock, NULL);
	c->refs = 1;
	c->role = options->role;
	*ret = c;
	return 0;
}

int tls_ctx_reload(struct tls_ctx *c, const struct tls_options *options, struct err *err)
{
	SSL_CTX *fresh, *old;
	int r;

	must(options->role == c->role);
	r = ssl_ctx_make(options, &fresh, err);
	if (r)
		return r;
	pthread_mutex_lock(&c->lock);
	if (c->also)
		show_also(c, fresh);
	old = c->ssl_ctx;
	c->ssl_ctx = fresh;
	pthread_mutex_unlock(&c->lock);
	SSL_CTX_free(old); /* running sessions hold their own reference */
	return 0;
}

struct pems {
	struct buf cert, key, ca;
};

static void pems_done(struct pems *p)
{
	if (p->key.p)
		OPENSSL_cleanse(p->key.p, p->key.n);
	buf_done(&p->cert);
	buf_done(&p->key);
	buf_done(&p->ca);
}

static int pems_read(struct pems *p, enum tls_role role, const char *cert_path, const char *key_path,
		     const char *ca_path, struct tls_options *ret, struct err *err)
{
	int r = 0;

	if (cert_path)
		r = fd_read_file(cert_path, PEM_BYTES_MAX, &p->cert, err);
	if (!r && key_path)
		r = fd_read_file(key_path, PEM_BYTES_MAX, &p->key, err);
	if (!r && ca_path)
		r = fd_read_file(ca_path, PEM_BYTES_MAX, &p->ca, err);
	*ret = (struct tls_options){
		.role = role,
		.cert = buf_str(&p->cert),
		.key = buf_str(&p->key),
		.ca = buf_str(&p->ca),
	};
	return r;
}

int tls_ctx_new_files(enum tls_role role, const char *cert_path, const char *key_path, const char *ca_path,
		      struct tls_ctx **ret, struct err *err)
{
	struct pems pems = {0};
	struct tls_options o;
	int r = pems_read(&pems, role, cert_path, key_path, ca_path, &o, err);

	if (!r)
		r = tls_ctx_new(&o, ret, err);
	pems_done(&pems);
	return r;
}

int tls_ctx_reload_files(struct tls_ctx *c, const char *cert_path, const char *key_path, const char *ca_path,
			 struct err *err)
{
	struct pems pems = {0};
	struct tls_options o;
	int r = pems_read(&pems, c->role, cert_path, key_path, ca_path, &o, err);

	if (!r)
		r = tls_ctx_reload(c, &o, err);
	pems_done(&pems);
	return r;
}

int tls_ctx_rotate(struct tls_ctx *c)
{
	int r;

	pthread_mutex_lock(&c->lock);
	r = c->role == TLS_HTTPS ? ticket_keys_rotate(c->ssl_ctx) : -EINVAL;
	pthread_mutex_unlock(&c->lock);
	return r;
}

struct tls_ctx *tls_ctx_ref(struct tls_ctx *c)
{
	pthread_mutex_lock(&c->lock);
	c->refs++;
	pthread_mutex_unlock(&c->lock);
	return c;
}

void tls_ctx_unref(struct tls_ctx *c)
{
	unsigned left;

	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	left = --c->refs;
	pthread_mutex_unlock(&c->lock);
	if (left)
		return;
	SSL_CTX_free(c->ssl_ctx);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* --- sessions --- */

struct tls_session *tls_session_new(struct tls_ctx *c, struct buf *out)
{
	struct tls_session *s = calloc(1, sizeof *s);
	BIO *bio;

	if (!s)
		return NULL;
	pthread_mutex_lock(&c->lock);
	s->ssl = SSL_new(c->ssl_ctx);
	pthread_mutex_unlock(&c->lock);
	bio = s->ssl ? BIO_new(bio_method) : NULL;
	if (!bio) {
		SSL_free(s->ssl);
		free(s);
		ERR_clear_error();
		return NULL;
	}
	s->out = out;
	BIO_set_data(bio, s);
	SSL_set_bio(s->ssl, bio, bio);
	if (c->role != TLS_CLIENT)
		SSL_set_accept_state(s->ssl);
	else
		SSL_set_connect_state(s->ssl);
	return s;
}

void tls_session_free(struct tls_session *s)
{
	if (!s)
		return;
	SSL_free(s->ssl);
	free(s);
}

void tls_session_input(struct tls_session *s, const void *p, size_t n)
{
	s->in = p;
	s->in_left = n;
}

size_t tls_session_left(const struct tls_session *s)
{
	return s->in_left;
}

int tls_session_handshake(struct tls_session *s, struct err *err)
{
	int r;

	ERR_clear_error();
	r = SSL_do_handshake(s->ssl);
	if (r == 1)
		return 1;
	if (SSL_get_error(s->ssl, r) == SSL_ERROR_WANT_READ)
		return 0;
	fail_ssl(err, "TLS handshake");
	if (err)
		err->code = -EPROTO;
	return -EPROTO;
}

ssize_t tls_session_read(struct tls_session *s, void *p, size_t n)
{
	size_t got = 0;
	int r, why;

	ERR_clear_error();
	r = SSL_read_ex(s->ssl, p, n, &got);
	if (r == 1)
		return (ssize_t)got;
	why = SSL_get_error(s->ssl, r);
	ERR_clear_error();
	if (why == SSL_ERROR_WANT_READ)
		return 0;
	return why == SSL_ERROR_ZERO_RETURN ? -ENODATA : -EPROTO;
}

int tls_session_write(struct tls_session *s, const void *p, size_t n)
{
	size_t put = 0;
	int r;

	if (n == 0)
		return 0;
	ERR_clear_error();
	r = SSL_write_ex(s->ssl, p, n, &put);
	ERR_clear_error();
	return r == 1 && put == n ? 0 : -EPROTO;
}

void tls_session_shutdown(struct tls_session *s)
{
	SSL_shutdown(s->ssl);
	ERR_clear_error();
}

/* --- who the other side is --- */

#define NODE_URI "berth://node/"

static const struct {
	const char *uri;
	enum tls_node_role role;
} role_names[] = {
	{"berth://role/voter", TLS_VOTER},
	{"berth://role/worker", TLS_WORKER},
};

/* False: one that cannot be read, or a second one of a kind: no certificate of ours. */
static bool take_uri(struct str uri, struct tls_identity *to)
{
	if (str_starts(uri, STR(NODE_URI)))
		return to->node == 0 &&
		       !str_u64(str_slice(uri, sizeof NODE_URI - 1, uri.n), UINT64_MAX, &to->node);
	for (size_t i = 0; i < sizeof role_names / sizeof *role_names; i++) {
		if (!str_eq(uri, str_of(role_names[i].uri)))
			continue;
		bool first = to->role == TLS_NO_ROLE;

		to->role = role_names[i].role;
		return first;
	}
	return true;
}

static int identity_of(X509 *cert, struct tls_identity *ret)
{
	GENERAL_NAMES *names = X509_get_ext_d2i(cert, NID_subject_alt_name, NULL, NULL);
	struct tls_identity found = {0};
	bool good = names != NULL;

	for (int i = 0; good && i < sk_GENERAL_NAME_num(names); i++) {
		const GENERAL_NAME *name = sk_GENERAL_NAME_value(names, i);
		if (name->type != GEN_URI)
			continue;
		struct str uri = {(const char *)ASN1_STRING_get0_data(name->d.uniformResourceIdentifier),
				  (size_t)ASN1_STRING_length(name->d.uniformResourceIdentifier)};
		good = take_uri(uri, &found);
	}
	GENERAL_NAMES_free(names);
	if (!good || found.node == 0 || found.role == TLS_NO_ROLE)
		return -ENOENT;
	*ret = found;
	return 0;
}

int tls_session_identity(const struct tls_session *s, struct tls_identity *ret)
{
	X509 *cert = SSL_get1_peer_certificate(s->ssl);
	int r = -ENOENT;

	if (cert && SSL_get_verify_mode(s->ssl) != SSL_VERIFY_NONE &&
	    SSL_get_verify_result(s->ssl) == X509_V_OK)
		r = identity_of(cert, ret);
	X509_free(cert);
	ERR_clear_error();
	return r;
}

const char *tls_session_refusal(const struct tls_session *s)
{
	long result = SSL_get_verify_result(s->ssl);

	return result == X509_V_OK ? "no TLS handshake, or one without a certificate"
				   : X509_verify_cert_error_string(result);
}
