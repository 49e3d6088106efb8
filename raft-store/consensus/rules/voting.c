/* voting.c -- who votes for whom, and which configuration counts. See rules.h. */
#include <endian.h>
#include <errno.h>
#include <string.h>

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

static uint64_t get64(const unsigned char *p)
{
	uint64_t x;
	memcpy(&x, p, sizeof x);
	return le64toh(x);
}

/* {u8 format, u64 n, n times {u64 id, address with a zero, u8 role}}, little endian. libraft: configurationDecode. */
static bool decode_configuration(const struct raft_buffer *buffer, struct raft_configuration *to)
{
	const unsigned char *p = buffer->base, *end = p + buffer->len;
	raft_configuration_init(to);
	if (buffer->len < 9 || p[0] != 1)
		return false;
	uint64_t n = get64(p + 1);
	p += 9;
	for (uint64_t i = 0; i < n; i++) {
		const unsigned char *zero = end - p > 8 ? memchr(p + 8, 0, (size_t)(end - p - 8)) : NULL;
		if (zero == NULL || end - zero < 2 ||
		    raft_configuration_add(to, get64(p), (const char *)p + 8, zero[1]) != 0) {
			raft_configuration_close(to);
			return false;
		}
		p = zero + 2;
	}
	return true;
}

static void keep_configuration(struct guard *g, struct raft_configuration configuration, raft_index index)
{
	raft_configuration_close(&g->committed);
	g->committed = configuration;
	g->committed_index = index;
}

/* Rule GUARD_ROLLBACK after a restart: the library takes the last configuration of its log for a committed one. Of several the
 * last but one is, for there is one change at a time; or else the snapshot's. */
int guarded_load(struct raft_io *io, raft_term *term, raft_id *vote, struct raft_snapshot **snapshot,
		 raft_index *start, struct raft_entry **entries, size_t *n)
{
	struct guard *g = ((struct raft *)io->data)->data;
	struct raft_configuration last;
	int rc = g->load(io, term, vote, snapshot, start, entries, n);
	if (rc != 0 || !rule_on(g, GUARD_ROLLBACK))
		return rc;
	if (*snapshot != NULL) {
		copy_configuration(&(*snapshot)->configuration, &last);
		keep_configuration(g, last, (*snapshot)->configuration_index);
	}
	raft_configuration_init(&last);
	for (size_t i = 0; i < *n; i++) {
		const struct raft_entry *e = &(*entries)[i];
		if (e->type != RAFT_CHANGE)
			continue;
		if (g->loaded_change != 0)
			keep_configuration(g, last, g->loaded_change);
		g->loaded_change = decode_configuration(&e->buf, &last) ? *start + i : 0;
	}
	raft_configuration_close(&last);
	return 0;
}

void mark_uncommitted(struct guard *g)
{
	struct raft *r = g->raft;
	if (g->committed_index == 0 || g->loaded_change <= r->commit_index ||
	    r->configuration_index != g->loaded_change)
		return;
	r->configuration_index = g->committed_index;
	r->configuration_uncommitted_index = g->loaded_change;
}

/* Rule GUARD_ROLLBACK, first half: the committed configuration is kept. */
void keep_committed(struct guard *g)
{
	const struct raft *r = g->raft;
	if (r->configuration_uncommitted_index != 0 || r->configuration_index == 0 ||
	    r->configuration_index == g->committed_index)
		return;
	struct raft_configuration copy;
	copy_configuration(&r->configuration, &copy);
	keep_configuration(g, copy, r->configuration_index);
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
