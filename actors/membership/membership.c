/* Leases; voters.c: which nodes are voters.
 *
 * Happy path: each node asks the leader's membership once a second to renew its lease; the leader proposes all that asked
 * as one command a second; its commit gives each a lease from the moment when it sent its question, and the node moves
 * sandboxd's fence to that end.
 * Failure modes: a node that is not heard of for lost_ms, counted from the later of its last renewal and this node's
 * election, is proposed lost, naming the renewal that was judged; an answer that never comes leaves the lease as it is.
 * Invariants: a lease only ever ends later by a committed renewal; a lost epoch is never renewed. */
#include "membership.h"

#include <errno.h>

#include "judges.h"
#include "voters.h"

#define TICK_MS    1000
#define PROPOSE_MS 5000
#define FENCE_MS   5000

struct renewing {
	struct renewal renewal;
	struct asker asker;
};

struct heard {
	uint64_t node, renewed_ms, at_ms; /* at_ms: boot time when this leader saw that renewal */
};

struct membership {
	struct actor actor;
	uint64_t own;   /* the request of our own renewal */
	uint64_t batch; /* the proposal of `sent`; 0: none */
	struct renewing next[MEMBERSHIP_NODES_MAX], sent[MEMBERSHIP_NODES_MAX];
	uint32_t n_next, n_sent;
	struct heard heard[MEMBERSHIP_NODES_MAX];
	uint32_t n_heard;
	struct judges judges;
	struct voters voters;
};

static void renew_own(struct membership *self, struct context *c)
{
	if (context_epoch(c) != 0)
		self->own = context_request(
			c, (struct address){ADDRESS_MEMBERSHIP, NODE_LEADER, 0}, MSG_RENEW,
			&(struct msg_renew){c->node, context_epoch(c), c->now_ms, context_disk(c)},
			PROPOSE_MS);
	context_timer(c, c->now_ms + TICK_MS);
}

static uint8_t follow_tick(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	renew_own((struct membership *)a, c);
	return MEMBERSHIP_FOLLOWING;
}

static uint8_t renewed(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_renewed *body = m->body;
	uint64_t until_ms = body->sent_ms + state_cluster(c->state)->settings.lease_ms;

	/* A renewal thaws. What was frozen here while the node counted as lost may be of sessions that live elsewhere by now. */
	if (body->epoch != context_epoch(c) || until_ms <= runtime_lease_ms(c->runtime) ||
	    !context_knows_host(c))
		return a->state;
	context_lease(c, until_ms);
	context_drive(c, SANDBOXD_FENCE, &(struct sandboxd_fence){until_ms}, 0, 0, FENCE_MS);
	return a->state;
}

static uint8_t lead(struct actor *a, struct context *c, const struct message *m)
{
	struct membership *self = (struct membership *)a;
	const struct msg_leading *body = m->body;

	if (!body->leading)
		return MEMBERSHIP_FOLLOWING;
	self->n_heard = 0;
	renew_own(self, c);
	return MEMBERSHIP_LEADING;
}

static void answer_all(struct context *c, struct renewing *list, uint32_t *n, int32_t code)
{
	for (uint32_t i = 0; i < *n; i++) {
		const struct renewal *r = &list[i].renewal;
		const struct node_row *node = state_node(c->state, r->node);

		if (code != 0)
			context_refuse(c, &list[i].asker, -EAGAIN, "the renewal did not commit");
		else if (node == NULL || node->state != NODE_UP || node->epoch != r->epoch)
			context_refuse(c, &list[i].asker, -ESTALE, "the node was lost: it has to join again");
		else
			context_answer(c, &list[i].asker, MSG_RENEWED,
				       &(struct msg_renewed){r->epoch, r->sent_ms});
	}
	*n = 0;
}

static void clear(struct membership *self, struct context *c)
{
	answer_all(c, self->sent, &self->n_sent, -EAGAIN);
	answer_all(c, self->next, &self->n_next, -EAGAIN);
	judges_clear(&self->judges, c);
	voters_clear(&self->voters);
	self->batch = 0;
}

static uint8_t unlead(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_leading *body = m->body;

	if (body->leading)
		return MEMBERSHIP_LEADING;
	clear((struct membership *)a, c);
	return MEMBERSHIP_FOLLOWING;
}

static uint8_t renew(struct actor *a, struct context *c, const struct message *m)
{
	struct membership *self = (struct membership *)a;
	const struct msg_renew *body = m->body;

	if (body->node != m->envelope->from.node) {
		context_reply(c, m, MSG_REFUSED,
			      &(struct msg_refused){-EPERM, STR("it renews the lease of another node")});
		return MEMBERSHIP_LEADING;
	}
	if (self->n_next == MEMBERSHIP_NODES_MAX) {
		context_reply(c, m, MSG_REFUSED,
			      &(struct msg_refused){-ENOBUFS, STR("too many nodes renew at once")});
		return MEMBERSHIP_LEADING;
	}
	self->next[self->n_next++] =
		(struct renewing){{body->node, body->epoch, body->sent_ms, body->disk}, context_asker(m)};
	return MEMBERSHIP_LEADING;
}

static void propose_batch(struct membership *self, struct context *c)
{
	struct renewal renewals[MEMBERSHIP_NODES_MAX];

	if (self->batch != 0 || self->n_next == 0)
		return;
	for (uint32_t i = 0; i < self->n_next; i++) {
		self->sent[i] = self->next[i];
		renewals[i] = self->next[i].renewal;
	}
	self->n_sent = self->n_next;
	self->n_next = 0;
	self->batch = context_propose(c, COMMAND_NODE_RENEW, &(struct cmd_node_renew){renewals, self->n_sent},
				      PROPOSE_MS);
}

static struct heard *heard_of(struct membership *self, uint64_t node)
{
	for (uint32_t i = 0; i < self->n_heard; i++) {
		if (self->heard[i].node == node)
			return &self->heard[i];
	}
	if (self->n_heard == MEMBERSHIP_NODES_MAX)
		return NULL;
	self->heard[self->n_heard] = (struct heard){.node = node};
	return &self->heard[self->n_heard++];
}

/* Boot time of this leader alone: since its election, and since it saw the node's last renewal applied. */
static void judge_lost(struct membership *self, struct context *c)
{
	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		struct heard *heard = heard_of(self, row->id);

		if (heard == NULL || row->id == c->node || row->state != NODE_UP)
			continue;
		if (heard->at_ms == 0 || heard->renewed_ms != row->renewed_ms) {
			heard->renewed_ms = row->renewed_ms;
			heard->at_ms = c->now_ms;
		} else if (c->now_ms > heard->at_ms + state_cluster(c->state)->settings.lost_ms) {
			context_propose(c, COMMAND_NODE_LOST,
					&(struct cmd_node_lost){row->id, row->epoch, row->renewed_ms},
					PROPOSE_MS);
		}
	}
}

static uint8_t lead_tick(struct actor *a, struct context *c, const struct message *m)
{
	struct membership *self = (struct membership *)a;

	(void)m;
	propose_batch(self, c);
	judge_lost(self, c);
	voters_tick(&self->voters, c);
	renew_own(self, c);
	return MEMBERSHIP_LEADING;
}

static void outcome(struct membership *self, struct context *c, uint64_t request, int32_t code,
		    struct str message)
{
	if (request == self->batch) {
		self->batch = 0;
		answer_all(c, self->sent, &self->n_sent, code);
	} else if (!voters_outcome(&self->voters, c, request, code, message)) {
		judges_proposed(&self->judges, c, request, code);
	}
}

static uint8_t proposed(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_proposed *body = m->body;

	outcome((struct membership *)a, c, m->envelope->correlation, body->code, body->message);
	return MEMBERSHIP_LEADING;
}

static uint8_t unknown(struct actor *a, struct context *c, const struct message *m)
{
	outcome((struct membership *)a, c, m->envelope->correlation, -ETIMEDOUT, STR_NONE);
	return MEMBERSHIP_LEADING;
}

static uint8_t judge(struct actor *a, struct context *c, const struct message *m)
{
	judges_take(&((struct membership *)a)->judges, c, m);
	return MEMBERSHIP_LEADING;
}

#define T(s) SM_TO(MEMBERSHIP_##s)
static const struct sm_cell cells[MEMBERSHIP_STATES][MSG_TYPES] =
	{
		[MEMBERSHIP_FOLLOWING] =
			{
				[MSG_TIMER] = ON(follow_tick, T(FOLLOWING)),
				[MSG_LEADING] = ON(lead, T(FOLLOWING) | T(LEADING)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_RENEW] = REFUSE,
				[MSG_RENEWED] = ON(renewed, T(FOLLOWING)),
				[MSG_JUDGE] = REFUSE,
				[MSG_REFUSED] = IGNORE,
			},
		[MEMBERSHIP_LEADING] =
			{
				[MSG_TIMER] = ON(lead_tick, T(LEADING)),
				[MSG_LEADING] = ON(unlead, T(LEADING) | T(FOLLOWING)),
				[MSG_PROPOSED] = ON(proposed, T(LEADING)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_RENEW] = ON(renew, T(LEADING)),
				[MSG_RENEWED] = ON(renewed, T(LEADING)),
				[MSG_JUDGE] = ON(judge, T(LEADING)),
				[MSG_REFUSED] = ON(unknown, T(LEADING)),
			},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER, MSG_LEADING, MSG_PROPOSED, MSG_DRIVEN,
				   MSG_RENEW, MSG_RENEWED, MSG_JUDGE,    MSG_REFUSED};
static const char *const states[] = {"following", "leading"};

const struct sm_def membership_sm = {
	.name = "membership",
	.states = states,
	.n_states = MEMBERSHIP_STATES,
	.final = MEMBERSHIP_STATES,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static void done(struct actor *a, struct context *c)
{
	clear((struct membership *)a, c);
}

const struct actor_class membership_class = {
	.sm = &membership_sm,
	.kind = ADDRESS_MEMBERSHIP,
	.size = sizeof(struct membership),
	.mailbox_max = MEMBERSHIP_NODES_MAX,
	.singleton = true,
	.leads = true,
	.done = done,
};
