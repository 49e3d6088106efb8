/* The whole gateway, two loops, with a control that answers at once and a sandbox's server on real sockets. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <netinet/in.h>
#include <unistd.h>

#include "core/clock.h"

#define HOST "Host: " FIXTURE_HOST "\r\n"
#define ID   "?identifier=user-1"

static struct fixture f;
static uint16_t port;
static char answer[200000];

static void start(void (*change)(struct gateway_config *))
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct gateway_config config;
	struct err err = {0};
	static uint16_t backend;

	if (!backend)
		backend = backend_start();
	memset(&f, 0, sizeof f);
	f.backend = backend;
	fixture_config(&f, &config);
	config.plain = (struct sockaddr *)&a;
	if (change)
		change(&config);
	if (gateway_new(&config, &f.g, &err))
		fail_msg("%s", err.message);
	fixture_publish(&f, 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
	port = gateway_port(f.g, LISTEN_PLAIN);
}

static int setup(void **state)
{
	(void)state;
	start(NULL);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gateway_free(f.g);
	return 0;
}

static unsigned ask(const char *request)
{
	int fd = client_connect(port);

	client_ask(fd, request, answer, sizeof answer);
	close(fd);
	return answer_status(answer);
}

static void expect(const char *request, unsigned status, const char *text)
{
	unsigned got = ask(request);

	if (got != status || (text && !strstr(answer, text)))
		fail_msg("%s\nexpected %u and \"%s\", got:\n%s", request, status, text ? text : "", answer);
}

static void test_passes_and_rewrites(void **state)
{
	int fd;

	(void)state;
	fd = client_connect(port);
	for (int i = 0; i < 20; i++) {
		client_ask(fd,
			   "GET /a/b" ID "&x=1%2f HTTP/1.1\r\n" HOST
			   "Authorization: Bearer secret\r\nX-Keep: yes\r\nX-Hop: no\r\nConnection: "
			   "keep-alive, x-hop\r\n"
			   "Berth-Hop: 1;2;3;4;5\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n",
			   answer, sizeof answer);
		assert_int_equal(answer_status(answer), 200);
	}
	close(fd);
	assert_non_null(strstr(answer, "GET /a/b" ID "&x=1%2f HTTP/1.1\r\n"));
	assert_non_null(strstr(answer, "X-Keep: yes"));
	assert_non_null(strstr(answer, "X-Forwarded-For: 127.0.0.1"));
	assert_non_null(strstr(answer, "X-Forwarded-Proto: http\r\n"));
	assert_non_null(strstr(answer, "X-Forwarded-Host: " FIXTURE_HOST));
	assert_non_null(strstr(answer, "traceparent: 00-"));
	assert_non_null(strstr(answer, "X-Ms-New-Allocation: "));
	assert_null(strstr(answer, "secret"));
	assert_null(strstr(answer, "X-Hop"));
	assert_null(strstr(answer, "Berth-Hop"));
	assert_null(strstr(answer, "6.6.6.6"));
	assert_null(strstr(answer, "forged"));
	assert_int_equal(f.opens, 1);
	assert_int_equal(f.dials, 1);
}

static void test_path_form(void **state)
{
	(void)state;
	expect("GET /subscriptions/s1/resourceGroups/G1/sessionPools/pool/x/y" ID
	       " HTTP/1.1\r\nHost: any\r\n\r\n",
	       200, "GET /x/y" ID " HTTP/1.1");
	expect("GET /subscriptions/s1/resourceGroups/g1/sessionPools/pool" ID
	       " HTTP/1.1\r\nHost: any\r\n\r\n",
	       200, "GET /" ID " HTTP/1.1");
	expect("GET /subscriptions/s1/resourceGroups/g1/sessionPools/none/x" ID
	       " HTTP/1.1\r\nHost: any\r\n\r\n",
	       404, "ResourceNotFound");
}

static void test_refusals(void **state)
{
	(void)state;
	expect("GET / HTTP/1.1\r\n" HOST "\r\n", 400, "SessionRequestValidationFailed");
	expect("GET /?identifier=abc HTTP/1.1\r\n" HOST "\r\n", 400, "SessionRequestValidationFailed");
	expect("GET /" ID ID " HTTP/1.1\r\n" HOST "\r\n", 200,
	       NULL); /* one identifier, with a question mark in it */
	expect("GET /" ID "&identifier=user-2 HTTP/1.1\r\n" HOST "\r\n", 400, "given once");
	expect("POST /" ID " HTTP/1.1\r\n" HOST "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
	       400, "BadRequest");
	expect("POST /" ID " HTTP/1.1\r\n" HOST "Content-Length: 3\r\nContent-Length: 3\r\n\r\n", 400, NULL);
	expect("POST /" ID " HTTP/1.0\r\n" HOST "Transfer-Encoding: chunked\r\n\r\n", 400, NULL);
	expect("POST /" ID " HTTP/1.1\r\n" HOST "Transfer-Encoding: gzip\r\n\r\n", 501, NULL);
	expect("GET /" ID " HTTP/1.1\r\n" HOST HOST "\r\n", 400, "Host");
	expect("GET /" ID " HTTP/1.1\r\n\r\n", 400, "Host");
	expect("GET /" ID " HTTP/2.0\r\n" HOST "\r\n", 505, NULL);
	expect("GET /" ID " HTTP/1.1\n" HOST "\r\n", 400, NULL);
	expect("GET /" ID " HTTP/1.1\r\n" HOST "A : b\r\n\r\n", 400, NULL);
	assert_int_equal(f.opens, 1);
}

static void test_bodies(void **state)
{
	static char block[1 << 16];
	int fd = client_connect(port);
	size_t got = 0;
	ssize_t n;

	(void)state;
	expect("POST /n" ID " HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello", 200, "got 5");
	expect("POST /shown" ID " HTTP/1.1\r\n" HOST
	       "Transfer-Encoding: chunked\r\n\r\n3;ext\r\nabc\r\n2\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
	       200, "00000005\r\nabcde\r\n0\r\n\r\n");
	expect("GET /chunked" ID " HTTP/1.1\r\n" HOST "\r\n", 200, "abcde\r\n0\r\n\r\n");
	expect("GET /chunked" ID " HTTP/1.0\r\n" HOST "\r\n", 200, "\r\n\r\nabcde");
	expect("GET /to-end" ID " HTTP/1.1\r\n" HOST "\r\n", 200, "until the end\r\n0\r\n\r\n");
	expect("HEAD /h" ID " HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n", 200,
	       "Content-Length: 1234\r\n");
	expect("GET /interim" ID " HTTP/1.1\r\n" HOST "\r\n", 103, NULL);
	expect("GET /no-content" ID " HTTP/1.1\r\n" HOST "\r\n", 204, NULL);

	/* Down: a reader that stands still for a while must cost no memory and lose nothing. */
	client_send(fd, "GET /big" ID " HTTP/1.1\r\n" HOST "\r\n");
	got = client_read(fd, answer, sizeof answer, "\r\n\r\n");
	got -= (size_t)(strstr(answer, "\r\n\r\n") + 4 - answer);
	usleep(200000);
	while (got < FIXTURE_BIG && (n = recv(fd, block, sizeof block, 0)) > 0)
		got += (size_t)n;
	assert_int_equal(got, FIXTURE_BIG);

	/* Up, on the same connection. */
	client_send(fd, "POST /up" ID " HTTP/1.1\r\n" HOST "Content-Length: 25165824\r\n\r\n");
	for (size_t sent = 0; sent < FIXTURE_BIG; sent += sizeof block)
		assert_int_equal(send(fd, block, sizeof block, MSG_NOSIGNAL), (ssize_t)sizeof block);
	client_read(fd, answer, sizeof answer, "got 25165824");
	assert_int_equal(answer_status(answer), 200);
	assert_non_null(strstr(answer, "got 25165824"));
	close(fd);
}

static void test_byte_by_byte_and_pipelined(void **state)
{
	const char *one = "POST /n" ID " HTTP/1.1\r\n" HOST "Content-Length: 5\r\n\r\nhello";
	int fd = client_connect(port);

	(void)state;
	for (size_t i = 0; one[i]; i++)
		assert_int_equal(send(fd, &one[i], 1, 0), 1);
	client_read(fd, answer, sizeof answer, "got 5");
	assert_int_equal(answer_status(answer), 200);
	for (int i = 0; i < 50; i++)
		client_send(fd, one);
	size_t n = 0, found = 0;
	while (found < 50) {
		ssize_t k = recv(fd, answer + n, sizeof answer - 1 - n, 0);
		assert_true(k > 0);
		n += (size_t)k;
		answer[n] = 0;
		found = 0;
		for (char *p = answer; (p = strstr(p, "got 5")); p++)
			found++;
	}
	close(fd);
}

static void test_continue(void **state)
{
	int fd = client_connect(port);

	(void)state;
	client_send(fd, "POST /continue" ID " HTTP/1.1\r\n" HOST
			"Content-Length: 5\r\nExpect: 100-continue\r\n\r\n");
	client_read(fd, answer, sizeof answer, "\r\n\r\n");
	assert_int_equal(answer_status(answer), 100);
	client_send(fd, "hello");
	client_read(fd, answer, sizeof answer, "got 5");
	assert_int_equal(answer_status(answer), 200);
	close(fd);
}

static void test_sse(void **state)
{
	int fd = client_connect(port);

	(void)state;
	client_send(fd, "GET /sse" ID " HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, answer, sizeof answer, "data: 1");
	assert_null(strstr(answer, "data: 2")); /* the first event did not wait for the second */
	client_read(fd, answer, sizeof answer, "0\r\n\r\n");
	assert_non_null(strstr(answer, "data: 2"));
	close(fd);
}

static void test_upgrade(void **state)
{
	int fd = client_connect(port);

	(void)state;
	client_send(fd, "GET /upgrade" ID " HTTP/1.1\r\n" HOST
			"Connection: Upgrade\r\nUpgrade: echo\r\n\r\nearly");
	client_read(fd, answer, sizeof answer, "early");
	assert_int_equal(answer_status(answer), 101);
	assert_non_null(strstr(answer, "Upgrade: echo"));
	assert_non_null(strstr(answer, "hello"));
	client_send(fd, "more");
	client_read(fd, answer, sizeof answer, "more");
	shutdown(fd, SHUT_WR); /* half closed: the other half goes on */
	client_read(fd, answer, sizeof answer, "bye");
	assert_string_equal(answer, "bye");
	assert_int_equal(recv(fd, answer, 1, 0), 0);
	close(fd);
}

static void test_hostile_answers(void **state)
{
	static const char *const paths[] = {"/both",  "/unasked", "/garbage",
					    "/flood", "/endless", "/bad-chunk"};
	char request[200];

	(void)state;
	for (size_t i = 0; i < sizeof paths / sizeof *paths; i++) {
		snprintf(request, sizeof request, "GET %s" ID " HTTP/1.1\r\n" HOST "\r\n", paths[i]);
		unsigned status = ask(request);
		if (strcmp(paths[i], "/flood") == 0)
			assert_true(status == 103 || status == 502); /* some had been passed on */
		else if (status != 502)
			fail_msg("%s: %u", paths[i], status);
	}
	expect("GET /surplus" ID " HTTP/1.1\r\n" HOST "\r\n", 200, "ok");
	expect("GET /next" ID " HTTP/1.1\r\n" HOST "\r\n", 200, "GET /next"); /* not the smuggled answer */
	int fd = client_connect(port);
	client_send(fd, "GET /cut" ID " HTTP/1.1\r\n" HOST "\r\n");
	client_read(fd, answer, sizeof answer, NULL);
	assert_non_null(strstr(answer, "Content-Length: 100")); /* and then the end: visibly cut off */
	close(fd);
}

static void test_open_codes(void **state)
{
	(void)state;
	f.open_code = OPEN_FULL;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 429, "Retry-After: 3\r\n");
	f.open_code = OPEN_CANNOT_START;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 503, "says control");
	f.open_code = OPEN_NO_SESSION;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "Berth-Require-Existing: true\r\n\r\n", 404,
	       "SessionWithIdentifierNotFound");
	f.open_code = OPEN_OK;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
}

static void test_dead_sandbox_is_replaced(void **state)
{
	(void)state;
	f.refuse_dials = 1;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
	assert_int_equal(f.deads, 1);
	assert_int_equal(f.gone_told, 1);
	assert_int_equal(f.opens, 2);
}

static void test_one_that_served_is_not_dead(void **state)
{
	static const char get[] = "GET /" ID " HTTP/1.1\r\n" HOST "\r\n";
	int fd = client_connect(port); /* all through one loop */

	(void)state;
	client_ask(fd, "GET /surplus" ID " HTTP/1.1\r\n" HOST "\r\n", answer, sizeof answer);
	assert_int_equal(answer_status(answer), 200); /* the only connection into the sandbox ends with it */
	f.refuse_dials = 1;
	client_ask(fd, get, answer, sizeof answer);
	assert_int_equal(answer_status(answer), 502);
	assert_non_null(strstr(answer, "does not accept connections"));
	assert_int_equal(f.deads, 0);
	f.refuse_dials = 0;
	client_ask(fd, get, answer, sizeof answer);
	assert_int_equal(answer_status(answer), 200);
	assert_int_equal(f.opens, 1);
	close(fd);
}

static void test_unreachable_sandbox_is_not_dead(void **state)
{
	(void)state;
	f.refuse_dials = 1;
	f.dial_error = -ENOTCONN; /* sandboxd is away */
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 503, "Retry-After: ");
	assert_int_equal(f.deads, 0);
	assert_int_equal(f.opens, 1);
	f.refuse_dials = 0;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
	assert_in_range(f.opens, 1,
			2); /* the other loop may have taken this connection: it asks for its own route */
	assert_int_equal(f.deads, 0);
}

static void *first_request(void *arg)
{
	char got[65536];
	int fd = client_connect(port);

	(void)arg;
	client_ask(fd, "GET /" ID " HTTP/1.1\r\n" HOST "\r\n", got, sizeof got);
	close(fd);
	return (void *)(uintptr_t)answer_status(got);
}

static void test_many_first_requests_open_once(void **state)
{
	pthread_t t[40];
	void *status;

	(void)state;
	f.slow_open = true;
	for (size_t i = 0; i < 40; i++)
		pthread_create(&t[i], NULL, first_request, NULL);
	for (size_t i = 0; i < 40; i++) {
		pthread_join(t[i], &status);
		assert_int_equal((uintptr_t)status, 200);
	}
	assert_true(f.opens <= 2); /* one a loop */
}

static void quiesce(void)
{
	f.quiets = f.quiet_in_flight = 0;
	fixture_event(&f, MSG_QUIESCE);
	while (f.quiets < 2)
		usleep(1000);
}

static void test_quiesce(void **state)
{
	uint64_t before = clock_boot_ms();
	pthread_t held;
	void *status;
	int fd;

	(void)state;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
	quiesce();
	assert_int_equal(f.quiet_in_flight, 0);
	assert_true(f.quiet_last >= before);
	pthread_create(&held, NULL, first_request, NULL); /* waits */
	usleep(100000);
	quiesce();
	assert_int_equal(f.quiet_in_flight, 0);
	fixture_event(&f, MSG_REOPEN);
	pthread_join(held, &status);
	assert_int_equal((uintptr_t)status, 200);

	/* A tunnel counts while it carries bytes, and not when it has been silent for longer than the cooldown. */
	fd = client_connect(port);
	client_send(fd,
		    "GET /upgrade" ID " HTTP/1.1\r\n" HOST "Connection: Upgrade\r\nUpgrade: echo\r\n\r\n");
	client_read(fd, answer, sizeof answer, "hello");
	quiesce();
	assert_int_equal(f.quiet_in_flight, 1);
	usleep(700000);
	quiesce();
	assert_int_equal(f.quiet_in_flight, 0);

	/* The end: the tunnel is cut, a held request goes to the next session. */
	pthread_create(&held, NULL, first_request, NULL);
	usleep(100000);
	fixture_event(&f, MSG_ENDED);
	f.generation++;
	assert_int_equal(recv(fd, answer, 1, 0), 0);
	pthread_join(held, &status);
	assert_int_equal((uintptr_t)status, 200);
	close(fd);
}

static void test_in_flight_is_counted(void **state)
{
	int fd = client_connect(port);

	(void)state;
	client_send(fd, "GET /slow" ID " HTTP/1.1\r\n" HOST "\r\n");
	usleep(100000);
	quiesce();
	assert_int_equal(f.quiet_in_flight, 1);
	fixture_event(&f, MSG_REOPEN);
	client_read(fd, answer, sizeof answer, "GET /slow");
	close(fd);
}

static void test_fenced(void **state)
{
	(void)state;
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
	gateway_allow(f.g, false);
	usleep(50000);
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 503, "Retry-After");
	gateway_allow(f.g, true);
	usleep(50000);
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 200, NULL);
}

static void test_api(void **state)
{
	int fd;

	(void)state;
	expect("GET /subscriptions/s1/providers/Microsoft.App/sessionPools?api-version=1 HTTP/1.1\r\nHost: "
	       "m\r\n\r\n",
	       200,
	       "GET /subscriptions/s1/providers/Microsoft.App/sessionPools?api-version=1 pool 0 peer 0 body "
	       "0");
	expect("PUT /x HTTP/1.1\r\nHost: m\r\nContent-Length: 4\r\n\r\nbody", 200, "body 4");
	expect("PUT /x HTTP/1.1\r\nHost: m\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n", 200,
	       "body 4");
	expect("PUT /x HTTP/1.1\r\nHost: m\r\nContent-Length: 2000000\r\n\r\n", 413, NULL);
	expect("POST /.management/stopSession" ID " HTTP/1.1\r\n" HOST "Content-Length: 0\r\n\r\n", 200,
	       "POST /.management/stopSession" ID " pool 7");
	expect("POST /subscriptions/s1/resourceGroups/g1/sessionPools/pool/.management/getSession" ID
	       " HTTP/1.1\r\nHost: m\r\n\r\n",
	       200, "POST /.management/getSession" ID " pool 7");
	fd = client_connect(port);
	client_send(fd, "GET /follow HTTP/1.1\r\nHost: m\r\n\r\n");
	client_read(fd, answer, sizeof answer, "body 0\r\n");
	gateway_api_chunk(f.g, f.stream_id, STR("line one\n"));
	client_read(fd, answer, sizeof answer, "line one\n\r\n");
	gateway_api_end(f.g, f.stream_id, true);
	client_read(fd, answer, sizeof answer, "0\r\n\r\n");
	assert_string_equal(answer, "0\r\n\r\n");
	close(fd);
}

static void want_tokens(struct gateway_config *config)
{
	config->tokens = true;
}

static void test_tokens(void **state)
{
	struct test_ca ca;
	struct buf pem = {0}, token = {0};
	struct token_keys *keys;
	struct err err = {0};
	char request[9000];

	(void)state;
	start(want_tokens);
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 503, "keys");
	test_ca_make(&ca);
	BIO *bio = BIO_new(BIO_s_mem());
	PEM_write_bio_PrivateKey(bio, ca.key, NULL, NULL, 0, NULL, NULL);
	test_bio_text(bio, &pem);
	assert_int_equal(token_keys_new(buf_str(&pem), STR_NONE, "https://i", "https://m", &keys, &err), 0);
	for (int i = 0; i < 4; i++) {
		static const char *const scopes[] = {FIXTURE_SCOPE, "/subscriptions/s1", "/subscriptions/s",
						     "/"};
		struct token_role role = {TOKEN_ROLE_EXECUTOR, ""};
		struct token_request q = {
			.subject = STR("me"), .roles = &role, .n_roles = 1, .now_s = clock_wall_ms() / 1000};
		snprintf(role.scope, sizeof role.scope, "%s", scopes[i]);
		q.plane = i == 3 ? TOKEN_MANAGEMENT : TOKEN_DATA;
		buf_clear(&token);
		assert_int_equal(token_issue(keys, &q, &token, &err), 0);
		if (i == 0) {
			gateway_publish_keys(f.g, token_keys_ref(keys));
			usleep(50000);
		}
		snprintf(request, sizeof request,
			 "GET /" ID " HTTP/1.1\r\n" HOST "Authorization: Bearer %s\r\n\r\n",
			 buf_cstr(&token));
		expect(request, i == 2 ? 403 : i == 3 ? 401 : 200, NULL);
	}
	expect("GET /" ID " HTTP/1.1\r\n" HOST "\r\n", 401, "WWW-Authenticate");
	token_keys_unref(keys);
	buf_done(&pem);
	buf_done(&token);
	test_ca_done(&ca);
	gateway_free(f.g);
}

static void test_admin_socket(void **state)
{
	struct gateway_config config;
	struct err err = {0};
	char path[64];

	(void)state;
	memset(&f, 0, sizeof f);
	fixture_config(&f, &config);
	snprintf(path, sizeof path, "/tmp/berth-test.%d.admin", getpid());
	config.admin_path = path;
	config.admin_group = (gid_t)-1;
	assert_int_equal(gateway_new(&config, &f.g, &err), 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
	struct sockaddr_un {
		sa_family_t family;
		char path[108];
	} a = {.family = AF_UNIX};
	snprintf(a.path, sizeof a.path, "%s", path);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof a), 0);
	client_ask(fd, "GET /x HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
	assert_non_null(strstr(answer, "peer 2"));
	close(fd);
	gateway_free(f.g);
	assert_int_equal(access(path, F_OK), -1);
}

static void hurry(struct gateway_config *config)
{
	config->head_timeout_ms = 200;
	config->keep_alive_ms = 200;
}

static void test_slow_heads(void **state)
{
	int fd;

	(void)state;
	start(hurry);
	fd = client_connect(port);
	client_send(fd, "GET / HTTP/1.1\r\nHost");
	client_read(fd, answer, sizeof answer, NULL);
	assert_int_equal(answer_status(answer), 408);
	close(fd);
	fd = client_connect(port); /* says nothing, then nothing more: ends without a word */
	client_ask(fd, "GET /x HTTP/1.1\r\nHost: m\r\n\r\n", answer, sizeof answer);
	assert_int_equal(answer_status(answer), 200);
	assert_int_equal(recv(fd, answer, 1, 0), 0);
	close(fd);
	gateway_free(f.g);
}

#define GATEWAY_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		GATEWAY_TEST(test_passes_and_rewrites),
		GATEWAY_TEST(test_path_form),
		GATEWAY_TEST(test_refusals),
		GATEWAY_TEST(test_bodies),
		GATEWAY_TEST(test_byte_by_byte_and_pipelined),
		GATEWAY_TEST(test_continue),
		GATEWAY_TEST(test_sse),
		GATEWAY_TEST(test_upgrade),
		GATEWAY_TEST(test_hostile_answers),
		GATEWAY_TEST(test_open_codes),
		GATEWAY_TEST(test_dead_sandbox_is_replaced),
		GATEWAY_TEST(test_unreachable_sandbox_is_not_dead),
		GATEWAY_TEST(test_one_that_served_is_not_dead),
		GATEWAY_TEST(test_many_first_requests_open_once),
		GATEWAY_TEST(test_quiesce),
		GATEWAY_TEST(test_in_flight_is_counted),
		GATEWAY_TEST(test_fenced),
		GATEWAY_TEST(test_api),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_admin_socket),
		cmocka_unit_test(test_slow_heads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
