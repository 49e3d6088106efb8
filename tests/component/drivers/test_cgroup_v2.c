/* Groups of version 2 on the real kernel, on whatever is mounted of it: who is born in one, and what may be opened there. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/fd.h"
#include "lxc_shim/cgroup_make.h"

#define KMSG_CLOSED 1
#define NULL_OPENS  2
#define WAS_INSIDE  4
#define IS_HOME     8

static struct cgroup_layout layout;
static char name[64];

/* Everything that can be had without a controller, from version 2 alone. */
static bool find_version_2(void)
{
	struct err err = {0};

	if (geteuid() != 0 || cgroup_layout_read("", &layout, &err) < 0)
		return false;
	for (unsigned h = 0; h < layout.n; h++) {
		if (!layout.h[h].v2)
			continue;
		for (int c = 0; c < CGROUP_CONTROLLERS; c++)
			layout.of[c] = -1;
		layout.of[CGROUP_DEVICES] = layout.of[CGROUP_FREEZER] = (int)h;
		return true;
	}
	return false;
}

static bool inside(void)
{
	struct buf b = {0};
	bool found;

	if (fd_read_file("/proc/self/cgroup", 65536, &b, NULL) < 0)
		return false;
	found = strstr(buf_cstr(&b), name) != NULL;
	buf_done(&b);
	return found;
}

static int look_around(const struct cgroup_home *home)
{
	int seen = 0;

	if (open("/dev/kmsg", O_RDONLY | O_CLOEXEC) < 0 && errno == EPERM)
		seen |= KMSG_CLOSED;
	if (open("/dev/null", O_RDWR | O_CLOEXEC) >= 0)
		seen |= NULL_OPENS;
	if (inside())
		seen |= WAS_INSIDE;
	cgroup_go_home(home);
	return inside() ? seen : seen | IS_HOME;
}

static void a_child_is_born_inside_and_goes_home(void **state)
{
	struct cgroup_limits limits = {0};
	struct cgroup_home home;
	struct err err = {0};
	int status = 0, ready = open("/dev/kmsg", O_RDONLY | O_CLOEXEC);

	(void)state;
	if (ready < 0) {
		print_message("no /dev/kmsg here\n");
		skip();
	}
	close(ready);
	if (cgroup_make(&layout, name, &limits, &err) < 0 || cgroup_home_open(&layout, 64, &home, &err) < 0)
		fail_msg("%s", err.message);
	pid_t pid = cgroup_fork(&layout, name, &err);

	if (pid == 0)
		_exit(look_around(&home));
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	cgroup_home_close(&home);
	assert_int_equal(cgroup_remove(&layout, name), 0);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), KMSG_CLOSED | NULL_OPENS | WAS_INSIDE | IS_HOME);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_child_is_born_inside_and_goes_home)};

	if (!find_version_2()) {
		fprintf(stderr, "skipped: needs root and cgroups of version 2 mounted somewhere\n");
		return 77;
	}
	snprintf(name, sizeof name, "berth-00000000-%016x", (unsigned)getpid());
	return cmocka_run_group_tests_name("cgroups, version 2", tests, NULL, NULL);
}
