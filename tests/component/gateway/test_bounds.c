/* What clients can make a gateway hold, all of them together. */
#include "fixture.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#define MANY    150 /* bodies of 1 MiB; a loop holds 64, and there are two */
#define SURPLUS (MANY - 128)

static struct fixture f;
static uint16_t port;
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

static int setup(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct gateway_config config;
	struct err err = {0};

	(void)state;
	fixture_config(&f, &config);
	config.plain = (struct sockaddr *)&a;
	if (gateway_new(&config, &f.g, &err) < 0)
		fail_msg("%s", err.message);
	fixture_publish(&f, 0);
	assert_int_equal(gateway_start(f.g, &err), 0);
	port = gateway_port(f.g, LISTEN_PLAIN);
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
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_api_bodies)};

	return cmocka_run_group_tests(tests, setup, teardown);
}
