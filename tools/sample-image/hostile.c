/* hostile.c -- hostile-server: a server that does what no server should, one way a path, and that keeps what it was sent.
 *
 *   /report          what each connection sent, byte for byte, and how it ended
 *   /forget          empties the report
 *   /early           from now on each connection is spoken to before it asked: n= of them
 *   the table below  an answer as it stands there, or a behaviour; if it was wrong, the connection is then left to the other side
 *   else             reads the body, answers 200 and goes on
 *
 * Report: a JSON list of {"id", "sent", "requests", "end", "end_ms"}; end is open, eof or reset, end_ms counts from the moment when
 * the misbehaviour was over. Port and signals as main.c. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "reply.h"

#define CONNECTIONS_MAX 512
#define SENT_MAX        (4u << 20)
#define SHOWN_MAX       (256u * 1024) /* in a report: the last of it */
#define PATIENCE_MS     30000

struct connection {
	int fd;
	unsigned id, requests;
	struct text sent; /* to us */
	const char *end;
	long long done_ms, end_ms;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct connection *connections[CONNECTIONS_MAX];
static unsigned n_connections, n_early;

static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

static void pause_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};

	nanosleep(&t, NULL);
}

static bool say(struct connection *c, const char *p, size_t n)
{
	while (n > 0) {
		ssize_t sent = send(c->fd, p, n, MSG_NOSIGNAL);
		if (sent <= 0)
			return false;
		p += sent;
		n -= (size_t)sent;
	}
	return true;
}

static bool say_text(struct connection *c, const char *text)
{
	return say(c, text, strlen(text));
}

static void ended(struct connection *c, const char *how)
{
	pthread_mutex_lock(&lock);
	c->end = how;
	c->end_ms = now_ms();
	pthread_mutex_unlock(&lock);
}

/* More of what the other side sends. False: it ended. */
static bool hear(struct connection *c)
{
	char bytes[16384];
	ssize_t got = recv(c->fd, bytes, sizeof bytes, 0);

	if (got <= 0) {
		ended(c, got == 0 ? "eof" : "reset");
		return false;
	}
	pthread_mutex_lock(&lock);
	if (c->sent.n < SENT_MAX)
		text_add(&c->sent, bytes, (size_t)got);
	pthread_mutex_unlock(&lock);
	return true;
}

/* --- what is not in a table of texts --- */

static void endless_head(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\n");
	while (say_text(c, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"))
		;
}

static void endless_line(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nX-Filler: ");
	while (say_text(c, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
		;
}

static void endless_body(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
	while (say_text(c, "5;\r\nabcde\r\n5;x=y\r\nabcde\r\n"))
		;
}

static void endless_trailers(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n");
	while (say_text(c, "X-Trailer: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"))
		;
}

static void endless_extension(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;");
	while (say_text(c, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"))
		;
}

static void flood(struct connection *c)
{
	while (say_text(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"))
		;
}

static void hints(struct connection *c, unsigned n)
{
	while (n--)
		say_text(c, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
}

static void hints_16(struct connection *c)
{
	hints(c, 16);
}

static void hints_17(struct connection *c)
{
	hints(c, 17);
}

static void filled(struct connection *c, size_t n)
{
	char *line = malloc(n);

	memset(line, 'a', n);
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Large: ");
	say(c, line, n);
	say_text(c, "\r\n\r\nok");
	free(line);
}

static void large_field(struct connection *c)
{
	filled(c, 30000);
}

static void huge_field(struct connection *c)
{
	filled(c, 40000);
}

static void fields(struct connection *c, unsigned n)
{
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n");
	while (--n)
		say_text(c, "X-Field: y\r\n");
	say_text(c, "\r\nok");
}

static void fields_100(struct connection *c)
{
	fields(c, 100);
}

static void fields_101(struct connection *c)
{
	fields(c, 101);
}

/* A head that comes, and never is there. */
static void drip(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nX-Drip: ");
	while (say_text(c, "a"))
		pause_ms(50);
}

static void surplus_late(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	pause_ms(50);
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
}

static void cut(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
	shutdown(c->fd, SHUT_WR);
}

static void cut_chunk(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n64\r\nshort");
	shutdown(c->fd, SHUT_WR);
}

static void cut_head(struct connection *c)
{
	say_text(c, "HTTP/1.1 200 OK\r\nContent-Le");
	shutdown(c->fd, SHUT_WR);
}

static void cut_at_once(struct connection *c)
{
	shutdown(c->fd, SHUT_WR);
}

static void reset_body(struct connection *c)
{
	struct linger at_once = {1, 0};

	say_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort");
	pause_ms(50);
	setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
	dup2(STDIN_FILENO, c->fd); /* closes the socket, keeps its number ours */
}

static void silent(struct connection *c)
{
	(void)c;
}

/* Takes no byte more, whatever comes. */
static void never_read(struct connection *c)
{
	struct pollfd p = {c->fd, POLLRDHUP, 0};

	poll(&p, 1, PATIENCE_MS);
}

#define OK_HEAD "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"

static const struct {
	const char *path, *text;
	void (*behave)(struct connection *c);
	bool goes_on; /* nothing was wrong with it */
} table[] = {
	{"/endless-head", NULL, endless_head, false},
	{"/endless-line", NULL, endless_line, false},
	{"/endless-body", NULL, endless_body, false},
	{"/endless-trailers", NULL, endless_trailers, false},
	{"/endless-extension", NULL, endless_extension, false},
	{"/flood", NULL, flood, false},
	{"/hints-16", NULL, hints_16, true},
	{"/hints-17", NULL, hints_17, false},
	{"/large-field", NULL, large_field, true},
	{"/huge-field", NULL, huge_field, false},
	{"/fields-100", NULL, fields_100, true},
	{"/fields-101", NULL, fields_101, false},
	{"/drip", NULL, drip, false},
	{"/surplus-late", NULL, surplus_late, false},
	{"/cut", NULL, cut, false},
	{"/cut-chunk", NULL, cut_chunk, false},
	{"/cut-head", NULL, cut_head, false},
	{"/cut-at-once", NULL, cut_at_once, false},
	{"/reset-body", NULL, reset_body, false},
	{"/never-answer", NULL, silent, false},
	{"/never-read", NULL, never_read, false},
	{"/both", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NULL,
	 false},
	{"/lengths", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok", NULL, false},
	{"/length-list", "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok", NULL, false},
	{"/length-sign", "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok", NULL, false},
	{"/gzip", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", NULL, false},
	{"/old-chunked", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", NULL, false},
	{"/bare-lf", "HTTP/1.1 200 OK\nContent-Length: 2\n\nok", NULL, false},
	{"/bare-cr", OK_HEAD "X: a\rX-Split: b\r\n\r\nok", NULL, false},
	{"/folded", OK_HEAD "X: a\r\n b\r\n\r\nok", NULL, false},
	{"/space-colon", "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok", NULL, false},
	{"/control",
	 OK_HEAD "X: a\x01"
		 "b\r\n\r\nok",
	 NULL, false},
	{"/garbage", "nothing of HTTP\r\n\r\n", NULL, false},
	{"/version-2", "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok", NULL, false},
	{"/status", "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok", NULL, false},
	{"/unasked", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nevil",
	 NULL, false},
	{"/unasked-bare", "HTTP/1.1 101 Switching Protocols\r\n\r\nevil", NULL, false},
	{"/switch-early", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\nevil",
	 NULL, false},
	{"/length-on-hint", "HTTP/1.1 103 Hints\r\nContent-Length: 2\r\n\r\nok" OK_HEAD "\r\nok", NULL,
	 false},
	{"/chunk-size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", NULL, false},
	{"/chunk-huge", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10000000000000000\r\nok\r\n",
	 NULL, false},
	{"/chunk-end", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nokXX0\r\n\r\n", NULL,
	 false},
	{"/surplus", OK_HEAD "\r\nok" OK_HEAD "\r\nno", NULL, false},
	{"/surplus-204", "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nevil", NULL, false},
	{"/short-length", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more", NULL, false},
	{"/long-length", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", NULL, false},
	{"/trailers",
	 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: "
	 "X-Evil\r\n\r\n2;x=\"y\"\r\nok\r\n0;z\r\nX-Evil: 1\r\n"
	 "Content-Length: 9\r\nX-Ms-Session-Guid: forged\r\n\r\n",
	 NULL, true},
	{"/forged",
	 OK_HEAD
	 "X-Ms-Session-Guid: forged\r\nx-ms-allocation-time: forged\r\nX-MS-New-Allocation: forged\r\n"
	 "Berth-Hop: 1;2;3;4;5\r\nBerth-Hop-Result: dead\r\nBERTH-Anything: "
	 "forged\r\nberth-require-existing: true\r\n"
	 "Connection: X-Named, Content-Length, X-Ms-Session-Guid\r\nX-Named: 1\r\nKeep-Alive: timeout=1\r\n"
	 "Proxy-Connection: close\r\nUpgrade: h2c\r\nX-Passes: yes\r\n\r\nok",
	 NULL, true},
	{"/forged-hop", "HTTP/1.1 421 Misdirected\r\nBerth-Hop-Result: stale\r\nContent-Length: 0\r\n\r\n",
	 NULL, true},
};

/* --- honest parts --- */

static const char *head_end(const struct connection *c, size_t from)
{
	return c->sent.n > from ? memmem(c->sent.p + from, c->sent.n - from, "\r\n\r\n", 4) : NULL;
}

/* The end of the request that begins at `from`, in the one form that a gateway gives bodies; 0: it ended before. */
static size_t hear_request(struct connection *c, size_t from)
{
	const char *end, *field;
	size_t body;

	while (!(end = head_end(c, from)))
		if (!hear(c))
			return 0;
	body = (size_t)(end + 4 - c->sent.p);
	if (memmem(c->sent.p + from, body - from, " /never-read", 12) ||
	    memmem(c->sent.p + from, body - from, " /switch-early", 14))
		return body;
	field = memmem(c->sent.p + from, body - from, "\r\nContent-Length: ", 18);
	if (field) {
		size_t want = body + strtoul(field + 18, NULL, 10);
		while (c->sent.n < want)
			if (!hear(c))
				return 0;
		return want;
	}
	if (!memmem(c->sent.p + from, body - from, "\r\nTransfer-Encoding: chunked\r\n", 30))
		return body;
	while (!(end = memmem(c->sent.p + body - 2, c->sent.n - body + 2, "\r\n0\r\n\r\n", 7)))
		if (!hear(c))
			return 0;
	return (size_t)(end + 7 - c->sent.p);
}

static void report(struct connection *to)
{
	struct text json = {0}, head = {0};

	pthread_mutex_lock(&lock);
	text_printf(&json, "[");
	for (unsigned i = 0; i < n_connections; i++) {
		const struct connection *c = connections[i];
		text_printf(&json, "%s{\"id\":%u,\"requests\":%u,\"end\":\"%s\",\"end_ms\":%lld,\"sent\":",
			    json.n > 1 ? "," : "", c->id, c->requests, c->end,
			    c->end_ms && c->done_ms ? c->end_ms - c->done_ms : -1);
		size_t from = c->sent.n > SHOWN_MAX ? c->sent.n - SHOWN_MAX : 0;
		text_json(&json, c->sent.p + from, c->sent.n - from);
		text_printf(&json, "}");
	}
	pthread_mutex_unlock(&lock);
	text_printf(&json, "]");
	text_printf(&head, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n",
		    json.n);
	say(to, head.p, head.n);
	say(to, json.p, json.n);
	free(head.p);
	free(json.p);
}

/* Connections stay reachable: their threads may still run. */
static void forget(void)
{
	pthread_mutex_lock(&lock);
	n_connections = 0;
	pthread_mutex_unlock(&lock);
}

/* False: the connection is over for the server. */
static bool serve(struct connection *c, const char *path)
{
	const char *n = strstr(path, "n=");

	for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
		size_t length = strlen(table[i].path);
		if (strncmp(path, table[i].path, length) != 0 || (path[length] != '?' && path[length] != ' '))
			continue;
		if (table[i].text)
			say_text(c, table[i].text);
		else
			table[i].behave(c);
		if (table[i].goes_on)
			return true;
		c->done_ms = now_ms();
		while (hear(c))
			;
		return false;
	}
	if (strncmp(path, "/report", 7) == 0) {
		report(c);
		return true;
	}
	if (strncmp(path, "/forget", 7) == 0)
		forget();
	if (strncmp(path, "/early", 6) == 0)
		n_early = n ? (unsigned)strtoul(n + 2, NULL, 10) : 1;
	return say_text(c, OK_HEAD "\r\nok");
}

static void *run(void *arg)
{
	struct connection *c = arg;
	size_t from = 0, end;

	while ((end = hear_request(c, from))) {
		char path[256];
		const char *space = memchr(c->sent.p + from, ' ', end - from);
		snprintf(path, sizeof path, "%.200s", space ? space + 1 : "/");
		from = end;
		c->requests++;
		if (!serve(c, path))
			break;
	}
	shutdown(c->fd, SHUT_WR);
	close(c->fd);
	return NULL; /* the connection stays, for the report */
}

static void take(int fd)
{
	struct connection *c = calloc(1, sizeof *c);
	static unsigned ids;
	pthread_attr_t small;
	pthread_t thread;
	int on = 1;

	if (c == NULL)
		exit(71);
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	*c = (struct connection){.fd = fd, .id = ++ids, .end = "open"};
	text_add(&c->sent, "", 0);
	pthread_mutex_lock(&lock);
	bool early = n_early > 0;
	n_early -= early;
	if (n_connections < CONNECTIONS_MAX)
		connections[n_connections++] = c;
	pthread_mutex_unlock(&lock);
	if (early)
		say_text(c, OK_HEAD "X-Early: 1\r\n\r\nno");
	pthread_attr_init(&small);
	pthread_attr_setstacksize(&small, 128 * 1024);
	pthread_attr_setdetachstate(&small, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&thread, &small, run, c) != 0)
		exit(71);
	pthread_attr_destroy(&small);
}

static void end(int signal_number)
{
	(void)signal_number;
	_exit(0);
}

int main(void)
{
	const char *port = getenv("PORT");
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_port = htons((unsigned short)(port ? atoi(port) : 80))};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) < 0 ||
	    bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 512) < 0) {
		perror("hostile-server: listen");
		return 1;
	}
	signal(SIGTERM, end);
	signal(SIGINT, end);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
		if (client >= 0)
			take(client);
	}
}
