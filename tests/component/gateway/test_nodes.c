/* Two nodes in one process, mutual TLS between them: requests that arrive at one for sandboxes of the other; TLS to clients. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#define HOST "Host: " FIXTURE_HOST "\r\n"
#define ID   "?identifier=user-1"

static struct fixture near, far; /* near takes the client, far owns the sandbox */
static struct test_ca ca, foreign;
static struct tls_ctx *near_server, *near_client, *far_server, *far_client;
static char answer[200000];
static uint16_t port;
static uint32_t route_idle_ms; /* 0: the default */

static void start_one(struct fixture *f, uint64_t node, bool tls, struct tls_ctx *server,
		      struct tls_ctx *client)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct gateway_config config;
	struct err err = {0};

	fixture_config(f, &config);
	f->node = config.node = node;
	f->owner = 2;
	config.plain = config.peer = (struct sockaddr *)&a;
	if (tls) {
		config.tls = (struct sockaddr *)&a;
		config.tls_server = server;
	}
	config.peer_server = server;
	config.peer_client = client;
	config.route_idle_ms = route_idle_ms;
	if (gateway_new(&config, &f->g, &err))
		fail_msg("%s", err.message);
	assert_int_equal(gateway_start(f->g, &err), 0);
}

static void start(struct tls_ctx *client)
{
	static uint16_t backend;

	if (!backend)
		backend = backend_start();
	memset(&near, 0, sizeof near);
	memset(&far, 0, sizeof far);
	near.backend = far.backend = backend;
	start_one(&far, 2, false, far_server, far_client);
	start_one(&near, 1, false, near_server, client);
	fixture_publish(&far, 0);
	fixture_publish(&near, gateway_port(far.g, LISTEN_PEER));
	port = gateway_port(near.g, LISTEN_PLAIN);
}

static int setup(void **state)
{
	(void)state;
	start(near_client);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gateway_free(near.g);
	gateway_free(far.g);
	return 0;
}

static unsigned ask(const char *request)
{
	int fd = client_connect(port);

	client_ask(fd, request, answer, sizeof answer);
	close(fd);
	return answer_status(answer);
}

static void test_forwards(void **state)
{
	(void)state;
	for (int i = 0; i < 30; i++) {
		assert_int_equal(ask("POST /n" ID " HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"),
				 200);
		assert_non_null(strstr(answer, "got 5"));
	}
	assert_int_equal(near.dials, 0);
	assert_true(far.dials >= 1 && far.admits >= 1 && far.opens == 0);
	assert_int_equal(ask("GET /x" ID " HTTP/1.1\r\n" HOST "Berth-Hop: 42;7;1;1;1\r\n\r\n"), 200);
	assert_null(strstr(answer, "Berth-Hop"));
	assert_non_null(strstr(answer, "X-Forwarded-For: 127.0.0.1"));
	assert_non_null(strstr(answer, "X-Ms-Session-Guid: "));
	assert_null(strstr(answer, "forged"));
	assert_int_equal(ask("POST /shown" ID " HTTP/1.1\r\n" HOST
			     "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
			 200);
	assert_non_null(strstr(answer, "abcde"));
}

/* What a gateway adds is no client's: the largest head that it takes arrives through another node too. */
static void test_largest_heads(void **state)
{
	static char request[40000], value[32768];
	size_t n = (size_t)sprintf(request, "GET /x" ID " HTTP/1.1\r\n" HOST);

	(void)state;
	for (unsigned i = 1; i < 100; i++)
		n += (size_t)sprintf(request + n, "F%u:v\r\n", i);
	sprintf(request + n, "\r\n");
	assert_int_equal(ask(request), 200);
	assert_non_null(strstr(answer, "F99: v"));
	memset(value, 'a', sizeof value - 1);
	n = (size_t)sprintf(request, "GET /x" ID " HTTP/1.1\r\n" HOST "Connection: close\r\nX: ");
	sprintf(request + n, "%.*s\r\n\r\n", (int)(32768 - n - 4), value);
	assert_int_equal(ask(request), 200);
	sprintf(request + n, "%.*s\r\n\r\n", (int)(32768 - n - 3), value);
	assert_int_equal(ask(request), 431);
}

static void test_streams_and_tunnels(void **state)
{
	static char block[1 << 16];
	int fd = client_connect(port);
	size_t got;
	ssize_t n;

	(void)state;
	client_send(fd, "GET /big" ID " HTTP/1.1\r\n" HOST "\r\n");
	got = client_read(fd, answer, sizeof answer, "\r\n\r\n");
	got -= (size_t)(strstr(answer, "\r\n\r\n") + 4 - answer);
	while (got < FIXTURE_BIG && (n = recv(fd, block, sizeof block, 0)) > 0)
		got += (size_t)n;
	assert_int_equal(got, FIXTURE_BIG);
	client_send(fd, "POST /up" ID " HTTP/1.1\r\n" HOST "Content-Length: 25165824\r\n\r\n");
	for (size_t sent = 0; sent < FIXTURE_BIG; sent += sizeof block)
		assert_int_equal(send(fd, block, sizeof block, MSG_NOSIGNAL), (ssize_t)sizeof block);
	client_read(fd, answer, sizeof answer, "got 25165824");
	assert_int_equal(answer_status(answer), 200);
	client_send(fd, "GET /upgrade" ID " HTTP/1.1\r\n" HOST
			"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly");
	client_read(fd, answer, sizeof answer, "early");
	assert_int_equal(answer_status(answer), 101);
	shutdown(fd, SHUT_WR);
	client_read(fd, answer, sizeof answer, "bye");
	assert_string_equal(answer, "bye");
	close(fd);
}

/* The owner says that the session is gone: asked again, body and all, and the new one answers. */
static void test_stale_is_asked_again(void **state)
{
	(void)state;
	assert_int_equal(ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n"), 200);
	fixture_event(&far, MSG_ENDED);
	far.generation++;
	near.generation++;
	usleep(50000);
	assert_int_equal(ask("POST /n" ID " HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"), 200);
	assert_non_null(strstr(answer, "got 5"));
	assert_true(near.opens >= 2);

	/* Stale for ever: bounded. */
	far.generation += 10;
	near.generation += 5;
	fixture_event(&far, MSG_ENDED);
	int before = near.opens;
	assert_int_equal(ask("GET /?identifier=user-2 HTTP/1.1\r\n" HOST "\r\n"), 503);
	assert_true(near.opens - before <= 3);
}

/* Sessions of another node that came and went: nobody tells this node of their end. */
static void test_routes_are_forgotten(void **state)
{
	enum { SESSIONS = 120 };
	struct gateway_stats stats;
	char request[200];

	teardown(state);
	route_idle_ms = 50;
	setup(state);
	route_idle_ms = 0;
	for (unsigned i = 0; i < SESSIONS; i++) {
		far.generation++;
		near.generation++;
		snprintf(request, sizeof request,
			 "POST /n?identifier=user-%u HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", i);
		assert_int_equal(ask(request), 200);
		usleep(5000);
	}
	gateway_stats(near.g, &stats);
	assert_true(stats.routes >= 1 && stats.routes < SESSIONS / 2);
}

static void test_dead_there(void **state)
{
	(void)state;
	far.refuse_dials = 1;
	near.open_code = OPEN_OK;
	/* far's control knows only its own sandbox; near's control answers the same one again: bounded, then 502 */
	unsigned status = ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n");
	assert_true(status == 502 || status == 503);
	assert_true(near.gone_told >= 1);
	assert_true(far.deads >= 1);
}

static void *catch_up(void *arg)
{
	(void)arg;
	usleep(350000);
	far.admit_code = 0;
	return NULL;
}

/* A request is held while its session's node is not ready for it. */
static void test_owner_that_catches_up(void **state)
{
	pthread_t thread;

	(void)state;
	far.admit_code = -EAGAIN;
	assert_int_equal(pthread_create(&thread, NULL, catch_up, NULL), 0);
	assert_int_equal(ask("POST /n" ID " HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello"), 200);
	pthread_join(thread, NULL);
}

static void test_lagging_owner(void **state)
{
	(void)state;
	far.admit_code = -EAGAIN;
	assert_int_equal(ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n"), 503);
	assert_non_null(strstr(answer, "Retry-After"));
	far.admit_code = 0;
	assert_int_equal(ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n"), 200);
}

static void test_unreachable_owner(void **state)
{
	(void)state;
	fixture_publish(&near, 1); /* nobody there */
	usleep(50000);
	assert_int_equal(ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n"), 503);
}

/* A certificate of another CA, and one of the CA that names another node. */
static void test_impostors(void **state)
{
	struct tls_ctx *stranger =
		test_ctx(&foreign, TLS_CLIENT, "x", "URI:berth://node/1,URI:berth://role/voter", &ca);
	struct tls_ctx *real = far_server;

	(void)state;
	start(stranger);
	/* with TLS 1.3 the refusal comes after this side's handshake */
	unsigned status = ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n");
	assert_true(status == 502 || status == 503);
	assert_int_equal(far.dials, 0);
	teardown(NULL);
	tls_ctx_unref(stranger);

	far_server = test_ctx(&ca, TLS_SERVER, "x", "URI:berth://node/3,URI:berth://role/voter", &ca);
	start(near_client);
	assert_int_equal(ask("GET /" ID " HTTP/1.1\r\n" HOST "\r\n"), 503);
	assert_int_equal(far.dials, 0);
	teardown(NULL);
	tls_ctx_unref(far_server);
	far_server = real;
}

/* A certificate of the cluster's own CA, but for clients' TLS: it names no node. */
static void test_certificate_of_no_node_is_refused(void **state)
{
	struct tls_ctx *nobody = test_ctx(&ca, TLS_CLIENT, "node1", "DNS:localhost", &ca);

	(void)state;
	start(nobody);
	assert_int_equal(ask("GET /" ID " HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n") / 100, 5);
	assert_int_equal(far.admits, 0);
	assert_int_equal(far.dials, 0);
	teardown(NULL);
	tls_ctx_unref(nobody);
}

/* A client with TLS: keep-alive over one session, and a large body. */
static void test_tls_client(void **state)
{
	static const char request[] = "GET /x" ID " HTTP/1.1\r\n" HOST "\r\n";
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	size_t got = 0;
	int r = 0;

	(void)state;
	memset(&far, 0, sizeof far);
	far.backend = backend_start();
	struct tls_ctx *server = test_ctx(&ca, TLS_SERVER, "example.test", NULL, NULL);
	start_one(&far, 2, true, server, NULL);
	fixture_publish(&far, 0);
	int fd = client_connect(gateway_port(far.g, LISTEN_TLS));
	SSL *ssl = SSL_new(ctx);
	SSL_set_fd(ssl, fd);
	assert_int_equal(SSL_connect(ssl), 1);
	for (int i = 0; i < 5; i++) {
		assert_true(SSL_write(ssl, request, sizeof request - 1) > 0);
		for (got = 0; !strstr(answer, "\r\nHost: ") || !got; got += (size_t)r) {
			r = SSL_read(ssl, answer + got, (int)(sizeof answer - got - 1));
			assert_true(r > 0);
			answer[got + (size_t)r] = 0;
		}
		assert_int_equal(answer_status(answer), 200);
		assert_non_null(strstr(answer, "X-Forwarded-Proto: https"));
	}
	static const char big[] = "GET /big" ID " HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n";
	assert_true(SSL_write(ssl, big, sizeof big - 1) > 0);
	for (got = 0; (r = SSL_read(ssl, answer, sizeof answer)) > 0;)
		got += (size_t)r;
	assert_int_equal(SSL_get_error(ssl, r), SSL_ERROR_ZERO_RETURN); /* close_notify, not a cut */
	assert_true(got > FIXTURE_BIG);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	close(fd);
	gateway_free(far.g);
	tls_ctx_unref(server);
}

static int group_setup(void **state)
{
	(void)state;
	test_ca_make(&ca);
	test_ca_make(&foreign);
	near_server = test_ctx(&ca, TLS_SERVER, "x", "URI:berth://node/1,URI:berth://role/voter", &ca);
	near_client = test_ctx(&ca, TLS_CLIENT, "x", "URI:berth://node/1,URI:berth://role/voter", &ca);
	far_server = test_ctx(&ca, TLS_SERVER, "y", "URI:berth://node/2,URI:berth://role/voter", &ca);
	far_client = test_ctx(&ca, TLS_CLIENT, "x", "URI:berth://node/2,URI:berth://role/voter", &ca);
	return 0;
}

static int group_teardown(void **state)
{
	(void)state;
	tls_ctx_unref(near_server);
	tls_ctx_unref(near_client);
	tls_ctx_unref(far_server);
	tls_ctx_unref(far_client);
	test_ca_done(&ca);
	test_ca_done(&foreign);
	return 0;
}

#define NODES_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		NODES_TEST(test_forwards),
		NODES_TEST(test_largest_heads),
		NODES_TEST(test_streams_and_tunnels),
		NODES_TEST(test_stale_is_asked_again),
		NODES_TEST(test_routes_are_forgotten),
		NODES_TEST(test_dead_there),
		NODES_TEST(test_owner_that_catches_up),
		NODES_TEST(test_lagging_owner),
		NODES_TEST(test_unreachable_owner),
		cmocka_unit_test(test_impostors),
		cmocka_unit_test(test_certificate_of_no_node_is_refused),
		cmocka_unit_test(test_tls_client),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
