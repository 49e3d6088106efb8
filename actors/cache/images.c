/* Which images this node holds: one list, so that two pulls that end together cannot overtake each other.
 *
 * Happy path: a pull or an import ended (MSG_CACHED), or sandboxd came back (MSG_ADOPTED): sandboxd is asked for its list;
 * where it differs from the tables it is proposed, whole. Asking, it says which images pools name, so that sandboxd removes none of them.
 * Failure modes: no answer, no leader: again after 2 s. Something that ends meanwhile: listed once more. Each minute the list is
 * looked at anyway. */
#include "cache.h"

#define DRIVE_MS   10000
#define PROPOSE_MS 5000
#define AGAIN_MS   2000
#define LOOK_MS    60000
#define LIST_MAX   4096

struct images {
	struct actor actor;
	uint64_t request;
	uint32_t n_listed; /* of the last list that was proposed */
	bool dirty;
};

static uint8_t list(struct images *self, struct context *c)
{
	struct str wanted[IMAGES_WANTED_MAX];
	struct sandboxd_images body = {.sweep = SANDBOXD_SWEEP_BOUNDS, .wanted = wanted};

	body.n_wanted = state_images_wanted(c->state, wanted, IMAGES_WANTED_MAX);
	if (body.n_wanted > IMAGES_WANTED_MAX)
		body = (struct sandboxd_images){.sweep = SANDBOXD_SWEEP_NONE};
	self->dirty = false;
	context_timer(c, 0);
	self->request = context_drive(c, SANDBOXD_IMAGES, &body, 0, 0, DRIVE_MS);
	return IMAGES_LISTING;
}

static uint8_t settle(struct images *self, struct context *c, uint64_t after_ms)
{
	if (self->dirty)
		return list(self, c);
	context_timer(c, c->now_ms + after_ms);
	return IMAGES_SETTLED;
}

static uint8_t look(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return list((struct images *)a, c);
}

static uint8_t look_later(struct actor *a, struct context *c, const struct message *m)
{
	(void)c;
	(void)m;
	((struct images *)a)->dirty = true;
	return a->state;
}

static uint8_t listed(struct actor *a, struct context *c, const struct message *m)
{
	struct images *self = (struct images *)a;
	const struct sandboxd_reply *reply = m->body;
	struct str digests[LIST_MAX];
	struct cmd_node_images body = {.node = c->node, .digests = digests};
	bool same = true;

	if (m->envelope->correlation != self->request)
		return IMAGES_LISTING;
	if (reply->code != 0)
		return settle(self, c, AGAIN_MS);
	for (uint32_t i = 0; i < reply->n_images && body.n_digests < LIST_MAX; i++) {
		if (reply->images[i].digest.n == 0)
			continue;
		same = same && state_has_image(c->state, c->node, reply->images[i].digest);
		digests[body.n_digests++] = reply->images[i].digest;
	}
	if (same && body.n_digests == self->n_listed)
		return settle(self, c, LOOK_MS);
	self->n_listed = body.n_digests;
	self->request = context_propose(c, COMMAND_NODE_IMAGES, &body, PROPOSE_MS);
	return IMAGES_PROPOSING;
}

static uint8_t not_listed(struct actor *a, struct context *c, const struct message *m)
{
	struct images *self = (struct images *)a;

	return m->envelope->correlation == self->request ? settle(self, c, AGAIN_MS) : IMAGES_LISTING;
}

static uint8_t proposed(struct actor *a, struct context *c, const struct message *m)
{
	struct images *self = (struct images *)a;
	const struct msg_proposed *body = m->body;

	if (m->envelope->correlation != self->request)
		return IMAGES_PROPOSING;
	if (body->code != 0)
		self->n_listed = UINT32_MAX;
	return settle(self, c, body->code == 0 ? LOOK_MS : AGAIN_MS);
}

static uint8_t not_proposed(struct actor *a, struct context *c, const struct message *m)
{
	struct images *self = (struct images *)a;

	if (m->envelope->correlation != self->request)
		return IMAGES_PROPOSING;
	self->n_listed = UINT32_MAX;
	return settle(self, c, AGAIN_MS);
}

#define T(s) SM_TO(IMAGES_##s)
static const struct sm_cell cells[IMAGES_STATES][MSG_TYPES] =
	{
		[IMAGES_SETTLED] =
			{
				[MSG_TIMER] = ON(look, T(LISTING)),
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_ADOPTED] = ON(look, T(LISTING)),
				[MSG_CACHED] = ON(look, T(LISTING)),
				[MSG_REFUSED] = IGNORE,
			},
		[IMAGES_LISTING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = ON(listed, T(LISTING) | T(PROPOSING) | T(SETTLED)),
				[MSG_ADOPTED] = ON(look_later, T(LISTING)),
				[MSG_CACHED] = ON(look_later, T(LISTING)),
				[MSG_REFUSED] = ON(not_listed, T(LISTING) | T(SETTLED)),
			},
		[IMAGES_PROPOSING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_PROPOSED] = ON(proposed, T(PROPOSING) | T(LISTING) | T(SETTLED)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_ADOPTED] = ON(look_later, T(PROPOSING)),
				[MSG_CACHED] = ON(look_later, T(PROPOSING)),
				[MSG_REFUSED] = ON(not_proposed, T(PROPOSING) | T(LISTING) | T(SETTLED)),
			},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER, MSG_PROPOSED, MSG_DRIVEN, MSG_ADOPTED, MSG_CACHED, MSG_REFUSED};
static const char *const states[] = {"settled", "listing", "proposing"};

const struct sm_def images_sm = {
	.name = "images",
	.states = states,
	.n_states = IMAGES_STATES,
	.final = IMAGES_STATES,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

const struct actor_class images_class = {
	.sm = &images_sm,
	.kind = ADDRESS_IMAGES,
	.size = sizeof(struct images),
	.mailbox_max = 64,
	.singleton = true,
};
