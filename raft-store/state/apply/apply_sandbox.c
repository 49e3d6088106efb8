/* apply_sandbox.c -- booting -> ready -> bound -> gone, with booting and ready -> stopping -> gone beside it.
 * A bound sandbox never becomes ready again; it ends together with its session. */
#include <errno.h>
#include <inttypes.h>

#include "state/apply/apply.h"
#include "core/must.h"

static uint64_t clamp(uint64_t x, uint64_t low, uint64_t high)
{
	return x < low ? low : x > high ? high : x;
}

/* -- Parts ------------------------------------------------------------------------------------------------------ */

void apply_sandbox_remove(struct apply *a, const struct sandbox_row *sandbox)
{
	uint64_t node = sandbox->node;

	apply_reserve(a, node, sandbox, false);
	if (sandbox->target != 0)
		apply_reserve(a, sandbox->target, sandbox, false);
	store_remove(a->s, KIND_SANDBOXES, sandbox);
	apply_drained(a, node);
}

const struct session_row *apply_bind(struct apply *a, const struct session_row *session,
				     const struct sandbox_row *sandbox)
{
	struct session_row live = *session;
	struct sandbox_row bound = *sandbox;

	must(sandbox->state == SANDBOX_READY && sandbox->generation == 0);
	bound.state = SANDBOX_BOUND;
	bound.generation = live.generation;
	live.state = SESSION_LIVE;
	live.sandbox = sandbox->id;
	live.node = sandbox->node;
	live.index = a->index;
	live.opened_ms = a->now_ms;
	store_put(a->s, KIND_SANDBOXES, &bound);
	ledger_opened(a->s, live.pool, a->now_ms);
	return store_put(a->s, KIND_SESSIONS, &live);
}

void apply_session_end(struct apply *a, const struct session_row *session, uint64_t stopped_ms, bool unserved,
		       uint8_t reason)
{
	const struct sandbox_row *sandbox = state_sandbox(a->s, session->sandbox);
	struct ledger_end end = {
		.sandbox = sandbox, .session = session, .now_ms = a->now_ms, .reason = reason};

	must(sandbox != NULL && session->state != SESSION_WAITING);
	/* Behind it the rates were others. */
	uint64_t first_ms = sandbox->slept_ms > session->opened_ms ? sandbox->slept_ms : session->opened_ms;

	end.stopped_ms = unserved ? first_ms : clamp(stopped_ms, first_ms, a->now_ms);
	end.number = apply_next_id(a);
	end.correction = apply_next_id(a);
	ledger_ended(a->s, &end);
	store_remove(a->s, KIND_SESSIONS, session);
	apply_sandbox_remove(a, sandbox);
	apply_settle(a, session->pool);
}

void apply_sandbox_end(struct apply *a, const struct sandbox_row *sandbox, uint64_t stopped_ms)
{
	struct ledger_end end = {.sandbox = sandbox, .now_ms = a->now_ms, .reason = REAP_STOPPED};

	must(sandbox->state != SANDBOX_BOUND);
	if (sandbox->ready_ms != 0) {
		end.stopped_ms = clamp(stopped_ms, sandbox->ready_ms, a->now_ms);
		end.number = apply_next_id(a);
		end.correction = apply_next_id(a);
		ledger_ended(a->s, &end);
	}
	apply_sandbox_remove(a, sandbox);
	apply_settle(a, sandbox->pool);
}

struct session_ref apply_session_ref(const struct session_row *session)
{
	return (struct session_ref){.pool = session->pool,
				    .generation = session->generation,
				    .sandbox = session->sandbox,
				    .node = session->node,
				    .index = session->index,
				    .opened_ms = session->opened_ms};
}

/* -- Commands --------------------------------------------------------------------------------------------------- */

bool apply_fits(struct apply *a, const struct node_row *node, uint32_t cpu_milli, uint64_t memory_bytes)
{
	const struct settings *x = &a->cluster.settings;

	if (node->cpu_reserved + cpu_milli <= node->cpu_milli * x->overcommit_cpu &&
	    node->memory_reserved + memory_bytes <= node->memory_bytes * x->overcommit_memory)
		return true;
	apply_refuse(a, -ENOSPC, "node %" PRIu64 ": no room for %u milli-vCPU and %" PRIu64 " bytes",
		     node->id, cpu_milli, memory_bytes);
	return false;
}

/* Whether the node can take it; refuses otherwise. */
static bool has_room(struct apply *a, const struct node_row *node, const struct pool_row *pool,
		     const struct template *t, uint64_t id)
{
	if (node == NULL) {
		apply_refuse(a, -ENODEV, "no node %" PRIu64, id);
		return false;
	}
	if (node->state != NODE_UP || node->cordoned) {
		apply_refuse(a, -EHOSTDOWN, "node %" PRIu64 " is %s", id,
			     node->state != NODE_UP ? "lost" : "cordoned");
		return false;
	}
	if (!template_labels_fit(t, node->labels)) {
		apply_refuse(a, -ENODEV, "node %" PRIu64 ": it has not the labels %.*s", id,
			     STR_ARGS(t->node_labels));
		return false;
	}
	if (!state_node_runs(node, pool->isolation)) {
		apply_refuse(a, -ENODEV, "node %" PRIu64 ": it cannot run isolation \"%s\"%s%.*s", id,
			     isolation_name[pool->isolation], node->no_vm.n > 0 ? ": " : "",
			     STR_ARGS(node->no_vm));
		return false;
	}
	return apply_fits(a, node, t->cpu_milli, t->memory_bytes);
}

void apply_sandbox_boot(struct apply *a, const void *body)
{
	const struct cmd_sandbox_boot *c = body;
	const struct pool_row *pool = state_pool(a->s, c->pool);
	const struct revision_row *revision = state_revision(a->s, c->pool, c->revision);
	const struct node_row *node = state_node(a->s, c->node);
	struct pool_counts counts = state_pool_counts(a->s, c->pool);
	struct sandbox_row row;
	struct node_row reserved;

	if (pool == NULL) {
		apply_refuse(a, -ENOENT, "no pool %" PRIu64, c->pool);
		return;
	}
	if (pool->provisioning == PROVISIONING_DELETING) {
		apply_refuse(a, -ESHUTDOWN, "pool %" PRIu64 " is being deleted", c->pool);
		return;
	}
	if (revision == NULL || c->revision != pool->active_revision) {
		apply_refuse(a, -ESTALE, "revision %" PRIu64 " is not the active one of pool %" PRIu64,
			     c->revision, c->pool);
		return;
	}
	if (counts.ready - state_pool_moving(a->s, c->pool) + counts.booting >=
	    apply_spare_max(pool, &counts)) {
		apply_refuse(
			a, -EDQUOT,
			"pool %" PRIu64
			" has %u ready and %u booting sandboxes, enough for %u waiters and a target of %u",
			c->pool, counts.ready, counts.booting, counts.waiting, pool->limits.ready_target);
		return;
	}
	if (!has_room(a, node, pool, &revision->template, c->node))
		return;
	row = (struct sandbox_row){.id = apply_next_id(a),
				   .pool = c->pool,
				   .revision = c->revision,
				   .node = c->node,
				   .node_epoch = node->epoch,
				   .state = SANDBOX_BOOTING,
				   .cpu_milli = revision->template.cpu_milli,
				   .memory_bytes = revision->template.memory_bytes,
				   .created_ms = a->now_ms,
				   .egress = pool->limits.egress};
	reserved = *node;
	reserved.cpu_reserved += row.cpu_milli;
	reserved.memory_reserved += row.memory_bytes;
	store_put(a->s, KIND_NODES, &reserved);
	store_put(a->s, KIND_SANDBOXES, &row);
	a->result->id = row.id;
	a->result->created = true;
}

/* The sandbox, if the asking node owns it; refuses otherwise. */
static const struct sandbox_row *owned(struct apply *a, uint64_t id)
{
	const struct sandbox_row *sandbox = state_sandbox(a->s, id);

	if (sandbox == NULL) {
		apply_refuse(a, -ENOENT, "no sandbox %" PRIu64, id);
		return NULL;
	}
	if (sandbox->node != a->command->node) {
		apply_refuse(a, -EPERM, "sandbox %" PRIu64 " is of node %" PRIu64, id, sandbox->node);
		return NULL;
	}
	return sandbox;
}

static void clear_failure(struct apply *a, uint64_t uid)
{
	struct pool_row pool = *state_pool(a->s, uid);

	if (pool.failures == 0 && pool.failure.n == 0)
		return;
	pool.failures = 0;
	pool.failure = STR_NONE;
	pool.failed_ms = 0;
	store_put(a->s, KIND_POOLS, &pool);
}

void apply_sandbox_ready(struct apply *a, const void *body)
{
	const struct cmd_sandbox *c = body;
	const struct sandbox_row *sandbox = owned(a, c->sandbox);
	const struct session_row *waiter;
	struct sandbox_row row;

	if (sandbox == NULL)
		return;
	if (sandbox->state != SANDBOX_BOOTING) {
		apply_refuse(a, sandbox->state == SANDBOX_STOPPING ? -ESHUTDOWN : -EALREADY,
			     "sandbox %" PRIu64 " is %s", c->sandbox, sandbox_state_name[sandbox->state]);
		return;
	}
	row = *sandbox;
	row.state = SANDBOX_READY;
	row.ready_ms = a->now_ms;
	sandbox = store_put(a->s, KIND_SANDBOXES, &row);
	ledger_ready(a->s, sandbox, a->now_ms);
	clear_failure(a, row.pool);
	a->result->id = row.id;
	waiter = state_next_waiter(a->s, row.pool, NULL);
	if (waiter != NULL)
		a->result->session = apply_session_ref(apply_bind(a, waiter, sandbox));
	else
		apply_trim(a, row.pool); /* it may replace one that leaves */
}

void apply_sandbox_stopping(struct apply *a, const void *body)
{
	const struct cmd_sandbox *c = body;
	const struct sandbox_row *sandbox = state_sandbox(a->s, c->sandbox);
	struct sandbox_row row;

	if (sandbox == NULL) {
		apply_refuse(a, -ENOENT, "no sandbox %" PRIu64, c->sandbox);
		return;
	}
	if (sandbox->state == SANDBOX_BOUND) {
		apply_refuse(a, -EBUSY, "sandbox %" PRIu64 " is bound: its session has to end first",
			     c->sandbox);
		return;
	}
	a->result->id = c->sandbox;
	if (sandbox->state == SANDBOX_STOPPING)
		return;
	row = *sandbox;
	row.state = SANDBOX_STOPPING;
	store_put(a->s, KIND_SANDBOXES, &row);
}

/* One of an older revision says nothing about the pool as it is now. */
static void count_failure(struct apply *a, const struct sandbox_row *sandbox, struct str message)
{
	const struct pool_row *pool = state_pool(a->s, sandbox->pool);
	struct pool_row row;

	if (pool == NULL || sandbox->revision != pool->active_revision)
		return;
	row = *pool;
	row.failures += row.failures < UINT32_MAX;
	row.failure = message.n > 0 ? message : STR("the sandbox ended without saying why");
	row.failed_ms = a->now_ms;
	store_put(a->s, KIND_POOLS, &row);
}

void apply_sandbox_gone(struct apply *a, const void *body)
{
	const struct cmd_sandbox_gone *c = body;
	const struct sandbox_row *sandbox = owned(a, c->sandbox);
	const struct session_row *session;

	if (sandbox == NULL)
		return;
	a->result->id = c->sandbox;
	if (c->failed)
		count_failure(a, sandbox, c->message);
	if (sandbox->state == SANDBOX_BOUND) {
		session = state_session_by_generation(a->s, sandbox->generation);
		must(session != NULL);
		apply_session_end(a, session, c->stopped_ms, c->unserved,
				  session->state == SESSION_CLOSING ? session->reason
				  : c->unserved                     ? REAP_DEAD
				  : c->out_of_memory                ? REAP_OUT_OF_MEMORY
								    : REAP_EXITED);
	} else {
		apply_sandbox_end(a, sandbox, c->stopped_ms);
	}
}
