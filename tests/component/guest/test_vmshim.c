/* berth-vmshim, with guests that are played by the test: what an honest one says arrives, and what a hostile one does costs
 * only itself. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "libvirt_shim/guest_shim.h"
#include "played_agent.h"
#include "sandbox/sandbox_dir.h"

#define LOG_BYTES 262144
#define UID       61234

static char dir[64];
static struct guest_shim *shim;

static struct guest_shim *begin(void)
{
	const struct guest_shim_options o = {
		.bin_dir = BERTH_BIN, .dir = dir, .uid = UID, .log_bytes = LOG_BYTES};
	struct guest_shim *g = NULL;
	struct err err = {0};
	int pair[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
	if (guest_shim_new(&o, pair[0], &g, &err) < 0)
		fail_msg("%s", err.message);
	close(pair[0]);
	agent = pair[1];
	return g;
}

static int set_up(void **state)
{
	(void)state;
	strcpy(dir, "/tmp/guest.shim.XXXXXX");
	if (mkdtemp(dir) == NULL || chmod(dir, 0711) != 0)
		return -1;
	shim = begin();
	return 0;
}

static bool is_over(int timeout_ms)
{
	struct pollfd p = {guest_shim_pidfd(shim), POLLIN, 0};

	return guest_shim_pidfd(shim) < 0 || poll(&p, 1, timeout_ms) == 1;
}

static int tear_down(void **state)
{
	struct err err = {0};

	(void)state;
	fd_close(&agent);
	if (shim != NULL && !is_over(WAIT_MS))
		return -1;
	guest_shim_free(shim);
	shim = NULL;
	return sandbox_dir_remove(dir, &err);
}

/* -- Helpers of the host's part ------------------------------------------------------------------------------- */

static struct str argv[] = {{"sh", 2}};
static struct str env[] = {{"TOKEN=secret", 12}};
static const struct guest_spec spec = {
	.argv = argv, .n_argv = 1, .env = env, .n_env = 1, .pids_max = 16, .disk_bytes = 1 << 20};

struct starting {
	pthread_t thread;
	int r;
	struct err err;
};

static void *start(void *arg)
{
	struct starting *s = arg;

	s->r = guest_shim_start(shim, &spec, WAIT_MS, &s->err);
	return NULL;
}

static void hello(void)
{
	struct err err = {0};

	if (guest_shim_hello(shim, WAIT_MS, &err) < 0)
		fail_msg("%s", err.message);
}

static void run_program(void)
{
	struct starting s;

	forget_heard();
	answer_hello(GUEST_IDLE);
	hello();
	assert_int_equal(pthread_create(&s.thread, NULL, start, &s), 0);
	assert_int_equal(hear().type, GUEST_START);
	say_frame(GUEST_RUNNING, NULL, NULL);
	pthread_join(s.thread, NULL);
	assert_int_equal(s.r, 0);
}

static struct buf read_log(const char *name)
{
	struct buf b = {0};
	char path[128];

	snprintf(path, sizeof path, "%s/log/%s", dir, name);
	assert_int_equal(fd_read_file(path, 64u << 20, &b, NULL), 0);
	return b;
}

static void assert_logged(const char *text)
{
	CLEANUP_BUF struct buf b = read_log("log");

	if (strstr(buf_cstr(&b), text) == NULL)
		fail_msg("\"%s\" is not in the log:\n%s", text, buf_cstr(&b));
}

static struct driver_exit ended(void)
{
	struct driver_exit e;

	assert_true(is_over(WAIT_MS));
	guest_shim_exit(shim, &e);
	return e;
}

static pid_t shim_pid(void)
{
	char path[64], line[256];
	int pid = 0;

	snprintf(path, sizeof path, "/proc/self/fdinfo/%d", guest_shim_pidfd(shim));
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL)
		sscanf(line, "Pid: %d", &pid);
	fclose(f);
	assert_true(pid > 0);
	return pid;
}

static void status_of_shim(char *text, size_t size)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/status", (int)shim_pid());
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	text[fread(text, 1, size - 1, f)] = '\0';
	fclose(f);
}

/* -- Honest guests -------------------------------------------------------------------------------------------- */

static void a_program_from_hello_to_exit(void **state)
{
	struct guest_exit e = {.value = 3};
	struct driver_exit told;
	struct stat st;
	char path[80];

	(void)state;
	run_program();
	assert_string_equal(guest_shim_release(shim), "6.1.0-played");
	assert_true(guest_shim_running(shim));
	say_output(1, "one\ntw");
	say_output(2, "complaint\n");
	say_output(1, "o\nthree");
	say_frame(GUEST_EXIT, guest_body_codec[GUEST_EXIT], &e);
	assert_int_equal(hear().type, GUEST_BYE);
	fd_close(&agent);
	told = ended();
	assert_int_equal(told.how, SANDBOX_EXIT_CODE);
	assert_int_equal(told.value, 3);
	assert_true(told.wall_ms > 0 && told.wall_ms <= clock_wall_ms());
	assert_logged("Z stdout F one\n");
	assert_logged("Z stderr F complaint\n");
	assert_logged("Z stdout F two\n");
	assert_logged("Z stdout F three\n");
	snprintf(path, sizeof path, "%s/log/log", dir);
	assert_true(stat(path, &st) == 0 && st.st_uid == UID);
}

static void the_start_says_everything(void **state)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct guest_start s;
	struct starting t;
	struct guest_frame f;

	(void)state;
	forget_heard();
	answer_hello(GUEST_IDLE);
	hello();
	assert_int_equal(pthread_create(&t.thread, NULL, start, &t), 0);
	f = hear();
	assert_int_equal(f.type, GUEST_START);
	assert_int_equal(guest_frame_body(&f, &guest_start_codec, &arena, &s, NULL), 0);
	assert_true(str_eq(s.argv[0], argv[0]) && str_eq(s.env[0], env[0]));
	assert_true(str_eq(s.hostname, STR("sandbox")));
	assert_int_equal(s.seed.n, GUEST_SEED_BYTES);
	assert_true(s.wall_ns / 1000000 + 60000 > clock_wall_ms());
	struct guest_failed failed = {.status = 127, .message = STR("\"sh\": not found\x1b[2J")};

	say_frame(GUEST_FAILED, guest_body_codec[GUEST_FAILED], &failed);
	pthread_join(t.thread, NULL);
	assert_int_equal(t.r, -ENOEXEC);
	assert_string_equal(t.err.message, "\"sh\": not found?[2J");
	assert_int_equal(ended().value, 127);
}

static void signals_and_clock_arrive(void **state)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct guest_signal signal = {0};
	struct guest_clock clock = {0};
	struct guest_frame f;

	(void)state;
	run_program();
	assert_int_equal(guest_shim_signal(shim, SIGTERM), 0);
	f = hear();
	assert_int_equal(f.type, GUEST_SIGNAL);
	assert_int_equal(guest_frame_body(&f, guest_body_codec[GUEST_SIGNAL], &arena, &signal, NULL), 0);
	assert_int_equal(signal.signal, SIGTERM);
	assert_int_equal(guest_shim_clock(shim), 0);
	f = hear();
	assert_int_equal(f.type, GUEST_CLOCK);
	assert_int_equal(guest_frame_body(&f, guest_body_codec[GUEST_CLOCK], &arena, &clock, NULL), 0);
	assert_true(clock.wall_ns / 1000000 + 10000 > clock_wall_ms());
}

static void exits_for_want_of_memory(void **state)
{
	struct guest_exit e = {.signalled = true, .value = SIGKILL, .oom = true};

	(void)state;
	run_program();
	say_frame(GUEST_OOM, NULL, NULL);
	say_frame(GUEST_EXIT, guest_body_codec[GUEST_EXIT], &e);
	assert_int_equal(ended().how, SANDBOX_EXIT_OOM);
	assert_logged("system F a process of this sandbox was killed: out of memory\n");
}

static void a_killed_machine_has_no_known_exit(void **state)
{
	(void)state;
	run_program();
	say_output(1, "last words");
	fd_close(&agent);
	assert_int_equal(ended().how, SANDBOX_EXIT_UNKNOWN);
	assert_logged("stdout F last words\n");
}

static void outlives_sandboxd(void **state)
{
	struct err err = {0};

	(void)state;
	run_program();
	guest_shim_free(shim);
	shim = NULL;
	assert_int_equal(guest_shim_adopt(dir, &shim, &err), 0);
	assert_true(guest_shim_running(shim));
	assert_int_equal(guest_shim_signal(shim, SIGUSR1), 0);
	assert_int_equal(hear().type, GUEST_SIGNAL);
	guest_shim_free(shim);
	shim = NULL;
	say_frame(GUEST_EXIT, guest_body_codec[GUEST_EXIT], &(struct guest_exit){.value = 9});
	assert_int_equal(hear().type, GUEST_BYE);
	assert_int_equal(guest_shim_adopt(dir, &shim, &err), 0);
	assert_int_equal(guest_shim_pidfd(shim), -1);
	assert_false(guest_shim_running(shim));
	assert_int_equal(ended().value, 9);
}

static void a_dead_shim_is_adopted_as_over(void **state)
{
	struct err err = {0};

	(void)state;
	run_program();
	assert_int_equal(syscall(SYS_pidfd_send_signal, guest_shim_pidfd(shim), SIGKILL, NULL, 0), 0);
	assert_true(is_over(WAIT_MS));
	guest_shim_free(shim);
	shim = NULL;
	assert_int_equal(guest_shim_adopt(dir, &shim, &err), 0);
	assert_int_equal(guest_shim_pidfd(shim), -1);
	assert_int_equal(ended().how, SANDBOX_EXIT_UNKNOWN);
	guest_shim_free(shim);
	shim = NULL;
	assert_int_equal(guest_shim_adopt("/tmp", &shim, &err), -ENOENT);
}

/* Restored in the middle of an output frame: its end, and more frames, come before the answer. */
static void a_restored_machine_goes_on(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	struct guest_output lost = {.stream = 1, .bytes = STR("lost\n")};

	(void)state;
	forget_heard();
	buf_add_str(&b, STR("the end of a frame that began elsewhere, BG\x01\x00 in it"));
	guest_frame_write(&b, GUEST_OUTPUT, guest_body_codec[GUEST_OUTPUT], &lost);
	add_hello(&b, GUEST_RAN);
	say(b.p, b.n);
	hello();
	assert_true(guest_shim_running(shim));
	say_output(1, "kept\n");
	say_frame(GUEST_EXIT, guest_body_codec[GUEST_EXIT], &(struct guest_exit){.value = 0});
	assert_int_equal(ended().how, SANDBOX_EXIT_CODE);
	assert_logged("stdout F kept\n");
}

/* -- Hostile guests ------------------------------------------------------------------------------------------- */

static void has_no_privileges(void **state)
{
	char text[4096], path[64];
	struct dirent *entry;
	int n = 0;

	(void)state;
	run_program();
	status_of_shim(text, sizeof text);
	assert_non_null(strstr(text, "Uid:\t61234\t61234\t61234\t61234\n"));
	assert_non_null(strstr(text, "Gid:\t61234\t61234\t61234\t61234\n"));
	assert_non_null(strstr(text, "CapPrm:\t0000000000000000\n"));
	assert_non_null(strstr(text, "NoNewPrivs:\t1\n"));
	assert_non_null(strstr(text, "Seccomp:\t2\n"));
	snprintf(path, sizeof path, "/proc/%d/fd", (int)shim_pid());
	DIR *fds = opendir(path);

	assert_non_null(fds);
	while ((entry = readdir(fds)) != NULL)
		n += entry->d_name[0] != '.';
	closedir(fds);
	/* 0 to 2, the socket, sandboxd, the agent, exit, the log and its directory. */
	assert_int_equal(n, 9);
}

static void garbage_ends_it(void **state)
{
	(void)state;
	run_program();
	say("what is this?", 13);
	assert_int_equal(ended().how, SANDBOX_EXIT_UNKNOWN);
	assert_logged("system F the machine's agent broke the protocol: no frame begins with 77 68\n");
}

static void a_frame_too_long_ends_it(void **state)
{
	(void)state;
	run_program();
	say("BG\x01\x07\xff\xff\xff\x7f", 8);
	assert_int_equal(ended().how, SANDBOX_EXIT_UNKNOWN);
	assert_logged("a frame of 2147483647 bytes\n");
}

static void frames_out_of_turn_end_it(void **state)
{
	(void)state;
	forget_heard();
	answer_hello(GUEST_IDLE);
	hello();
	say_frame(GUEST_RUNNING, NULL, NULL); /* nothing was started */
	assert_int_equal(ended().how, SANDBOX_EXIT_UNKNOWN);
	assert_logged("a frame of type 5 out of turn\n");
}

static void another_version_is_told(void **state)
{
	struct err err = {0};

	(void)state;
	say("BG\x02\x00\x01\x00\x00\x00\x90", 9);
	assert_int_equal(guest_shim_hello(shim, WAIT_MS, &err), -EPROTO);
	assert_non_null(strstr(err.message, "another version of the protocol"));
}

static void silence_is_not_waited_for(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(guest_shim_hello(shim, 100, &err), -ETIMEDOUT);
	assert_string_equal(err.message, "no answer of its agent within 100 ms");
	fd_close(&agent);
	assert_int_equal(guest_shim_hello(shim, WAIT_MS, &err), -ECONNRESET);
}

/* Noise without an end, and never an answer to the hello. */
static void noise_without_hello_ends(void **state)
{
	static char noise[65536];
	struct err err = {0};
	size_t sent = 0;

	(void)state;
	memset(noise, 'B', sizeof noise);
	while (sent < 64u << 20) {
		ssize_t n = send(agent, noise, sizeof noise, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	assert_true(sent < 64u << 20);
	assert_int_equal(guest_shim_hello(shim, WAIT_MS, &err), -EPROTO);
	assert_int_equal(ended().how, SANDBOX_EXIT_UNKNOWN);
}

static uint64_t used_ms(void)
{
	char path[64], text[512];
	unsigned long user = 0, system = 0;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)shim_pid());
	FILE *f = fopen(path, "re");

	assert_non_null(f);
	assert_non_null(fgets(text, sizeof text, f));
	fclose(f);
	sscanf(strrchr(text, ')') + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lu %lu", &user, &system);
	return (user + system) * 1000 / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* The dearest there is: many lines of nothing, in frames of one byte. */
static void a_flood_costs_only_the_guest(void **state)
{
	CLEANUP_BUF struct buf flood = {0};
	struct guest_output o = {.stream = 1, .bytes = STR("\n")};
	uint64_t begun = clock_boot_ms(), took, used;
	char path[80];
	struct stat st;

	(void)state;
	run_program();
	for (int i = 0; i < 4096; i++)
		guest_frame_write(&flood, GUEST_OUTPUT, guest_body_codec[GUEST_OUTPUT], &o);
	for (size_t at = 0; clock_boot_ms() - begun < 8000;) {
		ssize_t n = send(agent, flood.p + at, flood.n - at, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n > 0)
			at = (at + (size_t)n) % flood.n;
		else
			usleep(1000);
	}
	took = clock_boot_ms() - begun;
	used = used_ms();
	print_message("a flood of %llu ms cost %llu ms of processor time\n", (unsigned long long)took,
		      (unsigned long long)used);
	assert_true(used < took / 5 + 500);
	assert_int_equal(guest_shim_signal(shim, SIGTERM), 0); /* it is still there for us */
	assert_int_equal(hear().type, GUEST_SIGNAL);
	fd_close(&agent);
	assert_true(is_over(WAIT_MS));
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/log/%s", dir, i == 0 ? "log" : "log.1");
		assert_int_equal(stat(path, &st), 0);
		assert_true(st.st_size > 0 && st.st_size <= LOG_BYTES / 2);
	}
}

static void an_exit_that_stays_is_left(void **state)
{
	(void)state;
	run_program();
	say_frame(GUEST_EXIT, guest_body_codec[GUEST_EXIT], &(struct guest_exit){.value = 5});
	assert_true(is_over(10000)); /* although the channel is open */
	assert_int_equal(ended().value, 5);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)

int main(void)
{
	static const struct CMUnitTest cases[] = {
		CASE(a_program_from_hello_to_exit),
		CASE(the_start_says_everything),
		CASE(signals_and_clock_arrive),
		CASE(exits_for_want_of_memory),
		CASE(a_killed_machine_has_no_known_exit),
		CASE(outlives_sandboxd),
		CASE(a_dead_shim_is_adopted_as_over),
		CASE(a_restored_machine_goes_on),
		CASE(has_no_privileges),
		CASE(garbage_ends_it),
		CASE(a_frame_too_long_ends_it),
		CASE(frames_out_of_turn_end_it),
		CASE(another_version_is_told),
		CASE(silence_is_not_waited_for),
		CASE(noise_without_hello_ends),
		CASE(a_flood_costs_only_the_guest),
		CASE(an_exit_that_stays_is_left),
	};

	if (geteuid() != 0) {
		fprintf(stderr, "SKIPPED: needs root\n");
		return 77;
	}
	return cmocka_run_group_tests_name("vmshim", cases, NULL, NULL);
}
