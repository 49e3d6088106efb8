/* apply_pool.c -- pools with their revisions, secrets and operations, and what keeps a pool within its limits.
 *
 * PUT writes the pool and starts an operation: resolve -> cache -> succeeded; then the desired revision becomes the active
 * one, which new sandboxes run. A newer PUT cancels the running operation. DELETE drains: the row goes with the last sandbox. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"
#include "core/must.h"

#define SESSIONS_MAX 10000000u
#define MEMORY_MAX   (1ull << 50)

/* -- Limits ------------------------------------------------------------------------------------------------------ */

uint32_t apply_spare_max(const struct pool_row *pool, const struct pool_counts *counts)
{
	uint32_t sessions = counts->waiting + counts->live + counts->closing,
		 target = pool->limits.ready_target;
	uint32_t room = sessions < pool->limits.max_sessions ? pool->limits.max_sessions - sessions : 0;

	if (pool->provisioning == PROVISIONING_DELETING)
		return 0;
	return counts->waiting + (target < room ? target : room);
}

/* Lower is stopped first. */
static int stop_order(const struct sandbox_row *sandbox, uint64_t active)
{
	return sandbox->state == SANDBOX_BOOTING ? 0 : sandbox->revision != active ? 1 : 2;
}

void apply_trim(struct apply *a, uint64_t uid)
{
	const struct pool_row *pool = state_pool(a->s, uid);

	while (pool != NULL) {
		struct pool_counts counts = state_pool_counts(a->s, uid);
		uint32_t moving = state_pool_moving(a->s, uid), max = apply_spare_max(pool, &counts);
		bool replaced = moving > 0 && counts.ready > max;
		const struct sandbox_row *sandbox = NULL, *victim = NULL;
		struct sandbox_row row;

		if (!replaced && counts.ready - moving + counts.booting <= max)
			return;
		while ((sandbox = state_next_pool_sandbox(a->s, uid, sandbox)) != NULL) {
			if (sandbox->state != SANDBOX_BOOTING && sandbox->state != SANDBOX_READY)
				continue;
			if ((sandbox->state == SANDBOX_READY && state_node(a->s, sandbox->node)->cordoned) !=
			    replaced)
				continue;
			if (victim == NULL || stop_order(sandbox, pool->active_revision) <=
						      stop_order(victim, pool->active_revision))
				victim = sandbox;
		}
		must(victim != NULL);
		row = *victim;
		row.state = SANDBOX_STOPPING;
		store_put(a->s, KIND_SANDBOXES, &row);
	}
}

/* -- What goes by itself ------------------------------------------------------------------------------------------ */

static bool runs_revision(const struct state *s, uint64_t pool, uint64_t revision)
{
	for (const struct sandbox_row *row = NULL; (row = state_next_pool_sandbox(s, pool, row)) != NULL;) {
		if (row->revision == revision)
			return true;
	}
	return false;
}

static void drop_revisions(struct apply *a, const struct pool_row *pool)
{
	const struct revision_row *row = NULL;

	while ((row = state_next_revision(a->s, pool->uid, row)) != NULL) {
		if (row->revision != pool->desired_revision && row->revision != pool->active_revision &&
		    !runs_revision(a->s, pool->uid, row->revision))
			store_remove(a->s, KIND_REVISIONS, row);
	}
}

void apply_operation_end(struct apply *a, uint64_t id, uint8_t phase, struct str code, struct str message)
{
	const struct operation_row *operation = state_operation(a->s, id);
	struct operation_row row;

	if (operation == NULL || operation->ended_ms != 0)
		return;
	row = *operation;
	row.phase = phase;
	row.code = code;
	row.message = message;
	row.ended_ms = a->now_ms;
	store_put(a->s, KIND_OPERATIONS, &row);
}

static void remove_pool(struct apply *a, const struct pool_row *pool)
{
	const void *row;

	while ((row = state_next_revision(a->s, pool->uid, NULL)) != NULL)
		store_remove(a->s, KIND_REVISIONS, row);
	while ((row = state_next_secret(a->s, pool->uid, NULL)) != NULL)
		store_remove(a->s, KIND_SECRETS, row);
	apply_operation_end(a, pool->operation, PHASE_SUCCEEDED, STR_NONE, STR_NONE);
	ledger_pool_gone(a->s, pool->uid);
	store_remove(a->s, KIND_POOLS, pool);
}

void apply_settle(struct apply *a, uint64_t uid)
{
	const struct pool_row *pool = state_pool(a->s, uid);
	struct pool_counts n = state_pool_counts(a->s, uid);
	uint32_t sessions = n.waiting + n.live + n.closing, over;
	struct pool_row row;

	if (pool == NULL)
		return;
	if (pool->provisioning == PROVISIONING_DELETING && sessions == 0 &&
	    n.booting + n.ready + n.bound + n.stopping == 0) {
		remove_pool(a, pool);
		return;
	}
	over = sessions > pool->limits.max_sessions ? sessions - pool->limits.max_sessions : 0;
	if (over < pool->sessions_over) {
		row = *pool;
		row.sessions_over = over;
		pool = store_put(a->s, KIND_POOLS, &row);
	}
	/* Only a pool that was updated has more revisions than these two. */
	if (state_next_revision(a->s, uid, state_next_revision(a->s, uid, NULL)) != NULL)
		drop_revisions(a, pool);
}

/* -- PUT --------------------------------------------------------------------------------------------------------- */

static bool put_is_sound(struct apply *a, const struct msg_pool_put *c, const struct pool_row *old)
{
	if (c->subscription.n == 0 || c->resource_group.n == 0 || c->name.n == 0) {
		apply_refuse(a, -EINVAL, "subscription, resource_group and name must not be empty");
	} else if (c->limits.max_sessions < 1 || c->limits.max_sessions > SESSIONS_MAX ||
		   c->limits.ready_target > SESSIONS_MAX) {
		apply_refuse(a, -EINVAL, "limits.max_sessions: allowed 1 to %u, limits.ready_target up to %u",
			     SESSIONS_MAX, SESSIONS_MAX);
	} else if (c->limits.cooldown_ms > APPLY_DURATION_MAX ||
		   c->limits.max_alive_ms > APPLY_DURATION_MAX) {
		apply_refuse(a, -EINVAL, "limits.cooldown_ms and limits.max_alive_ms: allowed up to %llu ms",
			     (unsigned long long)APPLY_DURATION_MAX);
	} else if (c->template.cpu_milli == 0 || c->template.memory_bytes == 0 ||
		   c->template.memory_bytes > MEMORY_MAX) {
		apply_refuse(
			a, -EINVAL,
			"template.cpu_milli and template.memory_bytes: allowed above 0, memory up to 2^50");
	} else if (c->expect_uid != 0 && (old == NULL || old->uid != c->expect_uid)) {
		apply_refuse(a, -ESTALE, "pool %" PRIu64 " is not there any more", c->expect_uid);
	} else if (c->expect_operation != 0 && (old == NULL || old->operation != c->expect_operation)) {
		apply_refuse(a, -ESTALE, "the pool was changed since it was read");
	} else if (old != NULL && old->provisioning == PROVISIONING_DELETING) {
		apply_refuse(a, -EBUSY, "pool %" PRIu64 " is being deleted", old->uid);
	} else if (old != NULL && old->isolation != c->isolation) {
		apply_refuse(
			a, -EROFS,
			"the pool's isolation is \"%s\" since it was made and cannot change: make another "
			"pool with \"%s\"",
			isolation_name[old->isolation], isolation_name[c->isolation]);
	} else {
		return true;
	}
	return false;
}

static bool secrets_are_sound(struct apply *a, const struct msg_pool_put *c, uint64_t pool)
{
	for (uint32_t i = 0; i < c->n_secrets; i++) {
		const struct secret_put *secret = &c->secrets[i];

		for (uint32_t k = 0; k < i; k++) {
			if (str_eq(c->secrets[k].name, secret->name)) {
				apply_refuse(a, -EINVAL, "secrets: \"%.*s\" appears twice",
					     STR_ARGS(secret->name));
				return false;
			}
		}
		if (secret->name.n == 0 ||
		    (secret->sealed.n == 0 && state_secret(a->s, pool, secret->name) == NULL)) {
			apply_refuse(a, -EINVAL, "secrets: \"%.*s\" has no value, and none is stored",
				     STR_ARGS(secret->name));
			return false;
		}
		if (secret->sealed.n > 0 && !apply_sealed_is_known(a, secret->sealed)) {
			apply_refuse(a, -ESTALE,
				     "secrets: \"%.*s\" is sealed under a key that was retired meanwhile",
				     STR_ARGS(secret->name));
			return false;
		}
	}
	return true;
}

/* The named ones become the pool's secrets; one without a value keeps the stored value. */
static void put_secrets(struct apply *a, const struct msg_pool_put *c, uint64_t pool)
{
	const struct secret_row *row = NULL;

	while ((row = state_next_secret(a->s, pool, row)) != NULL) {
		bool named = false;

		for (uint32_t i = 0; i < c->n_secrets; i++)
			named |= str_eq(c->secrets[i].name, row->name);
		if (!named)
			store_remove(a->s, KIND_SECRETS, row);
	}
	for (uint32_t i = 0; i < c->n_secrets; i++) {
		struct secret_row put = {
			.pool = pool, .name = c->secrets[i].name, .sealed = c->secrets[i].sealed};

		if (put.sealed.n > 0)
			store_put(a->s, KIND_SECRETS, &put);
	}
}

/* The pool's row of a PUT, with a new operation; the old operation is ended. */
static void start_operation(struct apply *a, struct pool_row *pool, bool created, bool nothing_to_do)
{
	struct operation_row operation = {.id = apply_next_id(a),
					  .pool = pool->uid,
					  .revision = pool->desired_revision,
					  .kind = created ? OPERATION_CREATE : OPERATION_UPDATE,
					  .phase = PHASE_RESOLVE,
					  .started_ms = a->now_ms};

	apply_operation_end(a, pool->operation, PHASE_CANCELED, STR("Canceled"),
			    STR("a newer update replaced this one"));
	pool->operation = operation.id;
	pool->provisioning = PROVISIONING_IN_PROGRESS;
	if (nothing_to_do) {
		operation.phase = PHASE_SUCCEEDED;
		operation.ended_ms = a->now_ms;
		pool->provisioning = PROVISIONING_SUCCEEDED;
	}
	store_put(a->s, KIND_OPERATIONS, &operation);
}

/* At once, for all: each node sees its rows change. */
static void turn_egress_off(struct apply *a, uint64_t pool)
{
	for (const struct sandbox_row *sandbox = NULL;
	     (sandbox = state_next_pool_sandbox(a->s, pool, sandbox)) != NULL;) {
		struct sandbox_row row = *sandbox;

		row.egress = false;
		if (sandbox->egress)
			sandbox = store_put(a->s, KIND_SANDBOXES, &row);
	}
}

static void put_row(struct apply *a, const struct msg_pool_put *c, const struct pool_row *old)
{
	struct pool_row row =
		old != NULL ? *old : (struct pool_row){.uid = apply_next_id(a), .created_ms = a->now_ms};
	struct pool_counts n = state_pool_counts(a->s, row.uid);
	uint32_t sessions = n.waiting + n.live + n.closing;
	bool fresh = old == NULL || c->new_revision;

	if (old == NULL) {
		row.subscription = c->subscription;
		row.resource_group = c->resource_group;
		row.name = c->name;
		row.isolation = c->isolation;
	}
	row.document = c->document;
	row.limits = c->limits;
	row.changed_ms = a->now_ms;
	row.sessions_over = sessions > c->limits.max_sessions ? sessions - c->limits.max_sessions : 0;
	if (fresh)
		row.desired_revision = apply_next_id(a);
	start_operation(a, &row, old == NULL,
			!fresh && old->provisioning == PROVISIONING_SUCCEEDED &&
				row.desired_revision == row.active_revision);
	a->result->id = row.uid;
	a->result->operation = row.operation;
	a->result->created = old == NULL;
	store_put(a->s, KIND_POOLS, &row);
	if (fresh)
		store_put(a->s, KIND_REVISIONS,
			  &(struct revision_row){.pool = row.uid,
						 .revision = row.desired_revision,
						 .template = c->template,
						 .created_ms = a->now_ms});
	put_secrets(a, c, row.uid);
	if (!row.limits.egress)
		turn_egress_off(a, row.uid);
	apply_settle(a, row.uid);
	apply_trim(a, row.uid);
}

void apply_pool_put(struct apply *a, const void *body)
{
	const struct msg_pool_put *c = body;
	const struct pool_row *old = state_pool_by_name(a->s, c->subscription, c->resource_group, c->name);

	if (put_is_sound(a, c, old) && secrets_are_sound(a, c, old == NULL ? 0 : old->uid))
		put_row(a, c, old);
}

/* -- DELETE ------------------------------------------------------------------------------------------------------ */

static void end_all_of(struct apply *a, uint64_t pool)
{
	const struct session_row *session = NULL;
	const struct sandbox_row *sandbox = NULL;

	while ((session = state_next_pool_session(a->s, pool, session)) != NULL) {
		if (session->state == SESSION_WAITING)
			store_remove(a->s, KIND_SESSIONS, session);
		else if (session->state == SESSION_LIVE)
			apply_session_close(a, session, REAP_POOL_DELETED);
	}
	while ((sandbox = state_next_pool_sandbox(a->s, pool, sandbox)) != NULL) {
		struct sandbox_row row = *sandbox;

		row.state = SANDBOX_STOPPING;
		if (sandbox->state == SANDBOX_BOOTING || sandbox->state == SANDBOX_READY)
			store_put(a->s, KIND_SANDBOXES, &row);
	}
}

void apply_pool_delete(struct apply *a, const void *body)
{
	const struct msg_pool_delete *c = body;
	const struct pool_row *pool = state_pool(a->s, c->pool);
	struct operation_row operation = {
		.pool = c->pool, .kind = OPERATION_DELETE, .phase = PHASE_DRAIN, .started_ms = a->now_ms};
	struct pool_row row;

	if (pool == NULL) {
		apply_refuse(a, -ENOENT, "no pool %" PRIu64, c->pool);
		return;
	}
	a->result->id = c->pool;
	a->result->operation = pool->operation;
	if (pool->provisioning == PROVISIONING_DELETING)
		return;
	apply_operation_end(a, pool->operation, PHASE_CANCELED, STR("Canceled"),
			    STR("the pool is being deleted"));
	operation.id = apply_next_id(a);
	operation.revision = pool->desired_revision;
	row = *pool;
	row.operation = operation.id;
	row.provisioning = PROVISIONING_DELETING;
	row.changed_ms = a->now_ms;
	a->result->operation = operation.id;
	store_put(a->s, KIND_OPERATIONS, &operation);
	store_put(a->s, KIND_POOLS, &row);
	end_all_of(a, c->pool);
	apply_settle(a, c->pool);
}
