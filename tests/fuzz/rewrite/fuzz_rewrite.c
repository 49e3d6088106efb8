/* Whole heads as the gateway writes them anew. The first byte says what the rest is: a client's request, another node's, or a
 * sandbox's answer. Holds: what goes on is one head again, framed as what came, with one Host, no field that the gateway keeps to
 * itself, and within what the next gateway takes; the owner passes on the same fields. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "core/must.h"
#include "gateway/inside.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct gw gw;
static struct client client;
static struct scan_head head, again;

/* A client needs a stream, whose peer is told to the sandbox. */
static void once(void)
{
	static const struct stream_ops ops = {0};
	int fds[2];

	if (client.gw)
		return;
	must(loop_init(&gw.loop, NULL) == 0);
	must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds) == 0);
	must(stream_adopt(&gw.loop, fds[0], NULL, &ops, NULL, &client.s, NULL) == 0);
	client.gw = &gw;
}

static unsigned count_of(const struct scan_head *h, const char *name)
{
	unsigned n = 0;

	for (unsigned i = 0; i < h->n_headers; i++)
		n += str_eq_nocase(h->headers[i].name, str_of(name));
	return n;
}

static bool begins(struct str name, struct str with)
{
	return name.n >= with.n && str_eq_nocase(str_slice(name, 0, with.n), with);
}

static void check_kept_back(const struct scan_head *h, bool of_client)
{
	for (unsigned i = 0; i < h->n_headers; i++) {
		struct str name = h->headers[i].name;
		must(!begins(name, STR("berth-")));
		must(!str_eq_nocase(name, STR("authorization")) && !str_eq_nocase(name, STR("keep-alive")));
		must(!str_eq_nocase(name, STR("proxy-authorization")) && !str_eq_nocase(name, STR("te")));
		must(!str_eq_nocase(name, STR("proxy-connection")) && !str_eq_nocase(name, STR("trailer")));
		must(!str_eq_nocase(name, STR("forwarded")) || !of_client);
		must(!str_eq_nocase(name, STR("connection")) || str_eq(h->headers[i].value, STR("Upgrade")));
	}
	must(count_of(h, "x-forwarded-for") <= 1 || !of_client);
	must(count_of(h, "traceparent") == 1 || !of_client);
	must(count_of(h, "content-length") + count_of(h, "transfer-encoding") <= 1);
}

static void same_request(const struct request_facts *a, const struct request_facts *b)
{
	must(str_eq(a->method, b->method) && str_eq(a->query, b->query));
	must(a->has_query == b->has_query && a->is_head == b->is_head && a->replayable == b->replayable);
	must(a->f.body == b->f.body && a->f.length == b->f.length && a->f.has_length == b->f.has_length);
	must(str_eq(a->f.upgrade, b->f.upgrade) && a->expect_continue == b->expect_continue);
	must(!a->host.n || str_eq(a->host, b->host));
}

/* The owner left out the hop's field and nothing else; the framing fields may stand elsewhere. */
static void same_fields(const struct buf *hop, const struct scan_head *owner)
{
	static struct scan_head sent;

	must(scan_hop_request(hop->p, hop->n, &sent) > 0 && sent.n_headers == owner->n_headers + 1);
	for (unsigned i = 0; i < owner->n_headers; i++) {
		bool found = false;
		for (unsigned k = 0; k < sent.n_headers && !found; k++)
			found = str_eq(sent.headers[k].name, owner->headers[i].name) &&
				str_eq(sent.headers[k].value, owner->headers[i].value);
		must(found);
	}
}

static void try_request(const char *p, size_t n, enum head_side side)
{
	static struct request_facts f, of_node, of_sandbox;
	CLEANUP_BUF struct buf first = {0};
	const char *why;
	long r = side == HEAD_FROM_NODE ? scan_hop_request(p, n, &head) : scan_request(p, n, &head);

	if (r <= 0 || head_check_request(&head, side, &f, &why))
		return;
	client.kind = side == HEAD_FROM_NODE ? CLIENT_NODE : CLIENT_PLAIN;
	rewrite_request(&client, &head, &f, f.path);
	must(!buf_failed(&client.head));
	/* To the owner: its field, an empty line. What a client may send must fit there with what was added. */
	buf_add_str(&first, buf_str(&client.head));
	struct session session = {
		.pool = UINT64_MAX, .generation = UINT64_MAX, .sandbox = UINT64_MAX, .index = UINT64_MAX};
	if (side == HEAD_FROM_CLIENT) {
		hop_format(&first, UINT64_MAX, &session);
		r = scan_hop_request(first.p, first.n, &again);
		must(r == (long)first.n);
		must(count_of(&again, "host") == 1 && count_of(&again, "berth-hop") == 1);
		must(head_check_request(&again, HEAD_FROM_NODE, &of_node, &why) == 0);
		same_request(&f, &of_node);
		struct session_ref ref;
		uint64_t incarnation;
		must(hop_parse(of_node.hop, &incarnation, &ref) == 0 && incarnation == UINT64_MAX);
		client.kind = CLIENT_NODE;
		rewrite_request(&client, &again, &of_node, of_node.path);
	}
	buf_add_str(&client.head, STR("\r\n"));
	r = scan_hop_request(client.head.p, client.head.n, &again);
	must(r == (long)client.head.n && count_of(&again, "host") == 1);
	if (side == HEAD_FROM_CLIENT)
		same_fields(&first, &again);
	check_kept_back(&again, side == HEAD_FROM_CLIENT);
	must(head_check_request(&again, HEAD_FROM_CLIENT, &of_sandbox, &why) == 0);
	same_request(&f, &of_sandbox);
}

static void try_response(const char *p, size_t n, unsigned flags)
{
	static struct response_facts f, g;
	CLEANUP_BUF struct buf out = {0};
	struct request_facts asked = {.minor = 1, .is_head = flags & 8};
	const char *why;

	if (flags & 16)
		asked.f.upgrade = STR("x");
	if (scan_response(p, n, &head) <= 0 || head_check_response(&head, &asked, HEAD_FROM_CLIENT, &f, &why))
		return;
	client.kind = CLIENT_NODE; /* the owner's answer to another node */
	client.facts = asked;
	client.keep = flags & 32;
	client.rechunk = !f.interim && (f.f.body == BODY_CHUNKED || f.f.body == BODY_TO_END);
	rewrite_response(&client, &head, &f, &out);
	must(!buf_failed(&out));
	must(scan_hop_response(out.p, out.n, &again) == (long)out.n);
	must(again.status == head.status && str_eq(again.reason, head.reason));
	must(head_check_response(&again, &asked, HEAD_FROM_NODE, &g, &why) == 0);
	must(g.hop.n == 0 && g.interim == f.interim && str_eq(g.f.upgrade, f.f.upgrade));
	must(g.f.body == (client.rechunk ? BODY_CHUNKED : f.f.body));
	must(g.f.body != BODY_LENGTH || g.f.length == f.f.length);
	for (unsigned i = 0; i < again.n_headers; i++) {
		must(!begins(again.headers[i].name, STR("berth-")));
		must(!str_eq_nocase(again.headers[i].name, STR("x-ms-session-guid")));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	once();
	const char *p = (const char *)data + 1;
	if ((data[0] & 3) == 2)
		try_response(p, size - 1, data[0]);
	else
		try_request(p, size - 1, data[0] & 1 ? HEAD_FROM_NODE : HEAD_FROM_CLIENT);
	return 0;
}
