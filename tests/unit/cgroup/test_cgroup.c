/* The layouts of cgroups, on trees of plain files: version 1, version 2, and both at once. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "core/fd.h"
#include "sandbox/cgroup.h"

static char root[64];

static void put(const char *path, const char *text)
{
	char whole[512];
	struct err err = {0};

	snprintf(whole, sizeof whole, "%s%s", root, path);
	for (char *p = whole + strlen(root) + 1; *p != '\0'; p++) {
		if (*p == '/') {
			*p = '\0';
			mkdir(whole, 0755);
			*p = '/';
		}
	}
	if (fd_write_file(whole, 0644, text, strlen(text), &err) < 0)
		fail_msg("%s", err.message);
}

static int open_tree_dir(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/berth-test.%d", (int)getpid());
	return mkdir(root, 0755);
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static int close_tree_dir(void **state)
{
	(void)state;
	return nftw(root, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

#define V1(n, c) n " 1 0:2 / /sys/fs/cgroup/" c " rw,relatime shared:9 - cgroup cgroup rw," c "\n"
#define V2       "40 1 0:3 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n"
#define PURE     "40 1 0:3 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n"
#define NOISE \
	"21 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n22 1 0:9 /x /bind rw - cgroup cgroup rw,memory\n"

static const struct cgroup_limits limits = {.memory_bytes = 67108864, .cpu_milli = 500, .pids_max = 64};

static void finds_version_1(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};
	char dir[CGROUP_PATH_MAX], want[CGROUP_PATH_MAX];

	(void)state;
	put("/proc/self/mountinfo",
	    NOISE V1("30", "memory") V1("31", "cpu,cpuacct") V1("32", "pids") V1("33", "freezer") V2);
	put("/sys/fs/cgroup/unified/cgroup.controllers", "hugetlb\n");
	put("/proc/9/cgroup", "4:memory:/a/b\n3:cpu,cpuacct:/a\n2:pids:/p\n1:freezer:/\n0::/u\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	assert_false(l.h[l.of[CGROUP_MEMORY]].v2);
	assert_int_equal(l.of[CGROUP_CPU], l.of[CGROUP_CPUACCT]);
	assert_true(l.h[l.of[CGROUP_DEVICES]].v2); /* every group there can have a list of devices */
	assert_int_equal(cgroup_dir_of(&l, 9, CGROUP_MEMORY, dir, sizeof dir, &err), 0);
	snprintf(want, sizeof want, "%s/sys/fs/cgroup/memory/a/b", root);
	assert_string_equal(dir, want);
	assert_int_equal(cgroup_freezer_path(&l, 9, dir, sizeof dir, &err), 0);
	snprintf(want, sizeof want, "%s/sys/fs/cgroup/freezer/freezer.state", root);
	assert_string_equal(dir, want);
}

static void finds_version_2(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};
	char path[CGROUP_PATH_MAX], want[CGROUP_PATH_MAX];
	struct buf b = {0};

	(void)state;
	put("/proc/self/mountinfo", NOISE PURE);
	put("/sys/fs/cgroup/cgroup.controllers", "cpuset cpu io memory pids\n");
	put("/proc/9/cgroup", "0::/box\n");
	put("/sys/fs/cgroup/box/cgroup.freeze", "0\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	assert_true(l.h[l.of[CGROUP_MEMORY]].v2 && l.h[l.of[CGROUP_FREEZER]].v2 && l.h[l.of[CGROUP_CPU]].v2);
	assert_int_equal(cgroup_freezer_path(&l, 9, path, sizeof path, &err), 0);
	snprintf(want, sizeof want, "%s/sys/fs/cgroup/box/cgroup.freeze", root);
	assert_string_equal(path, want);
	assert_int_equal(cgroup_freeze(path, true, &err), 0);
	assert_int_equal(fd_read_file(path, 16, &b, &err), 0);
	assert_int_equal(buf_cstr(&b)[0], '1');
	buf_done(&b);
}

static void version_1_comes_first_where_both_are(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};

	(void)state;
	put("/proc/self/mountinfo", V2 V1("30", "memory") V1("32", "pids"));
	put("/sys/fs/cgroup/unified/cgroup.controllers", "cpu memory\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	assert_false(l.h[l.of[CGROUP_MEMORY]].v2);
	assert_true(l.h[l.of[CGROUP_CPU]].v2);
	assert_true(l.h[l.of[CGROUP_FREEZER]].v2);
}

static void says_which_controller_is_missing(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};

	(void)state;
	put("/proc/self/mountinfo", V1("31", "cpu") V1("32", "pids") V1("33", "freezer"));
	assert_int_equal(cgroup_layout_read(root, &l, &err), -ENOENT);
	assert_non_null(strstr(err.message, "\"memory\""));
}

/* Of the whole disk, in the words of either version. */
static void reads_are_limited(void **state)
{
	struct cgroup_limits of = {.read_bytes = 1 << 20, .image = makedev(8, 3)};
	struct cgroup_read_limit limit[2];
	struct cgroup_layout l;
	struct err err = {0};

	(void)state;
	put("/proc/self/mountinfo",
	    NOISE V1("30", "memory") V1("31", "cpu") V1("32", "pids") V1("33", "freezer") V1("34", "blkio"));
	put("/sys/dev/block/8:3/partition", "3\n");
	put("/sys/dev/block/dev", "8:0\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	assert_int_equal(cgroup_read_limits(&l, &of, limit), 2);
	assert_string_equal(limit[0].file, "blkio.throttle.read_bps_device");
	assert_string_equal(limit[0].value, "8:0 1048576");
	assert_string_equal(limit[1].value, "8:0 65");
	of.image = makedev(0, 40); /* memory */
	assert_int_equal(cgroup_read_limits(&l, &of, limit), 0);
	put("/proc/self/mountinfo", NOISE PURE);
	put("/sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	of.image = makedev(254, 0);
	assert_int_equal(cgroup_read_limits(&l, &of, limit), 1);
	assert_string_equal(limit[0].file, "io.max");
	assert_string_equal(limit[0].value, "254:0 rbps=1048576 riops=65");
	assert_string_equal(limit[0].want, "254:0 rbps=1048576 wbps=max riops=65 wiops=max");
}

/* liblxc ignores version 2 keys on a version 1 host and starts without any limit: only reading back shows it. */
static void a_limit_that_is_not_in_force_is_found(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};

	(void)state;
	put("/proc/self/mountinfo", PURE);
	put("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
	put("/proc/9/cgroup", "0::/box\n");
	put("/proc/1/cgroup", "0::/\n");
	put("/sys/fs/cgroup/box/memory.max", "67108864\n");
	put("/sys/fs/cgroup/box/memory.swap.max", "0\n");
	put("/sys/fs/cgroup/box/cpu.max", "50000 100000\n");
	put("/sys/fs/cgroup/box/pids.max", "64\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	if (cgroup_check_limits(&l, 9, &limits, &err) < 0)
		fail_msg("%s", err.message);
	put("/sys/fs/cgroup/box/pids.max", "max\n");
	assert_int_equal(cgroup_check_limits(&l, 9, &limits, &err), -ERANGE);
	assert_non_null(strstr(err.message, "pids.max is \"max\", not \"64\""));
	put("/sys/fs/cgroup/box/pids.max", "64\n");
	put("/sys/fs/cgroup/box/memory.swap.max", "max\n");
	assert_int_equal(cgroup_check_limits(&l, 9, &limits, &err), -ERANGE);
	put("/sys/fs/cgroup/box/memory.swap.max", "0\n");
	assert_int_equal(cgroup_check_limits(&l, 9, &limits, &err), 0);
}

static void figures_of_version_2(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};
	uint64_t cpu, memory;
	uint32_t pids;

	(void)state;
	put("/proc/self/mountinfo", PURE);
	put("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
	put("/proc/9/cgroup", "0::/box\n");
	put("/sys/fs/cgroup/box/cpu.stat", "usage_usec 1234\nuser_usec 1\n");
	put("/sys/fs/cgroup/box/memory.current", "4096\n");
	put("/sys/fs/cgroup/box/pids.current", "3\n");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	assert_int_equal(cgroup_stats(&l, 9, &cpu, &memory, &pids, &err), 0);
	assert_true(cpu == 1234 && memory == 4096 && pids == 3);
}

static void count(const char *dir, const char *container, void *arg)
{
	(void)dir;
	(void)container;
	(*(int *)arg)++;
}

static void only_ours_are_found(void **state)
{
	struct cgroup_layout l;
	struct err err = {0};
	int n = 0;

	(void)state;
	put("/proc/self/mountinfo", PURE);
	put("/sys/fs/cgroup/cgroup.controllers", "cpu memory pids\n");
	put("/proc/1/cgroup", "0::/\n");
	put("/sys/fs/cgroup/berth-00000001-0000000000000001/x", "");
	put("/sys/fs/cgroup/berth-00000001-0000000000000002/x", "");
	put("/sys/fs/cgroup/berth-00000002-0000000000000001/x", "");
	put("/sys/fs/cgroup/somebody/x", "");
	put("/sys/fs/cgroup/system.slice/x", "");
	assert_int_equal(cgroup_layout_read(root, &l, &err), 0);
	cgroup_find(&l, "berth-00000001-", count, &n);
	assert_int_equal(n, 2);
}

#define T(name) cmocka_unit_test_setup_teardown(name, open_tree_dir, close_tree_dir)

int main(void)
{
	const struct CMUnitTest cases[] = {
		T(finds_version_1),
		T(finds_version_2),
		T(version_1_comes_first_where_both_are),
		T(says_which_controller_is_missing),
		T(reads_are_limited),
		T(a_limit_that_is_not_in_force_is_found),
		T(figures_of_version_2),
		T(only_ours_are_found),
	};

	return cmocka_run_group_tests_name("cgroup", cases, NULL, NULL);
}
