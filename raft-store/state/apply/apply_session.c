/* apply_session.c -- waiting -> live -> closing -> gone; an identifier has at most one of them.
 * OPEN answers the existing session, takes a ready sandbox, or waits for the next one, within the pool's maximum. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"

static void answer(struct apply *a, const struct session_row *session, bool created)
{
	a->result->id = session->generation;
	a->result->session = apply_session_ref(session);
	a->result->created = created;
	a->result->waiting = session->state == SESSION_WAITING || session->rest != REST_AWAKE;
}

/* A suspended one wakes. */
static void answer_existing(struct apply *a, const struct session_row *session)
{
	if (session->state == SESSION_CLOSING)
		apply_refuse(a, -EBUSY, "the session of this identifier is still ending");
	else if (apply_wake(a, session))
		answer(a, state_session_by_generation(a->s, session->generation), false);
}

/* The preferred one if it still is ready, else the best ready one, the oldest of these: on a node that is not cordoned before the
 * active revision; or NULL. */
static const struct sandbox_row *ready_sandbox(const struct state *s, const struct pool_row *pool,
					       uint64_t preferred)
{
	const struct sandbox_row *sandbox = preferred == 0 ? NULL : state_sandbox(s, preferred);

	if (sandbox != NULL && sandbox->pool == pool->uid && sandbox->state == SANDBOX_READY)
		return sandbox;
	const struct sandbox_row *best = NULL;
	int best_rank = -1;

	for (sandbox = NULL; best_rank < 3 && (sandbox = state_next_ready(s, pool->uid, sandbox)) != NULL;) {
		int rank = 2 * !state_node(s, sandbox->node)->cordoned +
			   (sandbox->revision == pool->active_revision);

		if (rank > best_rank) {
			best = sandbox;
			best_rank = rank;
		}
	}
	return best;
}

static void open_new(struct apply *a, const struct pool_row *pool, const struct cmd_session_open *c)
{
	const struct sandbox_row *sandbox = ready_sandbox(a->s, pool, c->preferred);
	struct session_row row = {.pool = pool->uid,
				  .identifier = c->identifier,
				  .generation = apply_next_id(a),
				  .state = SESSION_WAITING,
				  .asked_ms = a->now_ms,
				  .expires_ms = a->now_ms + a->cluster.settings.queue_ms};
	const struct session_row *session =
		sandbox != NULL ? apply_bind(a, &row, sandbox) : store_put(a->s, KIND_SESSIONS, &row);

	answer(a, session, true);
	apply_trim(a, pool->uid); /* one of a cordoned node was taken, and what replaces it boots */
}

void apply_session_open(struct apply *a, const void *body)
{
	const struct cmd_session_open *c = body;
	const struct pool_row *pool = state_pool(a->s, c->pool);
	const struct session_row *session = pool == NULL ? NULL : state_session(a->s, c->pool, c->identifier);
	struct pool_counts counts = state_pool_counts(a->s, c->pool);

	if (pool == NULL) {
		apply_refuse(a, -ENOENT, "no pool %" PRIu64, c->pool);
	} else if (c->identifier.n < IDENTIFIER_MIN) {
		apply_refuse(a, -EINVAL, "identifier: %zu bytes, allowed %d to %d", c->identifier.n,
			     IDENTIFIER_MIN, IDENTIFIER_MAX);
	} else if (pool->provisioning == PROVISIONING_DELETING) {
		apply_refuse(a, -ESHUTDOWN, "pool %" PRIu64 " is being deleted", c->pool);
	} else if (session != NULL) {
		answer_existing(a, session);
	} else if (c->require_existing) {
		apply_refuse(a, -ESRCH, "no session of this identifier in pool %" PRIu64, c->pool);
	} else if (counts.waiting + counts.live + counts.closing >= pool->limits.max_sessions) {
		apply_refuse(a, -EUSERS, "pool %" PRIu64 " has all of its %u sessions", c->pool,
			     pool->limits.max_sessions);
	} else {
		open_new(a, pool, c);
	}
}

void apply_session_closing(struct apply *a, const void *body)
{
	const struct cmd_session_closing *c = body;
	const struct session_row *session = state_session_by_generation(a->s, c->generation);

	if (session == NULL || session->pool != c->pool) {
		apply_refuse(a, -ESRCH, "pool %" PRIu64 " has no session of generation %" PRIu64, c->pool,
			     c->generation);
		return;
	}
	if (session->node != a->command->node && !state_node(a->s, a->command->node)->voter) {
		apply_refuse(a, -EPERM, "generation %" PRIu64 " is not of worker %" PRIu64, c->generation,
			     a->command->node);
		return;
	}
	answer(a, session, false);
	if (session->state == SESSION_CLOSING)
		return;
	if (session->state == SESSION_WAITING) {
		store_remove(a->s, KIND_SESSIONS, session);
		apply_settle(a, c->pool);
		apply_trim(a, c->pool);
		return;
	}
	apply_session_close(a, session, c->reason);
}

void apply_session_closed(struct apply *a, const void *body)
{
	const struct cmd_session_closed *c = body;
	const struct session_row *session = state_session_by_generation(a->s, c->generation);

	if (session == NULL || session->pool != c->pool) {
		apply_refuse(a, -ESRCH, "pool %" PRIu64 " has no session of generation %" PRIu64, c->pool,
			     c->generation);
		return;
	}
	if (session->state == SESSION_WAITING) {
		apply_refuse(a, -EINVAL, "generation %" PRIu64 " has no sandbox yet: it can only be closing",
			     c->generation);
		return;
	}
	if (session->node != a->command->node) {
		apply_refuse(a, -EPERM, "generation %" PRIu64 " is owned by node %" PRIu64, c->generation,
			     session->node);
		return;
	}
	answer(a, session, false);
	apply_session_end(a, session, c->stopped_ms, c->unserved,
			  session->state == SESSION_CLOSING ? session->reason
			  : c->unserved                     ? REAP_DEAD
							    : REAP_EXITED);
}

static void expire_of_pool(struct apply *a, uint64_t pool)
{
	const struct session_row *waiter = NULL;
	uint64_t before = a->result->id;

	while ((waiter = state_next_waiter(a->s, pool, waiter)) != NULL) {
		if (waiter->expires_ms > a->now_ms)
			continue;
		store_remove(a->s, KIND_SESSIONS, waiter);
		a->result->id++;
	}
	if (a->result->id == before)
		return;
	apply_settle(a, pool);
	apply_trim(a, pool);
}

void apply_waiters_expire(struct apply *a, const void *body)
{
	(void)body;
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(a->s, pool)) != NULL;) {
		if (state_pool_counts(a->s, pool->uid).waiting > 0)
			expire_of_pool(a, pool->uid);
	}
}

void apply_records_trim(struct apply *a, const void *body)
{
	const struct cmd_records_trim *c = body;

	a->result->id = ledger_trim(a->s, c->up_to);
}
