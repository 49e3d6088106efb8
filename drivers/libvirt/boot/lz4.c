/* A frame is a magic number and blocks of at most 8 MiB, each behind its compressed size; a block is a row of sequences: literals,
 * then a match that repeats earlier bytes of the block. All little-endian (lz4/doc/lz4_Block_format.md, lz4_Frame_format.md). */
#include "libvirt_boot/lz4.h"

#include <errno.h>
#include <string.h>

#define MAGIC     0x184c2102u
#define MATCH_MIN 4
#define MORE      15 /* of a length's four bits: bytes follow */

struct cursor {
	const uint8_t *at, *end;
};

static bool take_u32(struct cursor *c, uint32_t *ret)
{
	if (c->end - c->at < 4)
		return false;
	*ret = (uint32_t)c->at[0] | (uint32_t)c->at[1] << 8 | (uint32_t)c->at[2] << 16 |
	       (uint32_t)c->at[3] << 24;
	c->at += 4;
	return true;
}

/* `max` bounds what is added up, so that it cannot wrap. */
static bool take_length(struct cursor *c, unsigned bits, size_t max, size_t *ret)
{
	size_t n = bits;
	uint8_t more = 255;

	while (bits == MORE && more == 255) {
		if (c->at == c->end || n > max)
			return false;
		more = *c->at++;
		n += more;
	}
	*ret = n;
	return n <= max;
}

/* *to_n: the bytes that fit, then those that it gave. */
static bool unpack_block(struct cursor *c, uint8_t *to, size_t *to_n)
{
	size_t max = *to_n, n = 0, length;

	while (c->at < c->end) {
		uint8_t token = *c->at++;

		if (!take_length(c, token >> 4, max - n, &length) || (size_t)(c->end - c->at) < length)
			return false;
		memcpy(to + n, c->at, length);
		c->at += length;
		n += length;
		if (c->at == c->end)
			break; /* the last sequence is literals alone */
		if (c->end - c->at < 2)
			return false;
		size_t offset = (size_t)c->at[0] | (size_t)c->at[1] << 8;

		c->at += 2;
		if (offset == 0 || offset > n || !take_length(c, token & 15, max - n, &length) ||
		    length + MATCH_MIN > max - n)
			return false;
		for (length += MATCH_MIN; length > 0; length--, n++) /* may overlap itself: byte by byte */
			to[n] = to[n - offset];
	}
	*to_n = n;
	return true;
}

int lz4_unpack(struct str from, uint8_t *to, size_t n)
{
	struct cursor c = {(const uint8_t *)from.p, (const uint8_t *)from.p + from.n};
	uint32_t magic, size;
	size_t done = 0;

	if (!take_u32(&c, &magic) || magic != MAGIC)
		return -EBADMSG;
	while (c.at < c.end) {
		size_t got = n - done;

		if (!take_u32(&c, &size) || size > (size_t)(c.end - c.at))
			return -EBADMSG;
		struct cursor block = {c.at, c.at + size};

		if (!unpack_block(&block, to + done, &got))
			return -EBADMSG;
		c.at += size;
		done += got;
	}
	return done == n ? 0 : -EBADMSG;
}
