/* The contract of drivers/driver.h, the same for every driver: each case runs against the scripted one, against
 * real containers and against real virtual machines. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drivers_world/world.h"

enum program { SERVE, DEAF, EXIT_3, KILLED_9, MISSING, PROGRAMS };

/* The same behaviour, said to each driver in its own words. */
static const char *const real_programs[PROGRAMS][8] = {
	[SERVE] = {"sh", "-c",
		   "trap 'kill %1; exit 143' TERM; echo serving; httpd -f -p 8080 -h /www & wait"},
	[DEAF] = {"sh", "-c", "trap '' TERM; echo serving; httpd -f -p 8080 -h /www"},
	[EXIT_3] = {"sh", "-c", "exit 3"},
	[KILLED_9] = {"sh", "-c", "sleep 0.2; exec sleep 100"},
	[MISSING] = {"no-such-program"},
};
static const char *const scripted_programs[PROGRAMS][8] = {
	[SERVE] = {"serve"},
	[DEAF] = {"deaf"},
	[EXIT_3] = {"exit", "3"},
	[KILLED_9] = {"signal", "9"},
	[MISSING] = {"no-such-program"},
};

static enum world_kind kind;
static struct world world;

/* One for each case; machines share theirs, because a libvirtd and a canary take longer than the case. */
static int open_world(void **state)
{
	(void)state;
	if (kind != WORLD_LIBVIRT || world.driver == NULL)
		return world_open(&world, kind);
	world.next_id = 1;
	return 0;
}

static int close_world(void **state)
{
	(void)state;
	return kind == WORLD_LIBVIRT ? world_left_behind(&world) : world_close(&world);
}

static int close_shared(void **state)
{
	(void)state;
	return kind == WORLD_LIBVIRT && world.driver != NULL ? world_close(&world) : 0;
}

static void program(struct world_start *s, enum program p)
{
	world_program(&world, s, kind == WORLD_SCRIPTED ? scripted_programs[p] : real_programs[p]);
}

static struct driver_instance *run(enum program p)
{
	struct driver_instance *i = NULL;
	struct world_start s;
	struct err err = {0};

	program(&s, p);
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

static void stop(struct driver_instance *i, uint32_t grace_ms)
{
	struct err err = {0};

	if (world.driver->ops->stop(world.driver, i, grace_ms, &err) < 0)
		fail_msg("%s", err.message);
	world.driver->ops->release(world.driver, i);
}

static void serves_requests(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct driver_info info;
	char log[4096];

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	assert_true(info.pid > 0);
	assert_true(info.sandbox == 1 && info.pool_uid == 7 && info.revision == 1 &&
		    info.target_port == 8080);
	assert_true(world_log_has(&world, i, " stdout F serving\n", log, sizeof log));
	assert_int_equal(world_get(&world, i, 8080), 200);
	stop(i, 5000);
}

static void tells_exit_codes(void **state)
{
	struct driver_instance *i = run(EXIT_3);
	struct driver_exit e;

	(void)state;
	assert_true(world_wait(&world, i, &e));
	assert_int_equal(e.how, SANDBOX_EXIT_CODE);
	assert_int_equal(e.value, 3);
	assert_true(e.wall_ms > 0);
	stop(i, 1000);
}

static void tells_signals(void **state)
{
	struct driver_instance *i = run(KILLED_9);
	struct driver_exit e;

	(void)state;
	if (kind != WORLD_SCRIPTED)
		world.driver->ops->kill(world.driver, i);
	assert_true(world_wait(&world, i, &e));
	assert_int_equal(e.how, SANDBOX_EXIT_SIGNAL);
	assert_int_equal(e.value, 9);
	stop(i, 1000);
}

static void says_what_is_missing(void **state)
{
	struct driver_instance *i = NULL;
	struct world_start s;
	struct err err = {0};

	(void)state;
	program(&s, MISSING);
	assert_true(world.driver->ops->start(world.driver, &s.how, &i, &err) < 0);
	assert_null(i);
	assert_non_null(strstr(err.message, "no-such-program"));
	assert_non_null(strstr(err.message, "start sandbox 1"));
}

static void stop_sends_the_signal(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct driver_exit e;
	struct err err = {0};

	(void)state;
	assert_int_equal(world_get(&world, i, 8080), 200);
	assert_int_equal(world.driver->ops->stop(world.driver, i, 15000, &err), 0);
	world.driver->ops->exit_status(world.driver, i, &e);
	if (kind != WORLD_SCRIPTED) { /* its own handler ran */
		assert_int_equal(e.how, SANDBOX_EXIT_CODE);
		assert_int_equal(e.value, 143);
	} else {
		assert_int_equal(e.value, SIGTERM);
	}
	world.driver->ops->release(world.driver, i);
}

static void stop_kills_after_the_grace(void **state)
{
	struct driver_instance *i = run(DEAF);
	struct driver_exit e;
	struct err err = {0};

	(void)state;
	assert_int_equal(world_get(&world, i, 8080), 200);
	assert_int_equal(world.driver->ops->stop(world.driver, i, 200, &err), 0);
	world.driver->ops->exit_status(world.driver, i, &e);
	assert_int_equal(e.how, SANDBOX_EXIT_SIGNAL);
	assert_int_equal(e.value, SIGKILL);
	world.driver->ops->release(world.driver, i);
}

static void frozen_is_killed_too(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct err err = {0};

	(void)state;
	assert_int_equal(world_get(&world, i, 8080), 200);
	assert_int_equal(world.driver->ops->freeze(world.driver, i, true, &err), 0);
	assert_int_equal(world.driver->ops->freeze(world.driver, i, false, &err), 0);
	assert_int_equal(world_get(&world, i, 8080), 200);
	assert_int_equal(world.driver->ops->freeze(world.driver, i, true, &err), 0);
	stop(i, 0);
}

static void egress_needs_a_start_with_it(void **state)
{
	struct driver_instance *i = run(SERVE);
	struct err err = {0};

	(void)state;
	assert_int_equal(world.driver->ops->egress(world.driver, i, true, &err), -ENOTSUP);
	assert_int_equal(world.driver->ops->egress(world.driver, i, false, &err), 0);
	stop(i, 0);
}

#define PARALLEL 20

struct parallel {
	struct world_start s;
	struct driver_instance *i;
	int r;
	struct err err;
};

static void *start_one(void *arg)
{
	struct parallel *p = arg;

	p->r = world.driver->ops->start(world.driver, &p->s.how, &p->i, &p->err);
	return NULL;
}

static void starts_in_parallel(void **state)
{
	static struct parallel p[PARALLEL];
	pthread_t t[PARALLEL];

	(void)state;
	for (int k = 0; k < PARALLEL; k++) {
		p[k] = (struct parallel){0};
		program(&p[k].s, SERVE);
		p[k].s.how.argv = p[k].s.argv;
		p[k].s.how.env = p[k].s.env;
		assert_int_equal(pthread_create(&t[k], NULL, start_one, &p[k]), 0);
	}
	for (int k = 0; k < PARALLEL; k++)
		pthread_join(t[k], NULL);
	for (int k = 0; k < PARALLEL; k++) {
		if (p[k].r < 0)
			fail_msg("%s", p[k].err.message);
		assert_int_equal(world_get(&world, p[k].i, 8080), 200);
	}
	for (int k = 0; k < PARALLEL; k++)
		stop(p[k].i, 0);
}

static const struct CMUnitTest cases[] = {
	cmocka_unit_test_setup_teardown(serves_requests, open_world, close_world),
	cmocka_unit_test_setup_teardown(tells_exit_codes, open_world, close_world),
	cmocka_unit_test_setup_teardown(tells_signals, open_world, close_world),
	cmocka_unit_test_setup_teardown(says_what_is_missing, open_world, close_world),
	cmocka_unit_test_setup_teardown(stop_sends_the_signal, open_world, close_world),
	cmocka_unit_test_setup_teardown(stop_kills_after_the_grace, open_world, close_world),
	cmocka_unit_test_setup_teardown(frozen_is_killed_too, open_world, close_world),
	cmocka_unit_test_setup_teardown(egress_needs_a_start_with_it, open_world, close_world),
	cmocka_unit_test_setup_teardown(starts_in_parallel, open_world, close_world),
};

/* All drivers, or those that are named. */
static int run_all(char **only, const char *name, enum world_kind which, const char *lacks, int *skipped)
{
	bool wanted = only[0] == NULL;

	for (; *only != NULL; only++)
		wanted |= strcmp(*only, name) == 0;
	if (!wanted)
		return 0;
	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED the cases on %s: %s\n", name, lacks);
		(*skipped)++;
		return 0;
	}
	kind = which;
	world = (struct world){.keeper = -1};
	return cmocka_run_group_tests_name(name, cases, NULL, close_shared);
}

int main(int argc, char **argv)
{
	char **only = argv + (argc > 0);
	int skipped = 0, failed = run_all(only, "scripted", WORLD_SCRIPTED, NULL, &skipped);

	failed += run_all(only, "lxc", WORLD_LXC, world_lacks_lxc(), &skipped);
	failed += run_all(only, "libvirt", WORLD_LIBVIRT, world_lacks_libvirt(), &skipped);
	return failed > 0 ? 1 : skipped > 0 ? 77 : 0;
}
