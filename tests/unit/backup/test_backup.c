/* Backups: read as they were written, in whatever pieces; each byte, each cut and each identity matters. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backup/backup.h"

static uint8_t recipient[PARCEL_KEY_BYTES], identity[PARCEL_KEY_BYTES];

static int make_key(void **state)
{
	CLEANUP_BUF struct buf text = {0};

	(void)state;
	parcel_key_make(recipient, &text);
	return parcel_identity_parse(buf_str(&text), identity, NULL);
}

/* With `n` bytes of tables. */
static void make(struct buf *to, size_t n, struct buf *ret_tables)
{
	struct backup_manifest manifest = {
		.cluster = STR("c"), .incarnation = 3, .index = 77, .version = STR("1")};
	struct parcel_writer *w = backup_begin(recipient, &manifest, STR("1 abc\n"), to);

	for (size_t i = 0; i < n; i++)
		buf_add(ret_tables, (char[]){(char)(i * 7)}, 1);
	backup_tables(w, ret_tables->p, n, to);
	backup_finish(w, n, to);
	parcel_writer_free(w);
}

static int read_in(struct str bytes, size_t piece, struct backup *ret, struct err *err)
{
	struct backup_reader *r = backup_reader_new(identity);
	int rc = 0;

	for (size_t at = 0; rc == 0 && at < bytes.n; at += piece)
		rc = backup_reader_add(r, bytes.p + at, at + piece < bytes.n ? piece : bytes.n - at, err);
	if (rc == 0)
		rc = backup_reader_end(r, ret, err);
	backup_reader_free(r);
	return rc;
}

static void test_round_trip(void **state)
{
	static const size_t sizes[] = {0, 1, 1000, PARCEL_PIECE_MAX, 3 * PARCEL_PIECE_MAX + 5},
			    pieces[] = {1, 7, 65536, 1 << 20};

	(void)state;
	for (size_t i = 1; i < sizeof sizes / sizeof *sizes; i++) {
		CLEANUP_BUF struct buf bytes = {0}, tables = {0};

		make(&bytes, sizes[i], &tables);
		for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
			struct backup b;

			assert_int_equal(read_in(buf_str(&bytes), pieces[k], &b, NULL), 0);
			assert_true(str_eq(buf_str(&b.tables), buf_str(&tables)));
			assert_true(str_eq(buf_str(&b.ring), STR("1 abc\n")));
			assert_true(b.manifest.index == 77 && b.manifest.incarnation == 3);
			backup_done(&b);
		}
	}
}

static void test_damage(void **state)
{
	CLEANUP_BUF struct buf bytes = {0}, tables = {0};
	struct backup b;

	(void)state;
	make(&bytes, 300, &tables);
	for (size_t i = 0; i < bytes.n; i++) {
		bytes.p[i] ^= 1;
		assert_true(read_in(buf_str(&bytes), 4096, &b, NULL) < 0);
		bytes.p[i] ^= 1;
	}
	for (size_t n = 0; n < bytes.n; n++)
		assert_int_equal(read_in((struct str){bytes.p, n}, 4096, &b, NULL), -EBADMSG);
	buf_add(&bytes, "x", 1);
	assert_int_equal(read_in(buf_str(&bytes), 4096, &b, NULL), -EBADMSG);
}

/* Pieces in an order that no writer makes, though each is the recipient's. */
static void test_order(void **state)
{
	static const uint8_t orders[][4] = {{1, 2, 4, 0}, {2, 1, 3, 4}, {1, 3, 4, 0}, {1, 2, 2, 4},
					    {3, 4, 0, 0}, {1, 2, 3, 9}, {1, 1, 2, 4}, {0, 1, 2, 4}};

	(void)state;
	for (size_t i = 0; i < sizeof orders / sizeof *orders; i++) {
		CLEANUP_BUF struct buf bytes = {0};
		struct parcel_writer *w = parcel_writer_new(recipient, &bytes);
		struct backup b;
		/* A manifest of format 1, and an end of no bytes. */
		const char *const body[] = {"", "\x91\x01", "ring", "tables", "\x91\x00", "", "", "", "", ""};

		for (size_t k = 0; k < 4; k++)
			parcel_write(w, orders[i][k], body[orders[i][k]], strlen(body[orders[i][k]]), k == 3,
				     &bytes);
		parcel_writer_free(w);
		assert_true(read_in(buf_str(&bytes), 4096, &b, NULL) < 0);
	}
}

static void test_identities(void **state)
{
	CLEANUP_BUF struct buf bytes = {0}, tables = {0}, text = {0};
	uint8_t other[PARCEL_KEY_BYTES], parsed[PARCEL_KEY_BYTES];
	char key[PARCEL_KEY_TEXT];
	struct backup b;
	struct err err = {0};

	(void)state;
	make(&bytes, 10, &tables);
	parcel_key_make(other, &text);
	assert_int_equal(parcel_identity_parse(buf_str(&text), identity, &err), 0);
	assert_int_equal(read_in(buf_str(&bytes), 4096, &b, &err), -ENOKEY);
	assert_int_equal(parcel_identity_parse(STR("identity = 00"), identity, &err), -EINVAL);
	parcel_key_text(recipient, key);
	assert_int_equal(parcel_key_parse(str_of(key), parsed, &err), 0);
	assert_memory_equal(parsed, recipient, sizeof parsed);
	for (size_t i = 0; i < sizeof key - 1; i++) {
		char was = key[i];

		key[i] = was == '7' ? '8' : '7';
		assert_int_equal(parcel_key_parse(str_of(key), parsed, &err), -EINVAL);
		key[i] = was;
	}
	bytes.p[11] = 2; /* the format */
	assert_int_equal(read_in(buf_str(&bytes), 4096, &b, &err), -EPROTO);
	make_key(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_damage),
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_identities),
	};

	return cmocka_run_group_tests(tests, make_key, NULL);
}
