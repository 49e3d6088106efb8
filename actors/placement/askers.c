#include "askers.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "placement.h"
#include "state/able.h"

#define ANSWER_TEXT_MAX 1000 /* below that of messages */

#define PROPOSE_MS 3000
#define RETRY_MS   50
#define DEAD_MS    1000 /* how often the owner of a dead sandbox is told */

struct waiting {
	struct waiting *next;
	struct asker asker;
	uint64_t asked_ms, due_ms;
};

struct group {
	struct map_node by_name, by_request;
	struct heap_node due;
	struct group *next, *previous;
	struct waiting *first, *last;
	uint64_t pool, request; /* request 0: nothing is proposed */
	uint64_t retry_ms;      /* not proposed again before; 0: any time */
	uint64_t gone;          /* a sandbox that an asker found dead */
	uint64_t told_ms;       /* when its owner was told */
	uint64_t asking_node;   /* of the first asker: a sandbox of that node is preferred */
	bool created;
	char no_room[320];     /* why nothing can be stored */
	bool was_full;         /* the pool had all of its sessions when this group was looked at */
	struct str identifier; /* behind the struct */
};

struct name {
	uint64_t pool;
	struct str identifier;
};

static uint64_t name_hash(const struct name *n)
{
	return str_hash(n->identifier) ^ map_hash_u64(n->pool);
}

static bool match_name(const struct map_node *node, const void *key)
{
	const struct group *g = container_of(node, struct group, by_name);
	const struct name *n = key;

	return g->pool == n->pool && str_eq(g->identifier, n->identifier);
}

static bool match_request(const struct map_node *node, const void *key)
{
	return container_of(node, struct group, by_request)->request == *(const uint64_t *)key;
}

static struct group *find(const struct askers *as, uint64_t pool, struct str identifier)
{
	struct name n = {pool, identifier};
	struct map_node *node = map_find(&as->groups, name_hash(&n), match_name, &n);

	return node == NULL ? NULL : container_of(node, struct group, by_name);
}

static struct group *group_new(struct askers *as, const struct msg_open *open, uint64_t asking_node)
{
	struct name n = {open->pool, open->identifier};
	struct group *g = calloc(1, sizeof *g + n.identifier.n);

	if (g == NULL || map_insert(&as->groups, &g->by_name, name_hash(&n)) < 0) {
		free(g);
		return NULL;
	}
	memcpy(g + 1, n.identifier.p, n.identifier.n);
	g->identifier = (struct str){(char *)(g + 1), n.identifier.n};
	g->pool = n.pool;
	g->asking_node = asking_node;
	g->previous = as->last;
	if (as->last != NULL)
		as->last->next = g;
	else
		as->first = g;
	as->last = g;
	return g;
}

static void set_request(struct askers *as, struct group *g, uint64_t request)
{
	if (g->request != 0)
		map_remove(&as->requests, &g->by_request);
	g->request = request;
	if (request != 0)
		must(map_insert(&as->requests, &g->by_request, map_hash_u64(request)) == 0);
}

static void group_free(struct askers *as, struct group *g)
{
	must(g->first == NULL);
	set_request(as, g, 0);
	map_remove(&as->groups, &g->by_name);
	heap_remove(&as->due, &g->due);
	if (g->previous != NULL)
		g->previous->next = g->next;
	else
		as->first = g->next;
	if (g->next != NULL)
		g->next->previous = g->previous;
	else
		as->last = g->previous;
	free(g);
}

static struct waiting *pop(struct askers *as, struct group *g)
{
	struct waiting *w = g->first;

	g->first = w->next;
	if (g->first == NULL)
		g->last = NULL;
	as->n--;
	return w;
}

/* The group's next moment: its earliest asker's end, or its next try. */
static void set_due(struct askers *as, struct group *g)
{
	uint64_t at_ms = g->retry_ms != 0 ? g->retry_ms : UINT64_MAX;

	for (const struct waiting *w = g->first; w != NULL; w = w->next)
		at_ms = w->due_ms < at_ms ? w->due_ms : at_ms;
	heap_set(&as->due, &g->due, at_ms);
}

/* Answers all and frees the group. allocation_ms is each asker's own; the first one made the session. */
static void answer_all(struct askers *as, struct context *c, struct group *g, struct msg_opened *body)
{
	/* The row may be seen live before its proposal's outcome comes; nobody else proposes for this identifier. */
	bool created = g->created || g->request != 0;

	while (g->first != NULL) {
		struct waiting *w = pop(as, g);

		body->created = created && body->code == OPEN_OK;
		body->allocation_ms = (uint32_t)(c->now_ms - w->asked_ms);
		context_answer(c, &w->asker, MSG_OPENED, body);
		created = false;
		free(w);
	}
	group_free(as, g);
}

static struct session_ref ref_of(const struct session_row *row)
{
	return (struct session_ref){.pool = row->pool,
				    .generation = row->generation,
				    .sandbox = row->sandbox,
				    .node = row->node,
				    .index = row->index,
				    .opened_ms = row->opened_ms};
}

static uint32_t sessions_of(const struct pool_counts *n)
{
	return n->waiting + n->live + n->closing;
}

/* Nothing of the pool came up yet, and nothing has failed either. */
static void why_unproven(const struct context *c, const struct pool_row *pool, const struct pool_counts *n,
			 char *text, size_t size)
{
	const struct revision_row *revision = state_revision(c->state, pool->uid, pool->active_revision);

	if (n->booting > 0 && revision != NULL)
		snprintf(text, size,
			 "the session pool has no sandbox yet: %u boot, and none has answered on port %u",
			 n->booting, revision->template.target_port);
	else
		snprintf(text, size,
			 "the session pool has no sandbox yet: no node%s%.*s that holds its image has room "
			 "for one",
			 revision != NULL && revision->template.node_labels.n > 0 ? " with the labels " : "",
			 STR_ARGS(revision != NULL ? revision->template.node_labels : STR_NONE));
}

/* No node can run what the pool's next sandbox would be. */
static bool nobody_runs(const struct context *c, const struct pool_row *pool, char text[ABLE_TEXT_MAX])
{
	uint64_t next = pool->active_revision != 0 ? pool->active_revision : pool->desired_revision;
	const struct revision_row *revision = state_revision(c->state, pool->uid, next);

	return revision != NULL && able_nodes(c->state, pool, &revision->template, text) != ABLE_SOME;
}

/* Why this group has no session, for people and for the status that they get. */
static void why_not(const struct context *c, const struct group *g, struct msg_opened *ret, char *text,
		    size_t size)
{
	const struct pool_row *pool = state_pool(c->state, g->pool);
	const struct session_row *row = state_session(c->state, g->pool, g->identifier);
	const struct operation_row *operation =
		pool == NULL ? NULL : state_operation(c->state, pool->operation);
	struct pool_counts n = state_pool_counts(c->state, g->pool);
	char unable[ABLE_TEXT_MAX];

	ret->retry_after_s = 1;
	if (g->no_room[0] != '\0') {
		ret->code = OPEN_CANNOT_START;
		ret->retry_after_s = 10;
		snprintf(text, size, "no session can be opened: %s", g->no_room);
	} else if (pool == NULL || pool->provisioning == PROVISIONING_DELETING) {
		ret->code = OPEN_UNKNOWN_POOL;
		snprintf(text, size, "the session pool does not exist");
	} else if (row != NULL && row->state == SESSION_LIVE && row->rest != REST_AWAKE) {
		ret->code = OPEN_RESTING;
		snprintf(text, size, "the session of this identifier is not awake yet");
	} else if (row != NULL && row->state != SESSION_WAITING) {
		ret->code = OPEN_CLOSING;
		snprintf(text, size, "the previous session of this identifier is still ending");
	} else if (n.ready == 0 && nobody_runs(c, pool, unable)) {
		ret->code = OPEN_CANNOT_START;
		ret->retry_after_s = 10;
		snprintf(text, size, "the session pool cannot start sandboxes: %s", unable);
	} else if (pool->active_revision == 0) {
		ret->code = OPEN_CANNOT_START;
		if (operation != NULL && operation->message.n > 0)
			snprintf(text, size, "the session pool cannot start sandboxes: %.*s",
				 STR_ARGS(operation->message));
		else
			snprintf(text, size, "the session pool is still being provisioned");
	} else if (pool->failure.n > 0 && n.ready == 0) {
		ret->code = OPEN_CANNOT_START;
		snprintf(text, size, "the session pool cannot start sandboxes: %.*s",
			 STR_ARGS(pool->failure));
	} else if (row == NULL && sessions_of(&n) >= pool->limits.max_sessions) {
		ret->code = OPEN_FULL;
		ret->retry_after_s = 10;
		snprintf(text, size, "the session pool has its maximum of %u sessions",
			 pool->limits.max_sessions);
	} else if (row == NULL && !g->created && !g->was_full) {
		ret->code = OPEN_UNAVAILABLE;
		snprintf(text, size, "the cluster did not answer in time");
	} else if (!g->was_full && n.ready + n.live + n.closing == 0) {
		ret->code = OPEN_CANNOT_START;
		ret->retry_after_s = 5;
		why_unproven(c, pool, &n, text, size);
	} else {
		ret->code = OPEN_FULL;
		ret->retry_after_s = 5;
		snprintf(text, size, "no sandbox of the session pool became ready in time");
	}
	ret->message = str_of(text);
}

static void answer_why_not(struct askers *as, struct context *c, struct group *g)
{
	struct msg_opened body = {0};
	char text[ANSWER_TEXT_MAX];

	why_not(c, g, &body, text, sizeof text);
	answer_all(as, c, g, &body);
}

/* A ready sandbox of the active revision: on the asking node, else on the node with the least reserved; of a late one last. */
static uint64_t preferred(const struct context *c, const struct group *g)
{
	const struct pool_row *pool = state_pool(c->state, g->pool);
	const struct sandbox_row *best = NULL;
	uint64_t best_reserved = 0;
	bool best_late = true;

	for (const struct sandbox_row *row = NULL;
	     (row = state_next_ready(c->state, g->pool, row)) != NULL;) {
		const struct node_row *node = state_node(c->state, row->node);

		if (node == NULL || node->state != NODE_UP || node->cordoned)
			continue;
		bool late = placement_late(c, node);

		if (row->node == g->asking_node && row->revision == pool->active_revision && !late)
			return row->id;
		if (best == NULL || (late == best_late ? node->memory_reserved < best_reserved : best_late)) {
			best = row;
			best_late = late;
			best_reserved = node->memory_reserved;
		}
	}
	return best == NULL ? 0 : best->id;
}

static uint32_t proposed_of_pool(const struct askers *as, uint64_t pool)
{
	uint32_t n = 0;

	for (const struct group *g = as->first; g != NULL; g = g->next)
		n += g->request != 0 && g->pool == pool;
	return n;
}

static void propose(struct askers *as, struct context *c, struct group *g)
{
	struct cmd_session_open body = {
		.pool = g->pool, .identifier = g->identifier, .preferred = preferred(c, g)};

	set_request(as, g, context_propose(c, COMMAND_SESSION_OPEN, &body, PROPOSE_MS));
	g->retry_ms = 0;
}

/* An asker found the sandbox dead: its owner ends the session, unserved. */
static void tell_dead(struct context *c, struct group *g, const struct session_row *row)
{
	if (row->state == SESSION_LIVE && c->now_ms >= g->told_ms + DEAD_MS) {
		context_send(c, (struct address){ADDRESS_SESSION, row->node, row->generation}, MSG_DEAD,
			     &(struct msg_session_event){row->pool, row->generation, row->sandbox,
							 row->identifier,
							 STR("its sandbox refuses connections")});
		g->told_ms = c->now_ms;
	}
	g->retry_ms = c->now_ms + DEAD_MS;
}

/* The session sleeps: the same proposal wakes it. One that is being saved or moved is waited for. */
static void wake(struct askers *as, struct context *c, struct group *g, const struct session_row *row)
{
	const struct sandbox_row *sandbox = state_sandbox(c->state, row->sandbox);

	if (sandbox == NULL || !sandbox->asleep || sandbox->target != 0 || g->request != 0)
		return;
	if (c->now_ms < g->retry_ms)
		return;
	propose(as, c, g);
}

/* Looks at the tables and does what is next for the group; may free it. */
static void advance(struct askers *as, struct context *c, struct group *g)
{
	const struct session_row *row = state_session(c->state, g->pool, g->identifier);
	const struct pool_row *pool = state_pool(c->state, g->pool);

	if (row != NULL && row->state == SESSION_LIVE && row->rest != REST_AWAKE) {
		wake(as, c, g, row);
		set_due(as, g);
		return;
	}
	if (row != NULL && row->state == SESSION_LIVE && (g->gone == 0 || row->sandbox != g->gone)) {
		answer_all(as, c, g, &(struct msg_opened){.code = OPEN_OK, .session = ref_of(row)});
		return;
	}
	if (pool == NULL || pool->provisioning == PROVISIONING_DELETING) {
		answer_why_not(as, c, g);
		return;
	}
	if (row != NULL && row->state == SESSION_LIVE) {
		tell_dead(c, g, row);
	} else if (row == NULL && g->request == 0 && c->now_ms >= g->retry_ms && pool->active_revision != 0) {
		struct pool_counts n = state_pool_counts(c->state, g->pool);

		uint32_t taken = sessions_of(&n), max = pool->limits.max_sessions;

		g->was_full = g->was_full || taken >= max;
		/* Proposals of all pools first: that needs no walk. */
		if (taken + as->requests.n < max || taken + proposed_of_pool(as, g->pool) < max)
			propose(as, c, g);
	} else if (row == NULL && pool->active_revision == 0 && pool->provisioning == PROVISIONING_FAILED) {
		answer_why_not(as, c, g);
		return;
	}
	set_due(as, g);
}

static uint64_t due_of(const struct context *c, const struct message *m)
{
	uint64_t due_ms = c->now_ms + state_cluster(c->state)->settings.queue_ms;

	if (m->envelope->deadline_ms != 0 && m->envelope->deadline_ms < due_ms)
		due_ms = m->envelope->deadline_ms;
	return due_ms > c->now_ms ? due_ms : c->now_ms + 1;
}

/* False: there is no memory, or there are too many. */
static bool keep(struct askers *as, struct context *c, struct group *g, const struct message *m)
{
	struct waiting *w = as->n < PLACEMENT_ASKERS_MAX ? calloc(1, sizeof *w) : NULL;

	if (w == NULL)
		return false;
	*w = (struct waiting){.asker = context_asker(m), .asked_ms = c->now_ms, .due_ms = due_of(c, m)};
	if (g->last != NULL)
		g->last->next = w;
	else
		g->first = w;
	g->last = w;
	as->n++;
	return true;
}

/* The same question again: its sender does not know whether the first copy came. */
static bool asked_already(const struct group *g, const struct message *m)
{
	const struct envelope *e = m->envelope;

	for (const struct waiting *w = g == NULL ? NULL : g->first; w != NULL; w = w->next) {
		const struct address *from = &w->asker.from;

		if (e->correlation != 0 && w->asker.correlation == e->correlation &&
		    from->node == e->from.node && from->kind == e->from.kind && from->key == e->from.key)
			return true;
	}
	return false;
}

static void answer_now(struct context *c, const struct message *m, uint8_t code, const char *why)
{
	context_reply(c, m, MSG_OPENED, &(struct msg_opened){.code = code, .message = str_of(why)});
}

void askers_open(struct askers *as, struct context *c, const struct message *m)
{
	const struct msg_open *open = m->body;
	const struct pool_row *pool = state_pool(c->state, open->pool);
	const struct session_row *row = state_session(c->state, open->pool, open->identifier);
	struct group *g = find(as, open->pool, open->identifier);

	if (pool == NULL || pool->provisioning == PROVISIONING_DELETING) {
		answer_now(c, m, OPEN_UNKNOWN_POOL, "the session pool does not exist");
		return;
	}
	if (open->identifier.n < IDENTIFIER_MIN || open->identifier.n > IDENTIFIER_MAX) {
		context_reply(c, m, MSG_REFUSED,
			      &(struct msg_refused){-EINVAL, STR("identifier: 4 to 128 bytes are allowed")});
		return;
	}
	if (row != NULL && row->state == SESSION_LIVE && row->rest == REST_AWAKE &&
	    (open->gone == 0 || row->sandbox != open->gone)) {
		context_reply(c, m, MSG_OPENED,
			      &(struct msg_opened){.code = OPEN_OK, .session = ref_of(row)});
		return;
	}
	if (open->require_existing && (row == NULL || row->state == SESSION_CLOSING) && g == NULL) {
		answer_now(c, m, OPEN_NO_SESSION, "there is no session with this identifier");
		return;
	}
	if (asked_already(g, m))
		return;
	if (g == NULL)
		g = group_new(as, open, m->envelope->from.node);
	if (g == NULL || !keep(as, c, g, m)) {
		answer_now(c, m, OPEN_UNAVAILABLE, "too many requests wait for sessions");
		if (g != NULL && g->first == NULL)
			group_free(as, g);
		return;
	}
	if (open->gone != 0)
		g->gone = open->gone;
	advance(as, c, g);
}

void askers_session_changed(struct askers *as, struct context *c, const struct session_row *row)
{
	struct group *g = row == NULL ? NULL : find(as, row->pool, row->identifier);

	if (g != NULL)
		advance(as, c, g);
	if (row == NULL)
		as->again = true;
}

bool askers_proposed(struct askers *as, struct context *c, uint64_t request, const struct msg_proposed *body)
{
	struct map_node *node = map_find(&as->requests, map_hash_u64(request), match_request, &request);
	struct group *g = node == NULL ? NULL : container_of(node, struct group, by_request);

	if (g == NULL)
		return false;
	set_request(as, g, 0);
	if (body != NULL && body->code == 0)
		g->created = body->created;
	else
		g->retry_ms = c->now_ms + RETRY_MS;
	g->was_full = g->was_full || (body != NULL && body->code == -EUSERS);
	if (body != NULL && body->code == -ENOSPC) {
		snprintf(g->no_room, sizeof g->no_room, "%.*s", STR_ARGS(body->message));
		answer_why_not(as, c, g);
		return true;
	}
	advance(as, c, g);
	return true;
}

/* Answers those whose time is over; frees the group when nobody waits any more. False: it is freed. */
static bool expire(struct askers *as, struct context *c, struct group *g)
{
	struct waiting *left = NULL, **end = &left;
	struct msg_opened body = {0};
	char text[ANSWER_TEXT_MAX];

	why_not(c, g, &body, text, sizeof text);
	while (g->first != NULL) {
		struct waiting *w = pop(as, g);

		if (w->due_ms > c->now_ms) {
			w->next = NULL;
			*end = w;
			end = &w->next;
			continue;
		}
		body.allocation_ms = (uint32_t)(c->now_ms - w->asked_ms);
		context_answer(c, &w->asker, MSG_OPENED, &body);
		free(w);
	}
	g->first = left;
	for (struct waiting *w = left; w != NULL; w = w->next) {
		g->last = w;
		as->n++;
	}
	if (g->first == NULL)
		group_free(as, g);
	return left != NULL;
}

uint64_t askers_tick(struct askers *as, struct context *c)
{
	for (struct heap_node *first; (first = heap_first(&as->due)) != NULL && first->at_ms <= c->now_ms;) {
		struct group *g = container_of(first, struct group, due);

		if (!expire(as, c, g))
			continue;
		if (g->retry_ms <= c->now_ms)
			g->retry_ms = 0;
		advance(as, c, g);
	}
	if (as->again) {
		as->again = false;
		for (struct group *g = as->first, *next; g != NULL; g = next) {
			next = g->next;
			advance(as, c, g);
		}
	}
	return heap_first(&as->due) == NULL ? UINT64_MAX : heap_first(&as->due)->at_ms;
}

void askers_clear(struct askers *as, struct context *c)
{
	while (as->first != NULL) {
		while (as->first->first != NULL) {
			struct waiting *w = pop(as, as->first);

			context_refuse(c, &w->asker, -EAGAIN, "this node leads no more");
			free(w);
		}
		group_free(as, as->first);
	}
	as->again = false;
}

void askers_done(struct askers *as)
{
	map_done(&as->groups);
	map_done(&as->requests);
	heap_done(&as->due);
}
