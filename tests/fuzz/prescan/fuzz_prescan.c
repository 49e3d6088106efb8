/* The scan that stands before msgpack's own parser, beside that parser. Holds: what the scan lets through is one whole value to the
 * parser too, of arrays, strings, integers, booleans and nil, no deeper than the bound, and costs memory in proportion to its
 * bytes; what the scan refuses, the parser refuses or cuts short, or it is of a kind that no format of ours uses, or too deep. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <msgpack.h>

#include "core/codec.h"
#include "core/must.h"

#define DEPTH_NONE 1000

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* How deep arrays lie in it; DEPTH_NONE: it holds something else than our kinds. `room` is for the values it may have. */
static unsigned depth_of(const msgpack_object *o, size_t *room)
{
	unsigned deepest = 0;

	must(*room > 0);
	--*room;
	switch (o->type) {
	case MSGPACK_OBJECT_ARRAY:
		for (uint32_t i = 0; i < o->via.array.size; i++) {
			unsigned d = depth_of(&o->via.array.ptr[i], room);
			deepest = d > deepest ? d : deepest;
		}
		return deepest >= DEPTH_NONE ? DEPTH_NONE : deepest + (o->via.array.size > 0);
	case MSGPACK_OBJECT_NIL:
	case MSGPACK_OBJECT_BOOLEAN:
	case MSGPACK_OBJECT_POSITIVE_INTEGER:
	case MSGPACK_OBJECT_NEGATIVE_INTEGER:
	case MSGPACK_OBJECT_STR:
	case MSGPACK_OBJECT_BIN:
		return 0;
	case MSGPACK_OBJECT_MAP:
	case MSGPACK_OBJECT_FLOAT32:
	case MSGPACK_OBJECT_FLOAT64:
	case MSGPACK_OBJECT_EXT:
		break;
	}
	return DEPTH_NONE;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int scanned = codec_scan(data, size);
	msgpack_unpacked value;
	size_t at = 0, room = size + 1;

	if (size == 0 || size > 65536) {
		must(size > 0 || scanned < 0);
		return 0;
	}
	if (scanned < 0 && (memchr(data, 0xdd, size) || memchr(data, 0xdf, size)))
		return 0; /* what the scan is for: the parser would make room for 4 Gi values */
	msgpack_unpacked_init(&value);
	msgpack_unpack_return r = msgpack_unpack_next(&value, (const char *)data, size, &at);
	if (scanned == 0) {
		must(r == MSGPACK_UNPACK_SUCCESS && at == size);
		must(depth_of(&value.data, &room) <= CODEC_DEPTH_MAX);
	} else if (r == MSGPACK_UNPACK_SUCCESS && at == size) {
		must(depth_of(&value.data, &room) > CODEC_DEPTH_MAX);
	}
	msgpack_unpacked_destroy(&value);
	return 0;
}
