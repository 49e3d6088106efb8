/* test_codec.c -- codec.h: what it writes, what it refuses and how it says so. One small type with a field of each kind. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "core/codec.h"
#include "generate/generate.h"

struct point {
	uint8_t x;
	int32_t y;
};
struct sample {
	uint8_t kind;
	uint16_t port;
	uint64_t id;
	int64_t offset;
	bool on;
	struct str text, secret;
	struct point place;
	struct point *points;
	uint32_t n_points;
	struct str *words;
	uint32_t n_words;
	uint64_t *numbers;
	uint32_t n_numbers;
};

static const struct codec_field point_fields[] = {
	CODEC_U8(struct point, x),
	CODEC_I32(struct point, y),
};
static const struct codec_type point_codec = CODEC_TYPE(struct point, "point", point_fields);
static const struct codec_field sample_fields[] = {
	CODEC_ENUM(struct sample, kind, 3),
	CODEC_U16(struct sample, port),
	CODEC_U64(struct sample, id),
	CODEC_I64(struct sample, offset),
	CODEC_BOOL(struct sample, on),
	CODEC_STR(struct sample, text, 8),
	CODEC_SECRET(struct sample, secret, 8),
	CODEC_ONE(struct sample, place, &point_codec),
	CODEC_LIST(struct sample, points, 3, &point_codec),
	CODEC_STRS(struct sample, words, 3),
	CODEC_UINTS(struct sample, numbers, 3),
};
static const struct codec_type sample_codec = CODEC_TYPE(struct sample, "sample", sample_fields);

static struct point points[] = {{1, -1}, {255, INT32_MIN}};
static struct str words[] = {{"one", 3}, {NULL, 0}};
static uint64_t numbers[] = {0, UINT64_MAX};
static const struct sample full = {
	.kind = 2,
	.port = 65535,
	.id = UINT64_MAX,
	.offset = INT64_MIN,
	.on = true,
	.text = {"a\0\033b", 4},
	.secret = {"hush", 4},
	.place = {7, INT32_MAX},
	.points = points,
	.n_points = 2,
	.words = words,
	.n_words = 2,
	.numbers = numbers,
	.n_numbers = 2,
};

static int decode(const char *bytes, size_t n, struct sample *ret, struct err *err)
{
	static struct arena arena;

	arena_done(&arena);
	return codec_decode(bytes, n, &sample_codec, &arena, ret, err);
}

static void round_trip(void **state)
{
	CLEANUP_BUF struct buf b = {0}, again = {0};
	struct sample back;
	struct err err = {0};

	(void)state;
	codec_encode(&b, &sample_codec, &full);
	assert_int_equal(decode(b.p, b.n, &back, &err), 0);
	assert_true(codec_equal(&sample_codec, &full, &back));
	codec_encode(&again, &sample_codec, &back);
	assert_true(str_eq(buf_str(&b), buf_str(&again)));
}

static void prints_without_secrets(void **state)
{
	CLEANUP_BUF struct buf b = {0};

	(void)state;
	codec_print(&b, &sample_codec, &full);
	assert_string_equal(buf_cstr(&b),
			    "{kind=2 port=65535 id=18446744073709551615 offset=-9223372036854775808 on=true"
			    " text=\"a\\x00\\x1bb\" secret=<4 bytes> place={x=7 y=2147483647}"
			    " points=[{x=1 y=-1} {x=255 y=-2147483648}] words=[\"one\" \"\"]"
			    " numbers=[0 18446744073709551615]}");
}

static void clones_are_independent(void **state)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct sample *copy = codec_clone(&arena, &sample_codec, &full);

	(void)state;
	assert_non_null(copy);
	assert_true(codec_equal(&sample_codec, &full, copy));
	assert_ptr_not_equal(copy->text.p, full.text.p);
	assert_ptr_not_equal(copy->points, full.points);
	copy->points[1].x = 0;
	assert_false(codec_equal(&sample_codec, &full, copy));
	struct arena tiny = {.max = 64};

	assert_null(codec_clone(&tiny, &sample_codec, &full));
	arena_done(&tiny);
}

static void each_field_tells_values_apart(void **state)
{
	struct sample other;

	(void)state;
#define DIFFERS(change)                                                  \
	do {                                                             \
		other = full;                                            \
		change;                                                  \
		assert_false(codec_equal(&sample_codec, &full, &other)); \
	} while (0)
	DIFFERS(other.kind = 1);
	DIFFERS(other.port = 1);
	DIFFERS(other.id = 1);
	DIFFERS(other.offset = 1);
	DIFFERS(other.on = false);
	DIFFERS(other.text = STR("x"));
	DIFFERS(other.secret = STR("x"));
	DIFFERS(other.place.y = 1);
	DIFFERS(other.n_points = 1);
	DIFFERS(other.n_words = 1);
	DIFFERS(other.n_numbers = 1);
#undef DIFFERS
}

/* Fewer fields than the table: an older writer. */
static void missing_fields_are_zero(void **state)
{
	struct sample back;
	struct err err = {0};

	(void)state;
	assert_int_equal(decode("\x90", 1, &back, &err), 0);
	assert_true(codec_equal(&sample_codec, &(struct sample){0}, &back));
	assert_int_equal(decode("\x92\x01\x05", 3, &back, &err), 0);
	assert_int_equal(back.kind + back.port, 6);
	assert_int_equal(back.id, 0);
}

static void refuses(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *message;
	} cases[] = {
#define BYTES(x) (x), sizeof(x) - 1
		{BYTES(""), "sample: not one well-formed"},
		{BYTES("\x90\x90"), "sample: not one well-formed"},         /* trailing bytes */
		{BYTES("\x92\x01"), "sample: not one well-formed"},         /* cut short */
		{BYTES("\x80"), "sample: not one well-formed"},             /* a map */
		{BYTES("\x91\xca\0\0\0\0"), "sample: not one well-formed"}, /* a float */
		{BYTES("\x91\xd4\0\0"), "sample: not one well-formed"},     /* an extension */
		{BYTES("\x91\xc1"), "sample: not one well-formed"},         /* never used */
		{BYTES("\xdd\xff\xff\xff\xff\x01"), "sample: not one well-formed"},
		{BYTES("\x01"), "sample: not a struct"},
		{BYTES("\x9c\x01\x01\x01\x01\xc3\xa0\xa0\x90\x90\x90\x90\x01"),
		 "sample: 12 fields, this version knows 11"},
		{BYTES("\x91\xff"), "sample.kind: not an unsigned integer"},
		{BYTES("\x91\xc3"), "sample.kind: not an unsigned integer"},
		{BYTES("\x91\x03"), "sample.kind: out of range"},
		{BYTES("\x92\x00\xce\x00\x01\x00\x00"), "sample.port: out of range"},
		{BYTES("\x94\x00\x00\x00\xcf\x80\x00\x00\x00\x00\x00\x00\x00"),
		 "sample.offset: out of range"},
		{BYTES("\x94\x00\x00\x00\xc2"), "sample.offset: not an integer"},
		{BYTES("\x95\x00\x00\x00\x00\x01"), "sample.on: not a boolean"},
		{BYTES("\x96\x00\x00\x00\x00\xc2\x01"), "sample.text: not a string"},
		{BYTES("\x96\x00\x00\x00\x00\xc2\xa9"
		       "123456789"),
		 "sample.text: too long"},
		{BYTES("\x98\x00\x00\x00\x00\xc2\xa0\xa0\x01"), "point: not a struct"},
		{BYTES("\x98\x00\x00\x00\x00\xc2\xa0\xa0\x92\x01\xd3\xff\xff\xff\xff\x7f\xff\xff\xff"),
		 "point.y: out of range"},
		{BYTES("\x99\x00\x00\x00\x00\xc2\xa0\xa0\x90\xc0"), "sample.points: not a list"},
		{BYTES("\x99\x00\x00\x00\x00\xc2\xa0\xa0\x90\x94\x90\x90\x90\x90"),
		 "sample.points: too many elements"},
		{BYTES("\x9a\x00\x00\x00\x00\xc2\xa0\xa0\x90\x90\x91\x01"), "sample.words: not a string"},
		{BYTES("\x9b\x00\x00\x00\x00\xc2\xa0\xa0\x90\x90\x90\x91\xff"),
		 "sample.numbers: not an unsigned integer"},
#undef BYTES
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct sample back = {.id = 4711};
		struct err err = {0};

		assert_int_equal(decode(cases[i].bytes, cases[i].n, &back, &err), -EBADMSG);
		if (strncmp(err.message, cases[i].message, strlen(cases[i].message)) != 0)
			fail_msg("case %zu: \"%s\", not \"%s\"", i, err.message, cases[i].message);
		assert_int_equal(back.id, 4711); /* untouched */
	}
}

static void scan_bounds_depth_and_size(void **state)
{
	char deep[CODEC_DEPTH_MAX + 2];
	static char large[CODEC_BYTES_MAX + 2];
	struct err err = {0};
	struct sample back;

	(void)state;
	memset(deep, 0x91, sizeof deep);
	deep[CODEC_DEPTH_MAX] = 0x01;
	assert_int_equal(codec_scan(deep, CODEC_DEPTH_MAX + 1), 0);
	deep[CODEC_DEPTH_MAX] = (char)0x91;
	deep[CODEC_DEPTH_MAX + 1] = 0x01;
	assert_int_equal(codec_scan(deep, CODEC_DEPTH_MAX + 2), -EBADMSG);
	memcpy(large, "\xc6\x00\x0f\xff\xfd", 5); /* one string that makes CODEC_BYTES_MAX + 2 in all */
	assert_int_equal(codec_scan(large, sizeof large), 0);
	assert_int_equal(decode(large, sizeof large, &back, &err), -EBADMSG);
}

/* Each prefix of a message is refused; each flipped bit decodes or is refused, and never reads past the end. */
static void every_cut_and_flip(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	struct sample back;

	(void)state;
	codec_encode(&b, &sample_codec, &full);
	for (size_t n = 0; n < b.n; n++)
		assert_int_equal(decode(b.p, n, &back, NULL), -EBADMSG);
	for (size_t bit = 0; bit < b.n * 8; bit++) {
		b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
		int r = decode(b.p, b.n, &back, NULL);

		assert_true(r == 0 || r == -EBADMSG);
		b.p[bit / 8] = (char)(b.p[bit / 8] ^ 1 << bit % 8);
	}
}

static void without_memory(void **state)
{
	CLEANUP_BUF struct buf b = {0};
	struct sample back = {.id = 4711};

	(void)state;
	codec_encode(&b, &sample_codec, &full);
	for (size_t max = 1; max < 400; max += 16) {
		struct arena arena = {.max = max};
		struct err err = {0};
		int r = codec_decode(b.p, b.n, &sample_codec, &arena, &back, &err);

		arena_done(&arena);
		if (r == 0)
			break;
		assert_int_equal(r, -ENOMEM);
		assert_non_null(strstr(err.message, "no memory"));
		assert_int_equal(back.id, 4711);
	}
}

static void generated_values(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 500; seed++) {
		CLEANUP_ARENA struct arena arena = {0};
		CLEANUP_BUF struct buf b = {0};
		struct generate g = {.seed = seed, .length_max = 20, .arena = &arena};
		struct sample value, back;
		struct err err = {0};

		generate_value(&g, &sample_codec, &value);
		codec_encode(&b, &sample_codec, &value);
		if (decode(b.p, b.n, &back, &err) < 0 || !codec_equal(&sample_codec, &value, &back))
			fail_msg("seed %llu: %s", (unsigned long long)seed, err.message);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(prints_without_secrets),
		cmocka_unit_test(clones_are_independent),
		cmocka_unit_test(each_field_tells_values_apart),
		cmocka_unit_test(missing_fields_are_zero),
		cmocka_unit_test(refuses),
		cmocka_unit_test(scan_bounds_depth_and_size),
		cmocka_unit_test(every_cut_and_flip),
		cmocka_unit_test(without_memory),
		cmocka_unit_test(generated_values),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
