/* The checker of histories: right ones pass, wrong ones do not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "sim/judge/linear.h"

#define OP(kind, generation, begin, end)              \
	(struct linear_op)                            \
	{                                             \
		begin, end, generation, LINEAR_##kind \
	}
#define RIGHT(...)                                                                  \
	do {                                                                        \
		struct linear_op ops[] = {__VA_ARGS__};                             \
		uint32_t culprit = 0;                                               \
		assert_true(linear_check(ops, sizeof ops / sizeof *ops, &culprit)); \
	} while (0)
#define WRONG(...)                                                                   \
	do {                                                                         \
		struct linear_op ops[] = {__VA_ARGS__};                              \
		uint32_t culprit = 0;                                                \
		assert_false(linear_check(ops, sizeof ops / sizeof *ops, &culprit)); \
	} while (0)

static void test_right(void **state)
{
	uint32_t bad;

	(void)state;
	assert_true(linear_check(NULL, 0, &bad));
	RIGHT(OP(OPENED, 7, 0, 10));
	RIGHT(OP(OPENED, 7, 0, 10), OP(OPENED, 7, 20, 30), OP(CLOSED, 7, 40, 50), OP(OPENED, 9, 60, 70));
	RIGHT(OP(OPENED, 7, 0, 10), OP(SERVED, 7, 11, 20), OP(STOPPED, 0, 21, 30), OP(CLOSED, 7, 25, 40),
	      OP(NONE, 0, 41, 50));
	/* One that nobody was told of, and that ended. */
	RIGHT(OP(CLOSED, 7, 40, 50), OP(OPENED, 9, 60, 70));
	RIGHT(OP(STOPPED, 0, 0, 10), OP(CLOSED, 7, 20, 30));
	RIGHT(OP(STOPPED, 0, 0, 10), OP(SERVED, 7, 20, 30));
	RIGHT(OP(NONE, 0, 0, 10));
}

/* What overlaps may have happened either way. */
static void test_right_by_overlap(void **state)
{
	(void)state;
	RIGHT(OP(OPENED, 9, 0, 100), OP(OPENED, 7, 0, 100), OP(CLOSED, 7, 50, 60));
	RIGHT(OP(OPENED, 7, 0, 10), OP(SERVED, 7, 20, 60), OP(CLOSED, 7, 30, 50), OP(OPENED, 8, 55, 70));
	RIGHT(OP(OPENED, 7, 0, 10), OP(NONE, 0, 15, 40), OP(CLOSED, 7, 20, 30));
	RIGHT(OP(OPENED, 7, 0, 10), OP(STOPPED, 0, 15, 40), OP(CLOSED, 7, 20, 30));
	RIGHT(OP(OPENED, 7, 0, 10), OP(CLOSED, 7, 10, 10), OP(OPENED, 8, 10, 12)); /* at one moment */
}

static void test_two_at_once(void **state)
{
	(void)state;
	WRONG(OP(OPENED, 7, 0, 10), OP(OPENED, 9, 20, 30));
	WRONG(OP(OPENED, 7, 0, 10), OP(OPENED, 9, 0, 10));
	WRONG(OP(OPENED, 7, 0, 10), OP(OPENED, 9, 20, 30), OP(CLOSED, 7, 40, 50)); /* freed too late */
}

static void test_a_generation_again(void **state)
{
	(void)state;
	WRONG(OP(OPENED, 7, 0, 10), OP(CLOSED, 7, 20, 30), OP(OPENED, 7, 40, 50));
	WRONG(OP(OPENED, 9, 0, 10), OP(CLOSED, 9, 20, 30), OP(OPENED, 7, 40, 50));
	WRONG(OP(OPENED, 7, 0, 10), OP(CLOSED, 7, 20, 30), OP(CLOSED, 7, 40, 50)); /* ended twice */
}

static void test_stale(void **state)
{
	(void)state;
	WRONG(OP(OPENED, 7, 0, 10), OP(CLOSED, 7, 20, 30), OP(SERVED, 7, 31, 50));
	WRONG(OP(OPENED, 7, 0, 10), OP(CLOSED, 7, 20, 30), OP(STOPPED, 0, 31, 50));
	WRONG(OP(OPENED, 7, 0, 10), OP(NONE, 0, 11, 12), OP(SERVED, 7, 13, 14));
	WRONG(OP(STOPPED, 0, 0, 10)); /* of nothing */
	WRONG(OP(STOPPED, 0, 0, 10), OP(NONE, 0, 11, 20), OP(CLOSED, 7, 30, 40));
	WRONG(OP(OPENED, 7, 0, 10), OP(CLOSED, 7, 20, 30), OP(OPENED, 8, 35, 40), OP(SERVED, 7, 41, 50));
}

static void test_which_is_named(void **state)
{
	struct linear_op ops[] = {OP(OPENED, 7, 0, 10), OP(SERVED, 7, 12, 14), OP(OPENED, 9, 20, 30),
				  OP(SERVED, 9, 40, 50)};
	uint32_t bad = 99;

	(void)state;
	assert_false(linear_check(ops, 4, &bad));
	assert_int_equal(bad, 2);
}

/* Much at once: the search must remember what it tried. */
static void test_a_crowd(void **state)
{
	static struct linear_op ops[2000];
	uint32_t bad;

	(void)state;
	for (uint32_t i = 0; i < 2000; i++)
		ops[i] = OP(OPENED, 1 + i / 20, i / 20 * 100, i / 20 * 100 + 90);
	for (uint32_t i = 0; i < 100; i++)
		ops[i * 20] = OP(CLOSED, 1 + i, i * 100, i * 100 + 95);
	assert_true(linear_check(ops, 2000, &bad));
	ops[1999].generation = 5;
	assert_false(linear_check(ops, 2000, &bad));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_right),       cmocka_unit_test(test_right_by_overlap),
		cmocka_unit_test(test_two_at_once), cmocka_unit_test(test_a_generation_again),
		cmocka_unit_test(test_stale),       cmocka_unit_test(test_which_is_named),
		cmocka_unit_test(test_a_crowd),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
