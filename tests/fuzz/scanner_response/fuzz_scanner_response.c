/* A response head, as a hostile sandbox may send it. The first byte chooses what was asked. Holds: a head never looks whole before
 * its last byte; slices lie within the bytes; an upgrade passes only when one was asked for; HEAD, 1xx, 204 and 304 have no body. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "gateway/http/head.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void within(struct str s, const char *p, size_t n)
{
	must(s.n == 0 || (s.p >= p && s.p + s.n <= p + n));
	must(s.n == 0 || (!memchr(s.p, '\r', s.n) && !memchr(s.p, '\n', s.n) && !memchr(s.p, 0, s.n)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct scan_head head, part;
	struct request_facts asked = {0};
	struct response_facts facts;
	const char *why, *p = (const char *)data + 1;
	long r;

	if (size < 1)
		return 0;
	size--;
	asked.is_head = data[0] & 1;
	if (data[0] & 2)
		asked.f.upgrade = STR("x");
	r = scan_response(p, size, &head);
	if (r <= 0)
		return 0;
	must((size_t)r <= size && head.status >= 100 && head.status <= 999);
	for (long i = 0; i < r; i++)
		must(scan_response(p, (size_t)i, &part) == SCAN_MORE);
	within(head.reason, p, size);
	for (unsigned i = 0; i < head.n_headers; i++) {
		within(head.headers[i].name, p, size);
		within(head.headers[i].value, p, size);
	}
	if (head_check_response(&head, &asked, data[0] & 4 ? HEAD_FROM_NODE : HEAD_FROM_CLIENT, &facts, &why))
		return 0;
	must(head.status != 101 || asked.f.upgrade.n);
	must(facts.f.body != BODY_LENGTH || facts.f.length > 0);
	if (asked.is_head || head.status < 200 || head.status == 204 || head.status == 304)
		must(facts.f.body == BODY_NONE);
	if (!(data[0] & 4))
		must(facts.hop.n == 0);
	return 0;
}
