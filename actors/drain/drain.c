/* Drains.
 *
 * Happy path: an order becomes an entry, proposed by the node that was asked; the entry is its answer. It cordons the node; placement and apply move the ready
 * share, virtual machines with a session move to other nodes as they are (moves.h), the owner's reaper ends each other session once it was idle for its pool's cooldown, and apply notes when nothing is left. What is
 * left for this actor: a leader that drains hands leadership to another voter, and at the deadline what still runs is stopped,
 * sessions with their image's signal and grace.
 * Failure modes: no other voter takes over: this node leads on, and tries again. An end whose outcome is unknown is
 * proposed again, since the tables still show what it was about.
 * Invariants: nothing is remembered here that a new leader could not find in the tables. */
#include "drain.h"

#include "moves.h"

#include <errno.h>

#define TICK_MS    1000
#define PROPOSE_MS 5000
#define ORDER_MS   10000
#define YIELD_MS   2000 /* an election's time, and more; one that was refused is tried again then */

struct drain {
	struct actor actor;
	struct {
		struct asker asker;
		uint64_t request; /* 0: free */
	} orders[DRAIN_ORDERS_MAX];
	uint64_t ends[DRAIN_ENDS_MAX]; /* requests; 0: free */
	uint64_t yielded_ms;
	struct moves moves;
};

/* -- Orders ------------------------------------------------------------------------------------------------------- */

static uint8_t order(struct actor *a, struct context *c, const struct message *m)
{
	struct drain *self = (struct drain *)a;

	for (uint32_t i = 0; i < DRAIN_ORDERS_MAX; i++) {
		if (self->orders[i].request != 0)
			continue;
		self->orders[i].asker = context_asker(m);
		self->orders[i].request = context_propose(
			c, m->envelope->type == MSG_NODE_ORDER ? COMMAND_NODE_ORDER : COMMAND_CLUSTER_LEVEL,
			m->body, ORDER_MS);
		return a->state;
	}
	context_reply(c, m, MSG_REFUSED,
		      &(struct msg_refused){-ENOBUFS, STR("too many orders about nodes are under way")});
	return a->state;
}

/* -- Drains ------------------------------------------------------------------------------------------------------- */

/* The voter that was heard of last, of those that stay. 0: there is none. */
static uint64_t successor(const struct context *c)
{
	const struct node_row *best = NULL;

	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		if (row->id == c->node || row->member != MEMBER_VOTER || row->state != NODE_UP ||
		    row->draining)
			continue;
		if (best == NULL || row->cordoned < best->cordoned ||
		    (row->cordoned == best->cordoned && row->renewed_ms > best->renewed_ms))
			best = row;
	}
	return best == NULL ? 0 : best->id;
}

static void yield(struct drain *self, struct context *c)
{
	const struct node_row *own = state_node(c->state, c->node);
	uint64_t to = own != NULL && own->draining ? successor(c) : 0;

	if (to == 0 || (self->yielded_ms != 0 && c->now_ms < self->yielded_ms + YIELD_MS))
		return;
	self->yielded_ms = c->now_ms;
	context_yield(c, to);
}

/* 0: none is free. */
static uint64_t *free_end(struct drain *self)
{
	for (uint32_t i = 0; i < DRAIN_ENDS_MAX; i++) {
		if (self->ends[i] == 0)
			return &self->ends[i];
	}
	return NULL;
}

static bool ending(const struct drain *self)
{
	for (uint32_t i = 0; i < DRAIN_ENDS_MAX; i++) {
		if (self->ends[i] != 0)
			return true;
	}
	return false;
}

/* Proposes the end of what still runs on a node past its deadline, some at a time. */
static void end_rest(struct drain *self, struct context *c, uint64_t node)
{
	uint64_t *end = free_end(self);

	for (const struct sandbox_row *row = NULL;
	     end != NULL && (row = state_next_node_sandbox(c->state, node, row)) != NULL;) {
		const struct session_row *session = state_session_by_generation(c->state, row->generation);

		if (row->state == SANDBOX_BOUND && session != NULL && session->state == SESSION_LIVE)
			*end = context_propose(
				c, COMMAND_SESSION_CLOSING,
				&(struct cmd_session_closing){row->pool, row->generation, REAP_DRAINED},
				PROPOSE_MS);
		else if (row->state == SANDBOX_READY || row->state == SANDBOX_BOOTING)
			*end = context_propose(c, COMMAND_SANDBOX_STOPPING, &(struct cmd_sandbox){row->id},
					       PROPOSE_MS);
		end = free_end(self);
	}
}

static uint8_t tick(struct actor *a, struct context *c, const struct message *m)
{
	struct drain *self = (struct drain *)a;
	bool busy = ending(self); /* the tables do not show yet what these did */

	(void)m;
	yield(self, c);
	for (const struct node_row *row = NULL; !busy && (row = state_next_node(c->state, row)) != NULL;) {
		if (row->draining && row->drained_ms == 0 &&
		    state_cluster(c->state)->time_ms >= row->drain_deadline_ms)
			end_rest(self, c, row->id);
	}
	for (const struct node_row *row = NULL; (row = state_next_node(c->state, row)) != NULL;) {
		if (row->draining && row->drained_ms == 0 && row->state == NODE_UP)
			moves_next(&self->moves, c, row);
	}
	context_timer(c, c->now_ms + TICK_MS);
	return DRAIN_LEADING;
}

/* -- Outcomes ------------------------------------------------------------------------------------------------------ */

static void outcome(struct drain *self, struct context *c, uint64_t request,
		    const struct msg_node_ordered *answer)
{
	if (moves_proposed(&self->moves, request)) {
		context_timer_by(c, c->now_ms + 1);
		return;
	}
	for (uint32_t i = 0; i < DRAIN_ORDERS_MAX; i++) {
		if (self->orders[i].request != request)
			continue;
		self->orders[i].request = 0;
		context_answer(c, &self->orders[i].asker, MSG_NODE_ORDERED, answer);
		if (c->leading)
			context_timer_by(c, c->now_ms + 1);
	}
	for (uint32_t i = 0; i < DRAIN_ENDS_MAX; i++) {
		if (self->ends[i] != request)
			continue;
		self->ends[i] = 0;
		context_timer_by(c, c->now_ms + 1);
	}
}

static uint8_t proposed(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_proposed *body = m->body;

	outcome((struct drain *)a, c, m->envelope->correlation,
		&(struct msg_node_ordered){body->code, body->message, body->index});
	return a->state;
}

static uint8_t unknown(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_refused *body = m->body;

	outcome((struct drain *)a, c, m->envelope->correlation,
		&(struct msg_node_ordered){.code = body->code, .message = body->message});
	return a->state;
}

/* -- Leadership ---------------------------------------------------------------------------------------------------- */

static uint8_t lead(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_leading *body = m->body;

	(void)a;
	if (!body->leading)
		return DRAIN_FOLLOWING;
	context_timer(c, c->now_ms + 1);
	return DRAIN_LEADING;
}

static uint8_t unlead(struct actor *a, struct context *c, const struct message *m)
{
	struct drain *self = (struct drain *)a;
	const struct msg_leading *body = m->body;

	if (body->leading)
		return DRAIN_LEADING;
	for (uint32_t i = 0; i < DRAIN_ENDS_MAX; i++)
		self->ends[i] = 0;
	self->yielded_ms = 0;
	self->moves = (struct moves){0};
	context_timer(c, 0);
	return DRAIN_FOLLOWING;
}

#define T(s) SM_TO(DRAIN_##s)
static const struct sm_cell cells[DRAIN_STATES][MSG_TYPES] =
	{
		[DRAIN_FOLLOWING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = ON(lead, T(FOLLOWING) | T(LEADING)),
				[MSG_PROPOSED] = ON(proposed, T(FOLLOWING)),
				[MSG_NODE_ORDER] = ON(order, T(FOLLOWING)),
				[MSG_CLUSTER_LEVEL] = ON(order, T(FOLLOWING)),
				[MSG_REFUSED] = ON(unknown, T(FOLLOWING)),
			},
		[DRAIN_LEADING] =
			{
				[MSG_TIMER] = ON(tick, T(LEADING)),
				[MSG_LEADING] = ON(unlead, T(LEADING) | T(FOLLOWING)),
				[MSG_PROPOSED] = ON(proposed, T(LEADING)),
				[MSG_NODE_ORDER] = ON(order, T(LEADING)),
				[MSG_CLUSTER_LEVEL] = ON(order, T(LEADING)),
				[MSG_REFUSED] = ON(unknown, T(LEADING)),
			},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER,      MSG_LEADING,       MSG_PROPOSED,
				   MSG_NODE_ORDER, MSG_CLUSTER_LEVEL, MSG_REFUSED};
static const char *const states[] = {"following", "leading"};

const struct sm_def drain_sm = {
	.name = "drain",
	.states = states,
	.n_states = DRAIN_STATES,
	.final = DRAIN_STATES,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static void done(struct actor *a, struct context *c)
{
	struct drain *self = (struct drain *)a;

	for (uint32_t i = 0; i < DRAIN_ORDERS_MAX; i++)
		context_refuse(c, &self->orders[i].asker, -EAGAIN, "this node ends");
}

const struct actor_class drain_class = {
	.sm = &drain_sm,
	.kind = ADDRESS_DRAIN,
	.size = sizeof(struct drain),
	.mailbox_max = DRAIN_ORDERS_MAX,
	.singleton = true,
	.leads = true,
	.done = done,
};
