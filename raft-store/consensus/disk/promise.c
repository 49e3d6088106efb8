/* promise.c -- see promise.h. The record is "<dir>.watermark".
 *
 * Happy path: a first start leaves a record of term 1 and entry 1, which the bootstrap wrote. From then on libraft stores a
 * term or a vote, and hears that it is stored only once the record has it too; so the record is never ahead of libraft's
 * files, and at most one write behind them. What is stored of the log is vouched for whether it is committed or not: the
 * leader may have counted it. An entry that is not committed may be cut off by a new leader, so the record is lowered first.
 *
 * Failure modes: a record that cannot be written fails the call, which makes the server unavailable; it ends, and its
 * supervisor starts it again. */
#include "consensus/disk/promise.h"

#include <errno.h>
#include <stdio.h>

#include "consensus/parts.h"
#include "consensus/disk/remedy.h"
#include "core/map.h"
#include "core/must.h"

static void path_of(const struct consensus *c, char path[CONSENSUS_DIR_SIZE + 16])
{
	snprintf(path, CONSENSUS_DIR_SIZE + 16, "%s.watermark", c->dir);
}

int promise_check_first(struct consensus *c, bool first, struct err *err)
{
	char path[CONSENSUS_DIR_SIZE + 16];
	struct watermark_record record;
	path_of(c, path);
	int rc = watermark_read(path, &record, err);
	if (rc == -ENOENT)
		return 0;
	if (rc != 0)
		return rc;
	if (record.id != c->options.id)
		return err_set(err, -EINVAL, "%s: belongs to the server with id %llu, not to id %llu", path,
			       (unsigned long long)record.id, (unsigned long long)c->options.id);
	if (!first)
		return 0;
	return err_set(err, -EUCLEAN,
		       "%s: empty, but this server has run: it voted in term %llu and has entries up to "
		       "%llu; " REMEDY,
		       c->dir, (unsigned long long)record.term, (unsigned long long)record.index);
}

static struct consensus *consensus_of(struct raft_io *io)
{
	return container_of(io, struct consensus, io);
}

static int promise(struct consensus *c, uint64_t term, uint64_t vote)
{
	/* Without a record it is the first start that writes its files: promise_check makes the record of them. */
	int rc = c->promise.record != NULL ? watermark_promise(c->promise.record, term, vote) : 0;
	if (rc == 0)
		return 0;
	snprintf(c->io.errmsg, sizeof c->io.errmsg, "record of term and vote: error %d", -rc);
	return RAFT_IOERR;
}

static int on_set_term(struct raft_io *io, raft_term term)
{
	struct consensus *c = consensus_of(io);
	int rc = c->promise.set_term(io, term);
	return rc == 0 ? promise(c, term, 0) : rc;
}

static int on_set_vote(struct raft_io *io, raft_id vote)
{
	struct consensus *c = consensus_of(io);
	int rc = c->promise.set_vote(io, vote);
	/* The library stores the vote before it takes the term for its own: the record knows the term. */
	must(c->promise.record != NULL);
	return rc == 0 ? promise(c, watermark_wanted(c->promise.record).term, vote) : rc;
}

static int lower(struct consensus *c, uint64_t index, uint64_t index_term)
{
	if (c->promise.record == NULL || watermark_wanted(c->promise.record).index <= index)
		return 0;
	int rc = watermark_lower(c->promise.record, index, index_term);
	if (rc == 0)
		return 0;
	snprintf(c->io.errmsg, sizeof c->io.errmsg, "record of the log's end: error %d", -rc);
	return RAFT_IOERR;
}

static int on_truncate(struct raft_io *io, raft_index index)
{
	struct consensus *c = consensus_of(io);
	int rc = lower(c, index - 1, guard_term_of(c->guard, index - 1));
	return rc == 0 ? c->promise.truncate(io, index) : rc;
}

/* Without trailing entries it is a snapshot that replaces the log: all up to our commit index is in it. */
static int on_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
			   const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done)
{
	struct consensus *c = consensus_of(io);
	int rc = trailing == 0 ? lower(c, c->raft.commit_index, 0) : 0;
	return rc == 0 ? c->promise.snapshot_put(io, trailing, request, snapshot, done) : rc;
}

void promise_hook(struct consensus *c)
{
	c->promise.set_term = c->io.set_term;
	c->promise.set_vote = c->io.set_vote;
	c->promise.truncate = c->io.truncate;
	c->promise.snapshot_put = c->io.snapshot_put;
	c->io.set_term = on_set_term;
	c->io.set_vote = on_set_vote;
	c->io.truncate = on_truncate;
	c->io.snapshot_put = on_snapshot_put;
}

static int check_vote(const struct consensus *c, const struct watermark_record *r, struct err *err)
{
	uint64_t term = c->raft.current_term, vote = c->raft.voted_for;
	/* Each term is stored without a vote first, and libraft's files are at most one write ahead. */
	if (term == r->term ? vote == r->vote || r->vote == 0 : term > r->term && vote == 0)
		return 0;
	return err_set(
		err, -EUCLEAN,
		"%s: its metadata files say term %llu and vote %llu, but it promised term %llu and vote "
		"%llu; " REMEDY,
		c->dir, (unsigned long long)term, (unsigned long long)vote, (unsigned long long)r->term,
		(unsigned long long)r->vote);
}

static int check_log(const struct consensus *c, const struct watermark_record *r, struct err *err)
{
	uint64_t last = raft_last_index((struct raft *)&c->raft), found = guard_term_of(c->guard, r->index);
	if (last < r->index)
		return err_set(err, -EUCLEAN,
			       "%s: the log ends at %llu, but entry %llu of term %llu was stored: it lost "
			       "entries; " REMEDY,
			       c->dir, (unsigned long long)last, (unsigned long long)r->index,
			       (unsigned long long)r->index_term);
	if (found != 0 && r->index_term != 0 && found != r->index_term)
		return err_set(
			err, -EUCLEAN,
			"%s: entry %llu is of term %llu, but one of term %llu was stored there: it lost "
			"entries; " REMEDY,
			c->dir, (unsigned long long)r->index, (unsigned long long)found,
			(unsigned long long)r->index_term);
	return 0;
}

/* The first start ended between the library's files and the record, or just now: nothing was promised yet. */
static bool never_ran(const struct consensus *c)
{
	return c->raft.current_term <= 1 && c->raft.voted_for == 0 &&
	       raft_last_index((struct raft *)&c->raft) <= 1 && c->raft.snapshot.put.data == NULL &&
	       c->raft.log.snapshot.last_index == 0;
}

static struct watermark_record loaded(const struct consensus *c)
{
	uint64_t last = raft_last_index((struct raft *)&c->raft);
	return (struct watermark_record){.id = c->options.id,
					 .term = c->raft.current_term,
					 .vote = c->raft.voted_for,
					 .index = last,
					 .index_term = last != 0 ? guard_term_of(c->guard, last) : 0};
}

int promise_check(struct consensus *c, struct err *err)
{
	char path[CONSENSUS_DIR_SIZE + 16];
	struct watermark_record record, now = loaded(c);
	path_of(c, path);
	int rc = watermark_read(path, &record, err);
	if (rc == -ENOENT && never_ran(c))
		rc = watermark_create(path, &now, err);
	else if (rc == -ENOENT)
		rc = err_set(err, -EUCLEAN, "%s: missing though this server has run; " REMEDY, path);
	else if (rc == 0) {
		rc = check_vote(c, &record, err);
		if (rc == 0)
			rc = check_log(c, &record, err);
	}
	if (rc == 0)
		rc = watermark_open(path, &now, &c->promise.record, err);
	if (rc != 0)
		return rc;
	rc = watermark_promise(c->promise.record, now.term, now.vote);
	return rc == 0 ? 0 : err_system(err, rc, "%s", path);
}

void promise_turn(struct consensus *c)
{
	uint64_t stored = c->raft.last_stored, term = stored != 0 ? guard_term_of(c->guard, stored) : 0;
	if (term != 0) /* 0 while a snapshot is installed */
		watermark_raise(c->promise.record, stored, term);
}

void promise_close(struct consensus *c)
{
	watermark_close(c->promise.record);
	c->promise.record = NULL;
}
