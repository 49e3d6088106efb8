/* See scanner.h. Two 256-byte tables classify bytes; field values are searched 16 bytes at a time. */
#include "gateway/http/scanner.h"

#include <string.h>
#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* RFC 9110, 5.6.2: token characters. */
static const bool token_char[256] = {
	['!'] = 1, ['#'] = 1, ['$'] = 1, ['%'] = 1,         ['&'] = 1,         ['\''] = 1,
	['*'] = 1, ['+'] = 1, ['-'] = 1, ['.'] = 1,         ['^'] = 1,         ['_'] = 1,
	['`'] = 1, ['|'] = 1, ['~'] = 1, ['0' ... '9'] = 1, ['a' ... 'z'] = 1, ['A' ... 'Z'] = 1,
};

static bool value_ends(unsigned char c)
{
	return (c < 0x20 && c != '\t') || c == 0x7f;
}

/* The first control character other than a tab, or the end. */
static const char *find_control(const char *p, const char *end)
{
#ifdef __SSE2__
	const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);

	while (end - p >= 16) {
		__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
		__m128i control = _mm_cmpeq_epi8(_mm_min_epu8(v, low), v);
		control = _mm_andnot_si128(_mm_cmpeq_epi8(v, tab), control);
		control = _mm_or_si128(control, _mm_cmpeq_epi8(v, del));
		int mask = _mm_movemask_epi8(control);
		if (mask)
			return p + __builtin_ctz((unsigned)mask);
		p += 16;
	}
#endif
	while (p < end && !value_ends((unsigned char)*p))
		p++;
	return p;
}

static struct str slice(const char *from, const char *to)
{
	return (struct str){from, (size_t)(to - from)};
}

/* CR LF at *p: 1 and *p behind it; 0 more bytes needed; -1 something else. */
static int take_crlf(const char **p, const char *end)
{
	if (*p == end)
		return 0;
	if (**p != '\r')
		return -1;
	if (*p + 1 == end)
		return 0;
	if ((*p)[1] != '\n')
		return -1;
	*p += 2;
	return 1;
}

/* One field line. 1: done; 0: more; -1: bad. */
static int scan_field(const char **at, const char *end, struct scan_header *ret)
{
	const char *p = *at, *start = p;
	int r;

	while (p < end && token_char[(unsigned char)*p])
		p++;
	if (p == end)
		return 0;
	if (*p != ':' || p == start)
		return -1;
	ret->name = slice(start, p);
	p++;
	while (p < end && (*p == ' ' || *p == '\t'))
		p++;
	start = p;
	p = find_control(p, end);
	const char *stop = p;
	r = take_crlf(&p, end);
	if (r <= 0)
		return r;
	while (stop > start && (stop[-1] == ' ' || stop[-1] == '\t'))
		stop--;
	ret->value = slice(start, stop);
	*at = p;
	return 1;
}

struct bounds {
	long bytes;
	unsigned headers;
};

static const struct bounds outside = {SCAN_HEAD_MAX, SCAN_HEADERS_MAX};
static const struct bounds hop = {SCAN_HEAD_MAX + SCAN_HOP_BYTES, SCAN_HEADERS_MAX + SCAN_HOP_HEADERS};

static long scan_fields(const char *begin, const char *p, const char *end, const struct bounds *bounds,
			struct scan_head *ret)
{
	int r;

	ret->n_headers = 0;
	for (;;) {
		if (p == end)
			return SCAN_MORE;
		if (*p == '\r') {
			r = take_crlf(&p, end);
			if (r < 0)
				return SCAN_BAD;
			if (r == 0)
				return SCAN_MORE;
			return p - begin > bounds->bytes ? SCAN_TOO_LARGE : p - begin;
		}
		struct scan_header field;
		r = scan_field(&p, end, &field);
		if (r < 0)
			return SCAN_BAD;
		if (r == 0)
			return SCAN_MORE;
		if (ret->n_headers == bounds->headers)
			return SCAN_TOO_LARGE;
		ret->headers[ret->n_headers++] = field;
	}
}

/* "HTTP/1.x" at p: 1, 0 more, -1 bad, -2 another version. */
static int scan_version(const char *p, const char *end, unsigned *ret_minor)
{
	static const char name[] = "HTTP/";
	size_t n = (size_t)(end - p);

	if (memcmp(p, name, n < 5 ? n : 5) != 0)
		return -1;
	if (n < 8)
		return 0;
	if (p[5] < '0' || p[5] > '9' || p[6] != '.' || p[7] < '0' || p[7] > '9')
		return -1;
	if (p[5] != '1' || p[7] > '1')
		return -2;
	*ret_minor = (unsigned)(p[7] - '0');
	return 1;
}

static long bounded(long r, size_t n, const struct bounds *bounds)
{
	return r == SCAN_MORE && n > (size_t)bounds->bytes ? SCAN_TOO_LARGE : r;
}

static long request_line(const char *begin, const char **at, const char *end, struct scan_head *ret)
{
	const char *p = begin;
	int r;

	while (p < end && token_char[(unsigned char)*p])
		p++;
	if (p - begin > SCAN_METHOD_MAX)
		return SCAN_BAD;
	if (p == end)
		return SCAN_MORE;
	if (*p != ' ' || p == begin)
		return SCAN_BAD;
	ret->method = slice(begin, p);
	const char *target = ++p;
	while (p < end && (unsigned char)*p > 0x20 && (unsigned char)*p < 0x7f)
		p++;
	if (p - target > SCAN_TARGET_MAX)
		return SCAN_LONG_TARGET;
	if (p == end)
		return SCAN_MORE;
	if (*p != ' ' || p == target)
		return SCAN_BAD;
	ret->target = slice(target, p);
	p++;
	r = scan_version(p, end, &ret->minor);
	if (r <= 0)
		return r == 0 ? SCAN_MORE : r == -1 ? SCAN_BAD : SCAN_VERSION;
	p += 8;
	r = take_crlf(&p, end);
	if (r <= 0)
		return r == 0 ? SCAN_MORE : SCAN_BAD;
	*at = p;
	return 1;
}

static long scan_any_request(const char *p, size_t n, const struct bounds *bounds, struct scan_head *ret)
{
	const char *fields;
	long r = request_line(p, &fields, p + n, ret);

	if (r == 1)
		r = scan_fields(p, fields, p + n, bounds, ret);
	return bounded(r, n, bounds);
}

long scan_request(const char *p, size_t n, struct scan_head *ret)
{
	return scan_any_request(p, n, &outside, ret);
}

long scan_hop_request(const char *p, size_t n, struct scan_head *ret)
{
	return scan_any_request(p, n, &hop, ret);
}

static long status_line(const char *begin, const char **at, const char *end, struct scan_head *ret)
{
	const char *p = begin;
	int r = scan_version(p, end, &ret->minor);

	if (r <= 0)
		return r == 0 ? SCAN_MORE : r == -1 ? SCAN_BAD : SCAN_VERSION;
	p += 8;
	/* SP, three digits, then SP and a reason or at once CR (servers leave the space out) */
	for (int i = 0; i < 4; i++) {
		if (p + i == end)
			return SCAN_MORE;
		if (i == 0 ? p[i] != ' ' : p[i] < '0' || p[i] > '9')
			return SCAN_BAD;
	}
	ret->status = (unsigned)(p[1] - '0') * 100 + (unsigned)(p[2] - '0') * 10 + (unsigned)(p[3] - '0');
	if (ret->status < 100)
		return SCAN_BAD;
	p += 4;
	if (p == end)
		return SCAN_MORE;
	if (*p == ' ')
		p++;
	else if (*p != '\r')
		return SCAN_BAD;
	const char *reason = p;
	p = find_control(p, end);
	ret->reason = slice(reason, p);
	r = take_crlf(&p, end);
	if (r <= 0)
		return r == 0 ? SCAN_MORE : SCAN_BAD;
	*at = p;
	return 1;
}

static long scan_any_response(const char *p, size_t n, const struct bounds *bounds, struct scan_head *ret)
{
	const char *fields;
	long r = status_line(p, &fields, p + n, ret);

	if (r == 1)
		r = scan_fields(p, fields, p + n, bounds, ret);
	return bounded(r, n, bounds);
}

long scan_response(const char *p, size_t n, struct scan_head *ret)
{
	return scan_any_response(p, n, &outside, ret);
}

long scan_hop_response(const char *p, size_t n, struct scan_head *ret)
{
	return scan_any_response(p, n, &hop, ret);
}

/* --- chunked bodies (RFC 9112, 7.1) --- */

#define CHUNK_DIGITS_MAX   15
#define CHUNK_LINE_MAX     4096
#define CHUNK_TRAILERS_MAX 8192

enum chunk_state {
	AT_SIZE,
	AT_EXTENSION,
	AT_SIZE_LF,
	AT_DATA,
	AT_DATA_CR,
	AT_DATA_LF,
	AT_TRAILER, /* at the start of a trailer line */
	AT_TRAILER_NAME,
	AT_TRAILER_LINE, /* behind its colon */
	AT_TRAILER_LF,
	AT_END_LF,
	AT_END,
	AT_BAD
};

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static uint8_t size_step(struct chunk_scan *c, unsigned char byte)
{
	int digit = hex_digit(byte);

	if (digit >= 0) {
		if (++c->digits > CHUNK_DIGITS_MAX)
			return AT_BAD;
		c->left = c->left * 16 + (uint64_t)digit;
		return AT_SIZE;
	}
	if (!c->digits)
		return AT_BAD;
	return byte == '\r' ? AT_SIZE_LF : byte == ';' ? AT_EXTENSION : AT_BAD;
}

static uint8_t line_step(uint8_t same, uint8_t next, unsigned char byte)
{
	return byte == '\r' ? next : value_ends(byte) ? (uint8_t)AT_BAD : same;
}

/* One byte in any state but AT_DATA. */
static uint8_t chunk_step(struct chunk_scan *c, unsigned char byte)
{
	switch ((enum chunk_state)c->state) {
	case AT_SIZE:
		return size_step(c, byte);
	case AT_EXTENSION:
		return ++c->line > CHUNK_LINE_MAX ? (uint8_t)AT_BAD
						  : line_step(AT_EXTENSION, AT_SIZE_LF, byte);
	case AT_SIZE_LF:
		c->line = 0;
		return byte != '\n' ? AT_BAD : c->left ? AT_DATA : AT_TRAILER;
	case AT_DATA_CR:
		return byte == '\r' ? AT_DATA_LF : AT_BAD;
	case AT_DATA_LF:
		c->digits = 0;
		return byte == '\n' ? AT_SIZE : AT_BAD;
	case AT_TRAILER:
		if (byte == '\r')
			return AT_END_LF;
		return ++c->line <= CHUNK_TRAILERS_MAX && token_char[byte] ? AT_TRAILER_NAME : AT_BAD;
	case AT_TRAILER_NAME:
		if (++c->line > CHUNK_TRAILERS_MAX)
			return AT_BAD;
		return byte == ':' ? AT_TRAILER_LINE : token_char[byte] ? AT_TRAILER_NAME : AT_BAD;
	case AT_TRAILER_LINE:
		return ++c->line > CHUNK_TRAILERS_MAX ? (uint8_t)AT_BAD
						      : line_step(AT_TRAILER_LINE, AT_TRAILER_LF, byte);
	case AT_TRAILER_LF:
		return byte == '\n' ? AT_TRAILER : AT_BAD;
	case AT_END_LF:
		return byte == '\n' ? AT_END : AT_BAD;
	case AT_DATA:
	case AT_END:
	case AT_BAD:
		break;
	}
	return AT_BAD;
}

enum chunk_result chunk_scan(struct chunk_scan *c, const char *p, size_t n, size_t *ret_used,
			     struct str *ret_data)
{
	size_t at = 0;

	while (at < n && c->state != AT_DATA && c->state < AT_END)
		c->state = chunk_step(c, (unsigned char)p[at++]);
	if (c->state == AT_DATA && at < n) {
		size_t take = n - at < c->left ? n - at : (size_t)c->left;
		*ret_data = (struct str){p + at, take};
		at += take;
		c->left -= take;
		if (c->left == 0)
			c->state = AT_DATA_CR;
		*ret_used = at;
		return CHUNK_DATA;
	}
	*ret_used = at;
	return c->state == AT_BAD ? CHUNK_BAD : c->state == AT_END ? CHUNK_END : CHUNK_MORE;
}
