/* head.h -- what a scanned head means: framing, connection, which fields pass. The checks that stand above any parser
 * (RFC 9110, RFC 9112): one Host, no Content-Length beside Transfer-Encoding, no Transfer-Encoding on HTTP/1.0, nothing
 * but chunked, the fields that Connection names, the gateway's own fields. Pure; slices as of the scan. */
#ifndef GATEWAY_HEAD_H
#define GATEWAY_HEAD_H

#include "gateway/http/scanner.h"

enum body_kind { BODY_NONE, BODY_LENGTH, BODY_CHUNKED, BODY_TO_END };

struct head_facts {
	enum body_kind body;
	uint64_t length; /* of BODY_LENGTH; never 0 */
	bool has_length; /* a Content-Length was there, also of a HEAD's answer or 304 */
	uint64_t declared_length;
	bool keep;                                      /* the connection may be used again */
	bool drop[SCAN_HEADERS_MAX + SCAN_HOP_HEADERS]; /* per field: does not pass to the other side */
	struct str upgrade;                             /* the protocol of an upgrade, or empty */
};

struct request_facts {
	struct head_facts f;
	struct str method, path, query; /* path begins with '/'; query without '?' */
	bool has_query;
	struct str host, authorization, content_type, accept, traceparent, hop;
	struct str client_request_id; /* to be answered, if return_client_request_id */
	unsigned minor;
	bool is_head, expect_continue, require_existing, return_client_request_id;
	bool replayable; /* safe and without a body: may be sent again when a kept connection turns out dead */
};

struct response_facts {
	struct head_facts f;
	unsigned status;
	bool interim;   /* 1xx, but not 101 */
	struct str hop; /* Berth-Hop-Result of another node's gateway */
};

/* From whom: a client's Berth-Hop, X-Forwarded-* and so on are dropped, another node's pass or are read. */
enum head_side { HEAD_FROM_CLIENT, HEAD_FROM_NODE };

/* 0, or the HTTP status to refuse with and why. */
unsigned head_check_request(const struct scan_head *head, enum head_side side, struct request_facts *ret,
			    const char **ret_why);
/* 0, or -EBADMSG and why: the answer becomes 502. */
int head_check_response(const struct scan_head *head, const struct request_facts *request,
			enum head_side side, struct response_facts *ret, const char **ret_why);

#endif
