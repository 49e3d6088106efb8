#include "control/moving/copies.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/links/sandboxd_client.h"
#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"
#include "crypto/digest.h"

#define CALL_MS     10000               /* of sandboxd */
#define MARK        (UINT64_C(1) << 62) /* in correlations, so that no other question of control has them */
#define SOURCES_MAX 8u
#define TEXT_SIZE   256

/* A file that pieces are given from. */
struct copy_source {
	uint64_t sandbox, save, bytes, used_ms;
	int fd; /* -1: free */
};

struct copy {
	struct copy *next;
	struct control *control;
	struct address to; /* the actor */
	uint64_t correlation;
	uint64_t number; /* of our questions */
	uint64_t sandbox, save, source;
	uint64_t bytes, asked, taken; /* taken: written, from the beginning */
	uint64_t heard_ms;
	int fd;                     /* -1: sandboxd has not given it yet */
	bool waiting;               /* for sandboxd */
	char first[COPY_PIECE_MAX]; /* until there is a file */
	size_t n_first;
};

struct copies {
	struct copy *first;
	unsigned n;
	uint64_t numbers;
	struct copy_source sources[SOURCES_MAX];
};

/* As much as there is room for. */
static void text_of(struct str s, char ret[TEXT_SIZE])
{
	if (str_copy(str_slice(s, 0, s.n < TEXT_SIZE - 1 ? s.n : TEXT_SIZE - 1), ret, TEXT_SIZE) < 0)
		ret[0] = '\0';
}

static struct copies *copies_of(struct control *c)
{
	if (c->copies == NULL) {
		c->copies = calloc(1, sizeof *c->copies);
		must(c->copies != NULL);
		for (unsigned i = 0; i < SOURCES_MAX; i++)
			c->copies->sources[i].fd = -1;
	}
	return c->copies;
}

/* -- The target -------------------------------------------------------------------------------------------------- */

static void finish(struct copy *copy, int code, const char *why)
{
	struct control *c = copy->control;
	struct sandboxd_reply reply = {.code = code, .message = str_of(why)};
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e = control_message(c, &bytes, copy->to, MSG_DRIVEN, &reply);

	for (struct copy **at = &c->copies->first; *at != NULL; at = &(*at)->next) {
		if (*at == copy) {
			*at = copy->next;
			break;
		}
	}
	c->copies->n--;
	e.correlation = copy->correlation;
	if (copy->fd >= 0)
		close(copy->fd);
	crypto_wipe(copy->first, copy->n_first);
	free(copy);
	control_deliver(c, &e);
}

static void ask(struct copy *copy)
{
	struct msg_copy body = {.sandbox = copy->sandbox, .save = copy->save, .offset = copy->asked};
	CLEANUP_BUF struct buf bytes = {0};
	struct envelope e = control_message(
		copy->control, &bytes, (struct address){ADDRESS_CONTROL, copy->source, 0}, MSG_COPY, &body);

	e.correlation = copy->number | MARK;
	e.deadline_ms = clock_boot_ms() + COPY_QUIET_MS;
	copy->asked += COPY_PIECE_MAX;
	control_send(copy->control, &e);
}

static void ask_ahead(struct copy *copy)
{
	while (copy->asked < copy->bytes && copy->asked < copy->taken + COPY_AHEAD * COPY_PIECE_MAX)
		ask(copy);
}

static struct copy *find(struct control *c, uint64_t number)
{
	struct copy *copy = c->copies == NULL ? NULL : c->copies->first;

	while (copy != NULL && copy->number != number)
		copy = copy->next;
	return copy;
}

static void on_whole(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct copy *copy = find(context, (uint64_t)(uintptr_t)arg);
	char text[TEXT_SIZE];

	if (fd >= 0)
		close(fd);
	text_of(reply->message, text);
	if (copy != NULL)
		finish(copy, reply->code, text);
}

/* Behind what is there. */
static void take(struct copy *copy, const char *p, size_t n)
{
	struct control *c = copy->control;

	if (fd_write_all(copy->fd, p, n) < 0) {
		finish(copy, -EIO, "the copy cannot be written");
		return;
	}
	copy->taken += n;
	if (copy->taken < copy->bytes) {
		ask_ahead(copy);
		return;
	}
	struct sandboxd_save whole = {copy->sandbox, copy->save, copy->bytes};

	copy->waiting = true;
	sandboxd_client_call(c->sandboxd, SANDBOXD_RECEIVED, &whole, -1, loop_now(&c->loop) + CALL_MS,
			     on_whole, (void *)(uintptr_t)copy->number);
}

static void on_file(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct copy *copy = find(context, (uint64_t)(uintptr_t)arg);
	char text[TEXT_SIZE];

	text_of(reply->message, text);
	if (copy == NULL || reply->code < 0 || fd < 0) {
		if (fd >= 0)
			close(fd);
		if (copy != NULL)
			finish(copy, reply->code < 0 ? reply->code : -EIO, text);
		return;
	}
	copy->fd = fd;
	copy->waiting = false;
	copy->heard_ms = clock_boot_ms();
	take(copy, copy->first, copy->n_first);
}

static const char *fault(const struct copy *copy, const struct msg_copied *piece)
{
	uint8_t sum[SHA256_BYTES];
	uint64_t left = copy->bytes - copy->taken;

	if (piece->bytes == 0 || (copy->bytes != 0 && piece->bytes != copy->bytes) ||
	    piece->offset != copy->taken)
		return "a piece of the copy is out of turn";
	if (copy->bytes == 0)
		left = piece->bytes;
	if (piece->piece.n != (left < COPY_PIECE_MAX ? left : COPY_PIECE_MAX))
		return "a piece of the copy is of another length";
	crypto_sha256(piece->piece, sum);
	return piece->sum.n != sizeof sum || memcmp(piece->sum.p, sum, sizeof sum) != 0
		       ? "a piece of the copy is damaged"
		       : NULL;
}

static void piece_came(struct copy *copy, const struct msg_copied *piece)
{
	struct control *c = copy->control;
	const char *why = piece->code == 0 ? fault(copy, piece) : NULL;
	char text[TEXT_SIZE];

	text_of(piece->message, text);
	if (piece->code < 0 || why != NULL) {
		finish(copy, piece->code < 0 ? piece->code : -EBADMSG, why != NULL ? why : text);
		return;
	}
	copy->heard_ms = clock_boot_ms();
	if (copy->fd >= 0) {
		take(copy, piece->piece.p, piece->piece.n);
		return;
	}
	copy->bytes = piece->bytes;
	memcpy(copy->first, piece->piece.p, piece->piece.n);
	copy->n_first = piece->piece.n;
	copy->waiting = true;
	struct sandboxd_save file = {copy->sandbox, copy->save, copy->bytes};

	sandboxd_client_call(c->sandboxd, SANDBOXD_RECEIVE, &file, -1, loop_now(&c->loop) + CALL_MS, on_file,
			     (void *)(uintptr_t)copy->number);
}

void copies_fetch(struct control *c, const struct effect *e)
{
	struct copies *all = copies_of(c);
	struct copy *copy = all->n < COPIES_MAX ? calloc(1, sizeof *copy) : NULL;

	if (copy == NULL) {
		CLEANUP_BUF struct buf bytes = {0};
		struct sandboxd_reply reply = {.code = -EAGAIN,
					       .message = STR("too many sandboxes move to this node")};
		struct envelope refusal = control_message(c, &bytes, e->from, MSG_DRIVEN, &reply);

		refusal.correlation = e->correlation;
		control_deliver(c, &refusal);
		return;
	}
	*copy = (struct copy){.next = all->first,
			      .control = c,
			      .to = e->from,
			      .correlation = e->correlation,
			      .number = ++all->numbers,
			      .sandbox = e->sandbox,
			      .save = e->save,
			      .source = e->node,
			      .heard_ms = clock_boot_ms(),
			      .fd = -1};
	all->first = copy;
	all->n++;
	ask(copy);
}

bool copies_answered(struct control *c, const struct envelope *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct copy *copy;
	struct msg_copied piece = {.code = -EHOSTUNREACH, .message = STR("the source cannot be reached")};

	if ((e->correlation & MARK) == 0)
		return false;
	copy = find(c, e->correlation & ~MARK);
	if (copy == NULL || copy->source != e->from.node || copy->waiting)
		return true;
	if (e->type == MSG_COPIED &&
	    codec_decode(e->body.p, e->body.n, message_body_codec[MSG_COPIED], &arena, &piece, NULL) < 0)
		piece = (struct msg_copied){.code = -EBADMSG, .message = STR("a piece does not decode")};
	piece_came(copy, &piece);
	return true;
}

/* -- The source -------------------------------------------------------------------------------------------------- */

struct question {
	struct control *control;
	struct address asker;
	uint64_t correlation;
	struct msg_copy ask;
};

static void answer(struct control *c, const struct address *to, uint64_t correlation,
		   const struct msg_copied *piece)
{
	CLEANUP_BUF struct buf body = {0};
	struct envelope e = control_message(c, &body, *to, MSG_COPIED, piece);

	e.correlation = correlation;
	control_send(c, &e);
}

static bool may_have(const struct control *c, uint64_t node, const struct msg_copy *ask)
{
	const struct sandbox_row *row = state_sandbox(c->state, ask->sandbox);

	return row != NULL && row->node == c->config.node_id && row->rest == REST_SAVED &&
	       row->save == ask->save && row->target == node;
}

static struct copy_source *source_of(struct copies *all, const struct msg_copy *ask)
{
	for (unsigned i = 0; i < SOURCES_MAX; i++) {
		struct copy_source *s = &all->sources[i];

		if (s->fd >= 0 && s->sandbox == ask->sandbox && s->save == ask->save)
			return s;
	}
	return NULL;
}

static void give(struct control *c, struct copy_source *s, const struct question *q)
{
	static char bytes[COPY_PIECE_MAX];
	uint8_t sum[SHA256_BYTES];
	ssize_t n = pread(s->fd, bytes, sizeof bytes, (off_t)q->ask.offset);
	struct msg_copied piece = {
		.offset = q->ask.offset, .bytes = s->bytes, .sum = {(const char *)sum, sizeof sum}};

	s->used_ms = clock_boot_ms();
	piece.piece = (struct str){bytes, n < 0 ? 0 : (size_t)n};
	if (n < 0) {
		piece.code = -EIO;
		piece.message = STR("the file cannot be read");
	}
	crypto_sha256(piece.piece, sum);
	answer(c, &q->asker, q->correlation, &piece);
}

/* The one that nobody used for longest goes. */
static struct copy_source *keep(struct copies *all, const struct msg_copy *ask, int fd, uint64_t bytes)
{
	struct copy_source *s = &all->sources[0];

	for (unsigned i = 1; i < SOURCES_MAX && s->fd >= 0; i++) {
		if (all->sources[i].fd < 0 || all->sources[i].used_ms < s->used_ms)
			s = &all->sources[i];
	}
	if (s->fd >= 0)
		close(s->fd);
	*s = (struct copy_source){.sandbox = ask->sandbox, .save = ask->save, .bytes = bytes, .fd = fd};
	return s;
}

static void on_saved(void *context, void *arg, const struct sandboxd_reply *reply, int fd)
{
	struct control *c = context;
	struct question *q = arg;

	if (reply->code == 0 && fd >= 0 && may_have(c, q->asker.node, &q->ask)) {
		give(c, keep(copies_of(c), &q->ask, fd, reply->bytes), q);
	} else {
		if (fd >= 0)
			close(fd);
		answer(c, &q->asker, q->correlation,
		       &(struct msg_copied){.code = reply->code < 0 ? reply->code : -EPERM,
					    .message = reply->message});
	}
	free(q);
}

void copies_question(struct control *c, const struct envelope *e)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct question q = {.control = c, .asker = e->from, .correlation = e->correlation};
	struct copy_source *s;
	struct question *later;

	if (codec_decode(e->body.p, e->body.n, message_body_codec[MSG_COPY], &arena, &q.ask, NULL) < 0)
		return;
	if (!may_have(c, e->from.node, &q.ask)) {
		answer(c, &q.asker, q.correlation,
		       &(struct msg_copied){.code = -EAGAIN,
					    .message = STR("this node knows of no such move, or not yet")});
		return;
	}
	s = source_of(copies_of(c), &q.ask);
	if (s != NULL) {
		give(c, s, &q);
		return;
	}
	later = malloc(sizeof *later);
	must(later != NULL);
	*later = q;
	sandboxd_client_call(c->sandboxd, SANDBOXD_SAVED,
			     &(struct sandboxd_save){.sandbox = q.ask.sandbox, .save = q.ask.save}, -1,
			     loop_now(&c->loop) + CALL_MS, on_saved, later);
}

/* -- Both -------------------------------------------------------------------------------------------------------- */

void copies_tick(struct control *c)
{
	uint64_t now = clock_boot_ms();

	if (c->copies == NULL)
		return;
	for (struct copy *copy = c->copies->first, *next; copy != NULL; copy = next) {
		next = copy->next;
		if (now > copy->heard_ms + 2 * COPY_QUIET_MS ||
		    (!copy->waiting && now > copy->heard_ms + COPY_QUIET_MS))
			finish(copy, -ETIMEDOUT, "no piece of the copy came in time");
	}
	for (unsigned i = 0; i < SOURCES_MAX; i++) {
		struct copy_source *s = &c->copies->sources[i];

		if (s->fd >= 0 && now > s->used_ms + COPY_QUIET_MS) {
			close(s->fd);
			s->fd = -1;
		}
	}
}

void copies_close(struct control *c)
{
	if (c->copies == NULL)
		return;
	for (struct copy *copy = c->copies->first, *next; copy != NULL; copy = next) {
		next = copy->next;
		if (copy->fd >= 0)
			close(copy->fd);
		free(copy);
	}
	for (unsigned i = 0; i < SOURCES_MAX; i++) {
		if (c->copies->sources[i].fd >= 0)
			close(c->copies->sources[i].fd);
	}
	free(c->copies);
	c->copies = NULL;
}
