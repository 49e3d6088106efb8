/* guard.c -- see guard.h.
 *
 * Happy path: guard_new replaces start, append and send in the raft_io. start keeps the library's tick and
 * message handlers and installs ours; each of ours applies its rules, calls the library's, and then
 * settles: a server that has just become a leader gets the barrier of its term, and the owner is told.
 *
 * Failure modes: a write of the log that fails ends the process (the library would go on as if it had not
 * failed). A barrier that cannot be started leaves the leader deaf, so that it steps down after an
 * election timeout.
 *
 * Invariants: `completing` and `comparing` are set only while the library's own handler runs; no rule
 * keeps a pointer into the library's memory between two events. */
#include "consensus/guard.h"

#include <errno.h>
#include <raft.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/must.h"

#define FOLLOWERS_MAX 16 /* one beyond that hears of commits with the heartbeats */

/* A write of log entries on its way to the disk. */
struct guarded_append {
	struct guard *guard;
	struct raft_io_append request;  /* ours, known to the raft_io */
	struct raft_io_append *library; /* the library's, answered when ours completes */
	raft_io_append_cb done;
	raft_term term;      /* when the write began */
	raft_index verified; /* up to where the leader that sent the entries compared our log with its own */
};

/* What this leader knows of a follower, for GUARD_COMMIT_NEWS. */
struct follower {
	raft_id id;
	raft_term term;   /* in which the rest was learnt */
	raft_index acked; /* it has stored our log up to here */
	raft_index told;  /* the commit index that our last message to it carried */
	raft_time heard;
};

struct guard {
	struct raft *raft;
	struct guard_options options;
	/* What the raft_io did before. */
	int (*start)(struct raft_io *, unsigned, raft_io_tick_cb, raft_io_recv_cb);
	int (*append)(struct raft_io *, struct raft_io_append *, const struct raft_entry *, unsigned,
		      raft_io_append_cb);
	int (*send)(struct raft_io *, struct raft_io_send *, const struct raft_message *, raft_io_send_cb);
	void (*close)(struct raft_io *, raft_io_close_cb);
	raft_io_close_cb closed; /* until it was called */
	/* What the library wanted to be called with. */
	raft_io_tick_cb tick;
	raft_io_recv_cb receive;

	struct raft_barrier barrier;
	raft_term barrier_term;   /* the term that the last barrier was for */
	raft_index barrier_index; /* UINT64_MAX: it could not be appended */
	raft_term applied_term;   /* the term whose barrier was applied */

	unsigned writing;                        /* appends in flight */
	const struct guarded_append *completing; /* whose completion the library handles right now */
	bool comparing;                          /* the library handles an AppendEntries message right now */
	raft_index compared;                     /* ... that compares our log up to here */
	struct follower followers[FOLLOWERS_MAX];
	uint64_t counts[GUARD_RULES];
};

static struct guard *guard_of(struct raft_io *io)
{
	struct raft *r = io->data;
	return r->data;
}

static bool rule_on(const struct guard *g, enum guard_rule rule)
{
	return (g->options.off_for_tests & (1u << rule)) == 0;
}

/* Entries are dropped by the library while it writes a snapshot that it received: see its
 * replicationInstallSnapshotBusy. */
static bool installing_snapshot(const struct raft *r)
{
	return r->last_stored == 0 && r->snapshot.put.data != NULL;
}

static void barrier_applied(struct raft_barrier *barrier, int status)
{
	struct guard *g = barrier->data;
	if (status == 0)
		g->applied_term = g->barrier_term;
}

/* Rule GUARD_TERM_BARRIER, first half: a new leader appends a barrier of its own term at once, so that
 * there is something that it may commit by counting. The Raft paper, section 5.4.2 and figure 8; the
 * dissertation, 6.4. Upstream: 29bb302 "Add no-op barrier when converting to leader" (canonical/raft
 * #220). */
static void begin_term(struct guard *g)
{
	struct raft *r = g->raft;
	if (r->state != RAFT_LEADER || g->barrier_term == r->current_term)
		return;
	g->barrier_term = r->current_term;
	g->barrier.data = g;
	if (!rule_on(g, GUARD_TERM_BARRIER)) {
		g->barrier_index = 0;
		g->applied_term = r->current_term;
		return;
	}
	g->barrier_index =
		raft_barrier(r, &g->barrier, barrier_applied) == 0 ? raft_last_index(r) : UINT64_MAX;
}

/* Rule GUARD_TERM_BARRIER, second half: the library counts replicas of whatever it has stored last, also
 * when that is of an older term, and such an entry can still be overwritten although a quorum holds it. So
 * answers are not heard before the barrier is on the leader's own disk; from then on, what is counted is
 * of the leader's term. Upstream: 524f735 "Don't commit entries from old terms by counting". */
static bool deaf_before_barrier(struct guard *g, const struct raft_append_entries_result *result)
{
	const struct raft *r = g->raft;
	if (!rule_on(g, GUARD_TERM_BARRIER) || r->state != RAFT_LEADER || result->term > r->current_term ||
	    r->last_stored >= g->barrier_index)
		return false;
	g->counts[GUARD_TERM_BARRIER]++;
	return true;
}

/* Rule GUARD_WRITE_FAILURE: after a failed write the library's leader goes on leading, with memory and
 * disk in disagreement. Nothing that happens afterwards can be trusted; a restart reads what the disk
 * really holds. Upstream: 0cac59c "Give up leadership when a disk write fails" (canonical/raft #320). */
static void end_on_write_failure(struct guard *g, int status)
{
	if (status == 0 || status == RAFT_CANCELED || !rule_on(g, GUARD_WRITE_FAILURE))
		return;
	fprintf(stderr,
		"raft log of server %llu: write failed: %s: %s; ending, so that a restart reads what is "
		"stored\n",
		g->raft->id, raft_strerror(status), g->raft->io->errmsg);
	abort();
}

/* Rule GUARD_STALE_RESULT: the library answers whoever leads when the write completes, in the current
 * term, about entries that a leader of an earlier term had sent and this one never compared. Dropped: this
 * leader asks again. Upstream: 35479fc "Don't respond to AppendEntries if role/term has changed". */
static bool stale_result(struct guard *g, const struct raft_message *m)
{
	if (!rule_on(g, GUARD_STALE_RESULT) || g->completing == NULL)
		return false;
	if (g->completing->term == g->raft->current_term && m->server_id != 0 && m->server_address != NULL)
		return false;
	g->counts[GUARD_STALE_RESULT]++;
	return true;
}

/* Rule GUARD_VERIFIED: the library acknowledges its last stored entry, also when its log goes on behind
 * what the leader's message compared, with entries of a deposed leader. Figure 2 of the paper: the answer
 * covers prevLogIndex plus the entries sent. Upstream of the fork that lives on: cowsql/raft 446f8d21. */
static raft_index limit_acknowledged(struct guard *g, raft_index last)
{
	raft_index verified = g->completing != NULL ? g->completing->verified : g->compared;
	if (!rule_on(g, GUARD_VERIFIED) || (g->completing == NULL && !g->comparing) || last <= verified)
		return last;
	g->counts[GUARD_VERIFIED]++;
	return verified;
}

/* Rule GUARD_COMMIT_LIMIT: the library commits min(leader_commit, last stored), and what is stored may end in
 * entries of a deposed leader. Figure 2 of the paper: "index of last new entry". */
static void limit_commit(struct guard *g, struct raft_append_entries *m)
{
	raft_index last_new = m->prev_log_index + m->n_entries;
	if (!rule_on(g, GUARD_COMMIT_LIMIT) || m->leader_commit <= last_new)
		return;
	m->leader_commit = last_new;
	g->counts[GUARD_COMMIT_LIMIT]++;
}

static void free_entries(struct raft_append_entries *m)
{
	void *freed = NULL; /* entries of one batch follow each other */
	for (unsigned i = 0; i < m->n_entries; i++) {
		if (m->entries[i].batch != freed) {
			freed = m->entries[i].batch;
			raft_free(freed);
		}
	}
	raft_free(m->entries);
	m->entries = NULL;
	m->n_entries = 0;
}

/* Rule GUARD_COMPACTED: entries that begin below the first one that we still hold look unknown to the
 * library; it appends them once more, at the end of its log. All below our commit index is committed, so
 * the leader has it too (Leader Completeness, section 5.4.3): the message becomes a heartbeat at our
 * commit index, whose answer tells the leader where to go on. No upstream commit; found by the random
 * schedules. */
static void skip_compacted(struct guard *g, struct raft_append_entries *m)
{
	const struct raft *r = g->raft;
	if (!rule_on(g, GUARD_COMPACTED) || m->n_entries == 0 || r->state == RAFT_UNAVAILABLE ||
	    m->prev_log_index >= r->log.offset || installing_snapshot(r))
		return;
	g->counts[GUARD_COMPACTED]++;
	free_entries(m);
	m->prev_log_index = r->commit_index;
	m->prev_log_term = guard_term_of(g, r->commit_index);
	if (m->leader_commit > m->prev_log_index)
		m->leader_commit = m->prev_log_index;
}

/* Rule GUARD_BUSY_TICK: a follower that stands for election with entries half written votes for itself on
 * a log that its disk does not hold, and the library mixes the writes' answers up with its new role.
 * Upstream: 634cb11 "Don't convert to candidate while entries are being persisted", 4fbd3c0 "... while a
 * snapshot is installing". */
static bool busy_follower(const struct guard *g)
{
	return g->raft->state == RAFT_FOLLOWER && (g->writing > 0 || installing_snapshot(g->raft));
}

static bool skip_tick(struct guard *g)
{
	if (!rule_on(g, GUARD_BUSY_TICK) || !busy_follower(g))
		return false;
	g->counts[GUARD_BUSY_TICK]++;
	return true;
}

/* Rule GUARD_BUSY_TRANSFER: the same by TimeoutNow. The old leader gives up the transfer after an election
 * timeout. Upstream: f65b6e7 "Ignore TimeoutNow when entries are being persisted". */
static bool skip_timeout_now(struct guard *g)
{
	if (!rule_on(g, GUARD_BUSY_TRANSFER) || !busy_follower(g))
		return false;
	g->counts[GUARD_BUSY_TRANSFER]++;
	return true;
}

/* Rule GUARD_PEER_MATCH: on an answer the library tries to commit its own last stored index and nothing
 * less, so that a leader whose disk is ahead of its followers commits late. It is shown, for the time of
 * the call, the index that the peer has. Safe: that index is at or behind the barrier, hence of this term.
 * Upstream: 1996d32 "commit peer match_index instead of leader last_stored". */
static void hear_result(struct guard *g, struct raft_message *m)
{
	struct raft *r = g->raft;
	raft_index stored = r->last_stored, matched = m->append_entries_result.last_log_index;
	if (!rule_on(g, GUARD_PEER_MATCH) || r->state != RAFT_LEADER ||
	    m->append_entries_result.rejected != 0 || m->append_entries_result.term != r->current_term ||
	    matched >= stored || matched < g->barrier_index) {
		g->receive(r->io, m);
		return;
	}
	g->counts[GUARD_PEER_MATCH]++;
	r->last_stored = matched;
	g->receive(r->io, m);
	if (r->last_stored == matched)
		r->last_stored = stored;
}

/* The entry of a server, of this term; NULL when there is no room. */
static struct follower *follower_of(struct guard *g, raft_id id)
{
	raft_term term = g->raft->current_term;
	struct follower *unused = NULL;
	for (unsigned i = 0; i < FOLLOWERS_MAX; i++) {
		struct follower *f = &g->followers[i];
		if (f->id == id && f->term == term)
			return f;
		if (f->id == id || (unused == NULL && f->term != term))
			unused = f;
	}
	if (unused != NULL)
		*unused = (struct follower){.id = id, .term = term};
	return unused;
}

static void note_acked(struct guard *g, const struct raft_message *m)
{
	const struct raft_append_entries_result *result = &m->append_entries_result;
	struct follower *f;
	if (g->raft->state != RAFT_LEADER || result->rejected != 0 || result->term != g->raft->current_term)
		return;
	f = follower_of(g, m->server_id);
	if (f == NULL)
		return;
	if (result->last_log_index > f->acked)
		f->acked = result->last_log_index;
	f->heard = g->raft->io->time(g->raft->io);
}

uint64_t guard_acked(const struct guard *g, uint64_t id, uint64_t *ret_heard_ms)
{
	for (unsigned i = 0; i < FOLLOWERS_MAX && g->raft->state == RAFT_LEADER; i++) {
		const struct follower *f = &g->followers[i];
		if (f->id != id || f->term != g->raft->current_term || f->acked == 0)
			continue;
		*ret_heard_ms = f->heard;
		return f->acked;
	}
	return 0;
}

static void note_told(struct guard *g, const struct raft_message *m)
{
	const struct raft_append_entries *sent = &m->append_entries;
	raft_index last = sent->prev_log_index + sent->n_entries;
	struct follower *f = follower_of(g, m->server_id);
	if (f != NULL)
		f->told = sent->leader_commit < last ? sent->leader_commit : last;
}

static void news_sent(struct raft_io_send *request, int status)
{
	(void)status; /* lost news come with the next heartbeat */
	free(request);
}

/* Rule GUARD_TRAILING: the library rolls an uncommitted configuration back to the entry of the committed
 * one, and crashes if that was compacted away. One change at a time is the library's own rule
 * (RAFT_CANTCHANGE). Upstream: baa8f52 "Ensure configuration rollback is possible". */
static int check_trailing(const struct raft *r, const struct guard_options *options, struct err *err)
{
	if ((options->off_for_tests & (1u << GUARD_TRAILING)) != 0 ||
	    r->snapshot.trailing >= GUARD_TRAILING_MIN)
		return 0;
	return err_set(err, -EINVAL, "snapshot trailing: %u entries; at least %u must stay behind a snapshot",
		       r->snapshot.trailing, GUARD_TRAILING_MIN);
}

static void hear_append_entries(struct guard *g, struct raft_message *m)
{
	limit_commit(g, &m->append_entries);
	skip_compacted(g, &m->append_entries);
	g->compared = m->append_entries.prev_log_index + m->append_entries.n_entries;
	g->comparing = true;
	g->receive(g->raft->io, m);
	g->comparing = false;
}

static void on_message(struct raft_io *io, struct raft_message *m)
{
	struct guard *g = guard_of(io);
	switch (m->type) {
	case RAFT_IO_APPEND_ENTRIES:
		hear_append_entries(g, m);
		break;
	case RAFT_IO_APPEND_ENTRIES_RESULT:
		if (deaf_before_barrier(g, &m->append_entries_result))
			break;
		note_acked(g, m);
		hear_result(g, m);
		break;
	case RAFT_IO_TIMEOUT_NOW:
		if (skip_timeout_now(g))
			break;
		g->receive(io, m);
		break;
	default:
		g->receive(io, m);
		break;
	}
	guard_settle(g);
}

static void on_tick(struct raft_io *io)
{
	struct guard *g = guard_of(io);
	if (!skip_tick(g))
		g->tick(io);
	guard_settle(g);
}

static int guarded_start(struct raft_io *io, unsigned ms, raft_io_tick_cb tick, raft_io_recv_cb receive)
{
	struct guard *g = guard_of(io);
	g->tick = tick;
	g->receive = receive;
	return g->start(io, ms, on_tick, on_message);
}

static void on_appended(struct raft_io_append *request, int status)
{
	struct guarded_append *a = request->data;
	struct guard *g = a->guard;
	g->writing--;
	if (status != 0 && status != RAFT_CANCELED)
		g->counts[GUARD_WRITE_FAILURE]++;
	end_on_write_failure(g, status);
	g->completing = a;
	a->done(a->library, status);
	g->completing = NULL;
	free(a);
	if (status != RAFT_CANCELED)
		guard_settle(g);
}

static int guarded_append(struct raft_io *io, struct raft_io_append *request,
			  const struct raft_entry *entries, unsigned n, raft_io_append_cb done)
{
	struct guard *g = guard_of(io);
	struct guarded_append *a = calloc(1, sizeof *a);
	if (a == NULL)
		return RAFT_NOMEM;
	a->guard = g;
	a->library = request;
	a->done = done;
	a->term = g->raft->current_term;
	a->verified = g->comparing ? g->compared : 0;
	a->request.data = a;
	int rc = g->append(io, &a->request, entries, n, on_appended);
	if (rc != 0) {
		free(a);
		return rc;
	}
	g->writing++;
	return 0;
}

static int guarded_send(struct raft_io *io, struct raft_io_send *request, const struct raft_message *m,
			raft_io_send_cb done)
{
	struct guard *g = guard_of(io);
	if (m->type == RAFT_IO_APPEND_ENTRIES)
		note_told(g, m);
	if (m->type != RAFT_IO_APPEND_ENTRIES_RESULT)
		return g->send(io, request, m, done);
	/* The library frees the request of an answer about a finished write that could not be sent. */
	if (stale_result(g, m))
		return RAFT_NOCONNECTION;
	struct raft_message limited = *m;
	if (m->append_entries_result.rejected == 0)
		limited.append_entries_result.last_log_index =
			limit_acknowledged(g, m->append_entries_result.last_log_index);
	return g->send(io, request, &limited, done);
}

/* raft_uv calls back for every part of it that ends behind the last one: with two in one turn it says twice that it is
 * closed, and the library frees its fields twice. Once is passed on. Seen with 0.15.0 in one close of sixty. */
static void on_io_closed(struct raft_io *io)
{
	struct guard *g = guard_of(io);
	raft_io_close_cb closed = g->closed;
	g->closed = NULL;
	if (closed != NULL)
		closed(io);
}

static void guarded_close(struct raft_io *io, raft_io_close_cb closed)
{
	struct guard *g = guard_of(io);
	g->closed = closed;
	g->close(io, on_io_closed);
}

int guard_new(struct raft *r, const struct guard_options *options, struct guard **ret, struct err *err)
{
	int rc = check_trailing(r, options, err);
	if (rc != 0)
		return rc;
	struct guard *g = calloc(1, sizeof *g);
	if (g == NULL)
		return err_set(err, -ENOMEM, "raft guard: no memory");
	g->raft = r;
	g->options = *options;
	g->start = r->io->start;
	g->append = r->io->append;
	g->send = r->io->send;
	g->close = r->io->close;
	r->io->start = guarded_start;
	r->io->append = guarded_append;
	r->io->send = guarded_send;
	r->io->close = guarded_close;
	r->data = g;
	*ret = g;
	return 0;
}

void guard_free(struct guard *g)
{
	if (g == NULL)
		return;
	must(g->writing == 0);
	free(g);
}

void guard_settle(struct guard *g)
{
	begin_term(g);
	if (g->options.settled != NULL)
		g->options.settled(g->options.arg);
}

/* Rule GUARD_COMMIT_NEWS: the library tells followers the commit index with the next entries, or with a heartbeat
 * when there are none: a follower applies the last entry of a burst up to a heartbeat late. A follower that has
 * acknowledged all of the log, all of it committed, is sent the heartbeat now. It is a message that the
 * library may send at any time; what it compares is what that follower acknowledged in this term. Once a turn, behind
 * the turn's proposals: new entries carry the news themselves. */
void guard_turn(struct guard *g)
{
	struct raft *r = g->raft;
	raft_index last = raft_last_index(r);
	raft_term term = guard_term_of(g, last);
	if (!rule_on(g, GUARD_COMMIT_NEWS) || r->state != RAFT_LEADER || r->commit_index != last || term == 0)
		return;
	for (unsigned i = 0; i < r->configuration.n; i++) {
		const struct raft_server *s = &r->configuration.servers[i];
		struct follower *f = s->id == r->id ? NULL : follower_of(g, s->id);
		if (f == NULL || f->acked != last || f->told >= last)
			continue;
		struct raft_message m = {.type = RAFT_IO_APPEND_ENTRIES,
					 .server_id = s->id,
					 .server_address = s->address,
					 .append_entries = {.term = r->current_term,
							    .prev_log_index = last,
							    .prev_log_term = term,
							    .leader_commit = last}};
		struct raft_io_send *request = malloc(sizeof *request);
		f->told = last; /* also when it cannot be sent: tried once */
		if (request == NULL || g->send(r->io, request, &m, news_sent) != 0)
			free(request);
		else
			g->counts[GUARD_COMMIT_NEWS]++;
	}
}

bool guard_leads(const struct guard *g)
{
	return g->raft->state == RAFT_LEADER && g->applied_term == g->raft->current_term;
}

uint64_t guard_term_of(const struct guard *g, uint64_t index)
{
	const struct raft_log *log = &g->raft->log;
	if (index == log->snapshot.last_index && index != 0)
		return log->snapshot.last_term;
	if (index <= log->offset || index > raft_last_index(g->raft))
		return 0;
	return log->entries[(log->front + (size_t)(index - 1 - log->offset)) % log->size].term;
}

uint64_t guard_count(const struct guard *g, enum guard_rule rule)
{
	return g->counts[rule];
}

const char *guard_rule_name(enum guard_rule rule)
{
	static const char *const names[GUARD_RULES] = {
		[GUARD_TERM_BARRIER] = "term_barrier", [GUARD_WRITE_FAILURE] = "write_failure",
		[GUARD_STALE_RESULT] = "stale_result", [GUARD_VERIFIED] = "verified",
		[GUARD_COMMIT_LIMIT] = "commit_limit", [GUARD_COMPACTED] = "compacted",
		[GUARD_BUSY_TICK] = "busy_tick",       [GUARD_BUSY_TRANSFER] = "busy_transfer",
		[GUARD_PEER_MATCH] = "peer_match",     [GUARD_TRAILING] = "trailing",
		[GUARD_COMMIT_NEWS] = "commit_news",
	};
	must(rule >= 0 && rule < GUARD_RULES);
	return names[rule];
}
