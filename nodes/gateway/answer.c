/* The gateway's own answers: errors as JSON in Azure's form, interim ones, and what control says to an api_request. */
#include "gateway/inside.h"

#include <stdio.h>

static const struct {
	unsigned status;
	const char *reason;
} reasons[] = {
	{100, "Continue"},
	{101, "Switching Protocols"},
	{200, "OK"},
	{201, "Created"},
	{202, "Accepted"},
	{204, "No Content"},
	{206, "Partial Content"},
	{301, "Moved Permanently"},
	{302, "Found"},
	{304, "Not Modified"},
	{307, "Temporary Redirect"},
	{308, "Permanent Redirect"},
	{400, "Bad Request"},
	{401, "Unauthorized"},
	{403, "Forbidden"},
	{404, "Not Found"},
	{405, "Method Not Allowed"},
	{408, "Request Timeout"},
	{409, "Conflict"},
	{411, "Length Required"},
	{412, "Precondition Failed"},
	{413, "Content Too Large"},
	{414, "URI Too Long"},
	{415, "Unsupported Media Type"},
	{417, "Expectation Failed"},
	{421, "Misdirected Request"},
	{422, "Unprocessable Content"},
	{429, "Too Many Requests"},
	{431, "Request Header Fields Too Large"},
	{500, "Internal Server Error"},
	{501, "Not Implemented"},
	{502, "Bad Gateway"},
	{503, "Service Unavailable"},
	{504, "Gateway Timeout"},
	{505, "HTTP Version Not Supported"},
	{507, "Insufficient Storage"},
};

const char *answer_reason(unsigned status)
{
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (reasons[i].status == status)
			return reasons[i].reason;
	return "";
}

void answer_json_string(struct buf *out, struct str s)
{
	buf_add(out, "\"", 1);
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '"' || c == '\\')
			buf_printf(out, "\\%c", c);
		else if (c < 0x20 || c >= 0x7f)
			buf_printf(out, "\\u%04x", c);
		else
			buf_add(out, &s.p[i], 1);
	}
	buf_add(out, "\"", 1);
}

void answer_connection(struct client *c, struct buf *out)
{
	if (!c->keep)
		buf_add_str(out, STR("Connection: close\r\n"));
	else if (c->facts.minor == 0)
		buf_add_str(out, STR("Connection: keep-alive\r\n"));
}

/* Lets go of everything that belongs to the request; the connection can go on if the request was read whole. */
static void settle(struct client *c)
{
	exchange_abort(c);
	c->keep = c->facts.f.keep && c->request_body.done && !c->gw->stopping;
}

void answer_raw(struct client *c, unsigned status, struct str headers, struct str body, bool more)
{
	struct buf *out = &c->gw->out;
	bool chunked = more && c->facts.minor == 1;

	settle(c);
	if (more && !chunked)
		c->keep = false;
	buf_clear(out);
	buf_printf(out, "HTTP/1.1 %u %s\r\n", status, answer_reason(status));
	buf_add_str(out, headers);
	buf_add_str(out, STR("X-Content-Type-Options: nosniff\r\n"));
	answer_connection(c, out);
	if (chunked)
		buf_add_str(out, STR("Transfer-Encoding: chunked\r\n\r\n"));
	else if (more || status == 204 || status == 304)
		buf_add_str(out, STR("\r\n"));
	else
		buf_printf(out, "Content-Length: %zu\r\n\r\n", body.n);
	if (!c->facts.is_head && body.n && chunked)
		buf_printf(out, "%zx\r\n%.*s\r\n", body.n, STR_ARGS(body));
	else if (!c->facts.is_head && status != 204 && status != 304)
		buf_add_str(out, body);
	struct iovec iov = {out->p, out->n};
	if (client_write(c, &iov, 1, NULL) && !more)
		client_next(c);
}

void answer_chunk(struct client *c, struct str bytes)
{
	struct buf *out = &c->gw->out;

	if (c->facts.is_head || !bytes.n)
		return;
	buf_clear(out);
	if (c->facts.minor == 1)
		buf_printf(out, "%zx\r\n", bytes.n);
	buf_add_str(out, bytes);
	if (c->facts.minor == 1)
		buf_add_str(out, STR("\r\n"));
	struct iovec iov = {out->p, out->n};
	client_write(c, &iov, 1, NULL);
}

void answer_end(struct client *c)
{
	struct iovec iov = {(void *)(uintptr_t) "0\r\n\r\n", 5};

	if (c->facts.minor == 1 && !c->facts.is_head && !client_write(c, &iov, 1, NULL))
		return;
	client_next(c);
}

static void error_answer(struct client *c, unsigned status, const char *code, const char *message,
			 int retry_after_s)
{
	struct buf headers = {0}, body = {0};

	if (c->answer_begun) { /* too late to say anything: a cut-off answer must look cut off */
		exchange_abort(c);
		client_close(c);
		return;
	}
	buf_add_str(&headers, STR("Content-Type: application/json; charset=utf-8\r\n"));
	if (retry_after_s >= 0)
		buf_printf(&headers, "Retry-After: %d\r\n", retry_after_s);
	if (status == 401)
		buf_add_str(&headers, STR("WWW-Authenticate: Bearer\r\n"));
	buf_add_str(&body, STR("{\"error\":{\"code\":"));
	answer_json_string(&body, str_of(code));
	buf_add_str(&body, STR(",\"message\":"));
	answer_json_string(&body, str_of(message));
	buf_add_str(&body, STR("}}"));
	if (status == 429)
		count(&c->gw->counters.refused_429, 1);
	else if (status == 503)
		count(&c->gw->counters.refused_503, 1);
	else if (status == 502)
		count(&c->gw->counters.bad_responses, 1);
	else if (status < 500 && status >= 400)
		count(&c->gw->counters.bad_requests, 1);
	answer_raw(c, status, buf_str(&headers), buf_str(&body), false);
	buf_done(&headers);
	buf_done(&body);
}

void answer(struct client *c, unsigned status, const char *code, const char *message)
{
	error_answer(c, status, code, message, -1);
}

void answer_retry(struct client *c, unsigned status, const char *code, const char *message,
		  unsigned retry_after_s)
{
	error_answer(c, status, code, message, (int)(retry_after_s ? retry_after_s : 1));
}

void answer_hop(struct client *c, const char *result)
{
	char header[64];
	int n = snprintf(header, sizeof header, "Berth-Hop-Result: %s\r\n", result);

	answer_raw(c, 421, (struct str){header, (size_t)n}, STR_NONE, false);
}
