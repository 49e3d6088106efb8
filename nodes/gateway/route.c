/* From an identifier to a session: the route that this loop knows, or one question to placement for all who wait; and the
 * requests that other nodes forward here, whose sessions control vouches for.
 * Failure modes: no answer in time, no leader -> 503; full -> 429; no such session though one is required -> 404; a session's node
 * that is away is tried again until the request's deadline. */
#include "gateway/inside.h"

#include <stdlib.h>
#include <string.h>

#include "core/clock.h"

#define ADMIT_AGAIN_MS 5000
#define REST_ANSWER_MS 2000 /* for an answer to come once its deadline made it */
#define REST_ASK_MS    5000 /* of one question to placement meanwhile */
#define AWAY_MS        100  /* between tries to reach a session's node */

static struct str identifier_of(const struct client *c)
{
	return (struct str){c->identifier, c->identifier_n};
}

/* --- asking placement --- */

static bool open_key_match(const struct map_node *node, const void *key)
{
	const struct open *o = container_of(node, struct open, by_key);
	const struct client *c = key;

	return o->pool == c->pool && o->require_existing == c->facts.require_existing && o->gone == c->gone &&
	       str_eq((struct str){o->identifier, o->identifier_n}, identifier_of(c));
}

static void open_late(struct loop_timer *timer)
{
	struct open *o = container_of(timer, struct open, late);

	session_open_failed(o->gw, o);
}

static struct open *open_new(struct client *c)
{
	struct gw *gw = c->gw;
	struct open *o = calloc(1, sizeof *o);

	if (!o)
		return NULL;
	o->correlation = ++gw->next_correlation;
	o->pool = c->pool;
	o->gone = c->gone;
	o->require_existing = c->facts.require_existing;
	memcpy(o->identifier, c->identifier, c->identifier_n);
	o->identifier_n = c->identifier_n;
	o->gw = gw;
	o->deadline_ms = c->deadline_ms;
	o->late.fire = open_late;
	loop_list_init(&o->waiting);
	if (map_insert(&gw->opens, &o->by_correlation, map_hash_u64(o->correlation))) {
		free(o);
		return NULL;
	}
	if (map_insert(&gw->keys_of_opens, &o->by_key, session_key_hash(o->pool, identifier_of(c)))) {
		map_remove(&gw->opens, &o->by_correlation);
		free(o);
		return NULL;
	}
	return o;
}

void session_open_free(struct gw *gw, struct open *o)
{
	map_remove(&gw->opens, &o->by_correlation);
	map_remove(&gw->keys_of_opens, &o->by_key);
	turns_leave(gw, o);
	free(o);
}

void session_ask(struct client *c)
{
	struct gw *gw = c->gw;
	struct map_node *found =
		map_find(&gw->keys_of_opens, session_key_hash(c->pool, identifier_of(c)), open_key_match, c);
	struct open *o = found ? container_of(found, struct open, by_key) : NULL;

	if (!account_may_wait(c))
		return;
	if (!o) {
		o = open_new(c);
		if (!o || turns_ask(c, o)) {
			if (o)
				session_open_free(gw, o);
			answer_retry(c, 503, "ServiceUnavailable", "the control loop is too busy", 1);
			return;
		}
	}
	session_wait_in(c, &o->waiting);
	c->unasked = o->asked ? NULL : o;
}

void session_turn_came(struct open *o)
{
	for (struct loop_link *link = o->waiting.next; link != &o->waiting; link = link->next)
		container_of(link, struct client, waiting)->unasked = NULL;
}

void session_route(struct client *c)
{
	struct session *s = session_by_key(c->gw, c->pool, identifier_of(c));

	if (s)
		session_use(c, s);
	else
		session_ask(c);
}

/* --- a session whose node is away --- */

/* Its node may be back soon, with the session; if it is not, the route ends when the node falls silent. */
void session_away(struct client *c, const char *why)
{
	bool whole = !c->kept_overflow && !c->answer_begun && !c->interims;

	if (c->kind == CLIENT_NODE) {
		answer_hop(c, "again");
		return;
	}
	if (!whole || c->gw->stopping || clock_boot_ms() + AWAY_MS >= c->deadline_ms) {
		answer_retry(c, 503, "SessionUnavailable", why, 1);
		return;
	}
	exchange_abort(c);
	session_wait_in(c, &c->gw->away);
	if (!loop_link_in(&c->waiting))
		return;
	c->away = true;
	client_timer(c, AWAY_MS);
}

void session_try_again(struct client *c)
{
	session_wait_over(c);
	session_route(c);
	client_continue(c);
}

/* --- a session that is saved --- */

/* Its session is being saved, or wakes: it is worth more patience. */
void session_hold_on(struct client *c)
{
	if (c->rest_until_ms == 0)
		c->rest_until_ms = clock_boot_ms() + REST_MS;
	if (c->deadline_ms < c->rest_until_ms)
		c->deadline_ms = c->rest_until_ms;
}

/* Its sandbox is being saved: what is under way ends here, what comes is held on. */
void session_part(struct gw *gw, struct session *s)
{
	uint64_t cut = s->in_flight;

	session_ref(s);
	s->parted = true;
	for (struct loop_link *link = s->held.next; link != &s->held; link = link->next) {
		struct client *c = container_of(link, struct client, waiting);

		session_hold_on(c);
		client_timer(c, c->deadline_ms - clock_boot_ms() + REST_ANSWER_MS);
	}
	while (!loop_list_empty(&s->tunnels)) {
		client_close(container_of(s->tunnels.next, struct client, tunnel));
		cut++;
	}
	upstream_close_all(&s->conns, "SessionMoving", "the session was saved before its answer");
	count(&gw->counters.parted, cut);
	session_unref(s);
}

/* --- requests of other nodes --- */

static void ask_control(struct client *c, struct session *s)
{
	const struct gateway_config *config = &c->gw->gateway->config;
	struct gateway_admit admit = {.loop = c->gw->index,
				      .correlation = s->generation,
				      .pool = s->pool,
				      .generation = s->generation,
				      .sandbox = s->sandbox,
				      .index = s->index,
				      .deadline_ms = c->deadline_ms};

	s->admit_correlation = admit.correlation;
	s->admit_deadline_ms = clock_boot_ms() + ADMIT_AGAIN_MS;
	if (config->admit(config->arg, &admit))
		s->admit_deadline_ms = 0; /* the next request asks again; this one waits for its deadline */
}

void session_hop(struct client *c, const struct session_ref *ref)
{
	struct session *s = session_by_generation(c->gw, ref->generation);
	bool known = s && s->local && s->sandbox;

	if (s && !s->local) { /* it was another node's: control says whether it is ours now */
		session_forget(c->gw, s);
		s = NULL;
	}
	if (s && s->sandbox && s->sandbox != ref->sandbox) {
		answer_hop(c, "stale");
		return;
	}
	if (!s)
		s = session_new(c->gw, ref, true);
	if (!s) {
		answer_hop(c, "again");
		return;
	}
	s->sandbox = ref->sandbox;
	s->pool = ref->pool;
	s->index = ref->index;
	s->node = c->gw->gateway->config.node;
	session_ref(s);
	c->session = s;
	if (!known || (s->admit_correlation && clock_boot_ms() > s->admit_deadline_ms))
		ask_control(c, s);
	session_proceed(c);
}

/* --- answers from placement --- */

/* Its session moves, or wakes: asked for again until REST_MS after it was first found so. */
static void rests(struct client *c)
{
	uint64_t now = clock_boot_ms();

	if (c->rest_until_ms == 0)
		c->rest_until_ms = now + REST_MS;
	if (now + AWAY_MS >= c->rest_until_ms || c->gw->stopping) {
		answer_retry(c, 503, "SessionUnavailable",
			     "the session is moving or waking, and took too long", 1);
		return;
	}
	c->deadline_ms = now + REST_ASK_MS < c->rest_until_ms ? now + REST_ASK_MS : c->rest_until_ms;
	session_ask(c);
}

static void opened_one(struct client *c, const struct msg_opened *m, struct session *s, bool created)
{
	c->created = created;
	c->allocation_ms = m->allocation_ms;
	char message[1025] = ""; /* as long as the envelope's may be */
	str_copy(str_slice(m->message, 0, m->message.n < 1024 ? m->message.n : 1024), message,
		 sizeof message);
	switch ((enum open_code)m->code) {
	case OPEN_OK:
		if (s)
			session_use(c, s);
		else
			answer_retry(c, 503, "ServiceUnavailable", "no memory", 1);
		break;
	case OPEN_UNKNOWN_POOL:
		answer(c, 404, "ResourceNotFound", "there is no such session pool");
		break;
	case OPEN_NO_SESSION:
		answer(c, 404, "SessionWithIdentifierNotFound", "there is no session with this identifier");
		break;
	case OPEN_FULL:
		answer_retry(c, 429, "TooManySessions",
			     m->message.n ? message : "all sessions of the pool are in use",
			     m->retry_after_s);
		break;
	case OPEN_CANNOT_START:
		answer_retry(c, 503, "SessionPoolCannotStart",
			     m->message.n ? message : "the pool cannot start sessions", m->retry_after_s);
		break;
	case OPEN_CLOSING:
		answer_retry(c, 503, "SessionClosing", "the session of this identifier is ending",
			     m->retry_after_s);
		break;
	case OPEN_RESTING:
		rests(c);
		break;
	case OPEN_UNAVAILABLE:
	case OPEN_CODES:
		answer_retry(c, 503, "ServiceUnavailable",
			     m->message.n ? message : "the cluster has no leader", m->retry_after_s);
		break;
	}
}

static bool correlation_match(const struct map_node *node, const void *key)
{
	return container_of(node, struct open, by_correlation)->correlation == *(const uint64_t *)key;
}

static void open_over(struct gw *gw, struct open *o, const struct msg_opened *m)
{
	struct account *pool = o->of_pool;
	struct session *s = NULL;
	bool created = m->created;
	struct loop_link waiting;

	if (m->code == OPEN_OK && m->session.pool == o->pool)
		s = session_learn(gw, &m->session, (struct str){o->identifier, o->identifier_n});
	if (s && m->created)
		session_event(gw, s, GATEWAY_OPENED);
	if (s)
		session_ref(s);
	loop_list_init(&waiting);
	if (!loop_list_empty(&o->waiting)) {
		waiting = o->waiting;
		waiting.next->prev = waiting.prev->next = &waiting;
	}
	if (pool)
		pool->refs++;
	session_open_free(gw, o);
	while (!loop_list_empty(&waiting)) {
		struct client *c = container_of(waiting.next, struct client, waiting);
		session_wait_over(c);
		opened_one(c, m, s, created);
		created = false; /* of all who waited, one made it new */
		client_continue(c);
	}
	if (s)
		session_unref(s);
	turns_next(gw, pool);
	account_put(gw, pool);
}

void session_opened(struct gw *gw, const struct envelope *e, const struct msg_opened *m)
{
	struct map_node *node =
		map_find(&gw->opens, map_hash_u64(e->correlation), correlation_match, &e->correlation);

	if (node)
		open_over(gw, container_of(node, struct open, by_correlation), m);
}

void session_open_failed(struct gw *gw, struct open *o)
{
	struct msg_opened m = {.code = OPEN_UNAVAILABLE,
			       .message = STR("placement cannot be asked just now"),
			       .retry_after_s = 1};

	open_over(gw, o, &m);
}
