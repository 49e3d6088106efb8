/* check.c -- the invariants that tables can show, recounted from the rows alone: nothing here trusts a kept count.
 * Numbers as in docs/architecture.md. Each function checks one table; the first fault ends it. */
#include <errno.h>
#include <inttypes.h>

#include "wire/sealed.h"
#include "state/apply/apply.h"
#include "state/store.h"

#define FAULT(...) return err_set(err, -EILSEQ, __VA_ARGS__)
#define HOLDS(condition, ...)               \
	do {                                \
		if (!(condition))           \
			FAULT(__VA_ARGS__); \
	} while (0)

/* -- Cluster and nodes ------------------------------------------------------------------------------------------- */

static int check_cluster(const struct state *s, struct err *err)
{
	const struct cluster_row *c = state_cluster(s);

	HOLDS(s->rows[KIND_CLUSTER].n == 1 && c != NULL, "cluster: not one row");
	HOLDS(c->feature_level <= FEATURE_LEVEL, "cluster: feature level %u", c->feature_level);
	HOLDS(c->time_ms <= APPLY_TIME_MAX, "cluster: time %" PRIu64, c->time_ms);
	if (c->id.n == 0) {
		HOLDS(s->rows[KIND_NODES].n == 0 && s->rows[KIND_POOLS].n == 0,
		      "cluster: rows before it was initialised");
		return 0;
	}
	HOLDS(c->incarnation > 0 && c->counter >= APPLY_FIRST_ID,
	      "cluster: incarnation %" PRIu64 ", counter %" PRIu64, c->incarnation, c->counter);
	HOLDS(c->settings.overcommit_cpu >= 1 && c->settings.overcommit_cpu <= 1000 &&
		      c->settings.overcommit_memory >= 1 && c->settings.overcommit_memory <= 1000,
	      "cluster: overcommit");
	HOLDS(c->settings.queue_ms <= APPLY_DURATION_MAX && c->settings.lease_ms <= APPLY_DURATION_MAX &&
		      c->settings.lost_ms <= APPLY_DURATION_MAX &&
		      c->settings.operation_kept_ms <= APPLY_DURATION_MAX &&
		      c->settings.pull_retry_ms <= APPLY_DURATION_MAX &&
		      c->settings.start_ms <= APPLY_DURATION_MAX,
	      "cluster: a duration is above a hundred years");
	return 0;
}

/* What is reserved at the node for sandboxes that are on their way to it. */
static void add_arrivals(const struct state *s, uint64_t node, unsigned __int128 *cpu,
			 unsigned __int128 *memory)
{
	for (const struct sandbox_row *b = NULL; (b = state_next_sandbox(s, b)) != NULL;) {
		if (b->target != node || b->asleep)
			continue;
		*cpu += b->cpu_milli;
		*memory += b->memory_bytes;
	}
}

static int check_nodes(const struct state *s, struct err *err)
{
	const struct cluster_row *c = state_cluster(s);
	uint64_t seen = 0;

	for (const struct node_row *n = NULL; (n = state_next_node(s, n)) != NULL;) {
		unsigned __int128 cpu = 0, memory = 0;

		for (const struct sandbox_row *b = NULL; (b = state_next_node_sandbox(s, n->id, b)) != NULL;
		     seen++) {
			cpu += b->asleep ? 0 : b->cpu_milli;
			memory += b->asleep ? 0 : b->memory_bytes;
		}
		add_arrivals(s, n->id, &cpu, &memory);
		HOLDS(n->id != 0 && n->id <= c->counter && n->epoch <= c->counter,
		      "node %" PRIu64 ": id or epoch", n->id);
		HOLDS(n->cpu_milli <= UINT64_MAX / 2000 && n->memory_bytes <= UINT64_MAX / 2000,
		      "node %" PRIu64 ": capacity", n->id);
		HOLDS(n->renewed_ms <= c->time_ms, "node %" PRIu64 ": renewed in the future", n->id);
		HOLDS(cpu == n->cpu_reserved && memory == n->memory_reserved,
		      "node %" PRIu64 ": reservations are not the sum of its sandboxes'", n->id);
		HOLDS(cpu <= n->cpu_milli * c->settings.overcommit_cpu &&
			      memory <= n->memory_bytes * c->settings.overcommit_memory,
		      "node %" PRIu64 ": (3) reservations exceed its capacity", n->id);
		HOLDS(n->isolations >> ISOLATIONS == 0 && (n->isolations != 0 || n->epoch == 0),
		      "node %" PRIu64 ": isolations %#x", n->id, n->isolations);
		HOLDS(n->member == MEMBER_NONE || n->voter, "node %" PRIu64 ": a worker in the log", n->id);
		HOLDS(n->state == NODE_UP || cpu == 0, "node %" PRIu64 ": lost, and has sandboxes", n->id);
		HOLDS(n->cordoned || !n->draining, "node %" PRIu64 ": drains, and is not cordoned", n->id);
		HOLDS(n->draining || (n->drain_started_ms == 0 && n->drained_ms == 0),
		      "node %" PRIu64 ": the times of a drain that is over", n->id);
		HOLDS(!n->draining ||
			      (n->drained_ms != 0) == (state_next_node_sandbox(s, n->id, NULL) == NULL),
		      "node %" PRIu64 ": drained?", n->id);
	}
	HOLDS(seen == s->rows[KIND_SANDBOXES].n && s->by_node.n == seen, "sandboxes: some belong to no node");
	for (const struct row *r = tree_first(&s->rows[KIND_IMAGES]); r != NULL;
	     r = tree_seek(&s->rows[KIND_IMAGES], kind_types[KIND_IMAGES].key(r->value), true)) {
		const struct image_row *image = (const void *)r->value;

		HOLDS(state_node(s, image->node) != NULL && image->digest.n > 0,
		      "image of node %" PRIu64 ": no such node", image->node);
	}
	return 0;
}

static int check_results(const struct state *s, struct err *err)
{
	const struct tree *t = &s->rows[KIND_RESULTS];

	for (const struct row *r = tree_first(t); r != NULL; r = tree_seek(t, t->key(r->value), true)) {
		const struct result_row *kept = (const void *)r->value;
		const struct node_row *node = state_node(s, kept->node);

		HOLDS(node != NULL && kept->sequence <= node->sequence &&
			      node->sequence - kept->sequence < RESULTS_KEPT,
		      "kept result %" PRIu64 " of node %" PRIu64 ": outside of what is kept", kept->sequence,
		      kept->node);
	}
	return 0;
}

/* -- Pools ------------------------------------------------------------------------------------------------------- */

static int check_operation(const struct state *s, const struct pool_row *p, struct err *err)
{
	const struct operation_row *o = state_operation(s, p->operation);

	HOLDS(o != NULL && o->pool == p->uid, "pool %" PRIu64 ": its operation is missing", p->uid);
	HOLDS((p->provisioning == PROVISIONING_DELETING) == (o->kind == OPERATION_DELETE),
	      "pool %" PRIu64 ": deleting?", p->uid);
	HOLDS((o->ended_ms == 0) == (p->provisioning == PROVISIONING_DELETING ||
				     p->provisioning == PROVISIONING_IN_PROGRESS),
	      "pool %" PRIu64 ": %s, but its operation is not", p->uid, provisioning_name[p->provisioning]);
	HOLDS(o->ended_ms != 0 || o->kind == OPERATION_DELETE ||
		      (o->revision == p->desired_revision && state_revision(s, p->uid, o->revision) != NULL),
	      "pool %" PRIu64 ": its operation is about another revision", p->uid);
	return 0;
}

static struct pool_counts recount(const struct state *s, uint64_t pool)
{
	struct pool_counts n = {0};

	for (const struct sandbox_row *b = NULL; (b = state_next_pool_sandbox(s, pool, b)) != NULL;) {
		n.booting += b->state == SANDBOX_BOOTING;
		n.ready += b->state == SANDBOX_READY;
		n.bound += b->state == SANDBOX_BOUND;
		n.stopping += b->state == SANDBOX_STOPPING;
	}
	for (const struct session_row *e = NULL; (e = state_next_pool_session(s, pool, e)) != NULL;) {
		n.waiting += e->state == SESSION_WAITING;
		n.live += e->state == SESSION_LIVE;
		n.closing += e->state == SESSION_CLOSING;
	}
	return n;
}

static int check_pool(const struct state *s, const struct pool_row *p, struct err *err)
{
	struct pool_counts n = recount(s, p->uid), kept = state_pool_counts(s, p->uid);
	uint32_t sessions = n.waiting + n.live + n.closing, open, moving = state_pool_moving(s, p->uid);

	HOLDS(p->uid != 0 && p->uid <= state_cluster(s)->counter, "pool %" PRIu64 ": uid", p->uid);
	HOLDS(state_pool_by_name(s, p->subscription, p->resource_group, p->name) == p,
	      "pool %" PRIu64 ": not found by name", p->uid);
	HOLDS(n.booting == kept.booting && n.ready == kept.ready && n.bound == kept.bound &&
		      n.stopping == kept.stopping && n.waiting == kept.waiting && n.live == kept.live &&
		      n.closing == kept.closing,
	      "pool %" PRIu64 ": kept counts are not the rows'", p->uid);
	HOLDS(p->limits.max_sessions >= 1 && sessions <= (uint64_t)p->limits.max_sessions + p->sessions_over,
	      "pool %" PRIu64 ": (3) %u sessions, allowed %u and %u more", p->uid, sessions,
	      p->limits.max_sessions, p->sessions_over);
	open = apply_spare_max(p, &n);
	HOLDS(n.ready - moving + n.booting <= open,
	      "pool %" PRIu64 ": (3) %u ready, %u of them moving, and %u booting, allowed %u", p->uid,
	      n.ready, moving, n.booting, open);
	HOLDS(n.ready == 0 || n.waiting == 0, "pool %" PRIu64 ": waiters beside ready sandboxes", p->uid);
	HOLDS(n.bound == n.live + n.closing, "pool %" PRIu64 ": (2) %u bound sandboxes for %u sessions",
	      p->uid, n.bound, n.live + n.closing);
	HOLDS(state_revision(s, p->uid, p->desired_revision) != NULL,
	      "pool %" PRIu64 ": desired revision is missing", p->uid);
	HOLDS(p->active_revision == 0 || state_revision(s, p->uid, p->active_revision) != NULL,
	      "pool %" PRIu64 ": active revision is missing", p->uid);
	HOLDS(p->provisioning != PROVISIONING_DELETING ||
		      sessions + n.booting + n.ready + n.bound + n.stopping > 0,
	      "pool %" PRIu64 ": deleted, nothing is left, and still here", p->uid);
	return check_operation(s, p, err);
}

static int check_parts(const struct state *s, struct err *err)
{
	const struct tree *t = &s->rows[KIND_REVISIONS];

	for (const struct row *r = tree_first(t); r != NULL; r = tree_seek(t, t->key(r->value), true)) {
		const struct revision_row *v = (const void *)r->value;

		HOLDS(state_pool(s, v->pool) != NULL && v->revision <= state_cluster(s)->counter,
		      "revision %" PRIu64 ": its pool is missing", v->revision);
	}
	t = &s->rows[KIND_SECRETS];
	for (const struct row *r = tree_first(t); r != NULL; r = tree_seek(t, t->key(r->value), true))
		HOLDS(state_pool(s, t->key(r->value).a) != NULL, "secret of pool %" PRIu64 ": no such pool",
		      t->key(r->value).a);
	for (const struct operation_row *o = NULL; (o = state_next_operation(s, o)) != NULL;) {
		const struct pool_row *p = state_pool(s, o->pool);

		HOLDS(o->id <= state_cluster(s)->counter, "operation %" PRIu64 ": id", o->id);
		HOLDS((o->ended_ms != 0) == (o->phase >= PHASE_SUCCEEDED), "operation %" PRIu64 ": ended?",
		      o->id);
		HOLDS((o->phase == PHASE_DRAIN) <= (o->kind == OPERATION_DELETE),
		      "operation %" PRIu64 ": draining?", o->id);
		HOLDS((o->phase == PHASE_CHANGE) <= (o->kind == OPERATION_MEMBER),
		      "operation %" PRIu64 ": changing?", o->id);
		HOLDS(o->ended_ms != 0 || (p != NULL && p->operation == o->id) ||
			      (o->kind == OPERATION_MEMBER && state_cluster(s)->member_operation == o->id),
		      "operation %" PRIu64 ": runs for nobody", o->id);
	}
	return 0;
}

/* -- Keys ---------------------------------------------------------------------------------------------------------- */

static int check_keys(const struct state *s, struct err *err)
{
	unsigned n[KEY_KINDS] = {0}, next[KEY_KINDS] = {0}, active[KEY_KINDS] = {0};
	const struct tree *t = &s->rows[KIND_SECRETS];

	for (const struct key_row *k = NULL; (k = state_next_key(s, k)) != NULL;) {
		HOLDS(k->id != 0 && k->id <= state_cluster(s)->counter, "key %" PRIu64 ": id", k->id);
		HOLDS(k->kind < KEY_KINDS && k->state < KEY_STATES, "key %" PRIu64 ": kind or state", k->id);
		HOLDS(k->sealed.n > 0 && k->created_ms <= k->since_ms &&
			      k->since_ms <= state_cluster(s)->time_ms && k->keep_ms <= APPLY_DURATION_MAX,
		      "key %" PRIu64 ": no sealed part, or its times", k->id);
		n[k->kind]++;
		next[k->kind] += k->state == KEY_NEXT;
		active[k->kind] += k->state == KEY_ACTIVE;
	}
	for (unsigned kind = 0; kind < KEY_KINDS; kind++)
		HOLDS(n[kind] <= KEYS_OF_A_KIND_MAX && next[kind] <= 1 && active[kind] <= 1 &&
			      (n[kind] == next[kind] || active[kind] == 1),
		      "keys of %s: %u, %u of them active, %u next", key_kind_name[kind], n[kind],
		      active[kind], next[kind]);
	if (n[KEY_SECRETS] == 0)
		return 0;
	for (const struct row *r = tree_first(t); r != NULL; r = tree_seek(t, t->key(r->value), true)) {
		const struct secret_row *secret = (const void *)r->value;
		const struct key_row *key = state_key(s, sealed_key(secret->sealed));

		HOLDS(key != NULL && key->kind == KEY_SECRETS,
		      "secret of pool %" PRIu64 ": its key is missing", secret->pool);
	}
	return 0;
}

/* -- Sandboxes and sessions --------------------------------------------------------------------------------------- */

static int check_sandbox(const struct state *s, const struct sandbox_row *b, struct err *err)
{
	const struct session_row *e =
		b->generation == 0 ? NULL : state_session_by_generation(s, b->generation);
	bool in_ready = tree_find(&s->ready, s->ready.key(b)) == row_of((char *)(uintptr_t)b);

	HOLDS(b->id != 0 && b->id <= state_cluster(s)->counter, "sandbox %" PRIu64 ": id", b->id);
	HOLDS(state_sandbox(s, b->id) == b, "sandbox %" PRIu64 ": not found by id", b->id);
	HOLDS(state_pool(s, b->pool) != NULL && state_revision(s, b->pool, b->revision) != NULL,
	      "sandbox %" PRIu64 ": its pool or revision is missing", b->id);
	HOLDS(!b->egress || state_pool(s, b->pool)->limits.egress,
	      "sandbox %" PRIu64 ": egress, and its pool has none", b->id);
	HOLDS((b->state == SANDBOX_BOUND) == (b->generation != 0),
	      "sandbox %" PRIu64 ": (2) %s with generation %" PRIu64, b->id, sandbox_state_name[b->state],
	      b->generation);
	HOLDS(b->state != SANDBOX_BOUND ||
		      (e != NULL && e->sandbox == b->id && e->pool == b->pool && e->node == b->node),
	      "sandbox %" PRIu64 ": (2) its session does not point back", b->id);
	HOLDS(b->state == SANDBOX_STOPPING || (b->state == SANDBOX_BOOTING) == (b->ready_ms == 0),
	      "sandbox %" PRIu64 ": ready since %" PRIu64 "?", b->id, b->ready_ms);
	HOLDS(b->ready_ms <= state_cluster(s)->time_ms && (b->ready_ms == 0 || b->created_ms <= b->ready_ms),
	      "sandbox %" PRIu64 ": times", b->id);
	HOLDS((b->state == SANDBOX_READY) == in_ready, "sandbox %" PRIu64 ": the list of ready ones is wrong",
	      b->id);
	return 0;
}

static int check_rest(const struct state *s, const struct sandbox_row *b, struct err *err)
{
	const struct session_row *e =
		b->generation == 0 ? NULL : state_session_by_generation(s, b->generation);

	HOLDS(b->state == SANDBOX_BOUND || (b->rest == REST_AWAKE && b->save == 0),
	      "sandbox %" PRIu64 ": %s, and %s", b->id, sandbox_state_name[b->state],
	      sandbox_rest_name[b->rest]);
	HOLDS(e == NULL || e->rest == b->rest, "sandbox %" PRIu64 ": its session rests otherwise", b->id);
	HOLDS(b->rest == REST_AWAKE || (b->save != 0 && b->save <= state_cluster(s)->counter),
	      "sandbox %" PRIu64 ": %s, save %" PRIu64, b->id, sandbox_rest_name[b->rest], b->save);
	HOLDS(b->target == 0 || (b->target != b->node && state_node(s, b->target) != NULL &&
				 state_node(s, b->target)->state == NODE_UP && e->state == SESSION_LIVE &&
				 (b->rest == REST_SAVING || b->rest == REST_SAVED)),
	      "sandbox %" PRIu64 ": moves to node %" PRIu64, b->id, b->target);
	HOLDS(!b->asleep || b->rest == REST_SAVED, "sandbox %" PRIu64 ": asleep, and %s", b->id,
	      sandbox_rest_name[b->rest]);
	HOLDS(b->rest != REST_SAVED || b->asleep || b->target != 0 || e->state == SESSION_CLOSING,
	      "sandbox %" PRIu64 ": saved for nothing", b->id);
	HOLDS(b->slept_ms <= state_cluster(s)->time_ms && (b->slept_ms != 0 || !b->asleep),
	      "sandbox %" PRIu64 ": sleep", b->id);
	return 0;
}

static int check_session(const struct state *s, const struct session_row *e, struct err *err)
{
	const struct sandbox_row *b = e->sandbox == 0 ? NULL : state_sandbox(s, e->sandbox);
	bool in_waiters = tree_find(&s->waiters, s->waiters.key(e)) == row_of((char *)(uintptr_t)e);

	HOLDS(state_pool(s, e->pool) != NULL, "generation %" PRIu64 ": its pool is missing", e->generation);
	HOLDS(e->generation != 0 && e->generation <= state_cluster(s)->counter,
	      "generation %" PRIu64 ": never given out", e->generation);
	HOLDS(e->identifier.n >= IDENTIFIER_MIN, "generation %" PRIu64 ": its identifier is too short",
	      e->generation);
	HOLDS(state_session(s, e->pool, e->identifier) == e,
	      "generation %" PRIu64 ": (1) not the one session of its identifier", e->generation);
	HOLDS(state_session_by_generation(s, e->generation) == e, "generation %" PRIu64 ": not found by it",
	      e->generation);
	HOLDS((e->state == SESSION_WAITING) == (e->sandbox == 0),
	      "generation %" PRIu64 ": %s with sandbox %" PRIu64, e->generation, session_state_name[e->state],
	      e->sandbox);
	HOLDS(e->state == SESSION_WAITING || (b != NULL && b->generation == e->generation),
	      "generation %" PRIu64 ": (2) its sandbox serves another", e->generation);
	HOLDS(e->opened_ms <= state_cluster(s)->time_ms && e->asked_ms <= state_cluster(s)->time_ms &&
		      (b == NULL || b->ready_ms <= e->opened_ms),
	      "generation %" PRIu64 ": times", e->generation);
	HOLDS((e->state == SESSION_WAITING) == in_waiters,
	      "generation %" PRIu64 ": the list of waiters is wrong", e->generation);
	return 0;
}

/* -- Ledger and hash ---------------------------------------------------------------------------------------------- */

static int check_rates(const struct state *s, struct err *err)
{
	const struct tree *t = &s->rows[KIND_RATES];

	for (const struct row *r = tree_first(t); r != NULL; r = tree_seek(t, t->key(r->value), true))
		HOLDS(state_pool(s, t->key(r->value).a) != NULL, "rate of pool %" PRIu64 ": no such pool",
		      t->key(r->value).a);
	for (const struct pool_row *p = NULL; (p = state_next_pool(s, p)) != NULL;) {
		const struct rate_row none = {0}, *rate = state_rate(s, p->uid);
		struct pool_counts n = recount(s, p->uid);
		uint64_t cpu = 0, memory = 0, running = 0, asleep = 0;

		for (const struct sandbox_row *b = NULL;
		     (b = state_next_pool_sandbox(s, p->uid, b)) != NULL;) {
			if (b->ready_ms == 0)
				continue;
			if (b->asleep) {
				asleep += b->memory_bytes;
				continue;
			}
			running++;
			cpu += b->cpu_milli;
			memory += b->memory_bytes;
		}
		rate = rate == NULL ? &none : rate;
		HOLDS(rate->since_ms <= state_cluster(s)->time_ms, "rate of pool %" PRIu64 ": in the future",
		      p->uid);
		HOLDS(rate->sandboxes == running && rate->cpu_milli == cpu && rate->memory_bytes == memory &&
			      rate->sessions == n.live + n.closing && rate->asleep_bytes == asleep,
		      "rate of pool %" PRIu64 ": (6) not what runs", p->uid);
	}
	return 0;
}

static int check_buckets(const struct state *s, struct err *err)
{
	uint64_t now = state_cluster(s)->time_ms, final = ledger_final_before(now), pool = 0, end = 0;

	for (const struct bucket_row *b = NULL; (b = state_next_any_bucket(s, b)) != NULL;) {
		HOLDS((b->width_ms == LEDGER_HOUR_MS || b->width_ms == LEDGER_DAY_MS) &&
			      b->start_ms % b->width_ms == 0 && b->start_ms <= now,
		      "bucket %" PRIu64 " of pool %" PRIu64 ": odd bounds", b->start_ms, b->pool);
		HOLDS(b->pool != pool || b->start_ms >= end,
		      "bucket %" PRIu64 " of pool %" PRIu64 ": overlaps", b->start_ms, b->pool);
		HOLDS(b->final == (b->start_ms + b->width_ms <= final),
		      "bucket %" PRIu64 " of pool %" PRIu64 ": final?", b->start_ms, b->pool);
		HOLDS((b->width_ms == LEDGER_DAY_MS) == (b->start_ms < ledger_daily_before(now)),
		      "bucket %" PRIu64 " of pool %" PRIu64 ": hour or day?", b->start_ms, b->pool);
		pool = b->pool;
		end = b->start_ms + b->width_ms;
	}
	HOLDS(s->rows[KIND_RECORDS].n + s->rows[KIND_CORRECTIONS].n <= LEDGER_RECORDS_MAX,
	      "records: too many");
	return 0;
}

static int check_hash(const struct state *s, struct err *err)
{
	CLEANUP_BUF struct buf scratch = {0};

	for (enum kind kind = 0; kind < KINDS; kind++) {
		const struct tree *t = &s->rows[kind];
		uint64_t sum = 0, n = 0;

		for (const struct row *r = tree_first(t); r != NULL;
		     r = tree_seek(t, t->key(r->value), true), n++)
			sum += store_row_hash(&scratch, kind, r->value);
		HOLDS(sum == s->sums[kind] && n == t->n, "table %s: the kept hash or count is wrong",
		      kind_types[kind].codec->name);
	}
	return 0;
}

int state_check(const struct state *s, struct err *err)
{
	int r = check_cluster(s, err);

	if (r == 0)
		r = check_nodes(s, err);
	if (r == 0)
		r = check_results(s, err);
	for (const struct pool_row *p = NULL; r == 0 && (p = state_next_pool(s, p)) != NULL;)
		r = check_pool(s, p, err);
	if (r == 0)
		r = check_parts(s, err);
	if (r == 0)
		r = check_keys(s, err);
	for (const struct sandbox_row *b = NULL; r == 0 && (b = state_next_sandbox(s, b)) != NULL;)
		r = check_sandbox(s, b, err) < 0 ? -EILSEQ : check_rest(s, b, err);
	for (const struct row *row = tree_first(&s->rows[KIND_SESSIONS]); r == 0 && row != NULL;
	     row = tree_seek(&s->rows[KIND_SESSIONS], s->rows[KIND_SESSIONS].key(row->value), true))
		r = check_session(s, (const void *)row->value, err);
	if (r == 0)
		r = check_rates(s, err);
	if (r == 0)
		r = check_buckets(s, err);
	return r == 0 ? check_hash(s, err) : r;
}
