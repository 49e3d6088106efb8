/* voting.c -- who votes for whom, and which configuration counts. See rules.h. */
#include <errno.h>

#include "consensus/rules/rules.h"
#include "core/must.h"

/* Rule GUARD_ONE_VOTE: a server that was asked to hand its leadership over votes for that server in any term, also in one in which
 * it has voted for another already: two leaders of one term. Nothing needs the exception, for a new term forgets the vote.
 * The Raft paper, section 5.2: "Each server will vote for at most one candidate in a given term". Not corrected upstream
 * up to 0.18.1 (electionVote, is_transferee). */
bool skip_second_vote(struct guard *g, const struct raft_request_vote *m)
{
	const struct raft *r = g->raft;
	if (!rule_on(g, GUARD_ONE_VOTE) || m->pre_vote || m->term != r->current_term || r->voted_for == 0 ||
	    r->voted_for == m->candidate_id)
		return false;
	g->counts[GUARD_ONE_VOTE]++;
	return true;
}

/* Rule GUARD_TRAILING: what a follower lacks of the log behind a snapshot costs it a whole snapshot, and entries that come late for
 * what was compacted are where most of the library's faults lie. So enough stays. */
int check_trailing(const struct raft *r, const struct guard_options *options, struct err *err)
{
	if ((options->off_for_tests & (1u << GUARD_TRAILING)) != 0 ||
	    r->snapshot.trailing >= GUARD_TRAILING_MIN)
		return 0;
	return err_set(err, -EINVAL, "snapshot trailing: %u entries; at least %u must stay behind a snapshot",
		       r->snapshot.trailing, GUARD_TRAILING_MIN);
}

static void copy_configuration(const struct raft_configuration *from, struct raft_configuration *to)
{
	raft_configuration_init(to);
	for (unsigned i = 0; i < from->n; i++)
		must(raft_configuration_add(to, from->servers[i].id, from->servers[i].address,
					    from->servers[i].role) == 0);
}

/* Rule GUARD_ROLLBACK, first half: the committed configuration is kept. */
void keep_committed(struct guard *g)
{
	const struct raft *r = g->raft;
	if (r->configuration_uncommitted_index != 0 || r->configuration_index == 0 ||
	    r->configuration_index == g->committed_index)
		return;
	raft_configuration_close(&g->committed);
	copy_configuration(&r->configuration, &g->committed);
	g->committed_index = r->configuration_index;
}

/* Rule GUARD_ROLLBACK, second half: when a new leader overwrites a change of the configuration that was not committed, the library
 * goes back to the entry of the committed one, and crashes if that was compacted away. Then the one that is kept takes its
 * place before. One change at a time is the library's own rule (RAFT_CANTCHANGE). Upstream: baa8f52 "Ensure configuration
 * rollback is possible". */
void roll_back(struct guard *g, const struct raft_append_entries *m)
{
	struct raft *r = g->raft;
	raft_index conflict = first_conflict(g, m);
	bool overwrites = m->term >= r->current_term && conflict != 0 &&
			  r->configuration_uncommitted_index >= conflict &&
			  (m->prev_log_index == 0 || guard_term_of(g, m->prev_log_index) == m->prev_log_term);
	if (!rule_on(g, GUARD_ROLLBACK) || !overwrites || r->configuration_index > r->log.offset ||
	    g->committed_index != r->configuration_index)
		return;
	raft_configuration_close(&r->configuration);
	copy_configuration(&g->committed, &r->configuration);
	r->configuration_uncommitted_index = 0;
	g->counts[GUARD_ROLLBACK]++;
}
