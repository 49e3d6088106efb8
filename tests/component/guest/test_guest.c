/* berth-guest in real machines: what a program of an image finds there, what is told of its end, and what a hostile one can
 * do. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "machine.h"

#define DRAWS 32

static struct machine m = {.monitor = -1};

static int boot(void **state)
{
	(void)state;
	machine_boot(&m);
	return 0;
}

static int boot_slow(void **state)
{
	(void)state;
	machine_boot_slow(&m);
	return 0;
}

static int end(void **state)
{
	(void)state;
	machine_done(&m);
	return 0;
}

static void assert_log(const char *text)
{
	if (strstr(m.log, text) == NULL)
		fail_msg("\"%s\" is not in the log:\n%s", text, m.log);
}

static void assert_no_log(const char *text)
{
	if (strstr(m.log, text) != NULL)
		fail_msg("\"%s\" is in the log:\n%s", text, m.log);
}

/* Gone by itself, within a time. */
static void assert_off(void)
{
	for (int ms = 0; waitpid(m.qemu, NULL, WNOHANG) == 0; ms += 10) {
		assert_true(ms < 60000);
		usleep(10000);
	}
	m.qemu = 0;
}

static void runs_the_program_as_the_image_says(void **state)
{
	static const char *const argv[] = {
		"sh", "-c",
		"id; pwd; echo $GREETING; echo home=$HOME; echo empty=${EMPTY-unset}; echo complaint >&2; "
		"grep Cap /proc/self/status; grep NoNew /proc/self/status; cat /etc/resolv.conf; cat "
		"/etc/hosts; "
		"ls -l /dev | grep -c .; exit 3",
		NULL};
	struct err err = {0};

	(void)state;
	if (machine_start(&m, argv, "web", &err) < 0)
		fail_msg("%s", err.message);
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_CODE);
	assert_int_equal(m.exit.value, 3);
	assert_log("stdout F uid=1000(web) gid=1000(web) groups=2000(extra)\n");
	assert_log("stdout F /srv/made\n");
	assert_log("stdout F good day\n");
	assert_log("stdout F home=/home/web\n");
	assert_log("stdout F empty=\n");
	assert_log("stderr F complaint\n");
	assert_log("CapEff:\t0000000000000000\n");
	assert_log("CapBnd:\t00000000a00405fb\n"); /* as a container's, see drivers/lxc/shim/container.c */
	assert_log("NoNewPrivs:\t1\n");
	assert_log("stdout F nameserver 10.0.2.3\n");
	assert_log("stdout F 127.0.0.1 localhost\n");
	assert_off();
}

static void root_has_no_way_to_the_machine(void **state)
{
	(void)state;
	machine_run(&m, "mount -t tmpfs x /tmp || echo no mount; mknod /tmp/disk b 254 0 || echo no node; "
			"echo 0 >/proc/sys/kernel/panic || echo no setting; echo c >/proc/sysrq-trigger || "
			"echo no trigger; "
			"ls /dev/vport* /dev/vda /dev/mem 2>/dev/null || echo no device; hostname other || "
			"echo no name; "
			"ip link set lo down || echo no link; insmod /x.ko || echo no module; "
			"ls -d /m /cg /lo /up /init 2>/dev/null || echo no initramfs; "
			"ls /proc/1/root/ >/dev/null || echo no init; kill -9 1; kill -TERM 1; echo alive; "
			"unshare -m true || echo no namespace; echo here >/data/file && cat /data/file");
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_CODE);
	static const char *const expected[] = {"mount", "node",   "setting",   "trigger", "device",   "name",
					       "link",  "module", "initramfs", "init",    "namespace"};

	for (size_t i = 0; i < sizeof expected / sizeof *expected; i++) {
		char line[64];

		snprintf(line, sizeof line, "stdout F no %s\n", expected[i]);
		assert_log(line);
	}
	assert_log("stdout F alive\n");
	assert_log("stdout F here\n");
}

static void names_the_program_that_is_missing(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(machine_start(&m, (const char *const[]){"no-such-program", NULL}, "", &err),
			 -ENOEXEC);
	assert_non_null(strstr(err.message, "\"no-such-program\": not found in the image's PATH"));
	machine_wait(&m);
	assert_int_equal(m.exit.value, 127);
	assert_off();
}

static void names_the_user_that_is_missing(void **state)
{
	struct err err = {0};

	(void)state;
	assert_int_equal(machine_start(&m, (const char *const[]){"sh", NULL}, "nobody-here", &err), -ENOEXEC);
	assert_non_null(strstr(err.message, "user \"nobody-here\" is not in the image's /etc/passwd"));
}

/* 20 lines of a log that name the machine; `ret` gets what stands behind "name=". */
static void value_of(const char *name, char ret[64])
{
	char key[32];
	const char *at;

	snprintf(key, sizeof key, " F %s=", name);
	at = strstr(m.log, key);
	if (at == NULL)
		fail_msg("no %s in the log:\n%s", name, m.log);
	snprintf(ret, 64, "%.*s", (int)strcspn(at + strlen(key), "\n"), at + strlen(key));
}

static void is_somebody_of_its_own(void **state)
{
	static const char *const names[] = {"machine", "boot", "random"};
	char values[2][3][64], text[64];

	(void)state;
	for (int i = 0; i < 2; i++) {
		if (i == 1)
			machine_boot(&m);
		machine_run(&m, "echo machine=$(cat /etc/machine-id); echo boot=$(cat "
				"/proc/sys/kernel/random/boot_id); "
				"echo random=$(head -c 16 /dev/urandom | md5sum | head -c 32); echo "
				"host=$(hostname); "
				"echo time=$(date +%s); echo mac=$(cat /sys/class/net/eth0/address)");
		machine_wait(&m);
		for (int k = 0; k < 3; k++)
			value_of(names[k], values[i][k]);
		assert_int_equal(strlen(values[i][0]), 32);
		assert_int_equal(strlen(values[i][1]), 36);
		value_of("host", text);
		assert_string_equal(text, "machine-7");
		value_of("mac", text);
		assert_string_equal(text, "52:54:00:aa:bb:01");
		value_of("time", text);
		assert_in_range(strtoull(text, NULL, 10), clock_wall_ms() / 1000 - 60,
				clock_wall_ms() / 1000 + 1);
		if (i == 0)
			machine_done(&m);
	}
	for (int k = 0; k < 3; k++)
		assert_string_not_equal(values[0][k], values[1][k]);
}

static int get(int port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_port = htons((uint16_t)port),
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct timeval patience = {10, 0};
	char answer[256];
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0 ||
	    send(fd, "GET / HTTP/1.0\r\n\r\n", 18, MSG_NOSIGNAL) != 18)
		return 0;
	n = recv(fd, answer, sizeof answer - 1, 0);
	answer[n > 0 ? n : 0] = '\0';
	return n > 12 ? atoi(answer + 9) : 0;
}

static void serves_until_it_is_told_to_stop(void **state)
{
	int status = 0;

	(void)state;
	machine_run(
		&m,
		"trap 'echo leaving; kill %1; exit 143' TERM; echo serving; httpd -f -p 8080 -h /www & wait");
	assert_true(machine_logged(&m, "stdout F serving\n"));
	for (int i = 0; i < 50 && status != 200; i++) {
		status = get(m.port);
		usleep(100000);
	}
	assert_int_equal(status, 200);
	assert_int_equal(guest_shim_clock(m.shim), 0);
	assert_int_equal(guest_shim_signal(m.shim, SIGTERM), 0);
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_CODE);
	assert_int_equal(m.exit.value, 143);
	assert_log("stdout F leaving\n");
	assert_off();
}

static void tells_signals(void **state)
{
	uint64_t begun;

	(void)state;
	machine_run(&m, "sleep 1000 & (sleep 1000 &); exec sleep 1000"); /* orphans do not hold it up */
	begun = clock_boot_ms();
	assert_int_equal(guest_shim_signal(m.shim, SIGKILL), 0);
	machine_wait(&m);
	assert_true(clock_boot_ms() - begun < 9000);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_SIGNAL);
	assert_int_equal(m.exit.value, SIGKILL);
}

static void tells_that_memory_was_short(void **state)
{
	(void)state;
	machine_run(&m, "echo eating; exec tail /dev/zero");
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_OOM);
	assert_log("system F a process of this sandbox was killed: out of memory\n");
}

static void forks_and_files_are_bounded(void **state)
{
	(void)state;
	machine_run(&m, "i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i+1)); done; echo all 200");
	assert_true(machine_logged(&m, "can't fork"));
	machine_wait(&m);
	assert_no_log("all 200");
	machine_done(&m);
	machine_boot(&m);
	machine_run(&m, "dd if=/dev/zero of=/data/full bs=1M count=64 2>&1; ls -l /data/full; df -m / | tail "
			"-n1; echo still here");
	machine_wait(&m);
	assert_log("No space left on device\n");
	assert_log("still here\n");
}

/* As fast as it can, for ever: read no faster than the shim may, and stopped like any other. */
static void a_flooded_console_costs_its_machine(void **state)
{
	char path[128];
	struct stat st;

	(void)state;
	machine_run(&m, "yes $(head -c 3000 /dev/zero | tr '\\0' x)");
	sleep(5);
	assert_int_equal(guest_shim_signal(m.shim, SIGTERM), 0);
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_SIGNAL);
	assert_int_equal(m.exit.value, SIGTERM);
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s/log/%s", m.dir, i == 0 ? "log" : "log.1");
		assert_int_equal(stat(path, &st), 0);
		assert_in_range(st.st_size, 1, 512 << 10);
	}
}

static void a_killed_machine_is_over(void **state)
{
	(void)state;
	machine_run(&m, "echo up; sleep 1000");
	assert_true(machine_logged(&m, "stdout F up\n"));
	kill(m.qemu, SIGKILL);
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_UNKNOWN);
}

/* Saved in the middle of what it says. */
static void goes_on_where_it_was_restored(void **state)
{
	char *at;

	(void)state;
	machine_run(&m, "x=$(head -c 20000 /dev/zero | tr '\\0' x); while :; do echo $x; echo now=$(date "
			"+%s) >&2; done");
	assert_true(machine_logged(&m, "stderr F now="));
	machine_save(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_UNKNOWN);
	sleep(3);
	machine_restore(&m);
	assert_true(guest_shim_running(m.shim));
	assert_true(machine_logged(&m, "stderr F now="));
	assert_int_equal(guest_shim_clock(m.shim), 0);
	sleep(4);
	assert_int_equal(guest_shim_signal(m.shim, SIGTERM), 0);
	machine_wait(&m);
	assert_int_equal(m.exit.how, SANDBOX_EXIT_SIGNAL);
	at = strstr(m.log, "stderr F now=");
	for (char *next = at; next != NULL; next = strstr(at + 1, "stderr F now="))
		at = next;
	assert_non_null(at);
	assert_in_range(strtoull(at + strlen("stderr F now="), NULL, 10), clock_wall_ms() / 1000 - 20,
			clock_wall_ms() / 1000 + 1);
}

/* What a copy of the saved machine draws, each with a call of its own; and its uptime in seconds afterwards. */
static double take_draws(char ret[DRAWS][48])
{
	char text[64];
	const char *at;

	machine_restore(&m);
	machine_run(&m, "dd if=/dev/urandom bs=16 count=32 2>/dev/null | od -An -v -tx1; echo uptime=$(cat "
			"/proc/uptime)");
	machine_wait(&m);
	at = m.log;
	for (int i = 0; i < DRAWS; i++) {
		at = strstr(at, "stdout F  ");
		assert_non_null(at);
		at += strlen("stdout F  ");
		assert_int_equal(strcspn(at, "\n"), 47);
		snprintf(ret[i], 48, "%s", at);
	}
	value_of("uptime", text);
	return strtod(text, NULL);
}

/* A kernel's generator goes on from where it was saved: two copies draw the same numbers, a few places apart at most, until it is given
 * another state. That is the host's seed at START; or, one second after it began, the kernel's own, which would hide that there was none. */
static void copies_draw_numbers_of_their_own(void **state)
{
	static char draws[2][DRAWS][48];
	int same = 0;

	(void)state;
	machine_save(&m);
	for (int i = 0; i < 2; i++)
		assert_true(take_draws(draws[i]) < 1);
	for (int i = 0; i < DRAWS * DRAWS; i++)
		same += strcmp(draws[0][i / DRAWS], draws[1][i % DRAWS]) == 0;
	assert_int_equal(same, 0);
}

#define CASE(f) cmocka_unit_test_setup_teardown(f, boot, end)

int main(int argc, char **argv)
{
	static const struct CMUnitTest cases[] = {
		CASE(runs_the_program_as_the_image_says),
		CASE(root_has_no_way_to_the_machine),
		CASE(names_the_program_that_is_missing),
		CASE(names_the_user_that_is_missing),
		CASE(is_somebody_of_its_own),
		CASE(serves_until_it_is_told_to_stop),
		CASE(tells_signals),
		CASE(tells_that_memory_was_short),
		CASE(forks_and_files_are_bounded),
		CASE(a_flooded_console_costs_its_machine),
		CASE(a_killed_machine_is_over),
		CASE(goes_on_where_it_was_restored),
		cmocka_unit_test_setup_teardown(copies_draw_numbers_of_their_own, boot_slow, end),
	};
	const char *lacks = machine_lacks();

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("guest", cases, machine_files_make, machine_files_remove);
}
