/* Real machines that take what they can get: processor, memory, disk, processes, log; and what a QEMU that was taken over can reach. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "drivers_world/world.h"
#include "sandbox/cgroup.h"

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

static struct driver_instance *run(const char *script, struct driver_start *ret_how)
{
	const char *const argv[] = {"sh", "-c", script, NULL};
	struct driver_instance *i = NULL;
	struct world_start s;
	struct err err = {0};

	world_program(&world, &s, argv);
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	if (ret_how != NULL)
		*ret_how = s.how;
	return i;
}

static void stop(struct driver_instance *i)
{
	struct err err = {0};

	if (world.driver->ops->stop(world.driver, i, 0, &err) < 0)
		fail_msg("%s", err.message);
	world.driver->ops->release(world.driver, i);
}

/* What its log says behind `word`, once it does; waits as long as a busy machine needs. */
static long logged(struct driver_instance *i, const char *word)
{
	static char log[2u << 20];
	uint64_t end = clock_boot_ms() + 60000;

	while (clock_boot_ms() < end) {
		if (world_log_has(&world, i, word, log, sizeof log))
			return strtol(strstr(log, word) + strlen(word), NULL, 10);
	}
	fail_msg("its log never said %s: %.400s", word, log);
	return -1;
}

/* -- Bounds ---------------------------------------------------------------------------------------------------------- */

/* The number in the kernel's file, of the group of its QEMU or the next one above that has a bound. */
static uint64_t bound_of(pid_t pid, enum cgroup_controller c, const char *v1, const char *v2)
{
	char dir[CGROUP_PATH_MAX], path[CGROUP_PATH_MAX + 64];
	static struct cgroup_layout l;

	assert_int_equal(cgroup_layout_read("", &l, NULL), 0);
	assert_int_equal(cgroup_dir_of(&l, pid, c, dir, sizeof dir, NULL), 0);
	for (int level = 0; level < 3; level++) {
		CLEANUP_BUF struct buf b = {0};

		snprintf(path, sizeof path, "%s/%s", dir, l.h[l.of[c]].v2 ? v2 : v1);
		if (fd_read_file(path, 128, &b, NULL) == 0 && buf_cstr(&b)[0] >= '0' &&
		    buf_cstr(&b)[0] <= '9')
			return strtoull(buf_cstr(&b), NULL, 10);
		*strrchr(dir, '/') = '\0';
	}
	return UINT64_MAX;
}

/* On a busy machine what follows cannot tell. */
static void the_kernel_has_its_bounds(void **state)
{
	struct driver_instance *i = run("sleep 1000", NULL);
	struct driver_info info;
	uint64_t memory;

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	assert_int_equal(bound_of((pid_t)info.pid, CGROUP_CPU, "cpu.cfs_quota_us", "cpu.max"), 50000);
	memory = bound_of((pid_t)info.pid, CGROUP_MEMORY, "memory.limit_in_bytes", "memory.max");
	assert_in_range(memory, 64u << 20, 320u << 20);
	stop(i);
}

/* Half a processor, of which a busy machine may give it less. */
static void its_processor_time_is_bounded(void **state)
{
	struct driver_instance *i = run("echo busy; while :; do :; done", NULL);
	struct driver_stats a, b;
	struct err err = {0};
	uint64_t began, took;

	(void)state;
	logged(i, "busy");
	assert_int_equal(world.driver->ops->stats(world.driver, i, &a, &err), 0);
	began = clock_boot_ms();
	usleep(4000000);
	assert_int_equal(world.driver->ops->stats(world.driver, i, &b, &err), 0);
	took = clock_boot_ms() - began;
	assert_true(b.cpu_us > a.cpu_us);
	assert_true((b.cpu_us - a.cpu_us) / 1000 < took * 65 / 100);
	stop(i);
}

/* The program is killed for want of memory, and its host gives no more than it was to. */
static void its_memory_is_bounded(void **state)
{
	struct driver_instance *i = run("x=0123456789abcdef; while :; do x=$x$x; done", NULL);
	struct driver_exit e = {0};

	(void)state;
	assert_true(world_wait(&world, i, &e));
	assert_true(e.how == SANDBOX_EXIT_OOM || (e.how == SANDBOX_EXIT_CODE && e.value != 0) ||
		    e.how == SANDBOX_EXIT_SIGNAL);
	stop(i);
}

static void its_disk_is_bounded(void **state)
{
	struct driver_instance *i = run("dd if=/dev/zero of=/tmp/x bs=65536 count=1024 2>/dev/null; "
					"stat -c size=%s /tmp/x; httpd -f -p 8080 -h /www",
					NULL);
	long bytes = logged(i, "size=");

	(void)state;
	assert_in_range(bytes, 1, 16u << 20);
	assert_int_equal(world_get(&world, i, 8080), 200);
	stop(i);
}

static void a_fork_bomb_stays_inside(void **state)
{
	struct driver_instance *i = run(
		"httpd -p 8080 -h /www; (f() { f | f & }; f) 2>/dev/null; while :; do sleep 1; done", NULL);
	struct driver_instance *k = run("httpd -f -p 8080 -h /www", NULL);
	struct err err = {0};

	(void)state;
	assert_int_equal(world_get(&world, k, 8080), 200);
	assert_int_equal(world.driver->ops->stop(world.driver, i, 200, &err), 0);
	world.driver->ops->release(world.driver, i);
	assert_int_equal(world_get(&world, k, 8080), 200);
	stop(k);
}

static void a_flood_of_output_is_bounded(void **state)
{
	struct driver_instance *i =
		run("yes() { while :; do echo 0123456789012345678901234567890123456789; done; }; "
		    "yes & httpd -f -p 8080 -h /www",
		    NULL);
	char path[300];
	struct stat st;

	(void)state;
	assert_int_equal(world_get(&world, i, 8080), 200);
	usleep(5000000);
	for (int k = 0; k < 2; k++) {
		snprintf(path, sizeof path, "%s/vm/machines/%016" PRIx64 "/log/log%s", world.dir,
			 world.next_id - 1, k == 0 ? "" : ".1");
		if (stat(path, &st) == 0)
			assert_in_range(st.st_size, 0, 1u << 20);
	}
	assert_int_equal(world_get(&world, i, 8080), 200);
	stop(i);
}

/* -- A QEMU that was taken over ---------------------------------------------------------------------------------------- */

/* As that user, whether the path can be opened so. */
static bool can_open(uint32_t uid, const char *path, int flags)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		if (setgid(uid) != 0 || setuid(uid) != 0)
			_exit(3);
		_exit(open(path, flags | O_CLOEXEC) >= 0 ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
	return WEXITSTATUS(status) == 0;
}

static void runs_as_its_own_user_and_reaches_its_own_alone(void **state)
{
	static const char *const secrets[] = {"vm/libvirtd/run/libvirt-sock", "vm/libvirtd/etc/qemu.conf"};
	struct driver_start one, two;
	struct driver_instance *i = run("sleep 1000", &one), *k = run("sleep 1000", &two);
	struct driver_info info;
	char path[300], own[300];
	struct stat st;

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	snprintf(path, sizeof path, "/proc/%" PRId64 "/status", info.pid);
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(fd_read_file(path, 65536, &b, NULL), 0);
	snprintf(own, sizeof own, "\nUid:\t%u\t%u\t%u\t%u\n", one.uid_base, one.uid_base, one.uid_base,
		 one.uid_base);
	assert_non_null(strstr(buf_cstr(&b), own));
	assert_non_null(strstr(buf_cstr(&b), "CapEff:\t0000000000000000"));
	assert_non_null(strstr(buf_cstr(&b), "Seccomp:\t2"));
	snprintf(own, sizeof own, "%s/vm/machines/%016" PRIx64 "/qemu/disk", world.dir, one.sandbox);
	snprintf(path, sizeof path, "%s/vm/machines/%016" PRIx64 "/qemu/disk", world.dir, two.sandbox);
	assert_true(can_open(one.uid_base, own, O_RDONLY)); /* the way there works */
	assert_false(can_open(one.uid_base, own, O_RDWR));
	assert_false(can_open(one.uid_base, path, O_RDONLY));
	assert_true(can_open(two.uid_base, path, O_RDONLY));
	for (size_t n = 0; n < sizeof secrets / sizeof *secrets; n++) {
		snprintf(path, sizeof path, "%s/%s", world.dir, secrets[n]);
		assert_int_equal(stat(path, &st), 0);
		assert_false(can_open(one.uid_base, path, O_RDONLY));
	}
	stop(i);
	stop(k);
}

int main(int argc, char **argv)
{
	static const struct CMUnitTest cases[] = {
		cmocka_unit_test(the_kernel_has_its_bounds),
		cmocka_unit_test(its_processor_time_is_bounded),
		cmocka_unit_test(its_memory_is_bounded),
		cmocka_unit_test(its_disk_is_bounded),
		cmocka_unit_test(a_fork_bomb_stays_inside),
		cmocka_unit_test(a_flood_of_output_is_bounded),
		cmocka_unit_test(runs_as_its_own_user_and_reaches_its_own_alone),
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
