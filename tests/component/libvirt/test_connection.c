/* Calls to a real libvirtd of the test's own: begun, killed, stopped, and calls that never come back. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "libvirt_connection/connection.h"

#define ANSWER_MS 60000u

static char dir[64];
static struct connection *c;

static pid_t pid_in(const char *name)
{
	CLEANUP_BUF struct buf b = {0};
	char path[128];

	snprintf(path, sizeof path, "%s/libvirtd/%s", dir, name);
	return fd_read_file(path, 64, &b, NULL) == 0 ? atoi(buf_cstr(&b)) : -1;
}

static void wait_gone(pid_t pid)
{
	uint64_t end = clock_boot_ms() + 20000;

	while (pid > 0 && kill(pid, 0) == 0 && clock_boot_ms() < end)
		usleep(5000);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static int open_libvirtd(void **state)
{
	struct connection_options o = {.bin_dir = BERTH_BIN};
	char own[80];
	struct err err = {0};

	(void)state;
	snprintf(dir, sizeof dir, "/tmp/berth-libvirt.%d", (int)getpid());
	snprintf(own, sizeof own, "%s/libvirtd", dir);
	o.dir = own;
	if (mkdir(dir, 0711) != 0)
		return -1;
	return connection_new(&o, &c, &err);
}

static int close_libvirtd(void **state)
{
	pid_t launcher = pid_in("lock"), libvirtd = pid_in("run/libvirtd.pid");

	(void)state;
	connection_free(c);
	if (launcher > 0)
		kill(launcher, SIGTERM);
	wait_gone(libvirtd);
	wait_gone(launcher);
	if (kill(libvirtd, 0) == 0 || kill(launcher, 0) == 0)
		return -1;
	return nftw(dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static int count(virConnectPtr v, void *arg, struct err *err)
{
	int n = virConnectNumOfDomains(v);

	*(int *)arg = n;
	return n < 0 ? connection_error(err, -EIO, "count machines") : 0;
}

static void never(void *arg)
{
	(void)arg;
	fail();
}

static void answers(void)
{
	uint64_t end = clock_boot_ms() + 5000;
	struct err err = {0};
	int n = -1;

	/* What had a daemon and lost it a moment ago may be told so once. */
	while (connection_call(c, count, &n, never, ANSWER_MS, &err) < 0) {
		if (clock_boot_ms() > end)
			fail_msg("%s", err.message);
		usleep(10000);
	}
	assert_int_equal(n, 0);
}

static void begins_one(void **state)
{
	(void)state;
	answers();
	assert_true(pid_in("lock") > 0);
	answers();
}

static void comes_back_after_kill(void **state)
{
	pid_t libvirtd;

	(void)state;
	answers();
	for (int k = 0; k < 3; k++) {
		libvirtd = pid_in("run/libvirtd.pid");
		assert_true(libvirtd > 0);
		kill(libvirtd, SIGKILL);
		wait_gone(libvirtd);
		answers();
		assert_true(pid_in("run/libvirtd.pid") != libvirtd);
	}
}

/* Nobody restarts it then but sandboxd. */
static void comes_back_without_the_launcher(void **state)
{
	pid_t launcher, libvirtd;

	(void)state;
	answers();
	launcher = pid_in("lock");
	libvirtd = pid_in("run/libvirtd.pid");
	kill(launcher, SIGKILL);
	wait_gone(libvirtd);
	answers();
	assert_true(pid_in("lock") != launcher);
}

static atomic_int dropped;

static void drop(void *arg)
{
	free(arg);
	atomic_fetch_add(&dropped, 1);
}

static void wait_dropped(int n)
{
	uint64_t end = clock_boot_ms() + 30000;

	while (atomic_load(&dropped) < n && clock_boot_ms() < end)
		usleep(5000);
	assert_int_equal(atomic_load(&dropped), n);
}

static void a_stopped_daemon_is_told(void **state)
{
	int *n = malloc(sizeof *n);
	uint64_t began;
	struct err err = {0};
	pid_t libvirtd;

	(void)state;
	answers();
	atomic_store(&dropped, 0);
	libvirtd = pid_in("run/libvirtd.pid");
	kill(libvirtd, SIGSTOP);
	began = clock_boot_ms();
	assert_int_equal(connection_call(c, count, n, drop, 500, &err), -ETIMEDOUT);
	assert_true(clock_boot_ms() - began < 5000);
	assert_non_null(strstr(err.message, "500 ms"));
	assert_int_equal(atomic_load(&dropped), 0);
	kill(libvirtd, SIGCONT);
	wait_dropped(1);
	answers();
}

/* Holds its connection's answers up as a call does that the daemon never finishes. */
static int stuck(virConnectPtr v, void *arg, struct err *err)
{
	(void)v;
	(void)arg;
	(void)err;
	sleep(4);
	return 0;
}

static void *one_stuck(void *arg)
{
	struct err err = {0};

	(void)arg;
	return (void *)(intptr_t)connection_call(c, stuck, malloc(1), drop, 300, &err);
}

/* More of them than there are places. */
static void stuck_calls_hold_up_nobody(void **state)
{
	pthread_t t[CONNECTION_CALLS_MAX];
	uint64_t began;
	void *r;

	(void)state;
	answers();
	atomic_store(&dropped, 0);
	for (size_t k = 0; k < CONNECTION_CALLS_MAX; k++)
		assert_int_equal(pthread_create(&t[k], NULL, one_stuck, NULL), 0);
	for (size_t k = 0; k < CONNECTION_CALLS_MAX; k++) {
		pthread_join(t[k], &r);
		assert_int_equal((intptr_t)r, -ETIMEDOUT);
	}
	began = clock_boot_ms();
	answers();
	assert_true(clock_boot_ms() - began < 3000);
	assert_int_equal(atomic_load(&dropped), 0);
	wait_dropped(CONNECTION_CALLS_MAX);
}

static int fails(virConnectPtr v, void *arg, struct err *err)
{
	(void)arg;
	return virDomainLookupByName(v, "no-such-machine") == NULL
		       ? connection_error(err, -ENOENT, "find machine")
		       : 0;
}

static void says_what_libvirt_says(void **state)
{
	struct err err = {0};
	int unused;

	(void)state;
	assert_int_equal(connection_call(c, fails, &unused, never, ANSWER_MS, &err), -ENOENT);
	assert_non_null(strstr(err.message, "find machine: "));
	assert_non_null(strstr(err.message, "no-such-machine"));
}

int main(void)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test_setup_teardown(begins_one, open_libvirtd, close_libvirtd),
		cmocka_unit_test_setup_teardown(comes_back_after_kill, open_libvirtd, close_libvirtd),
		cmocka_unit_test_setup_teardown(comes_back_without_the_launcher, open_libvirtd,
						close_libvirtd),
		cmocka_unit_test_setup_teardown(a_stopped_daemon_is_told, open_libvirtd, close_libvirtd),
		cmocka_unit_test_setup_teardown(stuck_calls_hold_up_nobody, open_libvirtd, close_libvirtd),
		cmocka_unit_test_setup_teardown(says_what_libvirt_says, open_libvirtd, close_libvirtd),
	};

	if (geteuid() != 0 || access("/usr/sbin/libvirtd", X_OK) != 0) {
		fprintf(stderr, "SKIPPED: needs root and /usr/sbin/libvirtd (libvirt-daemon-system)\n");
		return 77;
	}
	signal(SIGPIPE, SIG_IGN); /* as sandboxd does: libvirt's client writes to a daemon that is gone */
	return cmocka_run_group_tests(cases, NULL, NULL);
}
