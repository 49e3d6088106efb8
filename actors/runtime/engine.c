#include "engine.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/must.h"

struct context engine_context(struct runtime *r, struct actor *self)
{
	return (struct context){.runtime = r,
				.self = self,
				.state = r->options.state,
				.now_ms = r->now_ms,
				.node = r->options.node,
				.n_gateway_loops = r->options.n_gateway_loops,
				.leading = r->leading,
				.listed = r->listed};
}

static uint64_t actor_hash(uint8_t kind, uint64_t key)
{
	return map_hash_u64(key * 16 + kind);
}

static bool match_actor(const struct map_node *node, const void *key)
{
	const struct actor *a = container_of(node, struct actor, node);
	const struct address *at = key;

	return a->class->kind == at->kind && a->key == at->key;
}

struct actor *engine_find(struct runtime *r, uint8_t kind, uint64_t key)
{
	struct address at = {.kind = kind, .key = key};
	struct map_node *node = map_find(&r->actors, actor_hash(kind, key), match_actor, &at);

	return node == NULL ? NULL : container_of(node, struct actor, node);
}

struct actor *engine_make(struct runtime *r, const struct actor_class *class, uint64_t key)
{
	struct actor *a = engine_find(r, class->kind, key);

	if (a != NULL)
		return a;
	a = calloc(1, class->size);
	if (a == NULL)
		return NULL;
	a->class = class;
	a->key = key;
	if (map_insert(&r->actors, &a->node, actor_hash(class->kind, key)) < 0) {
		free(a);
		return NULL;
	}
	a->previous = r->last;
	if (r->last != NULL)
		r->last->next = a;
	else
		r->first = a;
	r->last = a;
	r->counters.actors++;
	if (class->init != NULL) {
		struct context c = engine_context(r, a);

		class->init(a, &c);
	}
	return a;
}

void engine_forget(struct runtime *r, struct request *q)
{
	map_remove(&r->requests, &q->node);
	heap_remove(&r->deadlines, &q->deadline);
	if (q->previous != NULL)
		q->previous->next = q->next;
	else
		q->owner->requests = q->next;
	if (q->next != NULL)
		q->next->previous = q->previous;
	free(q);
}

void engine_end(struct runtime *r, struct actor *a)
{
	struct context c = engine_context(r, a);

	if (a->class->done != NULL)
		a->class->done(a, &c);
	for (struct letter *l; (l = mailbox_pop(&a->stash)) != NULL;) {
		engine_refuse(r, &l->envelope, -ENOENT, "it ended before it came to this");
		letter_free(l);
	}
	while (a->requests != NULL)
		engine_forget(r, a->requests);
	heap_remove(&r->timers, &a->timer);
	map_remove(&r->actors, &a->node);
	if (a->previous != NULL)
		a->previous->next = a->next;
	else
		r->first = a->next;
	if (a->next != NULL)
		a->next->previous = a->previous;
	else
		r->last = a->previous;
	r->counters.actors--;
	free(a);
}

static bool match_request(const struct map_node *node, const void *key)
{
	return container_of(node, struct request, node)->correlation == *(const uint64_t *)key;
}

struct request *engine_request(struct runtime *r, uint64_t correlation)
{
	struct map_node *node =
		map_find(&r->requests, map_hash_u64(correlation), match_request, &correlation);

	return node == NULL ? NULL : container_of(node, struct request, node);
}

bool engine_is_reply(uint16_t type)
{
	static const bool replies[MSG_TYPES] = {
		[MSG_PROPOSED] = true,    [MSG_DRIVEN] = true,       [MSG_PROBED] = true,
		[MSG_OPENED] = true,      [MSG_QUIET] = true,        [MSG_REAPED] = true,
		[MSG_POOL_ANSWER] = true, [MSG_STOPPED] = true,      [MSG_CACHED] = true,
		[MSG_REFUSED] = true,     [MSG_HALTED] = true,       [MSG_RENEWED] = true,
		[MSG_JUDGED] = true,      [MSG_NODE_ORDERED] = true, [MSG_RESTED] = true,
	};

	return type < MSG_TYPES && replies[type];
}

uint64_t engine_incarnation(const struct runtime *r)
{
	uint64_t known = state_cluster(r->options.state)->incarnation;

	return known != 0 ? known : r->options.incarnation;
}

void engine_effect(struct runtime *r, const struct effect *effect)
{
	r->counters.effects[effect->kind]++;
	r->options.effect(r->options.context, effect);
}

void engine_renew(struct runtime *r)
{
	struct actor *a = engine_find(r, ADDRESS_MEMBERSHIP, 0);

	if (a != NULL)
		engine_tell(r, a, MSG_TIMER, NULL, 0);
}

void engine_refuse(struct runtime *r, const struct envelope *e, int32_t code, const char *why)
{
	CLEANUP_BUF struct buf body = {0};

	r->counters.refused++;
	if (e->correlation == 0 || engine_is_reply(e->type))
		return;
	codec_encode(&body, message_body_codec[MSG_REFUSED], &(struct msg_refused){code, str_of(why)});
	must(!buf_failed(&body));
	runtime_post(r,
		     &(struct envelope){.to = e->from,
					.from = e->to,
					.type = MSG_REFUSED,
					.correlation = e->correlation,
					.incarnation = engine_incarnation(r),
					.body = buf_str(&body)},
		     r->now_ms);
}

void engine_tell(struct runtime *r, const struct actor *to, uint16_t type, const void *body,
		 uint64_t correlation)
{
	CLEANUP_BUF struct buf bytes = {0};

	if (!sm_knows(to->class->sm, type))
		return;
	if (message_body_codec[type] != NULL)
		codec_encode(&bytes, message_body_codec[type], body);
	must(!buf_failed(&bytes));
	struct letter *l = letter_new(&(struct envelope){.to = {to->class->kind, r->options.node, to->key},
							 .from = {ADDRESS_CONTROL, r->options.node, 0},
							 .type = type,
							 .correlation = correlation,
							 .incarnation = engine_incarnation(r),
							 .body = buf_str(&bytes)});

	must(l != NULL);
	mailbox_push(&r->queue, l);
}

static void handle(struct runtime *r, struct actor *a, struct letter *l)
{
	const struct codec_type *type = message_body_codec[l->envelope.type];
	CLEANUP_ARENA struct arena arena = {0};
	struct message m = {.envelope = &l->envelope};
	struct context c = engine_context(r, a);
	uint8_t before = a->state;
	char why[128];

	if (type != NULL) {
		void *body = arena_alloc(&arena, type->size);
		struct err err;

		if (body == NULL ||
		    codec_decode(l->envelope.body.p, l->envelope.body.n, type, &arena, body, &err) < 0) {
			engine_refuse(r, &l->envelope, -EBADMSG, body == NULL ? "no memory" : err.message);
			letter_free(l);
			return;
		}
		m.body = body;
	}
	switch (sm_step(a->class->sm, &a->state, a, &c, &m)) {
	case SM_REFUSE:
		snprintf(why, sizeof why, "%s (%s) does not take %s now", a->class->sm->name,
			 a->class->sm->states[a->state], message_type_name[l->envelope.type]);
		engine_refuse(r, &l->envelope, -EAGAIN, why);
		break;
	case SM_DEFER:
		if (a->stash.n < a->class->mailbox_max) {
			r->counters.deferred++;
			mailbox_push(&a->stash, l);
			return;
		}
		engine_refuse(r, &l->envelope, -ENOBUFS, "too many messages wait here");
		break;
	case SM_HOLE:
	case SM_ON:
	case SM_IGNORE:
	case SM_KINDS:
		break;
	}
	letter_free(l);
	if (a->state == a->class->sm->final) {
		engine_end(r, a);
	} else if (a->state != before) {
		for (struct letter *stashed = a->stash.first; stashed != NULL; stashed = stashed->next)
			stashed->deferred = true;
		mailbox_prepend(&r->queue, &a->stash);
	}
}

/* A reply goes to whoever waits for it, once; a late one is dropped. True: it may be handled. */
static bool take_reply(struct runtime *r, const struct actor *a, const struct letter *l)
{
	struct request *q;

	if (l->deferred || l->envelope.correlation == 0)
		return l->envelope.type != MSG_REFUSED;
	q = engine_request(r, l->envelope.correlation);
	if (q == NULL || q->owner != a)
		return false;
	engine_forget(r, q);
	return true;
}

void engine_deliver(struct runtime *r, struct letter *l)
{
	const struct envelope *e = &l->envelope;
	struct actor *a = engine_find(r, e->to.kind, e->to.key);

	r->counters.messages++;
	if (l->counted && a != NULL && a->queued > 0)
		a->queued--;
	if (engine_is_reply(e->type)) {
		if (a != NULL && take_reply(r, a, l) && sm_knows(a->class->sm, e->type)) {
			handle(r, a, l);
			return;
		}
	} else if (a == NULL) {
		engine_refuse(r, e, -ENOENT, "nobody of this address is here");
	} else if (!sm_knows(a->class->sm, e->type)) {
		engine_refuse(r, e, -EBADMSG, "it does not know this message");
	} else if (e->deadline_ms != 0 && e->deadline_ms < r->now_ms) {
		engine_refuse(r, e, -ETIMEDOUT, "its deadline passed before it was handled");
	} else {
		handle(r, a, l);
		return;
	}
	letter_free(l);
}
