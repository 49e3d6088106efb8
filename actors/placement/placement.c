/* Placement: identifiers get sessions, pools get ready sandboxes.
 *
 * Happy path: OPEN finds a live session in the tables and is answered at once; else one proposal for its identifier is under
 * way however many ask, and its commit (bound at once, or a waiting session that `ready` serves) answers all of them. After
 * each change refill boots what lacks.
 * Failure modes: max sessions reached: askers queue in the order of their coming until the queue time is over (full); a pool
 * that cannot start anything says why; an old session that is still ending is waited for; outcomes that are not known are
 * looked up in the tables and proposed again. A node that does not lead refuses; one that ceases to lead refuses all that wait.
 * Invariants: one proposal an identifier; nothing is remembered here that a new leader could not find in the tables. */
#include "placement.h"

#include <errno.h>

#include "askers.h"
#include "refill.h"

#define TICK_MS    1000
#define PROPOSE_MS 3000
#define STOP_MS    10000
#define STOPS_MAX  256

/* Of a stop, a suspension or a resumption. */
struct stop {
	struct asker asker;
	uint64_t request; /* 0: free */
	bool rests;
};

struct placement {
	struct actor actor;
	struct askers askers;
	struct refill refill;
	uint64_t heard_ms; /* boot time of the last change: cluster time was true then */
	uint64_t expiring; /* the proposal that expires waiters */
	struct stop stops[STOPS_MAX];
};

static uint64_t cluster_ms(const struct placement *self, const struct context *c)
{
	return state_cluster(c->state)->time_ms + (c->now_ms - self->heard_ms);
}

static void expire_waiters(struct placement *self, struct context *c)
{
	if (self->expiring != 0)
		return;
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(c->state, pool)) != NULL;) {
		const struct session_row *oldest = state_next_waiter(c->state, pool->uid, NULL);

		if (oldest != NULL && oldest->expires_ms <= cluster_ms(self, c)) {
			self->expiring = context_propose(c, COMMAND_WAITERS_EXPIRE, NULL, PROPOSE_MS);
			return;
		}
	}
}

static uint8_t tick(struct actor *a, struct context *c, const struct message *m)
{
	struct placement *self = (struct placement *)a;
	uint64_t next_ms;

	(void)m;
	next_ms = askers_tick(&self->askers, c);
	refill_run(&self->refill, c, cluster_ms(self, c));
	expire_waiters(self, c);
	context_timer(c, next_ms < c->now_ms + TICK_MS ? next_ms : c->now_ms + TICK_MS);
	return PLACEMENT_LEADING;
}

static uint8_t lead(struct actor *a, struct context *c, const struct message *m)
{
	struct placement *self = (struct placement *)a;
	const struct msg_leading *body = m->body;

	if (!body->leading)
		return PLACEMENT_FOLLOWING;
	self->heard_ms = c->now_ms;
	context_timer(c, c->now_ms + 1);
	return PLACEMENT_LEADING;
}

static void clear(struct placement *self, struct context *c)
{
	askers_clear(&self->askers, c);
	self->refill = (struct refill){0};
	self->expiring = 0;
}

static uint8_t unlead(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_leading *body = m->body;

	if (body->leading)
		return PLACEMENT_LEADING;
	clear((struct placement *)a, c);
	context_timer(c, 0);
	return PLACEMENT_FOLLOWING;
}

static uint8_t changed(struct actor *a, struct context *c, const struct message *m)
{
	struct placement *self = (struct placement *)a;
	const struct msg_changed *body = m->body;

	self->heard_ms = c->now_ms;
	if (body->table == TABLE_SESSIONS)
		askers_session_changed(&self->askers, c, state_session_by_generation(c->state, body->key));
	else if (body->table == TABLE_POOLS)
		self->askers.again = true;
	context_timer_by(c, c->now_ms + 1);
	return PLACEMENT_LEADING;
}

static uint8_t open(struct actor *a, struct context *c, const struct message *m)
{
	struct placement *self = (struct placement *)a;

	askers_open(&self->askers, c, m);
	if (self->askers.due.n > 0)
		context_timer_by(c, heap_first(&self->askers.due)->at_ms);
	return PLACEMENT_LEADING;
}

/* The same question again, while the first copy is under way. */
static bool stopping_already(const struct placement *self, const struct message *m)
{
	const struct envelope *e = m->envelope;

	for (uint32_t i = 0; i < STOPS_MAX; i++) {
		const struct asker *asker = &self->stops[i].asker;

		if (self->stops[i].request != 0 && e->correlation != 0 &&
		    asker->correlation == e->correlation && asker->from.node == e->from.node &&
		    asker->from.kind == e->from.kind && asker->from.key == e->from.key)
			return true;
	}
	return false;
}

static void propose_of(struct placement *self, struct context *c, const struct message *m, uint8_t command,
		       const void *body)
{
	for (uint32_t i = 0; i < STOPS_MAX; i++) {
		if (self->stops[i].request != 0)
			continue;
		self->stops[i].asker = context_asker(m);
		self->stops[i].rests = command != COMMAND_SESSION_CLOSING;
		self->stops[i].request = context_propose(c, command, body, STOP_MS);
		return;
	}
	context_reply(c, m, MSG_REFUSED,
		      &(struct msg_refused){-ENOBUFS, STR("too many sessions are being stopped")});
}

/* On the node that was asked, whoever leads: the generation is chosen once, so no later session of the identifier is meant. */
static uint8_t stop(struct actor *a, struct context *c, const struct message *m)
{
	struct placement *self = (struct placement *)a;
	const struct msg_stop *body = m->body;
	const struct session_row *row = state_session(c->state, body->pool, body->identifier);

	if (row == NULL || row->state == SESSION_WAITING) {
		context_reply(
			c, m, MSG_STOPPED,
			&(struct msg_stopped){-ENOENT, STR("there is no session with this identifier")});
		return a->state;
	}
	if (row->state == SESSION_CLOSING) {
		context_reply(c, m, MSG_STOPPED, &(struct msg_stopped){0});
		return a->state;
	}
	if (stopping_already(self, m))
		return a->state;
	propose_of(self, c, m, COMMAND_SESSION_CLOSING,
		   &(struct cmd_session_closing){row->pool, row->generation, REAP_STOPPED});
	return a->state;
}

/* As stop(). */
static uint8_t rest(struct actor *a, struct context *c, const struct message *m)
{
	struct placement *self = (struct placement *)a;
	const struct msg_rest *body = m->body;
	const struct session_row *row = state_session(c->state, body->pool, body->identifier);

	if (row == NULL || row->state == SESSION_WAITING) {
		context_reply(
			c, m, MSG_RESTED,
			&(struct msg_rested){.code = -ENOENT,
					     .message = STR("there is no session with this identifier")});
		return a->state;
	}
	if (!stopping_already(self, m))
		propose_of(self, c, m, body->resume ? COMMAND_SESSION_WAKE : COMMAND_SESSION_SUSPEND,
			   &(struct cmd_session){row->pool, row->generation});
	return a->state;
}

static bool stop_proposed(struct placement *self, struct context *c, uint64_t request, int32_t code,
			  struct str message, uint64_t index)
{
	for (uint32_t i = 0; i < STOPS_MAX; i++) {
		if (self->stops[i].request != request)
			continue;
		self->stops[i].request = 0;
		if (self->stops[i].rests) {
			context_answer(c, &self->stops[i].asker, MSG_RESTED,
				       &(struct msg_rested){code, message, index});
			return true;
		}
		if (code == -ESRCH)
			code = 0; /* it ended meanwhile */
		context_answer(c, &self->stops[i].asker, MSG_STOPPED, &(struct msg_stopped){code, message});
		return true;
	}
	return false;
}

static void outcome(struct placement *self, struct context *c, uint64_t request,
		    const struct msg_proposed *body, const struct msg_refused *refused)
{
	if (request == self->expiring)
		self->expiring = 0;
	else if (!askers_proposed(&self->askers, c, request, body) &&
		 !refill_proposed(&self->refill, request))
		stop_proposed(self, c, request, body != NULL ? body->code : refused->code,
			      body != NULL ? body->message : refused->message,
			      body != NULL ? body->index : 0);
	context_timer_by(c, c->now_ms + 1);
}

static uint8_t proposed(struct actor *a, struct context *c, const struct message *m)
{
	outcome((struct placement *)a, c, m->envelope->correlation, m->body, NULL);
	return a->state;
}

static uint8_t unknown(struct actor *a, struct context *c, const struct message *m)
{
	outcome((struct placement *)a, c, m->envelope->correlation, NULL, m->body);
	return a->state;
}

#define T(s) SM_TO(PLACEMENT_##s)
static const struct sm_cell cells[PLACEMENT_STATES][MSG_TYPES] =
	{
		[PLACEMENT_FOLLOWING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = ON(lead, T(FOLLOWING) | T(LEADING)),
				[MSG_CHANGED] = IGNORE,
				[MSG_PROPOSED] = ON(proposed, T(FOLLOWING)),
				[MSG_OPEN] = REFUSE,
				[MSG_STOP] = ON(stop, T(FOLLOWING)),
				[MSG_REST] = ON(rest, T(FOLLOWING)),
				[MSG_REFUSED] = ON(unknown, T(FOLLOWING)),
			},
		[PLACEMENT_LEADING] =
			{
				[MSG_TIMER] = ON(tick, T(LEADING)),
				[MSG_LEADING] = ON(unlead, T(LEADING) | T(FOLLOWING)),
				[MSG_CHANGED] = ON(changed, T(LEADING)),
				[MSG_PROPOSED] = ON(proposed, T(LEADING)),
				[MSG_OPEN] = ON(open, T(LEADING)),
				[MSG_STOP] = ON(stop, T(LEADING)),
				[MSG_REST] = ON(rest, T(LEADING)),
				[MSG_REFUSED] = ON(unknown, T(LEADING)),
			},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER, MSG_LEADING, MSG_CHANGED, MSG_PROPOSED,
				   MSG_OPEN,  MSG_STOP,    MSG_REST,    MSG_REFUSED};
static const char *const states[] = {"following", "leading"};

const struct sm_def placement_sm = {
	.name = "placement",
	.states = states,
	.n_states = PLACEMENT_STATES,
	.final = PLACEMENT_STATES,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static void done(struct actor *a, struct context *c)
{
	struct placement *self = (struct placement *)a;

	clear(self, c);
	for (uint32_t i = 0; i < STOPS_MAX; i++)
		context_refuse(c, &self->stops[i].asker, -EAGAIN, "this node stops");
	askers_done(&self->askers);
}

const struct actor_class placement_class = {
	.sm = &placement_sm,
	.kind = ADDRESS_PLACEMENT,
	.size = sizeof(struct placement),
	.mailbox_max = PLACEMENT_ASKERS_MAX,
	.singleton = true,
	.leads = true,
	.watches = WATCH(TABLE_SESSIONS) | WATCH(TABLE_SANDBOXES) | WATCH(TABLE_POOLS) | WATCH(TABLE_NODES) |
		   WATCH(TABLE_IMAGES),
	.done = done,
};
