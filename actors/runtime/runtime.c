#include "runtime.h"

#include <errno.h>
#include <stdlib.h>

#include "core/must.h"
#include "engine.h"

struct runtime *runtime_new(const struct runtime_options *options)
{
	struct runtime *r = calloc(1, sizeof *r);

	if (r == NULL)
		return NULL;
	must(options->effect != NULL && options->state != NULL && options->node != 0);
	r->options = *options;
	for (uint32_t i = 0; i < options->n_classes; i++) {
		const struct actor_class *class = options->classes[i];

		must(class->kind < CLASSES_MAX && r->classes[class->kind] == NULL);
		r->classes[class->kind] = class;
	}
	for (uint32_t i = 0; i < CLASSES_MAX; i++) {
		if (r->classes[i] != NULL && r->classes[i]->singleton)
			must(engine_make(r, r->classes[i], 0) != NULL);
	}
	return r;
}

void runtime_free(struct runtime *r)
{
	if (r == NULL)
		return;
	while (r->first != NULL)
		engine_end(r, r->first);
	mailbox_done(&r->queue);
	map_done(&r->actors);
	map_done(&r->requests);
	heap_done(&r->timers);
	heap_done(&r->deadlines);
	free(r);
}

static bool leaves(const struct runtime *r, const struct envelope *e)
{
	if (e->to.kind == ADDRESS_GATEWAY || e->to.kind == ADDRESS_API || e->to.kind == ADDRESS_CONTROL)
		return true;
	if (e->to.node == r->options.node)
		return false;
	/* For the leader: what came from another node was sent to us as the leader; if we are not, the actor says so. */
	if (e->to.node == NODE_LEADER)
		return !r->leading && e->from.node == r->options.node;
	return true;
}

void runtime_post(struct runtime *r, const struct envelope *e, uint64_t now_ms)
{
	struct actor *a;
	struct letter *l;
	bool counted = !engine_is_reply(e->type) && e->correlation != 0;

	r->now_ms = now_ms;
	if (leaves(r, e)) {
		engine_effect(r, &(struct effect){.kind = EFFECT_SEND,
						  .from = e->from,
						  .correlation = e->correlation,
						  .deadline_ms = e->deadline_ms,
						  .envelope = e});
		return;
	}
	/* A node that has not applied CLUSTER_INIT yet sends and knows 0. */
	if (e->type == MSG_NONE || e->type >= MSG_TYPES ||
	    (e->incarnation != engine_incarnation(r) && e->incarnation != 0 && engine_incarnation(r) != 0)) {
		engine_refuse(r, e, -ESTALE, "of another cluster incarnation, or of no known type");
		return;
	}
	a = engine_find(r, e->to.kind, e->to.key);
	if (counted && a != NULL && a->queued + a->stash.n >= a->class->mailbox_max) {
		engine_refuse(r, e, -ENOBUFS, "its mailbox is full");
		return;
	}
	l = letter_new(e);
	if (l == NULL) {
		engine_refuse(r, e, -ENOMEM, "no memory");
		return;
	}
	l->counted = counted && a != NULL;
	if (l->counted && ++a->queued > r->counters.mailbox_max)
		r->counters.mailbox_max = a->queued;
	mailbox_push(&r->queue, l);
}

/* Makes the actor that the row needs, and tells whoever stands for the row or watches its table. */
static void tell_change(struct runtime *r, const struct change *change, uint64_t index)
{
	struct msg_changed body = {.table = change->table,
				   .key = change->key,
				   .index = index,
				   .pool = change->pool,
				   .removed = change->removed};

	for (uint32_t i = 0; i < CLASSES_MAX; i++) {
		const struct actor_class *class = r->classes[i];
		struct context c = engine_context(r, NULL);
		struct actor *a = NULL;

		if (class == NULL)
			continue;
		if (class->row && class->table == change->table) {
			a = engine_find(r, class->kind, change->key);
			if (a == NULL && !change->removed && class->wanted(&c, change->key))
				a = engine_make(r, class, change->key);
		} else if ((class->watches & WATCH(change->table)) != 0) {
			a = engine_find(r, class->kind, class->row ? change->pool : 0);
		}
		if (a != NULL)
			engine_tell(r, a, MSG_CHANGED, &body, 0);
	}
}

void runtime_applied(struct runtime *r, const struct applied *applied, uint64_t now_ms)
{
	r->now_ms = now_ms;
	for (uint32_t i = 0; i < applied->n_changes; i++)
		tell_change(r, &applied->changes[i], state_index(r->options.state));
}

static void rescan_pool(struct runtime *r, uint64_t pool, uint64_t index)
{
	const struct state *s = r->options.state;

	tell_change(r, &(struct change){.table = TABLE_POOLS, .key = pool, .pool = pool}, index);
	for (const struct session_row *row = NULL; (row = state_next_pool_session(s, pool, row)) != NULL;)
		tell_change(r,
			    &(struct change){.table = TABLE_SESSIONS, .key = row->generation, .pool = pool},
			    index);
}

void runtime_rescan(struct runtime *r, uint64_t now_ms)
{
	const struct state *s = r->options.state;
	uint64_t index = state_index(s);

	r->now_ms = now_ms;
	for (const struct node_row *row = NULL; (row = state_next_node(s, row)) != NULL;)
		tell_change(r, &(struct change){.table = TABLE_NODES, .key = row->id}, index);
	for (const struct sandbox_row *row = NULL; (row = state_next_sandbox(s, row)) != NULL;)
		tell_change(r, &(struct change){.table = TABLE_SANDBOXES, .key = row->id, .pool = row->pool},
			    index);
	for (const struct pool_row *row = NULL; (row = state_next_pool(s, row)) != NULL;)
		rescan_pool(r, row->uid, index);
	for (struct actor *a = r->first; a != NULL; a = a->next) {
		struct context c = engine_context(r, NULL);

		if (a->class->row && a->key != 0 && !a->class->wanted(&c, a->key))
			engine_tell(r, a, MSG_CHANGED,
				    &(struct msg_changed){a->class->table, a->key, index, 0, true}, 0);
	}
}

void runtime_leading(struct runtime *r, bool leading, uint64_t term, uint64_t now_ms)
{
	struct msg_leading body = {leading, term};

	r->now_ms = now_ms;
	r->leading = leading;
	r->term = term;
	for (struct actor *a = r->first; a != NULL; a = a->next) {
		if (a->class->leads)
			engine_tell(r, a, MSG_LEADING, &body, 0);
	}
}

void runtime_joined(struct runtime *r, uint64_t epoch, uint64_t now_ms)
{
	r->now_ms = now_ms;
	r->epoch = epoch;
	r->listed = false; /* by tables that may have been older; it is listed anew */
	engine_renew(r);
}

uint64_t runtime_lease_ms(const struct runtime *r)
{
	return r->lease_ms;
}

void runtime_disk(struct runtime *r, const struct disk_room *disk)
{
	r->disk = *disk;
}

void runtime_away(struct runtime *r, uint64_t node, bool away)
{
	for (uint32_t i = 0; i < r->n_away; i++) {
		if (r->away[i] == node)
			r->away[i--] = r->away[--r->n_away];
	}
	if (away && r->n_away < AWAY_MAX)
		r->away[r->n_away++] = node;
}

bool runtime_is_away(const struct runtime *r, uint64_t node)
{
	for (uint32_t i = 0; i < r->n_away; i++) {
		if (r->away[i] == node)
			return true;
	}
	return false;
}

static void tell_orphans(struct runtime *r, const struct sandboxd_sandbox *list, uint32_t n)
{
	uint64_t ids[ORPHANS_MAX];
	struct msg_orphans body = {.node = r->options.node, .sandboxes = ids};
	struct actor *a = engine_find(r, ADDRESS_ORPHANS, 0);
	bool frozen = false;

	for (uint32_t i = 0; i < n && body.n_sandboxes < ORPHANS_MAX; i++) {
		const struct sandbox_row *row = state_sandbox(r->options.state, list[i].sandbox);

		if (row != NULL && (row->node == r->options.node || row->target == r->options.node))
			continue;
		ids[body.n_sandboxes++] = list[i].sandbox;
		frozen = frozen || list[i].frozen;
	}
	if (a == NULL || body.n_sandboxes == 0)
		return;
	r->unjudged = r->unjudged || frozen;
	engine_tell(r, a, MSG_ORPHANS, &body, 0);
}

void runtime_adopted(struct runtime *r, const struct sandboxd_sandbox *list, uint32_t n, uint64_t now_ms)
{
	struct actor *images = engine_find(r, ADDRESS_IMAGES, 0);

	r->now_ms = now_ms;
	r->listed = true;
	for (struct actor *a = r->first; a != NULL; a = a->next) {
		struct msg_adopted body = {.sandbox = a->key};

		if (a->class->kind != ADDRESS_SANDBOX)
			continue;
		for (uint32_t i = 0; i < n; i++) {
			if (list[i].sandbox == a->key) {
				body.running = list[i].running;
				body.pid = list[i].pid;
				body.egress = list[i].egress;
				body.parked = list[i].parked;
				body.save = list[i].save;
			}
		}
		engine_tell(r, a, MSG_ADOPTED, &body, 0);
	}
	if (images != NULL)
		engine_tell(r, images, MSG_ADOPTED, &(struct msg_adopted){0}, 0);
	tell_orphans(r, list, n);
	if (!r->unjudged)
		engine_renew(r);
}

/* One due timer or deadline becomes a letter. */
static bool fire(struct runtime *r)
{
	struct heap_node *timer = heap_first(&r->timers), *deadline = heap_first(&r->deadlines);

	if (timer != NULL && timer->at_ms <= r->now_ms) {
		heap_remove(&r->timers, timer);
		engine_tell(r, container_of(timer, struct actor, timer), MSG_TIMER, NULL, 0);
		return true;
	}
	if (deadline != NULL && deadline->at_ms <= r->now_ms) {
		struct request *q = container_of(deadline, struct request, deadline);

		/* Out of the heap, and still waited for: a reply that is queued already comes first. */
		heap_remove(&r->deadlines, deadline);
		r->counters.timeouts++;
		engine_tell(r, q->owner, MSG_REFUSED,
			    &(struct msg_refused){-ETIMEDOUT, STR("no reply before the deadline")},
			    q->correlation);
		return true;
	}
	return false;
}

void runtime_run(struct runtime *r, uint64_t now_ms)
{
	must(!r->running);
	r->running = true;
	r->now_ms = now_ms;
	do {
		for (struct letter *l; (l = mailbox_pop(&r->queue)) != NULL;)
			engine_deliver(r, l);
	} while (fire(r));
	r->running = false;
}

uint64_t runtime_next_ms(const struct runtime *r)
{
	struct heap_node *timer = heap_first(&r->timers), *deadline = heap_first(&r->deadlines);
	uint64_t at_ms = UINT64_MAX;

	if (r->queue.n > 0)
		return 0;
	if (timer != NULL)
		at_ms = timer->at_ms;
	if (deadline != NULL && deadline->at_ms < at_ms)
		at_ms = deadline->at_ms;
	return at_ms;
}

struct runtime_counters runtime_counters(const struct runtime *r)
{
	return r->counters;
}
