/* Many first requests of one token and one pool: others have their turn, and waiting has bounds. */
#include "fixture.h"

#include <netinet/in.h>
#include <unistd.h>

#include "core/clock.h"

#define MANY 12

static struct fixture f;
static struct test_ca ca;
static struct token_keys *keys;
static char tokens[2][2048]; /* of subjects "a" and "b" */
static char answer[8192];

static void start(void (*change)(struct gateway_config *))
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static uint16_t backend;
	struct gateway_config config;
	struct err err = {0};

	if (!backend)
		backend = backend_start();
	memset(&f, 0, sizeof f);
	fixture_config(&f, &config);
	f.backend = backend;
	f.hold_opens = true;
	f.queue_ms = 60000;
	config.plain = (struct sockaddr *)&a;
	config.n_loops = 1;
	config.tokens = true;
	change(&config);
	if (gateway_new(&config, &f.g, &err))
		fail_msg("%s", err.message);
	gateway_publish_keys(f.g, token_keys_ref(keys));
	fixture_publish(&f, 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
}

/* A first request; not answered yet. */
static int ask(int who, const char *pool, int number)
{
	int fd = client_connect(gateway_port(f.g, LISTEN_PLAIN));
	char request[4096];

	snprintf(request, sizeof request,
		 "GET /subscriptions/s1/resourceGroups/g1/sessionPools/%s/x?identifier=%c-%04d HTTP/1.1\r\n"
		 "Host: m\r\nAuthorization: Bearer %s\r\n\r\n",
		 pool, 'a' + who, number, tokens[who]);
	client_send(fd, request);
	return fd;
}

static void until_held(unsigned n)
{
	for (int i = 0; i < 1000 && f.n_held < n; i++)
		usleep(10000);
	assert_true(f.n_held >= n);
}

static unsigned answer_of(int fd)
{
	client_ask(fd, "", answer, sizeof answer);
	return answer_status(answer);
}

static void one_at_a_time(struct gateway_config *c)
{
	c->opens_max = 1;
}

static void test_turns(void **state)
{
	int fds[MANY + 2], n = 0;

	(void)state;
	start(one_at_a_time);
	for (; n < MANY; n++)
		fds[n] = ask(0, "pool", n);
	until_held(1);
	usleep(300000);
	assert_int_equal(f.n_held, 1);
	fds[n++] = ask(0, "other", 0); /* another pool does not wait */
	until_held(2);
	assert_int_equal(f.held[1].pool, FIXTURE_OTHER_POOL);
	fds[n++] = ask(1, "pool", 0);
	usleep(300000);
	unsigned at = 0;
	for (unsigned i = 0; i < MANY + 2; i++) {
		until_held(i + 1);
		if (f.held[i].identifier[0] == 'b')
			at = i;
		fixture_answer(&f, i);
	}
	assert_true(at > 1 && at <= 3);
	for (int i = 0; i < n; i++) {
		assert_int_equal(answer_of(fds[i]), 200);
		close(fds[i]);
	}
	gateway_free(f.g);
}

/* Who never had a turn is told so at the end of its patience, and its question is never put. */
static void test_no_turn(void **state)
{
	int fds[3];

	(void)state;
	start(one_at_a_time);
	f.queue_ms = 200;
	fixture_publish(&f, 0);
	usleep(200000);
	fds[0] = ask(0, "pool", 0);
	until_held(1);
	for (int i = 1; i < 3; i++) {
		fds[i] = ask(i - 1, "pool", i);
		usleep(100000);
	}
	for (int i = 1; i < 3; i++) {
		assert_int_equal(answer_of(fds[i]), 429);
		assert_non_null(strstr(answer, "came before"));
		close(fds[i]);
	}
	fixture_answer(&f, 0);
	usleep(300000);
	assert_int_equal(f.n_held, 1);
	close(fds[0]);
	gateway_free(f.g);
}

static void token_waits(struct gateway_config *c)
{
	c->token_waiting_max = 3;
	c->pool_waiting_max = 5;
}

static void token_works(struct gateway_config *c)
{
	c->token_requests_max = 3;
	c->pool_requests_max = 5;
}

/* 3 of one token, 5 of a pool; all that wait are served in the end, and then there is room again. */
static void bounded(void (*change)(struct gateway_config *), const char *of_token, const char *of_pool)
{
	struct gateway_stats stats;
	int fds[5], n = 0, fd;

	start(change);
	for (; n < 3; n++)
		fds[n] = ask(0, "pool", n);
	until_held(3);
	fd = ask(0, "other", 3);
	assert_int_equal(answer_of(fd), 429);
	assert_non_null(strstr(answer, of_token));
	assert_non_null(strstr(answer, "Retry-After: "));
	close(fd);
	for (; n < 5; n++)
		fds[n] = ask(1, "pool", n);
	until_held(5);
	fd = ask(1, "pool", 5);
	assert_int_equal(answer_of(fd), 429);
	assert_non_null(strstr(answer, of_pool));
	close(fd);
	gateway_stats(f.g, &stats);
	assert_int_equal(stats.refused_limits, 2);
	for (unsigned i = 0; i < 5; i++)
		fixture_answer(&f, i);
	for (int i = 0; i < 5; i++) {
		assert_int_equal(answer_of(fds[i]), 200);
		close(fds[i]);
	}
	fd = ask(0, "pool", 9);
	until_held(6);
	fixture_answer(&f, 5);
	assert_int_equal(answer_of(fd), 200);
	close(fd);
	gateway_free(f.g);
}

static void test_waiting(void **state)
{
	(void)state;
	bounded(token_waits, "token_waiting_max", "pool_waiting_max");
}

static void test_under_way(void **state)
{
	(void)state;
	bounded(token_works, "token_requests_max", "pool_requests_max");
}

static void make_tokens(void)
{
	struct token_role role = {TOKEN_ROLE_EXECUTOR, "/"};
	struct buf pem = {0}, token = {0};
	BIO *bio = BIO_new(BIO_s_mem());

	PEM_write_bio_PrivateKey(bio, ca.key, NULL, NULL, 0, NULL, NULL);
	test_bio_text(bio, &pem);
	assert_int_equal(token_keys_new(buf_str(&pem), STR_NONE, "https://i", "https://m", &keys, NULL), 0);
	for (int i = 0; i < 2; i++) {
		struct token_request q = {.subject = i ? STR("b") : STR("a"),
					  .plane = TOKEN_DATA,
					  .roles = &role,
					  .n_roles = 1,
					  .now_s = clock_wall_ms() / 1000};
		buf_clear(&token);
		assert_int_equal(token_issue(keys, &q, &token, NULL), 0);
		assert_int_equal(str_copy(buf_str(&token), tokens[i], sizeof tokens[i]), 0);
	}
	buf_done(&pem);
	buf_done(&token);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_turns), cmocka_unit_test(test_no_turn),
					   cmocka_unit_test(test_waiting), cmocka_unit_test(test_under_way)};

	test_ca_make(&ca);
	make_tokens();
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	token_keys_unref(keys);
	test_ca_done(&ca);
	return failed;
}
