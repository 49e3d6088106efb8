/* fuzz_raft_frames.c -- what consensus reads from disk and from other servers: entries, snapshots, segments. The first
 * byte chooses. What is accepted must lie within the input and be the same when it is framed again. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/frame.h"
#include "consensus/disk/segment.h"
#include "core/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void entry(const uint8_t *p, size_t n)
{
	struct err err = {0};
	struct str bytes;
	if (frame_entry_read(p, n, &bytes, &err) != 0) {
		must(err.code != 0 && err.message[0] != 0);
		return;
	}
	must(bytes.p >= (const char *)p && bytes.p + bytes.n <= (const char *)p + n);
	must(frame_entry_size(bytes.n) == n);
	char *again = malloc(n);
	must(again != NULL);
	frame_entry_write(again, bytes.p, bytes.n);
	must(memcmp(again, p, FRAME_ENTRY_HEAD + bytes.n) == 0);
	free(again);
}

static void snapshot(const uint8_t *p, size_t n)
{
	struct err err = {0};
	struct str bytes;
	unsigned char head[FRAME_SNAPSHOT_HEAD];
	if (frame_snapshot_read(p, n, &bytes, &err) != 0) {
		must(err.code != 0 && err.message[0] != 0);
		return;
	}
	must(bytes.p >= (const char *)p && bytes.p + bytes.n <= (const char *)p + n);
	frame_snapshot_head(head, bytes.n, frame_hash(FRAME_HASH_SEED, bytes.p, bytes.n));
	must(memcmp(head, p, sizeof head) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct err err = {0};
	if (size == 0)
		return 0;
	if (data[0] == 'e')
		entry(data + 1, size - 1);
	else if (data[0] == 's')
		snapshot(data + 1, size - 1);
	else if (segment_check_bytes("segment", data + 1, size - 1, &err) != 0)
		must(err.code != 0);
	return 0;
}
