/* call.c -- see call.h. Paths are matched after decoding, segment by segment, so an encoded slash stays inside its
 * segment and "." or ".." segments are refused rather than resolved. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "arm/call.h"

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static int decode(struct arena *arena, struct str s, bool plus, struct str *ret, struct err *err)
{
	char *to = arena_alloc(arena, s.n + 1);
	size_t n = 0;

	if (to == NULL)
		return err_set(err, -ENOMEM, "no memory");
	for (size_t i = 0; i < s.n; i++) {
		int c = (unsigned char)s.p[i];

		if (c == '%') {
			if (i + 2 >= s.n || hex(s.p[i + 1]) < 0 || hex(s.p[i + 2]) < 0)
				return err_set(err, -EINVAL, "'%%' must be followed by two hex digits");
			c = hex(s.p[i + 1]) * 16 + hex(s.p[i + 2]);
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if (c < 0x20 || c == 0x7f)
			return err_set(err, -EINVAL, "control characters are not allowed");
		to[n++] = (char)c;
	}
	*ret = (struct str){to, n};
	return 0;
}

static int parse_path(struct call *c, struct err *err)
{
	struct str rest = c->request->path, part;
	bool more = true;
	int r;

	if (rest.n == 0 || rest.p[0] != '/')
		return err_set(err, -EINVAL, "the path must begin with '/'");
	rest = str_slice(rest, 1, rest.n);
	while (more) {
		more = str_cut(rest, '/', &part, &rest);
		if (part.n == 0 && !more)
			break;
		if (part.n == 0 || str_eq(part, STR(".")) || str_eq(part, STR("..")))
			return err_set(err, -EINVAL, "the path has an empty, '.' or '..' segment");
		if (c->n_segments == CALL_SEGMENTS_MAX)
			return err_set(err, -EINVAL, "the path has more than %d segments", CALL_SEGMENTS_MAX);
		r = decode(c->arena, part, false, &c->segments[c->n_segments], err);
		if (r < 0)
			return err_wrap(err, "path");
		c->n_segments++;
	}
	return 0;
}

static int parse_query(struct call *c, struct err *err)
{
	struct str rest = c->request->query, part, name, value;
	bool more = rest.n > 0;
	int r;

	while (more) {
		struct call_parameter *p = &c->query[c->n_query];

		more = str_cut(rest, '&', &part, &rest);
		if (part.n == 0)
			continue;
		if (c->n_query == CALL_QUERY_MAX)
			return err_set(err, -EINVAL, "the query has more than %d parameters", CALL_QUERY_MAX);
		if (!str_cut(part, '=', &name, &value))
			value = STR("");
		r = decode(c->arena, name, true, &p->name, err);
		/* An identifier may hold '+' and never a space: as the gateway reads it. */
		if (r == 0)
			r = decode(c->arena, value, !str_eq_nocase(p->name, STR("identifier")), &p->value,
				   err);
		if (r < 0)
			return err_wrap(err, "query");
		c->n_query++;
	}
	return 0;
}

/* A Host that could break a header or a link is not used. */
static bool host_usable(struct str host)
{
	for (size_t i = 0; i < host.n; i++)
		if (!isalnum((unsigned char)host.p[i]) && strchr(".-:[]", host.p[i]) == NULL)
			return false;
	return host.n > 0 && host.n <= 255;
}

int call_parse(struct call *c, struct err *err)
{
	int r = parse_path(c, err);

	if (r == 0)
		r = parse_query(c, err);
	if (r < 0)
		return r;
	c->base = c->arm->url;
	/* The admin socket's Host says nothing of how clients reach this node. */
	if (!c->request->caller.local && host_usable(c->request->host))
		c->base = call_printf(c, "%s://%.*s",
				      str_eq(c->request->scheme, STR("http")) ? "http" : "https",
				      STR_ARGS(c->request->host));
	return 0;
}

struct str call_query(const struct call *c, const char *name)
{
	for (uint32_t i = 0; i < c->n_query; i++)
		if (str_eq_nocase(c->query[i].name, str_of(name)))
			return c->query[i].value;
	return STR_NONE;
}

int call_query_u64(struct call *c, const char *name, uint64_t min, uint64_t max, uint64_t otherwise,
		   uint64_t *ret)
{
	struct str text = call_query(c, name);
	uint64_t value = otherwise;

	if (text.p != NULL && (str_u64(text, max, &value) < 0 || value < min)) {
		call_error(c, 400, "InvalidQueryParameter", "%s: must be a whole number from %llu to %llu.",
			   name, (unsigned long long)min, (unsigned long long)max);
		return -EINVAL;
	}
	*ret = value;
	return 0;
}

struct str call_printf(const struct call *c, const char *format, ...)
{
	CLEANUP_BUF struct buf b = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&b, format, args);
	va_end(args);
	return arena_str(c->arena, buf_str(&b));
}

struct str call_lower(const struct call *c, struct str s)
{
	char *p = arena_alloc(c->arena, s.n + 1);

	for (size_t i = 0; p != NULL && i < s.n; i++)
		p[i] = (char)tolower((unsigned char)s.p[i]);
	return (struct str){p, p == NULL ? 0 : s.n};
}

void call_json(struct call *c, int status, json_t *body)
{
	struct arm_reply *r = &c->out->reply;

	c->out->kind = ARM_REPLY;
	r->status = status;
	buf_clear(&r->body);
	arm_reply_header(r, "content-type", STR("application/json; charset=utf-8"));
	json_print(&r->body, body, false);
	json_decref(body);
}

void call_empty(struct call *c, int status)
{
	c->out->kind = ARM_REPLY;
	c->out->reply.status = status;
	buf_clear(&c->out->reply.body);
}

void call_error(struct call *c, int status, const char *code, const char *format, ...)
{
	CLEANUP_BUF struct buf text = {0};
	va_list args;

	va_start(args, format);
	buf_vprintf(&text, format, args);
	va_end(args);
	c->out->kind = ARM_REPLY;
	arm_reply_error(&c->out->reply, status, code, "%.*s", STR_ARGS(buf_str(&text)));
}

json_t *call_body(struct call *c)
{
	struct json_bounds bounds = {.bytes_max = ARM_BODY_MAX};
	json_t *body = NULL;
	struct err err = {0};

	if (c->request->body.n == 0) {
		call_error(c, 400, "InvalidRequestContent",
			   "The request has no body; a JSON object is required.");
		return NULL;
	}
	if (c->request->body.n > ARM_BODY_MAX) {
		call_error(c, 413, "RequestTooLarge", "The body has %zu bytes; at most %u are allowed.",
			   c->request->body.n, ARM_BODY_MAX);
		return NULL;
	}
	if (json_parse(c->request->body, &bounds, &body, &err) < 0) {
		call_error(c, 400, "InvalidRequestContent", "The body is not valid JSON: %s.", err.message);
		return NULL;
	}
	if (!json_is_object(body)) {
		json_decref(body);
		call_error(c, 400, "InvalidRequestContent", "The body must be a JSON object.");
		return NULL;
	}
	return body;
}

struct str call_pool_id(const struct call *c, struct str subscription, struct str group, struct str name)
{
	return call_printf(
		c, "/subscriptions/%.*s/resourceGroups/%.*s/providers/Microsoft.App/sessionPools/%.*s",
		STR_ARGS(subscription), STR_ARGS(group), STR_ARGS(name));
}
