/* Clients, sandboxes and nodes that are slow or silent: each wait has an end of its own, and who is only as slow as allowed is
 * served. One deadline is short in each test and the others are long, so that no other can be what ended the wait. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "core/clock.h"

#define HOST  "Host: " FIXTURE_HOST "\r\n"
#define ID    "?identifier=user-1"
#define LONG  60000
#define SHORT 300

static struct fixture f;
static struct test_ca ca;
static char answer[70000];

static void all_long(struct gateway_config *c)
{
	c->handshake_ms = c->head_timeout_ms = c->keep_alive_ms = c->dial_timeout_ms = c->stall_ms = LONG;
}

static void start(const struct gateway_config *changed, uint32_t silence_ms)
{
	static uint16_t backend;
	struct err err = {0};

	if (!backend)
		backend = backend_start();
	f.backend = backend;
	f.queue_ms = LONG;
	f.silence_ms = silence_ms;
	if (gateway_new(changed, &f.g, &err))
		fail_msg("%s", err.message);
	fixture_publish(&f, 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
}

static struct gateway_config *config(void)
{
	static struct gateway_config c;
	static struct sockaddr_in a;

	memset(&f, 0, sizeof f);
	a = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	fixture_config(&f, &c);
	all_long(&c);
	c.plain = (struct sockaddr *)&a;
	return &c;
}

static int client(void)
{
	return client_connect(gateway_port(f.g, LISTEN_PLAIN));
}

/* All answers until the end of the connection, which must come. */
static unsigned read_to_end(int fd)
{
	size_t n = 0;
	ssize_t k;

	while ((k = recv(fd, answer + n, sizeof answer - 1 - n, 0)) > 0)
		n += (size_t)k;
	assert_true(k == 0 || errno == ECONNRESET);
	answer[n] = '\0';
	close(fd);
	return answer_status(answer);
}

static void end(void)
{
	gateway_free(f.g);
}

/* --- TLS --- */

static void with_tls(struct gateway_config *c, struct tls_ctx **ret)
{
	c->tls = c->plain;
	c->tls_server = *ret = test_ctx(&ca, TLS_HTTPS, "example.test", NULL, NULL);
}

static void test_handshake(void **state)
{
	struct gateway_config *c = config();
	struct tls_ctx *server;

	(void)state;
	with_tls(c, &server);
	c->handshake_ms = SHORT;
	start(c, LONG);
	int fd = client_connect(gateway_port(f.g, LISTEN_TLS));
	client_send_bytes(fd, "\x16\x03\x01\x02\x00\x01", 6); /* a ClientHello begins */
	assert_int_equal(read_to_end(fd), 0);
	end();
	tls_ctx_unref(server);
}

static void test_silence_after_the_handshake(void **state)
{
	SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
	struct gateway_config *c = config();
	struct tls_ctx *server;

	(void)state;
	with_tls(c, &server);
	c->head_timeout_ms = SHORT;
	start(c, LONG);
	SSL *ssl = SSL_new(ctx);
	int fd = client_connect(gateway_port(f.g, LISTEN_TLS));
	SSL_set_fd(ssl, fd);
	assert_int_equal(SSL_connect(ssl), 1);
	read_to_end(fd);
	SSL_free(ssl);
	SSL_CTX_free(ctx);
	end();
	tls_ctx_unref(server);
}

/* --- bodies --- */

static struct gateway_config *paced(uint32_t stall_ms)
{
	struct gateway_config *c = config();

	c->stall_ms = stall_ms;
	c->rate_min = 1000;
	return c;
}

static void test_a_body_that_stops(void **state)
{
	(void)state;
	start(paced(SHORT), LONG);
	int fd = client();
	client_send(fd, "POST /x" ID " HTTP/1.1\r\n" HOST "Content-Length: 1000\r\n\r\nbegun");
	assert_int_equal(read_to_end(fd), 408);
	fd = client(); /* the management API's, before anybody looked at a token */
	client_send(fd, "PUT /subscriptions/s HTTP/1.1\r\nHost: m\r\nContent-Length: 1000\r\n\r\nbegun");
	assert_int_equal(read_to_end(fd), 408);
	end();
}

static void test_a_body_in_drops(void **state)
{
	struct gateway_stats stats;

	(void)state;
	start(paced(SHORT), LONG);
	int fd = client();
	client_send(fd, "POST /x" ID " HTTP/1.1\r\n" HOST "Content-Length: 100000\r\n\r\n");
	for (int i = 0; i < 1000 && recv(fd, answer, 1, MSG_DONTWAIT | MSG_PEEK) < 0; i++) {
		client_send(fd, "x");
		usleep(50000);
	}
	assert_int_equal(read_to_end(fd), 408);
	gateway_stats(f.g, &stats);
	assert_int_equal(stats.too_slow, 1);
	end();
}

/* A client that waits for 100 (Continue), or for a sandbox that does not read, is not slow. */
static void test_who_is_not_slow(void **state)
{
	static char block[1 << 20];

	(void)state;
	start(paced(SHORT), LONG);
	int fd = client();
	client_send(fd,
		    "POST /slow" ID " HTTP/1.1\r\n" HOST "Content-Length: 4\r\nExpect: 100-continue\r\n\r\n");
	usleep(3000 * SHORT);
	client_ask(fd, "body", answer, sizeof answer);
	assert_int_equal(answer_status(answer), 200);
	close(fd);
	fd = client();
	client_send(fd, "POST /sluggish" ID " HTTP/1.1\r\n" HOST "Content-Length: 33554432\r\n\r\n");
	for (int i = 0; i < 32; i++)
		client_send_bytes(fd, block, sizeof block);
	client_read(fd, answer, sizeof answer, "got 33554432");
	assert_int_equal(answer_status(answer), 200);
	close(fd);
	end();
}

static void test_a_reader_that_stops(void **state)
{
	struct gateway_stats stats;

	(void)state;
	start(paced(SHORT), LONG);
	int fd = client();
	client_send(fd, "GET /big" ID " HTTP/1.1\r\n" HOST "\r\n");
	do {
		usleep(10000);
		gateway_stats(f.g, &stats);
	} while (stats.too_slow == 0 || stats.connections_open > 0);
	assert_int_equal(stats.too_slow, 1);
	close(fd);
	end();
}

/* The end of an answer is not cut off while somebody takes it, however long that takes. */
static void test_a_slow_reader_gets_all(void **state)
{
	size_t got = 0;

	(void)state;
	start(paced(30000), LONG);
	int fd = client();
	client_send(fd, "GET /large HTTP/1.1\r\nHost: m\r\nConnection: close\r\n\r\n");
	sleep(3); /* longer than a connection lingers when all is sent */
	for (ssize_t k; (k = recv(fd, answer, sizeof answer, 0)) > 0;)
		got += (size_t)k;
	assert_true(got > FIXTURE_BIG);
	close(fd);
	end();
}

/* Who asks and asks and never reads the answers is not read from any more. */
static void test_answers_that_nobody_reads(void **state)
{
	static const char request[] =
		"GET /subscriptions/a/resourceGroups/b/sessionPools/c HTTP/1.1\r\nHost: m\r\n\r\n";
	size_t sent = 0;
	int blocked = 0;

	(void)state;
	start(config(), LONG);
	int fd = client();
	while (blocked < 100 && sent < FIXTURE_BIG) {
		ssize_t k = send(fd, request, sizeof request - 1, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (k > 0) {
			sent += (size_t)
				k; /* a part of one breaks the next: then it is answered 400 and ends */
			blocked = 0;
		} else {
			assert_int_equal(errno, EAGAIN);
			blocked++;
			usleep(5000);
		}
	}
	assert_int_equal(blocked, 100);
	close(fd);
	end();
}

/* --- sandboxes and nodes --- */

static void test_the_first_byte(void **state)
{
	(void)state;
	start(config(), SHORT);
	int fd = client();
	client_ask(fd, "GET /mute" ID " HTTP/1.1\r\n" HOST "\r\n", answer, sizeof answer);
	assert_int_equal(answer_status(answer), 504);
	close(fd);
	end();
}

/* A listener whose queue is full: whoever connects gets no answer. */
static uint16_t deaf_port(int fds[3])
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof a;

	fds[0] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(bind(fds[0], (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fds[0], 0), 0);
	getsockname(fds[0], (struct sockaddr *)&a, &size);
	for (int i = 1; i < 3; i++) {
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(fds[i], (struct sockaddr *)&a, sizeof a) < 0)
			assert_int_equal(errno, EINPROGRESS);
	}
	usleep(100000);
	return ntohs(a.sin_port);
}

static void test_a_node_that_takes_no_connection(void **state)
{
	struct gateway_config *c = config();
	int fds[3];

	(void)state;
	c->dial_timeout_ms = SHORT;
	start(c, LONG);
	f.owner = 2;
	fixture_publish(&f, deaf_port(fds));
	int fd = client();
	client_ask(fd, "GET /x" ID " HTTP/1.1\r\n" HOST "\r\n", answer, sizeof answer);
	assert_int_equal(answer_status(answer), 503);
	assert_non_null(strstr(answer, "takes no connection"));
	close(fd);
	for (int i = 0; i < 3; i++)
		close(fds[i]);
	end();
}

/* A crowd does not begin a handshake each: OPENING_MAX of upstream.c, in each of two loops. */
static void test_handshakes_with_a_node_are_bounded(void **state)
{
	enum { CROWD = 150, OPENING = 2 * 32 };
	struct gateway_config *c = config();
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int listening = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), clients[CROWD], taken[CROWD],
	    n_taken = 0;

	(void)state;
	assert_int_equal(bind(listening, (struct sockaddr *)&a, n), 0);
	assert_int_equal(listen(listening, 2 * CROWD), 0);
	assert_int_equal(getsockname(listening, (struct sockaddr *)&a, &n), 0);
	c->peer_client = test_ctx(&ca, TLS_CLIENT, "x", "URI:berth://node/1,URI:berth://role/voter", &ca);
	start(c, LONG);
	f.owner = 2;
	fixture_publish(&f, ntohs(a.sin_port));
	for (int i = 0; i < CROWD; i++) {
		clients[i] = client();
		client_send(clients[i], "GET /x" ID " HTTP/1.1\r\n" HOST "\r\n");
	}
	for (int quiet = 0; quiet < 10; quiet++) {
		usleep(50000);
		while (n_taken < CROWD && (taken[n_taken] = accept(listening, NULL, NULL)) >= 0) {
			n_taken++;
			quiet = 0;
		}
	}
	assert_in_range(n_taken, 32, OPENING);
	/* One that fails makes room for the next: all of the crowd have their turn. */
	close(taken[0]);
	for (int i = 0; i < 100 && (taken[0] = accept(listening, NULL, NULL)) < 0; i++)
		usleep(50000);
	assert_true(taken[0] >= 0);
	for (int i = 0; i < CROWD; i++)
		close(clients[i]);
	for (int i = 0; i < n_taken; i++)
		close(taken[i]);
	close(listening);
	end();
	tls_ctx_unref(c->peer_client);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_handshake),
		cmocka_unit_test(test_silence_after_the_handshake),
		cmocka_unit_test(test_a_body_that_stops),
		cmocka_unit_test(test_a_body_in_drops),
		cmocka_unit_test(test_who_is_not_slow),
		cmocka_unit_test(test_a_reader_that_stops),
		cmocka_unit_test(test_a_slow_reader_gets_all),
		cmocka_unit_test(test_answers_that_nobody_reads),
		cmocka_unit_test(test_the_first_byte),
		cmocka_unit_test(test_a_node_that_takes_no_connection),
		cmocka_unit_test(test_handshakes_with_a_node_are_bounded),
	};

	test_ca_make(&ca);
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	test_ca_done(&ca);
	return failed;
}
