/* test_frame.c -- entries and snapshots survive their frames; damaged frames are refused. */
#include "consensus/frame.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_entries(void **state)
{
	unsigned char frame[64], bytes[] = "abcdefghijklmnopqrstuvwxyz";
	struct err err = {0};
	struct str read;
	(void)state;
	for (size_t n = 1; n <= 26; n++) {
		size_t size = frame_entry_size(n);
		assert_int_equal(size % 8, 0);
		frame_entry_write(frame, bytes, n);
		assert_int_equal(frame_entry_read(frame, size, &read, &err), 0);
		assert_int_equal(read.n, n);
		assert_memory_equal(read.p, bytes, n);
		assert_int_equal(frame_entry_read(frame, size - 8, &read, &err), -EBADMSG);
		assert_int_equal(frame_entry_read(frame, size + 8, &read, &err), -EBADMSG);
		frame[0] ^= 2;
		assert_int_equal(frame_entry_read(frame, size, &read, &err), -EBADMSG);
	}
	assert_int_equal(frame_entry_read(frame, 7, &read, &err), -EBADMSG);
}

/* The whole frame of n bytes; the hash is fed in pieces of `piece`. */
static unsigned char *snapshot(const unsigned char *bytes, size_t n, size_t piece, size_t *ret_size)
{
	*ret_size = FRAME_SNAPSHOT_HEAD + n + frame_snapshot_padding(n);
	unsigned char *frame = calloc(1, *ret_size);
	assert_non_null(frame);
	uint64_t hash = FRAME_HASH_SEED;
	for (size_t at = 0; at < n; at += piece)
		hash = frame_hash(hash, bytes + at, n - at < piece ? n - at : piece);
	frame_snapshot_head(frame, n, hash);
	memcpy(frame + FRAME_SNAPSHOT_HEAD, bytes, n);
	return frame;
}

static void test_snapshots(void **state)
{
	unsigned char bytes[100];
	struct err err = {0};
	struct str read;
	size_t size;
	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (unsigned char)(i * 7);
	for (size_t n = 0; n <= sizeof bytes; n++) {
		unsigned char *frame = snapshot(bytes, n, n % 5 + 1, &size);
		assert_int_equal(size % 8, 0);
		assert_int_equal(frame_snapshot_read(frame, size, &read, &err), 0);
		assert_int_equal(read.n, n);
		assert_memory_equal(read.p, bytes, n);
		for (size_t at = 0; at < FRAME_SNAPSHOT_HEAD + n; at++) {
			frame[at] ^= 0x10;
			assert_int_equal(frame_snapshot_read(frame, size, &read, &err), -EBADMSG);
			frame[at] ^= 0x10;
		}
		for (size_t cut = 0; cut < size; cut++)
			assert_int_equal(frame_snapshot_read(frame, cut, &read, &err), -EBADMSG);
		free(frame);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_entries), cmocka_unit_test(test_snapshots)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
