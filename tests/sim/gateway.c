/* gateway.c -- clients' requests, gateways' route caches and owners' checks, as nodes/gateway does them.
 *
 * Happy path: a route is known: the request goes to the owner, which vouches for the session and lets the sandbox serve it.
 * Failure modes: no route, a stale one, a dead sandbox: placement is asked (again), three times at most. An owner that lags waits to apply
 * the open's entry; one whose lease is over refuses. A session that is being judged idle holds its requests. What is lost on the way
 * is lost: its client never hears of it. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/links/admit.h"
#include "core/must.h"
#include "judge/judge.h"
#include "sim.h"

#define TRIES_MAX 3
#define LOOK_MS   10
#define WAIT_MS   15000

static struct sim_visit *visit_of(struct sim *s, const struct sim_event *e)
{
	return &s->visits[e->number];
}

static void then(struct sim_node *n, uint64_t delay_ms, struct sim_visit *v,
		 void (*fire)(struct sim *s, struct sim_event *e))
{
	sim_after_on(n, delay_ms, fire)->number = (uint64_t)(v - n->sim->visits);
}

/* -- Accounts of the owner ----------------------------------------------------------------------------------------- */

static struct sim_account *account_of(struct sim_node *n, uint64_t generation)
{
	for (uint32_t i = 0; i < n->n_accounts; i++) {
		if (n->accounts[i].generation == generation)
			return &n->accounts[i];
	}
	return NULL;
}

static struct sim_account *account_make(struct sim_node *n, uint64_t generation)
{
	struct sim_account *a = account_of(n, generation);

	if (a != NULL)
		return a;
	if (n->n_accounts == n->accounts_capacity) {
		n->accounts_capacity = n->accounts_capacity * 2 + 16;
		n->accounts = realloc(n->accounts, n->accounts_capacity * sizeof *n->accounts);
		must(n->accounts != NULL);
	}
	n->accounts[n->n_accounts] =
		(struct sim_account){.generation = generation, .number = ++n->accounts_made};
	return &n->accounts[n->n_accounts++];
}

void gateway_quiesce(struct sim_node *n, const struct envelope *e, const struct msg_session_event *event)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct sim *s = n->sim;
	struct sim_account *a = account_make(n, event->generation);
	struct msg_quiet quiet = {.generation = event->generation,
				  .in_flight = a->in_flight + s->busy,
				  .last_activity_boot_ms = a->in_flight > 0 ? sim_boot_ms(n) : a->active_ms,
				  .served = a->served || s->active_ms != 0,
				  .requests = a->in_flight + s->busy};

	if (s->active_ms != 0)
		quiet.last_activity_boot_ms = sim_boot_ms(n) - (s->now_ms - s->active_ms);
	a->quiet = true;
	codec_encode(&bytes, message_body_codec[MSG_QUIET], &quiet);
	node_deliver(n, &(struct envelope){.to = e->from,
					   .from = e->to,
					   .type = MSG_QUIET,
					   .correlation = e->correlation,
					   .incarnation = 1,
					   .body = buf_str(&bytes)});
}

void gateway_reopened(struct sim_node *n, uint64_t generation)
{
	struct sim_account *a = account_of(n, generation);

	if (a != NULL)
		a->quiet = false;
}

void gateway_ended(struct sim_node *n, uint64_t generation)
{
	struct sim_account *a = account_of(n, generation);

	if (a != NULL)
		*a = n->accounts[--n->n_accounts];
	for (uint32_t i = 0; i < SIM_POOLS * SIM_IDENTIFIERS; i++) {
		struct sim_route *known = &n->routes[i / SIM_IDENTIFIERS][i % SIM_IDENTIFIERS];

		if (known->generation == generation)
			*known = (struct sim_route){0};
	}
}

/* -- At the owner --------------------------------------------------------------------------------------------------- */

static void stale(struct sim *s, struct sim_event *e);
static void at_owner(struct sim *s, struct sim_event *e);

/* Tells the gateway that the request came from. */
static void answer(struct sim_node *owner, struct sim_visit *v,
		   void (*fire)(struct sim *s, struct sim_event *e))
{
	struct sim_node *gateway = sim_node(owner->sim, v->node);
	uint64_t delay_ms = 0;

	if (gateway != owner && !wire_passes(owner->sim, owner->id, gateway->id, &delay_ms))
		return;
	then(gateway, delay_ms, v, fire);
}

static void served(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	struct sim_visit *v = visit_of(s, e);
	struct sim_account *a = account_of(n, v->route.generation);

	if (a == NULL || a->number != v->account) /* it was cut, when its session was saved */
		return;
	a->in_flight--;
	a->active_ms = sim_boot_ms(n);
}

/* The sandbox has the request. */
static void serve(struct sim_node *n, struct sim_visit *v, struct sim_account *a)
{
	struct sim *s = n->sim;

	judge_served(n, v->route.generation, v->route.sandbox, v->pool, v->identifier, a->vouched);
	judge_counts(n, v->route.sandbox, ++sim_run_of(n, v->route.sandbox)->count);
	history_add(s, v->pool, v->identifier, LINEAR_SERVED, v->route.generation, v->begun_ms, s->now_ms);
	a->in_flight++;
	v->account = a->number;
	a->served = true;
	then(n, sim_chance(s, 50) ? sim_draw(s, 8000) : 1 + sim_draw(s, 100), v, served);
}

static void tell_dead(struct sim_node *n, const struct sim_visit *v)
{
	char identifier[32];
	struct msg_session_event body = {v->pool, v->route.generation, v->route.sandbox, STR_NONE,
					 STR("its target port takes no connections")};

	snprintf(identifier, sizeof identifier, "user-%u", v->identifier);
	body.identifier = str_of(identifier);
	sim_send(n->sim, n->id, (struct address){ADDRESS_SESSION, n->id, v->route.generation}, MSG_DEAD,
		 &body, 0);
}

static void dead(struct sim *s, struct sim_event *e)
{
	visit_of(s, e)->gone = visit_of(s, e)->route.sandbox;
	stale(s, e);
}

static void to_sandbox(struct sim_node *n, struct sim_visit *v, struct sim_account *a)
{
	struct sim_run *r = sim_run_of(n, v->route.sandbox);
	bool dying = r != NULL && r->listens_ms > n->sim->now_ms;

	if (sim_frozen(n) || (r != NULL && (r->saving || r->loaded)))
		return; /* it hangs */
	if (r != NULL)
		r->parked = false;
	if (r != NULL && !dying) {
		serve(n, v, a);
		return;
	}
	if (!a->served)
		tell_dead(n, v);
	answer(n, v, dead);
}

/* Whether the tables here show the session as the request names it; wait: they do not go that far yet. */
static bool admits(const struct sim_node *n, const struct sim_visit *v, bool *ret_wait)
{
	*ret_wait = state_index(n->tables) < v->route.index;
	return !*ret_wait && admit_vouches(n->tables, n->id, v->pool, v->route.generation, v->route.sandbox);
}

static void at_owner(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	struct sim_visit *v = visit_of(s, e);
	struct sim_account *a = account_of(n, v->route.generation);
	bool wait = false;

	if (s->now_ms > v->deadline_ms)
		return;
	if (!n->allowed) {
		s->n_refused++;
		return; /* 503: the node is fenced */
	}
	if (a == NULL || !a->admitted) {
		if (!admits(n, v, &wait) && !wait) {
			s->n_stale++;
			answer(n, v, stale);
			return;
		}
		if (!wait) {
			a = account_make(n, v->route.generation);
			a->admitted = a->vouched = true;
		}
	}
	if (wait || a->quiet)
		then(n, LOOK_MS, v, at_owner);
	else
		to_sandbox(n, v, a);
}

/* -- At the gateway ------------------------------------------------------------------------------------------------- */

static void ask(struct sim_visit *v, struct sim_node *n)
{
	char identifier[32];
	struct sim_ask *open;

	if (n->sim->n_asks == SIM_ASKS_MAX)
		return;
	snprintf(identifier, sizeof identifier, "user-%u", v->identifier);
	open = sim_open(n->sim, n->id, v->pool, identifier, v->gone);
	open->visit = v;
}

static void ask_again(struct sim *s, struct sim_event *e)
{
	ask(visit_of(s, e), sim_node(s, e->node));
}

static void go(struct sim_visit *v, struct sim_node *n)
{
	const struct sim_route *known = &n->routes[v->slot][v->identifier];
	uint64_t delay_ms = 0;

	if (known->generation == 0) {
		ask(v, n);
		return;
	}
	v->route = *known;
	if (known->node == n->id) {
		/* Placement's own word is enough for a session of this node. */
		account_make(n, known->generation)->admitted = true;
		then(n, 0, v, at_owner);
	} else if (wire_is_open(n->sim, n->id, known->node)) {
		if (wire_passes(n->sim, n->id, known->node, &delay_ms))
			then(sim_node(n->sim, known->node), delay_ms, v, at_owner);
	}
}

/* The route led nowhere: it is forgotten, and placement asked. */
static void stale(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	struct sim_visit *v = visit_of(s, e);
	struct sim_route *known = &n->routes[v->slot][v->identifier];

	if (known->generation == v->route.generation)
		*known = (struct sim_route){0};
	if (++v->tries < TRIES_MAX && s->now_ms < v->deadline_ms)
		go(v, n);
}

void gateway_opened(struct sim_node *n, const struct sim_ask *open)
{
	struct sim_visit *v = open->visit;
	const struct session_ref *ref = &open->opened.session;
	struct sim_route *known;

	if (!open->refused && open->opened.code == OPEN_RESTING && v != NULL &&
	    n->sim->now_ms < v->deadline_ms)
		then(n, LOOK_MS, v, ask_again);
	if (open->refused || open->opened.code != OPEN_OK)
		return;
	if (v == NULL)
		return;
	/* Who finds a session may be told by a leader that does not know yet that it is one no more: the owner's check makes
	 * that harmless. Who makes one is told by the log. */
	if (open->opened.created)
		history_add(n->sim, v->pool, v->identifier, LINEAR_OPENED, ref->generation, open->invoked_ms,
			    n->sim->now_ms);
	known = &n->routes[v->slot][v->identifier];
	if (ref->generation > known->generation ||
	    (ref->generation == known->generation && ref->index > known->index))
		*known = (struct sim_route){ref->generation, ref->sandbox, ref->node, ref->index};
	go(v, n);
}

void gateway_visit(struct sim *s, uint64_t node, uint32_t slot, uint64_t pool, uint32_t identifier,
		   uint64_t gone)
{
	struct sim_visit *v = &s->visits[s->n_visits];

	must(slot < SIM_POOLS && identifier < SIM_IDENTIFIERS);
	if (s->n_visits == SIM_VISITS_MAX)
		return;
	s->n_visits++;
	*v = (struct sim_visit){.node = node,
				.pool = pool,
				.slot = slot,
				.identifier = identifier,
				.gone = gone,
				.begun_ms = s->now_ms,
				.deadline_ms = s->now_ms + WAIT_MS};
	if (gone != 0)
		sim_node(s, node)->routes[slot][identifier] = (struct sim_route){0};
	go(v, sim_node(s, node));
	node_turn(sim_node(s, node));
}

/* -- Stops ---------------------------------------------------------------------------------------------------------- */

static void stop_now(struct sim *s, struct sim_event *e)
{
	struct sim_node *n = sim_node(s, e->node);
	const struct sim_stop *stop = &s->stops[e->number];
	char text[32];

	if (state_index(n->tables) < stop->index) {
		if (s->now_ms < stop->begun_ms + WAIT_MS)
			sim_after_on(n, LOOK_MS, stop_now)->number = e->number;
		return;
	}
	snprintf(text, sizeof text, "user-%u", stop->identifier);
	sim_send(s, n->id, (struct address){ADDRESS_PLACEMENT, n->id, 0}, MSG_STOP,
		 &(struct msg_stop){stop->pool, str_of(text)}, STOP_CORRELATION + e->number);
}

/* As the management API does: what is stopped is read behind a barrier, here all that was applied anywhere by now. */
void gateway_stop(struct sim *s, uint64_t node, uint64_t pool, uint32_t identifier)
{
	if (s->n_user_stops == SIM_STOPS_MAX)
		return;
	s->stops[s->n_user_stops] = (struct sim_stop){
		.pool = pool, .begun_ms = s->now_ms, .index = judge_index(s), .identifier = identifier};
	sim_after_on(sim_node(s, node), 0, stop_now)->number = s->n_user_stops++;
}

/* Of two answers, as of a copy that was sent again, the first counts: the client has gone on. */
void gateway_stopped(struct sim *s, uint64_t number, int32_t code)
{
	struct sim_stop *stop = &s->stops[number];

	if (number >= s->n_user_stops || stop->answered)
		return;
	stop->answered = true;
	if (code == 0)
		judge_stopped(s, stop->pool, stop->identifier, stop->begun_ms);
	if (code == 0 || code == -ENOENT)
		history_add(s, stop->pool, stop->identifier, code == 0 ? LINEAR_STOPPED : LINEAR_NONE, 0,
			    stop->begun_ms, s->now_ms);
}
