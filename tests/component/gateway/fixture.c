#include "fixture.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/arena.h"
#include "core/clock.h"

_Atomic int backend_connections;

/* --- the sandbox's server: one thread a connection, the path says how it behaves --- */

static void send_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = send(fd, p, n, MSG_NOSIGNAL);
		if (k <= 0)
			return;
		p += k;
		n -= (size_t)k;
	}
}

static void send_text(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

static void send_big(int fd)
{
	static char block[65536];

	send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 25165824\r\n\r\n");
	for (size_t sent = 0; sent < FIXTURE_BIG; sent += sizeof block)
		send_all(fd, block, sizeof block);
}

/* Counts a body of `length` bytes, of which `have` came with the head. */
static void count_length(int fd, size_t length, size_t have)
{
	char block[65536], text[32], answer[160];
	int n;

	while (have < length) {
		ssize_t k = recv(fd, block, sizeof block, 0);
		if (k <= 0)
			return;
		have += (size_t)k;
	}
	n = snprintf(text, sizeof text, "got %zu", have);
	snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", n, text);
	send_text(fd, answer);
}

/* Answers with the chunked body as it came, up to its end. */
static void show_chunked(int fd, const char *body)
{
	char all[65536], answer[70000];
	size_t n = strlen(body);

	memcpy(all, body, n + 1);
	while (!strstr(all, "0\r\n\r\n")) {
		ssize_t k = recv(fd, all + n, sizeof all - n - 1, 0);
		if (k <= 0)
			return;
		n += (size_t)k;
		all[n] = 0;
	}
	snprintf(answer, sizeof answer, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", n, all);
	send_text(fd, answer);
}

static void upgrade(int fd)
{
	char block[4096];
	ssize_t n;

	send_text(fd,
		  "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello");
	while ((n = recv(fd, block, sizeof block, 0)) > 0)
		send_all(fd, block, (size_t)n);
	send_text(fd, "bye"); /* our half is still open */
}

static void echo_head(int fd, const char *head, size_t n)
{
	char answer[40000];

	snprintf(answer, sizeof answer,
		 "HTTP/1.1 200 OK\r\nX-Ms-Session-Guid: forged\r\nContent-Length: %zu\r\n\r\n%.*s", n, (int)n,
		 head);
	send_text(fd, answer);
}

static const struct {
	const char *path, *answer;
	bool close;
} canned[] = {
	{"/chunked",
	 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=1\r\nabc\r\n2\r\nde\r\n0\r\nT: x\r\n\r\n",
	 false},
	{"/to-end", "HTTP/1.1 200 OK\r\n\r\nuntil the end", true},
	{"/interim",
	 "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok", false},
	{"/both", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	 false},
	{"/unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", false},
	{"/garbage", "NOT HTTP\r\n\r\n", false},
	{"/bad-chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", false},
	{"/surplus",
	 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
	 false},
	{"/cut", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", true},
	{"/sse",
	 "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n8\r\ndata: "
	 "1\n\r\n",
	 false},
	{"/continue", "HTTP/1.1 100 Continue\r\n\r\n", false},
	{"/no-content", "HTTP/1.1 204 No Content\r\n\r\n", false},
};

static bool serve_one(int fd, char *head, size_t n, size_t head_n)
{
	char path[64] = "";
	char *body = head + head_n;
	const char *length = strstr(head, "Content-Length: ");

	sscanf(head, "%*s %63[^? ]", path);
	if (strcmp(path, "/big") == 0) {
		send_big(fd);
		return true;
	}
	if (strcmp(path, "/flood") == 0) {
		for (int i = 0; i < 1000; i++)
			send_text(fd, "HTTP/1.1 103 Early Hints\r\n\r\n");
		return true;
	}
	if (strcmp(path, "/endless") == 0) {
		send_text(fd, "HTTP/1.1 200 OK\r\n");
		for (int i = 0; i < 10000; i++)
			send_text(fd, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n");
		return true;
	}
	if (strcmp(path, "/upgrade") == 0) {
		upgrade(fd);
		return false;
	}
	if (strcmp(path, "/slow") == 0)
		usleep(300000);
	if (strcmp(path, "/sluggish") == 0)
		sleep(2);
	if (strcmp(path, "/mute") == 0)
		return recv(fd, head, 1, 0) > 0; /* until the other side ends it */
	if (strcmp(path, "/shown") == 0) {
		show_chunked(fd, body);
		return true;
	}
	for (size_t i = 0; i < sizeof canned / sizeof *canned; i++)
		if (strcmp(path, canned[i].path) == 0) {
			send_text(fd, canned[i].answer);
			if (strcmp(path, "/continue") == 0)
				break;
			if (strcmp(path, "/sse") == 0) {
				usleep(200000);
				send_text(fd, "8\r\ndata: 2\n\r\n0\r\n\r\n");
			}
			return !canned[i].close;
		}
	if (length)
		count_length(fd, strtoul(length + 16, NULL, 10), n - head_n);
	else if (strncmp(head, "HEAD", 4) == 0)
		send_text(fd, "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n");
	else
		echo_head(fd, head, head_n);
	return true;
}

static void *backend_connection(void *arg)
{
	int fd = (int)(intptr_t)arg;
	static _Thread_local char head[70000];
	size_t n = 0;
	bool go = true;

	while (go) {
		char *end;
		head[n] = 0;
		while (!(end = strstr(head, "\r\n\r\n"))) {
			ssize_t k = recv(fd, head + n, sizeof head - n - 1, 0);
			if (k <= 0)
				goto out;
			n += (size_t)k;
			head[n] = 0;
		}
		go = serve_one(fd, head, n, (size_t)(end + 4 - head));
		n = 0; /* the gateway never sends a second request before the answer */
	}
out:
	close(fd);
	return NULL;
}

static void *backend_main(void *arg)
{
	int listener = (int)(intptr_t)arg;

	for (;;) {
		int fd = accept(listener, NULL, NULL), on = 1;
		pthread_t t;
		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
		backend_connections++;
		pthread_create(&t, NULL, backend_connection, (void *)(intptr_t)fd);
		pthread_detach(t);
	}
	return NULL;
}

uint16_t backend_start(void)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	pthread_t t;

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(listen(fd, 512), 0);
	getsockname(fd, (struct sockaddr *)&a, &size);
	pthread_create(&t, NULL, backend_main, (void *)(intptr_t)fd);
	pthread_detach(t);
	return ntohs(a.sin_port);
}

/* --- control --- */

static void reply(struct fixture *f, const struct envelope *to, uint16_t type, const void *body)
{
	struct buf bytes = {0}, out = {0};
	struct envelope e = {.to = to->from, .type = type, .correlation = to->correlation};

	codec_encode(&bytes, message_body_codec[type], body);
	e.body = buf_str(&bytes);
	codec_encode(&out, &envelope_codec, &e);
	gateway_post(f->g, (unsigned)to->from.key, out.p, out.n);
	buf_done(&bytes);
	buf_done(&out);
}

static void hold(struct fixture *f, const struct envelope *e, const struct msg_open *m)
{
	struct fixture_open *o = &f->held[f->n_held];

	assert_true(f->n_held < FIXTURE_HELD);
	*o = (struct fixture_open){.pool = m->pool, .from = e->from, .correlation = e->correlation};
	str_copy(m->identifier, o->identifier, sizeof o->identifier);
	f->n_held++;
}

void fixture_answer(struct fixture *f, unsigned which)
{
	const struct fixture_open *o = &f->held[which];
	struct envelope e = {.from = o->from, .correlation = o->correlation};
	struct msg_opened m = {.code = OPEN_OK,
			       .session = {.pool = o->pool,
					   .generation = f->generation + which,
					   .sandbox = f->sandbox + which,
					   .node = f->owner}};

	reply(f, &e, MSG_OPENED, &m);
}

static void opened(struct fixture *f, const struct envelope *e, const struct msg_open *m)
{
	struct msg_opened o = {
		.code = (uint8_t)f->open_code, .retry_after_s = 3, .message = STR("says control")};

	f->opens++;
	if (m->gone && f->open_code == OPEN_OK) {
		f->gone_told++;
		f->sandbox++;
		f->generation++;
		f->refuse_dials = 0;
	}
	if (f->slow_open)
		usleep(100000);
	o.session = (struct session_ref){.pool = m->pool,
					 .generation = f->generation,
					 .sandbox = f->sandbox,
					 .node = f->owner,
					 .index = 99};
	o.created = true;
	o.allocation_ms = 12;
	reply(f, e, MSG_OPENED, &o);
}

static int control_post(void *arg, const void *p, size_t n)
{
	struct fixture *f = arg;
	CLEANUP_ARENA struct arena arena = {0};
	struct envelope e;
	union {
		struct msg_open open;
		struct msg_quiet quiet;
		struct msg_session_event event;
	} body;

	if (codec_decode(p, n, &envelope_codec, &arena, &e, NULL) ||
	    codec_decode(e.body.p, e.body.n, message_body_codec[e.type], &arena, &body, NULL))
		abort();
	if (e.type == MSG_OPEN && f->hold_opens) {
		hold(f, &e, &body.open);
	} else if (e.type == MSG_OPEN) {
		opened(f, &e, &body.open);
	} else if (e.type == MSG_QUIET) {
		f->quiet_in_flight += body.quiet.in_flight;
		if (body.quiet.last_activity_boot_ms > f->quiet_last)
			f->quiet_last = body.quiet.last_activity_boot_ms;
		f->quiets++;
	} else if (e.type == MSG_DEAD) {
		f->deads++;
	}
	return 0;
}

static int control_admit(void *arg, const struct gateway_admit *a)
{
	struct fixture *f = arg;

	f->admits++;
	return gateway_admitted(f->g, a->loop, a->correlation,
				a->generation == f->generation ? f->admit_code : -ESTALE);
}

static int control_api(void *arg, struct gateway_api_request *r)
{
	struct fixture *f = arg;
	struct buf body = {0};
	struct gateway_api_reply reply_ = {.status = 200, .n_headers = 1};

	reply_.headers[0] = (struct gateway_header){STR("Content-Type"), STR("text/plain")};
	buf_printf(&body, "%.*s %.*s?%.*s pool %llu peer %u body %zu", STR_ARGS(r->method), STR_ARGS(r->path),
		   STR_ARGS(r->query), (unsigned long long)r->pool_uid, r->peer, r->body.n);
	if (str_eq(r->path, STR("/large")) && buf_reserve(&body, FIXTURE_BIG)) {
		memset(body.p + body.n, 'x', FIXTURE_BIG);
		body.n += FIXTURE_BIG;
	}
	reply_.body = buf_str(&body);
	if (str_eq(r->path, STR("/follow"))) {
		reply_.more = true;
		f->stream_id = r->id;
	}
	gateway_api_reply(f->g, r->id, &reply_);
	gateway_api_free(r);
	buf_done(&body);
	return 0;
}

struct fake_dial {
	struct loop_deferred deferred;
	int fd, error;
	gateway_dialed *done;
	void *arg;
};

static void dial_over(struct loop_deferred *deferred)
{
	struct fake_dial d = *(struct fake_dial *)deferred;

	free(deferred);
	d.done(d.arg, d.fd, d.fd < 0 ? d.error : 0);
}

static int control_dial(void *arg, struct loop *l, unsigned loop, uint64_t sandbox, uint32_t timeout_ms,
			gateway_dialed *done, void *done_arg)
{
	struct fixture *f = arg;
	struct fake_dial *d = calloc(1, sizeof *d);

	(void)loop, (void)sandbox, (void)timeout_ms;
	f->dials++;
	d->deferred.run = dial_over;
	d->done = done;
	d->arg = done_arg;
	d->error = f->dial_error ? f->dial_error : -ECONNREFUSED;
	d->fd = f->refuse_dials ? -1 : client_connect(f->backend);
	loop_defer(l, &d->deferred);
	return 0;
}

void fixture_config(struct fixture *f, struct gateway_config *ret)
{
	f->node = 1;
	f->owner = 1;
	f->generation = 1000;
	f->sandbox = 500;
	*ret = (struct gateway_config){.n_loops = 2,
				       .node = 1,
				       .incarnation = 42,
				       .post = control_post,
				       .admit = control_admit,
				       .api = control_api,
				       .dial = control_dial,
				       .arg = f};
}

void fixture_publish(struct fixture *f, uint16_t peer_port)
{
	struct view *v = view_new();
	struct view_pool pool = {.uid = FIXTURE_POOL,
				 .subscription = STR("s1"),
				 .resource_group = STR("g1"),
				 .name = STR("pool"),
				 .host = STR(FIXTURE_HOST),
				 .scope = STR(FIXTURE_SCOPE),
				 .queue_timeout_ms = f->queue_ms ? f->queue_ms : 3000,
				 .request_timeout_ms = f->silence_ms ? f->silence_ms : 20000,
				 .cooldown_ms = 500};
	struct view_node node = {.id = 2};
	struct sockaddr_in *a = (struct sockaddr_in *)&node.peer;

	assert_int_equal(view_add_pool(v, &pool), 0);
	pool.uid = FIXTURE_OTHER_POOL;
	pool.name = STR("other");
	pool.host = STR("other.env.region.example.test");
	assert_int_equal(view_add_pool(v, &pool), 0);
	*a = (struct sockaddr_in){.sin_family = AF_INET,
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
				  .sin_port = htons(peer_port)};
	if (peer_port)
		assert_int_equal(view_add_node(v, &node), 0);
	gateway_publish(f->g, v);
}

void fixture_event(struct fixture *f, unsigned type)
{
	struct msg_session_event event = {
		.pool = FIXTURE_POOL, .generation = f->generation, .sandbox = f->sandbox};

	for (unsigned loop = 0; loop < 2; loop++) {
		struct envelope e = {.from = {.kind = ADDRESS_GATEWAY, .node = 1, .key = loop},
				     .correlation = 5};
		reply(f, &e, (uint16_t)type, &event);
	}
}

/* --- the client --- */

int client_connect(uint16_t port)
{
	struct sockaddr_in a = {
		.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;
	struct timeval patience = {.tv_sec = 30};

	if (connect(fd, (struct sockaddr *)&a, sizeof a)) {
		close(fd);
		return -1;
	}
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
	return fd;
}

void client_send(int fd, const char *text)
{
	send_all(fd, text, strlen(text));
}

void client_send_bytes(int fd, const void *p, size_t n)
{
	send_all(fd, p, n);
}

size_t client_read(int fd, char *to, size_t size, const char *until)
{
	size_t n = 0;

	to[0] = 0;
	while (n < size - 1 && (!until || !strstr(to, until))) {
		ssize_t k = recv(fd, to + n, size - 1 - n, 0);
		if (k <= 0)
			break;
		n += (size_t)k;
		to[n] = 0;
	}
	return n;
}

void client_ask(int fd, const char *request, char *answer, size_t size)
{
	size_t n = 0, want = size - 1;
	char *end = NULL;

	client_send(fd, request);
	answer[0] = 0;
	while (n < want) {
		ssize_t k = recv(fd, answer + n, want - n, 0);
		if (k <= 0)
			return;
		n += (size_t)k;
		answer[n] = 0;
		if (end || !(end = strstr(answer, "\r\n\r\n"))) {
			if (end && strstr(answer, "Transfer-Encoding: chunked") &&
			    strstr(end, "\r\n0\r\n\r\n"))
				return;
			continue;
		}
		const char *length = strstr(answer, "Content-Length: ");
		if (length && length < end)
			want = (size_t)(end + 4 - answer) + strtoul(length + 16, NULL, 10);
		else if (!strstr(answer, "Transfer-Encoding: chunked") || strstr(end, "\r\n0\r\n\r\n"))
			return;
	}
}

unsigned answer_status(const char *answer)
{
	unsigned status = 0;

	sscanf(answer, "HTTP/1.1 %u", &status);
	return status;
}
