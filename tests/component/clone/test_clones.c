/* Machines that are clones of one template, with real guests: each is another machine; none reaches its template or another's
 * files; what fails on the way to a template boots cold. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "drivers_world/world.h"

#define MAPPED "/memfd:berth-template" /* as /proc/PID/maps says */

static const char *const tell[] = {
	"sh", "-c",
	"echo \"random $(head -c 16 /dev/urandom | busybox od -An -tx1)\";"
	"echo \"boot-id $(cat /proc/sys/kernel/random/boot_id)\";"
	"echo \"machine-id $(cat /etc/machine-id)\";"
	"echo \"mac $(cat /sys/class/net/eth0/address)\";"
	"echo \"hostname $(hostname)\";"
	"echo \"addresses $(busybox awk '/stack|heap/ {print $1}' /proc/self/maps)\";"
	"while :; do echo \"now $(busybox date +%s)\"; sleep 0.1; done",
	NULL};
static const char *const facts[] = {"random", "boot-id", "machine-id", "mac", "hostname", "addresses"};

static struct world world;
static char text[1 << 20];
static struct err err;

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

static struct driver_instance *run(const char *const *argv)
{
	struct driver_instance *i = NULL;
	struct world_start s;

	world_program(&world, &s, argv);
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

static void stop(struct driver_instance *i)
{
	if (world.driver->ops->stop(world.driver, i, 0, &err) < 0)
		fail_msg("%s", err.message);
	world.driver->ops->release(world.driver, i);
}

static pid_t qemu_of(struct driver_instance *i)
{
	struct driver_info info;

	world.driver->ops->info(world.driver, i, &info);
	return (pid_t)info.pid;
}

static bool is_clone(struct driver_instance *i)
{
	CLEANUP_BUF struct buf b = {0};
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/maps", (int)qemu_of(i));
	assert_int_equal(fd_read_file(path, 4 << 20, &b, &err), 0);
	return strstr(buf_cstr(&b), MAPPED) != NULL;
}

/* The rest of the log's line that says `what`. */
static void fact(struct driver_instance *i, const char *what, char *ret, size_t size)
{
	char begin[32];

	snprintf(begin, sizeof begin, " F %s ", what);
	if (!world_log_has(&world, i, begin, text, sizeof text) || strchr(strstr(text, begin), '\n') == NULL)
		fail_msg("no %s in: %s", what, text);
	const char *at = strstr(text, begin) + strlen(begin);

	snprintf(ret, size, "%.*s", (int)strcspn(at, "\n"), at);
	assert_true(strlen(ret) > 0);
}

/* Of the last whole line that says it: the host's time, at which it got the line, less the guest's in it, which is in whole
 * seconds. False: there is none that was written since. */
static bool behind(struct driver_instance *i, uint64_t since_ms, int64_t *ret_ms)
{
	uint64_t wall_ms;
	const char *now = NULL, *line;

	if (!world_log_has(&world, i, " F now ", text, sizeof text))
		return false;
	text[strlen(text) - strlen(strrchr(text, '\n'))] = '\0';
	for (const char *at = text; (at = strstr(at, " F now ")) != NULL; at += 7)
		now = at;
	if (now == NULL)
		return false;
	for (line = now; line > text && line[-1] != '\n';)
		line--;
	char stamp[CLOCK_TEXT_SIZE];

	snprintf(stamp, sizeof stamp, "%.24s", line);
	if (clock_parse(stamp, &wall_ms) != 0 || wall_ms < since_ms)
		return false;
	*ret_ms = (int64_t)wall_ms - (int64_t)strtoull(now + 7, NULL, 10) * 1000;
	return true;
}

static void time_is_right(struct driver_instance *i)
{
	uint64_t since_ms = clock_wall_ms(), end_ms = clock_boot_ms() + 20000;
	int64_t ms;

	while (!behind(i, since_ms, &ms)) {
		if (clock_boot_ms() >= end_ms)
			fail_msg("the guest says no time: %s", text);
		usleep(50000);
	}
	if (ms < -1000 || ms >= 2000)
		fail_msg("the guest is %lld ms behind", (long long)ms);
}

/* -- */

static void each_is_another_machine(void **state)
{
	struct driver_instance *a = run(tell), *b;
	char of_a[256], of_b[256];

	(void)state;
	sleep(3); /* the template ages */
	b = run(tell);
	assert_true(is_clone(a) && is_clone(b));
	for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) {
		fact(a, facts[k], of_a, sizeof of_a);
		fact(b, facts[k], of_b, sizeof of_b);
		if (strcmp(of_a, of_b) == 0)
			fail_msg("both have the %s %s", facts[k], of_a);
	}
	time_is_right(a);
	time_is_right(b);
	stop(a);
	stop(b);
}

static void time_is_right_after_a_pause(void **state)
{
	struct driver_instance *a = run(tell);

	(void)state;
	time_is_right(a);
	assert_int_equal(world.driver->ops->freeze(world.driver, a, true, &err), 0);
	sleep(4);
	assert_int_equal(world.driver->ops->freeze(world.driver, a, false, &err), 0);
	usleep(500000); /* what it had written before the clock was set */
	time_is_right(a);
	stop(a);
}

/* -- As a QEMU that was taken over ---------------------------------------------------------------------------------- */

/* In a child with the uid of a clone; what it found is its exit status. */
static int as(uint32_t uid, int (*what)(void))
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		if (setresgid(uid, uid, uid) != 0 || setresuid(uid, uid, uid) != 0)
			_exit(100);
		_exit(what());
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	return WEXITSTATUS(status);
}

static pid_t own, others;

/* Its own QEMU keeps the descriptor that came with the hand-over. */
static int write_template(void)
{
	char path[300], target[64];
	struct dirent *e;
	int found = 0;

	snprintf(path, sizeof path, "/proc/%d/fd", (int)own);
	DIR *d = opendir(path);

	while (d != NULL && (e = readdir(d)) != NULL) {
		snprintf(path, sizeof path, "/proc/%d/fd/%.10s", (int)own, e->d_name);
		ssize_t n = readlink(path, target, sizeof target - 1);

		if (n <= 0)
			continue;
		target[n] = '\0';
		if (strncmp(target, MAPPED, strlen(MAPPED)) != 0)
			continue;
		int fd = open(path, O_RDWR);

		found = 1;
		if (fd < 0)
			continue;
		if (pwrite(fd, "x", 1, 0) == 1 || ftruncate(fd, 0) == 0 ||
		    fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0 ||
		    mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED)
			return 1;
	}
	return found ? 0 : 2;
}

/* Names are known to it: what root sees there is tried, path by path. */
static char paths[64][300];
static size_t n_paths;

static int note_path(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)where;
	if (kind == FTW_F && n_paths < sizeof paths / sizeof *paths)
		snprintf(paths[n_paths++], sizeof paths[0], "%s", path);
	return 0;
}

static int read_files(void)
{
	int readable = 0;

	for (size_t k = 0; k < n_paths; k++) {
		int fd = open(paths[k], O_RDONLY | O_NONBLOCK);

		readable += fd >= 0;
		if (fd >= 0)
			close(fd);
	}
	return readable;
}

static int read_others_memory(void)
{
	char path[64];
	int n = 0;

	for (int k = 0; k < 3; k++) {
		static const char *const names[] = {"mem", "maps", "fd"};

		snprintf(path, sizeof path, "/proc/%d/%s", (int)others, names[k]);
		int fd = open(path, O_RDONLY);

		n += fd >= 0;
		if (fd >= 0)
			close(fd);
	}
	return n;
}

static void files_of(uint64_t sandbox)
{
	char below[256];

	snprintf(below, sizeof below, "%s/vm/machines/%016llx", world.dir, (unsigned long long)sandbox);
	n_paths = 0;
	nftw(below, note_path, 16, FTW_PHYS);
	assert_true(n_paths > 0);
}

static void a_clone_reaches_nothing_but_its_own(void **state)
{
	struct driver_instance *a = run(tell), *b = run(tell);
	struct driver_info of_a, of_b;

	(void)state;
	world.driver->ops->info(world.driver, a, &of_a);
	world.driver->ops->info(world.driver, b, &of_b);
	own = (pid_t)of_a.pid;
	others = (pid_t)of_b.pid;
	assert_int_equal(as(of_a.uid_base, write_template), 0);
	assert_int_equal(as(of_a.uid_base, read_others_memory), 0);
	files_of(of_b.sandbox);
	assert_int_equal(as(of_a.uid_base, read_files), 0);
	/* The control: of the other's files its own user can read the disk. */
	assert_true(as(of_b.uid_base, read_files) > 0);
	stop(a);
	stop(b);
}

/* -- Failures --------------------------------------------------------------------------------------------------------- */

static void without_a_template_it_boots_cold(void **state)
{
	struct driver_instance *a;
	char path[200];

	(void)state;
	snprintf(path, sizeof path, "%s/vm/handover", world.dir);
	assert_int_equal(unlink(path), 0);
	a = run(tell);
	assert_false(is_clone(a));
	time_is_right(a);
	assert_int_equal(world.driver->ops->tend(world.driver, &err), -EIO);
	assert_non_null(strstr(err.message, "template"));
	assert_int_equal(world.driver->ops->tend(world.driver, &err), 0);
	stop(a);
}

/* -- Files ------------------------------------------------------------------------------------------------------------ */

static const char *const count[] = {"sh", "-c",
				    "httpd -f -p 8080 -h /www & i=0; while :; do i=$((i+1)); echo \"count "
				    "$i\"; echo \"now $(busybox date +%s)\"; sleep 0.1; done",
				    NULL};

/* The last one in the log. */
static unsigned long counted(struct driver_instance *i)
{
	const char *last = NULL;

	assert_true(world_log_has(&world, i, " F count ", text, sizeof text));
	for (const char *at = text; (at = strstr(at, " F count ")) != NULL; at += 9) {
		if (strchr(at, '\n') != NULL)
			last = at;
	}
	assert_non_null(last);
	return strtoul(last + 9, NULL, 10);
}

/* As another start, with another slot: maybe on another node. */
static struct driver_instance *load(int fd)
{
	struct driver_instance *i = NULL;
	struct world_start s;

	world_program(&world, &s, count);
	s.how.n_argv = 0;
	s.how.saved = fd;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	if (world.driver->ops->start(world.driver, &s.how, &i, &err) < 0)
		fail_msg("%s", err.message);
	return i;
}

static void goes_on(struct driver_instance *i, unsigned long from)
{
	uint64_t end_ms = clock_boot_ms() + 20000;

	if (world.driver->ops->go_on(world.driver, i, &err) < 0)
		fail_msg("%s", err.message);
	while (counted(i) <= from)
		assert_true(clock_boot_ms() < end_ms);
	assert_null(strstr(text, " F count 1\n"));
	assert_int_equal(world_get(&world, i, 8080), 200);
}

static void a_saved_machine_goes_on(void **state)
{
	char path[] = "/tmp/clones.saved.XXXXXX";
	struct driver_instance *a = run(count), *b;
	CLEANUP_FD int fd = mkostemp(path, O_CLOEXEC);
	unsigned long before;

	(void)state;
	unlink(path);
	assert_true(is_clone(a));
	assert_int_equal(world_get(&world, a, 8080), 200);
	usleep(500000);
	/* Saved and given up, here it goes on. */
	assert_int_equal(world.driver->ops->save(world.driver, a, fd, &err), 0);
	assert_int_equal(world.driver->ops->go_on(world.driver, a, &err), 0);
	assert_int_equal(world.driver->ops->go_on(world.driver, a, &err), 0);
	assert_int_equal(world_get(&world, a, 8080), 200);
	for (int k = 0; k < 2; k++) { /* what was loaded can be saved, too */
		if (world.driver->ops->save(world.driver, a, fd, &err) < 0)
			fail_msg("%s", err.message);
		usleep(200000); /* what it wrote comes out */
		before = counted(a);
		stop(a);
		sleep(2);
		b = load(fd);
		assert_false(is_clone(b));
		goes_on(b, before);
		time_is_right(b);
		a = b;
	}
	stop(a);
}

static void what_is_broken_is_not_loaded(void **state)
{
	char path[] = "/tmp/clones.saved.XXXXXX";
	CLEANUP_FD int fd = mkostemp(path, O_CLOEXEC);
	struct driver_instance *i = NULL;
	struct world_start s;

	(void)state;
	unlink(path);
	assert_int_equal(write(fd, "no machine", 10), 10);
	world_program(&world, &s, count);
	s.how.saved = fd;
	assert_int_equal(lseek(fd, 0, SEEK_SET), 0);
	assert_true(world.driver->ops->start(world.driver, &s.how, &i, &err) < 0);
	assert_null(i);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_world, close_world)

/* With an argument: the tests that match this pattern. */
int main(int argc, char **argv)
{
	const struct CMUnitTest cases[] = {
		T(each_is_another_machine),
		T(time_is_right_after_a_pause),
		T(a_clone_reaches_nothing_but_its_own),
		T(without_a_template_it_boots_cold),
		T(a_saved_machine_goes_on),
		T(what_is_broken_is_not_loaded),
	};
	const char *lacks = world_lacks_libvirt();

	if (lacks != NULL) {
		fprintf(stderr, "SKIPPED: %s\n", lacks);
		return 77;
	}
	if (argc > 1)
		cmocka_set_test_filter(argv[1]);
	return cmocka_run_group_tests_name("clones", cases, NULL, NULL);
}
