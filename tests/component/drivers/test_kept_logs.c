/* Kept logs on a real disk: found again, across restarts; bounds of bytes and age; a full disk; what a taken-over logger
 * could have left in place of a log. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "sandboxd/kept_logs.h"

#define HOUR_MS 3600000ull
#define TAG_A   "0123456789abcdef0123456789abcdef"
#define TAG_B   "ffffffffffffffffffffffffffffffff"

static char top[64], dir[96];
static struct kept_logs *k;

static int make_directory(void **state)
{
	(void)state;
	snprintf(top, sizeof top, "/tmp/berth-test.logs.XXXXXX");
	if (mkdtemp(top) == NULL)
		return -1;
	snprintf(dir, sizeof dir, "%s/logs", top);
	return 0;
}

static int remove_entry(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st;
	(void)kind;
	(void)where;
	return remove(path);
}

static int remove_directory(void **state)
{
	(void)state;
	kept_logs_close(k);
	k = NULL;
	return nftw(top, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
}

static void reopen(uint64_t bytes_max)
{
	struct err err = {0};

	kept_logs_close(k);
	k = NULL;
	assert_int_equal(kept_logs_open(dir, bytes_max, HOUR_MS, &k, &err), 0);
}

/* What a driver leaves: `bytes` of a digit. */
static void leave(uint64_t sandbox, uint64_t pool, const char *suffix, size_t bytes)
{
	char base[KEPT_LOGS_PATH_MAX], path[KEPT_LOGS_PATH_MAX + 8];
	CLEANUP_FREE char *text = malloc(bytes + 1);
	struct err err = {0};

	memset(text, '0' + (int)(sandbox % 10), bytes);
	kept_logs_path(k, sandbox, pool, base);
	snprintf(path, sizeof path, "%s%s", base, suffix);
	assert_int_equal(fd_write_file(path, 0640, text, bytes, &err), 0);
}

static void keep(uint64_t sandbox, uint64_t pool, const char *tag, uint64_t ended_ms, size_t bytes)
{
	leave(sandbox, pool, ".log", bytes);
	kept_logs_add(k, sandbox, pool, tag, ended_ms);
}

/* The sandbox whose log it is, 0: none; the text is checked to be its. */
static uint64_t find(struct kept_logs_query q)
{
	uint64_t sandbox = 0, ended;
	char first;
	int fd;

	if (q.tag == NULL)
		q.tag = "";
	if (kept_logs_find(k, &q, &sandbox, &ended, &fd) < 0)
		return 0;
	assert_int_equal(read(fd, &first, 1), 1);
	assert_int_equal(first, q.older ? '9' : '0' + (int)(sandbox % 10));
	close(fd);
	return sandbox;
}

static struct kept_logs_usage usage(void)
{
	struct kept_logs_usage u;

	kept_logs_usage(k, &u);
	return u;
}

static void found_by_each_of_its_names(void **state)
{
	uint64_t now = clock_wall_ms();

	(void)state;
	reopen(UINT32_MAX);
	keep(1, 7, TAG_A, now - 3000, 10);
	keep(2, 7, TAG_A, now - 1000, 10);
	keep(3, 8, TAG_A, now - 2000, 10);
	keep(4, 7, "", now - 500, 10);
	leave(5, 7, ".log", 0); /* nothing to read */
	kept_logs_add(k, 5, 7, TAG_B, now);
	leave(19, 9, ".old", 10);
	keep(19, 9, TAG_B, now - 100, 10);
	for (int restarted = 0; restarted < 2; restarted++) {
		assert_int_equal(find((struct kept_logs_query){.sandbox = 1}), 1);
		assert_int_equal(find((struct kept_logs_query){.pool = 7, .tag = TAG_A}), 2);
		assert_int_equal(find((struct kept_logs_query){.pool = 8, .tag = TAG_A}), 3);
		assert_int_equal(find((struct kept_logs_query){.pool = 7}), 4);
		assert_int_equal(find((struct kept_logs_query){.sandbox = 5}), 0);
		assert_int_equal(find((struct kept_logs_query){.pool = 8, .tag = TAG_B}), 0);
		assert_int_equal(find((struct kept_logs_query){.sandbox = 19, .older = true}), 19);
		assert_int_equal(find((struct kept_logs_query){.sandbox = 1, .older = true}), 0);
		assert_int_equal(usage().n, 5);
		assert_int_equal(usage().oldest_ms, now - 3000);
		reopen(UINT32_MAX);
	}
}

static void oldest_go_over_bytes_and_age(void **state)
{
	enum { EACH = 40000, BOUND = 1 << 20 };
	uint64_t now = clock_wall_ms();

	(void)state;
	reopen(BOUND);
	for (uint64_t i = 1; i <= 100; i++) {
		keep(i, 7, "", now - 200 + i, EACH);
		assert_true(usage().bytes <= BOUND);
	}
	assert_true(usage().n > 15 && usage().n < 30);
	assert_int_equal(find((struct kept_logs_query){.sandbox = 1}), 0);
	assert_int_equal(find((struct kept_logs_query){.sandbox = 100}), 100);
	keep(201, 7, "", now - 2 * HOUR_MS, 100); /* over its age as it comes */
	assert_int_equal(find((struct kept_logs_query){.sandbox = 201}), 0);
	assert_false(kept_logs_trim(k, now + HOUR_MS / 2));
	assert_int_equal(find((struct kept_logs_query){.sandbox = 100}), 100);
	kept_logs_trim(k, now + HOUR_MS + 1000);
	assert_int_equal(usage().n, 0);
	assert_int_equal(usage().bytes, 0);
	assert_int_equal(rmdir(dir), 0); /* no file is left */
}

static void a_full_disk_costs_the_oldest(void **state)
{
	uint64_t now = clock_wall_ms();
	char path[128];
	int fd;

	(void)state;
	if (mount("tmpfs", top, "tmpfs", 0, "size=2m") != 0)
		skip();
	reopen(UINT32_MAX);
	for (uint64_t i = 1; i <= 20; i++)
		keep(i, 7, "", now - 100 + i, 40000);
	snprintf(path, sizeof path, "%s/ballast", top);
	fd = open(path, O_WRONLY | O_CREAT, 0600);
	while (write(fd, dir, sizeof dir) > 0)
		;
	assert_int_equal(usage().n, 20);
	assert_true(kept_logs_trim(k, now)); /* says so, once */
	assert_false(kept_logs_trim(k, now));
	assert_true(usage().n >= 15 && usage().n < 20);
	assert_int_equal(find((struct kept_logs_query){.sandbox = 20}), 20);
	assert_int_equal(find((struct kept_logs_query){.sandbox = 1}), 0);
	close(fd);
	kept_logs_close(k);
	k = NULL;
	assert_int_equal(umount2(top, MNT_DETACH), 0);
}

/* A link to another file, a pipe, a directory, a second name of a file: nothing of it is opened, and it goes. */
static void only_plain_files_are_logs(void **state)
{
	char base[KEPT_LOGS_PATH_MAX], path[KEPT_LOGS_PATH_MAX + 8], other[128];
	struct err err = {0};

	(void)state;
	snprintf(other, sizeof other, "%s/secret", top);
	assert_int_equal(fd_write_file(other, 0600, "secret", 6, &err), 0);
	for (unsigned kind = 0; kind < 4; kind++) {
		reopen(UINT32_MAX);
		kept_logs_path(k, 30 + kind, 7, base);
		snprintf(path, sizeof path, "%s.log", base);
		assert_int_equal(kind == 0   ? symlink(other, path)
				 : kind == 1 ? mkfifo(path, 0600)
				 : kind == 2 ? mkdir(path, 0700)
					     : link(other, path),
				 0);
		if (kind % 2 == 0)
			kept_logs_add(k, 30 + kind, 7, "", clock_wall_ms());
		else
			reopen(UINT32_MAX); /* found by the next sandboxd */
		assert_int_equal(usage().n, 0);
		assert_int_equal(rmdir(dir), 0);
	}
	assert_int_equal(access(other, F_OK), 0);
}

int main(void)
{
	const struct CMUnitTest cases[] = {
		cmocka_unit_test_setup_teardown(found_by_each_of_its_names, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(oldest_go_over_bytes_and_age, make_directory,
						remove_directory),
		cmocka_unit_test_setup_teardown(a_full_disk_costs_the_oldest, make_directory,
						remove_directory),
		cmocka_unit_test_setup_teardown(only_plain_files_are_logs, make_directory, remove_directory),
	};

	return cmocka_run_group_tests(cases, NULL, NULL);
}
