/* A sandbox's rest, on its own node: SAVE when its session says that no request is under way, and SAVED or KEPT proposed by what came of
 * it; nothing while it is a file; START and GO_ON when the row says waking, and AWAKE proposed. docs/moving.md has the rows' states.
 * Failure modes: what is not known is asked for again, since each call and each proposal is idempotent by its save; a file that cannot
 * be loaded ends the sandbox, and its session with it. */
#include <errno.h>

#include "limits.h"
#include "private.h"

#define SAVE_MS  120000
#define GO_ON_MS 30000
#define AGAIN_MS 250
#define TRIES    5
#define PROOF_TRIES \
	60 /* a second each: a sandboxd that was started anew has to prove first that machines run here */

/* Passes by itself: something else is under way, or sandboxd is away. */
static bool passes(int32_t code)
{
	return code == -EBUSY || code == -EAGAIN || ending_unknown(code);
}

static uint8_t again(struct sandbox *self, struct context *c)
{
	self->request = 0;
	context_timer(c, c->now_ms + AGAIN_MS);
	return self->actor.state;
}

static uint8_t tell(struct sandbox *self, struct context *c, uint8_t command)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);

	context_timer(c, 0);
	self->telling = command;
	self->request = context_propose(c, command, &(struct cmd_sandbox_save){self->actor.key, row->save},
					SANDBOX_PROPOSE_MS);
	return self->actor.state;
}

/* -- Saving ------------------------------------------------------------------------------------------------------ */

static uint8_t drive_save(struct sandbox *self, struct context *c)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);

	context_timer(c, 0);
	self->telling = COMMAND_NONE;
	self->request =
		context_drive(c, SANDBOXD_SAVE,
			      &(struct sandboxd_save){.sandbox = row->id, .save = row->save}, 0, 0, SAVE_MS);
	return SANDBOX_ACTOR_SAVING;
}

uint8_t sandbox_save(struct actor *a, struct context *c, const struct message *m)
{
	const struct sandbox_row *row = sandbox_row_of(a, c);

	(void)m;
	return row != NULL && row->rest == REST_SAVING ? drive_save((struct sandbox *)a, c) : a->state;
}

uint8_t sandbox_saved(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!sandbox_awaited(self, m)) {
		outbound_driven(&self->outbound, c, m);
		return a->state;
	}
	if (sandbox_row_of(a, c) == NULL)
		return a->state;
	if (passes(reply->code))
		return again(self, c);
	return tell(self, c, reply->code == 0 ? COMMAND_SANDBOX_SAVED : COMMAND_SANDBOX_KEPT);
}

/* -- Waking ------------------------------------------------------------------------------------------------------ */

static uint8_t load(struct sandbox *self, struct context *c)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);
	const struct pool_row *pool = state_pool(c->state, row->pool);
	const struct template *t = limits_template(&self->actor, c);

	if (pool == NULL || t == NULL) {
		ending_set(&self->ending, false, "its pool or revision is gone");
		return sandbox_stop(self, c, 0);
	}
	context_timer(c, 0);
	self->telling = COMMAND_NONE;
	self->going = false;
	self->outbound.open = row->egress;

	struct sandboxd_start how = sandbox_start_of(row, pool, t);

	how.save = row->save;
	self->request = context_drive(c, SANDBOXD_START, &how, row->pool, row->revision, SANDBOX_START_MS);
	return SANDBOX_ACTOR_WAKING;
}

static uint8_t go_on(struct sandbox *self, struct context *c)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);

	self->going = true;
	self->request =
		context_drive(c, SANDBOXD_GO_ON,
			      &(struct sandboxd_save){.sandbox = row->id, .save = row->save}, 0, 0, GO_ON_MS);
	return SANDBOX_ACTOR_WAKING;
}

uint8_t sandbox_woken(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!sandbox_awaited(self, m)) {
		outbound_driven(&self->outbound, c, m);
		return a->state;
	}
	if (sandbox_row_of(a, c) == NULL)
		return a->state;
	if (!self->going && (reply->code == 0 || reply->code == -EEXIST))
		return go_on(self, c);
	if (reply->code == 0)
		return tell(self, c, COMMAND_SANDBOX_AWAKE);
	/* Saved only now: it is loaded then. */
	if (passes(reply->code) || (self->going && reply->code == -ENOENT))
		return again(self, c);
	/* Its file is there as long as it did not run. */
	if (reply->code != -ENOENT && ++self->failures < (reply->code == -ENODEV ? PROOF_TRIES : TRIES)) {
		self->request = 0;
		context_timer(c, c->now_ms + SANDBOX_RETRY_MS);
		return a->state;
	}
	ending_set(&self->ending, false, "it could not go on from its memory: %.*s",
		   STR_ARGS(reply->message));
	return sandbox_stop(self, c, 0);
}

/* -- All ---------------------------------------------------------------------------------------------------------- */

uint8_t sandbox_rest_begin(struct sandbox *self, struct context *c, bool running, uint64_t save)
{
	const struct sandbox_row *row = sandbox_row_of(&self->actor, c);

	if (row->rest == REST_WAKING && context_epoch(c) == 0)
		return SANDBOX_ACTOR_NEW; /* tables that may be old let nothing run */
	if (row->rest == REST_WAKING)
		return load(self, c);
	if (!running && save != row->save) {
		ending_set(&self->ending, false, "its memory was not there any more when its node came back");
		return sandbox_stop(self, c, 0);
	}
	if (row->rest == REST_SAVED)
		return SANDBOX_ACTOR_RESTING;
	/* Its session says when. */
	return running && self->actor.state == SANDBOX_ACTOR_NEW ? sandbox_serve(self, c)
								 : drive_save(self, c);
}

uint8_t sandbox_rest_changed(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandbox_row *row = sandbox_row_of(a, c);

	(void)m;
	if (row == NULL) /* or it has moved away */
		return sandbox_stop(self, c, 0);
	switch ((enum sandbox_rest)row->rest) {
	case REST_AWAKE:
		return sandbox_serve(self, c);
	case REST_SAVING:
		return a->state == SANDBOX_ACTOR_SAVING ? a->state : sandbox_serve(self, c);
	case REST_SAVED:
		self->request = 0;
		context_timer(c, 0);
		return SANDBOX_ACTOR_RESTING;
	case REST_WAKING:
		return a->state == SANDBOX_ACTOR_WAKING ? a->state : load(self, c);
	case RESTS:
		break;
	}
	return a->state;
}

/* What was proposed is in the tables, or is proposed again. */
uint8_t sandbox_rest_told(struct actor *a, struct context *c, const struct message *m)
{
	if (outbound_lost(&((struct sandbox *)a)->outbound, c, m) || !sandbox_awaited((struct sandbox *)a, m))
		return a->state;
	return again((struct sandbox *)a, c);
}

uint8_t sandbox_rest_again(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;

	(void)m;
	if (sandbox_row_of(a, c) == NULL)
		return a->state;
	if (self->telling != COMMAND_NONE)
		return tell(self, c, self->telling);
	return a->state == SANDBOX_ACTOR_SAVING ? drive_save(self, c) : load(self, c);
}

uint8_t sandbox_rest_adopted(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_adopted *adopted = m->body;

	return sandbox_row_of(a, c) == NULL
		       ? sandbox_stop((struct sandbox *)a, c, 0)
		       : sandbox_rest_begin((struct sandbox *)a, c, adopted->running, adopted->save);
}
