/* frame.c -- see frame.h. */
#include "consensus/frame.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

#include "core/must.h"

#define ENTRY_FORMAT   1u
#define SNAPSHOT_MAGIC 0x31506e5362726542ull /* "BerbSnP1" */

static void put32(unsigned char *to, uint32_t x)
{
	x = htole32(x);
	memcpy(to, &x, sizeof x);
}

static void put64(unsigned char *to, uint64_t x)
{
	x = htole64(x);
	memcpy(to, &x, sizeof x);
}

static uint32_t get32(const unsigned char *p)
{
	uint32_t x;
	memcpy(&x, p, sizeof x);
	return le32toh(x);
}

static uint64_t get64(const unsigned char *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof x);
	return le64toh(x);
}

static size_t round_up(size_t n)
{
	return (n + 7) & ~(size_t)7;
}

size_t frame_entry_size(size_t n)
{
	return round_up(FRAME_ENTRY_HEAD + n);
}

void frame_entry_write(void *to, const void *p, size_t n)
{
	unsigned char *bytes = to;
	must(n <= UINT32_MAX);
	put32(bytes, ENTRY_FORMAT);
	put32(bytes + 4, (uint32_t)n);
	memcpy(bytes + FRAME_ENTRY_HEAD, p, n);
	memset(bytes + FRAME_ENTRY_HEAD + n, 0, frame_entry_size(n) - FRAME_ENTRY_HEAD - n);
}

int frame_entry_read(const void *p, size_t n, struct str *ret, struct err *err)
{
	const unsigned char *bytes = p;
	if (n < FRAME_ENTRY_HEAD)
		return err_set(err, -EBADMSG, "entry: %zu bytes, shorter than its head", n);
	if (get32(bytes) != ENTRY_FORMAT)
		return err_set(err, -EBADMSG, "entry: format %u; this program knows %u", get32(bytes),
			       ENTRY_FORMAT);
	uint32_t length = get32(bytes + 4);
	if (frame_entry_size(length) != n)
		return err_set(err, -EBADMSG, "entry: length %u does not fit %zu bytes", length, n);
	*ret = (struct str){(const char *)bytes + FRAME_ENTRY_HEAD, length};
	return 0;
}

size_t frame_snapshot_padding(uint64_t n)
{
	return (size_t)(-n & 7);
}

/* FNV-1a over words of 8 bytes would depend on how the bytes are cut into pieces; over bytes it does not. */
uint64_t frame_hash(uint64_t hash, const void *p, size_t n)
{
	const unsigned char *bytes = p;
	hash ^= 0xcbf29ce484222325ull;
	for (size_t i = 0; i < n; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3ull;
	return hash ^ 0xcbf29ce484222325ull;
}

void frame_snapshot_head(unsigned char to[FRAME_SNAPSHOT_HEAD], uint64_t n, uint64_t hash)
{
	put64(to, SNAPSHOT_MAGIC);
	put64(to + 8, n);
	put64(to + 16, hash);
}

int frame_snapshot_size(const unsigned char head[FRAME_SNAPSHOT_HEAD], uint64_t *ret, struct err *err)
{
	if (get64(head) != SNAPSHOT_MAGIC)
		return err_set(err, -EBADMSG, "snapshot: does not begin as this program's snapshots do");
	uint64_t n = get64(head + 8);
	if (n > UINT64_MAX / 2)
		return err_set(err, -EBADMSG, "snapshot: impossible length");
	*ret = FRAME_SNAPSHOT_HEAD + n + frame_snapshot_padding(n);
	return 0;
}

int frame_snapshot_read(const void *p, size_t n, struct str *ret, struct err *err)
{
	const unsigned char *bytes = p;
	uint64_t size;
	if (n < FRAME_SNAPSHOT_HEAD)
		return err_set(err, -EBADMSG, "snapshot: %zu bytes, shorter than its head", n);
	int rc = frame_snapshot_size(bytes, &size, err);
	if (rc != 0)
		return rc;
	if (size != n)
		return err_set(err, -EBADMSG, "snapshot: %zu bytes; its head says %llu", n,
			       (unsigned long long)size);
	size_t length = (size_t)get64(bytes + 8);
	if (frame_hash(FRAME_HASH_SEED, bytes + FRAME_SNAPSHOT_HEAD, length) != get64(bytes + 16))
		return err_set(err, -EBADMSG, "snapshot: its bytes do not match their hash");
	*ret = (struct str){(const char *)bytes + FRAME_SNAPSHOT_HEAD, length};
	return 0;
}
