/* What clients can make a gateway hold, all of them together. */
#include "fixture.h"

#include <stdlib.h>
#include <time.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY    150 /* bodies of 1 MiB; a loop holds 64, and there are two */
#define SURPLUS (MANY - 128)

static struct fixture f;
static uint16_t port, backend;
static char answer[65536];

static unsigned ask(const char *request)
{
	int fd = client_connect(port);

	client_ask(fd, request, answer, sizeof answer);
	close(fd);
	return answer_status(answer);
}

/* Bodies for the management API are read before anybody looks at a token. */
static void test_api_bodies(void **state)
{
	static int fds[MANY];
	unsigned refused = 0;
	char got[2048];

	(void)state;
	for (int i = 0; i < MANY; i++) {
		fds[i] = client_connect(port);
		client_send(
			fds[i],
			"PUT /subscriptions/s1 HTTP/1.1\r\nHost: m\r\nContent-Length: 1048576\r\n\r\nbegun");
	}
	for (int tries = 0; tries < 1000 && refused < SURPLUS; tries++) {
		for (int i = 0; i < MANY; i++) {
			ssize_t n = fds[i] < 0 ? -1 : recv(fds[i], got, sizeof got - 1, MSG_DONTWAIT);

			if (n <= 0)
				continue;
			got[n] = '\0';
			assert_int_equal(answer_status(got), 503);
			refused++;
			close(fds[i]);
			fds[i] = -1;
		}
		usleep(10000);
	}
	assert_true(refused >= SURPLUS);
	for (int i = 0; i < MANY; i++)
		if (fds[i] >= 0)
			close(fds[i]);
	for (unsigned status = 503; status != 200;) /* once the loops have noticed */
		status = ask("PUT /subscriptions/s1 HTTP/1.1\r\nHost: m\r\nContent-Length: 1\r\nConnection: "
			     "close\r\n\r\nx");
}

/* --- connections --- */

static void start(uint32_t connections_max, uint32_t address_connections_max)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct gateway_config config;
	struct err err = {0};

	fixture_config(&f, &config);
	f.backend = backend;
	config.plain = (struct sockaddr *)&a;
	config.connections_max = connections_max;
	config.address_connections_max = address_connections_max;
	if (gateway_new(&config, &f.g, &err) < 0)
		fail_msg("%s", err.message);
	fixture_publish(&f, 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
	port = gateway_port(f.g, LISTEN_PLAIN);
}

static void restart(uint32_t connections_max, uint32_t address_connections_max)
{
	gateway_free(f.g);
	start(connections_max, address_connections_max);
}

#define WARM  "GET /x?identifier=user-1 HTTP/1.1\r\nHost: " FIXTURE_HOST "\r\n\r\n"
#define LIMIT 20

static void refused_above(uint32_t all, uint32_t address, unsigned status, const char *option)
{
	struct gateway_stats stats;
	int fds[LIMIT];

	restart(all, address);
	for (int i = 0; i < LIMIT; i++) {
		fds[i] = client_connect(port);
		client_ask(fds[i], WARM, answer, sizeof answer);
		assert_int_equal(answer_status(answer), 200);
	}
	int fd = client_connect(port);
	client_read(fd, answer, sizeof answer, NULL);
	assert_int_equal(answer_status(answer), status);
	assert_non_null(strstr(answer, option));
	assert_non_null(strstr(answer, "Retry-After: "));
	const char *body = strstr(answer, "\r\n\r\n") + 4;
	assert_int_equal(strlen(body), strtoul(strstr(answer, "Content-Length: ") + 16, NULL, 10));
	close(fd);
	gateway_stats(f.g, &stats);
	assert_int_equal(stats.refused_connections, 1);
	client_ask(fds[0], WARM, answer, sizeof answer);
	assert_int_equal(answer_status(answer), 200);
	for (int i = 0; i < LIMIT; i++)
		close(fds[i]);
	for (unsigned got = 0; got != 200;) /* once the loops have noticed */
		got = ask("GET /x?identifier=user-1 HTTP/1.1\r\nHost: " FIXTURE_HOST
			  "\r\nConnection: close\r\n\r\n");
}

static void test_connections(void **state)
{
	(void)state;
	refused_above(1000, LIMIT, 429, "address_connections_max");
	refused_above(LIMIT, 1000, 503, "connections_max");
	restart(0, 0);
}

static uint64_t cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* Without descriptors who is connected is served, the loops are idle, and who waits is served once there are some. */
static void test_no_descriptors(void **state)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	struct rlimit before, tight;
	int good = client_connect(port), fds[50];

	(void)state;
	client_ask(good, WARM, answer, sizeof answer);
	for (size_t i = 0; i < 50; i++)
		fds[i] = socket(AF_INET, SOCK_STREAM, 0);
	assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
	tight = before;
	tight.rlim_cur = (rlim_t)fds[49] + 1;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
	for (size_t i = 0; i < 50; i++) {
		assert_int_equal(connect(fds[i], (struct sockaddr *)&a, sizeof a), 0);
		client_send(fds[i], "GET /subscriptions HTTP/1.1\r\nHost: m\r\n\r\n");
	}
	uint64_t spent = cpu_ms();
	usleep(1000000);
	spent = cpu_ms() - spent;
	client_ask(good, WARM, answer, sizeof answer);
	unsigned status = answer_status(answer);
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
	assert_int_equal(status, 200);
	assert_true(spent < 500);
	for (size_t i = 0; i < 50; i++) {
		client_ask(fds[i], "", answer, sizeof answer);
		assert_int_equal(answer_status(answer), 200);
		close(fds[i]);
	}
	close(good);
}

static int setup(void **state)
{
	(void)state;
	backend = backend_start();
	start(0, 0);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	gateway_free(f.g);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_api_bodies),
					   cmocka_unit_test(test_connections),
					   cmocka_unit_test(test_no_descriptors)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
