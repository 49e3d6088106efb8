/* apply_operation.c -- the phases of an update: resolve -> cache -> succeeded, each of which may end failed or cancelled.
 * The leader derives its work from the phase alone; a step names the phase that it leaves, so that it happens once. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"
#include "core/must.h"

static const char *const phase_name[PHASES] = {
	[PHASE_RESOLVE] = "resolve",   [PHASE_CACHE] = "cache",         [PHASE_DRAIN] = "drain",
	[PHASE_CHANGE] = "change",     [PHASE_SUCCEEDED] = "succeeded", [PHASE_FAILED] = "failed",
	[PHASE_CANCELED] = "canceled",
};

/* A delete (drain) ends by itself, with the last sandbox. */
static const bool step_allowed[PHASES][PHASES] = {
	[PHASE_RESOLVE] = {[PHASE_CACHE] = true, [PHASE_FAILED] = true, [PHASE_CANCELED] = true},
	[PHASE_CACHE] = {[PHASE_SUCCEEDED] = true, [PHASE_FAILED] = true, [PHASE_CANCELED] = true},
};

void apply_operations_expire(struct apply *a)
{
	const struct operation_row *row = NULL;

	while ((row = state_next_operation(a->s, row)) != NULL) {
		const struct pool_row *pool = state_pool(a->s, row->pool);

		if (row->ended_ms != 0 &&
		    row->ended_ms + a->cluster.settings.operation_kept_ms <= a->now_ms &&
		    (pool == NULL || pool->operation != row->id))
			store_remove(a->s, KIND_OPERATIONS, row);
	}
}

static void end_of_update(struct apply *a, const struct operation_row *operation,
			  const struct cmd_operation_step *c)
{
	struct pool_row pool = *state_pool(a->s, operation->pool);
	bool succeeded = c->phase == PHASE_SUCCEEDED;

	if (succeeded) {
		pool.active_revision = operation->revision;
		pool.provisioning = PROVISIONING_SUCCEEDED;
		pool.failures = 0;
		pool.failure = STR_NONE;
		pool.failed_ms = 0;
	} else {
		pool.provisioning = c->phase == PHASE_FAILED ? PROVISIONING_FAILED : PROVISIONING_CANCELED;
	}
	apply_operation_end(a, operation->id, c->phase, succeeded ? STR_NONE : c->code,
			    succeeded ? STR_NONE : c->message);
	store_put(a->s, KIND_POOLS, &pool);
	apply_settle(a, pool.uid);
}

static void resolved(struct apply *a, const struct operation_row *operation, struct str digest)
{
	struct operation_row row = *operation;
	struct revision_row revision = *state_revision(a->s, operation->pool, operation->revision);

	if (digest.n > 0) {
		revision.template.digest = digest;
		store_put(a->s, KIND_REVISIONS, &revision);
	}
	row.phase = PHASE_CACHE;
	store_put(a->s, KIND_OPERATIONS, &row);
}

void apply_operation_step(struct apply *a, const void *body)
{
	const struct cmd_operation_step *c = body;
	const struct operation_row *operation = state_operation(a->s, c->operation);
	const struct revision_row *revision;

	if (operation == NULL) {
		apply_refuse(a, -ENOENT, "no operation %" PRIu64, c->operation);
		return;
	}
	if (operation->phase != c->from) {
		apply_refuse(a, -ESTALE, "operation %" PRIu64 " is in %s, not in %s", c->operation,
			     phase_name[operation->phase], phase_name[c->from]);
		return;
	}
	if (!step_allowed[c->from][c->phase]) {
		apply_refuse(a, -EINVAL, "operation %" PRIu64 ": no step from %s to %s", c->operation,
			     phase_name[c->from], phase_name[c->phase]);
		return;
	}
	revision = state_revision(a->s, operation->pool, operation->revision);
	must(revision != NULL);
	if (c->phase == PHASE_CACHE && c->digest.n == 0 && revision->template.digest.n == 0) {
		apply_refuse(a, -EINVAL, "operation %" PRIu64 ": digest: empty, and the revision has none",
			     c->operation);
		return;
	}
	a->result->id = operation->pool;
	a->result->operation = operation->id;
	if (c->phase == PHASE_CACHE)
		resolved(a, operation, c->digest);
	else
		end_of_update(a, operation, c);
}
