#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include <poll.h>
#include <string.h>
#include <sys/socket.h>

#include "played_agent.h"

int agent = -1;

void say(const void *p, size_t n)
{
	assert_int_equal(send(agent, p, n, MSG_NOSIGNAL), n);
}

void say_frame(enum guest_frame_type type, const struct codec_type *codec, const void *body)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(guest_frame_write(&b, type, codec, body), 0);
	say(b.p, b.n);
}

static char heard[GUEST_FRAME_MAX];
static size_t n_heard, before; /* `before`: of the last frame */

/* The next frame of the host; its body stays until the next call. */
struct guest_frame hear(void)
{

	struct guest_frame f;
	size_t size = 0;

	memmove(heard, heard + before, n_heard - before);
	n_heard -= before;
	while (guest_frame_read(heard, n_heard, GUEST_FRAME_MAX, &f, &size, NULL) == 0 && size == 0) {
		struct pollfd p = {agent, POLLIN, 0};

		assert_int_equal(poll(&p, 1, WAIT_MS), 1);
		ssize_t n = recv(agent, heard + n_heard, sizeof heard - n_heard, 0);

		assert_true(n > 0);
		n_heard += (size_t)n;
	}
	before = size;
	return f;
}

void forget_heard(void)
{
	n_heard = before = 0;
}

void add_hello(struct buf *to, uint8_t state)
{
	struct guest_hello_answer a = {.release = STR("6.1.0-played"), .state = state};
	CLEANUP_ARENA struct arena arena = {0};
	struct guest_frame f = hear();
	struct guest_hello hello;

	assert_int_equal(f.type, GUEST_HELLO);
	assert_int_equal(guest_frame_body(&f, &guest_hello_codec, &arena, &hello, NULL), 0);
	a.nonce = hello.nonce;
	assert_int_equal(guest_frame_write(to, GUEST_HELLO, &guest_hello_answer_codec, &a), 0);
}

void answer_hello(uint8_t state)
{
	CLEANUP_BUF struct buf b = {0};

	add_hello(&b, state);
	say(b.p, b.n);
}

void say_output(uint8_t stream, const char *text)
{
	struct guest_output o = {.stream = stream, .bytes = str_of(text)};

	say_frame(GUEST_OUTPUT, guest_body_codec[GUEST_OUTPUT], &o);
}
