/* mutate.c -- one to four steps a message: bytes replaced, put in or taken out; lines doubled, taken out, moved, or taken from
 * another message or a list of the known tricks. */
#include "mutate.h"

#include <string.h>

struct text {
	char *p;
	size_t n, size;
};

static uint64_t draw(struct mutate_source *m, uint64_t below)
{
	uint64_t z = m->state += 0x9e3779b97f4a7c15;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	return (z ^ (z >> 31)) % below;
}

static void replace(struct text *t, size_t at, size_t n, struct str with)
{
	if (t->n - n + with.n > t->size)
		return;
	memmove(t->p + at + with.n, t->p + at + n, t->n - at - n);
	if (with.n > 0)
		memmove(t->p + at, with.p, with.n);
	t->n = t->n - n + with.n;
}

/* A line with its end. */
static struct str line_of(struct mutate_source *m, struct str s)
{
	size_t from = s.n ? (size_t)draw(m, s.n) : 0, to = from;

	while (from > 0 && s.p[from - 1] != '\n')
		from--;
	while (to < s.n && s.p[to] != '\n')
		to++;
	return str_slice(s, from, to < s.n ? to + 1 : to);
}

static const char *const lines[] = {
	"Content-Length: 3\r\n",
	"Content-Length: 0\r\n",
	"Content-Length: +3\r\n",
	"Content-Length: 3, 3\r\n",
	"Content-Length: 3 3\r\n",
	"Content-Length: 0x3\r\n",
	"Content-Length: 18446744073709551619\r\n",
	"content-length:3\r\n",
	"Content-Length : 3\r\n",
	"Content_Length: 3\r\n",
	"Transfer-Encoding: chunked\r\n",
	"transfer-encoding:CHUNKED\r\n",
	"Transfer-Encoding: identity\r\n",
	"Transfer-Encoding: chunked, identity\r\n",
	"Transfer-Encoding: identity, chunked\r\n",
	"Transfer-Encoding: chunked, chunked\r\n",
	"Transfer-Encoding: ,chunked\r\n",
	"Transfer-Encoding: \"chunked\"\r\n",
	"Transfer-Encoding: x\r\n chunked\r\n",
	"Transfer-Encoding:\x0b chunked\r\n",
	"Transfer-Encoding : chunked\r\n",
	"Transfer-Encoding\r\n : chunked\r\n",
	"Transfer-Encoding: chunked;q=1\r\n",
	"Transfer-Encoding:\r\n",
	"Host: other\r\n",
	"Host: a, b\r\n",
	"Host:\r\n",
	"Connection: close\r\n",
	"Connection: keep-alive, Host\r\n",
	"Connection: Content-Length\r\n",
	"Connection: upgrade\r\n",
	"Upgrade: websocket\r\n",
	"Expect: 100-continue\r\n",
	"X: a\r\n\tb\r\n",
	"X: a\rY: b\r\n",
	"X: a\nY: b\r\n",
	"\r\n",
	"\n",
	"0\r\n\r\n",
	"3;a=\"b\r\nabc\r\n",
	"GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n",
};

static const char *const bits[] = {
	"\r\n",  "\n",      "\r",    " ",        "\t",  ":",   ",",   ";",     "\x0b", "\x0c", "\x7f", "\x80",
	"\xff",  "\"",      "0",     "1",        "9",   "-",   "+",   "x",     "HTTP", "/1.0", "/1.1", "/2.0",
	"HEAD ", "chunked", "\r\n ", "\r\n\r\n", "?",   "#",   "%",   "//",    "*",    "@",    "A",    "f",
	"_",     "GET ",    "POST ", "100",      "204", "304", "101", "close", "\\",   "[",    "|",
};

static struct str one_of(struct mutate_source *m, const char *const *list, size_t n)
{
	size_t i = (size_t)draw(m, n + n / 16 + 1);

	return i < n ? str_of(list[i]) : (struct str){"\0", 1};
}

static void step(struct mutate_source *m, struct text *t)
{
	char copy[4096];
	struct str whole = {t->p, t->n}, line = line_of(m, whole), with;
	size_t at = t->n ? (size_t)draw(m, t->n) : 0;

	switch (draw(m, 9)) {
	case 0:
		with = one_of(m, bits, sizeof bits / sizeof *bits);
		replace(t, at, t->n ? 1 : 0, with);
		return;
	case 1:
		replace(t, at, 0, one_of(m, bits, sizeof bits / sizeof *bits));
		return;
	case 2:
		replace(t, at, t->n ? 1 : 0, STR_NONE);
		return;
	case 3: /* a line twice */
	case 4: /* a line elsewhere */
		if (line.n > sizeof copy)
			return;
		memcpy(copy, line.p, line.n);
		with = (struct str){copy, line.n};
		if (draw(m, 2))
			replace(t, (size_t)(line.p - t->p), line.n, STR_NONE);
		line = line_of(m, (struct str){t->p, t->n});
		replace(t, t->n ? (size_t)(line.p - t->p) : 0, 0, with);
		return;
	case 5:
		with = line_of(m, m->messages[draw(m, m->n_messages)]);
		replace(t, t->n ? (size_t)(line.p - t->p) : 0, 0, with);
		return;
	case 6:
	case 7: /* before a line, or in the place of one */
		replace(t, t->n ? (size_t)(line.p - t->p) : 0, draw(m, 2) ? line.n : 0,
			one_of(m, lines, sizeof lines / sizeof *lines));
		return;
	default:
		if (t->n && ((t->p[at] | 0x20) >= 'a' && (t->p[at] | 0x20) <= 'z'))
			t->p[at] ^= 0x20;
		else if (t->n)
			t->p[at] = (char)draw(m, 256);
		return;
	}
}

size_t mutate(struct mutate_source *m, struct str from, char *p, size_t size)
{
	struct text t = {p, from.n < size ? from.n : size, size};

	memcpy(p, from.p, t.n);
	for (uint64_t steps = 1 + draw(m, 4); steps; steps--)
		step(m, &t);
	return t.n;
}
