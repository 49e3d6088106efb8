/* test_err_log.c -- err.h and log.h: wrapping, cutting, and that nothing from outside drives a terminal. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "core/err.h"
#include "core/log.h"

static void wraps(void **state)
{
	struct err e = {0};

	(void)state;
	assert_int_equal(err_system(&e, -EPERM, "clone"), -EPERM);
	assert_string_equal(e.message, "clone: Operation not permitted");
	assert_int_equal(err_wrap(&e, "start sandbox %d", 42), -EPERM);
	assert_string_equal(e.message, "start sandbox 42: clone: Operation not permitted");
	assert_int_equal(err_set(NULL, -EINVAL, "nobody listens"), -EINVAL);
	assert_int_equal(err_system(&e, -4095, "odd"), -4095);
	assert_string_equal(e.message, "odd: unknown error");
}

static void cuts_what_is_too_long(void **state)
{
	char text[2000];
	struct err e = {0};

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	err_set(&e, -EIO, "%s", text);
	assert_int_equal(strlen(e.message), ERR_MESSAGE_MAX - 1);
	err_system(&e, -EIO, "%s", text);
	assert_int_equal(strlen(e.message), ERR_MESSAGE_MAX - 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(err_wrap(&e, "%s", "prefix"), -EIO);
	assert_int_equal(strlen(e.message), ERR_MESSAGE_MAX - 1);
	assert_int_equal(strncmp(e.message, "prefix: prefix: ", 16), 0);
}

static void escapes(void **state)
{
	char text[32];

	(void)state;
	log_escape("a\033[2Jb\n", 7, text, sizeof text);
	assert_string_equal(text, "a\\x1b[2Jb\\x0a");
	log_escape("\x9b\x7f\0x", 4, text, sizeof text);
	assert_string_equal(text, "\\x9b\\x7f\\x00x");
	for (size_t size = 1; size < sizeof text; size++) {
		memset(text, 'z', sizeof text);
		log_escape("\001\001\001\001\001\001\001\001", 8, text, size);
		assert_true(strlen(text) < size); /* never past its end */
		assert_int_equal(strlen(text) % 4, 0);
	}
}

/* Lines go to stderr: read them back through a pipe. */
static void writes_one_line(void **state)
{
	int ends[2], saved = dup(2);
	char line[4096];

	(void)state;
	assert_int_equal(pipe(ends), 0);
	dup2(ends[1], 2);
	log_init("test", LOG_WARN);
	log_info("dropped");
	log_warn("kept pool=%s", "a\nb");
	dup2(saved, 2);
	close(saved);
	close(ends[1]);
	ssize_t n = read(ends[0], line, sizeof line - 1);

	close(ends[0]);
	assert_true(n > 0);
	line[n] = '\0';
	assert_non_null(strstr(line, " warn test["));
	assert_non_null(strstr(line, "kept pool=a\\x0ab\n"));
	assert_null(strstr(line, "dropped"));
	assert_ptr_equal(strchr(line, '\n'), line + n - 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(wraps),
		cmocka_unit_test(cuts_what_is_too_long),
		cmocka_unit_test(escapes),
		cmocka_unit_test(writes_one_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
