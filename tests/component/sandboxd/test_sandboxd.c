/* sandboxd's protocol, from outside, in a process of its own; the sandboxes are played by the scripted driver. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "played.h"

static void runs_dials_and_stops(void **state)
{
	static const char request[] = "GET / HTTP/1.1\r\n\r\n";
	struct sandboxd_reply r;
	uint64_t began = clock_wall_ms();
	char answer[256] = "";
	int fd = -1;

	(void)state;
	assert_int_equal(played_start(1, "serve", NULL, &r), 0);
	assert_true(r.sandbox == 1 && r.pid > 0 && r.wall_ms > 0);
	assert_int_equal(played_dial(1, 8080, &fd), 0);
	assert_true(fd >= 0);
	fd_set_nonblocking(fd, 0);
	assert_true(send(fd, request, sizeof request - 1, MSG_NOSIGNAL) > 0);
	assert_true(recv(fd, answer, sizeof answer - 1, 0) > 0);
	assert_non_null(strstr(answer, "200 OK"));
	close(fd);
	assert_int_equal(client_call(&played.client, SANDBOXD_LIST, NULL, &r, NULL), 0);
	assert_int_equal(r.n_sandboxes, 1);
	assert_true(r.sandboxes[0].sandbox == 1 && r.sandboxes[0].running && r.sandboxes[0].pool_uid == 5);
	assert_int_equal(played_stop(1, 1000), 0);
	assert_int_equal(
		client_call(&played.client, SANDBOXD_STOP, &(struct sandboxd_stop){.sandbox = 1}, &r, NULL),
		-ENOENT);
	assert_true(r.wall_ms >= began && r.wall_ms <= clock_wall_ms());
	assert_int_equal(played_dial(1, 8080, NULL), -ENOENT);
}

/* Whoever asks again and again for the end of one fills no memory. */
static void bounds_those_who_wait_for_a_stop(void **state)
{
	struct sandboxd_start slow = played_program(60, "slow", "1000");
	struct sandboxd_stop end = {.sandbox = 60};
	uint64_t asked[100], started;
	struct sandboxd_reply r;

	(void)state;
	played.words[2] = STR("serve");
	slow.n_command = 3;
	started = client_send(&played.client, SANDBOXD_START, &slow, -1);
	for (unsigned i = 0; i < 100; i++)
		asked[i] = client_send(&played.client, SANDBOXD_STOP, &end, -1);
	assert_int_equal(client_wait(&played.client, asked[99], &r, NULL), 0);
	assert_int_equal(r.code, -EBUSY);
	assert_int_equal(client_wait(&played.client, started, &r, NULL), 0);
	assert_int_equal(client_wait(&played.client, asked[0], &r, NULL), 0);
	assert_int_equal(r.code, 0);
}

static void tells_everybody_of_an_exit(void **state)
{
	struct sandboxd_exited e;
	struct client late;

	(void)state;
	assert_int_equal(played_start(2, "exit", "7", NULL), 0);
	assert_true(client_wait_exit(&played.client, 2, &e));
	assert_true(e.how == SANDBOX_EXIT_CODE && e.value == 7 && e.wall_ms > 0);
	/* And whoever comes later, until it is stopped. */
	assert_int_equal(client_connect(&late, played.settings.socket), 0);
	assert_int_equal(client_hello(&late, CLUSTER, 1), 0);
	assert_true(client_wait_exit(&late, 2, &e));
	client_close(&late);
	assert_int_equal(played_start(2, "serve", NULL, NULL), -ECHILD);
	assert_int_equal(played_stop(2, 0), 0);
}

/* Who asks for a start that is under way hears what comes of it. */
static void a_start_is_shared(void **state)
{
	(void)state;
	for (int fails = 0; fails < 2; fails++) {
		struct sandboxd_start slow = played_program(70, "slow", "300");
		struct sandboxd_reply r;
		uint64_t asked[3];

		played.words[2] = fails ? STR("fail") : STR("serve");
		played.words[3] = STR("no luck today");
		slow.n_command = fails ? 4 : 3;
		for (unsigned i = 0; i < 3; i++)
			asked[i] = client_send(&played.client, SANDBOXD_START, &slow, -1);
		for (unsigned i = 0; i < 3; i++) {
			assert_int_equal(client_wait(&played.client, asked[i], &r, NULL), 0);
			assert_int_equal(r.code, fails ? -EIO : 0);
		}
		if (!fails)
			assert_int_equal(played_stop(70, 0), 0);
	}
}

static void a_failed_start_names_the_cause(void **state)
{
	struct sandboxd_reply r;

	(void)state;
	assert_int_equal(played_start(3, "fail", "no luck today", &r), -EIO);
	assert_true(r.message.n > 0);
	assert_non_null(memmem(r.message.p, r.message.n, "no luck today", 13));
	assert_int_equal(played_start(3, "serve", NULL, &r), 0);
	assert_int_equal(played_start(3, "serve", NULL, &r), -EEXIST);
	assert_int_equal(played_stop(3, 0), 0);
}

static void refuses_bad_starts(void **state)
{
	struct sandboxd_start s = played_program(0, "serve", NULL);
	struct env_var env = {.name = STR("A=B"), .value = STR("x")};

	(void)state;
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &s, NULL, NULL), -EINVAL);
	s.sandbox = 4;
	s.target_port = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &s, NULL, NULL), -EINVAL);
	s.target_port = 80;
	s.env = &env;
	s.n_env = 1;
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &s, NULL, NULL), -EINVAL);
	env = (struct env_var){.name = STR("A"), .secret_ref = STR("s")};
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &s, NULL, NULL), -EINVAL);
	s.n_env = 0;
	s.n_command = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_START, &s, NULL, NULL), -EINVAL);
}

static void slots_are_bounded_and_come_back(void **state)
{
	(void)state;
	for (uint64_t i = 10; i < 18; i++)
		assert_int_equal(played_start(i, "serve", NULL, NULL), 0);
	assert_int_equal(played_start(18, "serve", NULL, NULL), -ENOSPC);
	assert_int_equal(played_stop(12, 0), 0);
	assert_int_equal(played_start(18, "serve", NULL, NULL), 0);
	for (uint64_t i = 10; i < 19; i++) {
		if (i != 12)
			assert_int_equal(played_stop(i, 0), 0);
	}
}

/* A uid range is nobody else's while anything of its sandbox is left: after a stop, or a start, that failed half way. */
static void a_slot_stays_taken_until_all_is_gone(void **state)
{
	(void)state;
	for (uint64_t i = 61; i < 68; i++)
		assert_int_equal(played_start(i, "serve", NULL, NULL), 0);
	assert_int_equal(played_start(60, "sticky", "2", NULL), 0);
	for (int fails = 0; fails < 2; fails++) {
		assert_int_equal(played_stop(60, 0), -EBUSY);
		assert_int_equal(played_start(68, "serve", NULL, NULL), -ENOSPC);
	}
	assert_int_equal(played_stop(60, 0), 0);
	assert_int_equal(played_start(68, "debris", "1", NULL), -EIO);
	assert_int_equal(played_start(69, "serve", NULL, NULL), -ENOSPC);
	assert_int_equal(played_start(68, "serve", NULL, NULL), -ECHILD);
	assert_int_equal(played_stop(68, 0), -EBUSY);
	assert_int_equal(played_start(69, "serve", NULL, NULL), -ENOSPC);
	assert_int_equal(played_stop(68, 0), 0);
	assert_int_equal(played_start(69, "serve", NULL, NULL), 0);
	for (uint64_t i = 61; i < 70; i++) {
		if (i != 68)
			assert_int_equal(played_stop(i, 0), 0);
	}
}

/* A start that takes long delays no dial, and a stop that comes meanwhile is kept. */
static void slow_calls_delay_nobody(void **state)
{
	struct sandboxd_start slow;
	struct sandboxd_stop end = {.sandbox = 21};
	struct sandboxd_reply r;
	uint64_t started, stopped;
	int fd = -1;

	(void)state;
	assert_int_equal(played_start(20, "serve", NULL, NULL), 0);
	slow = played_program(21, "slow", "1500");
	played.words[2] = STR("serve");
	slow.n_command = 3;
	uint64_t before = clock_boot_ms();

	started = client_send(&played.client, SANDBOXD_START, &slow, -1);
	stopped = client_send(&played.client, SANDBOXD_STOP, &end, -1);
	assert_int_equal(played_dial(20, 0, &fd), 0); /* the port that it was started with */
	assert_true(clock_boot_ms() - before < 1500);
	close(fd);
	assert_int_equal(client_wait(&played.client, started, &r, NULL), 0);
	assert_int_equal(r.code, 0);
	assert_int_equal(client_wait(&played.client, stopped, &r, NULL), 0);
	assert_int_equal(r.code, 0);
	assert_int_equal(played_stop(20, 0), 0);
}

/* Hundreds that ignore their signal, each for its whole grace: a start, a stop and a quick end of one of them wait for none. */
static void deaf_ones_delay_nobody(void **state)
{
	enum { DEAF = 600 };
	uint32_t before = played.settings.uid_count;
	struct sandboxd_stop end = {.grace_ms = 600000};
	struct sandboxd_reply r;

	(void)state;
	played.settings.uid_count = 65536u * (DEAF + 10);
	played_restart();
	for (uint64_t id = 1000; id < 1000 + DEAF; id++)
		assert_int_equal(played_start(id, "deaf", NULL, NULL), 0);
	for (end.sandbox = 1000; end.sandbox < 1000 + DEAF; end.sandbox++)
		client_send(&played.client, SANDBOXD_STOP, &end, -1);
	assert_int_equal(played_start(90, "serve", NULL, NULL), 0);
	assert_int_equal(played_stop(90, 10000), 0);
	assert_int_equal(played_stop(1000 + DEAF - 1, 0), 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_LIST, NULL, &r, NULL), 0);
	assert_int_equal(r.n_sandboxes, DEAF - 1);
	for (uint64_t id = 1000; id < 1000 + DEAF - 1; id++)
		assert_int_equal(played_stop(id, 0), 0);
	played.settings.uid_count = before;
	played_restart();
}

static void the_fence_freezes_and_thaws(void **state)
{
	struct sandboxd_fence fence = {.boot_ms = clock_boot_ms() + 100};
	struct sandboxd_reply r;
	int fd = -1;

	(void)state;
	assert_int_equal(played_start(30, "serve", NULL, NULL), 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	for (int i = 0; i < 400; i++) {
		assert_int_equal(client_call(&played.client, SANDBOXD_LIST, NULL, &r, NULL), 0);
		if (r.sandboxes[0].frozen)
			break;
		usleep(10000);
	}
	assert_true(r.sandboxes[0].frozen);
	assert_int_equal(played_dial(30, 8080, NULL), -EBUSY);
	assert_int_equal(played_start(31, "serve", NULL, NULL), -EAGAIN);
	fence.boot_ms = clock_boot_ms() + 60000;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_int_equal(played_dial(30, 8080, &fd), 0);
	close(fd);
	fence.boot_ms = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_int_equal(played_stop(30, 0), 0);
}

/* The next one goes on with the deadline of the one before. */
static void the_fence_outlives_the_server(void **state)
{
	struct sandboxd_fence fence = {.boot_ms = clock_boot_ms() + 1};

	(void)state;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	usleep(2000);
	played_restart();
	assert_int_equal(played_start(33, "serve", NULL, NULL), -EAGAIN);
	fence.boot_ms = clock_boot_ms() + 60000;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	played_restart();
	assert_int_equal(played_start(33, "serve", NULL, NULL), 0);
	fence.boot_ms = 0;
	assert_int_equal(client_call(&played.client, SANDBOXD_FENCE, &fence, NULL, NULL), 0);
	assert_int_equal(played_stop(33, 0), 0);
}

static void gives_the_log(void **state)
{
	struct sandboxd_log l = {.sandbox = 40};
	char text[256] = "";
	int fd = -1;

	(void)state;
	assert_int_equal(played_start(40, "serve", NULL, NULL), 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_LOG, &l, NULL, &fd), 0);
	assert_true(read(fd, text, sizeof text - 1) > 0);
	assert_non_null(strstr(text, "stdout F serving"));
	close(fd);
	l.pool_uid = 6;
	assert_int_equal(client_call(&played.client, SANDBOXD_LOG, &l, NULL, NULL), -ENOENT);
	assert_int_equal(played_stop(40, 0), 0);
}

static int kept_log(struct sandboxd_log ask, struct sandboxd_reply *ret, char *text, size_t size)
{
	int fd = -1, code = client_call(&played.client, SANDBOXD_LOG, &ask, ret, &fd);
	ssize_t n = code == 0 ? read(fd, text, size - 1) : 0;

	text[n < 0 ? 0 : n] = '\0';
	close(fd);
	return code;
}

/* By its number, by its session's tag, and the newest of a pool; until a restart, and after it. */
static void logs_outlive_their_sandboxes(void **state)
{
	static const char tag[] = "0123456789abcdef0123456789abcdef";
	struct sandboxd_stop end = {.sandbox = 41, .tag = str_of(tag)};
	struct sandboxd_log by_tag = {.tag = str_of(tag), .pool_uid = 5};
	struct sandboxd_reply r = {0};
	char text[256], path[192];
	struct stat st;

	(void)state;
	assert_int_equal(played_start(41, "serve", NULL, NULL), 0);
	assert_int_equal(played_start(42, "serve", NULL, NULL), 0);
	end.tag = STR("0123456789ABCDEF0123456789abcdef");
	assert_int_equal(client_call(&played.client, SANDBOXD_STOP, &end, NULL, NULL), -EINVAL);
	end.tag = STR("../../../etc/passwd/..");
	assert_int_equal(client_call(&played.client, SANDBOXD_STOP, &end, NULL, NULL), -EINVAL);
	end.tag = str_of(tag);
	assert_int_equal(client_call(&played.client, SANDBOXD_STOP, &end, NULL, NULL), 0);
	assert_int_equal(played_stop(42, 0), 0);
	for (int restarted = 0; restarted < 2; restarted++) {
		assert_int_equal(kept_log((struct sandboxd_log){.sandbox = 41}, &r, text, sizeof text), 0);
		assert_non_null(strstr(text, "stdout F serving"));
		assert_int_equal(kept_log(by_tag, &r, text, sizeof text), 0);
		assert_int_equal(r.sandbox, 41);
		assert_true(r.wall_ms <= clock_wall_ms() && r.wall_ms + 60000 > clock_wall_ms());
		assert_int_equal(kept_log((struct sandboxd_log){.pool_uid = 5}, &r, text, sizeof text), 0);
		assert_int_equal(r.sandbox, 42);
		by_tag.pool_uid = 6;
		assert_int_equal(kept_log(by_tag, &r, text, sizeof text), -ENOENT);
		by_tag.pool_uid = 5;
		by_tag.older = true;
		assert_int_equal(kept_log(by_tag, &r, text, sizeof text), -ENOENT);
		by_tag.older = false;
		if (restarted == 0)
			played_restart();
	}
	snprintf(path, sizeof path, "%s/logs", played.dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
}

static void hello_comes_first_and_fits(void **state)
{
	struct client other;

	(void)state;
	assert_int_equal(client_connect(&other, played.settings.socket), 0);
	assert_int_equal(client_call(&other, SANDBOXD_LIST, NULL, NULL, NULL), -EPROTO);
	struct sandboxd_hello newer = {SANDBOXD_PROTOCOL + 1, STR(CLUSTER), 1, false};
	struct sandboxd_reply r = {0};

	assert_int_equal(client_call(&other, SANDBOXD_HELLO, &newer, &r, NULL), -EPROTO);
	assert_non_null(strstr(r.message.p, "this sandboxd speaks"));
	assert_int_equal(client_hello(&other, CLUSTER, 2), -EPERM);
	assert_int_equal(client_hello(&other, "another", 1), -EPERM);
	assert_int_equal(client_hello(&other, CLUSTER, 1), 0);
	client_close(&other);
}

static void nonsense_ends_the_connection_alone(void **state)
{
	struct client other;
	struct sandboxd_reply r;

	(void)state;
	assert_int_equal(client_connect(&other, played.settings.socket), 0);
	assert_true(send(other.fd, "nonsense", 8, MSG_NOSIGNAL) == 8);
	assert_int_equal(client_wait(&other, 1, &r, NULL), -ECONNRESET);
	client_close(&other);
	assert_int_equal(client_call(&played.client, SANDBOXD_LIST, NULL, &r, NULL), 0);
}

static void images_are_not_pretended(void **state)
{
	struct sandboxd_image i = {.reference = STR("localhost/x:1")};

	(void)state;
	assert_int_equal(client_call(&played.client, SANDBOXD_PULL, &i, NULL, NULL), -ENOTSUP);
	assert_int_equal(
		client_call(&played.client, SANDBOXD_IMAGES, &(struct sandboxd_images){0}, NULL, NULL),
		-ENOTSUP);
}

/* Ends are told to whoever asks later, of this sandboxd or the next. */
static void remembers_ends(void **state)
{
	struct sandboxd_stop again = {.sandbox = 55};
	struct sandboxd_reply r;
	uint64_t ended;

	(void)state;
	assert_int_equal(played_start(55, "serve", NULL, NULL), 0);
	assert_int_equal(client_call(&played.client, SANDBOXD_STOP, &again, &r, NULL), 0);
	ended = r.wall_ms;
	played_restart();
	assert_int_equal(client_call(&played.client, SANDBOXD_STOP, &again, &r, NULL), -ENOENT);
	assert_int_equal(r.wall_ms, ended);
}

static void records_what_ran(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	char path[256];

	(void)state;
	assert_int_equal(played_start(50, "exit", "7", NULL), 0);
	assert_int_equal(played_stop(50, 1000), 0);
	snprintf(path, sizeof path, "%s/events", played.dir);
	assert_int_equal(fd_read_file(path, 65536, &b, NULL), 0);
	assert_non_null(strstr(buf_cstr(&b), "\"event\":\"started\""));
	assert_non_null(strstr(buf_cstr(&b), "\"event\":\"stopped\""));
	assert_non_null(strstr(buf_cstr(&b), "\"sandbox\":50,\"pool\":5,\"revision\":2"));
	assert_non_null(strstr(buf_cstr(&b), "\"cpu_milli\":"));
}

static int load(const char *file, struct err *err)
{
	struct settings s;
	char path[256];

	snprintf(path, sizeof path, "%s/conf", played.dir);
	assert_int_equal(fd_write_file(path, 0644, file, strlen(file), err), 0);
	int r = settings_load(path, &s, err);

	if (r == 0) {
		assert_string_equal(s.state_dir, "/s/sandboxd");
		assert_true(s.memory_max == 1ull << 30 && s.egress_base == 0);
		assert_true(s.vm == 1 && s.vm_emulation == 1);
		assert_string_equal(s.denied, "10.1.2.3 9.9.9.0/24");
	}
	return r;
}

#define FILE_HEAD \
	"state_dir = /s\nsandboxd_socket = /r/s\nuser = berth\negress_base =\nsandbox_memory_max = 1Gi\n"

static void reads_the_nodes_file(void **state)
{
	struct err err = {0};

	(void)state;
	if (geteuid() != 0)
		skip();
	if (load(FILE_HEAD "listen = :80\nmember = 1 n 10.1.2.3:1 host:2\negress_denied = 9.9.9.0/24\n"
			   "vm_emulation = on\n",
		 &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(load(FILE_HEAD "uid_base = 12\n", &err), -EINVAL);
	assert_non_null(strstr(err.message, "conf:6: uid_base: not a number of 100000 to 4000000000"));
	assert_int_equal(load(FILE_HEAD "resolvers = 1.1.1.1; drop\n", &err), -EINVAL);
	assert_non_null(strstr(err.message, "resolvers: not IPv4 addresses"));
	assert_int_equal(load(FILE_HEAD "vm_emulation = yes\n", &err), -EINVAL);
	assert_non_null(strstr(err.message, "vm_emulation: not on or off"));
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test(runs_dials_and_stops),
		cmocka_unit_test(bounds_those_who_wait_for_a_stop),
		cmocka_unit_test(tells_everybody_of_an_exit),
		cmocka_unit_test(a_start_is_shared),
		cmocka_unit_test(a_failed_start_names_the_cause),
		cmocka_unit_test(refuses_bad_starts),
		cmocka_unit_test(slots_are_bounded_and_come_back),
		cmocka_unit_test(a_slot_stays_taken_until_all_is_gone),
		cmocka_unit_test(slow_calls_delay_nobody),
		cmocka_unit_test(the_fence_freezes_and_thaws),
		cmocka_unit_test(the_fence_outlives_the_server),
		cmocka_unit_test(gives_the_log),
		cmocka_unit_test(logs_outlive_their_sandboxes),
		cmocka_unit_test(hello_comes_first_and_fits),
		cmocka_unit_test(nonsense_ends_the_connection_alone),
		cmocka_unit_test(images_are_not_pretended),
		cmocka_unit_test(records_what_ran),
		cmocka_unit_test(remembers_ends),
		cmocka_unit_test(deaf_ones_delay_nobody),
		cmocka_unit_test(reads_the_nodes_file),
	};

	return cmocka_run_group_tests_name("sandboxd", cases, played_open, played_close);
}
