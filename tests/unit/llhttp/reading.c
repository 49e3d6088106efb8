/* reading.c -- the gateway's side, as client.c and response.c call it: empty lines before a request are skipped, the head is
 * scanned and judged, the body is taken by its framing. */
#include "reading.h"

#include <string.h>

static void refuse(struct reading *r, const char *why, long code, size_t at)
{
	r->result = READING_REFUSED;
	r->why = why;
	r->code = code;
	r->at = at;
}

static void add_body(struct reading *r, struct str data)
{
	if (r->body_n + data.n <= sizeof r->body)
		memcpy(r->body + r->body_n, data.p, data.n);
	r->body_n += data.n;
}

/* A byte at a time, so that a refusal shows where it was. */
static void read_chunks(struct reading *r, struct str bytes, size_t at)
{
	struct chunk_scan c = {0};

	r->in_body = true;
	for (; at < bytes.n; at++) {
		struct str data;
		size_t used;
		switch (chunk_scan(&c, bytes.p + at, 1, &used, &data)) {
		case CHUNK_DATA:
			add_body(r, data);
			r->data_end = c.left == 0;
			break;
		case CHUNK_BAD:
			refuse(r, NULL, SCAN_BAD, at + 1);
			return;
		case CHUNK_END:
			r->result = READING_WHOLE;
			r->end = at + 1;
			return;
		case CHUNK_MORE:
			r->data_end = false;
			r->in_trailers |= bytes.p[at] == '\n' && c.left == 0 && c.state != 0;
			break;
		}
	}
	r->result = READING_MORE;
}

static void read_body(struct reading *r, const struct head_facts *f, struct str bytes, size_t at)
{
	size_t have = bytes.n - at;

	r->framing = f->body;
	r->result = READING_WHOLE;
	r->end = at;
	if (f->body == BODY_CHUNKED) {
		read_chunks(r, bytes, at);
	} else if (f->body == BODY_TO_END || (f->body == BODY_LENGTH && have >= f->length)) {
		size_t n = f->body == BODY_LENGTH ? (size_t)f->length : have;
		add_body(r, str_slice(bytes, at, at + n));
		r->end = at + n;
	} else if (f->body == BODY_LENGTH) {
		r->result = READING_MORE;
	}
}

typedef long scan(const char *p, size_t n, struct scan_head *ret);

/* The smallest part that is already refused: what is refused stays refused. */
static size_t first_bad(scan *f, struct str bytes)
{
	static struct scan_head head;
	size_t good = 0, bad = bytes.n;

	while (bad - good > 1) {
		size_t half = good + (bad - good) / 2;
		if (f(bytes.p, half, &head) < 0)
			bad = half;
		else
			good = half;
	}
	return bad;
}

static void copy_head(struct reading *r, const struct scan_head *head)
{
	r->minor = head->minor;
	r->method = head->method;
	r->target = head->target;
	r->status = head->status;
	r->reason = head->reason;
	r->n_headers = head->n_headers;
	memcpy(r->headers, head->headers, head->n_headers * sizeof *head->headers);
}

void reading_ours(enum reading_kind kind, struct str bytes, struct reading *ret)
{
	static struct scan_head head;
	static struct request_facts request;
	static struct response_facts response;
	struct request_facts asked = {.is_head = kind == READING_TO_HEAD, .f.upgrade = STR("x")};
	scan *f = kind == READING_REQUEST ? scan_request : scan_response;
	const char *why = NULL;
	size_t skipped = 0;
	bool bad;
	long n;

	memset(ret, 0, offsetof(struct reading, body));
	memset(&head, 0, sizeof head);
	while (kind == READING_REQUEST && skipped + 1 < bytes.n && bytes.p[skipped] == '\r' &&
	       bytes.p[skipped + 1] == '\n')
		skipped += 2;
	if (kind == READING_REQUEST && skipped + 1 == bytes.n && bytes.p[skipped] == '\r') {
		ret->result = READING_MORE; /* client.c waits for what follows */
		return;
	}
	struct str rest = str_slice(bytes, skipped, bytes.n);
	n = f(rest.p, rest.n, &head);
	if (n == SCAN_MORE) {
		ret->result = READING_MORE;
		return;
	}
	if (n < 0) {
		size_t bad_n = first_bad(f, rest); /* what was wrong first, of a text that came whole */
		refuse(ret, NULL, f(rest.p, bad_n, &head), skipped + bad_n);
		return;
	}
	copy_head(ret, &head);
	ret->has_head = true;
	if (kind == READING_REQUEST)
		bad = head_check_request(&head, HEAD_FROM_CLIENT, &request, &why) != 0;
	else
		bad = head_check_response(&head, &asked, HEAD_FROM_CLIENT, &response, &why) != 0;
	if (bad)
		refuse(ret, why, 0, skipped + (size_t)n);
	else
		read_body(ret, kind == READING_REQUEST ? &request.f : &response.f, bytes,
			  skipped + (size_t)n);
}

const char *reading_difference(const struct reading *a, const struct reading *b)
{
	if (!str_eq(a->method, b->method))
		return "method";
	if (!str_eq(a->target, b->target))
		return "target";
	if (a->status != b->status)
		return "status";
	if (a->minor != b->minor)
		return "version";
	if (a->n_headers != b->n_headers)
		return "number of fields";
	for (unsigned i = 0; i < a->n_headers; i++) {
		if (!str_eq(a->headers[i].name, b->headers[i].name))
			return "a field's name";
		if (!str_eq(a->headers[i].value, b->headers[i].value))
			return "a field's value";
	}
	if (a->framing != b->framing)
		return "framing";
	if (a->body_n != b->body_n ||
	    memcmp(a->body, b->body, a->body_n < sizeof a->body ? a->body_n : sizeof a->body) != 0)
		return "body";
	return a->end != b->end ? "the message's end" : NULL;
}
