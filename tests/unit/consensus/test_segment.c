/* test_segment.c -- an open segment may end in zeros, at the end of a batch, or in a batch that was not finished; but
 * not in the middle of a batch whose head is whole. */
#include "consensus/disk/segment.h"

#include <endian.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

/* Of one entry of 8 bytes: checksums, head, data. */
#define BATCH    40
#define HEAD_CRC 0xdb536648u

static void put(unsigned char *to, uint64_t x)
{
	x = htole64(x);
	memcpy(to, &x, sizeof x);
}

/* HEAD_CRC is the CRC-32 of the 24 bytes of the head, as libraft computes it. */
static size_t segment(unsigned char to[200], unsigned batches)
{
	memset(to, 0, 200);
	put(to, 1);
	for (unsigned i = 0; i < batches; i++) {
		unsigned char *b = to + 8 + i * BATCH;
		put(b, HEAD_CRC);
		put(b + 8, 1);
		put(b + 16, 1);
		put(b + 24, 1 | 8ull << 32);
		memcpy(b + 32, "entry...", 8);
	}
	return 8 + (size_t)batches * BATCH;
}

static void test_ends(void **state)
{
	unsigned char bytes[200];
	struct err err = {0};
	(void)state;
	size_t n = segment(bytes, 3);
	assert_int_equal(segment_check_bytes("s", bytes, n, &err), 0);
	assert_int_equal(segment_check_bytes("s", bytes, sizeof bytes, &err), 0);
	assert_int_equal(segment_check_bytes("s", bytes, 0, &err), 0);
	bytes[8 + BATCH] ^= 1; /* the head of the second: unfinished */
	assert_int_equal(segment_check_bytes("s", bytes, n - 3, &err), 0);
}

static void test_cut(void **state)
{
	unsigned char bytes[200];
	struct err err = {0};
	(void)state;
	size_t n = segment(bytes, 3);
	for (size_t cut = 1; cut < n; cut++) {
		int expected = cut >= 8 && (cut - 8) % BATCH == 0 ? 0 : -EUCLEAN;
		assert_int_equal(segment_check_bytes("s", bytes, cut, &err), expected);
	}
	assert_non_null(strstr(err.message, "byte 88"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ends), cmocka_unit_test(test_cut)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
