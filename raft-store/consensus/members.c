/* members.c -- who belongs to the log, and the leader's changes of that.
 *
 * Happy path: consensus_change notes what a server should be; once a turn members_turn takes the next step towards it: add (a
 * spare, which gets nothing), assign standby (which gets the log), assign voter (the library waits until it has caught up), or
 * remove. Each step is an entry of the log; when it is committed the next one follows.
 *
 * Failure modes: a server that does not catch up ends the change with -ETIMEDOUT, after ten rounds or five seconds without progress; it
 * stays a standby. Leadership lost: -ECONNABORTED; the next leader finds in its configuration how far the change came, and
 * may ask for the same change again. A server that was removed is sent nothing any more, so it never learns that by
 * the log: whoever removes it must tell it.
 *
 * Invariants: one step at a time, and the first one behind the barrier of the leader's term (Ongaro's correction of
 * single-server changes, raft-dev 2015); the library answers a step exactly once. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "consensus/parts.h"
#include "consensus/rpc/rpc.h"

static const struct raft_server *server_of(const struct consensus *c, uint64_t id)
{
	for (unsigned i = 0; i < c->raft.configuration.n; i++)
		if (c->raft.configuration.servers[i].id == id)
			return &c->raft.configuration.servers[i];
	return NULL;
}

static void finish(struct consensus *c, int status)
{
	void (*done)(void *, int) = c->change.done;
	c->change.done = NULL;
	c->change.running = false;
	done(c->change.arg, status);
}

static void step_done(struct raft_change *request, int status)
{
	struct consensus *c = request->data;
	c->change.running = false;
	if (c->change.done == NULL || status == 0)
		return; /* members_turn goes on */
	finish(c, status == RAFT_NOCONNECTION ? -ETIMEDOUT : -ECONNABORTED);
}

static int status_of(int rc)
{
	switch (rc) {
	case RAFT_NOMEM:
		return -ENOMEM;
	case RAFT_DUPLICATEID:
	case RAFT_DUPLICATEADDRESS:
		return -EEXIST;
	default:
		return -ECONNABORTED;
	}
}

/* Why the configuration can never become so; 0: it can. */
static int check_step(const struct consensus *c, const struct raft_server *s)
{
	if (c->change.role == CONSENSUS_GONE)
		return 0;
	if (s == NULL)
		return c->raft.configuration.n >= CONSENSUS_MEMBERS_MAX ? -ENOSPC : 0;
	return strcmp(s->address, c->change.address) != 0 ? -EEXIST : 0;
}

static bool is_so(const struct consensus *c, const struct raft_server *s)
{
	switch (c->change.role) {
	case CONSENSUS_GONE:
		return s == NULL;
	case CONSENSUS_STANDBY:
		return s != NULL && s->role == RAFT_STANDBY;
	case CONSENSUS_VOTER:
		return s != NULL && s->role == RAFT_VOTER;
	}
	return true;
}

static int next_step(struct consensus *c, const struct raft_server *s)
{
	struct raft_change *request = &c->change.request;
	uint64_t id = c->change.id;
	if (c->change.role == CONSENSUS_GONE)
		return raft_remove(&c->raft, request, id, step_done);
	if (s == NULL)
		return raft_add(&c->raft, request, id, c->change.address, step_done);
	if (c->change.role == CONSENSUS_VOTER && s->role == RAFT_STANDBY)
		return raft_assign(&c->raft, request, id, RAFT_VOTER, step_done);
	return raft_assign(&c->raft, request, id, RAFT_STANDBY, step_done);
}

void members_turn(struct consensus *c)
{
	if (c->change.done == NULL || c->change.running)
		return;
	const struct raft_server *s = server_of(c, c->change.id);
	int rc = 0;
	if (c->phase != CONSENSUS_RUNNING || !guard_leads(c->guard))
		rc = -ECONNABORTED;
	else if (c->raft.configuration_uncommitted_index != 0)
		return; /* a step of another leader; the next turn behind its commit goes on */
	else
		rc = check_step(c, s);
	if (rc != 0 || is_so(c, s)) {
		finish(c, rc);
		return;
	}
	c->change.request.data = c;
	c->change.running = true;
	rc = next_step(c, s);
	if (rc != 0)
		finish(c, status_of(rc));
}

int consensus_change(struct consensus *c, uint64_t id, const char *address, enum consensus_role role,
		     void (*done)(void *arg, int status), void *arg)
{
	if (c->phase != CONSENSUS_RUNNING || !guard_leads(c->guard))
		return -EAGAIN;
	if (c->change.done != NULL || c->raft.transfer != NULL)
		return -EBUSY;
	if (id == 0 || id == c->options.id || (role != CONSENSUS_GONE && address == NULL) ||
	    (address != NULL && strlen(address) >= CONSENSUS_ADDRESS_SIZE))
		return -EINVAL;
	c->change.id = id;
	c->change.role = role;
	snprintf(c->change.address, sizeof c->change.address, "%s", address != NULL ? address : "");
	c->change.done = done;
	c->change.arg = arg;
	return 0;
}

uint32_t consensus_servers(const struct consensus *c, struct consensus_server ret[CONSENSUS_MEMBERS_MAX])
{
	uint32_t n = 0;
	for (unsigned i = 0; c->have_raft && i < c->raft.configuration.n && n < CONSENSUS_MEMBERS_MAX; i++) {
		const struct raft_server *s = &c->raft.configuration.servers[i];
		struct consensus_server *to = &ret[n++];
		uint64_t heard = 0;
		*to = (struct consensus_server){.id = s->id,
						.role = s->role == RAFT_VOTER ? CONSENSUS_VOTER
									      : CONSENSUS_STANDBY,
						.ago_ms = UINT64_MAX};
		snprintf(to->address, sizeof to->address, "%s", s->address);
		if (s->id == c->options.id && c->raft.state == RAFT_LEADER) {
			to->stored = c->raft.last_stored;
			to->ago_ms = 0;
		} else if ((to->stored = guard_acked(c->guard, s->id, &heard)) != 0) {
			to->ago_ms = c->raft.io->time(c->raft.io) - heard;
		}
	}
	return n;
}

void consensus_cut(struct consensus *c, uint64_t id)
{
	if (c->rpc != NULL)
		rpc_cut(c->rpc, id);
}
