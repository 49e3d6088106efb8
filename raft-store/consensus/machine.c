/* machine.c -- libraft's view of the state machine.
 *
 * Happy path: apply unwraps an entry, hands it to the machine and answers its proposer. A snapshot is
 * taken in two steps: `snapshot` freezes a view on the loop, `snapshot_async` encodes it on a thread of
 * the pool into chunks, which the library then writes, also off the loop; `snapshot_finalize` frees view
 * and chunks on the loop again. Failure modes: an entry or a snapshot that cannot be understood stops this
 * server (consensus_fail): to go on would be to differ from the others. Without memory for a snapshot the
 * library tries again after the next entry. Invariant: at most one snapshot at a time; the library sees to
 * it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consensus/frame.h"
#include "consensus/install.h"
#include "consensus/parts.h"
#include "consensus/disk/remedy.h"
#include "core/must.h"

#define CHUNK_SIZE               (1u << 20)
#define SNAPSHOT_BYTES_PER_ENTRY 1024u
#define SNAPSHOT_ENTRIES_MAX     (1u << 18)
#define SNAPSHOT_LARGE_BYTES     (16u << 20)

/* Snapshot bytes as the library wants them: an array of buffers, the first of which is the head. */
struct snapshot_chunks {
	struct raft_buffer *list;
	unsigned n, capacity;
	size_t room; /* in the last one */
	uint64_t bytes, hash;
	unsigned char head[FRAME_SNAPSHOT_HEAD];
};

static void chunks_free(struct snapshot_chunks *chunks)
{
	if (chunks == NULL)
		return;
	for (unsigned i = 1; i < chunks->n; i++)
		free(chunks->list[i].base);
	free(chunks->list);
	free(chunks);
}

static int chunks_grow(struct snapshot_chunks *chunks)
{
	if (chunks->n == chunks->capacity) {
		unsigned capacity = chunks->capacity == 0 ? 16 : chunks->capacity * 2;
		struct raft_buffer *list = reallocarray(chunks->list, capacity, sizeof *list);
		if (list == NULL)
			return -ENOMEM;
		chunks->list = list;
		chunks->capacity = capacity;
	}
	void *base = malloc(CHUNK_SIZE);
	if (base == NULL)
		return -ENOMEM;
	chunks->list[chunks->n++] = (struct raft_buffer){.base = base, .len = 0};
	chunks->room = CHUNK_SIZE;
	return 0;
}

static int chunks_add(struct snapshot_chunks *chunks, const void *p, size_t n)
{
	const char *from = p;
	while (n > 0) {
		if (chunks->room == 0) {
			int rc = chunks_grow(chunks);
			if (rc != 0)
				return rc;
		}
		struct raft_buffer *last = &chunks->list[chunks->n - 1];
		size_t part = n < chunks->room ? n : chunks->room;
		memcpy((char *)last->base + last->len, from, part);
		last->len += part;
		chunks->room -= part;
		from += part;
		n -= part;
	}
	return 0;
}

static int chunks_write(void *to, const void *p, size_t n)
{
	struct snapshot_chunks *chunks = to;
	chunks->hash = frame_hash(chunks->hash, p, n);
	chunks->bytes += n;
	return chunks_add(chunks, p, n);
}

static struct snapshot_chunks *chunks_new(void)
{
	struct snapshot_chunks *chunks = calloc(1, sizeof *chunks);
	if (chunks == NULL)
		return NULL;
	chunks->capacity = 16;
	chunks->list = calloc(chunks->capacity, sizeof *chunks->list);
	if (chunks->list == NULL) {
		free(chunks);
		return NULL;
	}
	chunks->hash = FRAME_HASH_SEED;
	chunks->list[chunks->n++] = (struct raft_buffer){.base = chunks->head, .len = sizeof chunks->head};
	return chunks;
}

static int on_apply(struct raft_fsm *fsm, const struct raft_buffer *buffer, void **result)
{
	struct consensus *c = fsm->data;
	/* The library counts an entry as applied after this call. */
	uint64_t index = raft_last_applied(&c->raft) + 1;
	struct err err = {0};
	struct str entry;
	if (result != NULL)
		*result = NULL;
	if (c->phase == CONSENSUS_FAILED)
		return RAFT_SHUTDOWN;
	must(!c->applying);
	int rc = frame_entry_read(buffer->base, buffer->len, &entry, &err);
	if (rc == 0) {
		c->applying = true;
		rc = c->options.machine.apply(c->options.machine.arg, index, entry.p, entry.n, &err);
		c->applying = false;
	}
	if (rc != 0) {
		err_wrap(&err, "apply entry %llu", (unsigned long long)index);
		consensus_fail(c, err.message);
		return RAFT_SHUTDOWN;
	}
	propose_applied(c, index);
	return 0;
}

static int on_snapshot(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *n)
{
	struct consensus *c = fsm->data;
	*buffers = NULL;
	*n = 0;
	if (c->phase == CONSENSUS_FAILED)
		return RAFT_BUSY;
	must(c->view == NULL && c->chunks == NULL);
	c->chunks = chunks_new();
	c->view = c->chunks != NULL ? c->options.machine.snapshot_take(c->options.machine.arg) : NULL;
	if (c->view != NULL)
		return 0;
	chunks_free(c->chunks);
	c->chunks = NULL;
	return RAFT_BUSY; /* the library tries again after the next entry */
}

/* On a thread of the pool. The loop's thread leaves view and chunks alone until snapshot_finalize. */
static int on_snapshot_async(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *n)
{
	static const char zeros[8];
	struct consensus *c = fsm->data;
	struct snapshot_chunks *chunks = c->chunks;
	if (c->options.machine.snapshot_write(c->view, chunks_write, chunks) != 0)
		return RAFT_NOMEM;
	if (chunks_add(chunks, zeros, frame_snapshot_padding(chunks->bytes)) != 0)
		return RAFT_NOMEM;
	frame_snapshot_head(chunks->head, chunks->bytes, chunks->hash);
	*buffers = chunks->list;
	*n = chunks->n;
	return 0;
}

/* A snapshot costs what the tables hold, and saves what the log holds: large tables get one after more entries, so that an
 * entry's share of it stays the same, and a start replays no longer than it reads. */
static void pace_snapshots(struct consensus *c, uint64_t bytes)
{
	uint64_t entries = bytes / SNAPSHOT_BYTES_PER_ENTRY;
	if (entries > SNAPSHOT_ENTRIES_MAX)
		entries = SNAPSHOT_ENTRIES_MAX;
	if (bytes < SNAPSHOT_LARGE_BYTES || entries < c->options.snapshot_threshold)
		entries = c->options.snapshot_threshold;
	raft_set_snapshot_threshold(&c->raft, (unsigned)entries);
}

static int on_snapshot_finalize(struct raft_fsm *fsm, struct raft_buffer *buffers[], unsigned *n)
{
	struct consensus *c = fsm->data;
	if (*n > 0) {
		c->counts.snapshots++;
		pace_snapshots(c, c->chunks->bytes);
	}
	if (c->view != NULL)
		c->options.machine.snapshot_free(c->options.machine.arg, c->view);
	chunks_free(c->chunks);
	c->view = NULL;
	c->chunks = NULL;
	*buffers = NULL;
	*n = 0;
	return 0;
}

static int on_restore(struct raft_fsm *fsm, struct raft_buffer *buffer)
{
	struct consensus *c = fsm->data;
	struct err err = {0};
	size_t size = buffer->len;
	int rc = install_restore(c, buffer, &err);
	if (rc != 0) {
		char why[ERR_MESSAGE_MAX + sizeof REMEDY + 16];
		snprintf(why, sizeof why, "restore: %s%s", err.message, rc == -EBADMSG ? "; " REMEDY : "");
		consensus_fail(c, why);
		return RAFT_CORRUPT; /* the library frees the buffer */
	}
	c->counts.restores++;
	pace_snapshots(c, size);
	return 0;
}

void machine_init(struct consensus *c)
{
	c->fsm = (struct raft_fsm){
		.version = 3,
		.data = c,
		.apply = on_apply,
		.snapshot = on_snapshot,
		.snapshot_async = on_snapshot_async,
		.snapshot_finalize = on_snapshot_finalize,
		.restore = on_restore,
	};
}
