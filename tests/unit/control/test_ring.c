/* The entries that are kept for feeds: in order, without a gap behind a known index, within both bounds. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/feed/ring.h"

static void test_ring(void **state)
{
	struct ring *r = ring_new(1000);
	struct str entry;
	uint64_t index;

	(void)state;
	assert_false(ring_reaches(r, 0));
	ring_begin(r, 10);
	assert_true(ring_reaches(r, 10));
	assert_false(ring_reaches(r, 9));
	assert_false(ring_next(r, 10, &index, &entry));
	for (uint64_t i = 12; i <= 40; i += 2) /* what is between them was no entry */
		ring_add(r, i,
			 "01234567890123456789012345678901234567890123456789012345678901234567890123456789012"
			 "34567890123456789",
			 100);
	assert_int_equal(ring_bytes(r), 1000);
	assert_true(ring_next(r, 20, &index, &entry));
	assert_int_equal(index, 22);
	assert_true(ring_next(r, 31, &index, &entry));
	assert_int_equal(index, 32);
	assert_int_equal(entry.n, 100);
	assert_false(ring_next(r, 40, &index, &entry));
	assert_true(ring_reaches(r, 20));
	assert_false(ring_reaches(r, 19));
	ring_add(r, 50, "x", 1);
	assert_true(ring_reaches(r, 22));
	assert_false(ring_reaches(r, 21));
	ring_begin(r, 60);
	assert_int_equal(ring_bytes(r), 0);
	for (uint64_t i = 61; i < 61 + 2 * RING_ENTRIES_MAX; i++)
		ring_add(r, i, "", 0);
	assert_true(ring_reaches(r, 60 + RING_ENTRIES_MAX));
	assert_false(ring_reaches(r, 59 + RING_ENTRIES_MAX));
	ring_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_ring)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
