/* A sandbox's end: STOP until sandboxd says that nothing of it runs, then the end is committed, or told to its session, which commits it.
 * Whatever outcome is not known is asked for again. */
#include <errno.h>

#include "limits.h"
#include "private.h"

#define HALTED_WAIT_MS 5000

const struct sandbox_row *sandbox_row_of(const struct actor *a, const struct context *c)
{
	const struct sandbox_row *row = state_sandbox(c->state, a->key);

	return row != NULL && row->node == c->node ? row : NULL;
}

bool sandbox_awaited(const struct sandbox *self, const struct message *m)
{
	return self->request != 0 && self->request == m->envelope->correlation;
}

uint8_t sandbox_stop(struct sandbox *self, struct context *c, uint32_t grace_ms)
{
	const struct sandbox_row *row = state_sandbox(c->state, self->actor.key);
	struct sandboxd_stop stop = {.sandbox = self->actor.key, .grace_ms = grace_ms};

	if (row != NULL && row->node != c->node) { /* it moved away, and may come back */
		stop.save = row->save;
		self->left = true;
	}
	context_timer(c, 0);
	self->request = context_drive(c, SANDBOXD_STOP, &stop, 0, 0, grace_ms + 30000);
	return SANDBOX_ACTOR_STOPPING;
}

uint8_t sandbox_propose_gone(struct sandbox *self, struct context *c)
{
	struct cmd_sandbox_gone body = {.sandbox = self->actor.key,
					.stopped_ms = self->ending.stopped_ms,
					.failed = self->ending.failed,
					.unserved = self->ending.unserved,
					.out_of_memory = self->ending.out_of_memory,
					.message = str_of(self->ending.message)};

	if (sandbox_row_of(&self->actor, c) == NULL)
		return SANDBOX_ACTOR_GONE;
	context_timer(c, 0);
	self->request = context_propose(c, COMMAND_SANDBOX_GONE, &body, SANDBOX_PROPOSE_MS);
	return SANDBOX_ACTOR_ENDING;
}

uint8_t sandbox_stopped(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;
	const struct sandboxd_reply *reply = m->body;

	if (!sandbox_awaited(self, m))
		return SANDBOX_ACTOR_STOPPING;
	if (reply->code != 0 &&
	    reply->code != -ENOENT) { /* not here: it never began, or a stop before this one ended it */
		context_timer(c, c->now_ms + SANDBOX_RETRY_MS);
		return SANDBOX_ACTOR_STOPPING;
	}
	if (self->left && sandbox_row_of(a, c) != NULL) {
		self->left = false;
		return sandbox_rest_changed(a, c, m);
	}
	if (self->ending.stopped_ms == 0)
		self->ending.stopped_ms = reply->wall_ms;
	if (self->halter.correlation == 0)
		return sandbox_propose_gone(self, c);
	context_answer(c, &self->halter, MSG_HALTED, &(struct msg_halted){self->ending.stopped_ms});
	self->request = 0;
	context_timer(c, c->now_ms + HALTED_WAIT_MS); /* the session commits the end; if it does not, we do */
	return SANDBOX_ACTOR_ENDING;
}

uint8_t sandbox_stop_lost(struct actor *a, struct context *c, const struct message *m)
{
	if (sandbox_awaited((struct sandbox *)a, m))
		context_timer(c, c->now_ms + SANDBOX_RETRY_MS);
	return SANDBOX_ACTOR_STOPPING;
}

uint8_t sandbox_stop_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return sandbox_stop((struct sandbox *)a, c, 0);
}

uint8_t sandbox_stopping_exited(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;

	ending_exit(&self->ending, m->body, sandbox_row_of(a, c), "");
	return SANDBOX_ACTOR_STOPPING;
}

/* A session that asks while it is being stopped already gets the answer of that stop. */
uint8_t sandbox_stopping_halt(struct actor *a, struct context *c, const struct message *m)
{
	struct sandbox *self = (struct sandbox *)a;

	context_refuse(c, &self->halter, -ECANCELED, "asked again");
	self->halter = context_asker(m);
	return SANDBOX_ACTOR_STOPPING;
}

uint8_t sandbox_ending_halt(struct actor *a, struct context *c, const struct message *m)
{
	context_reply(c, m, MSG_HALTED, &(struct msg_halted){((struct sandbox *)a)->ending.stopped_ms});
	return SANDBOX_ACTOR_ENDING;
}

uint8_t sandbox_ended(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	if (sandbox_row_of(a, c) == NULL)
		return SANDBOX_ACTOR_GONE;
	context_timer_by(c, c->now_ms + SANDBOX_RETRY_MS);
	return SANDBOX_ACTOR_ENDING;
}

uint8_t sandbox_end_again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return sandbox_propose_gone((struct sandbox *)a, c);
}
