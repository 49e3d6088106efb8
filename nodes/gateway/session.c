/* What this loop knows of sessions: routes by (pool, identifier), and by generation those whose sandbox is here, with the
 * account that decides whether one is idle.
 *
 * Happy path: a route is known, its session is open: the request is counted in and goes on. A miss asks placement once for all
 * who wait. A session that is being judged idle holds its requests until it is open again or ended.
 * Failure modes: no answer in time -> 503; ended -> ask again; a sandbox that takes no connection -> tell its session, ask
 * again naming it, three times at most. Invariant: in_flight is the number of clients with `admitted` set. */
#include "gateway/inside.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/must.h"

#define SESSIONS_MAX 1000000u /* above, routes to other nodes are forgotten */
#define LOOKED_AT    4        /* routes to other nodes, with each new one: more go than come */
#define ANSWER_MS    2000     /* for an answer to come once its deadline made it */

/* --- lookups --- */

uint64_t session_key_hash(uint64_t pool, struct str identifier)
{
	return str_hash(identifier) ^ map_hash_u64(pool);
}

struct route_key {
	uint64_t pool;
	struct str identifier;
};

static bool session_key_match(const struct map_node *node, const void *key)
{
	const struct session *s = container_of(node, struct session, by_key);
	const struct route_key *k = key;

	return s->pool == k->pool && str_eq((struct str){s->identifier, s->identifier_n}, k->identifier);
}

static bool generation_match(const struct map_node *node, const void *key)
{
	return container_of(node, struct session, by_generation)->generation == *(const uint64_t *)key;
}

struct session *session_by_generation(struct gw *gw, uint64_t generation)
{
	struct map_node *node =
		map_find(&gw->generations, map_hash_u64(generation), generation_match, &generation);

	return node ? container_of(node, struct session, by_generation) : NULL;
}

struct session *session_by_key(struct gw *gw, uint64_t pool, struct str identifier)
{
	struct route_key key = {pool, identifier};
	struct map_node *node =
		map_find(&gw->keys_of_sessions, session_key_hash(pool, identifier), session_key_match, &key);

	return node ? container_of(node, struct session, by_key) : NULL;
}

/* --- life of a session --- */

void session_ref(struct session *s)
{
	s->refs++;
}

void session_unref(struct session *s)
{
	must(s->refs > 0);
	if (--s->refs == 0)
		free(s);
}

static void forget_key(struct gw *gw, struct session *s)
{
	if (!s->in_keys)
		return;
	s->in_keys = false;
	map_remove(&gw->keys_of_sessions, &s->by_key);
	session_unref(s);
}

void session_forget(struct gw *gw, struct session *s)
{
	session_ref(s);
	forget_key(gw, s);
	if (loop_link_in(&s->by_age))
		loop_list_remove(&s->by_age);
	if (s->in_generations) {
		s->in_generations = false;
		map_remove(&gw->generations, &s->by_generation);
		count(&gw->counters.routes, (uint64_t)-1);
		session_unref(s);
	}
	session_unref(s);
}

static void forget_remote(struct gw *gw)
{
	struct map_node *node = map_next(&gw->generations, NULL), *next;

	for (; node; node = next) {
		next = map_next(&gw->generations, node);
		struct session *s = container_of(node, struct session, by_generation);
		if (!s->local)
			session_forget(gw, s);
	}
}

/* Nobody tells us of the end of another node's session: forgets what is idle, and gives the others another turn. */
static void forget_idle(struct gw *gw)
{
	uint64_t now = clock_boot_ms();

	for (unsigned i = 0; i < LOOKED_AT && !loop_list_empty(&gw->remotes); i++) {
		struct session *s = container_of(gw->remotes.next, struct session, by_age);

		if (s->in_flight == 0 && loop_list_empty(&s->tunnels) && loop_list_empty(&s->held) &&
		    now - s->last_activity_ms > gw->gateway->config.route_idle_ms) {
			session_forget(gw, s);
			continue;
		}
		loop_list_remove(&s->by_age);
		loop_list_add(&gw->remotes, &s->by_age);
	}
}

struct session *session_new(struct gw *gw, const struct session_ref *ref, bool local)
{
	struct session *s;

	if (gw->generations.n >= SESSIONS_MAX)
		forget_remote(gw);
	forget_idle(gw);
	s = calloc(1, sizeof *s);
	if (!s)
		return NULL;
	s->pool = ref->pool;
	s->generation = ref->generation;
	s->sandbox = ref->sandbox;
	s->node = ref->node;
	s->index = ref->index;
	s->local = local;
	conns_init(&s->conns, gw->gateway->config.sandbox_connections_max);
	loop_list_init(&s->held);
	loop_list_init(&s->tunnels);
	if (map_insert(&gw->generations, &s->by_generation, map_hash_u64(s->generation))) {
		free(s);
		return NULL;
	}
	s->in_generations = true;
	s->refs = 1;
	count(&gw->counters.routes, 1);
	if (!local) {
		s->last_activity_ms = clock_boot_ms();
		loop_list_add(&gw->remotes, &s->by_age);
	}
	return s;
}

/* The session of an answer from placement, findable by its identifier. */
struct session *session_learn(struct gw *gw, const struct session_ref *ref, struct str identifier)
{
	struct session *s = session_by_generation(gw, ref->generation), *old;

	if (s && s->sandbox && s->node != ref->node) { /* it moved */
		session_forget(gw, s);
		s = NULL;
	}
	if (!s)
		s = session_new(gw, ref, ref->node == gw->gateway->config.node);
	if (!s)
		return NULL;
	s->sandbox = ref->sandbox; /* a session met by a quiesce alone has none yet */
	s->pool = ref->pool;
	old = session_by_key(gw, ref->pool, identifier);
	if (old == s)
		return s;
	if (old && old->generation > s->generation)
		return old;
	if (old)
		forget_key(gw, old);
	if (!s->in_keys) {
		memcpy(s->identifier, identifier.p, identifier.n);
		s->identifier_n = identifier.n;
		if (map_insert(&gw->keys_of_sessions, &s->by_key, session_key_hash(s->pool, identifier)))
			return NULL;
		s->in_keys = true;
		session_ref(s);
	}
	return s;
}

/* --- the account --- */

void session_enter(struct client *c)
{
	c->session->in_flight++;
	c->session->last_activity_ms = clock_boot_ms();
	c->admitted = true;
}

void session_tunnel(struct client *c)
{
	if (c->admitted)
		c->session->in_flight--;
	c->admitted = false;
}

void session_leave(struct client *c)
{
	struct session *s = c->session;

	if (!s)
		return;
	if (c->admitted || loop_link_in(&c->tunnel))
		s->last_activity_ms = clock_boot_ms();
	if (c->admitted)
		s->in_flight--;
	c->admitted = false;
	c->session = NULL;
	session_unref(s);
}

void session_wait_over(struct client *c)
{
	struct open *unasked = c->unasked;

	if (!loop_link_in(&c->waiting))
		return;
	loop_list_remove(&c->waiting);
	if (c->state == CLIENT_SESSION)
		account_waits(c, false);
	c->away = false;
	c->unasked = NULL;
	if (unasked && loop_list_empty(&unasked->waiting))
		session_open_free(c->gw, unasked);
}

void session_wait_in(struct client *c, struct loop_link *list)
{
	uint64_t now = clock_boot_ms();

	if (!account_may_wait(c))
		return;
	client_wait(c, CLIENT_SESSION);
	account_waits(c, true);
	loop_list_add(list, &c->waiting);
	/* Beyond the deadline: placement's own answer, sent at the deadline, says more. */
	client_timer(c, (c->deadline_ms > now ? c->deadline_ms - now : 0) + ANSWER_MS);
}

/* c has a session: goes on, or waits with it. */
void session_proceed(struct client *c)
{
	struct session *s = c->session;

	if (s->local && c->gw->fenced && c->kind == CLIENT_NODE) {
		answer_hop(c, "again");
		return;
	}
	if (s->local && c->gw->fenced) {
		answer_retry(c, 503, "NodeFenced", "the session's node has lost its lease", 2);
		return;
	}
	if (s->local && (s->state == SESSION_QUIET || s->admit_correlation)) {
		if (s->parted)
			session_hold_on(c);
		session_wait_in(c, &s->held);
		return;
	}
	if (s->local)
		session_enter(c);
	upstream_get(c);
}

void session_use(struct client *c, struct session *s)
{
	session_ref(s);
	c->session = s;
	session_proceed(c);
}

void session_event(struct gw *gw, const struct session *s, enum gateway_event_kind kind)
{
	const struct gateway_config *config = &gw->gateway->config;
	struct gateway_event event = {.kind = kind,
				      .pool = s->pool,
				      .generation = s->generation,
				      .sandbox = s->sandbox,
				      .identifier = {s->identifier, s->identifier_n}};

	if (config->event)
		config->event(config->arg, &event);
}

int session_post(struct gw *gw, struct envelope *e, const struct codec_type *type, const void *body)
{
	const struct gateway_config *config = &gw->gateway->config;
	struct buf bytes = {0}, out = {0};
	int r;

	if (type)
		codec_encode(&bytes, type, body);
	e->from = (struct address){.kind = ADDRESS_GATEWAY, .node = config->node, .key = gw->index};
	e->incarnation = config->incarnation;
	e->body = buf_str(&bytes);
	codec_encode(&out, &envelope_codec, e);
	r = buf_failed(&out) ? -ENOMEM : config->post(config->arg, out.p, out.n);
	buf_done(&bytes);
	buf_done(&out);
	return r;
}

/* --- ends and doubts --- */

static void refuse(struct client *c, const char *hop, unsigned status, const char *code, const char *message)
{
	if (c->kind == CLIENT_NODE)
		answer_hop(c, hop);
	else if (status == 503)
		answer_retry(c, status, code, message, 1);
	else
		answer(c, status, code, message);
}

static void tell_dead(struct gw *gw, struct session *s)
{
	struct msg_session_event body = {.pool = s->pool,
					 .generation = s->generation,
					 .sandbox = s->sandbox,
					 .identifier = {s->identifier, s->identifier_n},
					 .reason = STR("its target port takes no connections")};
	struct envelope e = {
		.to = {.kind = ADDRESS_SESSION, .node = gw->gateway->config.node, .key = s->generation},
		.type = MSG_DEAD};

	if (s->dead_told || s->state == SESSION_ENDED)
		return;
	s->dead_told = session_post(gw, &e, message_body_codec[MSG_DEAD], &body) == 0;
	session_event(gw, s, GATEWAY_DEAD);
}

void session_unusable(struct client *c, bool dead)
{
	static const char refuses[] =
		"the session's container does not accept connections on its target port";
	struct session *s = c->session;
	struct gw *gw = c->gw;
	bool again = c->kind != CLIENT_NODE && ++c->tries < TRIES_MAX && !c->kept_overflow &&
		     !c->answer_begun && !c->interims && !(dead && s->served);

	if (dead && s->local &&
	    s->served) { /* its server may be starting again, and what it keeps is worth waiting for */
		answer(c, 502, "BadGateway", refuses);
		return;
	}
	if (dead && s->local)
		tell_dead(gw, s);
	c->gone = dead ? s->sandbox : 0;
	session_ref(s);
	if (s->local)
		forget_key(gw, s);
	else
		session_forget(gw, s);
	session_unref(s);
	if (!again) {
		refuse(c, dead ? "dead" : "stale", dead ? 502 : 503,
		       dead ? "BadGateway" : "SessionUnavailable",
		       dead ? refuses : "the session is moving or ending");
		return;
	}
	exchange_abort(c);
	session_ask(c);
}

static void end_session(struct gw *gw, struct session *s)
{
	session_ref(s);
	s->state = SESSION_ENDED;
	s->admit_correlation = 0;
	session_forget(gw, s);
	while (!loop_list_empty(&s->tunnels))
		client_close(container_of(s->tunnels.next, struct client, tunnel));
	upstream_close_all(&s->conns, "SessionEnded", "the session ended before its answer");
	for (int i = 0; i < 2; i++) {
		struct loop_link *list = i ? &s->conns.waiting : &s->held;
		while (!loop_list_empty(list)) {
			struct client *c = container_of(list->next, struct client, waiting);
			session_wait_over(c);
			session_unusable(c, false);
			client_continue(c);
		}
	}
	session_unref(s);
}

static void release_held(struct session *s)
{
	struct loop_link held;

	if (loop_list_empty(&s->held))
		return;
	session_ref(s);
	held = s->held; /* whoever has to wait again joins a new list */
	held.next->prev = held.prev->next = &held;
	loop_list_init(&s->held);
	while (!loop_list_empty(&held)) {
		struct client *c = container_of(held.next, struct client, waiting);
		session_wait_over(c);
		session_proceed(c);
		client_continue(c);
	}
	session_unref(s);
}

/* --- messages from control --- */

static uint32_t busy(struct gw *gw, const struct session *s)
{
	uint64_t now = clock_boot_ms();
	uint32_t n = s->in_flight;

	(void)gw;
	for (const struct loop_link *link = s->tunnels.next; link != &s->tunnels; link = link->next) {
		const struct client *c = container_of(link, struct client, tunnel);
		if (now - c->tunnel_ms < c->cooldown_ms)
			n++;
	}
	return n;
}

static uint64_t last_activity(const struct session *s)
{
	uint64_t last = s->in_flight ? clock_boot_ms() : s->last_activity_ms;

	for (const struct loop_link *link = s->tunnels.next; link != &s->tunnels; link = link->next) {
		const struct client *c = container_of(link, struct client, tunnel);
		if (c->tunnel_ms > last)
			last = c->tunnel_ms;
	}
	return last;
}

static void quiesce(struct gw *gw, const struct envelope *e, const struct msg_session_event *m)
{
	struct session *s = session_by_generation(gw, m->generation);
	struct session_ref ref = {.pool = m->pool,
				  .generation = m->generation,
				  .sandbox = m->sandbox,
				  .node = gw->gateway->config.node};
	struct msg_quiet quiet = {.generation = m->generation};

	if (s && !s->local) { /* it moved here */
		session_forget(gw, s);
		s = NULL;
	}
	if (!s) /* remembered, so that an answer that is under way does not admit to it */
		s = session_new(gw, &ref, true);
	if (!s)
		return;
	if (s->state == SESSION_OPEN)
		s->state = SESSION_QUIET;
	quiet.in_flight = busy(gw, s);
	quiet.last_activity_boot_ms = last_activity(s);
	quiet.served = s->served;
	quiet.requests = s->in_flight;
	struct envelope reply = {.to = e->from, .type = MSG_QUIET, .correlation = e->correlation};
	session_post(gw, &reply, message_body_codec[MSG_QUIET], &quiet);
}

static void tell_activity(struct gw *gw, const struct envelope *e, const struct msg_activity *m)
{
	uint64_t now = clock_boot_ms(), generations[ACTIVITY_MAX], ago_ms[ACTIVITY_MAX];
	struct msg_active active = {.generations = generations, .ago_ms = ago_ms};
	struct envelope reply = {.to = e->from, .type = MSG_ACTIVE, .correlation = e->correlation};

	for (uint32_t i = 0; i < m->n_generations; i++) {
		const struct session *s = session_by_generation(gw, m->generations[i]);
		uint64_t last = s && s->local ? last_activity(s) : 0;

		if (!last)
			continue;
		generations[active.n_generations++] = m->generations[i];
		ago_ms[active.n_ago_ms++] = now > last ? now - last : 0;
	}
	session_post(gw, &reply, message_body_codec[MSG_ACTIVE], &active);
}

void session_message(struct gw *gw, const struct envelope *e, const void *body)
{
	const struct msg_session_event *event = body;
	struct session *s;

	if (e->type == MSG_OPENED) {
		session_opened(gw, e, body);
	} else if (e->type == MSG_REFUSED) {
		const struct msg_refused *refused = body;
		struct msg_opened m = {
			.code = OPEN_UNAVAILABLE, .message = refused->message, .retry_after_s = 1};
		session_opened(gw, e, &m);
	} else if (e->type == MSG_QUIESCE) {
		quiesce(gw, e, event);
	} else if (e->type == MSG_ACTIVITY) {
		tell_activity(gw, e, body);
	} else if (e->type == MSG_PART) {
		s = session_by_generation(gw, event->generation);
		if (s)
			session_part(gw, s);
	} else if (e->type == MSG_REOPEN || e->type == MSG_ENDED) {
		s = session_by_generation(gw, event->generation);
		if (s && e->type == MSG_ENDED) {
			end_session(gw, s);
		} else if (s && s->state == SESSION_QUIET) {
			s->state = SESSION_OPEN;
			s->dead_told = s->parted = false;
			release_held(s);
		}
	}
}

void session_admitted(struct gw *gw, uint64_t correlation, int code)
{
	struct session *s = session_by_generation(gw, correlation);

	if (!s || s->admit_correlation != correlation)
		return;
	s->admit_correlation = 0;
	if (code == 0) {
		if (s->state == SESSION_OPEN)
			release_held(s);
		return;
	}
	session_ref(s);
	session_forget(gw, s);
	while (!loop_list_empty(&s->held)) {
		struct client *c = container_of(s->held.next, struct client, waiting);
		session_wait_over(c);
		answer_hop(c, code == -ESTALE ? "stale" : "again");
		client_continue(c);
	}
	session_unref(s);
}

void session_fence(struct gw *gw, bool fenced)
{
	struct map_node *node = NULL;

	gw->fenced = fenced;
	while (fenced && (node = map_next(&gw->generations, node))) {
		struct session *s = container_of(node, struct session, by_generation);
		while (!loop_list_empty(&s->tunnels))
			client_close(container_of(s->tunnels.next, struct client, tunnel));
		/* Their sandboxes are frozen: no answer comes. */
		if (s->local)
			upstream_close_all(&s->conns, "NodeFenced", "the session's node has lost its lease");
	}
}

void session_end_all(struct gw *gw)
{
	struct map_node *node;

	while ((node = map_next(&gw->generations, NULL)))
		end_session(gw, container_of(node, struct session, by_generation));
	while ((node = map_next(&gw->opens, NULL)))
		session_open_free(gw, container_of(node, struct open, by_correlation));
	map_done(&gw->generations);
	map_done(&gw->keys_of_sessions);
	map_done(&gw->opens);
	map_done(&gw->keys_of_opens);
}
