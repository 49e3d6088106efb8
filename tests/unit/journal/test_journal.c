/* Years of lines within the bounds of bytes and age, across restarts, and on a full disk. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "journal/journal.h"

#define BYTES_MAX 65536
#define DAY_MS    86400000ull

static char directory[64], path[96];

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof directory, "/tmp/berth-test.journal.XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/events", directory);
	return 0;
}

static int remove_directory(void **state)
{
	char file[128];

	(void)state;
	unlink(path);
	for (unsigned i = 1; i < JOURNAL_FILES; i++) {
		snprintf(file, sizeof file, "%s.%u", path, i);
		unlink(file);
	}
	return rmdir(directory);
}

static int put(struct journal *j, uint64_t wall_ms)
{
	char line[128];
	int n = snprintf(line, sizeof line, "{\"event\":\"x\",\"wall_ms\":%llu}\n",
			 (unsigned long long)wall_ms);

	return journal_write(j, line, (size_t)n, wall_ms);
}

static struct journal *open_journal(uint64_t age_ms)
{
	struct journal *j = NULL;
	struct err err = {0};

	assert_int_equal(journal_open(path, BYTES_MAX, age_ms, &j, &err), 0);
	return j;
}

static struct journal_usage usage_of(struct journal *j)
{
	struct journal_usage u;

	journal_usage(j, &u);
	return u;
}

static void test_bytes(void **state)
{
	uint64_t now = clock_wall_ms();
	struct journal *j = open_journal(DAY_MS);
	struct journal_usage u;

	(void)state;
	for (uint64_t i = 0; i < 20000; i++) {
		assert_int_equal(put(j, now + i), 0);
		if (i % 997 == 0) { /* restarts */
			journal_close(j);
			j = open_journal(DAY_MS);
		}
		u = usage_of(j);
		assert_true(u.bytes <= BYTES_MAX);
	}
	assert_true(u.bytes > BYTES_MAX / 2); /* not dropped without need */
	assert_true(u.oldest_ms > now && u.oldest_ms < now + 20000);
	assert_int_equal(u.lost, 0);
	journal_close(j);
}

/* A line a day for a year ago until now, kept for 80 days; the files' times are those of the lines. */
static void test_age(void **state)
{
	uint64_t now = clock_wall_ms(), age = 80 * DAY_MS;
	struct journal *j = open_journal(age);
	char file[128];

	(void)state;
	for (uint64_t day = 365; day > 0; day--) {
		uint64_t at = now - day * DAY_MS;
		struct timespec times[2] = {{.tv_sec = (time_t)(at / 1000)}, {.tv_sec = (time_t)(at / 1000)}};

		assert_int_equal(put(j, at), 0);
		assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	}
	struct journal_usage u = usage_of(j);

	assert_true(u.oldest_ms >= now - age - age / JOURNAL_FILES - 2 * DAY_MS);
	assert_true(u.oldest_ms <= now - age / 2);
	/* Nothing is written any more: it goes all the same. */
	journal_trim(j, now + 200 * DAY_MS);
	journal_trim(j, now + 400 * DAY_MS);
	assert_int_equal(usage_of(j).bytes, 0);
	snprintf(file, sizeof file, "%s.1", path);
	assert_int_not_equal(access(file, F_OK), 0);
	journal_close(j);
}

static void test_full_disk(void **state)
{
	uint64_t now = clock_wall_ms(), newest = 0;
	struct journal_usage u;
	struct journal *j;
	char file[128];
	unsigned told = 0;
	int fd;

	(void)state;
	if (mount("tmpfs", directory, "tmpfs", 0, "size=128k") != 0)
		skip();
	j = open_journal(DAY_MS);
	for (uint64_t i = 0; i < 1000; i++)
		assert_int_equal(put(j, now + i), 0);
	snprintf(file, sizeof file, "%s/ballast", directory);
	fd = open(file, O_WRONLY | O_CREAT, 0600);
	while (write(fd, file, sizeof file) > 0)
		;
	for (uint64_t i = 1000; i < 2000; i++) {
		int r = put(j, now + i);

		assert_true(r >= 0);
		told += r == 1;
		newest = now + i;
	}
	u = usage_of(j);
	assert_int_equal(u.lost, 0);
	assert_true(told >= 1 && told < 20);
	assert_true(u.oldest_ms > now && u.oldest_ms < newest);
	journal_close(j);
	close(fd);
	assert_int_equal(umount2(directory, MNT_DETACH), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_bytes, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_age, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_full_disk, make_directory, remove_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
