/* What runs on this node without a row of ours.
 *
 * Happy path: sandboxd lists what runs; what has no row in our tables is named to the leader's membership, which judges it
 * behind a barrier taken after the listing; what no row stands for is stopped.
 * Failure modes: no leader, no answer, a stop that fails: asked again every 5 s. Our own tables may lag and never decide. */
#include "sandbox.h"

#include <string.h>

#define AGAIN_MS 5000
#define JUDGE_MS 10000
#define STOP_MS  30000

struct orphans {
	struct actor actor;
	uint64_t request;
	uint32_t n;
	uint64_t ids[ORPHANS_MAX];
};

static void ask(struct orphans *self, struct context *c)
{
	context_timer(c, 0);
	self->request = context_request(c, (struct address){ADDRESS_MEMBERSHIP, NODE_LEADER, 0}, MSG_JUDGE,
					&(struct msg_orphans){c->node, self->ids, self->n}, JUDGE_MS);
}

static uint8_t found(struct actor *a, struct context *c, const struct message *m)
{
	struct orphans *self = (struct orphans *)a;
	const struct msg_orphans *body = m->body;

	self->n = body->n_sandboxes;
	if (self->n > 0)
		memcpy(self->ids, body->sandboxes, self->n * sizeof *self->ids);
	ask(self, c);
	return ORPHANS_ASKING;
}

static uint8_t again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	ask((struct orphans *)a, c);
	return ORPHANS_ASKING;
}

static uint8_t unanswered(struct actor *a, struct context *c, const struct message *m)
{
	if (m->envelope->correlation == ((struct orphans *)a)->request)
		context_timer(c, c->now_ms + AGAIN_MS);
	return ORPHANS_ASKING;
}

static uint8_t judged(struct actor *a, struct context *c, const struct message *m)
{
	struct orphans *self = (struct orphans *)a;
	const struct msg_orphans *body = m->body;

	if (m->envelope->correlation != self->request)
		return ORPHANS_ASKING;
	for (uint32_t i = 0; i < body->n_sandboxes; i++) {
		const struct sandbox_row *row = state_sandbox(c->state, body->sandboxes[i]);

		/* It comes here only now. */
		if (row != NULL && (row->node == c->node || row->target == c->node))
			continue;
		context_drive(c, SANDBOXD_STOP, &(struct sandboxd_stop){.sandbox = body->sandboxes[i]}, 0, 0,
			      STOP_MS);
	}
	self->n = 0;
	context_judged(c);
	return ORPHANS_NONE;
}

/* A stop that failed or was never answered: found again at the next listing. */
#define T(s) SM_TO(ORPHANS_##s)
static const struct sm_cell cells[ORPHANS_STATES][MSG_TYPES] = {
	[ORPHANS_NONE] =
		{
			[MSG_TIMER] = IGNORE,
			[MSG_ORPHANS] = ON(found, T(ASKING)),
			[MSG_JUDGED] = IGNORE,
			[MSG_DRIVEN] = IGNORE,
			[MSG_REFUSED] = IGNORE,
		},
	[ORPHANS_ASKING] =
		{
			[MSG_TIMER] = ON(again, T(ASKING)),
			[MSG_ORPHANS] = ON(found, T(ASKING)),
			[MSG_JUDGED] = ON(judged, T(ASKING) | T(NONE)),
			[MSG_DRIVEN] = IGNORE,
			[MSG_REFUSED] = ON(unanswered, T(ASKING)),
		},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER, MSG_ORPHANS, MSG_JUDGED, MSG_DRIVEN, MSG_REFUSED};
static const char *const states[] = {"none", "asking"};

const struct sm_def orphans_sm = {
	.name = "orphans",
	.states = states,
	.n_states = ORPHANS_STATES,
	.final = ORPHANS_STATES,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

const struct actor_class orphans_class = {
	.sm = &orphans_sm,
	.kind = ADDRESS_ORPHANS,
	.size = sizeof(struct orphans),
	.mailbox_max = 16,
	.singleton = true,
};
