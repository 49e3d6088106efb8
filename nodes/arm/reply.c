/* reply.c -- replies and ARM's error body: {"error":{"code","message"}}. */
#include <stdarg.h>

#include "arm/arm.h"
#include "core/must.h"
#include "json/build.h"

void arm_reply_header(struct arm_reply *r, const char *name, struct str value)
{
	for (uint32_t i = 0; i < r->n_headers; i++) {
		if (str_eq(str_of(r->headers[i].name), str_of(name))) {
			r->headers[i].value = value;
			return;
		}
	}
	must(r->n_headers < ARM_HEADERS_MAX);
	r->headers[r->n_headers++] = (struct arm_header){name, value};
}

void arm_reply_error(struct arm_reply *ret, int status, const char *code, const char *format, ...)
{
	CLEANUP_BUF struct buf text = {0};
	json_t *body = json_new_object(), *error = json_put_object(body, "error");
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	json_put_cstr(error, "code", code);
	json_put_str(error, "message", buf_str(&text));
	ret->status = status;
	buf_clear(&ret->body);
	arm_reply_header(ret, "content-type", STR("application/json; charset=utf-8"));
	json_print(&ret->body, body, false);
	json_decref(body);
}

void arm_reply_text(struct arm_reply *ret, int status, const char *content_type, struct str body)
{
	ret->status = status;
	buf_clear(&ret->body);
	arm_reply_header(ret, "content-type", str_of(content_type));
	buf_add_str(&ret->body, body);
}

void arm_reply_done(struct arm_reply *r)
{
	buf_done(&r->body);
	*r = (struct arm_reply){0};
}
