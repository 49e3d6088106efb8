/* Strict parsing, bounds, paths and building, by tables of good and bad texts. */
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "json/build.h"

static const struct {
	const char *text;
	int code;
	const char *says;
} texts[] = {
	{"{}", 0, NULL},
	{"[1,2.5,\"x\",null,true]", 0, NULL},
	{" {\"a\":{\"b\":[{\"c\":1}]}} \n", 0, NULL},
	{"", -EBADMSG, "not valid JSON"},
	{"\"bare\"", -EBADMSG, "not valid JSON"},
	{"{} x", -EBADMSG, "line 1"},
	{"{\"a\":1,\"a\":2}", -EBADMSG, "duplicate"},
	{"{\"a\":\"\\u0000\"}", -EBADMSG, "\\u0000"},
	{"{\"a\":\"\xff\"}", -EBADMSG, "decode byte"},
	{"{'a':1}", -EBADMSG, "line 1"},
	{"[1,]", -EBADMSG, "line 1"},
	{"[99999999999999999999]", -EBADMSG, "too big"},
	{"[NaN]", -EBADMSG, "line 1"},
	{"{\"a\":\"[[[[[[[[\"}", 0, NULL},
	{"[[[[[1]]]]]", -E2BIG, "deeper than 4"},
	{"[1,2,3,4,5,6,7,8,9,10,11,12]", -E2BIG, "more than 10 values"},
	{"\"unterminated \\", -EBADMSG, "not valid JSON"},
};

static void parses_strictly(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		json_auto_t *doc = NULL;
		struct err err = {0};
		int r = json_parse(str_of(texts[i].text),
				   &(struct json_bounds){.depth_max = 4, .values_max = 10}, &doc, &err);

		if (r != texts[i].code || (r < 0 && strstr(err.message, texts[i].says) == NULL))
			fail_msg("%s: %d %s", texts[i].text, r, err.message);
		assert_true((r == 0) == (doc != NULL));
	}
	json_auto_t *doc = NULL;

	assert_int_equal(json_parse(STR("[1234567]"), &(struct json_bounds){.bytes_max = 8}, &doc, NULL),
			 -E2BIG);
	assert_int_equal(json_parse(STR("\"bare\""), &(struct json_bounds){.any = true}, &doc, NULL), 0);
}

static json_t *document(void)
{
	json_t *doc = NULL;

	assert_int_equal(
		json_parse(STR("{\"a\":{\"list\":[{\"n\":7,\"s\":\"text\"},null],\"on\":true,\"none\":null,"
			       "\"half\":0.5,\"kind\":\"tcp\"}}"),
			   &(struct json_bounds){0}, &doc, NULL),
		0);
	return doc;
}

static void finds_by_path(void **state)
{
	json_auto_t *doc = document();

	(void)state;
	assert_int_equal(json_integer_value(json_at(doc, "a.list[0].n")), 7);
	assert_ptr_equal(json_at(doc, ""), doc);
	const char *missing[] = {"b",     "a.list[1]", "a.list[2]", "a.none", "a.list[0",
				 "a..on", "a.list.n",  "a.on.x",    "[0]",    "a.list[99999999999999999999]"};

	for (size_t i = 0; i < sizeof missing / sizeof *missing; i++)
		assert_null(json_at(doc, missing[i]));
}

static void reads_fields(void **state)
{
	static const char *const kinds[] = {"HTTP", "TCP", NULL};
	json_auto_t *doc = document();
	struct err err = {0};
	struct str s = STR_NONE;
	uint64_t n = 3;
	double real = 0;
	bool on = false;
	json_t *value = NULL;
	unsigned kind = 9;

	(void)state;
	assert_int_equal(json_get_str(doc, JSON_REQUIRED, 4, &s, &err, "a.list[%d].s", 0), 0);
	assert_true(str_eq(s, STR("text")));
	assert_int_equal(json_get_u64(doc, JSON_REQUIRED, 1, 7, &n, &err, "a.list[0].n"), 0);
	assert_int_equal(n, 7);
	assert_int_equal(json_get_u64(doc, JSON_OPTIONAL, 1, 7, &n, &err, "a.other"), 0);
	assert_int_equal(n, 7);
	assert_int_equal(json_get_real(doc, JSON_REQUIRED, 0, 1, &real, &err, "a.half"), 0);
	assert_int_equal(json_get_bool(doc, JSON_REQUIRED, &on, &err, "a.on"), 0);
	assert_true(on && real == 0.5);
	assert_int_equal(json_get_array(doc, JSON_REQUIRED, 2, &value, &err, "a.list"), 0);
	assert_int_equal(json_get_object(doc, JSON_REQUIRED, &value, &err, "a.list[0]"), 0);
	assert_int_equal(json_get_enum(doc, JSON_REQUIRED, kinds, &kind, &err, "a.kind"), 0);
	assert_int_equal(kind, 1);

	assert_int_equal(json_get_str(doc, JSON_REQUIRED, 3, &s, &err, "a.list[0].s"), -EINVAL);
	assert_string_equal(err.message, "a.list[0].s: has 4 bytes, at most 3 are allowed");
	assert_int_equal(json_get_str(doc, JSON_OPTIONAL, 3, &s, &err, "a.list[0].n"), -EINVAL);
	assert_string_equal(err.message, "a.list[0].n: must be a string, not an integer");
	assert_int_equal(json_get_bool(doc, JSON_REQUIRED, &on, &err, "a.none"), -ENOENT);
	assert_string_equal(err.message, "a.none: is missing");
	assert_int_equal(json_get_u64(doc, JSON_REQUIRED, 8, 9, &n, &err, "a.list[0].n"), -EINVAL);
	assert_string_equal(err.message, "a.list[0].n: is 7, must be from 8 to 9");
	assert_int_equal(json_get_array(doc, JSON_REQUIRED, 1, &value, &err, "a.list"), -EINVAL);
	assert_int_equal(json_get_enum(doc, JSON_REQUIRED, kinds + 2, &kind, &err, "a.kind"), -EINVAL);
	assert_string_equal(json_unknown_key(json_at(doc, "a.list[0]"), (const char *const[]){"n", NULL}),
			    "s");
	assert_null(json_unknown_key(json_at(doc, "a.list[0]"), (const char *const[]){"n", "s", NULL}));
}

static void builds(void **state)
{
	CLEANUP_BUF struct buf text = {0};
	json_auto_t *doc = json_new_object();

	(void)state;
	json_put_str(doc, "s", STR("a\xff\xc3\xa9"));
	json_put_u64(doc, "n", 5);
	json_put_time(doc, "t", 0);
	json_put_cstr(doc, "none", NULL);
	json_push_str(json_put_array(doc, "list"), STR("x"));
	json_put_bool(json_push_object(json_object_get(doc, "list")), "on", true);
	json_print(&text, doc, false);
	assert_string_equal(buf_cstr(&text),
			    "{\"s\":\"a\xef\xbf\xbd\xc3\xa9\",\"n\":5,\"t\":\"1970-01-01T00:00:00.000Z\","
			    "\"none\":null,\"list\":[\"x\",{\"on\":true}]}");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(parses_strictly),
		cmocka_unit_test(finds_by_path),
		cmocka_unit_test(reads_fields),
		cmocka_unit_test(builds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
