/* storing.c -- what the library's files must be kept from. See rules.h. */
#include <stdio.h>
#include <stdlib.h>

#include "consensus/rules/rules.h"
#include "core/must.h"

/* Rule GUARD_WRITE_FAILURE: after a failed write the library's leader goes on leading, with memory and
 * disk in disagreement. Nothing that happens afterwards can be trusted; a restart reads what the disk
 * really holds. Upstream: 0cac59c "Give up leadership when a disk write fails" (canonical/raft #320). */
void end_on_write_failure(struct guard *g, int status)
{
	if (status == 0 || status == RAFT_CANCELED || !rule_on(g, GUARD_WRITE_FAILURE))
		return;
	fprintf(stderr,
		"raft log of server %llu: write failed: %s: %s; ending, so that a restart reads what is "
		"stored\n",
		g->raft->id, raft_strerror(status), g->raft->io->errmsg);
	abort();
}

/* Rule GUARD_ONE_BARRIER: a truncation and the storing of a snapshot wait behind a barrier of raft_uv each, and it has room
 * for one: of a second one it forgets the callback when every open segment belongs to the first. Then the log in memory is
 * cut and the one on the disk is not, and entries that follow stand behind those that were cut. So one is done before
 * the next begins: messages that would need it are dropped, and come again with the leader's next heartbeat.
 * Upstream: canonical/raft #372, 50d72f2 "A barrier can have multiple barrier requests", 5319cd9 "Never invoke barrier
 * callback twice". */
bool skip_while_storing(struct guard *g, const struct raft_message *m)
{
	bool snapshot = g->raft->snapshot.put.data != NULL;
	if (!rule_on(g, GUARD_ONE_BARRIER) || (!snapshot && !g->cutting))
		return false;
	if (m->type == RAFT_IO_INSTALL_SNAPSHOT ? !g->cutting : first_conflict(g, &m->append_entries) == 0)
		return false;
	g->counts[GUARD_ONE_BARRIER]++;
	return true;
}

/* The first append behind it is written once the truncation is done. */
int guarded_truncate(struct raft_io *io, raft_index index)
{
	struct guard *g = ((struct raft *)io->data)->data;
	int rc = g->truncate(io, index);
	if (rc == 0 && g->comparing)
		g->cutting = true;
	return rc;
}

/* One that was received does not come here: its message was dropped. An error would make the library unavailable. */
int guarded_snapshot_put(struct raft_io *io, unsigned trailing, struct raft_io_snapshot_put *request,
			 const struct raft_snapshot *snapshot, raft_io_snapshot_put_cb done)
{
	struct guard *g = ((struct raft *)io->data)->data;
	if (!g->cutting || !rule_on(g, GUARD_ONE_BARRIER))
		return g->snapshot_put(io, trailing, request, snapshot, done);
	must(g->postponed.request == NULL);
	g->counts[GUARD_ONE_BARRIER]++;
	g->postponed.request = request;
	g->postponed.trailing = trailing;
	g->postponed.snapshot = snapshot;
	g->postponed.done = done;
	return 0;
}

void end_cut(struct guard *g, bool cancelled)
{
	struct raft_io_snapshot_put *request = g->postponed.request;
	g->cutting = false;
	if (request == NULL)
		return;
	g->postponed.request = NULL;
	int rc = cancelled ? RAFT_CANCELED
			   : g->snapshot_put(g->raft->io, g->postponed.trailing, request,
					     g->postponed.snapshot, g->postponed.done);
	if (rc != 0)
		g->postponed.done(request, rc);
}

/* Whether a write or a message under way still holds an entry of that index and term. libraft: refsKey in log.c. */
static bool is_referenced(const struct raft_log *log, raft_index index, raft_term term)
{
	if (log->refs_size == 0)
		return false;
	const struct raft_entry_ref *slot = &log->refs[(index - 1) % log->refs_size];
	if (slot->count == 0 || slot->index != index)
		return false;
	while (slot != NULL && slot->term != term)
		slot = slot->next;
	return slot != NULL;
}

/* Rule GUARD_REAPPEND: an entry that was cut off while a write or a message under way still held it, and comes back from a later
 * leader, is counted twice under one name: the first to let go frees the memory of the other. Dropped until nobody
 * holds it. Upstream: 8be539d "Try to reinstate entries that have been truncated away". */
bool skip_reappended(struct guard *g, const struct raft_append_entries *m)
{
	const struct raft *r = g->raft;
	raft_index conflict = first_conflict(g, m), last = raft_last_index(g->raft);
	if (!rule_on(g, GUARD_REAPPEND))
		return false;
	for (unsigned i = 0; i < m->n_entries; i++) {
		raft_index index = m->prev_log_index + 1 + i;
		bool is_new = index > last || (conflict != 0 && index >= conflict);
		if (!is_new || !is_referenced(&r->log, index, m->entries[i].term))
			continue;
		g->counts[GUARD_REAPPEND]++;
		return true;
	}
	return false;
}
