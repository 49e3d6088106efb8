/* The images of one pool on this node.
 *
 * Happy path: a revision with a digest becomes the pool's active or desired one; what this node does not hold is pulled; the
 * images actor then says so in the tables. MSG_CACHE is answered when the digest is held.
 * Failure modes: a failed pull answers those who asked with its cause and is tried again, 1 s to 5 min later.
 * Invariants: one pull a pool at a time; only digests are pulled, tags were resolved before. */
#include "cache.h"

#include <errno.h>

#define ASKERS_MAX      16
#define PULL_MS         900000
#define BACK_OFF_MS     1000
#define BACK_OFF_MAX_MS 300000

struct cache {
	struct actor actor;
	uint64_t request, back_off_ms;
	char pulling[DIGEST_MAX + 1],
		held[2][DIGEST_MAX + 1]; /* held: pulled, perhaps not in the tables yet */
	uint8_t next_held;
	struct {
		struct asker asker;
		char digest[DIGEST_MAX + 1];
	} askers[ASKERS_MAX];
};

static bool is_held(const struct cache *self, const struct context *c, struct str digest)
{
	return state_has_image(c->state, c->node, digest) || str_eq(digest, str_of(self->held[0])) ||
	       str_eq(digest, str_of(self->held[1]));
}

static bool is_asked(const struct cache *self, struct str digest)
{
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		if (self->askers[i].asker.correlation != 0 && str_eq(digest, str_of(self->askers[i].digest)))
			return true;
	}
	return false;
}

/* What somebody waits for goes first: an active image that its registry lost must not keep the desired one away. */
static const struct template *lacking(const struct cache *self, const struct context *c,
				      uint64_t *ret_revision)
{
	const struct pool_row *pool = state_pool(c->state, self->actor.key);
	const struct template *found = NULL;

	for (int i = 0; pool != NULL && i < 2; i++) {
		uint64_t id = i == 0 ? pool->active_revision : pool->desired_revision;
		const struct revision_row *revision = state_revision(c->state, pool->uid, id);
		const struct template *t = revision == NULL ? NULL : &revision->template;

		if (t == NULL || t->digest.n == 0 || is_held(self, c, t->digest) ||
		    (found != NULL && !is_asked(self, t->digest)))
			continue;
		found = t;
		*ret_revision = id;
	}
	return found;
}

static uint8_t pull(struct cache *self, struct context *c, const struct template *t, uint64_t revision)
{
	self->request = context_drive(c, SANDBOXD_PULL,
				      &(struct sandboxd_image){.reference = t->image,
							       .digest = t->digest,
							       .username = t->registry.username},
				      self->actor.key, revision, PULL_MS);
	return CACHE_PULLING;
}

/* What the pool names no more may be removed any time: the tables alone say whether it is here. */
static void let_go(struct cache *self, const struct context *c)
{
	const struct revision_row *revision = NULL;
	bool named[2] = {false, false};

	while ((revision = state_next_revision(c->state, self->actor.key, revision)) != NULL) {
		for (int i = 0; i < 2; i++)
			named[i] = named[i] || str_eq(revision->template.digest, str_of(self->held[i]));
	}
	for (int i = 0; i < 2; i++) {
		if (!named[i])
			self->held[i][0] = '\0';
	}
}

static uint8_t look(struct cache *self, struct context *c)
{
	uint64_t revision = 0;

	let_go(self, c);

	const struct template *t = lacking(self, c, &revision);

	context_timer(c, 0);
	if (state_pool(c->state, self->actor.key) == NULL)
		return CACHE_GONE;
	if (t == NULL || str_copy(t->digest, self->pulling, sizeof self->pulling) < 0)
		return CACHE_SETTLED;
	return pull(self, c, t, revision);
}

static void answer(struct cache *self, struct context *c, const char *digest, int32_t code,
		   struct str message)
{
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		if (self->askers[i].asker.correlation != 0 &&
		    str_eq(str_of(digest), str_of(self->askers[i].digest)))
			context_answer(c, &self->askers[i].asker, MSG_CACHED,
				       &(struct msg_cached){code, message, str_of(digest)});
	}
}

static uint8_t changed(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return look((struct cache *)a, c);
}

static uint8_t changed_meanwhile(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return state_pool(c->state, a->key) == NULL ? CACHE_GONE : a->state;
}

static uint8_t failed(struct cache *self, struct context *c, int32_t code, struct str message)
{
	uint64_t revision = 0;
	const struct template *t;

	answer(self, c, self->pulling, code, message);
	t = lacking(self, c, &revision);
	if (t != NULL && is_asked(self, t->digest) &&
	    str_copy(t->digest, self->pulling, sizeof self->pulling) == 0)
		return pull(self, c, t,
			    revision); /* of those that asked, none is left for what has just failed */
	self->back_off_ms = self->back_off_ms == 0 ? BACK_OFF_MS : self->back_off_ms * 2;
	if (self->back_off_ms > BACK_OFF_MAX_MS)
		self->back_off_ms = BACK_OFF_MAX_MS;
	context_timer(c, c->now_ms + self->back_off_ms);
	return CACHE_BACKING;
}

static uint8_t pulled(struct actor *a, struct context *c, const struct message *m)
{
	struct cache *self = (struct cache *)a;
	const struct sandboxd_reply *reply = m->body;

	if (m->envelope->correlation != self->request)
		return CACHE_PULLING;
	if (reply->code != 0)
		return failed(self, c, reply->code, reply->message);
	self->back_off_ms = 0;
	str_copy(str_of(self->pulling), self->held[self->next_held], sizeof self->held[0]);
	self->next_held ^= 1;
	context_send(c, (struct address){ADDRESS_IMAGES, c->node, 0}, MSG_CACHED,
		     &(struct msg_cached){.digest = str_of(self->pulling)});
	answer(self, c, self->pulling, 0, STR_NONE);
	return look(self, c);
}

static uint8_t pull_lost(struct actor *a, struct context *c, const struct message *m)
{
	struct cache *self = (struct cache *)a;

	if (m->envelope->correlation != self->request)
		return CACHE_PULLING;
	return failed(self, c, -ETIMEDOUT, STR("the pull did not end in time"));
}

/* Answers what is held; keeps the others until their pull ends. */
static bool keep(struct cache *self, struct context *c, const struct message *m)
{
	const struct msg_cache *body = m->body;

	if (is_held(self, c, body->digest)) {
		context_reply(c, m, MSG_CACHED, &(struct msg_cached){.digest = body->digest});
		return false;
	}
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		if (self->askers[i].asker.correlation != 0)
			continue;
		if (str_copy(body->digest, self->askers[i].digest, sizeof self->askers[i].digest) < 0)
			break;
		self->askers[i].asker = context_asker(m);
		return true;
	}
	context_reply(c, m, MSG_REFUSED,
		      &(struct msg_refused){-ENOBUFS, STR("too many ask for this pool's image")});
	return false;
}

/* Somebody waits for it: whatever the back-off, try now. */
static uint8_t asked(struct actor *a, struct context *c, const struct message *m)
{
	struct cache *self = (struct cache *)a;

	return keep(self, c, m) ? look(self, c) : a->state;
}

static uint8_t asked_meanwhile(struct actor *a, struct context *c, const struct message *m)
{
	keep((struct cache *)a, c, m);
	return CACHE_PULLING;
}

#define T(s) SM_TO(CACHE_##s)
static const struct sm_cell cells[CACHE_STATES][MSG_TYPES] =
	{
		[CACHE_SETTLED] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = ON(changed, T(SETTLED) | T(PULLING) | T(GONE)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHE] = ON(asked, T(SETTLED) | T(PULLING) | T(GONE)),
				[MSG_REFUSED] = IGNORE,
			},
		[CACHE_PULLING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = ON(changed_meanwhile, T(PULLING) | T(GONE)),
				[MSG_DRIVEN] = ON(pulled, T(SETTLED) | T(PULLING) | T(BACKING) | T(GONE)),
				[MSG_CACHE] = ON(asked_meanwhile, T(PULLING)),
				[MSG_REFUSED] = ON(pull_lost, T(PULLING) | T(BACKING)),
			},
		[CACHE_BACKING] =
			{
				[MSG_TIMER] = ON(changed, T(SETTLED) | T(PULLING) | T(GONE)),
				[MSG_CHANGED] = ON(changed_meanwhile, T(BACKING) | T(GONE)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHE] = ON(asked, T(SETTLED) | T(BACKING) | T(PULLING) | T(GONE)),
				[MSG_REFUSED] = IGNORE,
			},
		[CACHE_GONE] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_CHANGED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHE] = REFUSE,
				[MSG_REFUSED] = IGNORE,
			},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER, MSG_CHANGED, MSG_DRIVEN, MSG_CACHE, MSG_REFUSED};
static const char *const states[] = {"settled", "pulling", "backing off", "gone"};

const struct sm_def cache_sm = {
	.name = "cache",
	.states = states,
	.n_states = CACHE_STATES,
	.final = CACHE_GONE,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static bool wanted(const struct context *c, uint64_t key)
{
	return state_pool(c->state, key) != NULL;
}

static void done(struct actor *a, struct context *c)
{
	struct cache *self = (struct cache *)a;

	for (uint32_t i = 0; i < ASKERS_MAX; i++)
		context_refuse(c, &self->askers[i].asker, -ENOENT, "the pool is gone");
}

const struct actor_class cache_class = {
	.sm = &cache_sm,
	.kind = ADDRESS_CACHE,
	.size = sizeof(struct cache),
	.mailbox_max = 64,
	.row = true,
	.table = TABLE_POOLS,
	.watches = WATCH(TABLE_REVISIONS) | WATCH(TABLE_OPERATIONS),
	.wanted = wanted,
	.done = done,
};
