/* judge.c -- see judge.h. */
#include "sim/judge/judge.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

#define SANDBOXES_MAX 65536

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
	uint64_t served[SANDBOXES_MAX]; /* sandbox id -> generation; ids are small numbers here */
};

struct judge *judge_new(struct sim *s)
{
	struct judge *j = calloc(1, sizeof *j);

	must(j != NULL);
	j->sim = s;
	return j;
}

void judge_free(struct judge *j)
{
	for (uint64_t i = 0; i < j->capacity; i++)
		buf_done(&j->log[i].bytes);
	free(j->log);
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

/* Sandboxes serve one session in their lives. */
static void check_bindings(struct judge *j, struct state *tables, const struct applied *applied)
{
	for (uint32_t i = 0; i < applied->n_changes; i++) {
		const struct sandbox_row *row;

		if (applied->changes[i].table != TABLE_SANDBOXES)
			continue;
		row = state_sandbox(tables, applied->changes[i].key);
		if (row == NULL || row->generation == 0)
			continue;
		if (row->id >= SANDBOXES_MAX)
			sim_fail(j->sim, "sandbox ids grew beyond the check's table");
		else if (j->served[row->id] != 0 && j->served[row->id] != row->generation)
			sim_fail(j->sim, "(2) sandbox %llu is bound a second time",
				 (unsigned long long)row->id);
		else
			j->served[row->id] = row->generation;
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
}

void judge_applied(struct sim_node *n, uint64_t index, const struct applied *applied)
{
	struct judge *j = n->sim->judge;
	struct truth *t = truth_at(j, index);
	uint64_t hash = state_hash(n->tables);

	if (t->applied && t->hash != hash)
		sim_fail(n->sim, "node %llu has other tables at entry %llu", (unsigned long long)n->id,
			 (unsigned long long)index);
	if (t->applied)
		return;
	t->applied = true;
	t->hash = hash;
	j->index = index;
	n->sim->trace = (n->sim->trace ^ hash) * 1099511628211u;
	check_bindings(j, n->tables, applied);
	check_tables(j, n->tables, index);
}

void judge_restored(struct sim_node *n)
{
	struct truth *t = truth_at(n->sim->judge, state_index(n->tables));

	if (!t->applied || t->hash != state_hash(n->tables))
		sim_fail(n->sim, "node %llu restored other tables than entry %llu left",
			 (unsigned long long)n->id, (unsigned long long)state_index(n->tables));
}

void judge_ended(struct sim_node *n, uint64_t sandbox)
{
	(void)n;
	(void)sandbox;
}
