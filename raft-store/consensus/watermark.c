/* watermark.c -- see watermark.h. The file: {u64 magic, index, term, hash of these}, little endian, replaced as a whole.
 *
 * Failure modes: a write that fails is tried again two seconds later; the older mark stays valid. A file that cannot be
 * understood is damage like any other. */
#include "consensus/watermark.h"

#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "consensus/frame.h"
#include "consensus/parts.h"
#include "core/fd.h"

#define MAGIC   0x316b724d62726542ull /* "BerbMrk1" */
#define EACH_MS 2000

static void path_of(const struct consensus *c, char path[CONSENSUS_DIR_SIZE + 16])
{
	snprintf(path, CONSENSUS_DIR_SIZE + 16, "%s/watermark", c->dir);
}

/* *ret_index is 0 if none was ever written. */
static int read_mark(const struct consensus *c, uint64_t *ret_index, uint64_t *ret_term, struct err *err)
{
	char path[CONSENSUS_DIR_SIZE + 16];
	uint64_t words[4];
	CLEANUP_BUF struct buf bytes = BUF_MAX(sizeof words);
	path_of(c, path);
	int rc = fd_read_file(path, sizeof words, &bytes, err);
	*ret_index = *ret_term = 0;
	if (rc == -ENOENT)
		return 0;
	if (rc != 0 && rc != -EFBIG)
		return rc;
	if (rc == 0 && bytes.n == sizeof words)
		memcpy(words, bytes.p, sizeof words);
	else
		memset(words, 0, sizeof words);
	if (le64toh(words[0]) != MAGIC || le64toh(words[3]) != frame_hash(FRAME_HASH_SEED, words, 24))
		return err_set(err, -EUCLEAN, "%s: damaged; wipe the directory and join with a new id", path);
	*ret_index = le64toh(words[1]);
	*ret_term = le64toh(words[2]);
	return 0;
}

int watermark_check(const struct consensus *c, struct err *err)
{
	uint64_t index, term;
	int rc = read_mark(c, &index, &term, err);
	if (rc != 0)
		return rc;
	uint64_t last = raft_last_index((struct raft *)&c->raft), found = guard_term_of(c->guard, index);
	if (last < index || (found != 0 && found != term))
		return err_set(err, -EUCLEAN,
			       "%s: the log ends at %llu, but entry %llu of term %llu was committed: it lost "
			       "entries; wipe "
			       "the directory and join with a new id",
			       c->dir, (unsigned long long)last, (unsigned long long)index,
			       (unsigned long long)term);
	return 0;
}

static void write_mark(uv_work_t *work)
{
	struct consensus *c = work->data;
	char path[CONSENSUS_DIR_SIZE + 16];
	struct err err = {0};
	uint64_t words[4] = {htole64(MAGIC), htole64(c->mark.index), htole64(c->mark.term)};
	words[3] = htole64(frame_hash(FRAME_HASH_SEED, words, 24));
	path_of(c, path);
	c->mark.rc = fd_write_file(path, 0600, words, sizeof words, &err);
}

static void mark_written(uv_work_t *work, int status)
{
	struct consensus *c = work->data;
	(void)status;
	c->mark.writing = false;
	if (c->mark.rc == 0)
		c->mark.written = c->mark.index;
}

void watermark_turn(struct consensus *c)
{
	uint64_t now = uv_now(c->options.loop), index = c->raft.commit_index;
	uint64_t term = guard_term_of(c->guard, index);
	if (c->mark.writing || index <= c->mark.written || term == 0 || index > c->raft.last_stored ||
	    now - c->mark.began_ms < EACH_MS)
		return;
	c->mark.index = index;
	c->mark.term = term;
	c->mark.began_ms = now;
	c->mark.work.data = c;
	c->mark.writing = uv_queue_work(c->options.loop, &c->mark.work, write_mark, mark_written) == 0;
}
