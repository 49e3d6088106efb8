/* library.c -- llhttp's side. Its callbacks give pieces; a value's trailing blanks are no part of it (RFC 9110, 5.5) and are
 * cut as its users do. Which answers have no body is its caller's to say (RFC 9112, 6.3). */
#include "reading.h"

#include <string.h>
#include <llhttp.h>

static struct str *piece; /* that grows: consecutive pieces of one thing */

static int add_text(struct reading *r, struct str *to, const char *p, size_t n)
{
	if (r->text_n + n > sizeof r->text)
		return -1;
	if (piece != to)
		*to = (struct str){r->text + r->text_n, 0};
	piece = to;
	memcpy(r->text + r->text_n, p, n);
	r->text_n += n;
	to->n += n;
	return 0;
}

static int on_url(llhttp_t *l, const char *p, size_t n)
{
	struct reading *r = l->data;

	return add_text(r, &r->target, p, n);
}

static int on_status(llhttp_t *l, const char *p, size_t n)
{
	struct reading *r = l->data;

	return add_text(r, &r->reason, p, n);
}

static int on_name(llhttp_t *l, const char *p, size_t n)
{
	struct reading *r = l->data;

	if (l->flags & F_TRAILING)
		return 0;
	if (r->n_headers > SCAN_HEADERS_MAX)
		return 0;
	if (r->n_headers == 0 || piece != &r->headers[r->n_headers - 1].name)
		r->n_headers++;
	return r->n_headers > SCAN_HEADERS_MAX ? 0 : add_text(r, &r->headers[r->n_headers - 1].name, p, n);
}

static int on_name_end(llhttp_t *l)
{
	(void)l;
	piece = NULL; /* the value may be empty, and then nobody calls */
	return 0;
}

static int on_value(llhttp_t *l, const char *p, size_t n)
{
	struct reading *r = l->data;

	if (l->flags & F_TRAILING || r->n_headers > SCAN_HEADERS_MAX)
		return 0;
	return add_text(r, &r->headers[r->n_headers - 1].value, p, n);
}

static int on_headers_complete(llhttp_t *l)
{
	struct reading *r = l->data;
	bool none = l->type == HTTP_RESPONSE &&
		    (r->why || l->status_code < 200 || l->status_code == 204 || l->status_code == 304);

	r->minor = l->http_minor;
	r->status = l->status_code;
	if (l->type == HTTP_REQUEST)
		r->method = str_of(llhttp_method_name((llhttp_method_t)l->method));
	if (none)
		r->framing = BODY_NONE;
	else if (l->flags & F_CHUNKED)
		r->framing = BODY_CHUNKED;
	else if (l->flags & F_CONTENT_LENGTH)
		r->framing = l->content_length ? BODY_LENGTH : BODY_NONE;
	else
		r->framing = llhttp_message_needs_eof(l) ? BODY_TO_END : BODY_NONE;
	return none && l->status_code != 101;
}

static int on_body(llhttp_t *l, const char *p, size_t n)
{
	struct reading *r = l->data;

	if (r->body_n + n <= sizeof r->body)
		memcpy(r->body + r->body_n, p, n);
	r->body_n += n;
	return 0;
}

static int on_complete(llhttp_t *l)
{
	struct reading *r = l->data;

	r->result = READING_WHOLE;
	return HPE_PAUSED;
}

void reading_llhttp(enum reading_kind kind, struct str bytes, struct reading *ret)
{
	static llhttp_settings_t settings;
	llhttp_t l;
	enum llhttp_errno e;

	memset(ret, 0, offsetof(struct reading, body));
	piece = NULL;
	llhttp_settings_init(&settings);
	settings.on_url = on_url;
	settings.on_status = on_status;
	settings.on_header_field = on_name;
	settings.on_header_field_complete = on_name_end;
	settings.on_header_value = on_value;
	settings.on_headers_complete = on_headers_complete;
	settings.on_body = on_body;
	settings.on_message_complete = on_complete;
	llhttp_init(&l, kind == READING_REQUEST ? HTTP_REQUEST : HTTP_RESPONSE, &settings);
	l.data = ret;
	ret->result = READING_MORE;
	ret->why = kind == READING_TO_HEAD ? "HEAD" : NULL; /* for on_headers_complete */
	e = llhttp_execute(&l, bytes.p, bytes.n);
	ret->why = NULL;
	ret->end = bytes.n;
	if (ret->result == READING_WHOLE) {
		if (e != HPE_OK)
			ret->end = (size_t)(llhttp_get_error_pos(&l) - bytes.p);
	} else if (e == HPE_OK && ret->framing == BODY_TO_END) {
		llhttp_finish(&l);
	} else if (e != HPE_OK) {
		ret->result = READING_REFUSED;
		ret->end = (size_t)(llhttp_get_error_pos(&l) - bytes.p);
		ret->why = llhttp_get_error_reason(&l) ? llhttp_get_error_reason(&l) : "?";
	}
	for (unsigned i = 0; i < ret->n_headers && i < SCAN_HEADERS_MAX; i++)
		ret->headers[i].value = str_trim(ret->headers[i].value);
}

bool reading_method_known(struct str method)
{
	for (int m = HTTP_DELETE; m < HTTP_SOURCE; m++) /* behind it: of other protocols */
		if (str_eq(method, str_of(llhttp_method_name((llhttp_method_t)m))))
			return true;
	return false;
}
