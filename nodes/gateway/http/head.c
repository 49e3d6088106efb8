/* See head.h. One pass over the fields: each name is looked up in a table once. */
#include "gateway/http/head.h"

#include <errno.h>
#include <string.h>

enum field {
	FIELD_OTHER,
	FIELD_ACCEPT,
	FIELD_AUTHORIZATION,
	FIELD_CLIENT_REQUEST_ID,
	FIELD_BERTH, /* any Berth-* but those below */
	FIELD_CONNECTION,
	FIELD_CONTENT_LENGTH,
	FIELD_CONTENT_TYPE,
	FIELD_EXPECT,
	FIELD_FORWARDED, /* Forwarded, X-Forwarded-* */
	FIELD_HOP,
	FIELD_HOP_RESULT,
	FIELD_HOST,
	FIELD_PER_CONNECTION, /* Keep-Alive, Proxy-Connection, TE, Trailer */
	FIELD_PROXY_AUTHORIZATION,
	FIELD_REQUIRE_EXISTING,
	FIELD_RETURN_CLIENT_REQUEST_ID,
	FIELD_TIMING, /* X-Ms-Allocation-Time and its kin */
	FIELD_TRACEPARENT,
	FIELD_TRANSFER_ENCODING,
	FIELD_UPGRADE,
};

static const struct {
	struct str name;
	enum field field;
} names[] = {
#define NAME(text, field)                      \
	{                                      \
		{text, sizeof text - 1}, field \
	}
	NAME("te", FIELD_PER_CONNECTION),
	NAME("host", FIELD_HOST),
	NAME("accept", FIELD_ACCEPT),
	NAME("expect", FIELD_EXPECT),
	NAME("trailer", FIELD_PER_CONNECTION),
	NAME("upgrade", FIELD_UPGRADE),
	NAME("berth-hop", FIELD_HOP),
	NAME("forwarded", FIELD_FORWARDED),
	NAME("connection", FIELD_CONNECTION),
	NAME("keep-alive", FIELD_PER_CONNECTION),
	NAME("traceparent", FIELD_TRACEPARENT),
	NAME("content-type", FIELD_CONTENT_TYPE),
	NAME("authorization", FIELD_AUTHORIZATION),
	NAME("content-length", FIELD_CONTENT_LENGTH),
	NAME("x-forwarded-for", FIELD_FORWARDED),
	NAME("x-forwarded-host", FIELD_FORWARDED),
	NAME("x-forwarded-port", FIELD_FORWARDED),
	NAME("berth-hop-result", FIELD_HOP_RESULT),
	NAME("proxy-connection", FIELD_PER_CONNECTION),
	NAME("x-forwarded-proto", FIELD_FORWARDED),
	NAME("transfer-encoding", FIELD_TRANSFER_ENCODING),
	NAME("proxy-authorization", FIELD_PROXY_AUTHORIZATION),
	NAME("x-ms-session-guid", FIELD_TIMING),
	NAME("x-ms-new-allocation", FIELD_TIMING),
	NAME("x-ms-allocation-time", FIELD_TIMING),
	NAME("x-ms-client-request-id", FIELD_CLIENT_REQUEST_ID),
	NAME("berth-require-existing", FIELD_REQUIRE_EXISTING),
	NAME("x-ms-return-client-request-id", FIELD_RETURN_CLIENT_REQUEST_ID),
};

static enum field field_of(struct str name)
{
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		if (names[i].name.n == name.n && names[i].name.p[0] == (name.p[0] | 0x20) &&
		    str_eq_nocase(names[i].name, name))
			return names[i].field;
	if (name.n >= 6 && str_eq_nocase(str_slice(name, 0, 6), STR("berth-")))
		return FIELD_BERTH;
	return FIELD_OTHER;
}

/* What all fields of a head said, before it is judged together. */
struct gathered {
	unsigned n_length, n_encoding, n_host, n_authorization, n_expect, n_upgrade;
	bool length_bad, encoding_bad, expect_bad, close, keep_alive, connection_upgrade, connection_long;
	struct str connection[16]; /* its tokens */
	unsigned n_connection;
};

static void gather_connection(struct gathered *g, struct str value)
{
	struct str token;

	while (value.n) {
		str_cut(value, ',', &token, &value);
		token = str_trim(token);
		if (!token.n)
			continue;
		if (str_eq_nocase(token, STR("close")))
			g->close = true;
		else if (str_eq_nocase(token, STR("keep-alive")))
			g->keep_alive = true;
		else if (str_eq_nocase(token, STR("upgrade")))
			g->connection_upgrade = true;
		else if (g->n_connection < sizeof g->connection / sizeof *g->connection)
			g->connection[g->n_connection++] = token;
		else
			g->connection_long = true;
	}
}

/* The part that requests and responses have in common. */
static void gather(struct gathered *g, struct head_facts *f, enum field field, struct str value)
{
	switch (field) {
	case FIELD_CONNECTION:
		gather_connection(g, value);
		break;
	case FIELD_CONTENT_LENGTH:
		g->n_length++;
		if (value.n > 18 || str_u64(value, UINT64_MAX, &f->declared_length))
			g->length_bad = true;
		f->has_length = true;
		break;
	case FIELD_TRANSFER_ENCODING:
		g->n_encoding++;
		if (!str_eq_nocase(value, STR("chunked")))
			g->encoding_bad = true;
		break;
	case FIELD_UPGRADE:
		g->n_upgrade++;
		f->upgrade = value;
		break;
	case FIELD_OTHER:
	case FIELD_ACCEPT:
	case FIELD_AUTHORIZATION:
	case FIELD_BERTH:
	case FIELD_CONTENT_TYPE:
	case FIELD_EXPECT:
	case FIELD_FORWARDED:
	case FIELD_HOP:
	case FIELD_HOP_RESULT:
	case FIELD_HOST:
	case FIELD_PER_CONNECTION:
	case FIELD_PROXY_AUTHORIZATION:
	case FIELD_REQUIRE_EXISTING:
	case FIELD_TIMING:
	case FIELD_TRACEPARENT:
	case FIELD_CLIENT_REQUEST_ID:
	case FIELD_RETURN_CLIENT_REQUEST_ID:
		break;
	}
}

/* Fields that Connection names belong to one hop alone; framing and Host cannot be named away. */
static void drop_named(const struct scan_head *head, const struct gathered *g, struct head_facts *f)
{
	for (unsigned i = 0; i < head->n_headers && g->n_connection; i++)
		for (unsigned t = 0; t < g->n_connection; t++)
			if (str_eq_nocase(head->headers[i].name, g->connection[t]) &&
			    !str_eq_nocase(g->connection[t], STR("host")))
				f->drop[i] = true;
}

static bool host_ok(struct str host)
{
	if (host.n == 0 || host.n > 255)
		return false;
	for (size_t i = 0; i < host.n; i++) {
		char c = host.p[i];
		bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
			  c == '-' || c == '.' || c == '_' || c == ':' || c == '[' || c == ']';
		if (!ok)
			return false;
	}
	return true;
}

/* Origin form, or absolute form naming the same host (RFC 9112, 3.2.2). */
static unsigned split_target(struct str target, struct request_facts *r, const char **why)
{
	static const struct str schemes[] = {{"http://", 7}, {"https://", 8}};

	for (size_t i = 0; i < 2; i++) {
		struct str rest, host;
		if (target.n <= schemes[i].n ||
		    !str_eq_nocase(str_slice(target, 0, schemes[i].n), schemes[i]))
			continue;
		rest = str_slice(target, schemes[i].n, target.n);
		size_t slash = str_find(rest, '/');
		host = str_slice(rest, 0, slash);
		if (slash == rest.n || (r->host.n && !str_eq_nocase(host, r->host)) || !host_ok(host)) {
			*why = "the request target and Host differ";
			return 400;
		}
		r->host = host;
		target = str_slice(rest, slash, rest.n);
		break;
	}
	if (target.p[0] != '/' || str_find(target, '#') != target.n) {
		*why = "the request target must be a path";
		return 400;
	}
	r->has_query = str_cut(target, '?', &r->path, &r->query);
	return 0;
}

static unsigned judge_request(const struct gathered *g, struct request_facts *r, const char **why)
{
	struct {
		bool bad;
		unsigned status;
		const char *why;
	} rules[] = {
		{g->n_host > 1, 400, "Host was given twice"},
		{r->minor == 1 && g->n_host == 0, 400, "Host is required"},
		{g->n_host == 1 && !host_ok(r->host), 400, "Host is malformed"},
		{g->n_length > 1 || g->length_bad, 400, "Content-Length is malformed"},
		{g->n_encoding && g->n_length, 400,
		 "Content-Length and Transfer-Encoding exclude each other"},
		{g->n_encoding && r->minor == 0, 400, "Transfer-Encoding needs HTTP/1.1"},
		{g->n_encoding > 1 || g->encoding_bad, 501, "Transfer-Encoding: only chunked is supported"},
		{g->n_authorization > 1, 400, "Authorization was given twice"},
		{g->n_expect > 1 || g->expect_bad, 417, "Expect: only 100-continue is supported"},
		{g->n_upgrade > 1, 400, "Upgrade was given twice"},
		{g->connection_long, 400, "Connection names too many fields"},
		{str_eq(r->method, STR("CONNECT")), 501, "CONNECT is not supported"},
	};

	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (rules[i].bad) {
			*why = rules[i].why;
			return rules[i].status;
		}
	return 0;
}

static void gather_request(struct gathered *g, struct request_facts *r, unsigned i, enum field field,
			   struct str value, enum head_side side)
{
	bool drop = true;

	switch (field) {
	case FIELD_HOST:
		g->n_host++;
		r->host = value;
		break; /* written anew, first */
	case FIELD_AUTHORIZATION:
		g->n_authorization++;
		r->authorization = value;
		break;
	case FIELD_EXPECT:
		g->n_expect++;
		r->expect_continue = str_eq_nocase(value, STR("100-continue"));
		g->expect_bad = !r->expect_continue;
		break; /* written anew */
	case FIELD_HOP:
		r->hop = value;
		break;
	case FIELD_REQUIRE_EXISTING:
		r->require_existing = str_eq_nocase(value, STR("true"));
		break;
	case FIELD_TRACEPARENT:
		r->traceparent = value;
		drop = side == HEAD_FROM_CLIENT;
		break;
	case FIELD_FORWARDED:
		drop = side == HEAD_FROM_CLIENT;
		break;
	case FIELD_ACCEPT:
		r->accept = value;
		drop = false;
		break;
	case FIELD_CONTENT_TYPE:
		r->content_type = value;
		drop = false;
		break;
	case FIELD_CLIENT_REQUEST_ID:
		r->client_request_id = value;
		drop = false;
		break;
	case FIELD_RETURN_CLIENT_REQUEST_ID:
		r->return_client_request_id = str_eq_nocase(value, STR("true"));
		drop = false;
		break;
	case FIELD_OTHER:
	case FIELD_TIMING:
		drop = false;
		break;
	case FIELD_BERTH:
	case FIELD_CONNECTION:
	case FIELD_CONTENT_LENGTH:
	case FIELD_HOP_RESULT:
	case FIELD_PER_CONNECTION:
	case FIELD_PROXY_AUTHORIZATION:
	case FIELD_TRANSFER_ENCODING:
	case FIELD_UPGRADE:
		gather(g, &r->f, field, value);
		break;
	}
	r->f.drop[i] = drop;
}

unsigned head_check_request(const struct scan_head *head, enum head_side side, struct request_facts *ret,
			    const char **ret_why)
{
	struct gathered g = {0};
	unsigned status;

	memset(ret, 0, sizeof *ret);
	ret->method = head->method;
	ret->minor = head->minor;
	for (unsigned i = 0; i < head->n_headers; i++)
		gather_request(&g, ret, i, field_of(head->headers[i].name), head->headers[i].value, side);
	status = judge_request(&g, ret, ret_why);
	if (!status)
		status = split_target(head->target, ret, ret_why);
	if (status)
		return status;
	drop_named(head, &g, &ret->f);
	ret->f.body = g.n_encoding ? BODY_CHUNKED : ret->f.declared_length ? BODY_LENGTH : BODY_NONE;
	ret->f.length = ret->f.declared_length;
	ret->f.keep = ret->minor == 1 ? !g.close : g.keep_alive && !g.close;
	if (!g.connection_upgrade || ret->minor == 0)
		ret->f.upgrade = STR_NONE;
	if (ret->minor == 0 || ret->f.body == BODY_NONE)
		ret->expect_continue = false;
	ret->is_head = str_eq(ret->method, STR("HEAD"));
	ret->replayable =
		ret->f.body == BODY_NONE && !ret->f.upgrade.n &&
		(ret->is_head || str_eq(ret->method, STR("GET")) || str_eq(ret->method, STR("OPTIONS")));
	return 0;
}

static const char *judge_response(const struct scan_head *head, const struct gathered *g,
				  const struct request_facts *request)
{
	bool interim = head->status < 200;

	if (g->n_length > 1 || g->length_bad)
		return "malformed Content-Length";
	if (g->n_encoding && g->n_length)
		return "Content-Length beside Transfer-Encoding";
	if (g->n_encoding > 1 || g->encoding_bad)
		return "a Transfer-Encoding other than chunked";
	if (g->n_encoding && (head->minor == 0 || interim || head->status == 204))
		return "Transfer-Encoding where none may be";
	if (interim && g->n_length)
		return "Content-Length on an interim answer";
	if (head->status == 101 && (!request->f.upgrade.n || g->n_upgrade != 1 || !g->connection_upgrade))
		return "an upgrade that was not asked for";
	if (head->status == 100 && head->minor == 0)
		return "an interim answer of HTTP/1.0";
	if (g->connection_long)
		return "Connection names too many fields";
	return NULL;
}

static enum body_kind response_body(const struct scan_head *head, const struct gathered *g,
				    const struct head_facts *f, bool is_head)
{
	if (is_head || head->status < 200 || head->status == 204 || head->status == 304)
		return BODY_NONE;
	if (g->n_encoding)
		return BODY_CHUNKED;
	if (!f->has_length)
		return BODY_TO_END;
	return f->declared_length ? BODY_LENGTH : BODY_NONE;
}

int head_check_response(const struct scan_head *head, const struct request_facts *request,
			enum head_side side, struct response_facts *ret, const char **ret_why)
{
	struct gathered g = {0};

	memset(ret, 0, sizeof *ret);
	ret->status = head->status;
	ret->interim = head->status < 200 && head->status != 101;
	for (unsigned i = 0; i < head->n_headers; i++) {
		enum field field = field_of(head->headers[i].name);
		gather(&g, &ret->f, field, head->headers[i].value);
		if (field == FIELD_HOP_RESULT && side == HEAD_FROM_NODE)
			ret->hop = head->headers[i].value;
		ret->f.drop[i] = field == FIELD_CONNECTION || field == FIELD_CONTENT_LENGTH ||
				 field == FIELD_TRANSFER_ENCODING || field == FIELD_UPGRADE ||
				 field == FIELD_HOP || field == FIELD_HOP_RESULT || field == FIELD_BERTH ||
				 field == FIELD_TIMING || field == FIELD_PER_CONNECTION ||
				 field == FIELD_REQUIRE_EXISTING;
	}
	*ret_why = judge_response(head, &g, request);
	if (*ret_why)
		return -EBADMSG;
	drop_named(head, &g, &ret->f);
	ret->f.body = response_body(head, &g, &ret->f, request->is_head);
	ret->f.length = ret->f.declared_length;
	ret->f.keep = ret->f.body != BODY_TO_END && (head->minor == 1 ? !g.close : g.keep_alive && !g.close);
	if (head->status != 101)
		ret->f.upgrade = STR_NONE;
	return 0;
}
