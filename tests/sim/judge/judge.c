/* judge.c -- see judge.h. */
#include "sim/judge/judge.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

/* An index of the log: what belongs there, and the hash of the tables behind it. */
struct truth {
	struct buf bytes;
	uint64_t hash;
	bool applied;
};

struct judge {
	struct sim *sim;
	struct truth *log;
	uint64_t index, capacity; /* index: of the last one that was applied anywhere */
	uint32_t every, since_check;
	struct judge_sandbox sandboxes[JUDGE_IDS];
	struct judge_session sessions[JUDGE_IDS]; /* by generation */
	struct history *history;
	struct bill *bill;
	struct repeats *repeats;
	uint64_t newest; /* generation */
};

struct judge *judge_new(struct sim *s)
{
	struct judge *j = calloc(1, sizeof *j);

	must(j != NULL);
	j->sim = s;
	j->history = history_new();
	j->bill = bill_new();
	j->repeats = repeats_new();
	return j;
}

void judge_free(struct judge *j)
{
	for (uint64_t i = 0; i < j->capacity; i++)
		buf_done(&j->log[i].bytes);
	free(j->log);
	history_free(j->history);
	bill_free(j->bill);
	repeats_free(j->repeats);
	free(j);
}

void judge_every(struct sim *s, uint32_t entries)
{
	s->judge->every = entries;
}

const struct buf *judge_bytes(const struct sim *s, uint64_t index)
{
	const struct judge *j = s->judge;

	return index < j->capacity && j->log[index].applied ? &j->log[index].bytes : NULL;
}

uint64_t judge_index(const struct sim *s)
{
	return s->judge->index;
}

static struct truth *truth_at(struct judge *j, uint64_t index)
{
	if (index >= j->capacity) {
		uint64_t capacity = (index + 1) * 2;

		j->log = realloc(j->log, capacity * sizeof *j->log);
		must(j->log != NULL);
		memset(j->log + j->capacity, 0, (capacity - j->capacity) * sizeof *j->log);
		j->capacity = capacity;
	}
	return &j->log[index];
}

void judge_entry(struct sim_node *n, uint64_t index, const void *entry, size_t size)
{
	struct truth *t = truth_at(n->sim->judge, index);

	if (!t->applied && t->bytes.n == 0) {
		if (index < n->sim->judge->index)
			sim_fail(n->sim, "(5) node %llu applies entry %llu, which nobody had",
				 (unsigned long long)n->id, (unsigned long long)index);
		buf_add(&t->bytes, entry, size);
	} else if (t->bytes.n != size || memcmp(t->bytes.p, entry, size) != 0) {
		sim_fail(n->sim, "(5) node %llu applies another entry %llu than others",
			 (unsigned long long)n->id, (unsigned long long)index);
	}
}

/* -- Sandboxes and sessions ----------------------------------------------------------------------------------------- */

struct judge_sandbox *judge_sandbox_of(struct sim *s, uint64_t id)
{
	if (id >= JUDGE_IDS)
		sim_fail(s, "ids grew beyond the judge's tables");
	return &s->judge->sandboxes[id];
}

static struct judge_session *session_of(struct sim *s, uint64_t generation)
{
	if (generation >= JUDGE_IDS)
		sim_fail(s, "generations grew beyond the judge's tables");
	return &s->judge->sessions[generation];
}

const struct judge_sandbox *judge_sandbox(const struct sim *s, uint64_t id)
{
	return id < JUDGE_IDS ? &s->judge->sandboxes[id] : NULL;
}

const struct judge_session *judge_session(const struct sim *s, uint64_t generation)
{
	return generation < JUDGE_IDS ? &s->judge->sessions[generation] : NULL;
}

struct history *judge_history(struct sim *s)
{
	return s->judge->history;
}

static uint32_t identifier_of(struct str text)
{
	struct str head, tail;
	uint64_t number = 0;

	return str_cut(text, '-', &head, &tail) && str_u64(tail, UINT32_MAX, &number) == 0 ? (uint32_t)number
											   : 0;
}

/* Whether something of the sandbox can still act: it runs, and its node's fence has not come. */
static bool acts(struct sim *s, uint64_t sandbox)
{
	uint64_t id = judge_sandbox_of(s, sandbox)->node;

	return id != 0 && sim_acts(sim_node(s, id), sim_run_of(sim_node(s, id), sandbox));
}

/* A node gets nothing that it cannot run. */
static void check_boot(struct sim *s, const struct state *tables, const struct sandbox_row *row)
{
	const struct pool_row *pool = state_pool(tables, row->pool);
	const struct node_row *node = state_node(tables, row->node);

	if (pool != NULL && node != NULL && !state_node_runs(node, pool->isolation))
		sim_fail(s, "(7) sandbox %llu is booted on node %llu, which cannot run isolation %s",
			 (unsigned long long)row->id, (unsigned long long)row->node,
			 isolation_name[pool->isolation]);
}

static void sandbox_changed(struct sim *s, const struct state *tables, uint64_t id)
{
	struct judge_sandbox *b = judge_sandbox_of(s, id);
	const struct sandbox_row *row = state_sandbox(tables, id);
	const struct node_row *node;

	if (row == NULL) {
		node = state_node(tables, b->node);
		b->lost = node != NULL && node->state == NODE_LOST;
		b->ended = true;
		return;
	}
	if (b->ended)
		sim_fail(s, "(2) sandbox %llu came back", (unsigned long long)id);
	if (b->generation != 0 && row->generation != b->generation)
		sim_fail(s, "(2) sandbox %llu is bound a second time", (unsigned long long)id);
	if (b->node == 0)
		check_boot(s, tables, row);
	if (b->node != 0 && b->node != row->node)
		s->counts[FAULT_MOVED]++;
	b->node = row->node;
	b->pool = row->pool;
	b->generation = row->generation;
	b->ready_ms = row->ready_ms;
	b->cpu_milli = row->cpu_milli;
	b->memory_bytes = row->memory_bytes;
	b->slept_ms = row->slept_ms;
}

/* Its identifier is free: whatever happened to it, nothing of it acts any more. */
static void session_ended(struct sim *s, uint64_t generation)
{
	struct judge_session *e = session_of(s, generation);

	if (!e->seen || e->ended)
		return;
	e->ended = true;
	if (e->sandbox == 0)
		return;
	if (acts(s, e->sandbox))
		sim_fail(s, "(1) generation %llu is ended, and its sandbox %llu acts on node %llu",
			 (unsigned long long)generation, (unsigned long long)e->sandbox,
			 (unsigned long long)e->node);
	history_add(s, e->pool, e->identifier, LINEAR_CLOSED, generation,
		    e->over_ms != 0 ? e->over_ms : s->now_ms, s->now_ms);
}

static void check_reap(struct sim *s, const struct session_row *row)
{
	const struct sim_node *owner = sim_node(s, row->node);

	for (uint32_t i = 0; row->reason == REAP_IDLE && i < owner->n_accounts; i++) {
		if (owner->accounts[i].generation == row->generation && owner->accounts[i].in_flight > 0)
			sim_fail(s, "(5) generation %llu is ended as idle, and has %u requests",
				 (unsigned long long)row->generation, owner->accounts[i].in_flight);
	}
}

static void session_changed(struct sim *s, const struct state *tables, uint64_t generation)
{
	struct judge_session *e = session_of(s, generation);
	const struct session_row *row = state_session_by_generation(tables, generation);

	if (row == NULL) {
		session_ended(s, generation);
		return;
	}
	if (e->ended ||
	    (e->seen && (e->pool != row->pool || e->identifier != identifier_of(row->identifier))) ||
	    (e->sandbox != 0 && e->sandbox != row->sandbox))
		sim_fail(s, "(1) generation %llu is used again", (unsigned long long)generation);
	if (!e->live && row->state == SESSION_LIVE)
		e->born_ms = s->now_ms;
	s->judge->newest = generation > s->judge->newest ? generation : s->judge->newest;
	e->seen = true;
	e->pool = row->pool;
	e->identifier = identifier_of(row->identifier);
	e->sandbox = row->sandbox;
	e->node = row->node;
	e->opened_ms = row->opened_ms;
	if (row->state == SESSION_CLOSING && e->live)
		check_reap(s, row);
	e->live = row->state == SESSION_LIVE;
}

static void check_changes(struct judge *j, const struct state *tables, const struct applied *applied)
{
	for (uint32_t i = 0; i < applied->n_changes; i++) {
		if (applied->changes[i].table == TABLE_SANDBOXES)
			sandbox_changed(j->sim, tables, applied->changes[i].key);
	}
	for (uint32_t i = 0; i < applied->n_changes; i++) {
		if (applied->changes[i].table == TABLE_SESSIONS)
			session_changed(j->sim, tables, applied->changes[i].key);
	}
	bill_records(j->bill, j->sim, tables);
	for (uint32_t i = 0; i < applied->n_changes; i++) {
		const struct judge_sandbox *b = judge_sandbox_of(
			j->sim, applied->changes[i].table == TABLE_SANDBOXES ? applied->changes[i].key : 0);

		if (b->ended && b->ready_ms != 0 && b->n_records != 1)
			sim_fail(j->sim, "(6) sandbox %llu ended with %u records",
				 (unsigned long long)applied->changes[i].key, b->n_records);
	}
}

static void check_tables(struct judge *j, const struct state *tables, uint64_t index)
{
	struct err err;

	if (++j->since_check <= j->every)
		return;
	j->since_check = 0;
	if (state_check(tables, &err) < 0)
		sim_fail(j->sim, "after entry %llu: %s", (unsigned long long)index, err.message);
	bill_check(j->bill, j->sim, tables);
}

/* -- At each entry ------------------------------------------------------------------------------------------------ */

void judge_applied(struct sim_node *n, uint64_t index, const struct applied *applied)
{
	struct judge *j = n->sim->judge;
	struct truth *t = truth_at(j, index);
	uint64_t hash = state_hash(n->tables);

	if (t->applied && t->hash != hash)
		sim_fail(n->sim, "(5) node %llu has other tables at entry %llu", (unsigned long long)n->id,
			 (unsigned long long)index);
	if (t->applied)
		return;
	t->applied = true;
	t->hash = hash;
	j->index = index;
	n->sim->trace = (n->sim->trace ^ hash) * 1099511628211u;
	repeats_check(j->repeats, n->sim, applied);
	check_changes(j, n->tables, applied);
	check_tables(j, n->tables, index);
}

void judge_restored(struct sim_node *n)
{
	struct truth *t = truth_at(n->sim->judge, state_index(n->tables));

	if (!t->applied || t->hash != state_hash(n->tables))
		sim_fail(n->sim, "(5) node %llu restored other tables than entry %llu left",
			 (unsigned long long)n->id, (unsigned long long)state_index(n->tables));
}

/* -- Outside of the tables ------------------------------------------------------------------------------------------ */

/* One that was ready runs once in its life: what its session kept in it would be gone, and nobody told. */
void judge_start(struct sim_node *n, uint64_t sandbox)
{
	const struct judge_sandbox *b = judge_sandbox_of(n->sim, sandbox);

	if (b->ready_ms != 0 && sim_run_of(n, sandbox) == NULL)
		sim_fail(n->sim, "(2) sandbox %llu is started again: it was ready before, and is %s",
			 (unsigned long long)sandbox, b->ended ? "gone" : "bound or ready");
}

void judge_isolation(struct sim_node *n, uint64_t pool, uint8_t isolation)
{
	const struct pool_row *row = state_pool(n->tables, pool);

	if (row != NULL && row->isolation != isolation)
		sim_fail(n->sim,
			 "(7) a sandbox of pool %llu is started with isolation %s, which is not its pool's",
			 (unsigned long long)pool, isolation_name[isolation]);
	if ((n->able & 1u << isolation) == 0 && !n->changed)
		sim_fail(n->sim,
			 "(7) a sandbox of pool %llu is started on node %llu, which cannot run isolation %s",
			 (unsigned long long)pool, (unsigned long long)n->id, isolation_name[isolation]);
}

/* Nobody stops what serves a live session: it is closing first, or it does not run. */
void judge_stop(struct sim_node *n, uint64_t sandbox)
{
	const struct judge_sandbox *b = judge_sandbox_of(n->sim, sandbox);

	if (b->generation != 0 && !b->ended && b->node == n->id && sim_run_of(n, sandbox) != NULL &&
	    session_of(n->sim, b->generation)->live)
		sim_fail(n->sim, "(5) sandbox %llu is stopped, and its session is live",
			 (unsigned long long)sandbox);
}

static void check_alone(struct sim_node *n, uint64_t sandbox)
{
	for (uint64_t id = 1; id <= n->sim->n_nodes; id++) {
		struct sim_node *other = sim_node(n->sim, id);

		if (other != n && sim_acts(other, sim_run_of(other, sandbox)))
			sim_fail(n->sim, "(2) sandbox %llu runs on node %llu and on node %llu",
				 (unsigned long long)sandbox, (unsigned long long)n->id,
				 (unsigned long long)id);
	}
}

void judge_went_on(struct sim_node *n, uint64_t sandbox)
{
	const struct judge_sandbox *b = judge_sandbox_of(n->sim, sandbox);

	check_alone(n, sandbox);
	if (b->node != n->id && !b->ended)
		sim_fail(n->sim, "(2) node %llu lets sandbox %llu go on, which is of node %llu",
			 (unsigned long long)n->id, (unsigned long long)sandbox, (unsigned long long)b->node);
}

void judge_counts(struct sim_node *n, uint64_t sandbox, uint64_t served)
{
	struct judge_sandbox *b = judge_sandbox_of(n->sim, sandbox);

	if (++b->count != served)
		sim_fail(n->sim, "(2) sandbox %llu remembers %llu requests on node %llu, and served %llu",
			 (unsigned long long)sandbox, (unsigned long long)served, (unsigned long long)n->id,
			 (unsigned long long)b->count);
}

void judge_stopped(struct sim *s, uint64_t pool, uint32_t identifier, uint64_t begun_ms)
{
	for (uint64_t generation = 1; generation <= s->judge->newest; generation++) {
		const struct judge_session *e = session_of(s, generation);

		if (e->live && !e->ended && e->pool == pool && e->identifier == identifier &&
		    e->born_ms < begun_ms)
			sim_fail(s, "(5) the stop of user-%u was acknowledged, and its session %llu is live",
				 identifier, (unsigned long long)generation);
	}
}

void judge_over(struct sim_node *n, uint64_t sandbox, bool known)
{
	struct judge_sandbox *b = judge_sandbox_of(n->sim, sandbox);

	if (known)
		b->over_wall_ms = sim_wall_ms(n);
	if (b->generation != 0)
		session_of(n->sim, b->generation)->over_ms = n->sim->now_ms;
}

void judge_thawed(struct sim_node *n)
{
	for (uint32_t i = 0; i < n->n_runs; i++) {
		const struct judge_sandbox *b = judge_sandbox_of(n->sim, n->runs[i].sandbox);

		if (sim_acts(n, &n->runs[i]) && b->generation != 0)
			check_alone(n, n->runs[i].sandbox);
		if (sim_acts(n, &n->runs[i]) && b->generation != 0 &&
		    session_of(n->sim, b->generation)->ended)
			sim_fail(n->sim, "(1) node %llu thaws sandbox %llu, whose session is ended",
				 (unsigned long long)n->id, (unsigned long long)n->runs[i].sandbox);
	}
}

void judge_served(struct sim_node *owner, uint64_t generation, uint64_t sandbox, uint64_t pool,
		  uint32_t identifier, bool vouched)
{
	struct sim *s = owner->sim;
	const struct judge_session *e = session_of(s, generation);
	const struct session_row *row = state_session_by_generation(owner->tables, generation);

	s->n_served++;
	if (!e->seen || e->pool != pool || e->identifier != identifier || e->sandbox != sandbox)
		sim_fail(s, "(4) a request of user-%u reached sandbox %llu, which is of user-%u", identifier,
			 (unsigned long long)sandbox, e->identifier);
	if (e->ended)
		sim_fail(s, "(4) a request of user-%u reached sandbox %llu, whose session is ended",
			 identifier, (unsigned long long)sandbox);
	if (vouched && row != NULL && row->state == SESSION_CLOSING)
		sim_fail(s, "(4) a request of user-%u reached sandbox %llu, and its owner knew that it ends",
			 identifier, (unsigned long long)sandbox);
}
