/* Billing records in a real SQLite file: kept once, found by time, dropped after the retention, begun anew when damaged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "records/records.h"

#define DAY_MS 86400000ull

static char directory[64], path[128];

static int make_directory(void **state)
{
	(void)state;
	snprintf(directory, sizeof directory, "/tmp/berth-test.records.XXXXXX");
	if (mkdtemp(directory) == NULL)
		return -1;
	snprintf(path, sizeof path, "%s/records.sqlite", directory);
	return 0;
}

static int remove_directory(void **state)
{
	static const char *const names[] = {"records.sqlite", "records.sqlite-wal", "records.sqlite-shm",
					    "records.sqlite.damaged"};
	char file[160];

	(void)state;
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(file, sizeof file, "%s/%s", directory, names[i]);
		unlink(file);
	}
	return rmdir(directory);
}

static struct record_row row(uint64_t number, uint64_t ready_ms, uint64_t stopped_ms)
{
	return (struct record_row){.number = number,
				   .pool = 7,
				   .pool_name = STR("pool"),
				   .ready_ms = ready_ms,
				   .opened_ms = ready_ms,
				   .closed_ms = stopped_ms,
				   .stopped_ms = stopped_ms,
				   .cpu_milli = 250};
}

static void keep_all(struct records *r, const struct record_row *rows, uint32_t n)
{
	const struct record_row *list[8];

	for (uint32_t i = 0; i < n; i++)
		list[i] = &rows[i];
	while (records_keep(r, list, n) == 0)
		usleep(1000);
	while (records_kept(r) < rows[n - 1].number)
		usleep(1000);
}

struct seen {
	uint64_t numbers[16];
	unsigned n;
};

static void see(void *to, const struct record_row *r)
{
	struct seen *seen = to;

	assert_true(seen->n < 16);
	assert_true(str_eq(r->pool_name, STR("pool")));
	seen->numbers[seen->n++] = r->number;
}

static void test_kept_once_and_found_by_time(void **state)
{
	uint64_t now = clock_wall_ms();
	struct record_row rows[] = {row(1, now - 9000, now - 8000), row(2, now - 5000, now - 1000),
				    row(5, now - 4000, now - 2000)};
	struct records *r;
	struct seen seen = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(records_open(path, DAY_MS, &r, &err), 0);
	keep_all(r, rows, 3);
	keep_all(r, rows, 3);
	assert_int_equal(records_each(r, now - 3000, now, see, &seen, &err), 0);
	assert_int_equal(seen.n, 2);
	assert_int_equal(seen.numbers[0], 2);
	assert_int_equal(seen.numbers[1], 5);
	records_close(r);
	assert_int_equal(records_open(path, DAY_MS, &r, &err), 0);
	assert_int_equal(records_kept(r), 5);
	records_close(r);
}

static void test_retention(void **state)
{
	uint64_t now = clock_wall_ms();
	struct record_row rows[] = {row(1, now - 3 * DAY_MS, now - 2 * DAY_MS),
				    row(2, now - 2000, now - 1000)};
	struct records *r;
	struct seen seen = {0};
	struct err err = {0};

	(void)state;
	assert_int_equal(records_open(path, DAY_MS, &r, &err), 0);
	keep_all(r, rows, 2);
	assert_int_equal(records_each(r, 0, UINT64_MAX, see, &seen, &err), 0);
	assert_int_equal(seen.n, 1);
	assert_int_equal(seen.numbers[0], 2);
	records_close(r);
}

static void test_damaged_file(void **state)
{
	struct records *r;
	struct err err = {0};
	char garbage[8192];

	(void)state;
	for (size_t i = 0; i < sizeof garbage; i++)
		garbage[i] = (char)(i * 31);
	assert_int_equal(fd_write_file(path, 0600, garbage, sizeof garbage, &err), 0);
	assert_int_equal(records_open(path, DAY_MS, &r, &err), 0);
	assert_int_equal(records_kept(r), 0);
	records_close(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept_once_and_found_by_time, make_directory,
						remove_directory),
		cmocka_unit_test_setup_teardown(test_retention, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_damaged_file, make_directory, remove_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
