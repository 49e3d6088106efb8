/* Streams, listeners, channels, mailboxes and timers on a real loop: plain, unix and TLS carry the same traffic. */
#include "certs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/channel.h"
#include "loop/listener.h"
#include "loop/loop.h"
#include "loop/mailbox.h"
#include "loop/stream.h"

#define BIG (8u << 20)

static struct loop *loop;

static void setup_loop(void)
{
	struct err err = {0};

	loop = malloc(sizeof *loop);
	assert_int_equal(loop_init(loop, &err), 0);
}

static void teardown_loop(void)
{
	assert_int_equal(loop_done(loop), 0);
	free(loop);
}

/* --- an echo server that counts, and a client that sends BIG bytes and compares what returns --- */

struct side {
	struct stream *s;
	size_t sent, got;
	struct tls_identity identity;
	bool opened, eof, closed, drained, hold;
	int error, identified;
	struct loop_timer timer;
};

static struct side server, client;
static struct listener *listener;

static void side_closed(struct stream *s, void *arg)
{
	struct side *side = arg;

	(void)s;
	side->closed = true;
	side->s = NULL;
	if (server.closed && client.closed)
		listener_close(listener);
}

static void side_error(struct stream *s, void *arg, int error)
{
	struct side *side = arg;

	side->error = error;
	stream_close(s);
}

static void echo_open(struct stream *s, void *arg)
{
	struct side *side = arg;

	side->opened = true;
	side->identified = stream_identity(s, &side->identity);
}

static void echo_data(struct stream *s, void *arg, const char *p, size_t n)
{
	struct side *side = arg;
	int r = stream_write_bytes(s, p, n);

	side->got += n;
	assert_true(r >= 0);
	assert_true(stream_queued(s) < (1u << 20));
	if (r == STREAM_QUEUED)
		stream_pause(s);
}

static void echo_drain(struct stream *s, void *arg)
{
	((struct side *)arg)->drained = true;
	stream_resume(s);
}

static void echo_eof(struct stream *s, void *arg)
{
	((struct side *)arg)->eof = true;
	stream_finish(s, 1000);
}

static const struct stream_ops echo_ops = {.on_open = echo_open,
					   .on_data = echo_data,
					   .on_drain = echo_drain,
					   .on_eof = echo_eof,
					   .on_error = side_error,
					   .on_closed = side_closed};

static void accepted(struct stream *s, void *arg)
{
	(void)arg;
	server.s = s;
	stream_set(s, &echo_ops, &server);
}

static char pattern(size_t at)
{
	return (char)(at * 31 + at / 253);
}

static void client_send(struct stream *s)
{
	char block[40000];

	while (client.sent < BIG) {
		size_t n = BIG - client.sent < sizeof block ? BIG - client.sent : sizeof block;
		for (size_t i = 0; i < n; i++)
			block[i] = pattern(client.sent + i);
		int r = stream_write_bytes(s, block, n);
		assert_true(r >= 0);
		client.sent += n;
		if (r == STREAM_QUEUED)
			return;
	}
	stream_shutdown(s);
}

static void client_resume(struct loop_timer *timer)
{
	(void)timer;
	client.hold = false;
	stream_resume(client.s);
}

static void client_open(struct stream *s, void *arg)
{
	struct side *side = arg;

	side->opened = true;
	side->identified = stream_identity(s, &side->identity);
	client_send(s);
}

static void client_data(struct stream *s, void *arg, const char *p, size_t n)
{
	struct side *side = arg;

	for (size_t i = 0; i < n; i++)
		if (p[i] != pattern(side->got + i))
			fail_msg("byte %zu differs", side->got + i);
	if (side->got < BIG / 2 && side->got + n >= BIG / 2) {
		/* Half way a reader that stands still: nothing may come and nothing be lost. */
		side->hold = true;
		side->timer.fire = client_resume;
		stream_pause(s);
		loop_timer_set(loop, &side->timer, 60);
	} else {
		assert_false(side->hold);
	}
	side->got += n;
}

static void client_drain(struct stream *s, void *arg)
{
	(void)arg;
	client_send(s);
}

static void client_eof(struct stream *s, void *arg)
{
	((struct side *)arg)->eof = true;
	stream_close(s);
}

static const struct stream_ops client_ops = {.on_open = client_open,
					     .on_data = client_data,
					     .on_drain = client_drain,
					     .on_eof = client_eof,
					     .on_error = side_error,
					     .on_closed = side_closed};

static void listen_tcp(struct tls_ctx *tls, struct sockaddr_in *ret)
{
	struct err err = {0};

	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (listener_tcp(loop, (struct sockaddr *)ret, tls, accepted, NULL, &listener, &err))
		fail_msg("%s", err.message);
	ret->sin_port = htons(listener_port(listener));
}

static void exchange(struct tls_ctx *server_tls, struct tls_ctx *client_tls)
{
	struct sockaddr_in address;
	struct err err = {0};

	memset(&server, 0, sizeof server);
	memset(&client, 0, sizeof client);
	setup_loop();
	listen_tcp(server_tls, &address);
	assert_int_equal(stream_connect(loop, (struct sockaddr *)&address, client_tls, &client_ops, &client,
					&client.s, &err),
			 0);
	loop_run(loop);
	teardown_loop();
}

static void test_tcp(void **state)
{
	(void)state;
	exchange(NULL, NULL);
	assert_int_equal(client.got, BIG);
	assert_true(client.eof && server.eof && client.closed && server.closed);
	assert_int_equal(client.error, 0);
	assert_int_equal(client.identified, -ENOENT);
}

static void test_unix(void **state)
{
	struct err err = {0};
	char path[64];

	(void)state;
	snprintf(path, sizeof path, "/tmp/berth-test.%d.sock", getpid());
	memset(&server, 0, sizeof server);
	memset(&client, 0, sizeof client);
	setup_loop();
	assert_int_equal(listener_unix(loop, path, 0600, (gid_t)-1, accepted, NULL, &listener, &err), 0);
	assert_int_equal(stream_connect_unix(loop, path, &client_ops, &client, &client.s, &err), 0);
	loop_run(loop);
	teardown_loop();
	assert_int_equal(client.got, BIG);
	assert_true(client.eof && server.eof);
	assert_int_equal(access(path, F_OK), -1);
}

static void test_mutual_tls(void **state)
{
	struct test_ca ca;
	struct tls_ctx *s, *c;

	(void)state;
	test_ca_make(&ca);
	s = test_ctx(&ca, TLS_SERVER, "x", "URI:berth://node/7,URI:berth://role/worker", &ca);
	c = test_ctx(&ca, TLS_CLIENT, "x", "URI:berth://role/voter,URI:berth://node/9", &ca);
	exchange(s, c);
	assert_int_equal(client.got, BIG);
	assert_true(client.eof && server.eof);
	assert_int_equal(client.error, 0);
	assert_int_equal(server.error, 0);
	assert_int_equal(client.identified, 0);
	assert_int_equal(client.identity.node, 7);
	assert_int_equal(client.identity.role, TLS_WORKER);
	assert_int_equal(server.identified, 0);
	assert_int_equal(server.identity.node, 9);
	assert_int_equal(server.identity.role, TLS_VOTER);
	tls_ctx_unref(s);
	tls_ctx_unref(c);
	test_ca_done(&ca);
}

/* Certificates of the CA that are no node's, or say two things. */
static void test_certificates_of_no_node(void **state)
{
	static const char *const names[] = {
		"URI:berth://node/9",
		"URI:berth://role/voter",
		"URI:berth://node/0,URI:berth://role/voter",
		"URI:berth://node/9x,URI:berth://role/voter",
		"URI:berth://node/9,URI:berth://role/king",
		"URI:berth://node/9,URI:berth://node/8,URI:berth://role/voter",
		"URI:berth://node/9,URI:berth://role/worker,URI:berth://role/voter",
	};
	struct test_ca ca;

	(void)state;
	test_ca_make(&ca);
	struct tls_ctx *s = test_ctx(&ca, TLS_SERVER, "x", "URI:berth://node/7,URI:berth://role/worker", &ca);

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		struct tls_ctx *c = test_ctx(&ca, TLS_CLIENT, "node-9", names[i], &ca);

		exchange(s, c);
		assert_int_equal(client.got, BIG);
		assert_int_equal(server.identified, -ENOENT);
		tls_ctx_unref(c);
	}
	tls_ctx_unref(s);
	test_ca_done(&ca);
}

static void test_wrong_ca(void **state)
{
	struct test_ca ca, other;
	struct tls_ctx *s, *c;

	(void)state;
	test_ca_make(&ca);
	test_ca_make(&other);
	s = test_ctx(&ca, TLS_SERVER, "x", "URI:berth://node/7,URI:berth://role/worker", &ca);
	c = test_ctx(&other, TLS_CLIENT, "x", "URI:berth://node/9,URI:berth://role/voter", &ca);
	exchange(s, c);
	assert_int_equal(server.error, -EPROTO);
	assert_false(server.opened);
	assert_int_not_equal(client.error, 0);
	assert_int_equal(client.got, 0);
	tls_ctx_unref(s);
	tls_ctx_unref(c);
	test_ca_done(&ca);
	test_ca_done(&other);
}

/* A FIN without close_notify: the client's socket is shut down under the session. */
static void cut_open(struct stream *s, void *arg)
{
	struct side *side = arg;
	int fds[64], n = 0;

	(void)s;
	side->opened = true;
	/* The socket that is connected to the listener's port is the client's. */
	for (int fd = 3; fd < 64; fd++) {
		struct sockaddr_in a;
		socklen_t size = sizeof a;
		if (getpeername(fd, (struct sockaddr *)&a, &size) == 0 && a.sin_family == AF_INET &&
		    ntohs(a.sin_port) == listener_port(listener))
			fds[n++] = fd;
	}
	assert_int_equal(n, 1);
	shutdown(fds[0], SHUT_WR);
}

static void test_cut_is_an_error(void **state)
{
	static const struct stream_ops cut_ops = {
		.on_open = cut_open, .on_error = side_error, .on_eof = client_eof, .on_closed = side_closed};
	struct sockaddr_in address;
	struct err err = {0};
	struct test_ca ca;
	struct tls_ctx *s, *c;

	(void)state;
	test_ca_make(&ca);
	s = test_ctx(&ca, TLS_SERVER, "node-7", NULL, NULL);
	c = test_ctx(&ca, TLS_CLIENT, "x", NULL, &ca);
	memset(&server, 0, sizeof server);
	memset(&client, 0, sizeof client);
	setup_loop();
	listen_tcp(s, &address);
	assert_int_equal(
		stream_connect(loop, (struct sockaddr *)&address, c, &cut_ops, &client, &client.s, &err), 0);
	loop_run(loop);
	teardown_loop();
	assert_int_equal(server.error, -ECONNABORTED);
	assert_false(server.eof);
	tls_ctx_unref(s);
	tls_ctx_unref(c);
	test_ca_done(&ca);
}

static void test_refused(void **state)
{
	struct sockaddr_in address;
	struct err err = {0};

	(void)state;
	memset(&client, 0, sizeof client);
	memset(&server, 0, sizeof server);
	server.closed = true;
	setup_loop();
	listen_tcp(NULL, &address);
	address.sin_port = htons(1); /* nobody there */
	assert_int_equal(stream_connect(loop, (struct sockaddr *)&address, NULL, &client_ops, &client,
					&client.s, &err),
			 0);
	assert_int_equal(client.error, 0); /* never inside the call */
	loop_run(loop);
	teardown_loop();
	assert_int_equal(client.error, -ECONNREFUSED);
}

/* --- timers --- */

struct fired {
	struct loop_timer timer;
	uint64_t at, wanted;
	struct fired *clears;
};

static int n_fired;

static void fired(struct loop_timer *timer)
{
	struct fired *f = (struct fired *)timer;

	f->at = loop_now(loop);
	n_fired++;
	if (f->clears)
		loop_timer_clear(loop, &f->clears->timer);
}

static void test_timers(void **state)
{
	static const uint64_t delays[] = {0, 1, 15, 16, 17, 100, 250, 8192, 9000};
	enum { N = sizeof delays / sizeof *delays };
	struct fired t[N] = {0}, later = {0}, never = {0}, sooner = {0};

	(void)state;
	setup_loop();
	n_fired = 0;
	for (size_t i = 0; i < N; i++) {
		t[i].timer.fire = fired;
		t[i].wanted = loop_now(loop) + delays[i];
		if (delays[i] < 1000)
			loop_timer_set(loop, &t[i].timer, delays[i]);
	}
	later.timer.fire = never.timer.fire = sooner.timer.fire = fired;
	loop_timer_set(loop, &later.timer, 50);
	loop_timer_set(loop, &later.timer, 300); /* moved on */
	later.wanted = loop_now(loop) + 300;
	loop_timer_set(loop, &sooner.timer, 60000);
	loop_timer_set(loop, &sooner.timer, 80); /* moved back */
	sooner.wanted = loop_now(loop) + 80;
	loop_timer_set(loop, &never.timer, 260);
	t[6].clears = &never; /* 250 */
	/* the far ones only tell that they are still armed */
	loop_timer_set(loop, &t[7].timer, delays[7]);
	loop_timer_set(loop, &t[8].timer, delays[8]);
	while (n_fired < 9)
		uv_run(&loop->uv, UV_RUN_ONCE);
	for (size_t i = 0; i < 7; i++)
		assert_true(t[i].at >= t[i].wanted);
	assert_true(later.at >= later.wanted);
	assert_true(sooner.at >= sooner.wanted);
	assert_true(sooner.at < later.at);
	assert_int_equal(never.at, 0);
	assert_true(loop_timer_armed(&t[7].timer) && loop_timer_armed(&t[8].timer));
	loop_timer_clear(loop, &t[7].timer);
	loop_timer_clear(loop, &t[8].timer);
	teardown_loop();
}

/* --- channel --- */

static struct channel *ends[2];
static unsigned packets_got, ends_closed;
static int end_error[2];

static void channel_message(struct channel *c, void *arg, const void *p, size_t n, const int *fds,
			    size_t n_fds)
{
	unsigned expect;

	(void)arg;
	assert_ptr_equal(c, ends[1]);
	assert_true(n >= sizeof expect);
	memcpy(&expect, p, sizeof expect);
	assert_int_equal(expect, packets_got);
	packets_got++;
	if (n_fds) {
		assert_int_equal(n_fds, 1);
		assert_int_equal(fcntl(fds[0], F_GETFD), FD_CLOEXEC);
		close(fds[0]);
	}
	if (packets_got == 3000)
		channel_close(ends[0]);
}

static void channel_closed(struct channel *c, void *arg, int error)
{
	(void)c;
	end_error[(intptr_t)arg] = error;
	ends_closed++;
}

static void test_channel(void **state)
{
	static const struct channel_ops ops = {channel_message, channel_closed};
	struct err err = {0};
	char packet[2000] = {0};
	int pair[2], null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	(void)state;
	setup_loop();
	packets_got = ends_closed = 0;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	for (intptr_t i = 0; i < 2; i++)
		assert_int_equal(channel_open(loop, pair[i], &ops, (void *)i, &ends[i], &err), 0);
	for (unsigned i = 0; i < 3000; i++) {
		memcpy(packet, &i, sizeof i);
		assert_int_equal(channel_send(ends[0], packet, sizeof packet, &null, i % 16 == 0), 0);
	}
	assert_int_equal(channel_send(ends[0], packet, CHANNEL_BYTES_MAX + 1, NULL, 0), -EMSGSIZE);
	loop_run(loop);
	assert_int_equal(packets_got, 3000);
	assert_int_equal(ends_closed, 2);
	assert_int_equal(end_error[0], 0);
	assert_true(end_error[1] == 0 || end_error[1] == -ECONNRESET);
	close(null);
	teardown_loop();
}

/* --- mailbox --- */

#define POSTERS 3
#define POSTS   20000

static struct mailbox *mailbox;
static unsigned next_of[POSTERS], delivered, pointers;

struct post {
	unsigned poster, number;
};

static void mail(void *arg, void *p, size_t n)
{
	struct post *post = p;

	(void)arg;
	assert_int_equal(post->number, next_of[post->poster]++);
	if (n == 0) {
		pointers++;
		free(p);
	}
	if (++delivered == POSTERS * POSTS)
		mailbox_close(mailbox);
}

static void *poster(void *arg)
{
	struct post post = {.poster = (unsigned)(intptr_t)arg};

	for (; post.number < POSTS; post.number++) {
		int r;
		do {
			if (post.number % 2) {
				r = mailbox_post(mailbox, &post, sizeof post);
			} else {
				struct post *copy = malloc(sizeof *copy);
				*copy = post;
				r = mailbox_post_pointer(mailbox, copy);
				if (r)
					free(copy);
			}
		} while (r == -ENOBUFS);
		if (r)
			return (void *)1;
	}
	mailbox_unref(mailbox);
	return NULL;
}

static void test_mailbox(void **state)
{
	struct err err = {0};
	pthread_t threads[POSTERS];
	struct mailbox *kept;

	(void)state;
	setup_loop();
	assert_int_equal(mailbox_new(loop, 100, mail, free, NULL, &mailbox, &err), 0);
	kept = mailbox_ref(mailbox);
	for (intptr_t i = 0; i < POSTERS; i++) {
		mailbox_ref(mailbox);
		pthread_create(&threads[i], NULL, poster, (void *)i);
	}
	loop_run(loop);
	for (size_t i = 0; i < POSTERS; i++) {
		void *result;
		pthread_join(threads[i], &result);
		assert_null(result);
	}
	assert_int_equal(delivered, POSTERS * POSTS);
	assert_int_equal(pointers, POSTERS * POSTS / 2);
	assert_int_equal(mailbox_post(kept, "x", 1), -EPIPE);
	mailbox_unref(kept);
	teardown_loop();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_tcp),        cmocka_unit_test(test_unix),
		cmocka_unit_test(test_mutual_tls), cmocka_unit_test(test_certificates_of_no_node),
		cmocka_unit_test(test_wrong_ca),   cmocka_unit_test(test_cut_is_an_error),
		cmocka_unit_test(test_refused),    cmocka_unit_test(test_timers),
		cmocka_unit_test(test_channel),    cmocka_unit_test(test_mailbox),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
