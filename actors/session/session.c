/* One session at its owner.
 *
 * Happy path: REAP; every gateway loop of the node stops admitting and answers with what is in flight and the last
 * activity; none is busy or newer, so `closing` is proposed; its commit ends the loops' connections and halts the sandbox; then
 * `closed` is proposed, and the row goes.
 * A session that is to be saved parts first: the loops hold what comes, requests under way have PART_MS to end, the rest is cut, its sandbox
 * is told to save. Once the row says saved, the loops forget it, and who was held asks placement, which answers when it is awake.
 * Failure modes: a busy or silent loop reopens all; an unknown outcome of a proposal is proposed again, since commands are
 * idempotent by generation; a row that goes under our feet (its sandbox died, its node was lost) only ends the connections.
 * Invariants: only this actor's `closed` frees the identifier while the node lives; it comes after the sandbox stopped. */
#include "session.h"

#include <errno.h>

#define QUIESCE_MS 2000
#define PROPOSE_MS 5000
#define HALT_MS    60000
#define RETRY_MS   500
#define GRACE_MS   10000
#define PART_MS    5000 /* for requests to end before their session is saved */
#define LOOK_MS    20   /* between looks whether they did */
#define SAVE_MS    2000 /* between two tellings */

struct session {
	struct actor actor;
	uint64_t request; /* the proposal or the halt whose outcome counts */
	uint64_t pool, sandbox;
	uint32_t quiet_left; /* loops that have not answered */
	uint8_t reason;      /* enum reap_reason */
	bool busy, served;
	uint64_t last_activity_boot_ms, stopped_ms;
	struct asker reaper;
	uint64_t part_until_ms;
};

static const struct session_row *row_of(const struct actor *a, const struct context *c)
{
	const struct session_row *row = state_session_by_generation(c->state, a->key);

	return row != NULL && row->node == c->node ? row : NULL; /* it may have moved away */
}

static void tell_loops(struct session *self, struct context *c, uint16_t type)
{
	const struct session_row *row = row_of(&self->actor, c);
	struct msg_session_event event = {.pool = self->pool,
					  .generation = self->actor.key,
					  .sandbox = self->sandbox,
					  .identifier = row == NULL ? STR_NONE : row->identifier,
					  .reason = str_of(reap_reason_name[self->reason])};

	for (uint32_t loop = 0; loop < c->n_gateway_loops; loop++) {
		struct address to = {ADDRESS_GATEWAY, c->node, loop};

		if (type == MSG_QUIESCE)
			context_request(c, to, type, &event, QUIESCE_MS);
		else
			context_send(c, to, type, &event);
	}
}

static void answer_reaper(struct session *self, struct context *c, bool closed)
{
	context_answer(c, &self->reaper, MSG_REAPED,
		       &(struct msg_reaped){closed, self->last_activity_boot_ms});
}

static uint8_t halt(struct session *self, struct context *c)
{
	struct msg_halt body = {.grace_ms = self->reason == REAP_DEAD ? 0 : GRACE_MS,
				.unserved = self->reason == REAP_DEAD && !self->served,
				.reason = str_of(reap_reason_name[self->reason])};

	context_timer(c, 0);
	self->request = context_request(c, (struct address){ADDRESS_SANDBOX, c->node, self->sandbox},
					MSG_HALT, &body, HALT_MS);
	return SESSION_ACTOR_HALTING;
}

/* -- At rest ------------------------------------------------------------------------------------------------------ */

static uint8_t parted(struct session *self, struct context *c)
{
	tell_loops(self, c, MSG_PART);
	context_send(c, (struct address){ADDRESS_SANDBOX, c->node, self->sandbox}, MSG_SAVE, NULL);
	context_timer(c, c->now_ms + SAVE_MS);
	return SESSION_ACTOR_SAVING;
}

static uint8_t look(struct session *self, struct context *c)
{
	context_timer(c, 0);
	self->busy = false;
	self->quiet_left = c->n_gateway_loops;
	tell_loops(self, c, MSG_QUIESCE);
	return self->quiet_left == 0 ? parted(self, c) : SESSION_ACTOR_PARTING;
}

/* Where the row says that it is; from wherever nothing else is under way. */
static uint8_t follow(struct session *self, struct context *c, const struct session_row *row)
{
	bool held = self->actor.state >= SESSION_ACTOR_PARTING;

	switch ((enum sandbox_rest)row->rest) {
	case REST_AWAKE:
		context_timer(c, 0);
		if (held)
			tell_loops(self, c, MSG_REOPEN);
		return SESSION_ACTOR_LIVE;
	case REST_SAVING:
		if (held && self->actor.state != SESSION_ACTOR_RESTING)
			return self->actor.state;
		self->part_until_ms = c->now_ms + PART_MS;
		return look(self, c);
	case REST_SAVED:
	case REST_WAKING:
		context_timer(c, 0);
		if (self->actor.state != SESSION_ACTOR_RESTING)
			tell_loops(self, c, MSG_ENDED);
		return SESSION_ACTOR_RESTING;
	case RESTS:
		break;
	}
	return self->actor.state;
}

static uint8_t look_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return look((struct session *)a, c);
}

static uint8_t save_again(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;

	(void)m;
	context_send(c, (struct address){ADDRESS_SANDBOX, c->node, self->sandbox}, MSG_SAVE, NULL);
	context_timer(c, c->now_ms + SAVE_MS);
	return SESSION_ACTOR_SAVING;
}

static uint8_t look_counted(struct session *self, struct context *c)
{
	if (self->quiet_left > 0)
		self->quiet_left--;
	if (self->quiet_left > 0)
		return SESSION_ACTOR_PARTING;
	if (!self->busy || c->now_ms >= self->part_until_ms)
		return parted(self, c);
	context_timer(c, c->now_ms + LOOK_MS);
	return SESSION_ACTOR_PARTING;
}

static uint8_t part_quiet(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct msg_quiet *body = m->body;

	self->busy = self->busy || body->requests > 0;
	self->served = self->served || body->served;
	return look_counted(self, c);
}

static uint8_t part_not_quiet(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	((struct session *)a)->busy = true;
	return look_counted((struct session *)a, c);
}

/* -- Its end ------------------------------------------------------------------------------------------------------ */

static uint8_t reopen(struct session *self, struct context *c)
{
	const struct session_row *row = row_of(&self->actor, c);

	context_timer(c, 0);
	tell_loops(self, c, MSG_REOPEN);
	answer_reaper(self, c, false);
	return row == NULL ? SESSION_ACTOR_LIVE : follow(self, c, row);
}

static uint8_t propose_closing(struct session *self, struct context *c)
{
	context_timer(c, 0);
	self->request = context_propose(
		c, COMMAND_SESSION_CLOSING,
		&(struct cmd_session_closing){self->pool, self->actor.key, self->reason}, PROPOSE_MS);
	return SESSION_ACTOR_PROPOSING;
}

static uint8_t propose_closed(struct session *self, struct context *c)
{
	context_timer(c, 0);
	self->request =
		context_propose(c, COMMAND_SESSION_CLOSED,
				&(struct cmd_session_closed){self->pool, self->actor.key, self->stopped_ms,
							     self->reason == REAP_DEAD && !self->served},
				PROPOSE_MS);
	return SESSION_ACTOR_ENDING;
}

/* Every loop answered, or will not. */
static uint8_t decide(struct session *self, struct context *c)
{
	const struct pool_row *pool = state_pool(c->state, self->pool);
	uint64_t cooldown_ms = pool == NULL ? 0 : pool->limits.cooldown_ms;

	/* One that has served refuses now: its exit would end it; this does not. */
	if (self->reason == REAP_DEAD && self->served)
		return reopen(self, c);
	if (self->reason == REAP_IDLE &&
	    (self->busy ||
	     (self->last_activity_boot_ms != 0 && self->last_activity_boot_ms + cooldown_ms > c->now_ms)))
		return reopen(self, c);
	return propose_closing(self, c);
}

static uint8_t quiesce(struct session *self, struct context *c, const struct message *m, uint8_t reason)
{
	self->reaper = context_asker(m);
	self->reason = reason;
	self->busy = false;
	self->last_activity_boot_ms = 0;
	self->quiet_left = c->n_gateway_loops;
	tell_loops(self, c, MSG_QUIESCE);
	return self->quiet_left == 0 ? decide(self, c) : SESSION_ACTOR_QUIESCING;
}

static uint8_t changed(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct session_row *row = row_of(a, c);

	(void)m;
	if (row == NULL) {
		tell_loops(self, c, MSG_ENDED);
		answer_reaper(self, c, true);
		return SESSION_ACTOR_GONE;
	}
	self->pool = row->pool;
	self->sandbox = row->sandbox;
	if (row->state != SESSION_CLOSING)
		return a->state == SESSION_ACTOR_QUIESCING || a->state == SESSION_ACTOR_PROPOSING
			       ? a->state
			       : follow(self, c, row);
	if (a->state != SESSION_ACTOR_QUIESCING && a->state != SESSION_ACTOR_PROPOSING)
		self->reason = row->reason;
	tell_loops(self, c, MSG_ENDED);
	answer_reaper(self, c, true);
	return halt(self, c);
}

static uint8_t reap(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_reap *body = m->body;

	return quiesce((struct session *)a, c, m, body->reason);
}

/* Nobody can be using it. */
static uint8_t reap_resting(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct msg_reap *body = m->body;

	if (body->reason == REAP_IDLE) { /* asked before it was saved */
		context_reply(c, m, MSG_REAPED, &(struct msg_reaped){false, c->now_ms});
		return SESSION_ACTOR_RESTING;
	}
	self->reaper = context_asker(m);
	self->reason = body->reason;
	return propose_closing(self, c);
}

/* A sandbox that refuses connections: it ends, unless a loop says that it has served before. */
static uint8_t dead(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct msg_session_event *body = m->body;

	if (body->sandbox != self->sandbox) {
		context_reply(c, m, MSG_REAPED, &(struct msg_reaped){false, 0});
		return SESSION_ACTOR_LIVE;
	}
	return quiesce(self, c, m, REAP_DEAD);
}

static uint8_t quiet_counted(struct session *self, struct context *c)
{
	if (self->quiet_left > 0)
		self->quiet_left--;
	return self->quiet_left == 0 ? decide(self, c) : SESSION_ACTOR_QUIESCING;
}

static uint8_t quiet(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct msg_quiet *body = m->body;

	if (body->in_flight > 0)
		self->busy = true;
	if (body->last_activity_boot_ms > self->last_activity_boot_ms)
		self->last_activity_boot_ms = body->last_activity_boot_ms;
	if (body->served)
		self->served = true;
	return quiet_counted(self, c);
}

/* A loop that does not answer may be admitting: it counts as busy. */
static uint8_t not_quiet(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;

	(void)m;
	self->busy = true;
	return quiet_counted(self, c);
}

static uint8_t closing_proposed(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct msg_proposed *body = m->body;

	if (m->envelope->correlation != self->request)
		return SESSION_ACTOR_PROPOSING;
	if (body->code == 0 || body->code == -EINPROGRESS) {
		context_timer(c, c->now_ms + RETRY_MS * 4); /* until our tables show it */
		return SESSION_ACTOR_PROPOSING;
	}
	return reopen(self, c);
}

static uint8_t closing_unknown(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	context_timer_by(c, c->now_ms + RETRY_MS);
	return a->state;
}

static uint8_t close_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return propose_closing((struct session *)a, c);
}

static uint8_t halting_changed(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return row_of(a, c) == NULL ? SESSION_ACTOR_GONE : a->state;
}

static uint8_t halted(struct actor *a, struct context *c, const struct message *m)
{
	struct session *self = (struct session *)a;
	const struct msg_halted *body = m->body;

	if (m->envelope->correlation != self->request)
		return SESSION_ACTOR_HALTING;
	self->stopped_ms = body->stopped_ms;
	return propose_closed(self, c);
}

static uint8_t halt_refused(struct actor *a, struct context *c, const struct message *m)
{
	if (m->envelope->correlation == ((struct session *)a)->request)
		context_timer(c, c->now_ms + RETRY_MS);
	return SESSION_ACTOR_HALTING;
}

static uint8_t halt_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return halt((struct session *)a, c);
}

static uint8_t closed_proposed(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	if (row_of(a, c) == NULL)
		return SESSION_ACTOR_GONE;
	context_timer_by(c, c->now_ms + RETRY_MS);
	return SESSION_ACTOR_ENDING;
}

static uint8_t closed_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return propose_closed((struct session *)a, c);
}

#define T(s)  SM_TO(SESSION_ACTOR_##s)
#define PARTS (T(PARTING) | T(SAVING))
static const struct sm_cell cells[SESSION_ACTOR_STATES][MSG_TYPES] =
	{
		[SESSION_ACTOR_LIVE] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] =
					ON(changed, T(LIVE) | PARTS | T(RESTING) | T(HALTING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] =
					ON(reap, T(QUIESCING) | T(PROPOSING) | T(LIVE) | PARTS | T(RESTING)),
				[MSG_DEAD] =
					ON(dead, T(LIVE) | T(QUIESCING) | T(PROPOSING) | PARTS | T(RESTING)),
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
		[SESSION_ACTOR_QUIESCING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = ON(changed, T(QUIESCING) | T(HALTING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] =
					ON(quiet, T(LIVE) | T(QUIESCING) | T(PROPOSING) | PARTS | T(RESTING)),
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = DEFER,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = ON(not_quiet, T(LIVE) | T(QUIESCING) |
								      T(PROPOSING) | PARTS | T(RESTING)),
			},
		[SESSION_ACTOR_PROPOSING] =
			{
				[MSG_TIMER] = ON(close_again, T(PROPOSING)),
				[MSG_CHANGED] = ON(changed, T(PROPOSING) | T(HALTING) | T(GONE)),
				[MSG_PROPOSED] =
					ON(closing_proposed, T(LIVE) | T(PROPOSING) | PARTS | T(RESTING)),
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = DEFER,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = ON(closing_unknown, T(PROPOSING)),
			},
		[SESSION_ACTOR_PARTING] =
			{
				[MSG_TIMER] = ON(look_again, PARTS),
				[MSG_CHANGED] = ON(changed,
						   T(LIVE) | PARTS | T(RESTING) | T(HALTING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] = ON(part_quiet, PARTS),
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = IGNORE,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = ON(part_not_quiet, PARTS),
			},
		[SESSION_ACTOR_SAVING] =
			{
				[MSG_TIMER] = ON(save_again, T(SAVING)),
				[MSG_CHANGED] = ON(changed,
						   T(LIVE) | PARTS | T(RESTING) | T(HALTING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = IGNORE,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
		[SESSION_ACTOR_RESTING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = ON(changed,
						   T(LIVE) | PARTS | T(RESTING) | T(HALTING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] = ON(reap_resting, T(RESTING) | T(PROPOSING)),
				[MSG_DEAD] = IGNORE,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
		[SESSION_ACTOR_HALTING] =
			{
				[MSG_TIMER] = ON(halt_again, T(HALTING)),
				[MSG_CHANGED] = ON(halting_changed, T(HALTING) | T(GONE)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = IGNORE,
				[MSG_HALTED] = ON(halted, T(HALTING) | T(ENDING)),
				[MSG_REFUSED] = ON(halt_refused, T(HALTING)),
			},
		[SESSION_ACTOR_ENDING] =
			{
				[MSG_TIMER] = ON(closed_again, T(ENDING)),
				[MSG_CHANGED] = ON(halting_changed, T(ENDING) | T(GONE)),
				[MSG_PROPOSED] = ON(closed_proposed, T(ENDING) | T(GONE)),
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = IGNORE,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = ON(closing_unknown, T(ENDING)),
			},
		[SESSION_ACTOR_GONE] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = IGNORE,
				[MSG_PROPOSED] = IGNORE,
				[MSG_QUIET] = IGNORE,
				[MSG_REAP] = REFUSE,
				[MSG_DEAD] = IGNORE,
				[MSG_HALTED] = IGNORE,
				[MSG_REFUSED] = IGNORE,
			},
};
#undef T
#undef PARTS

static const uint8_t messages[] = {MSG_TIMER, MSG_CHANGED, MSG_PROPOSED, MSG_QUIET,
				   MSG_REAP,  MSG_DEAD,    MSG_HALTED,   MSG_REFUSED};
static const char *const states[] = {"live",    "quiescing", "proposing", "parting", "saving",
				     "resting", "halting",   "ending",    "gone"};

const struct sm_def session_sm = {
	.name = "session",
	.states = states,
	.n_states = SESSION_ACTOR_STATES,
	.final = SESSION_ACTOR_GONE,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static bool wanted(const struct context *c, uint64_t key)
{
	const struct session_row *row = state_session_by_generation(c->state, key);

	return row != NULL && row->node == c->node && row->state != SESSION_WAITING;
}

static void init(struct actor *a, struct context *c)
{
	struct session *self = (struct session *)a;
	const struct session_row *row = row_of(a, c);

	if (row != NULL) {
		self->pool = row->pool;
		self->sandbox = row->sandbox;
		/* Opened before this process began, or elsewhere: nobody remembers. */
		self->served = context_epoch(c) == 0 || row->rest != REST_AWAKE;
	}
}

static void done(struct actor *a, struct context *c)
{
	context_refuse(c, &((struct session *)a)->reaper, -ENOENT, "the session is gone");
}

const struct actor_class session_class = {
	.sm = &session_sm,
	.kind = ADDRESS_SESSION,
	.size = sizeof(struct session),
	.mailbox_max = 256,
	.row = true,
	.table = TABLE_SESSIONS,
	.wanted = wanted,
	.init = init,
	.done = done,
};
