#include "conversation.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "core/clock.h"
#include "core/must.h"
#include "wire/sandboxd.h"

/* A machine that was saved while it wrote brings at most what its queues held. */
#define SKIPPED_MAX     (8u << 20)
#define OOM_LINE_MS     1000
#define HELLO_FRAME_MAX (GUEST_FRAME_HEAD + GUEST_RELEASE_BYTES + 32)
#define ARENA_BYTES     (4 * GUEST_ANSWER_FRAME_MAX)

union body {
	struct guest_failed failed;
	struct guest_output output;
	struct guest_exit exit;
};

void conversation_begin(struct conversation *c)
{
	c->out.name = "stdout";
	c->err.name = "stderr";
	c->exit.how = SANDBOX_EXIT_UNKNOWN;
}

static void copy_text(struct str from, char *to, size_t size)
{
	size_t n = from.n < size - 1 ? from.n : size - 1;

	if (n > 0)
		memcpy(to, from.p, n);
	to[n] = '\0';
}

static void break_off(struct conversation *c, const char *why)
{
	char line[GUEST_MESSAGE_BYTES + 64];

	c->status.state = TALK_BROKEN;
	copy_text(str_of(why), c->status.message, sizeof c->status.message);
	snprintf(line, sizeof line, "the machine's agent broke the protocol: %s", why);
	log_writer_line(&c->log, "system", str_of(line));
}

bool conversation_is_over(const struct conversation *c)
{
	return c->status.state >= TALK_FAILED;
}

/* -- HELLO ---------------------------------------------------------------------------------------------------- */

enum hello { HELLO_NO, HELLO_PART, HELLO_YES };

static enum hello read_hello(struct conversation *c, const char *at, size_t n, size_t *ret_size)
{
	CLEANUP_ARENA struct arena arena = {.max = ARENA_BYTES};
	struct guest_hello_answer a;
	struct guest_frame f;

	if (guest_frame_read(at, n, HELLO_FRAME_MAX, &f, ret_size, NULL) < 0 ||
	    (n > 3 && at[3] != GUEST_HELLO))
		return HELLO_NO;
	if (*ret_size == 0)
		return HELLO_PART;
	if (guest_frame_body(&f, &guest_hello_answer_codec, &arena, &a, NULL) < 0 || a.nonce != c->nonce)
		return HELLO_NO;
	copy_text(a.release, c->status.release, sizeof c->status.release);
	c->status.state = a.state == GUEST_IDLE ? TALK_IDLE : TALK_RUNNING;
	c->started = a.state != GUEST_IDLE;
	return HELLO_YES;
}

static bool is_old_version(const char *at, size_t n)
{
	return n >= 4 && at[0] == 'B' && at[1] == 'G' && at[2] != GUEST_PROTOCOL && at[3] == GUEST_HELLO;
}

/* Whatever stands before the answer to our HELLO was meant for somebody else, see protocol.h. */
static size_t look_for_hello(struct conversation *c)
{
	size_t size, kept = c->n;

	for (size_t at = 0; at < c->n; at++) {
		enum hello h = c->in[at] == 'B' ? read_hello(c, c->in + at, c->n - at, &size) : HELLO_NO;

		if (h == HELLO_YES)
			return at + size;
		if (h == HELLO_PART && at < kept)
			kept = at; /* it may become the answer, and so may a later one */
	}
	if (c->skipped == 0 && is_old_version(c->in, c->n))
		break_off(c, "it speaks another version of the protocol");
	c->skipped += kept;
	if (c->skipped > SKIPPED_MAX)
		break_off(c, "no answer to the hello in what it says");
	return kept;
}

/* -- Frames ---------------------------------------------------------------------------------------------------- */

static void take_exit(struct conversation *c, const struct guest_exit *e)
{
	c->exit.how = e->signalled ? SANDBOX_EXIT_SIGNAL : SANDBOX_EXIT_CODE;
	c->exit.value = e->value;
	/* 137: a shell says so of a child that was killed. */
	if (e->oom && ((e->signalled && e->value == SIGKILL) || (!e->signalled && e->value == 128 + SIGKILL)))
		c->exit.how = SANDBOX_EXIT_OOM;
	c->status.state = TALK_OVER;
}

static void take_failed(struct conversation *c, const struct guest_failed *f)
{
	c->exit.how = SANDBOX_EXIT_CODE;
	c->exit.value = f->status;
	c->status.state = TALK_FAILED;
	copy_text(f->message, c->status.message, sizeof c->status.message);
}

static void take_oom(struct conversation *c)
{
	uint64_t now = clock_boot_ms();

	if (c->oom_line_ms != 0 && now - c->oom_line_ms < OOM_LINE_MS)
		return;
	c->oom_line_ms = now;
	log_writer_line(&c->log, "system", STR("a process of this sandbox was killed: out of memory"));
}

static bool may_come(const struct conversation *c, uint8_t type)
{
	if (c->status.state == TALK_IDLE)
		return c->started && (type == GUEST_RUNNING || type == GUEST_FAILED);
	must(c->status.state == TALK_RUNNING);
	return type == GUEST_OUTPUT || type == GUEST_OOM || type == GUEST_EXIT;
}

static void take_frame(struct conversation *c, const struct guest_frame *f)
{
	CLEANUP_ARENA struct arena arena = {.max = ARENA_BYTES};
	struct err err = {0};
	union body body;
	char why[64];

	if (!may_come(c, f->type)) {
		snprintf(why, sizeof why, "a frame of type %u out of turn", f->type);
		break_off(c, why);
		return;
	}
	if (guest_frame_body(f, guest_body_codec[f->type], &arena, &body, &err) < 0) {
		break_off(c, err.message);
		return;
	}
	if (f->type == GUEST_OUTPUT)
		log_writer_add(&c->log, body.output.stream == 2 ? &c->err : &c->out, body.output.bytes.p,
			       body.output.bytes.n);
	else if (f->type == GUEST_OOM)
		take_oom(c);
	else if (f->type == GUEST_RUNNING)
		c->status.state = TALK_RUNNING;
	else if (f->type == GUEST_FAILED)
		take_failed(c, &body.failed);
	else
		take_exit(c, &body.exit);
}

/* -- Bytes ---------------------------------------------------------------------------------------------------- */

char *conversation_room(struct conversation *c, size_t *ret_room)
{
	*ret_room = sizeof c->in - c->n;
	must(*ret_room > 0);
	return c->in + c->n;
}

bool conversation_take(struct conversation *c, size_t n)
{
	uint32_t before = c->status.state;
	struct guest_frame f;
	struct err err = {0};
	size_t at = 0, size = 1;

	c->n += n;
	must(c->n <= sizeof c->in);
	if (before == TALK_SILENT)
		at = look_for_hello(c);
	while (c->status.state != TALK_SILENT && !conversation_is_over(c) && size > 0) {
		if (guest_frame_read(c->in + at, c->n - at, GUEST_ANSWER_FRAME_MAX, &f, &size, &err) < 0)
			break_off(c, err.message);
		else if (size > 0)
			take_frame(c, &f);
		at += size;
	}
	if (conversation_is_over(c))
		at = c->n;
	memmove(c->in, c->in + at, c->n - at);
	c->n -= at;
	return c->status.state != before;
}

void conversation_end(struct conversation *c)
{
	log_writer_end(&c->log, &c->out);
	log_writer_end(&c->log, &c->err);
}
