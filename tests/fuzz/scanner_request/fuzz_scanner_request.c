/* A request head and what is behind it, as any client may send them. Holds: a head never looks whole before its last byte;
 * slices lie within the bytes; no field holds CR, LF or NUL; what passes the checks has one way to be framed; a
 * chunked body gives the same bytes however it is split. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "gateway/http/head.h"
#include "gateway/http/identifier.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct str s, const char *p, size_t n)
{
	must(s.n == 0 || (s.p >= p && s.p + s.n <= p + n));
	must(s.n == 0 || (!memchr(s.p, '\r', s.n) && !memchr(s.p, '\n', s.n) && !memchr(s.p, 0, s.n)));
}

/* The sum and number of body bytes, taken in steps. */
static enum chunk_result digest(const char *p, size_t n, size_t step, uint64_t *ret_sum)
{
	struct chunk_scan c = {0};
	enum chunk_result r = CHUNK_MORE;
	uint64_t sum = 0, count = 0;
	size_t at = 0;

	while (at < n && r != CHUNK_END && r != CHUNK_BAD) {
		size_t give = n - at < step ? n - at : step, done = 0, used;
		struct str body;
		do {
			r = chunk_scan(&c, p + at + done, give - done, &used, &body);
			must(used <= give - done);
			for (size_t i = 0; r == CHUNK_DATA && i < body.n; i++)
				sum += (unsigned char)body.p[i] * ++count;
			done += used;
		} while (r == CHUNK_DATA && done < give);
		at += give;
	}
	*ret_sum = sum;
	return r == CHUNK_DATA ? CHUNK_MORE : r;
}

static void check_chunks(const char *p, size_t n)
{
	uint64_t whole, split;
	enum chunk_result a = digest(p, n, n ? n : 1, &whole), b = digest(p, n, 1, &split);

	must(a == b && whole == split);
	digest(p, n, 7, &split);
	must(whole == split);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scan_head head, part;
	struct request_facts facts;
	char identifier[IDENTIFIER_MAX];
	const char *why, *p = (const char *)data;
	size_t length;
	long r = scan_request(p, size, &head);

	if (r <= 0) {
		check_chunks(p, size);
		return 0;
	}
	must((size_t)r <= size && head.n_headers <= SCAN_HEADERS_MAX && head.target.n <= SCAN_TARGET_MAX);
	for (long i = 0; i < r; i++)
		must(scan_request(p, (size_t)i, &part) == SCAN_MORE);
	within(head.method, p, size);
	within(head.target, p, size);
	for (unsigned i = 0; i < head.n_headers; i++) {
		within(head.headers[i].name, p, size);
		within(head.headers[i].value, p, size);
		must(head.headers[i].name.n > 0);
	}
	check_chunks(p + r, size - (size_t)r);
	if (head_check_request(&head, size & 1 ? HEAD_FROM_NODE : HEAD_FROM_CLIENT, &facts, &why))
		return 0;
	must(facts.path.n > 0 && facts.path.p[0] == '/');
	must(!(facts.f.body == BODY_CHUNKED && facts.f.has_length) && facts.f.body != BODY_TO_END);
	if (identifier_of_query(facts.query, identifier, &length) == IDENTIFIER_OK)
		must(length >= IDENTIFIER_MIN && length <= IDENTIFIER_MAX);
	return 0;
}
