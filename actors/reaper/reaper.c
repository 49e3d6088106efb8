/* One timer over the live sessions of this node.
 *
 * Happy path: a session appears in the tables, is due after its pool's cooldown or at its maximal age, whichever comes first; it is
 * asked to end; if it was active meanwhile its answer says when, and it is due a cooldown after that.
 * Failure modes: a session that refuses or does not answer is asked again 5 s later.
 * Invariants: idleness counts from when this actor first saw the session, so from zero after a restart; the maximal age
 * counts from the session's opening in cluster time. */
#include "reaper.h"

#include <stdlib.h>

#include "core/must.h"

#define AGAIN_MS  5000
#define REAP_MS   30000
#define ASKED_MAX 256 /* sessions that are asked at once */

struct watched {
	struct heap_node due;
	struct map_node by_generation, by_request;
	uint64_t generation, request; /* request 0: not asked */
	uint64_t active_ms;           /* boot time of its last known activity */
};

struct reaper {
	struct actor actor;
	struct heap due;
	struct map generations, requests;
	uint32_t n_asked;
};

static bool match_generation(const struct map_node *node, const void *key)
{
	return container_of(node, struct watched, by_generation)->generation == *(const uint64_t *)key;
}

static bool match_request(const struct map_node *node, const void *key)
{
	return container_of(node, struct watched, by_request)->request == *(const uint64_t *)key;
}

static struct watched *find(const struct reaper *self, uint64_t generation)
{
	struct map_node *node =
		map_find(&self->generations, map_hash_u64(generation), match_generation, &generation);

	return node == NULL ? NULL : container_of(node, struct watched, by_generation);
}

/* Boot time at which the session must be asked, and why. UINT64_MAX: never. */
static uint64_t due_ms(const struct context *c, const struct session_row *row, uint64_t active_ms,
		       uint8_t *ret_reason)
{
	const struct pool_row *pool = state_pool(c->state, row->pool);
	uint64_t cluster_ms = state_cluster(c->state)->time_ms, at_ms = UINT64_MAX;

	if (pool == NULL)
		return at_ms;
	*ret_reason = REAP_IDLE;
	if (pool->limits.lifecycle == LIFECYCLE_TIMED && row->rest == REST_AWAKE)
		at_ms = active_ms + pool->limits.cooldown_ms;
	if (pool->limits.max_alive_ms != 0) {
		uint64_t age_ms = cluster_ms > row->opened_ms ? cluster_ms - row->opened_ms : 0;
		uint64_t left_ms =
			pool->limits.max_alive_ms > age_ms ? pool->limits.max_alive_ms - age_ms : 0;

		if (c->now_ms + left_ms < at_ms || left_ms == 0) {
			at_ms = c->now_ms + left_ms;
			*ret_reason = REAP_MAX_ALIVE;
		}
	}
	return at_ms;
}

static void set_timer(struct reaper *self, struct context *c)
{
	struct heap_node *first = self->n_asked < ASKED_MAX ? heap_first(&self->due) : NULL;

	context_timer(c, first == NULL ? 0 : first->at_ms);
}

static void unask(struct reaper *self, struct watched *w)
{
	if (w->request == 0)
		return;
	map_remove(&self->requests, &w->by_request);
	w->request = 0;
	self->n_asked--;
}

static void forget(struct reaper *self, struct watched *w)
{
	unask(self, w);
	heap_remove(&self->due, &w->due);
	map_remove(&self->generations, &w->by_generation);
	free(w);
}

static void schedule(struct reaper *self, struct context *c, struct watched *w)
{
	const struct session_row *row = state_session_by_generation(c->state, w->generation);
	uint8_t reason;
	uint64_t at_ms = row == NULL ? UINT64_MAX : due_ms(c, row, w->active_ms, &reason);

	if (w->request != 0 || at_ms == UINT64_MAX)
		heap_remove(&self->due, &w->due);
	else
		heap_set(&self->due, &w->due, at_ms);
}

static void ask(struct reaper *self, struct context *c, struct watched *w)
{
	const struct session_row *row = state_session_by_generation(c->state, w->generation);
	struct msg_reap body = {.reason = REAP_IDLE};

	heap_remove(&self->due, &w->due);
	if (row == NULL || due_ms(c, row, w->active_ms, &body.reason) > c->now_ms) {
		schedule(self, c, w);
		return;
	}
	w->request = context_request(c, (struct address){ADDRESS_SESSION, c->node, w->generation}, MSG_REAP,
				     &body, REAP_MS);
	must(map_insert(&self->requests, &w->by_request, map_hash_u64(w->request)) == 0);
	self->n_asked++;
}

static uint8_t due(struct actor *a, struct context *c, const struct message *m)
{
	struct reaper *self = (struct reaper *)a;

	(void)m;
	for (struct heap_node *first;
	     self->n_asked < ASKED_MAX && (first = heap_first(&self->due)) != NULL;) {
		if (first->at_ms > c->now_ms)
			break;
		ask(self, c, container_of(first, struct watched, due));
	}
	set_timer(self, c);
	return REAPER_WATCHING;
}

static void session_changed(struct reaper *self, struct context *c, uint64_t generation)
{
	const struct session_row *row = state_session_by_generation(c->state, generation);
	struct watched *w = find(self, generation);
	bool live = row != NULL && row->node == c->node && row->state == SESSION_LIVE;

	if (!live && w != NULL) {
		forget(self, w);
	} else if (live && w == NULL) {
		w = calloc(1, sizeof *w);
		must(w != NULL);
		w->generation = generation;
		w->active_ms = c->now_ms;
		must(map_insert(&self->generations, &w->by_generation, map_hash_u64(generation)) == 0);
		schedule(self, c, w);
	} else if (live && row->rest != REST_AWAKE) {
		w->active_ms = c->now_ms; /* it begins to idle when it is awake */
		schedule(self, c, w);
	} else if (live) {
		schedule(self, c, w);
	}
}

static uint8_t changed(struct actor *a, struct context *c, const struct message *m)
{
	struct reaper *self = (struct reaper *)a;
	const struct msg_changed *body = m->body;

	if (body->table == TABLE_SESSIONS) {
		session_changed(self, c, body->key);
	} else {
		for (const struct session_row *row = NULL;
		     (row = state_next_pool_session(c->state, body->key, row)) != NULL;) {
			struct watched *w = find(self, row->generation);

			if (w != NULL)
				schedule(self, c, w);
		}
	}
	set_timer(self, c);
	return REAPER_WATCHING;
}

static struct watched *answered(struct reaper *self, const struct message *m)
{
	uint64_t request = m->envelope->correlation;
	struct map_node *node = map_find(&self->requests, map_hash_u64(request), match_request, &request);
	struct watched *w = node == NULL ? NULL : container_of(node, struct watched, by_request);

	if (w != NULL)
		unask(self, w);
	return w;
}

static uint8_t reaped(struct actor *a, struct context *c, const struct message *m)
{
	struct reaper *self = (struct reaper *)a;
	const struct msg_reaped *body = m->body;
	struct watched *w = answered(self, m);

	if (w != NULL && !body->closed) {
		if (body->last_activity_boot_ms > w->active_ms)
			w->active_ms = body->last_activity_boot_ms;
		schedule(self, c, w);
		/* Busy since long: not again at once. */
		if (w->due.place != 0 && w->due.at_ms < c->now_ms + AGAIN_MS / 5)
			heap_set(&self->due, &w->due, c->now_ms + AGAIN_MS / 5);
	}
	set_timer(self, c);
	return REAPER_WATCHING;
}

static uint8_t refused(struct actor *a, struct context *c, const struct message *m)
{
	struct reaper *self = (struct reaper *)a;
	struct watched *w = answered(self, m);

	if (w != NULL)
		heap_set(&self->due, &w->due, c->now_ms + AGAIN_MS);
	set_timer(self, c);
	return REAPER_WATCHING;
}

#define T(s) SM_TO(REAPER_##s)
static const struct sm_cell cells[REAPER_STATES][MSG_TYPES] = {
	[REAPER_WATCHING] =
		{
			[MSG_TIMER] = ON(due, T(WATCHING)),
			[MSG_CHANGED] = ON(changed, T(WATCHING)),
			[MSG_REAPED] = ON(reaped, T(WATCHING)),
			[MSG_REFUSED] = ON(refused, T(WATCHING)),
		},
};
#undef T

static const uint8_t messages[] = {MSG_TIMER, MSG_CHANGED, MSG_REAPED, MSG_REFUSED};
static const char *const states[] = {"watching"};

const struct sm_def reaper_sm = {
	.name = "reaper",
	.states = states,
	.n_states = REAPER_STATES,
	.final = REAPER_STATES,
	.messages = messages,
	.n_messages = sizeof messages,
	.cells = cells,
};

static void done(struct actor *a, struct context *c)
{
	struct reaper *self = (struct reaper *)a;

	(void)c;
	for (struct map_node *node; (node = map_next(&self->generations, NULL)) != NULL;)
		forget(self, container_of(node, struct watched, by_generation));
	map_done(&self->generations);
	map_done(&self->requests);
	heap_done(&self->due);
}

const struct actor_class reaper_class = {
	.sm = &reaper_sm,
	.kind = ADDRESS_REAPER,
	.size = sizeof(struct reaper),
	.mailbox_max = 16,
	.singleton = true,
	.watches = WATCH(TABLE_SESSIONS) | WATCH(TABLE_POOLS),
	.done = done,
};
