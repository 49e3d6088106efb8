/* fuzz_peers.c -- what comes to a control port behind TLS. The first byte chooses: 'h', the hello; else it is the length of the pieces
 * in which frames come, each of which is decoded as its receiver would, down to the bodies of messages and commands, and looked at by
 * the border as a worker's and a voter's. What is accepted is the same when it is written again and read. */
#include <stddef.h>
#include <stdint.h>

#include "control/feed/wire.h"
#include "control/links/border.h"
#include "control/links/frames.h"
#include "control/proposer.h"
#include "core/must.h"
#include "mesh/mesh_internal.h"
#include "wire/messages.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Into *ret if it can be read. */
static bool decode(const struct codec_type *type, struct str bytes, struct arena *arena, void *ret)
{
	CLEANUP_BUF struct buf first = {0}, second = {0};
	CLEANUP_ARENA struct arena again_arena = {0};
	struct err err = {0};

	if (codec_decode(bytes.p, bytes.n, type, arena, ret, &err) < 0) {
		must(err.code != 0 && err.message[0] != 0);
		return false;
	}
	void *again = arena_alloc(&again_arena, type->size);

	must(again != NULL);
	codec_encode(&first, type, ret);
	must(codec_decode(first.p, first.n, type, &again_arena, again, NULL) == 0);
	codec_encode(&second, type, again);
	must(str_eq(buf_str(&first), buf_str(&second)));
	return true;
}

static void take_body(const struct codec_type *type, struct str bytes, struct arena *arena)
{
	void *body = type != NULL ? arena_alloc(arena, type->size) : NULL;

	if (body != NULL)
		decode(type, bytes, arena, body);
}

static void take_envelope(struct str bytes, struct arena *arena)
{
	struct envelope e;

	if (!decode(&envelope_codec, bytes, arena, &e))
		return;
	must(!border_lets_message(false, e.type) || border_lets_message(true, e.type));
	if (border_lets_message(true, e.type))
		take_body(message_body_codec[e.type], e.body, arena);
}

static void take_commands(struct str bytes, struct arena *arena)
{
	struct forward forward;

	if (!decode(&forward_codec, bytes, arena, &forward))
		return;
	for (uint32_t i = 0; i < forward.n_commands; i++) {
		const struct command *c = &forward.commands[i];
		const char *worker = border_refuses_command(false, 4, c),
			   *voter = border_refuses_command(true, 4, c);

		must(worker != NULL || voter == NULL);
		if (voter == NULL)
			take_body(command_body_codec[c->type], c->body, arena);
	}
}

static void on_frame(void *context, uint8_t type, const uint8_t *p, size_t n)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct str bytes = {(const char *)p, n};

	(*(size_t *)context) += n;
	if (type == PEER_ENVELOPE)
		take_envelope(bytes, &arena);
	else if (type == PEER_COMMANDS)
		take_commands(bytes, &arena);
	else if (type == PEER_FEED)
		take_body(&feed_piece_codec, bytes, &arena);
	else if (type == PEER_FEED_ASK)
		take_body(&feed_ask_codec, bytes, &arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_BUF struct buf in = FRAMES_BUFFER;
	CLEANUP_ARENA struct arena arena = {0};
	size_t taken = 0;
	struct err err = {0};

	if (size < 2)
		return 0;
	if (data[0] == 'h') {
		take_body(&mesh_hello_codec, (struct str){(const char *)data + 1, size - 1}, &arena);
		return 0;
	}
	size_t piece = data[0] == 0 ? size : data[0];
	for (size_t at = 1; at < size; at += piece) {
		size_t n = size - at < piece ? size - at : piece;

		if (n > FRAMES_TAKE_MAX ||
		    frames_take(&in, (const char *)data + at, n, PEER_FRAMES, on_frame, &taken, &err) < 0)
			break;
	}
	must(taken <= size);
	return 0;
}
