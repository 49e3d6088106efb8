/* Heads as they go on: what belongs to one connection is left out, what the other side should know is added. */
#include "gateway/inside.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "crypto/digest.h"

static void add_field(struct buf *to, struct str name, struct str value)
{
	char *p = buf_reserve(to, name.n + value.n + 4);

	if (!p)
		return;
	memcpy(p, name.p, name.n);
	memcpy(p + name.n, ": ", 2);
	if (value.n)
		memcpy(p + name.n + 2, value.p, value.n);
	memcpy(p + name.n + 2 + value.n, "\r\n", 2);
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

/* Drawn in batches: a system call a request would be seen in its cost. */
static const uint8_t *random_id(struct gw *gw)
{
	if (gw->random_left < TRACE_ID_BYTES) {
		crypto_random(gw->random, sizeof gw->random);
		gw->random_left = sizeof gw->random;
	}
	gw->random_left -= TRACE_ID_BYTES;
	return gw->random + gw->random_left;
}

static void add_number(struct buf *to, struct str before, uint64_t x)
{
	char digits[24], *p = digits + sizeof digits;

	*--p = '\n';
	*--p = '\r';
	do
		*--p = (char)('0' + x % 10);
	while (x /= 10);
	buf_add_str(to, before);
	buf_add(to, p, (size_t)(digits + sizeof digits - p));
}

static void add_trace(struct gw *gw, struct buf *to, struct str given)
{
	char hex[2 * TRACE_ID_BYTES + 1];

	if (traceparent_ok(given)) {
		add_field(to, STR("traceparent"), given);
		return;
	}
	crypto_hex(random_id(gw), TRACE_ID_BYTES, hex);
	buf_add_str(to, STR("traceparent: 00-"));
	buf_add(to, hex, 32);
	buf_add_str(to, STR("-"));
	buf_add(to, hex + 32, 16);
	buf_add_str(to, STR("-00\r\n"));
}

/* Once a connection: the C library prints it through sprintf. */
static void name_client(struct client *c)
{
	const struct sockaddr *peer = stream_peer(c->s);

	memcpy(c->address, "unknown", sizeof "unknown");
	if (peer->sa_family == AF_INET)
		inet_ntop(AF_INET, &((const struct sockaddr_in *)(const void *)peer)->sin_addr, c->address,
			  sizeof c->address);
	else if (peer->sa_family == AF_INET6)
		inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)(const void *)peer)->sin6_addr, c->address,
			  sizeof c->address);
}

static void add_forwarded(struct client *c, const struct request_facts *f)
{
	if (!c->address[0])
		name_client(c);
	add_field(&c->head, STR("X-Forwarded-For"), str_of(c->address));
	add_field(&c->head, STR("X-Forwarded-Proto"), c->kind == CLIENT_TLS ? STR("https") : STR("http"));
	if (f->host.n)
		add_field(&c->head, STR("X-Forwarded-Host"), f->host);
	add_trace(c->gw, &c->head, f->traceparent);
}

void rewrite_request(struct client *c, const struct scan_head *head, const struct request_facts *f,
		     struct str path)
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
		add_number(to, STR("Content-Length: "), f->f.declared_length);
	if (f->expect_continue)
		buf_add_str(to, STR("Expect: 100-continue\r\n"));
	if (f->f.upgrade.n) {
		buf_add_str(to, STR("Connection: Upgrade\r\n"));
		add_field(to, STR("Upgrade"), f->f.upgrade);
	}
	if (c->kind != CLIENT_NODE)
		add_forwarded(c, f);
}

/* A session's public name: stable for a generation, and not the identifier. Written once a session. */
static void name_session(struct session *s)
{
	snprintf(s->guid, sizeof s->guid, "%08x-%04x-8%03x-8%03x-%012llx", (unsigned)(s->pool & 0xffffffff),
		 (unsigned)(s->pool >> 32 & 0xffff), (unsigned)(s->pool >> 48 & 0xfff),
		 (unsigned)(s->generation >> 48 & 0xfff),
		 (unsigned long long)(s->generation & 0xffffffffffffull));
}

static void add_timing(struct client *c, struct buf *out)
{
	struct session *s = c->session;

	if (!s->guid[0])
		name_session(s);
	add_number(out, STR("X-Ms-Allocation-Time: "), c->allocation_ms);
	buf_add_str(out, c->created ? STR("X-Ms-New-Allocation: true\r\n")
				    : STR("X-Ms-New-Allocation: false\r\n"));
	add_field(out, STR("X-Ms-Session-Guid"), str_of(s->guid));
}

void rewrite_response(struct client *c, const struct scan_head *head, const struct response_facts *f,
		      struct buf *out)
{
	char line[] = "HTTP/1.1 000 ";

	line[9] = (char)('0' + head->status / 100);
	line[10] = (char)('0' + head->status / 10 % 10);
	line[11] = (char)('0' + head->status % 10);
	buf_add(out, line, sizeof line - 1);
	buf_add_str(out, head->reason);
	buf_add_str(out, STR("\r\n"));
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
			add_number(out, STR("Content-Length: "), f->f.declared_length);
		answer_connection(c, out);
	}
	buf_add_str(out, STR("\r\n"));
}
