/* What a client's TLS gets from a gateway with two loops: tickets that resume on either, keys that rotate, HTTP/1.1 by ALPN,
 * the new certificate after a reload. */
#include "fixture.h"

#include <stdlib.h>
#include <netinet/in.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define REQUEST "GET /x?identifier=user-1 HTTP/1.1\r\nHost: " FIXTURE_HOST "\r\n\r\n"
#define TIMES   8 /* connections, so that both loops get some */

static struct fixture f;
static struct test_ca ca;
static struct tls_ctx *server;
static SSL_CTX *client;

static SSL *hello(SSL_SESSION *resume, const char *alpn)
{
	SSL *ssl = SSL_new(client);

	SSL_set_fd(ssl, client_connect(gateway_port(f.g, LISTEN_TLS)));
	if (resume)
		SSL_set_session(ssl, resume);
	if (alpn)
		SSL_set_alpn_protos(ssl, (const unsigned char *)alpn, (unsigned)strlen(alpn));
	return ssl;
}

static void bye(SSL *ssl)
{
	close(SSL_get_fd(ssl));
	SSL_free(ssl);
}

/* One request on a connection of its own; *ret_next is the session that it leaves. True: the handshake was a short one. */
static bool visit(SSL_SESSION *resume, SSL_SESSION **ret_next)
{
	SSL *ssl = hello(resume, NULL);
	char answer[4096];

	assert_int_equal(SSL_connect(ssl), 1);
	assert_true(SSL_write(ssl, REQUEST, sizeof REQUEST - 1) > 0);
	int n = SSL_read(ssl, answer, sizeof answer - 1);
	assert_true(n > 0);
	answer[n] = '\0';
	assert_int_equal(answer_status(answer), 200);
	bool reused = SSL_session_reused(ssl) == 1;
	if (ret_next)
		*ret_next = SSL_get1_session(ssl);
	SSL_shutdown(ssl);
	bye(ssl);
	return reused;
}

static bool same_ticket(const SSL_SESSION *a, const SSL_SESSION *b)
{
	const unsigned char *p, *q;
	size_t n, m;

	SSL_SESSION_get0_ticket(a, &p, &n);
	SSL_SESSION_get0_ticket(b, &q, &m);
	return n == m && memcmp(p, q, n) == 0;
}

static void resume_with(int version)
{
	SSL_SESSION *s, *next;

	SSL_CTX_set_max_proto_version(client, version);
	assert_false(visit(NULL, &s));
	for (int i = 0; i < TIMES; i++)
		assert_true(visit(s, NULL));
	assert_true(visit(s, &next));
	assert_int_equal(same_ticket(s, next), version == TLS1_2_VERSION); /* in 1.3 each is for one use */
	SSL_SESSION_free(next);
	assert_int_equal(tls_ctx_rotate(server), 0);
	for (int i = 0; i < TIMES; i++)
		assert_true(visit(s, NULL)); /* by the key before */
	assert_int_equal(tls_ctx_rotate(server), 0);
	assert_false(visit(s, NULL));
	SSL_SESSION_free(s);
	SSL_CTX_set_max_proto_version(client, 0);
}

static void test_tickets_resume_on_every_loop(void **state)
{
	(void)state;
	resume_with(TLS1_3_VERSION);
	resume_with(TLS1_2_VERSION);
}

static void test_alpn(void **state)
{
	static const struct {
		const char *offered;
		bool taken;
	} rows[] = {{"\x02h2\x08http/1.1", true},
		    {"\x08http/1.1", true},
		    {"\x02h2", false},
		    {"\x03"
		     "ftp",
		     false}};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		SSL *ssl = hello(NULL, rows[i].offered);
		const unsigned char *chosen = NULL;
		unsigned n = 0;

		assert_int_equal(SSL_connect(ssl) == 1, rows[i].taken);
		SSL_get0_alpn_selected(ssl, &chosen, &n);
		assert_int_equal(n, rows[i].taken ? 8 : 0);
		bye(ssl);
	}
	assert_false(visit(NULL, NULL)); /* who offers nothing is served */
}

/* New connections see the new certificate; the one that was there goes on; tickets of before are void. */
static void test_reload(void **state)
{
	struct tls_options o = {.role = TLS_HTTPS};
	struct buf cert = {0}, pem = {0};
	EVP_PKEY *key = EVP_EC_gen("P-256");
	X509 *x = test_cert(key, "renewed", NULL, ca.cert, ca.key);
	SSL *old = hello(NULL, NULL), *fresh;
	SSL_SESSION *session;
	char answer[4096];

	(void)state;
	test_pem(x, key, &cert, &pem);
	o.cert = buf_str(&cert);
	o.key = buf_str(&pem);
	assert_int_equal(SSL_connect(old), 1);
	assert_false(visit(NULL, &session));
	assert_int_equal(tls_ctx_reload(server, &o, NULL), 0);
	fresh = hello(NULL, NULL);
	assert_int_equal(SSL_connect(fresh), 1);
	X509 *shown = SSL_get1_peer_certificate(fresh);
	assert_int_equal(X509_cmp(shown, x), 0);
	assert_false(visit(session, NULL));
	assert_true(SSL_write(old, REQUEST, sizeof REQUEST - 1) > 0);
	assert_true(SSL_read(old, answer, sizeof answer) > 0);
	bye(old);
	bye(fresh);
	SSL_SESSION_free(session);
	X509_free(shown);
	X509_free(x);
	EVP_PKEY_free(key);
	buf_done(&cert);
	buf_done(&pem);
}

static int setup(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct gateway_config config;
	struct err err = {0};

	(void)state;
	test_ca_make(&ca);
	server = test_ctx(&ca, TLS_HTTPS, "example.test", NULL, NULL);
	client = SSL_CTX_new(TLS_client_method());
	fixture_config(&f, &config);
	f.backend = backend_start();
	config.tls = (struct sockaddr *)&a;
	config.tls_server = server;
	if (gateway_new(&config, &f.g, &err) < 0)
		fail_msg("%s", err.message);
	fixture_publish(&f, 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gateway_free(f.g);
	tls_ctx_unref(server);
	SSL_CTX_free(client);
	test_ca_done(&ca);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_tickets_resume_on_every_loop),
					   cmocka_unit_test(test_alpn), cmocka_unit_test(test_reload)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
