/* test_clock.c -- clock.h: RFC 3339 both ways, and clocks that do not go back. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>

#include "core/clock.h"

static void text_both_ways(void **state)
{
	static const uint64_t times[] = {
		0, 1, 999, 1000, 951782399999u, 951782400000u /* 2000-02-29 */, 4102444799999u};
	char text[CLOCK_TEXT_SIZE];

	(void)state;
	for (size_t i = 0; i < sizeof times / sizeof *times; i++) {
		uint64_t back = 1;

		assert_int_equal(clock_parse(clock_text(times[i], text), &back), 0);
		assert_int_equal(back, times[i]);
	}
	assert_string_equal(clock_text(951782400000u, text), "2000-02-29T00:00:00.000Z");
}

static void parses(void **state)
{
	static const struct {
		const char *text;
		uint64_t ms;
	} good[] = {
		{"1970-01-01T00:00:01Z", 1000},
		{"1970-01-01T00:00:01.5Z", 1500},
		{"1970-01-01T00:00:01.123456789Z", 1123},
	};
	static const char *const bad[] = {"",
					  "1970-01-01",
					  "1970-01-01T00:00:01",
					  "1970-01-01T00:00:01+01:00",
					  "1970-13-01T00:00:01Z",
					  "1970-01-01T25:00:01Z",
					  "1969-12-31T23:59:59Z",
					  "1970-01-01T00:00:01Zx",
					  "now"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		uint64_t ms = 7;

		assert_int_equal(clock_parse(good[i].text, &ms), 0);
		assert_int_equal(ms, good[i].ms);
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		uint64_t ms = 7;

		assert_int_equal(clock_parse(bad[i], &ms), -EINVAL);
		assert_int_equal(ms, 7);
	}
}

static void goes_forward(void **state)
{
	uint64_t before = clock_boot_ms();

	(void)state;
	for (int i = 0; i < 1000; i++) {
		uint64_t now = clock_boot_ms();

		assert_true(now >= before);
		before = now;
	}
	assert_true(clock_wall_ms() > 1500000000000u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(text_both_ways),
		cmocka_unit_test(parses),
		cmocka_unit_test(goes_forward),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
