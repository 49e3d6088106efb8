/* Heads and chunked bodies, good and bad, whole and split at every byte. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/http/scanner.h"

static struct scan_head head;

struct vector {
	const char *text;
	long result; /* 1: the whole text is the head */
};

static const struct vector requests[] = {
	{"GET / HTTP/1.1\r\n\r\n", 1},
	{"GET / HTTP/1.0\r\nHost: a\r\n\r\n", 1},
	{"PURGE /x?y=%00 HTTP/1.1\r\nHost:a\r\nX: \t v \t\r\nEmpty:\r\n\r\n", 1},
	{"GET / HTTP/1.1\r\nX: caf\xc3\xa9\r\n\r\n", 1},
	{"", SCAN_MORE},
	{"GET / HTTP/1.1\r\nHost: a\r\n", SCAN_MORE},
	{" GET / HTTP/1.1\r\n\r\n", SCAN_BAD},
	{"GET  / HTTP/1.1\r\n\r\n", SCAN_BAD},
	{"GET /a b HTTP/1.1\r\n\r\n", SCAN_BAD},
	{"GET /\x80 HTTP/1.1\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1 \r\n\r\n", SCAN_BAD},
	{"GET / http/1.1\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.2\r\n\r\n", SCAN_VERSION},
	{"GET / HTTP/2.0\r\n\r\n", SCAN_VERSION},
	{"GET / HTTP/1.1\r\nA : b\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\n A: b\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", SCAN_BAD}, /* folded */
	{"GET / HTTP/1.1\r\n: b\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\nA\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\nA: b\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\nA: b\rc\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\nA: b\x01\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\nA: b\x7f\r\n\r\n", SCAN_BAD},
	{"GET / HTTP/1.1\r\n\rX", SCAN_BAD},
	{"THISMETHODISLONGERTHANTHIRTYTWOCHARS / HTTP/1.1\r\n\r\n", SCAN_BAD},
};

static const struct vector responses[] = {
	{"HTTP/1.1 200 OK\r\n\r\n", 1},
	{"HTTP/1.1 200\r\nA: b\r\n\r\n", 1},
	{"HTTP/1.0 404 Not Found at all\r\n\r\n", 1},
	{"HTTP/1.1 999 \r\n\r\n", 1},
	{"HTTP/1.1 20", SCAN_MORE},
	{"HTTP/1.1 099 X\r\n\r\n", SCAN_BAD},
	{"HTTP/1.1 2000 X\r\n\r\n", SCAN_BAD},
	{"HTTP/1.1  200 X\r\n\r\n", SCAN_BAD},
	{"HTTP/1.1 200 X\n\r\n", SCAN_BAD},
	{"HTTP/2 200\r\n\r\n", SCAN_BAD},
	{"HTTP/1.3 200\r\n\r\n", SCAN_VERSION},
	{"ICY 200 OK\r\n\r\n", SCAN_BAD},
};

typedef long scan(const char *p, size_t n, struct scan_head *ret);

/* Exact copies on the heap: a read past the end is caught under asan. */
static long scan_copy(scan *f, const char *text, size_t n)
{
	char *copy = malloc(n ? n : 1);
	memcpy(copy, text, n);
	long r = f(copy, n, &head);
	free(copy);
	return r;
}

static void check(scan *f, const struct vector *v)
{
	size_t n = strlen(v->text);
	long want = v->result == 1 ? (long)n : v->result, r = scan_copy(f, v->text, n);

	if (r != want)
		fail_msg("%s: %ld, expected %ld", v->text, r, want);
	for (size_t i = 0; i < n; i++) {
		r = scan_copy(f, v->text, i);
		/* a part is not whole yet, or shows already what is wrong; it never looks whole */
		if (r != SCAN_MORE && !(r < 0 && want < 0))
			fail_msg("%s: %ld at %zu bytes", v->text, r, i);
	}
}

static void test_requests(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof requests / sizeof *requests; i++)
		check(scan_request, &requests[i]);
}

static void test_responses(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof responses / sizeof *responses; i++)
		check(scan_response, &responses[i]);
}

static void test_parts(void **state)
{
	static const char text[] = "POST /p?q HTTP/1.1\r\nHost:  a.b \r\nX:\r\n\r\nbody";

	(void)state;
	assert_int_equal(scan_request(text, sizeof text - 1, &head), (long)sizeof text - 1 - 4);
	assert_true(str_eq(head.method, STR("POST")));
	assert_true(str_eq(head.target, STR("/p?q")));
	assert_int_equal(head.minor, 1);
	assert_int_equal(head.n_headers, 2);
	assert_true(str_eq(head.headers[0].value, STR("a.b")));
	assert_true(str_eq(head.headers[1].name, STR("X")) && head.headers[1].value.n == 0);
	assert_int_equal(scan_response("HTTP/1.0 503 Gone fishing\r\n\r\n", 29, &head), 29);
	assert_int_equal(head.status, 503);
	assert_true(str_eq(head.reason, STR("Gone fishing")));
}

/* Each control character at each place of a value that spans the vector steps. */
static void test_control_characters(void **state)
{
	(void)state;
	for (unsigned c = 0; c < 256; c++)
		for (size_t at = 0; at < 40; at++) {
			char text[100] = "GET / HTTP/1.1\r\nA:";
			size_t n = strlen(text);
			memset(text + n, 'v', 40);
			text[n + at] = (char)c;
			memcpy(text + n + 40, "\r\n\r\n", 4);
			long r = scan_copy(scan_request, text, n + 44);
			bool bad = (c < 0x20 && c != '\t') || c == 0x7f;
			if (bad ? r >= 0 : r != (long)n + 44)
				fail_msg("character %u at %zu: %ld", c, at, r);
		}
}

static void test_bounds(void **state)
{
	static char text[70000];
	size_t n;

	(void)state;
	n = (size_t)sprintf(text, "GET /");
	memset(text + n, 'a', 9000);
	assert_int_equal(scan_request(text, n + 8191, &head), SCAN_MORE);
	assert_int_equal(scan_request(text, n + 8192, &head), SCAN_LONG_TARGET);
	for (unsigned fields = 100; fields <= 101; fields++) {
		n = (size_t)sprintf(text, "GET / HTTP/1.1\r\n");
		for (unsigned i = 0; i < fields; i++)
			n += (size_t)sprintf(text + n, "A%u: b\r\n", i);
		n += (size_t)sprintf(text + n, "\r\n");
		assert_int_equal(scan_request(text, n, &head), fields == 100 ? (long)n : SCAN_TOO_LARGE);
	}
	n = (size_t)sprintf(text, "GET / HTTP/1.1\r\nA: ");
	memset(text + n, 'a', 40000);
	assert_int_equal(scan_request(text, 32768, &head), SCAN_MORE);
	assert_int_equal(scan_request(text, 32769, &head), SCAN_TOO_LARGE);
	memcpy(text + 32764, "\r\n\r\n", 4);
	assert_int_equal(scan_request(text, 32768, &head), 32768);
}

/* --- chunked bodies --- */

struct chunk_vector {
	const char *text, *body; /* body NULL: bad */
	bool whole;
};

static const struct chunk_vector chunks[] = {
	{"0\r\n\r\n", "", true},
	{"3\r\nabc\r\n0\r\n\r\n", "abc", true},
	{"00000003\r\nabc\r\nA\r\n0123456789\r\n0\r\n\r\n", "abc0123456789", true},
	{"3;a=b;c\r\nabc\r\n0;x\r\nT: v\r\nU:\r\n\r\n", "abc", true},
	{"3\r\nab", "ab", false},
	{"3\r\nabc\r\n0\r\nT: v\r\n", "abc", false},
	{"\r\n", NULL, false},
	{"3\nabc\r\n", NULL, false},
	{"3 \r\nabc\r\n", NULL, false},
	{" 3\r\nabc\r\n", NULL, false},
	{"0x3\r\nabc\r\n", NULL, false},
	{"-1\r\n", NULL, false},
	{"3\r\nabcX", NULL, false},
	{"3\r\nabc\rX", NULL, false},
	{"3\r\nabc\n0\r\n\r\n", NULL, false},
	{"1000000000000000\r\n", NULL, false},
	{"3;a\nb\r\n", NULL, false},
	{"0\r\n\n", NULL, false},
	{"0\r\nbad trailer\r\n\r\n", NULL, false},
	{"0\r\n: v\r\n\r\n", NULL, false},
};

static void check_chunks(const struct chunk_vector *v, size_t step)
{
	struct chunk_scan c = {0};
	char body[64] = "";
	size_t n = strlen(v->text), at = 0, have = 0;
	enum chunk_result r = CHUNK_MORE;

	while (at < n && r != CHUNK_BAD && r != CHUNK_END) {
		size_t give = n - at < step ? n - at : step, used, done = 0;
		do {
			struct str data;
			r = chunk_scan(&c, v->text + at + done, give - done, &used, &data);
			if (r == CHUNK_DATA) {
				memcpy(body + have, data.p, data.n);
				have += data.n;
			}
			done += used;
		} while (r == CHUNK_DATA && done < give);
		at += give;
	}
	if (!v->body ? r != CHUNK_BAD
		     : r == CHUNK_BAD || (r == CHUNK_END) != v->whole || strcmp(body, v->body) != 0)
		fail_msg("%s by %zu: result %d, body %s", v->text, step, r, body);
}

static void test_chunks(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof chunks / sizeof *chunks; i++)
		for (size_t step = 1; step < 64; step++)
			check_chunks(&chunks[i], step);
}

static void test_chunk_end_leaves_the_rest(void **state)
{
	struct chunk_scan c = {0};
	struct str data;
	size_t used;

	(void)state;
	assert_int_equal(chunk_scan(&c, "0\r\n\r\nGET", 8, &used, &data), CHUNK_END);
	assert_int_equal(used, 5);
}

static void test_chunk_bounds(void **state)
{
	static char line[10000];
	struct chunk_scan c = {0};
	struct str data;
	size_t used;

	(void)state;
	memset(line, 'a', sizeof line);
	assert_int_equal(chunk_scan(&c, "1;", 2, &used, &data), CHUNK_MORE);
	assert_int_equal(chunk_scan(&c, line, 5000, &used, &data), CHUNK_BAD);
	c = (struct chunk_scan){0};
	assert_int_equal(chunk_scan(&c, "0\r\nT:", 5, &used, &data), CHUNK_MORE);
	assert_int_equal(chunk_scan(&c, line, 9000, &used, &data), CHUNK_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_requests),
		cmocka_unit_test(test_responses),
		cmocka_unit_test(test_parts),
		cmocka_unit_test(test_control_characters),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_chunks),
		cmocka_unit_test(test_chunk_end_leaves_the_rest),
		cmocka_unit_test(test_chunk_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
