/* Real machines when something dies: QEMU, libvirtd, its launcher, sandboxd in the middle of it, the guest's kernel. All cases share
 * one driver; at the end nothing of any is left. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "drivers_world/world.h"

#define SERVE "echo serving; httpd -f -p 8080 -h /www"

static struct world world;

static int open_world(void **state)
{
	(void)state;
	return world_open(&world, WORLD_LIBVIRT);
}

static int close_world(void **state)
{
	(void)state;
	return world_close(&world);
}

static struct driver_instance *run(const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct driver_instance *i = NULL;
	struct world_start s;
	struct err err = {0};

	world_program(&world, &s, argv);
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

static void stop(struct driver_instance *i)
{
	struct err err = {0};

	if (world.driver->ops->stop(world.driver, i, 0, &err) < 0)
		fail_msg("%s", err.message);
	world.driver->ops->release(world.driver, i);
}

static pid_t qemu_of(struct driver_instance *i)
{
	struct driver_info info;

	world.driver->ops->info(world.driver, i, &info);
	assert_true(info.pid > 0);
	return (pid_t)info.pid;
}

static void serves(struct driver_instance *i)
{
	int r = world_get(&world, i, 8080);

	if (r != 200)
		fail_msg("GET: %d", r);
}

static void wait_gone(pid_t pid)
{
	uint64_t end = clock_boot_ms() + 20000;

	while (kill(pid, 0) == 0 && clock_boot_ms() < end) {
		(void)!waitpid(pid, NULL, WNOHANG);
		usleep(5000);
	}
	assert_int_equal(kill(pid, 0), -1);
}

/* -- QEMU and the guest ---------------------------------------------------------------------------------------------- */

static void a_killed_qemu_is_an_exit(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct driver_exit e;

	(void)state;
	serves(i);
	assert_int_equal(kill(qemu_of(i), SIGKILL), 0);
	assert_true(world_wait(&world, i, &e));
	assert_int_equal(e.how, SANDBOX_EXIT_UNKNOWN);
	assert_true(e.wall_ms > 0);
	stop(i);
}

/* The kernel resets its machine when it panics; programs of an image cannot make it. */
static void a_reset_is_an_exit(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct driver_info info;
	struct driver_exit e;
	char command[400];

	(void)state;
	serves(i);
	world.driver->ops->info(world.driver, i, &info);
	snprintf(command, sizeof command,
		 "virsh -q -c 'qemu+unix:///system?socket=%s/vm/libvirtd/run/libvirt-sock' "
		 "reset berth-%08x-%016" PRIx64,
		 world.dir, (uint32_t)str_hash_stable(STR("test"), world.node), info.sandbox);
	assert_int_equal(system(command), 0);
	assert_true(world_wait(&world, i, &e));
	assert_int_equal(e.how, SANDBOX_EXIT_UNKNOWN);
	stop(i);
}

/* It takes no signal and answers nobody. */
static void a_hung_guest_is_stopped(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct driver_exit e;
	struct err err = {0};
	uint64_t began;

	(void)state;
	serves(i);
	kill(qemu_of(i), SIGSTOP);
	began = clock_boot_ms();
	assert_int_equal(world.driver->ops->stop(world.driver, i, 500, &err), 0);
	assert_true(clock_boot_ms() - began < 20000);
	world.driver->ops->exit_status(world.driver, i, &e);
	assert_int_equal(e.how, SANDBOX_EXIT_SIGNAL);
	assert_int_equal(e.value, SIGKILL);
	world.driver->ops->release(world.driver, i);
}

static void a_frozen_one_uses_nothing_and_goes_on(void **state)
{
	struct driver_instance *i = run("httpd -p 8080 -h /www; while :; do :; done");
	struct driver_stats a, b;
	struct err err = {0};

	(void)state;
	serves(i);
	assert_int_equal(world.driver->ops->freeze(world.driver, i, true, &err), 0);
	usleep(100000);
	assert_int_equal(world.driver->ops->stats(world.driver, i, &a, &err), 0);
	assert_true(a.cpu_us > 0 && a.memory_bytes > 1u << 20);
	usleep(1000000);
	assert_int_equal(world.driver->ops->stats(world.driver, i, &b, &err), 0);
	assert_true(b.cpu_us - a.cpu_us < 20000);
	assert_int_equal(world.driver->ops->freeze(world.driver, i, false, &err), 0);
	serves(i);
	stop(i);
}

/* Its guest's seconds are the host's again after it stood still. */
static void a_thawed_one_has_the_time(void **state)
{
	struct driver_instance *i = run("while :; do read x < /dev/null; date +now=%s; sleep 0.2; done");
	char log[65536], *last, *at;
	struct err err = {0};
	int64_t off = 100;

	(void)state;
	assert_true(world_log_has(&world, i, "now=", log, sizeof log));
	assert_int_equal(world.driver->ops->freeze(world.driver, i, true, &err), 0);
	usleep(5000000);
	assert_int_equal(world.driver->ops->freeze(world.driver, i, false, &err), 0);
	for (int n = 0; n < 300 && (off > 2 || off < -2); n++) {
		usleep(100000);
		assert_true(world_log_has(&world, i, "now=", log, sizeof log));
		for (last = at = strstr(log, "now="); at != NULL; at = strstr(at + 4, "now="))
			last = at;
		off = (int64_t)(clock_wall_ms() / 1000) - strtoll(last + 4, NULL, 10);
	}
	assert_in_range(off + 2, 0, 4);
	stop(i);
}

/* -- libvirtd -------------------------------------------------------------------------------------------------------- */

static void without_libvirtd_it_serves_and_comes_back(void **state)
{
	struct driver_instance *i = run(SERVE), *k;
	pid_t libvirtd = world_libvirtd_pid(&world, "run/libvirtd.pid");

	(void)state;
	serves(i);
	kill(libvirtd, SIGKILL);
	serves(i);
	k = run(SERVE);
	serves(k);
	serves(i);
	stop(i);
	stop(k);
}

static void without_the_launcher_too(void **state)
{
	struct driver_instance *i = run(SERVE), *k;
	pid_t launcher = world_libvirtd_pid(&world, "lock"),
	      libvirtd = world_libvirtd_pid(&world, "run/libvirtd.pid");

	(void)state;
	serves(i);
	kill(launcher, SIGKILL);
	wait_gone(libvirtd);
	serves(i);
	k = run(SERVE);
	serves(k);
	stop(i);
	stop(k);
}

static void *stop_one(void *arg)
{
	struct err err = {0};

	return (void *)(intptr_t)world.driver->ops->stop(world.driver, arg, 0, &err);
}

/* A stuck daemon: what runs serves, is frozen and killed, and its end is told; only the removal waits. */
static void a_stuck_libvirtd_holds_up_nobody(void **state)
{
	struct driver_instance *i = run(SERVE), *k = run(SERVE);
	pid_t libvirtd = world_libvirtd_pid(&world, "run/libvirtd.pid");
	struct driver_exit e;
	struct err err = {0};
	pthread_t t;
	void *r;

	(void)state;
	serves(i);
	serves(k);
	kill(libvirtd, SIGSTOP);
	assert_int_equal(pthread_create(&t, NULL, stop_one, i), 0);
	assert_true(world_wait(&world, i, &e));
	serves(k);
	assert_int_equal(world.driver->ops->freeze(world.driver, k, true, &err), 0);
	assert_int_equal(world.driver->ops->freeze(world.driver, k, false, &err), 0);
	serves(k);
	world.driver->ops->kill(world.driver, k);
	assert_true(world_wait(&world, k, &e));
	kill(libvirtd, SIGCONT);
	pthread_join(t, &r);
	assert_int_equal((intptr_t)r, 0);
	world.driver->ops->release(world.driver, i);
	stop(k);
}

/* -- sandboxd -------------------------------------------------------------------------------------------------------- */

static struct driver_instance *found[8];
static unsigned n_found;

static void on_found(struct driver_instance *i, void *arg)
{
	(void)arg;
	if (n_found < sizeof found / sizeof *found)
		found[n_found++] = i;
}

static void adopt_anew(void)
{
	struct err err = {0};

	world_close_driver(&world);
	n_found = 0;
	if (world_open_driver(&world, &err) < 0 || world_adopt(&world, on_found, NULL, &err) < 0 ||
	    world.driver->ops->prove(world.driver, &err) < 0)
		fail_msg("%s", err.message);
}

static void what_runs_is_adopted(void **state)
{
	struct driver_instance *i = run(SERVE), *k = run("sleep 1; exit 5"), *l = run(SERVE);
	struct driver_info before, after;
	struct driver_exit e;
	pid_t killed = qemu_of(l);
	char log[4096];
	unsigned seen = 0;

	(void)state;
	serves(i);
	world.driver->ops->info(world.driver, i, &before);
	world.driver->ops->release(world.driver, i);
	world.driver->ops->release(world.driver, k);
	world.driver->ops->release(world.driver, l);
	kill(killed, SIGKILL);
	wait_gone(killed);
	usleep(3000000);
	adopt_anew();
	assert_int_equal(n_found, 3);
	for (unsigned n = 0; n < n_found; n++) {
		world.driver->ops->info(world.driver, found[n], &after);
		if (after.sandbox == before.sandbox) {
			assert_memory_equal(&after, &before, sizeof before);
			serves(found[n]);
			assert_true(world_log_has(&world, found[n], "stdout F serving\n", log, sizeof log));
			assert_true(world.driver->ops->exit_fd(world.driver, found[n]) >= 0);
			seen |= 1;
		} else if (after.sandbox == before.sandbox + 1) {
			assert_true(world_wait(&world, found[n], &e));
			assert_int_equal(e.how, SANDBOX_EXIT_CODE);
			assert_int_equal(e.value, 5);
			seen |= 2;
		} else {
			assert_int_equal(world.driver->ops->exit_fd(world.driver, found[n]), -1);
			seen |= 4;
		}
		stop(found[n]);
	}
	assert_int_equal(seen, 7);
}

/* sandboxd dies while a guest boots: the next one finds nothing that counts as running, and removes it. */
static void what_never_finished_is_removed(void **state)
{
	static const char *const argv[] = {"sh", "-c", SERVE, NULL};
	char path[300], name[64];
	struct world_start s;
	struct err err = {0};
	uint64_t end;

	(void)state;
	world_program(&world, &s, argv);
	snprintf(name, sizeof name, "berth-%08x-%016" PRIx64,
		 (uint32_t)str_hash_stable(STR("test"), world.node), s.how.sandbox);
	snprintf(path, sizeof path, "%s/vm/libvirtd/run/qemu/%s.pid", world.dir, name);
	pid_t child = fork();

	if (child == 0) {
		struct driver_instance *i;

		if (world_open_driver(&world, &err) == 0 && world.driver->ops->prove(world.driver, &err) == 0)
			(void)!world.driver->ops->start(world.driver, &s.how, &i, &err);
		_exit(1);
	}
	end = clock_boot_ms() + 90000;
	while (access(path, F_OK) != 0 && clock_boot_ms() < end)
		usleep(1000);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	assert_int_equal(access(path, F_OK), 0);
	adopt_anew();
	assert_int_equal(n_found, 1);
	assert_int_equal(world.driver->ops->exit_fd(world.driver, found[0]), -1);
	stop(found[0]);
	assert_int_equal(access(path, F_OK), -1);
}

/* -- Many ------------------------------------------------------------------------------------------------------------- */

static long open_files(const char *pid)
{
	char path[64];
	DIR *d;
	long n = 0;

	snprintf(path, sizeof path, "/proc/%s/fd", pid);
	d = opendir(path);
	while (d != NULL && readdir(d) != NULL)
		n++;
	if (d != NULL)
		closedir(d);
	return n;
}

/* BERTH_MACHINES: how many, one after the other, each ending in another way. What they leave on the host is counted at the end. */
static void cycles_leave_nothing(void **state)
{
	const char *given = getenv("BERTH_MACHINES");
	long cycles = given != NULL ? atol(given) : 4, before[2] = {0};
	char libvirtd[16];

	(void)state;
	snprintf(libvirtd, sizeof libvirtd, "%d", (int)world_libvirtd_pid(&world, "run/libvirtd.pid"));
	for (long n = 0; n <= cycles; n++) {
		struct driver_instance *i = run(n % 4 == 1 ? "exit 1" : SERVE);
		struct driver_exit e;

		if (n % 4 == 2)
			world.driver->ops->kill(world.driver, i);
		if (n % 4 == 3)
			kill(qemu_of(i), SIGKILL);
		if (n % 4 > 0)
			assert_true(world_wait(&world, i, &e));
		else
			serves(i);
		stop(i);
		if (n == 0) {
			before[0] = open_files("self");
			before[1] = open_files(libvirtd);
		}
	}
	assert_in_range(open_files("self"), 1, before[0] + 2);
	assert_in_range(open_files(libvirtd), 1, before[1] + 4);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(cycles_leave_nothing),
		cmocka_unit_test(a_killed_qemu_is_an_exit),
		cmocka_unit_test(a_reset_is_an_exit),
		cmocka_unit_test(a_hung_guest_is_stopped),
		cmocka_unit_test(a_frozen_one_uses_nothing_and_goes_on),
		cmocka_unit_test(a_thawed_one_has_the_time),
		cmocka_unit_test(without_libvirtd_it_serves_and_comes_back),
		cmocka_unit_test(without_the_launcher_too),
		cmocka_unit_test(a_stuck_libvirtd_holds_up_nobody),
		cmocka_unit_test(what_runs_is_adopted),
		cmocka_unit_test(what_never_finished_is_removed),
	};
	const char *lacks = world_lacks_libvirt();

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests(cases, open_world, close_world);
}
