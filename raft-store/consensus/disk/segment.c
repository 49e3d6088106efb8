/* segment.c -- see segment.h. A segment is a u64 format, then batches: u32 checksum of the head, u32 of the data, the head
 * {u64 n, n times {u64 term, u8 type, 3 unused, u32 length}}, the data; zeros follow the last. libraft: uv_segment.c. */
#include "consensus/disk/segment.h"

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "consensus/disk/remedy.h"
#include "core/fd.h"

#define BATCH_ENTRIES_MAX (8u * 1024 * 1024 / 32)

static uint64_t get64(const unsigned char *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof x);
	return le64toh(x);
}

static uint32_t get32(const unsigned char *p)
{
	uint32_t x;
	memcpy(&x, p, sizeof x);
	return le32toh(x);
}

/* CRC-32 as libraft has it: polynomial 04c11db7, highest bit first, from 0, not inverted. */
static uint32_t crc32(const unsigned char *p, size_t n)
{
	uint32_t crc = 0;
	for (size_t i = 0; i < n; i++) {
		crc ^= (uint32_t)p[i] << 24;
		for (int bit = 0; bit < 8; bit++)
			crc = crc << 1 ^ ((crc & 0x80000000u) != 0 ? 0x04c11db7u : 0);
	}
	return crc;
}

enum batch { BATCH_WHOLE, BATCH_END, BATCH_CUT };

/* Moves *at behind the batch that begins there. */
static enum batch next_batch(const unsigned char *p, size_t n, size_t *at)
{
	size_t left = n - *at;
	if (left == 0)
		return BATCH_END;
	if (left < 16)
		return BATCH_CUT;
	uint64_t entries = get64(p + *at + 8);
	if (entries == 0 || entries > BATCH_ENTRIES_MAX)
		return BATCH_END;
	size_t head = 8 + (size_t)entries * 16;
	if (left < 8 + head)
		return BATCH_CUT;
	if (crc32(p + *at + 8, head) != get32(p + *at))
		return BATCH_END;
	uint64_t data = 0;
	for (uint64_t i = 0; i < entries; i++)
		data += get32(p + *at + 16 + i * 16 + 12);
	if (left - 8 - head < data)
		return BATCH_CUT;
	*at += 8 + head + (size_t)data;
	return BATCH_WHOLE;
}

int segment_check_bytes(const char *path, const void *bytes, size_t n, struct err *err)
{
	const unsigned char *p = bytes;
	size_t at = sizeof(uint64_t);
	enum batch found = n >= at ? BATCH_WHOLE : BATCH_CUT;
	if (n == 0 || (n >= at && get64(p) != 1))
		return 0; /* never written, or of a format that the library refuses */
	while (found == BATCH_WHOLE)
		found = next_batch(p, n, &at);
	if (found == BATCH_CUT)
		return err_set(err, -EUCLEAN, "%s: cut short in the middle of the batch at byte %zu; " REMEDY,
			       path, at);
	return 0;
}

int segment_check(const char *path, struct err *err)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(SEGMENT_BYTES_MAX);
	int rc = fd_read_file(path, SEGMENT_BYTES_MAX, &bytes, err);
	return rc == 0 ? segment_check_bytes(path, bytes.p, bytes.n, err) : rc;
}
