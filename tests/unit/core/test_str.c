/* test_str.c -- str.h: comparison, cutting, numbers, copies, hashes. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "core/str.h"

static void compares(void **state)
{
	(void)state;
	assert_true(str_eq(STR_NONE, STR("")));
	assert_true(str_eq(STR("a\0b"), STR("a\0b")));
	assert_false(str_eq(STR("ab"), STR("a")));
	assert_true(str_eq_nocase(STR("Content-Type"), STR("cONTENT-tYPE")));
	assert_false(str_eq_nocase(STR("\xc4"), STR("\xe4"))); /* ASCII only */
	assert_false(str_eq_nocase(STR("@"), STR("`")));       /* differ by 0x20 without being letters */
	assert_true(str_cmp(STR("a"), STR("b")) < 0);
	assert_true(str_cmp(STR("ab"), STR("a")) > 0);
	assert_int_equal(str_cmp(STR_NONE, STR("")), 0);
	assert_true(str_cmp(STR("\x80"), STR("\x7f")) > 0); /* bytes are unsigned */
	assert_true(str_starts(STR("abc"), STR("ab")));
	assert_true(str_starts(STR("abc"), STR_NONE));
	assert_false(str_starts(STR("a"), STR("ab")));
	assert_true(str_ends(STR("abc"), STR("bc")));
	assert_false(str_ends(STR("c"), STR("bc")));
	assert_true(str_eq(str_of(NULL), STR_NONE));
	assert_true(str_eq(str_of("x"), STR("x")));
}

static void cuts(void **state)
{
	struct str head, tail;

	(void)state;
	assert_true(str_cut(STR("k=v=w"), '=', &head, &tail));
	assert_true(str_eq(head, STR("k")) && str_eq(tail, STR("v=w")));
	assert_true(str_cut(STR("k="), '=', &head, &tail));
	assert_true(str_eq(head, STR("k")) && tail.n == 0);
	assert_false(str_cut(STR("kv"), '=', &head, &tail));
	assert_true(str_eq(head, STR("kv")) && tail.n == 0);
	assert_false(str_cut(STR_NONE, '=', &head, &tail));
	assert_int_equal(head.n + tail.n, 0);
	assert_int_equal(str_find(STR("abc"), 'c'), 2);
	assert_int_equal(str_find(STR("abc"), 'x'), 3);
	assert_true(str_eq(str_slice(STR("abcdef"), 2, 4), STR("cd")));
	assert_int_equal(str_slice(STR("abc"), 3, 3).n, 0);
}

static void reads_numbers(void **state)
{
	static const struct {
		const char *text;
		uint64_t max, value;
		int code;
	} cases[] = {
		{"0", 10, 0, 0},
		{"10", 10, 10, 0},
		{"11", 10, 0, -ERANGE},
		{"18446744073709551615", UINT64_MAX, UINT64_MAX, 0},
		{"18446744073709551616", UINT64_MAX, 0, -ERANGE},
		{"99999999999999999999", UINT64_MAX, 0, -ERANGE},
		{"000000000000000000001", UINT64_MAX, 0, -EINVAL}, /* longer than any number */
		{"", 10, 0, -EINVAL},
		{"-1", 10, 0, -EINVAL},
		{"+1", 10, 0, -EINVAL},
		{" 1", 10, 0, -EINVAL},
		{"1 ", 10, 0, -EINVAL},
		{"0x1", 10, 0, -EINVAL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t x = 4711;

		assert_int_equal(str_u64(str_of(cases[i].text), cases[i].max, &x), cases[i].code);
		assert_int_equal(x, cases[i].code == 0 ? cases[i].value : 4711);
	}
}

static void copies(void **state)
{
	char small[4] = "zzz";

	(void)state;
	assert_int_equal(str_copy(STR("abc"), small, sizeof small), 0);
	assert_string_equal(small, "abc");
	assert_int_equal(str_copy(STR("abcd"), small, sizeof small), -ENAMETOOLONG);
	assert_int_equal(str_copy(STR("a\0b"), small, sizeof small), -EINVAL);
	assert_string_equal(small, "abc");
	assert_int_equal(str_copy(STR_NONE, small, sizeof small), 0);
	assert_string_equal(small, "");
}

/* Reference values from an independent implementation of FNV-1a are not used: the seed is ours. What counts is that it
 * never changes, as it is replicated. */
static void hashes(void **state)
{
	(void)state;
	assert_int_equal(str_hash(STR("abc")), str_hash(STR("abc")));
	assert_int_not_equal(str_hash(STR("abc")), str_hash(STR("abd")));
	assert_int_not_equal(str_hash(STR("")), str_hash(STR("\0")));
	for (size_t n = 0; n < 32; n++) {
		static const char bytes[32];

		for (size_t m = 0; m < n; m++)
			assert_int_not_equal(str_hash((struct str){bytes, n}),
					     str_hash((struct str){bytes, m}));
	}
	assert_int_equal(str_hash_stable(STR(""), 0), 1469598103934665603u);
	assert_int_equal(str_hash_stable(STR("a"), 0), (1469598103934665603u ^ 'a') * 1099511628211u);
	assert_int_not_equal(str_hash_stable(STR("a"), 0), str_hash_stable(STR("a"), 1));
}

static void reads_sizes(void **state)
{
	static const struct {
		const char *text;
		int code;
		uint64_t bytes;
	} cases[] = {
		{"0", 0, 0},
		{"512", 0, 512},
		{"3Ki", 0, 3072},
		{"512Mi", 0, 512ull << 20},
		{"17179869183Gi", 0, UINT64_MAX - (1ull << 30) + 1},
		{"17179869184Gi", -EINVAL, 0},
		{"18446744073709551615", 0, UINT64_MAX},
		{"18446744073709551616", -EINVAL, 0},
		{"Ki", -EINVAL, 0},
		{"", -EINVAL, 0},
		{"1 Ki", -EINVAL, 0},
		{"1ki", -EINVAL, 0},
		{"1K", -EINVAL, 0},
		{"-1", -EINVAL, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		uint64_t x = 0;

		assert_int_equal(str_size(str_of(cases[i].text), &x), cases[i].code);
		assert_int_equal(x, cases[i].bytes);
	}
}

static void trims(void **state)
{
	(void)state;
	assert_true(str_eq(str_trim(STR(" \t\ra b\r \t")), STR("a b")));
	assert_true(str_eq(str_trim(STR(" \t\r")), STR("")));
	assert_true(str_eq(str_trim(STR("")), STR("")));
	assert_true(str_eq(str_trim(STR("\0x\0")), STR("\0x\0")));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(compares), cmocka_unit_test(cuts),   cmocka_unit_test(reads_numbers),
		cmocka_unit_test(copies),   cmocka_unit_test(hashes), cmocka_unit_test(reads_sizes),
		cmocka_unit_test(trims),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
