/* test_fd.c -- fd.h: ownership, bounded reads, files that are replaced whole. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

static char folder[] = "/tmp/berth-test.XXXXXX";

static int make_folder(void **state)
{
	(void)state;
	return mkdtemp(folder) == NULL ? -1 : 0;
}

static int remove_folder(void **state)
{
	(void)state;
	return rmdir(folder); /* fails, and with it the group, when something was left behind */
}

static void closes_and_takes(void **state)
{
	int kept, number;

	(void)state;
	{
		CLEANUP_FD int a = open("/dev/null", O_RDONLY | O_CLOEXEC);
		CLEANUP_FD int b = open("/dev/null", O_RDONLY | O_CLOEXEC);

		number = a;
		kept = fd_take(&b);
		assert_int_equal(b, -1);
	}
	assert_int_equal(fcntl(number, F_GETFD), -1);
	assert_true(fcntl(kept, F_GETFD) >= 0);
	errno = EXDEV;
	fd_close(&kept);
	assert_int_equal(errno, EXDEV);
	assert_int_equal(kept, -1);
	fd_close(&kept);

	CLEANUP_FREE char *p = strdup("x");
	char *mine = mem_take(&p);

	assert_null(p);
	free(mine);
}

static void writes_and_reads_files(void **state)
{
	char path[128], elsewhere[160];
	struct err err = {0};
	CLEANUP_BUF struct buf b = {0};
	struct stat st;

	(void)state;
	snprintf(path, sizeof path, "%s/file", folder);
	snprintf(elsewhere, sizeof elsewhere, "%s/none/file", folder);
	assert_int_equal(fd_write_file(path, 0640, "first", 5, &err), 0);
	assert_int_equal(fd_write_file(path, 0600, "second", 6, &err), 0);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(fd_read_file(path, 6, &b, &err), 0);
	assert_string_equal(buf_cstr(&(struct buf){.p = b.p, .n = b.n, .capacity = b.capacity}), "second");
	struct buf untouched = {0};

	assert_int_equal(fd_read_file(path, 5, &untouched, &err), -EFBIG);
	assert_null(untouched.p);
	assert_non_null(strstr(err.message, path));
	assert_int_equal(fd_read_file(elsewhere, 5, &untouched, &err), -ENOENT);
	assert_int_equal(fd_write_file(elsewhere, 0600, "x", 1, &err), -ENOENT);
	assert_non_null(strstr(err.message, elsewhere));
	/* A rename that cannot be leaves no temporary file behind; remove_folder sees to it. */
	assert_int_equal(fd_write_file(folder, 0600, "x", 1, &err) < 0, 1);
	assert_int_equal(unlink(path), 0);
}

static void sets_nonblocking(void **state)
{
	int ends[2];
	char byte;

	(void)state;
	assert_int_equal(pipe(ends), 0);
	assert_int_equal(fd_set_nonblocking(ends[0], 1), 0);
	assert_int_equal(read(ends[0], &byte, 1), -1);
	assert_int_equal(errno, EAGAIN);
	assert_int_equal(fd_set_nonblocking(ends[0], 0), 0);
	assert_int_equal(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
	assert_int_equal(fd_write_all(ends[1], "abc", 3), 0);
	close(ends[1]);
	CLEANUP_BUF struct buf b = BUF_MAX(3);

	assert_int_equal(fd_read_all(ends[0], &b), 0);
	assert_int_equal(b.n, 3);
	close(ends[0]);
	assert_int_equal(fd_set_nonblocking(ends[0], 1), -EBADF);
	assert_int_equal(fd_write_all(ends[1], "x", 1), -EBADF);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(closes_and_takes),
		cmocka_unit_test(writes_and_reads_files),
		cmocka_unit_test(sets_nonblocking),
	};

	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
