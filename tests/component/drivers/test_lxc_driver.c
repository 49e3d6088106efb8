/* What only real containers can show: privileges, limits, users, environments, memory, and who survives whom. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "drivers_world/world.h"
#include "sandbox/cgroup.h"

static struct world world;
static struct world_start s;
static char text[65536];

static int open_world(void **state)
{
	(void)state;
	return world_open(&world, WORLD_LXC);
}

static int close_world(void **state)
{
	(void)state;
	return world_close(&world);
}

static struct driver_instance *begin(void)
{
	struct driver_instance *i = NULL;
	struct err err = {0};

	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

static struct driver_instance *run_shell(const char *script)
{
	const char *const argv[] = {"sh", "-c", script, NULL};

	world_program(&world, &s, argv);
	return begin();
}

static void stop(struct driver_instance *i)
{
	struct err err = {0};

	if (world.driver->ops->stop(world.driver, i, 0, &err) < 0)
		fail_msg("%s", err.message);
	world.driver->ops->release(world.driver, i);
}

/* The script's output has to hold every one of these. */
static void expect_output(const char *script, const char *const *wanted)
{
	struct driver_instance *i = run_shell(script);
	struct driver_exit e;

	assert_true(world_wait(&world, i, &e));
	for (const char *const *w = wanted; *w != NULL; w++)
		world_log_has(&world, i, *w, text, sizeof text);
	for (; *wanted != NULL; wanted++) {
		if (strstr(text, *wanted) == NULL)
			fail_msg("\"%s\" is not in: %s", *wanted, text);
	}
	stop(i);
}

static void output_is_told_apart(void **state)
{
	static const char *const wanted[] = {" stdout F one\n", " stderr F two\n", " stdout F three\n", NULL};

	(void)state;
	expect_output("echo one; echo two >&2; printf three", wanted);
}

static void privileges_are_gone(void **state)
{
	static const char *const wanted[] = {"uid=0(root)",
					     "CapEff:	00000000a00405fb",
					     "NoNewPrivs:	1",
					     "Seccomp:	2",
					     "mount refused",
					     "unshare refused",
					     "host files refused",
					     "sysctl refused",
					     "only lo",
					     "Max core file size        0",
					     NULL};

	(void)state;
	expect_output("id; cat /proc/self/status /proc/self/limits;"
		      "mount -t tmpfs x /tmp 2>/dev/null || echo mount refused;"
		      "unshare -U true 2>/dev/null || echo unshare refused;"
		      "(echo x > /proc/sys/kernel/core_pattern) 2>/dev/null || echo sysctl refused;"
		      "(echo 1 > /sys/kernel/profiling) 2>/dev/null || echo host files refused;"
		      "test $(ls /sys/class/net | grep -vc '^lo$') = 0 && echo only lo",
		      wanted);
}

static void the_host_sees_shifted_ids(void **state)
{
	struct driver_instance *i = run_shell("echo up; sleep 60");
	struct driver_info info;
	char path[64];
	struct stat st;

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	snprintf(path, sizeof path, "/proc/%ld", (long)info.pid);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_uid, s.how.uid_base);
	stop(i);
}

static void users_are_found_by_name(void **state)
{
	static const char *const wanted[] = {
		"uid=1000(web) gid=1000(web)", "2000(extra)", "home=/home/web", "writes", "reopened", NULL};
	const char *const argv[] = {
		"sh", "-c", "id; echo home=$HOME; touch /data/x && echo writes; echo reopened > /dev/stdout",
		NULL};
	struct driver_instance *i;
	struct driver_exit e;

	(void)state;
	world_program(&world, &s, argv);
	s.how.user = STR("web");
	i = begin();
	assert_true(world_wait(&world, i, &e));
	world_log_has(&world, i, "reopened", text, sizeof text);
	for (const char *const *w = wanted; *w != NULL; w++) {
		if (strstr(text, *w) == NULL)
			fail_msg("\"%s\" is not in: %s", *w, text);
	}
	stop(i);
}

static void refusals_say_why(void **state)
{
	static const struct {
		const char *program, *user, *working_dir, *message;
	} cases[] = {
		{"true", "nobody-here", "", "user \"nobody-here\" is not in the image's /etc/passwd"},
		{"true", "web:nogroup", "", "group \"nogroup\" is not in the image's /etc/group"},
		{"nothing", "", "", "\"nothing\": not found in the image's PATH"},
		{"/bin/nothing", "", "", "\"/bin/nothing\": no such file in the image"},
		{"bad-interpreter", "", "", "the interpreter or loader that it names is not in the image"},
		{"true", "", "/bin/busybox", "working directory \"/bin/busybox\""},
	};

	(void)state;
	for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
		const char *const argv[] = {cases[k].program, NULL};
		struct driver_instance *i = NULL;
		struct err err = {0};

		world_program(&world, &s, argv);
		s.how.user = str_of(cases[k].user);
		s.how.working_dir = str_of(cases[k].working_dir);
		assert_true(world.driver->ops->start(world.driver, &s.how, &i, &err) < 0);
		if (strstr(err.message, cases[k].message) == NULL)
			fail_msg("\"%s\" is not in: %s", cases[k].message, err.message);
	}
}

static void environment_and_directory_arrive(void **state)
{
	const char *const argv[] = {"sh", "-c", "pwd; echo \"[$A]\"; env | grep -c ^SECRET=", NULL};
	struct driver_instance *i;
	struct driver_exit e;

	(void)state;
	world_program(&world, &s, argv);
	s.env[0] = STR("A=one\ntwo \"three\"");
	s.env[1] = STR("SECRET=hunter2");
	s.how.n_env = 2;
	s.how.working_dir = STR("/made/for/it");
	i = begin();
	assert_true(world_wait(&world, i, &e));
	assert_true(world_log_has(&world, i, " stdout F 1\n", text, sizeof text));
	assert_non_null(strstr(text, "F /made/for/it\n"));
	assert_non_null(strstr(text, "F [one\n"));
	assert_non_null(strstr(text, "F two \"three\"]\n"));
	stop(i);
}

static void limits_hold(void **state)
{
	struct driver_instance *i =
		run_shell("dd if=/dev/zero of=/big bs=1M count=64 2>&1; echo dd said $?;"
			  "sh -c 'for n in $(seq 100); do sleep 20 & done'; exec sleep 20");
	struct driver_stats stats;
	struct err err = {0};

	(void)state;
	assert_true(world_log_has(&world, i, "No space left on device", text, sizeof text));
	assert_true(world_log_has(&world, i, "an't fork", text, sizeof text));
	assert_int_equal(world.driver->ops->stats(world.driver, i, &stats, &err), 0);
	assert_true(stats.pids <= 64 && stats.memory_bytes <= 64u << 20);
	stop(i);
}

static int groups_of_ours(int64_t pid, int64_t *ret_parent)
{
	struct buf b = {0};
	char path[64];
	int n = 0;

	snprintf(path, sizeof path, "/proc/%" PRId64 "/status", pid);
	assert_int_equal(fd_read_file(path, 65536, &b, NULL), 0);
	*ret_parent = strtoll(strstr(buf_cstr(&b), "PPid:") + 5, NULL, 10);
	buf_done(&b);
	snprintf(path, sizeof path, "/proc/%" PRId64 "/cgroup", pid);
	assert_int_equal(fd_read_file(path, 65536, &b, NULL), 0);
	for (const char *at = buf_cstr(&b); (at = strstr(at, ":/berth-")) != NULL; at++)
		n++;
	buf_done(&b);
	return n;
}

/* The container's processes are in its groups; the monitor, which was born there, has left all of them. */
static void the_monitor_is_outside(void **state)
{
	struct driver_instance *i = run_shell("sleep 20");
	struct driver_info info;
	int64_t parent, above;
	int tries = 0;

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	assert_true(groups_of_ours(info.pid, &parent) >= 1);
	while (groups_of_ours(parent, &above) > 0 && ++tries < 500)
		usleep(10000);
	assert_in_range(tries, 0, 499);
	stop(i);
}

/* Empty files are memory as well: they end at a bound of their own, and nobody is killed. */
static void inodes_are_bounded(void **state)
{
	static const char *const wanted[] = {"No space left on device", "all made", "16384 in shm", NULL};

	(void)state;
	expect_output("mkdir /many; i=0; while true > /many/$i; do i=$((i + 1)); done;"
		      "test $i -gt 3000 && test $i -lt 4096 && echo all made;"
		      "echo $(stat -f -c %c /dev/shm) in shm",
		      wanted);
}

static void out_of_memory_is_told(void **state)
{
	struct driver_instance *i = run_shell("exec dd if=/dev/zero of=/dev/null bs=200M");
	struct driver_exit e;

	(void)state;
	assert_true(world_wait(&world, i, &e));
	assert_int_equal(e.how, SANDBOX_EXIT_OOM);
	stop(i);
}

static void logs_are_bounded(void **state)
{
	struct driver_instance *i = run_shell("seq 1 60000; echo last");
	struct driver_exit e;
	char path[300];
	struct stat now, old;

	(void)state;
	assert_true(world_wait(&world, i, &e));
	snprintf(path, sizeof path, "%s/sandboxes/%016lx/log/log", world.dir, (unsigned long)s.how.sandbox);
	assert_int_equal(stat(path, &now), 0);
	strcat(path, ".1");
	assert_int_equal(stat(path, &old), 0);
	assert_true(now.st_size + old.st_size <= (1 << 20));
	assert_true(old.st_size > (1 << 18));
	stop(i);
}

static void a_dead_shim_takes_its_container_along(void **state)
{
	struct driver_instance *i = run_shell("trap '' TERM HUP; sleep 100");
	struct driver_info info;
	struct driver_exit e;
	char path[64], line[256] = "";

	(void)state;
	world.driver->ops->info(world.driver, i, &info);
	/* The first process's parent is the monitor; its parent is the shim. */
	for (int up = 0; up < 2; up++) {
		CLEANUP_BUF struct buf b = {0};

		snprintf(path, sizeof path, "/proc/%ld/stat", (long)info.pid);
		assert_int_equal(fd_read_file(path, 4096, &b, NULL), 0);
		snprintf(line, sizeof line, "%s", strrchr(buf_cstr(&b), ')'));
		info.pid = strtol(line + 4, NULL, 10);
	}
	assert_int_equal(kill((pid_t)info.pid, SIGKILL), 0);
	assert_true(world_wait(&world, i, &e));
	assert_int_equal(e.how, SANDBOX_EXIT_UNKNOWN);
	world.driver->ops->info(world.driver, i, &info);
	for (int n = 0; n < 1000 && kill((pid_t)info.pid, 0) == 0; n++)
		usleep(5000);
	assert_int_equal(kill((pid_t)info.pid, 0), -1);
	stop(i);
}

/* -- A driver that is killed, and the one after it --------------------------------------------------------------- */

static struct driver_instance *found[8];
static unsigned n_found;

static void on_found(struct driver_instance *i, void *arg)
{
	(void)arg;
	found[n_found++] = i;
}

/* Starts them in a process of its own, which is then killed. */
static void start_and_die(const char *const *scripts, unsigned n, pid_t *ret_pids)
{
	int pipes[2];

	assert_int_equal(pipe(pipes), 0);
	pid_t child = fork();

	if (child == 0) {
		struct err err = {0};

		if (world_open_driver(&world, &err) < 0)
			_exit(1);
		for (unsigned k = 0; k < n; k++) {
			const char *const argv[] = {"sh", "-c", scripts[k], NULL};
			struct driver_instance *i;
			struct driver_info info;
			pid_t pid;

			world_program(&world, &s, argv);
			if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0) {
				fprintf(stderr, "%s\n", err.message);
				_exit(1);
			}
			world.driver->ops->info(world.driver, i, &info);
			pid = (pid_t)info.pid;
			(void)!write(pipes[1], &pid, sizeof pid);
		}
		raise(SIGKILL);
	}
	close(pipes[1]);
	for (unsigned k = 0; k < n; k++)
		assert_int_equal(read(pipes[0], &ret_pids[k], sizeof *ret_pids), sizeof *ret_pids);
	close(pipes[0]);
	waitpid(child, NULL, 0);
}

static void what_runs_is_adopted(void **state)
{
	static const char *const scripts[] = {"echo up; httpd -f -p 8080 -h /www", "sleep 0.3; exit 5"};
	struct driver_exit e;
	struct err err = {0};
	pid_t pids[2];
	unsigned seen = 0;

	(void)state;
	/* Shims come to this process when their parent dies: it reaps them. */
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	start_and_die(scripts, 2, pids);
	assert_int_equal(kill(pids[0], 0), 0);
	for (int n = 0; n < 1000 && kill(pids[1], 0) == 0; n++)
		usleep(5000); /* ends while nobody looks */
	n_found = 0;
	if (world.driver->ops->adopt(world.driver, on_found, NULL, &err) < 0)
		fail_msg("%s", err.message);
	assert_int_equal(n_found, 2);
	for (unsigned k = 0; k < n_found; k++) {
		struct driver_info info;

		world.driver->ops->info(world.driver, found[k], &info);
		if (info.sandbox == 1) {
			assert_int_equal(info.pid, pids[0]);
			assert_int_equal(world_get(&world, found[k], 8080), 200);
			seen++;
		} else {
			assert_true(world_wait(&world, found[k], &e));
			assert_int_equal(e.how, SANDBOX_EXIT_CODE);
			assert_int_equal(e.value, 5);
			seen++;
		}
		stop(found[k]);
	}
	assert_int_equal(seen, 2);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* Groups below each other, deeper than anybody removes: a stop that cannot end. */
static void deep_groups(char *ret, size_t size, uint64_t sandbox)
{
	char name[64];
	struct cgroup_layout l;
	struct err err = {0};
	size_t n;

	snprintf(name, sizeof name, "berth-%08x-%016" PRIx64,
		 (uint32_t)str_hash_stable(STR("test"), world.node), sandbox);
	assert_int_equal(cgroup_layout_read("", &l, &err), 0);
	assert_int_equal(cgroup_own_dir(&l, (unsigned)l.of[CGROUP_PIDS], name, ret, size, &err), 0);
	n = strlen(ret);
	for (int depth = 0; depth < 12; depth++) {
		if (mkdir(ret, 0755) != 0 && errno != EEXIST)
			fail_msg("%s: %s", ret, strerror(errno));
		n += (size_t)snprintf(ret + n, size - n, "/x");
	}
}

static void remove_deep_groups(char *path)
{
	for (int depth = 0; depth < 12; depth++) {
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
}

/* What cannot be removed stays this sandbox's, with its slot, for this driver and the next, until a stop has done it. */
static void what_is_left_keeps_its_slot(void **state)
{
	const char *const argv[] = {"nothing", NULL};
	struct driver_instance *i = run_shell("sleep 100");
	struct driver_info info;
	char groups[600];
	struct err err = {0};

	(void)state;
	deep_groups(groups, sizeof groups, s.how.sandbox);
	assert_int_equal(world.driver->ops->stop(world.driver, i, 0, &err), -EBUSY);
	world.driver->ops->release(world.driver, i);
	n_found = 0;
	assert_int_equal(world.driver->ops->adopt(world.driver, on_found, NULL, &err), 0);
	assert_int_equal(n_found, 1);
	world.driver->ops->info(world.driver, found[0], &info);
	assert_true(info.sandbox == s.how.sandbox && info.slot == s.how.slot &&
		    info.uid_base == s.how.uid_base);
	assert_int_equal(world.driver->ops->stop(world.driver, found[0], 0, &err), -EBUSY);
	remove_deep_groups(groups);
	stop(found[0]);

	world_program(&world, &s, argv);
	deep_groups(groups, sizeof groups, s.how.sandbox);
	assert_true(world.driver->ops->start(world.driver, &s.how, &i, &err) < 0);
	assert_non_null(i);
	remove_deep_groups(groups);
	stop(i);
}

static void debris_is_removed(void **state)
{
	char path[256];
	struct err err = {0};

	(void)state;
	snprintf(path, sizeof path, "%s/sandboxes/00000000000000aa", world.dir);
	assert_int_equal(mkdir(path, 0700), 0);
	n_found = 0;
	assert_int_equal(world.driver->ops->adopt(world.driver, on_found, NULL, &err), 0);
	assert_int_equal(n_found, 0);
	assert_int_equal(access(path, F_OK), -1);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

int main(void)
{
	const struct CMUnitTest cases[] = {
		T(output_is_told_apart),
		T(privileges_are_gone),
		T(the_host_sees_shifted_ids),
		T(users_are_found_by_name),
		T(refusals_say_why),
		T(environment_and_directory_arrive),
		T(limits_hold),
		T(the_monitor_is_outside),
		T(inodes_are_bounded),
		T(out_of_memory_is_told),
		T(logs_are_bounded),
		T(a_dead_shim_takes_its_container_along),
		T(what_runs_is_adopted),
		T(what_is_left_keeps_its_slot),
		T(debris_is_removed),
	};
	const char *lacks = world_lacks_lxc();

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	return cmocka_run_group_tests_name("lxc", cases, NULL, NULL);
}
