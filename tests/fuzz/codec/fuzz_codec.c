/* fuzz_codec.c -- the first byte picks a message type, the rest is its encoding. What decodes must encode again, to
 * something that decodes to an equal value; printing and cloning must take it too. */
#include <stdlib.h>

#include "core/codec.h"
#include "core/must.h"
#include "wire/envelope.h"
#include "wire/messages.h"
#include "wire/sandboxd.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct codec_type *pick(uint8_t byte)
{
	if (byte < MSG_TYPES)
		return message_body_codec[byte];
	if (byte >= 128 && byte - 128 < SANDBOXD_TYPES)
		return sandboxd_body_codec[byte - 128];
	return byte == 254 ? &sandboxd_message_codec : byte == 255 ? &envelope_codec : NULL;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct codec_type *type = size == 0 ? NULL : pick(data[0]);
	CLEANUP_ARENA struct arena arena = {.max = 64u << 20};
	CLEANUP_BUF struct buf again = {0}, text = {0};
	struct err err = {0};

	if (type == NULL)
		return 0;
	void *value = arena_alloc(&arena, type->size), *back = arena_alloc(&arena, type->size);

	if (codec_decode(data + 1, size - 1, type, &arena, value, &err) < 0) {
		must(err.code < 0 && err.message[0] != '\0');
		return 0;
	}
	codec_encode(&again, type, value);
	must(codec_decode(again.p, again.n, type, &arena, back, &err) == 0);
	must(codec_equal(type, value, back));
	codec_print(&text, type, value);
	void *copy = codec_clone(&arena, type, value);

	must(copy == NULL || codec_equal(type, value, copy));
	return 0;
}
