/* test_damage.c -- what a server does with a log or a snapshot that something damaged: see files.h. The server makes a cluster
 * alone: so nothing can be fetched from another, and a start ends with everything applied. */
#include "files.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "core/fd.h"

/* The library leaks what it has read so far when it refuses a segment; a program that is refused ends. */
const char *__lsan_default_suppressions(void);
const char *__lsan_default_suppressions(void)
{
	return "leak:libraft.so\n";
}

static int set_up_log(void **state)
{
	return files_make(state, 1, 0);
}

static int set_up_snapshots(void **state)
{
	return files_make(state, 1, 50);
}

static void nothing(struct files *f)
{
	(void)f;
}

static void open_tail(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	flip(path, used(path) - 1);
}

/* What a power cut leaves of a write that was never acknowledged. */
static void open_unfinished(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CLOEXEC);
	off_t end = (used(path) + 7) / 8 * 8;
	assert_int_equal(pwrite(fd, "\1\2\3\4\5\6\7\10\1\0\0\0\0\0\0\0", 16, end), 16);
}

static void open_middle(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	flip(path, used(path) / 2);
}

static void open_short(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	assert_int_equal(truncate(path, used(path) / 2 + 3), 0);
}

static void open_very_short(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	assert_int_equal(truncate(path, 5), 0);
}

static void open_head(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	flip(path, 0);
}

static void open_zeros(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	off_t size = size_of(path);
	assert_int_equal(truncate(path, 0), 0);
	assert_int_equal(truncate(path, size), 0);
}

static void open_missing(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_open, path);
	assert_int_equal(unlink(path), 0);
}

static void closed_flipped(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_closed, path);
	flip(path, used(path) / 2);
}

static void closed_short(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_closed, path);
	assert_int_equal(truncate(path, size_of(path) / 2), 0);
}

static void closed_missing(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_closed, path);
	assert_int_equal(unlink(path), 0);
}

static void closed_all_missing(struct files *f)
{
	shell("cd %s && rm -f 0*-0*", f->dir);
}

static void snapshot_short(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_snapshot, path);
	assert_int_equal(truncate(path, size_of(path) - 9), 0);
}

static void snapshot_flipped(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_snapshot, path);
	flip(path, size_of(path) / 2);
}

static void snapshot_meta(struct files *f)
{
	char path[FILES_PATH_SIZE], meta[FILES_PATH_SIZE + 8];
	find(f, is_snapshot, path);
	snprintf(meta, sizeof meta, "%s.meta", path);
	flip(meta, 17);
}

static void snapshot_missing(struct files *f)
{
	char path[FILES_PATH_SIZE];
	find(f, is_snapshot, path);
	shell("rm %s %s.meta", path, path);
}

static void snapshots_missing(struct files *f)
{
	shell("rm %s/snapshot-*", f->dir);
}

static void test_log(void **state)
{
	static const struct row rows[] = {
		{"killed, nothing damaged", nothing, RECOVERED, NULL},
		{"unfinished write behind the tail", open_unfinished, RECOVERED, NULL},
		{"open segment, last entry garbled", open_tail, REFUSED, "it lost entries"},
		{"open segment, middle flipped", open_middle, REFUSED, "it lost entries"},
		{"open segment shortened", open_short, REFUSED, "cut short"},
		{"open segment of five bytes", open_very_short, REFUSED, "cut short"},
		{"open segment, header bad", open_head, REFUSED, NULL},
		{"open segment of zeros", open_zeros, REFUSED, "it lost entries"},
		{"open segment missing", open_missing, REFUSED, "it lost entries"},
		{"last closed segment flipped", closed_flipped, REFUSED, NULL},
		{"last closed segment shortened", closed_short, REFUSED, NULL},
		{"last closed segment missing", closed_missing, REFUSED, NULL},
		{"all closed segments missing", closed_all_missing, REFUSED, NULL},
	};
	files_run(*state, rows, sizeof rows / sizeof *rows);
}

static void test_snapshots(void **state)
{
	static const struct row rows[] = {
		{"killed, nothing damaged", nothing, RECOVERED, NULL},
		{"newest snapshot truncated", snapshot_short, REFUSED, "are not what its head says"},
		{"newest snapshot flipped", snapshot_flipped, REFUSED, "do not match their hash"},
		{"newest snapshot's meta flipped", snapshot_meta, REFUSED, NULL},
		{"newest snapshot missing", snapshot_missing, EITHER, NULL},
		{"all snapshots missing", snapshots_missing, REFUSED, NULL},
		{"open segment, middle flipped", open_middle, REFUSED, NULL},
		{"open segment missing", open_missing, REFUSED, NULL},
		{"last closed segment missing", closed_missing, EITHER,
		 NULL}, /* the snapshot may hold all of it */
	};
	files_run(*state, rows, sizeof rows / sizeof *rows);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_log, set_up_log, files_remove),
		cmocka_unit_test_setup_teardown(test_snapshots, set_up_snapshots, files_remove),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
