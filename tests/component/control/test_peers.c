/* The connections between control loops, as somebody who holds no certificate sees them, and somebody who holds another's. */
#include "../gateway/certs.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/links/peers.h"
#include "mesh/mesh.h"
#include "core/clock.h"
#include "loop/stream.h"

#define FLOOD 700 /* above what is accepted at a time, closing ones included */

static struct loop *loop;
static struct test_ca ca;
static struct tls_ctx *server, *client;
static struct peers *node1;
static unsigned frames, changes;
static bool reachable;
static char listen_text[32];
static uint16_t port;

static void on_received(void *context, const struct peer_from *from, uint8_t type, const void *p, size_t n)
{
	(void)context;
	assert_int_equal(from->node, 2);
	assert_true(from->voter);
	assert_int_equal(type, PEER_ENVELOPE);
	assert_int_equal(n, 5);
	assert_memory_equal(p, "hello", 5);
	frames++;
}

static void on_changed(void *context, uint64_t node, bool now_reachable)
{
	(void)context;
	(void)node;
	changes++;
	reachable = now_reachable;
}

static uint64_t own_incarnation, foreign_incarnation;

static void on_foreign(void *context, const struct peer_from *from, struct str address, uint64_t incarnation)
{
	(void)context;
	assert_int_equal(from->node, 2);
	assert_true(from->voter && address.n > 0);
	foreign_incarnation = incarnation;
}

static struct peers *make(uint64_t node, const char *listen, struct tls_ctx *as_client)
{
	struct peers_options o = {.loop = loop,
				  .node = node,
				  .cluster = STR("c"),
				  .listen = str_of(listen),
				  .server = server,
				  .client = as_client,
				  .received = on_received,
				  .changed = on_changed,
				  .incarnation = &own_incarnation,
				  .foreign = on_foreign};
	struct peers *p = NULL;
	struct err err = {0};

	if (peers_new(&o, &p, &err) < 0)
		fail_msg("%s", err.message);
	return p;
}

static uint16_t free_port(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &n), 0);
	close(fd);
	return ntohs(a.sin_port);
}

static int setup(void **state)
{
	(void)state;
	loop = calloc(1, sizeof *loop);
	assert_int_equal(loop_init(loop, NULL), 0);
	test_ca_make(&ca);
	server = test_ctx(&ca, TLS_SERVER, "node1", "URI:berth://node/1,URI:berth://role/voter", &ca);
	client = test_ctx(&ca, TLS_CLIENT, "node2", "URI:berth://node/2,URI:berth://role/voter", &ca);
	port = free_port();
	snprintf(listen_text, sizeof listen_text, "127.0.0.1:%u", port);
	node1 = make(1, listen_text, client);
	frames = changes = 0;
	own_incarnation = foreign_incarnation = 0;
	reachable = false;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	peers_close(node1);
	loop_run_once(loop); /* without a connection it ends in this turn */
	assert_int_equal(loop_done(loop), 0);
	free(loop);
	tls_ctx_unref(server);
	tls_ctx_unref(client);
	test_ca_done(&ca);
	return 0;
}

/* True when it came about; half a minute is for a busy machine. */
static bool turn_until(bool (*check)(void))
{
	uint64_t deadline = clock_boot_ms() + 30000;

	while (!check() && clock_boot_ms() < deadline) {
		loop_run_once(loop);
		usleep(1000);
	}
	return check();
}

static bool is_reachable(void)
{
	return reachable;
}
static bool got_frame(void)
{
	return frames > 0;
}

static int connect_plain(void)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_true(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
	return fd;
}

/* Connections without a word, more than are accepted: they end one another, and a node still gets through. */
static void test_a_silent_crowd_keeps_no_node_away(void **state)
{
	static int fds[FLOOD];
	char second[32];

	(void)state;
	for (int i = 0; i < FLOOD; i++) {
		fds[i] = connect_plain();
		if (i % 50 == 0)
			loop_run_once(loop);
	}
	for (int i = 0; i < 20; i++)
		loop_run_once(loop);
	snprintf(second, sizeof second, "127.0.0.1:%u", free_port());
	struct peers *node2 = make(2, second, client);

	assert_int_equal(peers_add(node2, 1, str_of(listen_text), NULL), 0);
	assert_true(turn_until(is_reachable));
	assert_int_equal(peers_send(node2, 1, PEER_ENVELOPE, "hello", 5), 0);
	assert_true(turn_until(got_frame));
	peers_close(node2);
	for (int i = 0; i < 20; i++)
		loop_run_once(loop);
	for (int i = 0; i < FLOOD; i++)
		close(fds[i]);
}

static int fd_of_garbage;

static bool garbage_was_cut(void)
{
	char c;

	ssize_t n = recv(fd_of_garbage, &c, 1, MSG_DONTWAIT);
	return n == 0 || (n < 0 && errno != EAGAIN);
}

static bool garbage_ended(void)
{
	char bytes[256];

	while (recv(fd_of_garbage, bytes, sizeof bytes, MSG_DONTWAIT) > 0) /* a TLS alert */
		continue;
	return garbage_was_cut();
}

static void test_garbage_is_cut_off(void **state)
{
	(void)state;
	fd_of_garbage = connect_plain();
	assert_int_equal(send(fd_of_garbage, "GET / HTTP/1.1\r\n\r\n", 18, MSG_NOSIGNAL), 18);
	assert_true(turn_until(garbage_ended));
	close(fd_of_garbage);
}

static void test_silence_is_cut_off(void **state)
{
	(void)state;
	fd_of_garbage = connect_plain();
	assert_true(turn_until(garbage_ended));
	close(fd_of_garbage);
}

/* The certificate says node 2, the hello says node 3: no frame is taken. */
static void test_another_nodes_name_is_refused(void **state)
{
	char second[32];

	(void)state;
	snprintf(second, sizeof second, "127.0.0.1:%u", free_port());
	struct peers *liar = make(3, second, client);

	assert_int_equal(peers_add(liar, 1, str_of(listen_text), NULL), 0);
	assert_true(turn_until(is_reachable)); /* as far as it knows */
	peers_send(liar, 1, PEER_ENVELOPE, "hello", 5);
	for (int i = 0; i < 200; i++) {
		loop_run_once(loop);
		usleep(1000);
	}
	assert_int_equal(frames, 0);
	assert_true(changes >= 2); /* and was cut off */
	peers_close(liar);
	for (int i = 0; i < 20; i++)
		loop_run_once(loop);
}

static bool newer_reached, newer_lost;

static void on_reached(void *context, uint64_t node)
{
	(void)context;
	(void)node;
	newer_reached = true;
}

static void on_lost(void *context, uint64_t node, bool was_reached)
{
	(void)context;
	(void)node;
	newer_lost |= was_reached;
}

static void on_refused(void *context, const char *why)
{
	(void)context;
	(void)why;
}

static bool is_lost(void)
{
	return newer_reached && newer_lost;
}

/* A node of the next version, with a good certificate: not one frame is taken, whatever it means by it. */
static void test_a_newer_protocol_is_refused(void **state)
{
	static const struct mesh_ops ops = {.reached = on_reached, .lost = on_lost, .refused = on_refused};
	char second[32];
	struct mesh_options o = {.loop = loop,
				 .protocol = STR("control/2"),
				 .cluster = STR("c"),
				 .node = 2,
				 .server = server,
				 .client = client,
				 .ops = &ops};
	struct mesh *newer = NULL;

	(void)state;
	snprintf(second, sizeof second, "127.0.0.1:%u", free_port());
	o.address = str_of(second);
	assert_int_equal(mesh_new(&o, &newer, NULL), 0);
	assert_int_equal(mesh_dial(newer, 1, str_of(listen_text), NULL), 0);
	assert_true(turn_until(is_lost));
	assert_int_equal(frames, 0);
	mesh_close(newer, NULL, NULL);
	for (int i = 0; i < 20; i++)
		loop_run_once(loop);
}

static bool heard_foreign(void)
{
	return foreign_incarnation != 0;
}

/* The same cluster before it was restored, or after: refused, and told of. One that does not know yet is let in. */
static void test_another_incarnation_is_refused(void **state)
{
	static const struct mesh_ops ops = {.reached = on_reached, .lost = on_lost, .refused = on_refused};
	char second[32];
	uint64_t theirs = 7;
	struct mesh_options o = {.loop = loop,
				 .protocol = STR(PEER_PROTOCOL),
				 .cluster = STR("c"),
				 .node = 2,
				 .incarnation = &theirs,
				 .server = server,
				 .client = client,
				 .ops = &ops};
	struct mesh *other = NULL;
	char frame[] = {0, 0, 0, 6, PEER_ENVELOPE, 'h', 'e', 'l', 'l', 'o'};
	struct iovec iov = {frame, sizeof frame};

	(void)state;
	own_incarnation = 8;
	newer_reached = newer_lost = false;
	snprintf(second, sizeof second, "127.0.0.1:%u", free_port());
	o.address = str_of(second);
	assert_int_equal(mesh_new(&o, &other, NULL), 0);
	assert_int_equal(mesh_dial(other, 1, str_of(listen_text), NULL), 0);
	assert_true(turn_until(heard_foreign));
	assert_int_equal(foreign_incarnation, 7);
	assert_true(turn_until(is_lost));
	assert_int_equal(frames, 0);
	theirs = 0;
	for (int i = 0; i < 10000 && frames == 0; i++) {
		mesh_write(other, 1, &iov, 1);
		loop_run_once(loop);
		usleep(1000);
	}
	assert_true(got_frame());
	mesh_close(other, NULL, NULL);
	for (int i = 0; i < 20; i++)
		loop_run_once(loop);
}

#define PEERS_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		PEERS_TEST(test_a_silent_crowd_keeps_no_node_away),
		PEERS_TEST(test_garbage_is_cut_off),
		PEERS_TEST(test_silence_is_cut_off),
		PEERS_TEST(test_another_nodes_name_is_refused),
		PEERS_TEST(test_a_newer_protocol_is_refused),
		PEERS_TEST(test_another_incarnation_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
