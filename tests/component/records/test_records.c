/* Billing records in a real SQLite file: kept once, found by time, dropped over the age and the bytes, none lost on a full
 * disk, begun anew when damaged. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/map.h"
#include "records/reader.h"
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

static struct records *open_records(uint64_t bytes_max)
{
	struct records_options options = {.path = path, .bytes_max = bytes_max, .retention_ms = DAY_MS};
	struct records *r = NULL;
	struct err err = {0};

	assert_int_equal(records_open(&options, &r, &err), 0);
	return r;
}

struct reading {
	struct reader_page page;
	struct seen seen;
	atomic_bool done;
};

static void on_row(struct reader_page *page, const struct record_row *r)
{
	see(&container_of(page, struct reading, page)->seen, r);
}

static void on_done(struct reader_page *page)
{
	atomic_store(&container_of(page, struct reading, page)->done, true);
}

static struct reading read_page(uint64_t from_ms, uint64_t to_ms, uint64_t after, uint64_t up_to)
{
	struct reading x = {.page = {.from_ms = from_ms,
				     .to_ms = to_ms,
				     .after = after,
				     .up_to = up_to,
				     .row = on_row,
				     .done = on_done}};
	struct reader *reader = NULL;
	struct err err = {0};

	assert_int_equal(reader_new(path, &reader, &err), 0);
	reader_post(reader, &x.page);
	while (!atomic_load(&x.done))
		usleep(1000);
	reader_free(reader);
	assert_int_equal(x.page.code, 0);
	assert_int_equal(x.page.n, x.seen.n);
	return x;
}

static void test_kept_once_and_found_by_time(void **state)
{
	uint64_t now = clock_wall_ms();
	struct record_row rows[] = {row(1, now - 9000, now - 8000), row(2, now - 5000, now - 1000),
				    row(5, now - 4000, now - 2000)};
	struct records *r = open_records(UINT32_MAX);
	struct reading x;

	(void)state;
	keep_all(r, rows, 3);
	keep_all(r, rows, 3);
	x = read_page(now - 3000, now, 0, UINT64_MAX);
	assert_int_equal(x.seen.n, 2);
	assert_int_equal(x.seen.numbers[0], 2);
	assert_int_equal(x.seen.numbers[1], 5);
	assert_int_equal(x.page.last, 5);
	x = read_page(0, now, 1, 4);
	assert_int_equal(x.seen.n, 1);
	assert_int_equal(x.seen.numbers[0], 2);
	records_close(r);
	r = open_records(UINT32_MAX);
	assert_int_equal(records_kept(r), 5);
	records_close(r);
}

static void test_retention(void **state)
{
	uint64_t now = clock_wall_ms();
	struct record_row rows[] = {row(1, now - 3 * DAY_MS, now - 2 * DAY_MS),
				    row(2, now - 2000, now - 1000)};
	struct records *r = open_records(UINT32_MAX);
	struct records_usage usage = {0};
	struct reading x;

	(void)state;
	keep_all(r, rows, 2);
	records_close(r);
	r = open_records(UINT32_MAX); /* it looks at once, and then each minute */
	while (usage.n == 0)
		records_usage(r, &usage);
	assert_int_equal(usage.n, 1);
	assert_int_equal(usage.oldest_ms, now - 1000);
	x = read_page(0, UINT64_MAX, 0, UINT64_MAX);
	assert_int_equal(x.seen.n, 1);
	assert_int_equal(x.seen.numbers[0], 2);
	records_close(r);
}

static void fill(struct records *r, uint64_t from, uint64_t to, uint64_t now)
{
	for (uint64_t number = from; number <= to;) {
		struct record_row rows[RECORDS_BATCH_MAX];
		const struct record_row *list[RECORDS_BATCH_MAX];
		uint32_t n = 0;

		for (; n < RECORDS_BATCH_MAX && number <= to; n++, number++) {
			rows[n] = row(number, now - 2000, now - 1000);
			list[n] = &rows[n];
		}
		while (records_keep(r, list, n) == 0)
			usleep(1000);
	}
	while (records_kept(r) < to)
		usleep(1000);
}

/* The oldest go, and the file gives their room back. */
static void test_bound_of_bytes(void **state)
{
	enum { ROWS = 100000, KEPT_BYTES = 2 << 20 };
	uint64_t now = clock_wall_ms();
	struct records *r = open_records(UINT32_MAX);
	struct records_usage usage = {0};
	struct stat before, after;

	(void)state;
	fill(r, 1, ROWS, now);
	records_close(r);
	assert_int_equal(stat(path, &before), 0);
	assert_true(before.st_size > 2 * KEPT_BYTES);
	r = open_records(KEPT_BYTES);
	while (usage.n == 0)
		records_usage(r, &usage);
	records_close(r);
	assert_int_equal(stat(path, &after), 0);
	assert_true(usage.bytes <= KEPT_BYTES && usage.n > 0 && usage.n < ROWS);
	assert_true(after.st_size <= KEPT_BYTES);
	assert_int_equal(read_page(0, UINT64_MAX, ROWS - 1, UINT64_MAX).seen.n, 1);
}

/* On a full disk nothing that was handed over is lost or taken for kept, and it is written when there is room again. */
static void test_full_disk(void **state)
{
	char small[160], ballast[200];
	uint64_t now = clock_wall_ms();
	struct record_row first = row(1, now - 2000, now - 1000), second = row(2, now - 2000, now - 1000);
	const struct record_row *list = &second;
	struct records_usage usage = {0};
	struct records *r;
	int fd;

	(void)state;
	snprintf(small, sizeof small, "%s/small", directory);
	assert_int_equal(mkdir(small, 0700), 0);
	if (mount("tmpfs", small, "tmpfs", 0, "size=1m") != 0) {
		rmdir(small);
		skip();
	}
	snprintf(path, sizeof path, "%s/small/records.sqlite", directory);
	snprintf(ballast, sizeof ballast, "%s/ballast", small);
	r = open_records(UINT32_MAX);
	keep_all(r, &first, 1);
	fd = open(ballast, O_WRONLY | O_CREAT, 0600);
	while (write(fd, small, sizeof small) > 0)
		;
	assert_int_equal(records_keep(r, &list, 1), 1);
	while (!usage.failing)
		records_usage(r, &usage);
	assert_int_equal(records_kept(r), 1);
	assert_int_equal(ftruncate(fd, 0), 0);
	while (records_kept(r) < 2)
		usleep(1000);
	records_usage(r, &usage);
	assert_false(usage.failing);
	assert_int_equal(read_page(0, UINT64_MAX, 0, UINT64_MAX).seen.n, 2);
	close(fd);
	records_close(r);
	snprintf(path, sizeof path, "%s/records.sqlite", directory);
	assert_int_equal(umount2(small, MNT_DETACH), 0);
	rmdir(small);
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
	r = open_records(UINT32_MAX);
	assert_int_equal(records_kept(r), 0);
	records_close(r);
}

/* Of a newer version: refused, and left as it is. */
static void test_newer_file(void **state)
{
	struct records_options options = {.path = path, .bytes_max = UINT32_MAX, .retention_ms = DAY_MS};
	struct records *r = open_records(UINT32_MAX);
	const uint8_t two[4] = {0, 0, 0, 2};
	uint8_t now[4] = {0};
	struct err err = {0};
	int fd;

	(void)state;
	records_close(r);
	fd = open(path, O_RDWR | O_CLOEXEC);
	assert_int_equal(pread(fd, now, sizeof now, 60), 4); /* user_version, in SQLite's header */
	assert_int_equal(now[3], 1);
	assert_int_equal(pwrite(fd, two, sizeof two, 60), 4);
	assert_int_equal(records_open(&options, &r, &err), -EPROTO);
	assert_non_null(strstr(err.message, "of a newer version; this one knows format 1"));
	assert_int_equal(pread(fd, now, sizeof now, 60), 4);
	assert_memory_equal(now, two, sizeof two);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept_once_and_found_by_time, make_directory,
						remove_directory),
		cmocka_unit_test_setup_teardown(test_retention, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_bound_of_bytes, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_full_disk, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_damaged_file, make_directory, remove_directory),
		cmocka_unit_test_setup_teardown(test_newer_file, make_directory, remove_directory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
