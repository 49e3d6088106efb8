/* reading.h -- what a parser made of the first message in some bytes, in a form that two parsers can be compared by.
 * reading_ours is the gateway's scanner with its checks, reading_llhttp the library. A reading owns nothing: its slices
 * point into its own `text` and `body`. One thread. */
#ifndef LLHTTP_READING_H
#define LLHTTP_READING_H

#include "gateway/http/head.h"

#define READING_BYTES (64u * 1024)

enum reading_kind { READING_REQUEST, READING_RESPONSE, READING_TO_HEAD /* a response to HEAD */ };
enum reading_result { READING_WHOLE, READING_MORE, READING_REFUSED };

struct reading {
	enum reading_result result;
	struct str method, target, reason;
	unsigned status, minor, n_headers;
	struct scan_header headers[SCAN_HEADERS_MAX];
	enum body_kind framing;
	size_t body_n, text_n, end; /* end: bytes of the whole message */
	/* of a refusal */
	const char *why; /* the check's or the library's words; NULL: the scanner's, which has none */
	long code;       /* of the scanner: enum scan_result */
	size_t at;       /* the scanner: how many bytes it took to see it */
	bool has_head, in_body, in_trailers, data_end; /* where: the last, where a chunk's data ended */
	char body[READING_BYTES], text[READING_BYTES];
};

void reading_ours(enum reading_kind kind, struct str bytes, struct reading *ret);
void reading_llhttp(enum reading_kind kind, struct str bytes, struct reading *ret);
/* Whether the library has this method and takes it over HTTP: it refuses all others. */
bool reading_method_known(struct str method);
/* What differs between two whole readings, or NULL. */
const char *reading_difference(const struct reading *a, const struct reading *b);

#endif
