/* following.c -- what a follower must do better than the library. See rules.h. */
#include "consensus/rules/rules.h"

/* Rule GUARD_STALE_RESULT: the library answers whoever leads when the write completes, in the current
 * term, about entries that a leader of an earlier term had sent and this one never compared. Dropped: this
 * leader asks again. Upstream: 35479fc "Don't respond to AppendEntries if role/term has changed". */
bool stale_result(struct guard *g, const struct raft_message *m)
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
raft_index limit_acknowledged(struct guard *g, raft_index last)
{
	raft_index verified = g->completing != NULL ? g->completing->verified : g->compared;
	if (!rule_on(g, GUARD_VERIFIED) || (g->completing == NULL && !g->comparing) || last <= verified)
		return last;
	g->counts[GUARD_VERIFIED]++;
	return verified;
}

/* Rule GUARD_COMMIT_LIMIT: the library commits min(leader_commit, last stored), and what is stored may end in
 * entries of a deposed leader. Figure 2 of the paper: "index of last new entry". */
void limit_commit(struct guard *g, struct raft_append_entries *m)
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

void become_heartbeat(struct guard *g, struct raft_append_entries *m)
{
	if (m->n_entries > 0)
		free_entries(m);
	m->prev_log_index = g->raft->commit_index;
	m->prev_log_term = guard_term_of(g, m->prev_log_index);
	if (m->leader_commit > m->prev_log_index)
		m->leader_commit = m->prev_log_index;
}

raft_index first_conflict(const struct guard *g, const struct raft_append_entries *m)
{
	for (unsigned i = 0; i < m->n_entries; i++) {
		raft_term local = guard_term_of(g, m->prev_log_index + 1 + i);
		if (local == 0)
			return 0;
		if (local != m->entries[i].term)
			return m->prev_log_index + 1 + i;
	}
	return 0;
}

/* Rule GUARD_COMPACTED: entries that begin below the first one that we still hold look unknown to the
 * library; it appends them once more, at the end of its log. All below our commit index is committed, so
 * the leader has it too (Leader Completeness, section 5.4.3): the message becomes a heartbeat at our
 * commit index, whose answer tells the leader where to go on. No upstream commit; found by the random
 * schedules. */
void skip_compacted(struct guard *g, struct raft_append_entries *m)
{
	const struct raft *r = g->raft;
	if (!rule_on(g, GUARD_COMPACTED) || m->n_entries == 0 || r->state == RAFT_UNAVAILABLE ||
	    m->prev_log_index >= r->log.offset || installing_snapshot(r))
		return;
	g->counts[GUARD_COMPACTED]++;
	become_heartbeat(g, m);
}

/* Rule GUARD_BUSY_TICK: a follower that stands for election with entries half written votes for itself on
 * a log that its disk does not hold, and the library mixes the writes' answers up with its new role.
 * Upstream: 634cb11 "Don't convert to candidate while entries are being persisted", 4fbd3c0 "... while a
 * snapshot is installing". */
static bool busy_follower(const struct guard *g)
{
	return g->raft->state == RAFT_FOLLOWER && (g->writing > 0 || installing_snapshot(g->raft));
}

bool skip_tick(struct guard *g)
{
	if (!rule_on(g, GUARD_BUSY_TICK) || !busy_follower(g))
		return false;
	g->counts[GUARD_BUSY_TICK]++;
	return true;
}

/* Rule GUARD_BUSY_TRANSFER: the same by TimeoutNow. The old leader gives up the transfer after an election
 * timeout. Upstream: f65b6e7 "Ignore TimeoutNow when entries are being persisted". */
bool skip_timeout_now(struct guard *g)
{
	if (!rule_on(g, GUARD_BUSY_TRANSFER) || !busy_follower(g))
		return false;
	g->counts[GUARD_BUSY_TRANSFER]++;
	return true;
}
