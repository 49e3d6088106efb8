/* What a head means: framing, connection, fields that pass; identifiers; pools by host and name. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "gateway/http/head.h"
#include "gateway/http/identifier.h"
#include "gateway/view.h"

static struct scan_head head;
static struct request_facts facts;
static const char *why;

static unsigned request(const char *text, enum head_side side)
{
	if (scan_request(text, strlen(text), &head) != (long)strlen(text))
		fail_msg("not a head: %s", text);
	return head_check_request(&head, side, &facts, &why);
}

static void test_request_rules(void **state)
{
	static const struct {
		const char *text;
		unsigned status;
	} table[] = {
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		{"GET / HTTP/1.0\r\n\r\n", 0},
		{"GET http://a/x HTTP/1.1\r\nHost: a\r\n\r\n", 0},
		{"GET http://b/x HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET http://a HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", 400},
		{"CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n", 501},
		{"GET / HTTP/1.1\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", 400},
		{"GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
		 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501},
		{"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\ntransfer-encoding: "
		 "chunked\r\n\r\n",
		 501},
		{"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400},
		{"POST / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417},
		{"GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", 400},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++)
		if (request(table[i].text, HEAD_FROM_CLIENT) != table[i].status)
			fail_msg("%s: expected %u", table[i].text, table[i].status);
}

static void test_connection(void **state)
{
	(void)state;
	request("GET / HTTP/1.1\r\nHost: a\r\nConnection: Keep-Alive , X-One,host\r\nx-one: 1\r\nX-Two: "
		"2\r\n\r\n",
		HEAD_FROM_CLIENT);
	assert_true(facts.f.keep && facts.replayable);
	assert_true(facts.f.drop[1] && facts.f.drop[2] && !facts.f.drop[3]);
	request("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", HEAD_FROM_CLIENT);
	assert_false(facts.f.keep);
	request("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", HEAD_FROM_CLIENT);
	assert_true(facts.f.keep);
	request("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: x\r\n\r\n", HEAD_FROM_CLIENT);
	assert_int_equal(facts.f.upgrade.n, 0); /* not named by Connection */
	request("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", HEAD_FROM_CLIENT);
	assert_true(str_eq(facts.f.upgrade, STR("x")) && !facts.replayable);
}

static void test_sides(void **state)
{
	static const char text[] =
		"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 1\r\nBerth-Hop: h\r\nBerth-Other: o\r\n"
		"traceparent: t\r\nBerth-Require-Existing: TRUE\r\nAuthorization: x\r\n\r\n";

	(void)state;
	request(text, HEAD_FROM_CLIENT);
	for (unsigned i = 0; i < head.n_headers; i++)
		assert_true(facts.f.drop[i]);
	assert_true(facts.require_existing);
	request(text, HEAD_FROM_NODE);
	assert_false(facts.f.drop[1]);
	assert_false(facts.f.drop[4]);
	assert_true(facts.f.drop[2] && facts.f.drop[3] && facts.f.drop[6]);
	assert_true(str_eq(facts.hop, STR("h")));
}

static void test_responses(void **state)
{
	static const struct {
		const char *text;
		const char *method;
		int result;
		enum body_kind body;
		bool keep;
	} table[] = {
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 0, BODY_LENGTH, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "GET", 0, BODY_NONE, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "HEAD", 0, BODY_NONE, true},
		{"HTTP/1.1 304 X\r\nContent-Length: 5\r\n\r\n", "GET", 0, BODY_NONE, true},
		{"HTTP/1.1 204 X\r\n\r\n", "GET", 0, BODY_NONE, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", 0, BODY_CHUNKED, true},
		{"HTTP/1.1 200 OK\r\n\r\n", "GET", 0, BODY_TO_END, false},
		{"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", "GET", 0, BODY_LENGTH, false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\n", "GET", 0, BODY_LENGTH,
		 false},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", "GET", -1, 0, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", -1, 0,
		 0},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", -1, 0, 0},
		{"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n", "GET", -1, 0, 0},
		{"HTTP/1.1 103 X\r\nContent-Length: 5\r\n\r\n", "GET", -1, 0, 0},
		{"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "GET", -1, 0, 0},
	};
	struct response_facts r;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		struct request_facts asked = {.is_head = strcmp(table[i].method, "HEAD") == 0};
		scan_response(table[i].text, strlen(table[i].text), &head);
		int result = head_check_response(&head, &asked, HEAD_FROM_CLIENT, &r, &why);
		if ((result != 0) != (table[i].result != 0))
			fail_msg("%s: %d", table[i].text, result);
		if (result == 0 && (r.f.body != table[i].body || r.f.keep != table[i].keep))
			fail_msg("%s: body %d keep %d", table[i].text, r.f.body, r.f.keep);
	}
}

static void test_identifiers(void **state)
{
	static const struct {
		const char *query, *identifier;
		enum identifier_result result;
	} table[] = {
		{"identifier=abcd", "abcd", IDENTIFIER_OK},
		{"a=b&identifier=ab%2Dc&z", "ab-c", IDENTIFIER_OK},
		{"Identifier=abcd", "abcd", IDENTIFIER_OK},
		{"identifier=a+b+", "a+b+", IDENTIFIER_OK},
		{"identifier=a|-^$#(){}[];<>_:\"'?/.,@*=!~`", "a|-^$#(){}[];<>_:\"'?/.,@*=!~`",
		 IDENTIFIER_OK},
		{"identifier=%25%26%2500", "%&%00", IDENTIFIER_OK},
		{"", NULL, IDENTIFIER_MISSING},
		{"identifiers=abcd&xidentifier=abcd", NULL, IDENTIFIER_MISSING},
		{"identifier=abcd&identifier=abcd", NULL, IDENTIFIER_REPEATED},
		{"identifier=abcd&%69dentifier=efgh", NULL, IDENTIFIER_REPEATED},
		{"identifier=abcd&IDENTIFIER=efgh", NULL, IDENTIFIER_REPEATED},
		{"identifier=abc%2", NULL, IDENTIFIER_ENCODING},
		{"identifier=abc%zz", NULL, IDENTIFIER_ENCODING},
		{"identifier=abc", NULL, IDENTIFIER_LENGTH},
		{"identifier=", NULL, IDENTIFIER_LENGTH},
		{"identifier", NULL, IDENTIFIER_LENGTH},
		{"identifier=abc%00", NULL, IDENTIFIER_CHARACTER},
		{"identifier=abc%0d", NULL, IDENTIFIER_CHARACTER},
		{"identifier=abc%20", NULL, IDENTIFIER_CHARACTER},
		{"identifier=abc%C3%A9", NULL, IDENTIFIER_CHARACTER},
	};
	char id[IDENTIFIER_MAX], query[200];
	size_t n;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		enum identifier_result r = identifier_of_query(str_of(table[i].query), id, &n);
		if (r != table[i].result ||
		    (r == 0 && !str_eq((struct str){id, n}, str_of(table[i].identifier))))
			fail_msg("%s: %d", table[i].query, r);
	}
	for (int length = 128; length <= 129; length++) {
		snprintf(query, sizeof query, "identifier=%0*d", length, 1);
		assert_int_equal(identifier_of_query(str_of(query), id, &n),
				 length == 128 ? IDENTIFIER_OK : IDENTIFIER_LENGTH);
	}
}

static void test_view(void **state)
{
	struct view *v = view_new();
	struct view_pool one = {.uid = 1,
				.subscription = STR("S"),
				.resource_group = STR("g"),
				.name = STR("a"),
				.host = STR("a.e.r.d")};
	struct view_pool two = {
		.uid = 2, .subscription = STR("S"), .resource_group = STR("h"), .name = STR("a")};
	struct view_node node = {.id = 9};

	(void)state;
	assert_int_equal(view_add_pool(v, &one), 0);
	assert_int_equal(view_add_pool(v, &two), 0);
	assert_int_equal(view_add_node(v, &node), 0);
	assert_int_equal(view_by_host(v, STR("A.e.R.d:8443"))->uid, 1);
	assert_int_equal(view_by_host(v, STR("a.e.r.d."))->uid, 1);
	assert_null(view_by_host(v, STR("b.e.r.d")));
	assert_null(view_by_host(v, STR("")));
	assert_int_equal(view_by_name(v, STR("s"), STR("H"), STR("A"))->uid, 2);
	assert_null(view_by_name(v, STR("s"), STR("i"), STR("a")));
	assert_int_equal(view_by_uid(v, 2)->uid, 2);
	assert_null(view_by_uid(v, 3));
	assert_int_equal(view_node(v, 9)->id, 9);
	assert_null(view_node(v, 8));
	view_unref(v);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_request_rules), cmocka_unit_test(test_connection),
		cmocka_unit_test(test_sides),         cmocka_unit_test(test_responses),
		cmocka_unit_test(test_identifiers),   cmocka_unit_test(test_view),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
