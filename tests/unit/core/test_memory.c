/* test_memory.c -- arena.h and buf.h: bounds, growth, what a failure leaves. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <string.h>

#include "core/arena.h"
#include "core/buf.h"

static void arena_bounds(void **state)
{
	CLEANUP_ARENA struct arena a = {.max = 1000};

	(void)state;
	char *p = arena_alloc(&a, 100);

	assert_non_null(p);
	for (int i = 0; i < 100; i++)
		assert_int_equal(p[i], 0);
	assert_null(arena_alloc(&a, 2000));
	assert_null(arena_alloc(&a, SIZE_MAX));
	assert_null(arena_alloc(&a, SIZE_MAX - 3)); /* rounding up would wrap */
	assert_null(arena_array(&a, SIZE_MAX / 2, 4));
	assert_non_null(arena_alloc(&a, 800));
	assert_null(arena_alloc(&a, 200));
	arena_done(&a);
	assert_int_equal(a.max, 1000); /* the bound outlives the content */
	assert_non_null(arena_alloc(&a, 900));
}

static void arena_aligns_and_keeps(void **state)
{
	CLEANUP_ARENA struct arena a = {0};
	char *pieces[500];

	(void)state;
	for (size_t i = 0; i < 500; i++) {
		pieces[i] = arena_alloc(&a, i + 1);
		assert_int_equal((uintptr_t)pieces[i] % _Alignof(max_align_t), 0);
		memset(pieces[i], (int)(i & 127), i + 1);
	}
	for (size_t i = 0; i < 500; i++) {
		for (size_t k = 0; k <= i; k++)
			assert_int_equal(pieces[i][k], i & 127);
	}
	struct str copy = arena_str(&a, STR("x\0y"));

	assert_int_equal(copy.n, 3);
	assert_int_equal(copy.p[3], '\0');
	assert_string_equal(arena_printf(&a, "%d-%s", 7, "seven").p, "7-seven");
	assert_non_null(arena_str(&a, STR_NONE).p);
}

static void buf_bounds(void **state)
{
	CLEANUP_BUF struct buf b = BUF_MAX(10);

	(void)state;
	buf_add(&b, "12345", 5);
	buf_add_str(&b, STR("67890"));
	assert_false(buf_failed(&b));
	buf_add(&b, NULL, 0);
	assert_false(buf_failed(&b));
	buf_add(&b, "x", 1);
	assert_true(buf_failed(&b));
	assert_int_equal(b.n, 10); /* what was there stays */
	buf_clear(&b);
	buf_add(&b, "again", 5);
	assert_false(buf_failed(&b));
	assert_null(buf_reserve(&b, SIZE_MAX)); /* the sum would wrap */
	assert_string_equal(buf_cstr(&b), "");  /* failed */
}

static void buf_content(void **state)
{
	CLEANUP_BUF struct buf b = {0};

	(void)state;
	for (int i = 0; i < 1000; i++)
		buf_printf(&b, "%03d,", i);
	assert_int_equal(b.n, 4000);
	assert_memory_equal(b.p + 3996, "999,", 4);
	buf_drop(&b, 3996);
	assert_string_equal(buf_cstr(&b), "999,");
	buf_drop(&b, 0);
	buf_drop(&b, 4);
	assert_int_equal(b.n, 0);
	assert_string_equal(buf_cstr(&b), "");
	buf_done(&b);
	assert_null(b.p);
	assert_string_equal(buf_cstr(&b), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(arena_bounds),
		cmocka_unit_test(arena_aligns_and_keeps),
		cmocka_unit_test(buf_bounds),
		cmocka_unit_test(buf_content),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
