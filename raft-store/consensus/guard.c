/* guard.c -- see guard.h.
 *
 * Happy path: guard_new replaces start, append, truncate, snapshot_put, send and close in the raft_io. start keeps the
 * library's tick and message handlers and installs ours; each of ours applies its rules, calls the library's, and then
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
#include <stdlib.h>

#include "consensus/rules/rules.h"

#include "core/must.h"

static struct guard *guard_of(struct raft_io *io)
{
	struct raft *r = io->data;
	return r->data;
}

bool rule_on(const struct guard *g, enum guard_rule rule)
{
	return (g->options.off_for_tests & (1u << rule)) == 0;
}

bool installing_snapshot(const struct raft *r)
{
	return r->last_stored == 0 && r->snapshot.put.data != NULL;
}

static void hear_append_entries(struct guard *g, struct raft_message *m)
{
	struct raft_append_entries *entries = &m->append_entries;
	limit_commit(g, entries);
	if (g->raft->state != RAFT_UNAVAILABLE && (skip_while_storing(g, m) || skip_reappended(g, entries)))
		become_heartbeat(g, entries);
	else
		skip_compacted(g, entries);
	roll_back(g, entries);
	g->compared = entries->prev_log_index + entries->n_entries;
	g->comparing = true;
	g->receive(g->raft->io, m);
	g->comparing = false;
}

static void hear_snapshot(struct guard *g, struct raft_message *m)
{
	if (!skip_while_storing(g, m)) {
		g->receive(g->raft->io, m);
		return;
	}
	raft_configuration_close(&m->install_snapshot.conf);
	raft_free(m->install_snapshot.data.base);
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
		keep_sending_snapshot(g, m);
		hear_result(g, m);
		break;
	case RAFT_IO_INSTALL_SNAPSHOT:
		hear_snapshot(g, m);
		break;
	case RAFT_IO_REQUEST_VOTE:
		if (skip_second_vote(g, &m->request_vote))
			break;
		g->receive(io, m);
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
	mark_uncommitted(g);
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
	if (g->cutting && a->ends_cut)
		end_cut(g, status == RAFT_CANCELED);
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
	a->ends_cut = g->cutting;
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
	end_cut(g, true);
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
	g->load = r->io->load;
	g->truncate = r->io->truncate;
	g->snapshot_put = r->io->snapshot_put;
	g->close = r->io->close;
	r->io->start = guarded_start;
	r->io->append = guarded_append;
	r->io->send = guarded_send;
	r->io->load = guarded_load;
	r->io->truncate = guarded_truncate;
	r->io->snapshot_put = guarded_snapshot_put;
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
	raft_configuration_close(&g->committed);
	free(g);
}

void guard_settle(struct guard *g)
{
	begin_term(g);
	keep_committed(g);
	if (g->options.settled != NULL)
		g->options.settled(g->options.arg);
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
		[GUARD_COMMIT_NEWS] = "commit_news",   [GUARD_ONE_BARRIER] = "one_barrier",
		[GUARD_REAPPEND] = "reappend",         [GUARD_ONE_VOTE] = "one_vote",
		[GUARD_ROLLBACK] = "rollback",         [GUARD_SNAPSHOT_SENT] = "snapshot_sent",
	};
	must(rule >= 0 && rule < GUARD_RULES);
	return names[rule];
}
