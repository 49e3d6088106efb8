/* Heads as they go on: what belongs to one connection is left out, what the other side should know is added. */
#include "gateway/inside.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include "crypto/digest.h"

static void add_field(struct buf *to, struct str name, struct str value)
{
	char *p = buf_reserve(to, name.n + value.n + 4);

	if (!p)
		return;
	for (size_t i = 0; i < name.n; i++)
		*p++ = name.p[i];
	*p++ = ':';
	*p++ = ' ';
	for (size_t i = 0; i < value.n; i++)
		*p++ = value.p[i];
	*p++ = '\r';
	*p++ = '\n';
	to->n += name.n + value.n + 4;
}

/* W3C Trace Context: 00-<32 hex>-<16 hex>-<2 hex>, not all zero. */
static bool traceparent_ok(struct str t)
{
	bool trace = false, span = false;

	if (t.n != 55 || t.p[0] != '0' || t.p[1] != '0')
		return false;
	for (size_t i = 2; i < t.n; i++) {
		char c = t.p[i];
		if (i == 2 || i == 35 || i == 52) {
			if (c != '-')
				return false;
			continue;
		}
		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
		trace |= i < 35 && c != '0';
		span |= i > 35 && i < 52 && c != '0';
	}
	return trace && span;
}

static void add_trace(struct buf *to, struct str given)
{
	uint8_t id[24];
	char hex[49];

	if (traceparent_ok(given)) {
		add_field(to, STR("traceparent"), given);
		return;
	}
	crypto_random(id, sizeof id);
	crypto_hex(id, sizeof id, hex);
	buf_printf(to, "traceparent: 00-%.32s-%.16s-00\r\n", hex, hex + 32);
}

static void add_forwarded(struct client *c, const struct request_facts *f)
{
	char text[INET6_ADDRSTRLEN] = "unknown";
	const struct sockaddr *peer = stream_peer(c->s);

	if (peer->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, text, sizeof text);
	else if (peer->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, text, sizeof text);
	add_field(&c->head, STR("X-Forwarded-For"), str_of(text));
	add_field(&c->head, STR("X-Forwarded-Proto"), c->kind == CLIENT_TLS ? STR("https") : STR("http"));
	if (f->host.n)
		add_field(&c->head, STR("X-Forwarded-Host"), f->host);
	add_trace(&c->head, f->traceparent);
}

void rewrite_request(struct client *c, const struct scan_head *head, const struct request_facts *f, struct str path)
{
	struct buf *to = &c->head;

	buf_clear(to);
	buf_add_str(to, f->method);
	buf_add_str(to, STR(" "));
	buf_add_str(to, path.n ? path : STR("/"));
	if (f->has_query) {
		buf_add_str(to, STR("?"));
		buf_add_str(to, f->query);
	}
	buf_add_str(to, STR(" HTTP/1.1\r\n"));
	add_field(to, STR("Host"), f->host.n ? f->host : STR("localhost"));
	for (unsigned i = 0; i < head->n_headers; i++)
		if (!f->f.drop[i])
			add_field(to, head->headers[i].name, head->headers[i].value);
	if (f->f.body == BODY_CHUNKED)
		buf_add_str(to, STR("Transfer-Encoding: chunked\r\n"));
	else if (f->f.has_length)
		buf_printf(to, "Content-Length: %llu\r\n", (unsigned long long)f->f.declared_length);
	if (f->expect_continue)
		buf_add_str(to, STR("Expect: 100-continue\r\n"));
	if (f->f.upgrade.n) {
		buf_add_str(to, STR("Connection: Upgrade\r\n"));
		add_field(to, STR("Upgrade"), f->f.upgrade);
	}
	if (c->kind != CLIENT_NODE)
		add_forwarded(c, f);
}

/* A session's public name: stable for a generation, and not the identifier. */
static void add_timing(struct client *c, struct buf *out)
{
	const struct session *s = c->session;

	buf_printf(out, "X-Ms-Allocation-Time: %u\r\nX-Ms-New-Allocation: %s\r\n", c->allocation_ms,
	           c->created ? "true" : "false");
	buf_printf(out, "X-Ms-Session-Guid: %08x-%04x-8%03x-8%03x-%012llx\r\n", (unsigned)(s->pool & 0xffffffff),
	           (unsigned)(s->pool >> 32 & 0xffff), (unsigned)(s->pool >> 48 & 0xfff),
	           (unsigned)(s->generation >> 48 & 0xfff), (unsigned long long)(s->generation & 0xffffffffffffull));
}

void rewrite_response(struct client *c, const struct scan_head *head, const struct response_facts *f, struct buf *out)
{
	buf_printf(out, "HTTP/1.1 %u %.*s\r\n", head->status, STR_ARGS(head->reason));
	for (unsigned i = 0; i < head->n_headers; i++)
		if (!f->f.drop[i])
			add_field(out, head->headers[i].name, head->headers[i].value);
	if (f->interim) {
		buf_add_str(out, STR("\r\n"));
		return;
	}
	if (c->session && c->kind != CLIENT_NODE)
		add_timing(c, out);
	if (f->status == 101) {
		buf_add_str(out, STR("Connection: Upgrade\r\n"));
		add_field(out, STR("Upgrade"), f->f.upgrade);
	} else {
		if (c->rechunk)
			buf_add_str(out, STR("Transfer-Encoding: chunked\r\n"));
		else if (f->f.has_length && f->status != 204)
			buf_printf(out, "Content-Length: %llu\r\n", (unsigned long long)f->f.declared_length);
		answer_connection(c, out);
	}
	buf_add_str(out, STR("\r\n"));
}
