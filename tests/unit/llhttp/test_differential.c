/* Requests and answers as the gateway and as llhttp read them: a corpus of heads, then changes of them drawn from a seed.
 * Whatever both take they must read alike; what the gateway alone takes fails; what llhttp alone takes must have a row in the
 * table of refusals, and each row must be met. BERTH_MUTATIONS and BERTH_SEED choose how many and which; docs/http.md
 * holds the table (BERTH_UPDATE_DOCS=1 writes it anew). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/fd.h"
#include "documents_page/page.h"
#include "mutate.h"
#include "refusals.h"

#define MESSAGES_MAX 400
#define MUTATIONS    400000
#define SEED         20240817

struct corpus {
	enum reading_kind kind;
	struct str messages[MESSAGES_MAX];
	unsigned n;
	struct buf file, text;
};

static struct corpus corpora[] = {
	{.kind = READING_REQUEST}, {.kind = READING_RESPONSE}, {.kind = READING_TO_HEAD}};
static struct {
	uint64_t all, both_take, both_refuse, not_whole, stricter, failures, rows[64], taken[TAKEN_ROWS];
} counts;

/* --- the corpus: a message a line, with the escapes of C, and \{a*9000} for many a --- */

static unsigned hex(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

static size_t unescape(struct buf *to, const char *p)
{
	char *end;

	switch (*p) {
	case 'r':
		buf_add(to, "\r", 1);
		return 1;
	case 'n':
		buf_add(to, "\n", 1);
		return 1;
	case 't':
		buf_add(to, "\t", 1);
		return 1;
	case 'x':
		buf_add(to, (char[]){(char)(hex(p[1]) * 16 + hex(p[2]))}, 1);
		return 3;
	case '{':
		end = strchr(p, '*');
		for (long i = strtol(end + 1, NULL, 10); i > 0; i--)
			buf_add(to, p + 1, (size_t)(end - p - 1));
		return (size_t)(strchr(end, '}') - p) + 1;
	default:
		buf_add(to, p, 1);
		return 1;
	}
}

static void add_message(struct corpus *c, struct str line)
{
	size_t from = c->text.n;
	CLEANUP_BUF struct buf line_z = {0};

	buf_add_str(&line_z, line);
	for (const char *p = buf_cstr(&line_z); *p; p++) {
		if (*p == '\\')
			p += unescape(&c->text, p + 1);
		else if (*p == '|' && p[1] == '|') /* to be read easily: CR LF */
			buf_add(&c->text, "\r\n", 2), p++;
		else
			buf_add(&c->text, p, 1);
	}
	assert_true(c->n < MESSAGES_MAX);
	c->messages[c->n++] = (struct str){(const char *)from, c->text.n - from}; /* made a slice below */
}

static void read_corpus(struct corpus *c, const char *path)
{
	struct err err = {0};
	struct str rest, line;

	if (fd_read_file(path, 1 << 20, &c->file, &err) < 0)
		fail_msg("%s", err.message);
	for (rest = buf_str(&c->file); rest.n;) {
		str_cut(rest, '\n', &line, &rest);
		if (line.n && line.p[0] != '#')
			add_message(c, line);
	}
	assert_false(buf_failed(&c->text));
	for (unsigned i = 0; i < c->n; i++)
		c->messages[i].p = c->text.p + (uintptr_t)c->messages[i].p;
	assert_true(c->n > 20);
}

/* --- one message --- */

static void show(const char *what, struct str bytes, const struct reading *ours, const struct reading *theirs)
{
	CLEANUP_BUF struct buf text = {0};

	for (size_t i = 0; i < bytes.n && i < 2000; i++) {
		unsigned char c = (unsigned char)bytes.p[i];
		if (c == '\r')
			buf_printf(&text, "\\r");
		else if (c == '\n')
			buf_printf(&text, "\\n");
		else if (c < 0x20 || c >= 0x7f || c == '\\')
			buf_printf(&text, "\\x%02x", c);
		else
			buf_add(&text, &bytes.p[i], 1);
	}
	if (counts.failures++ >= 2000)
		return;
	print_error("%s\n  ours: %d %s (%ld at %zu) fields %u framing %d body %zu end %zu\n"
		    "  llhttp: %d %s fields %u framing %d body %zu end %zu\n",
		    what, ours->result, ours->why ? ours->why : "", ours->code, ours->at, ours->n_headers,
		    ours->framing, ours->body_n, ours->end, theirs->result, theirs->why ? theirs->why : "",
		    theirs->n_headers, theirs->framing, theirs->body_n, theirs->end);
	print_error("  %s\n", buf_cstr(&text)); /* last: cmocka cuts long lines */
}

static void no_failures(void)
{
	uint64_t n = counts.failures;

	counts.failures = 0;
	if (n)
		fail_msg("%llu messages are read differently; the first are above", (unsigned long long)n);
}

/* llhttp takes the methods of a list alone, RFC 9110, 9.1 any token: another stands in for what it does not know. */
static struct str with_known_method(struct str bytes, const struct reading *ours, struct buf *to)
{
	if (!ours->method.n || reading_method_known(ours->method))
		return bytes;
	counts.taken[TAKEN_METHOD]++;
	size_t skipped = (size_t)(ours->method.p - bytes.p);
	buf_add(to, bytes.p, skipped);
	buf_add(to, "PATCH", 5);
	buf_add_str(to, str_slice(bytes, skipped + ours->method.n, bytes.n));
	return buf_str(to);
}

static void compare(enum reading_kind kind, struct str given)
{
	static struct reading ours, theirs;
	CLEANUP_BUF struct buf changed = {0};

	reading_ours(kind, given, &ours);
	struct str bytes = kind == READING_REQUEST && ours.result != READING_REFUSED
				   ? with_known_method(given, &ours, &changed)
				   : given;
	if (bytes.p != given.p)
		reading_ours(kind, bytes, &ours);
	reading_llhttp(kind, bytes, &theirs);
	counts.all++;
	int as_taken = ours.has_head && !ours.why ? refusals_taken(bytes, &ours, &theirs) : -1;
	if (as_taken >= 0 && (ours.result != READING_REFUSED || as_taken == TAKEN_TABS)) {
		counts.taken[as_taken]++;
		return;
	}
	if (ours.result == READING_REFUSED) {
		int row = refusals_row(kind, bytes, &ours);
		if (row == -1 || (row < 0 && theirs.result != READING_REFUSED))
			show("refused without a row in the table", bytes, &ours, &theirs);
		else if (theirs.result == READING_REFUSED) {
			counts.both_refuse++;
		} else {
			counts.stricter++;
			counts.rows[row]++;
		}
		return;
	}
	/* a head that is not whole may yet be refused for what the library saw in it */
	if (ours.result == READING_MORE && (!ours.has_head || theirs.result == READING_MORE)) {
		counts.not_whole++;
		return;
	}
	const char *difference = theirs.result == READING_REFUSED ? "llhttp alone refuses it"
				 : ours.result != theirs.result   ? "one sees its end, the other not"
								  : reading_difference(&ours, &theirs);
	if (difference)
		show(difference, bytes, &ours, &theirs);
	counts.both_take++;
}

/* --- the tests --- */

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t x = otherwise;

	if (text && str_u64(str_of(text), UINT64_MAX, &x))
		fail_msg("%s: a number expected, not %s", name, text);
	return x;
}

static void test_corpus(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof corpora / sizeof *corpora; i++)
		for (unsigned k = 0; k < corpora[i].n; k++) {
			struct str m = corpora[i].messages[k];
			compare(corpora[i].kind, m);
			for (size_t n = 0; n < m.n && m.n < 1000; n++) /* each beginning of it */
				compare(corpora[i].kind, str_slice(m, 0, n));
		}
	no_failures();
}

static void test_mutations(void **state)
{
	static char bytes[READING_BYTES];
	uint64_t n = from_environment("BERTH_MUTATIONS", MUTATIONS),
		 seed = from_environment("BERTH_SEED", SEED);

	(void)state;
	print_message("%llu mutations from seed %llu\n", (unsigned long long)n, (unsigned long long)seed);
	for (uint64_t i = 0; i < n; i++) {
		const struct corpus *c = &corpora[i % 5 < 3 ? 0 : i % 5 - 2];
		struct mutate_source m = {seed + i, c->messages, c->n};
		struct str from = c->messages[i / 5 % c->n];
		if (from.n < 1000)
			compare(c->kind, (struct str){bytes, mutate(&m, from, bytes, sizeof bytes)});
	}
	no_failures();
}

static void test_each_row_is_met(void **state)
{
	unsigned missing = 0;

	(void)state;
	print_message("%llu messages: %llu read alike, %llu refused by both, %llu not whole, refused by the "
		      "gateway alone:\n",
		      (unsigned long long)counts.all, (unsigned long long)counts.both_take,
		      (unsigned long long)counts.both_refuse, (unsigned long long)counts.not_whole);
	for (unsigned i = 0; i < n_refusals; i++) {
		print_message("%10llu  %s -> %s\n", (unsigned long long)counts.rows[i], refusals[i].what,
			      refusals[i].why);
		missing += counts.rows[i] == 0;
	}
	print_message("refused by llhttp alone:\n");
	for (unsigned i = 0; i < TAKEN_ROWS; i++) {
		print_message("%10llu  %s -> %s\n", (unsigned long long)counts.taken[i], taken[i].what,
			      taken[i].why);
		missing += counts.taken[i] == 0;
	}
	assert_true(counts.both_take > counts.all / 50);
	if (missing && !LLHTTP_STRICT_MODE) /* strict, the library refuses some of them too */
		fail_msg("%u rows were never met", missing);
}

static void test_page(void **state)
{
	CLEANUP_BUF struct buf text = {0};

	(void)state;
	refusals_print(&text);
	buf_printf(&text, "\nTaken, though llhttp refuses it:\n\n");
	refusals_print_taken(&text);
	page_check(PAGE, "refusals", buf_str(&text), "the table says");
}

static int setup(void **state)
{
	(void)state;
	read_corpus(&corpora[0], CORPUS "/requests");
	read_corpus(&corpora[1], CORPUS "/responses");
	read_corpus(&corpora[2], CORPUS "/responses");
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof corpora / sizeof *corpora; i++) {
		buf_done(&corpora[i].file);
		buf_done(&corpora[i].text);
	}
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_corpus),
		cmocka_unit_test(test_mutations),
		cmocka_unit_test(test_each_row_is_met),
		cmocka_unit_test(test_page),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
