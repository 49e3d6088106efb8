#include "actor.h"

#include <errno.h>
#include <stdlib.h>

#include "core/must.h"
#include "engine.h"
#include "wire/sandboxd.h"

static struct address self_address(const struct context *c)
{
	return (struct address){c->self->class->kind, c->node, c->self->key};
}

static void post(struct context *c, struct address to, uint16_t type, const void *body, uint64_t correlation,
		 uint64_t deadline_ms)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(ENVELOPE_BODY_MAX);

	if (message_body_codec[type] != NULL) {
		must(body != NULL);
		codec_encode(&bytes, message_body_codec[type], body);
	}
	must(!buf_failed(&bytes));
	runtime_post(c->runtime,
		     &(struct envelope){.to = to,
					.from = self_address(c),
					.type = type,
					.correlation = correlation,
					.deadline_ms = deadline_ms,
					.incarnation = engine_incarnation(c->runtime),
					.body = buf_str(&bytes)},
		     c->now_ms);
}

/* Boot time in the upper bits: a reply to an earlier life of this program matches nothing. */
static uint64_t new_request(struct context *c, uint64_t timeout_ms)
{
	struct runtime *r = c->runtime;
	struct request *q = calloc(1, sizeof *q);

	must(q != NULL);
	if (r->correlation == 0)
		r->correlation = c->now_ms << 20;
	q->correlation = ++r->correlation;
	q->owner = c->self;
	q->next = c->self->requests;
	if (q->next != NULL)
		q->next->previous = q;
	c->self->requests = q;
	must(map_insert(&r->requests, &q->node, map_hash_u64(q->correlation)) == 0);
	heap_set(&r->deadlines, &q->deadline, c->now_ms + timeout_ms);
	return q->correlation;
}

void context_send(struct context *c, struct address to, uint16_t type, const void *body)
{
	post(c, to, type, body, 0, 0);
}

uint64_t context_request(struct context *c, struct address to, uint16_t type, const void *body,
			 uint64_t timeout_ms)
{
	uint64_t correlation = new_request(c, timeout_ms);

	post(c, to, type, body, correlation, c->now_ms + timeout_ms);
	return correlation;
}

uint64_t context_propose(struct context *c, uint8_t type, const void *body, uint64_t timeout_ms)
{
	uint64_t correlation = new_request(c, timeout_ms);

	engine_effect(c->runtime, &(struct effect){.kind = EFFECT_PROPOSE,
						   .from = self_address(c),
						   .type = type,
						   .correlation = correlation,
						   .body = body,
						   .deadline_ms = c->now_ms + timeout_ms});
	return correlation;
}

uint64_t context_drive(struct context *c, uint8_t type, const void *body, uint64_t pool, uint64_t revision,
		       uint64_t timeout_ms)
{
	uint64_t correlation = new_request(c, timeout_ms);

	engine_effect(c->runtime, &(struct effect){.kind = EFFECT_DRIVE,
						   .from = self_address(c),
						   .type = type,
						   .correlation = correlation,
						   .body = body,
						   .pool = pool,
						   .revision = revision,
						   .deadline_ms = c->now_ms + timeout_ms});
	return correlation;
}

uint64_t context_probe(struct context *c, uint64_t sandbox, const struct probe *probe, uint16_t port,
		       uint64_t timeout_ms)
{
	/* The probe's own time-out is the executor's; ours only catches an executor that never answers. */
	uint64_t correlation = new_request(c, timeout_ms + 1000);

	engine_effect(c->runtime, &(struct effect){.kind = EFFECT_PROBE,
						   .from = self_address(c),
						   .correlation = correlation,
						   .sandbox = sandbox,
						   .probe = probe,
						   .target_port = port,
						   .deadline_ms = c->now_ms + timeout_ms});
	return correlation;
}

uint64_t context_member(struct context *c, uint64_t node, uint8_t role, uint64_t timeout_ms)
{
	uint64_t correlation = new_request(c, timeout_ms);

	engine_effect(c->runtime, &(struct effect){.kind = EFFECT_MEMBER,
						   .from = self_address(c),
						   .correlation = correlation,
						   .node = node,
						   .role = role,
						   .deadline_ms = c->now_ms + timeout_ms});
	return correlation;
}

uint64_t context_fetch(struct context *c, uint64_t sandbox, uint64_t save, uint64_t from, uint64_t timeout_ms)
{
	uint64_t correlation = new_request(c, timeout_ms);

	engine_effect(c->runtime, &(struct effect){.kind = EFFECT_FETCH,
						   .from = self_address(c),
						   .correlation = correlation,
						   .sandbox = sandbox,
						   .save = save,
						   .node = from,
						   .deadline_ms = c->now_ms + timeout_ms});
	return correlation;
}

void context_yield(struct context *c, uint64_t node)
{
	engine_effect(c->runtime,
		      &(struct effect){.kind = EFFECT_YIELD, .from = self_address(c), .node = node});
}

void context_timer(struct context *c, uint64_t at_ms)
{
	if (at_ms == 0)
		heap_remove(&c->runtime->timers, &c->self->timer);
	else
		heap_set(&c->runtime->timers, &c->self->timer, at_ms > c->now_ms ? at_ms : c->now_ms + 1);
}

void context_timer_by(struct context *c, uint64_t at_ms)
{
	if (c->self->timer.place == 0 || c->self->timer.at_ms > at_ms)
		context_timer(c, at_ms);
}

struct asker context_asker(const struct message *m)
{
	return (struct asker){m->envelope->from, m->envelope->correlation, m->envelope->deadline_ms};
}

void context_answer(struct context *c, struct asker *asker, uint16_t type, const void *body)
{
	if (asker->correlation != 0)
		post(c, asker->from, type, body, asker->correlation, 0);
	*asker = (struct asker){0};
}

void context_refuse(struct context *c, struct asker *asker, int32_t code, const char *why)
{
	context_answer(c, asker, MSG_REFUSED, &(struct msg_refused){code, str_of(why)});
}

void context_reply(struct context *c, const struct message *m, uint16_t type, const void *body)
{
	struct asker asker = context_asker(m);

	context_answer(c, &asker, type, body);
}

void context_lease(struct context *c, uint64_t until_boot_ms)
{
	c->runtime->lease_ms = until_boot_ms;
}

bool context_knows_host(const struct context *c)
{
	return c->runtime->listed && !c->runtime->unjudged;
}

void context_judged(struct context *c)
{
	c->runtime->unjudged = false;
	engine_renew(c->runtime);
}

uint64_t context_epoch(const struct context *c)
{
	return c->runtime->epoch;
}

struct disk_room context_disk(const struct context *c)
{
	return c->runtime->disk;
}
