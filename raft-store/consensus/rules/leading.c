/* leading.c -- what a leader must do better than the library. See rules.h. */
#include <stdlib.h>

#include "consensus/rules/rules.h"

#define PROGRESS_SNAPSHOT 2 /* libraft: progress.h */

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
void begin_term(struct guard *g)
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
bool deaf_before_barrier(struct guard *g, const struct raft_append_entries_result *result)
{
	const struct raft *r = g->raft;
	if (!rule_on(g, GUARD_TERM_BARRIER) || r->state != RAFT_LEADER || result->term > r->current_term ||
	    r->last_stored >= g->barrier_index)
		return false;
	g->counts[GUARD_TERM_BARRIER]++;
	return true;
}

/* Rule GUARD_SNAPSHOT_SENT: while a follower is sent a snapshot its heartbeats carry the leader's last index. It refuses them, and
 * when that index is the snapshot's own, which it is on a leader at rest, the library takes the answer for a refusal of
 * the snapshot and begins anew before it has read the snapshot from its disk, again and again. Such an answer is
 * made one that the library ignores; a snapshot that was really refused is sent again after its timeout. No upstream
 * commit; found by the random schedules. */
void keep_sending_snapshot(struct guard *g, struct raft_message *m)
{
	const struct raft *r = g->raft;
	struct raft_append_entries_result *result = &m->append_entries_result;
	if (!rule_on(g, GUARD_SNAPSHOT_SENT) || r->state != RAFT_LEADER || result->rejected == 0 ||
	    result->term != r->current_term)
		return;
	for (unsigned i = 0; i < r->configuration.n; i++) {
		const struct raft_progress *p = &r->leader_state.progress[i];
		if (r->configuration.servers[i].id != m->server_id || p->state != PROGRESS_SNAPSHOT ||
		    p->snapshot_index != result->rejected)
			continue;
		result->rejected++;
		g->counts[GUARD_SNAPSHOT_SENT]++;
	}
}

/* Rule GUARD_PEER_MATCH: on an answer the library tries to commit its own last stored index and nothing
 * less, so that a leader whose disk is ahead of its followers commits late. It is shown, for the time of
 * the call, the index that the peer has. Safe: that index is at or behind the barrier, hence of this term.
 * Upstream: 1996d32 "commit peer match_index instead of leader last_stored". */
void hear_result(struct guard *g, struct raft_message *m)
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

void note_acked(struct guard *g, const struct raft_message *m)
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

void note_told(struct guard *g, const struct raft_message *m)
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
