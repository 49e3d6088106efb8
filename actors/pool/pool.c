/* One pool's operation.
 *
 * Happy path: PUT is proposed by the node that was asked, whoever leads, under that node's (epoch, sequence), so that a change of
 * leader costs it time and never makes it happen twice; it is answered with its operation at once. On the leader each step then
 * follows from the phase in the tables:
 * RESOLVE asks the registry which digest the tag names (skipped when the image names a digest); CACHE asks every node to have
 * it and ends as soon as one that can run sandboxes does; DELETE drains by itself, the sandboxes' nodes see it in the tables.
 * Failure modes: what may pass (the registry does not answer) is tried again with a back-off for the cluster's pull_retry_ms, what will not
 * (no such image, credentials refused) ends the operation with its cause. A new leader goes on from the phase.
 * Invariants: a step names the phase that it leaves, so that it happens once, whoever proposes it. */
#include "pool.h"

#include <errno.h>
#include <string.h>

#include "cause.h"
#include "state/able.h"

#define PROPOSE_MS      10000
#define RESOLVE_MS      60000
#define CACHE_MS        600000
#define LOOK_MS         200
#define BACK_OFF_MS     500
#define BACK_OFF_MAX_MS 20000
#define NODES_MAX       64
#define ASKERS_MAX      64

struct pool {
	struct actor actor;
	uint64_t operation; /* the one that is worked on, and its phase */
	uint8_t phase;
	uint64_t request; /* of RESOLVING and STEPPING */
	uint64_t begun_ms, back_off_ms;
	uint64_t caching[NODES_MAX]; /* requests to the nodes' cache actors; 0: answered */
	uint32_t n_caching;
	struct cause cause;
	uint32_t n_failed; /* nodes of this round that cannot have it */
	int32_t code;      /* that `cause` tells */
	struct {
		struct asker asker;
		uint64_t request; /* 0: free */
	} askers[ASKERS_MAX];
};

static uint8_t look(struct pool *self, struct context *c);

static const struct operation_row *operation_of(const struct actor *a, const struct context *c)
{
	const struct pool_row *pool = state_pool(c->state, a->key);

	return pool == NULL ? NULL : state_operation(c->state, pool->operation);
}

static const struct template *template_of(const struct actor *a, const struct context *c)
{
	const struct operation_row *operation = operation_of(a, c);
	const struct revision_row *revision =
		operation == NULL ? NULL : state_revision(c->state, a->key, operation->revision);

	return revision == NULL ? NULL : &revision->template;
}

static uint8_t step(struct pool *self, struct context *c, uint8_t phase, struct str digest)
{
	struct cmd_operation_step body = {
		.operation = self->operation, .phase = phase, .from = self->phase, .digest = digest};

	if (phase == PHASE_FAILED) {
		body.code = str_of(self->cause.code);
		body.message = str_of(self->cause.message);
	}
	context_timer(c, 0);
	self->request = context_propose(c, COMMAND_OPERATION_STEP, &body, PROPOSE_MS);
	return POOL_ACTOR_STEPPING;
}

static uint8_t failed(struct pool *self, struct context *c)
{
	const struct settings *x = &state_cluster(c->state)->settings;
	uint64_t retry_ms = x->pull_retry_ms != 0 ? x->pull_retry_ms : POOL_RETRY_MS;

	if (!self->cause.passes || c->now_ms >= self->begun_ms + retry_ms)
		return step(self, c, PHASE_FAILED, STR_NONE);
	self->back_off_ms = self->back_off_ms == 0 ? BACK_OFF_MS : self->back_off_ms * 2;
	if (self->back_off_ms > BACK_OFF_MAX_MS)
		self->back_off_ms = BACK_OFF_MAX_MS;
	context_timer(c, c->now_ms + self->back_off_ms);
	return POOL_ACTOR_BACKING;
}

/* "name@sha256:...": nothing to ask. */
static struct str digest_in(const struct template *t)
{
	struct str head, tail;

	if (t->digest.n > 0)
		return t->digest;
	return str_cut(t->image, '@', &head, &tail) && tail.n <= DIGEST_MAX ? tail : STR_NONE;
}

static uint8_t resolve(struct pool *self, struct context *c, const struct template *t)
{
	struct str digest = digest_in(t);
	const struct operation_row *operation = operation_of(&self->actor, c);

	if (digest.n > 0)
		return step(self, c, PHASE_CACHE, digest);
	self->request = context_drive(
		c, SANDBOXD_RESOLVE,
		&(struct sandboxd_image){.reference = t->image, .username = t->registry.username},
		self->actor.key, operation->revision, RESOLVE_MS);
	return POOL_ACTOR_RESOLVING;
}

static bool can_run(const struct node_row *node, const struct pool_row *pool, const struct template *t)
{
	return node->state == NODE_UP && !node->cordoned && able_node(node, pool, t);
}

static bool is_cached(const struct pool *self, const struct context *c, const struct template *t)
{
	const struct pool_row *pool = state_pool(c->state, self->actor.key);

	for (const struct node_row *node = NULL; (node = state_next_node(c->state, node)) != NULL;) {
		if (can_run(node, pool, t) && state_has_image(c->state, node->id, t->digest))
			return true;
	}
	return false;
}

/* A node that says it cannot fails the operation at once; what may come back is waited for. */
static void no_node(struct pool *self, const struct context *c, const struct pool_row *pool,
		    const struct template *t)
{
	char text[ABLE_TEXT_MAX];
	enum able able = able_nodes(c->state, pool, t, text);

	if (able != ABLE_SOME && pool->isolation != ISOLATION_CONTAINER)
		cause_unable(&self->cause, able == ABLE_LATER, text);
	else
		cause_of(&self->cause, t, -EHOSTDOWN,
			 t->node_labels.n > 0 ? STR("no node with the pool's node labels is up")
					      : STR("no node is up that could hold it"));
}

static uint8_t cache(struct pool *self, struct context *c, const struct template *t)
{
	const struct pool_row *pool = state_pool(c->state, self->actor.key);
	struct msg_cache body = {self->actor.key, t->image, t->digest};

	if (is_cached(self, c, t))
		return step(self, c, PHASE_SUCCEEDED, STR_NONE);
	self->n_caching = 0;
	self->n_failed = 0;
	for (const struct node_row *node = NULL; (node = state_next_node(c->state, node)) != NULL;) {
		if (can_run(node, pool, t) && self->n_caching < NODES_MAX)
			self->caching[self->n_caching++] =
				context_request(c, (struct address){ADDRESS_CACHE, node->id, self->actor.key},
						MSG_CACHE, &body, CACHE_MS);
	}
	if (self->n_caching == 0) {
		no_node(self, c, pool, t);
		return failed(self, c);
	}
	context_timer(c, c->now_ms + LOOK_MS);
	return POOL_ACTOR_CACHING;
}

/* Some PUT or DELETE of this pool has no outcome yet. */
static bool waited_for(const struct pool *self)
{
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		if (self->askers[i].request != 0)
			return true;
	}
	return false;
}

/* Does what the tables' phase asks for. A deletion may be applied before its proposal is answered. */
static uint8_t look(struct pool *self, struct context *c)
{
	const struct operation_row *operation = operation_of(&self->actor, c);
	const struct template *t = template_of(&self->actor, c);

	context_timer(c, 0);
	if (self->actor.key == 0)
		return POOL_ACTOR_IDLE;
	if (state_pool(c->state, self->actor.key) == NULL)
		return waited_for(self) ? POOL_ACTOR_IDLE : POOL_ACTOR_GONE;
	if (operation == NULL || t == NULL || operation->ended_ms != 0)
		return POOL_ACTOR_IDLE;
	if (operation->id != self->operation) {
		self->begun_ms = c->now_ms;
		self->back_off_ms = 0;
	}
	self->operation = operation->id;
	self->phase = operation->phase;
	if (operation->phase == PHASE_RESOLVE)
		return resolve(self, c, t);
	return operation->phase == PHASE_CACHE ? cache(self, c, t) : POOL_ACTOR_IDLE;
}

static uint8_t lead(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_leading *body = m->body;

	return body->leading ? look((struct pool *)a, c) : POOL_ACTOR_FOLLOWING;
}

static uint8_t follow(const struct pool *self, const struct context *c)
{
	bool gone = self->actor.key != 0 && state_pool(c->state, self->actor.key) == NULL;

	return gone && !waited_for(self) ? POOL_ACTOR_GONE : POOL_ACTOR_FOLLOWING;
}

static uint8_t unlead(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct msg_leading *body = m->body;

	if (body->leading)
		return a->state;
	self->operation = 0;
	context_timer(c, 0);
	return follow(self, c);
}

/* Made after the node began to lead, or before. */
static uint8_t follow_changed(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	if (c->leading)
		return look((struct pool *)a, c);
	return follow((struct pool *)a, c);
}

/* While something is under way: goes on with it unless the operation or its phase is another one now. */
static uint8_t changed(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct operation_row *operation = operation_of(a, c);

	(void)m;
	if (operation != NULL && operation->id == self->operation && operation->phase == self->phase &&
	    a->state != POOL_ACTOR_IDLE)
		return a->state;
	return look(self, c);
}

static uint8_t again(struct actor *a, struct context *c, const struct message *m)
{
	(void)m;
	return look((struct pool *)a, c);
}

static void keep(struct pool *self, struct context *c, const struct message *m, uint8_t command)
{
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		if (self->askers[i].request != 0)
			continue;
		self->askers[i].asker = context_asker(m);
		self->askers[i].request = context_propose(c, command, m->body, PROPOSE_MS);
		return;
	}
	context_reply(
		c, m, MSG_REFUSED,
		&(struct msg_refused){-ENOBUFS, STR("too many changes of session pools are under way")});
}

static uint8_t put(struct actor *a, struct context *c, const struct message *m)
{
	keep((struct pool *)a, c, m, COMMAND_POOL_PUT);
	return a->state;
}

static uint8_t delete (struct actor *a, struct context *c, const struct message *m)
{
	keep((struct pool *)a, c, m, COMMAND_POOL_DELETE);
	return a->state;
}

/* True if it was the outcome of a PUT or DELETE. */
static bool answered(struct pool *self, struct context *c, uint64_t request,
		     const struct msg_pool_answer *body)
{
	for (uint32_t i = 0; i < ASKERS_MAX; i++) {
		if (self->askers[i].request != request)
			continue;
		self->askers[i].request = 0;
		context_answer(c, &self->askers[i].asker, MSG_POOL_ANSWER, body);
		return true;
	}
	return false;
}

/* The last outcome of a pool that is gone was told. */
static uint8_t settled(const struct pool *self, const struct context *c)
{
	const struct actor *a = &self->actor;

	bool calm = a->state == POOL_ACTOR_IDLE || a->state == POOL_ACTOR_FOLLOWING;

	return calm && a->key != 0 && state_pool(c->state, a->key) == NULL && !waited_for(self)
		       ? POOL_ACTOR_GONE
		       : a->state;
}

static uint8_t proposed(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct msg_proposed *body = m->body;
	struct msg_pool_answer answer = {.code = body->code,
					 .message = body->message,
					 .pool = body->id,
					 .operation = body->operation,
					 .created = body->created};

	answered(self, c, m->envelope->correlation, &answer);
	return settled(self, c);
}

static uint8_t proposal_lost(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct msg_refused *body = m->body;

	answered(self, c, m->envelope->correlation,
		 &(struct msg_pool_answer){.code = body->code, .message = body->message});
	return settled(self, c);
}

static uint8_t stepped(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct msg_proposed *body = m->body;

	if (m->envelope->correlation != self->request)
		return proposed(a, c, m);
	if (body->code != 0) {
		context_timer(c, c->now_ms + BACK_OFF_MS);
		return POOL_ACTOR_BACKING;
	}
	return changed(a, c, m);
}

static uint8_t step_lost(struct actor *a, struct context *c, const struct message *m)
{
	if (m->envelope->correlation != ((struct pool *)a)->request)
		return proposal_lost(a, c, m);
	return look((struct pool *)a, c);
}

static uint8_t resolved(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct template *t = template_of(a, c);
	const struct sandboxd_reply *reply = m->body;

	if (m->envelope->correlation != self->request || t == NULL)
		return POOL_ACTOR_RESOLVING;
	if (reply->code == 0)
		return step(self, c, PHASE_CACHE, reply->digest);
	cause_of(&self->cause, t, reply->code, reply->message);
	return failed(self, c);
}

static uint8_t resolve_lost(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct template *t = template_of(a, c);

	if (m->envelope->correlation != self->request || t == NULL)
		return proposal_lost(a, c, m);
	cause_of(&self->cause, t, -ETIMEDOUT, STR("no answer in time"));
	return failed(self, c);
}

/* Of several nodes' causes the first that is not a node's own trouble is told; if one may pass, so may all. */
static void one_more_cause(struct pool *self, const struct template *t, int32_t code, struct str message)
{
	struct cause cause;
	bool passes;

	cause_of(&cause, t, code, message);
	passes = cause.passes || (self->n_failed > 0 && self->cause.passes);
	if (self->n_failed == 0 || cause_is_of_node(self->code)) {
		self->cause = cause;
		self->code = code;
	}
	self->cause.passes = passes;
	self->n_failed++;
}

/* One node's answer. When none is left and none has it, the operation fails or is tried again. */
static uint8_t node_answered(struct pool *self, struct context *c, uint64_t request, int32_t code,
			     struct str message)
{
	const struct template *t = template_of(&self->actor, c);
	uint32_t left = 0;
	bool ours = false;

	for (uint32_t i = 0; i < self->n_caching; i++) {
		ours |= self->caching[i] == request;
		if (self->caching[i] == request)
			self->caching[i] =
				code == 0 ? UINT64_MAX : 0; /* UINT64_MAX: has it; the tables will say so */
		left += self->caching[i] != 0;
	}
	if (!ours || t == NULL)
		return POOL_ACTOR_CACHING;
	if (code != 0)
		one_more_cause(self, t, code, message);
	if (left > 0)
		return POOL_ACTOR_CACHING;
	return failed(self, c);
}

static uint8_t cached(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_cached *body = m->body;

	return node_answered((struct pool *)a, c, m->envelope->correlation, body->code, body->message);
}

static uint8_t cache_lost(struct actor *a, struct context *c, const struct message *m)
{
	const struct msg_refused *body = m->body;

	if (answered((struct pool *)a, c, m->envelope->correlation,
		     &(struct msg_pool_answer){.code = body->code, .message = body->message}))
		return POOL_ACTOR_CACHING;
	/* -ENOENT of an address is a node that lags, not an image that is missing. */
	return node_answered((struct pool *)a, c, m->envelope->correlation, -EAGAIN, body->message);
}

static uint8_t cache_looked(struct actor *a, struct context *c, const struct message *m)
{
	struct pool *self = (struct pool *)a;
	const struct template *t = template_of(a, c);

	(void)m;
	if (t == NULL)
		return look(self, c);
	if (is_cached(self, c, t))
		return step(self, c, PHASE_SUCCEEDED, STR_NONE);
	context_timer(c, c->now_ms + LOOK_MS);
	return POOL_ACTOR_CACHING;
}

#define T(s)  SM_TO(POOL_ACTOR_##s)
#define LOOKS (T(IDLE) | T(RESOLVING) | T(CACHING) | T(STEPPING) | T(BACKING) | T(GONE))
static const struct sm_cell cells[POOL_ACTOR_STATES][MSG_TYPES] =
	{
		[POOL_ACTOR_FOLLOWING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = ON(lead, LOOKS | T(FOLLOWING)),
				[MSG_CHANGED] = ON(follow_changed, LOOKS | T(FOLLOWING)),
				[MSG_PROPOSED] = ON(proposed, T(FOLLOWING) | T(GONE)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHED] = IGNORE,
				[MSG_POOL_PUT] = ON(put, T(FOLLOWING)),
				[MSG_POOL_DELETE] = ON(delete, T(FOLLOWING)),
				[MSG_REFUSED] = ON(proposal_lost, T(FOLLOWING) | T(GONE)),
			},
		[POOL_ACTOR_IDLE] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = ON(unlead, T(IDLE) | T(FOLLOWING) | T(GONE)),
				[MSG_CHANGED] = ON(changed, LOOKS),
				[MSG_PROPOSED] = ON(proposed, T(IDLE) | T(GONE)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHED] = IGNORE,
				[MSG_POOL_PUT] = ON(put, T(IDLE)),
				[MSG_POOL_DELETE] = ON(delete, T(IDLE)),
				[MSG_REFUSED] = ON(proposal_lost, T(IDLE) | T(GONE)),
			},
		[POOL_ACTOR_RESOLVING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = ON(unlead, T(RESOLVING) | T(FOLLOWING) | T(GONE)),
				[MSG_CHANGED] = ON(changed, LOOKS),
				[MSG_PROPOSED] = ON(proposed, T(RESOLVING)),
				[MSG_DRIVEN] = ON(resolved, T(RESOLVING) | T(STEPPING) | T(BACKING)),
				[MSG_CACHED] = IGNORE,
				[MSG_POOL_PUT] = ON(put, T(RESOLVING)),
				[MSG_POOL_DELETE] = ON(delete, T(RESOLVING)),
				[MSG_REFUSED] = ON(resolve_lost, T(RESOLVING) | T(STEPPING) | T(BACKING)),
			},
		[POOL_ACTOR_CACHING] =
			{
				[MSG_TIMER] = ON(cache_looked, LOOKS),
				[MSG_LEADING] = ON(unlead, T(CACHING) | T(FOLLOWING) | T(GONE)),
				[MSG_CHANGED] = ON(changed, LOOKS),
				[MSG_PROPOSED] = ON(proposed, T(CACHING)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHED] = ON(cached, T(CACHING) | T(STEPPING) | T(BACKING)),
				[MSG_POOL_PUT] = ON(put, T(CACHING)),
				[MSG_POOL_DELETE] = ON(delete, T(CACHING)),
				[MSG_REFUSED] = ON(cache_lost, T(CACHING) | T(STEPPING) | T(BACKING)),
			},
		[POOL_ACTOR_STEPPING] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = ON(unlead, T(STEPPING) | T(FOLLOWING) | T(GONE)),
				[MSG_CHANGED] = ON(changed, LOOKS),
				[MSG_PROPOSED] = ON(stepped, LOOKS),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHED] = IGNORE,
				[MSG_POOL_PUT] = ON(put, T(STEPPING)),
				[MSG_POOL_DELETE] = ON(delete, T(STEPPING)),
				[MSG_REFUSED] = ON(step_lost, LOOKS),
			},
		[POOL_ACTOR_BACKING] =
			{
				[MSG_TIMER] = ON(again, LOOKS),
				[MSG_LEADING] = ON(unlead, T(BACKING) | T(FOLLOWING) | T(GONE)),
				[MSG_CHANGED] = ON(changed, LOOKS),
				[MSG_PROPOSED] = ON(proposed, T(BACKING)),
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHED] = IGNORE,
				[MSG_POOL_PUT] = ON(put, T(BACKING)),
				[MSG_POOL_DELETE] = ON(delete, T(BACKING)),
				[MSG_REFUSED] = ON(proposal_lost, T(BACKING)),
			},
		[POOL_ACTOR_GONE] =
			{
				[MSG_TIMER] = IGNORE,
				[MSG_LEADING] = IGNORE,
				[MSG_CHANGED] = IGNORE,
				[MSG_PROPOSED] = IGNORE,
				[MSG_DRIVEN] = IGNORE,
				[MSG_CACHED] = IGNORE,
				[MSG_POOL_PUT] = REFUSE,
				[MSG_POOL_DELETE] = REFUSE,
				[MSG_REFUSED] = IGNORE,
			},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER,  MSG_LEADING,  MSG_CHANGED,     MSG_PROPOSED, MSG_DRIVEN,
				   MSG_CACHED, MSG_POOL_PUT, MSG_POOL_DELETE, MSG_REFUSED};
static const char *const states[] = {"following", "idle",        "resolving", "caching",
				     "stepping",  "backing off", "gone"};

const struct sm_def pool_sm = {
	.name = "pool",
	.states = states,
	.n_states = POOL_ACTOR_STATES,
	.final = POOL_ACTOR_GONE,
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
	struct pool *self = (struct pool *)a;

	/* The last change went through: the row is gone because of it. */
	for (uint32_t i = 0; i < ASKERS_MAX; i++)
		context_refuse(c, &self->askers[i].asker, -ENOENT, "the session pool is gone");
}

const struct actor_class pool_class = {
	.sm = &pool_sm,
	.kind = ADDRESS_POOL,
	.size = sizeof(struct pool),
	.mailbox_max = 256,
	.singleton = true,
	.row = true,
	.table = TABLE_POOLS,
	.watches = WATCH(TABLE_OPERATIONS) | WATCH(TABLE_REVISIONS),
	.leads = true,
	.wanted = wanted,
	.done = done,
};
