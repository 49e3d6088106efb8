/* A sandbox on its way to this node.
 *
 * Happy path: the row is saved and names this node as target; what an earlier try left is removed; the file is fetched from its node; START loads
 * it, paused; MOVED is proposed, and its commit makes the row this node's: the sandbox's own actor goes on.
 * Failure modes: a copy that breaks off is begun anew, TRIES times; what cannot be loaded is given back (KEPT). A row that does not name this
 * node any more means that it stays where it was: what is here is removed. What is not known is asked for again.
 * Invariants: nothing runs here before MOVED is in the tables, and what is removed is of this save or an earlier one. Tables from before this
 * process joined decide nothing. */
#include "arrival.h"

#include <errno.h>

#define STOP_MS    30000
#define FETCH_MS   600000
#define LOAD_MS    60000
#define PROPOSE_MS 5000
#define AGAIN_MS   250
#define TRIES      3

struct arrival {
	struct actor actor;
	uint64_t request;
	uint64_t save; /* that it is about */
	uint32_t failures;
};

/* NULL: it does not come here any more. */
static const struct sandbox_row *row_of(const struct actor *a, const struct context *c)
{
	const struct sandbox_row *row = state_sandbox(c->state, a->key);

	return row != NULL && row->target == c->node ? row : NULL;
}

static uint8_t again(struct arrival *self, struct context *c, uint8_t state)
{
	self->request = 0;
	context_timer(c, c->now_ms + AGAIN_MS);
	return state;
}

static bool unknown(int32_t code)
{
	return code == -EAGAIN || code == -EBUSY || code == -ENOTCONN || code == -ECONNRESET ||
	       code == -ETIMEDOUT;
}

static uint8_t stop(struct arrival *self, struct context *c, uint8_t state)
{
	context_timer(c, 0);
	self->request = context_drive(c, SANDBOXD_STOP,
				      &(struct sandboxd_stop){.sandbox = self->actor.key, .save = self->save},
				      0, 0, STOP_MS);
	return state;
}

static uint8_t begin(struct arrival *self, struct context *c)
{
	const struct sandbox_row *row = row_of(&self->actor, c);

	if (row == NULL || row->rest != REST_SAVED || context_epoch(c) == 0)
		return again(self, c, ARRIVAL_WAITING);
	self->save = row->save;
	return stop(self, c, ARRIVAL_CLEARING);
}

static uint8_t fetch(struct arrival *self, struct context *c)
{
	const struct sandbox_row *row = row_of(&self->actor, c);

	context_timer(c, 0);
	self->request = context_fetch(c, row->id, row->save, row->node, FETCH_MS);
	return ARRIVAL_FETCHING;
}

static uint8_t propose(struct arrival *self, struct context *c, uint8_t command, uint8_t state)
{
	context_timer(c, 0);
	self->request = context_propose(c, command, &(struct cmd_sandbox_save){self->actor.key, self->save},
					PROPOSE_MS);
	return state;
}

static uint8_t load(struct arrival *self, struct context *c)
{
	const struct sandbox_row *row = row_of(&self->actor, c);
	const struct pool_row *pool = state_pool(c->state, row->pool);
	const struct revision_row *revision = state_revision(c->state, row->pool, row->revision);

	if (row->asleep)
		return propose(self, c, COMMAND_SANDBOX_MOVED, ARRIVAL_MOVING);
	if (pool == NULL || revision == NULL)
		return propose(self, c, COMMAND_SANDBOX_KEPT, ARRIVAL_KEEPING);
	context_timer(c, 0);
	self->request =
		context_drive(c, SANDBOXD_START,
			      &(struct sandboxd_start){.sandbox = row->id,
						       .pool = pool->name,
						       .pool_uid = pool->uid,
						       .revision = row->revision,
						       .digest = revision->template.digest,
						       .cpu_milli = revision->template.cpu_milli,
						       .memory_bytes = revision->template.memory_bytes,
						       .target_port = revision->template.target_port,
						       .egress = row->egress,
						       .isolation = ISOLATION_VM,
						       .save = row->save},
			      row->pool, row->revision, LOAD_MS);
	return ARRIVAL_LOADING;
}

static bool awaited(const struct arrival *self, const struct message *m)
{
	return self->request != 0 && self->request == m->envelope->correlation;
}

/* The row went on without this actor: it is this node's, or it is not coming. */
static uint8_t changed(struct actor *a, struct context *c, const struct message *m)
{
	struct arrival *self = (struct arrival *)a;
	const struct sandbox_row *any = state_sandbox(c->state, a->key), *row = row_of(a, c);

	(void)m;
	if (any != NULL && any->node == c->node)
		return ARRIVAL_GONE;
	if (row == NULL && a->state == ARRIVAL_REMOVING)
		return a->state;
	if (row == NULL) {
		self->request = 0;
		return self->save == 0 ? ARRIVAL_GONE : stop(self, c, ARRIVAL_REMOVING);
	}
	if (a->state == ARRIVAL_WAITING || row->save != self->save) /* of another move */
		return begin(self, c);
	return a->state;
}

static uint8_t waited(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return begin((struct arrival *)a, c);
}

static uint8_t cleared(struct actor *a, struct context *c, const struct message *m)
{
	struct arrival *self = (struct arrival *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!awaited(self, m))
		return a->state;
	if (reply->code == 0 || reply->code == -ENOENT)
		return fetch(self, c);
	return again(self, c, ARRIVAL_WAITING);
}

static uint8_t fetched(struct actor *a, struct context *c, const struct message *m)
{
	struct arrival *self = (struct arrival *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!awaited(self, m))
		return a->state;
	if (reply->code == 0)
		return load(self, c);
	if (++self->failures < TRIES)
		return again(self, c, ARRIVAL_WAITING);
	return propose(self, c, COMMAND_SANDBOX_KEPT, ARRIVAL_KEEPING);
}

static uint8_t loaded(struct actor *a, struct context *c, const struct message *m)
{
	struct arrival *self = (struct arrival *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!awaited(self, m))
		return a->state;
	if (reply->code == 0 || reply->code == -EEXIST)
		return propose(self, c, COMMAND_SANDBOX_MOVED, ARRIVAL_MOVING);
	if (unknown(reply->code) && ++self->failures < TRIES)
		return again(self, c, ARRIVAL_WAITING);
	return propose(self, c, COMMAND_SANDBOX_KEPT, ARRIVAL_KEEPING);
}

static uint8_t removed(struct actor *a, struct context *c, const struct message *m)
{
	struct arrival *self = (struct arrival *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!awaited(self, m))
		return a->state;
	return unknown(reply->code) ? again(self, c, a->state) : ARRIVAL_GONE;
}

static uint8_t remove_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return stop((struct arrival *)a, c, ARRIVAL_REMOVING);
}

/* It is in the tables then, or is proposed again. */
static uint8_t told(struct actor *a, struct context *c, const struct message *m)
{
	return awaited((struct arrival *)a, m) ? again((struct arrival *)a, c, a->state) : a->state;
}

static uint8_t tell_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return propose((struct arrival *)a, c,
		       a->state == ARRIVAL_MOVING ? COMMAND_SANDBOX_MOVED : COMMAND_SANDBOX_KEPT, a->state);
}

static uint8_t lost(struct actor *a, struct context *c, const struct message *m)
{
	return awaited((struct arrival *)a, m) ? again((struct arrival *)a, c, ARRIVAL_WAITING) : a->state;
}

#define T(s)  SM_TO(ARRIVAL_##s)
#define LEFT  (T(REMOVING) | T(GONE))
#define BEGUN (T(WAITING) | T(CLEARING))
static const struct sm_cell cells[ARRIVAL_STATES][MSG_TYPES] = {
	[ARRIVAL_WAITING] =
		{
			[MSG_TIMER] = ON(waited, BEGUN),
			[MSG_CHANGED] = ON(changed, BEGUN | LEFT),
			[MSG_PROPOSED] = IGNORE,
			[MSG_DRIVEN] = IGNORE,
			[MSG_REFUSED] = IGNORE,
		},
	[ARRIVAL_CLEARING] =
		{
			[MSG_TIMER] = IGNORE,
			[MSG_CHANGED] = ON(changed, BEGUN | LEFT),
			[MSG_PROPOSED] = IGNORE,
			[MSG_DRIVEN] = ON(cleared, BEGUN | T(FETCHING)),
			[MSG_REFUSED] = ON(lost, BEGUN),
		},
	[ARRIVAL_FETCHING] =
		{
			[MSG_TIMER] = IGNORE,
			[MSG_CHANGED] = ON(changed, BEGUN | T(FETCHING) | LEFT),
			[MSG_PROPOSED] = IGNORE,
			[MSG_DRIVEN] =
				ON(fetched, T(WAITING) | T(FETCHING) | T(LOADING) | T(MOVING) | T(KEEPING)),
			[MSG_REFUSED] = ON(lost, T(FETCHING) | T(WAITING)),
		},
	[ARRIVAL_LOADING] =
		{
			[MSG_TIMER] = IGNORE,
			[MSG_CHANGED] = ON(changed, BEGUN | T(LOADING) | LEFT),
			[MSG_PROPOSED] = IGNORE,
			[MSG_DRIVEN] = ON(loaded, T(WAITING) | T(LOADING) | T(MOVING) | T(KEEPING)),
			[MSG_REFUSED] = ON(lost, T(LOADING) | T(WAITING)),
		},
	[ARRIVAL_MOVING] =
		{
			[MSG_TIMER] = ON(tell_again, T(MOVING)),
			[MSG_CHANGED] = ON(changed, BEGUN | T(MOVING) | LEFT),
			[MSG_PROPOSED] = ON(told, T(MOVING)),
			[MSG_DRIVEN] = IGNORE,
			[MSG_REFUSED] = ON(told, T(MOVING)),
		},
	[ARRIVAL_KEEPING] =
		{
			[MSG_TIMER] = ON(tell_again, T(KEEPING)),
			[MSG_CHANGED] = ON(changed, BEGUN | T(KEEPING) | LEFT),
			[MSG_PROPOSED] = ON(told, T(KEEPING)),
			[MSG_DRIVEN] = IGNORE,
			[MSG_REFUSED] = ON(told, T(KEEPING)),
		},
	[ARRIVAL_REMOVING] =
		{
			[MSG_TIMER] = ON(remove_again, T(REMOVING)),
			[MSG_CHANGED] = ON(changed, BEGUN | T(REMOVING) | LEFT),
			[MSG_PROPOSED] = IGNORE,
			[MSG_DRIVEN] = ON(removed, T(REMOVING) | T(GONE)),
			[MSG_REFUSED] = ON(told, T(REMOVING)),
		},
	[ARRIVAL_GONE] =
		{
			[MSG_TIMER] = IGNORE,
			[MSG_CHANGED] = IGNORE,
			[MSG_PROPOSED] = IGNORE,
			[MSG_DRIVEN] = IGNORE,
			[MSG_REFUSED] = IGNORE,
		},
};
#undef T
#undef LEFT
#undef BEGUN

static const uint8_t messages[] = {MSG_TIMER, MSG_CHANGED, MSG_PROPOSED, MSG_DRIVEN, MSG_REFUSED};
static const char *const states[] = {"waiting", "clearing", "fetching", "loading",
				     "moving",  "keeping",  "removing", "gone"};

const struct sm_def arrival_sm = {
	.name = "arrival",
	.states = states,
	.n_states = ARRIVAL_STATES,
	.final = ARRIVAL_GONE,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static bool wanted(const struct context *c, uint64_t key)
{
	const struct sandbox_row *row = state_sandbox(c->state, key);

	return row != NULL && row->target == c->node;
}

const struct actor_class arrival_class = {
	.sm = &arrival_sm,
	.kind = ADDRESS_ARRIVAL,
	.size = sizeof(struct arrival),
	.mailbox_max = 16,
	.row = true,
	.table = TABLE_SANDBOXES,
	.wanted = wanted,
};
