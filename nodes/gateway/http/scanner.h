/* scanner.h -- a strict scanner of HTTP/1.1 heads (RFC 9112) and chunked bodies. Pure; slices point into the caller's bytes.
 *
 * Stricter than the RFC lets one be, because whatever two parsers may read differently is a way to smuggle: CRLF only, no
 * folding, no space before the colon, no control characters, HTTP/1.0 and 1.1 only, no empty names. */
#ifndef GATEWAY_SCANNER_H
#define GATEWAY_SCANNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/str.h"

#define SCAN_HEAD_MAX    32768
#define SCAN_HEADERS_MAX 100
#define SCAN_HOP_BYTES   1024 /* what a gateway may add to a head for another node's, beyond these bounds */
#define SCAN_HOP_HEADERS 12
#define SCAN_TARGET_MAX  8192
#define SCAN_METHOD_MAX  32

struct scan_header {
	struct str name, value; /* value without the spaces around it */
};

struct scan_head {
	struct str method, target; /* of a request */
	unsigned status;           /* of a response: 100..999 */
	struct str reason;
	unsigned minor; /* of HTTP/1.x */
	unsigned n_headers;
	struct scan_header headers[SCAN_HEADERS_MAX + SCAN_HOP_HEADERS];
};

enum scan_result {
	SCAN_MORE = 0,       /* not whole yet */
	SCAN_BAD = -1,       /* malformed */
	SCAN_TOO_LARGE = -2, /* head longer than SCAN_HEAD_MAX, or too many headers */
	SCAN_LONG_TARGET = -3,
	SCAN_VERSION = -4, /* well-formed, of another HTTP version */
};

/* > 0: the head's length with its empty line; else a scan_result. Answers as soon as the bytes show it. */
long scan_request(const char *p, size_t n, struct scan_head *ret);
long scan_response(const char *p, size_t n, struct scan_head *ret);
/* The same, of another node's gateway. */
long scan_hop_request(const char *p, size_t n, struct scan_head *ret);
long scan_hop_response(const char *p, size_t n, struct scan_head *ret);

/* --- chunked bodies --- */

struct chunk_scan {
	uint64_t left;
	uint32_t line; /* bytes of the current size line, or of the trailers */
	uint8_t state, digits;
};

enum chunk_result { CHUNK_MORE, CHUNK_DATA, CHUNK_END, CHUNK_BAD };

/* Zero-initialise to start. Each call takes a run of bytes: *ret_used of them; with CHUNK_DATA *ret_data is a slice of
 * the body among them and there may be more to take. CHUNK_END: the body is over (what is behind is not used).
 * Extensions and trailers are skipped, within 4 KiB a line and 8 KiB in all. */
enum chunk_result chunk_scan(struct chunk_scan *c, const char *p, size_t n, size_t *ret_used,
			     struct str *ret_data);

#endif
