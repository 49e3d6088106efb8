/* The log in the place of Raft: the leader appends, an entry commits after a while, nodes apply in order, each with a lag.
 * A change of leader decides by chance what becomes of entries that were not committed: their proposers hear -EINPROGRESS. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"
#include "sim.h"

static void tell(struct sim *s, const struct sim_entry *entry, int32_t code, const struct result *result)
{
	struct msg_proposed body = {.code = code};
	struct sim_node *n;

	if (entry->proposer == 0 || entry->correlation == 0)
		return;
	n = sim_node(s, entry->proposer);
	if (n->life != entry->life)
		return;
	if (result != NULL) {
		body = (struct msg_proposed){.code = result->code,
					     .message = result->message,
					     .index = result->index,
					     .id = result->id,
					     .session = result->session,
					     .created = result->created,
					     .operation = result->operation,
					     .waiting = result->waiting};
	}
	if (entry->to.kind == ADDRESS_CONTROL) {
		if (entry->correlation == n->join && body.code == 0) {
			n->epoch = body.id;
			n->sequence = 0;
			runtime_joined(n->runtime, n->epoch, s->now_ms);
		}
		return;
	}
	if (entry->proposer != s->leader && sim_chance(s, s->faults.lose))
		return;
	sim_outcome(s, entry->proposer, entry->proposer == s->leader ? 0 : 1 + sim_draw(s, 3), &entry->to,
		    entry->correlation, MSG_PROPOSED, &body);
}

static void entry_done(struct sim_entry *e)
{
	buf_done(&e->bytes);
}

/* Sandboxes serve one session in their lives. */
static void check_bindings(struct sim *s, struct state *tables, const struct applied *applied)
{
	for (uint32_t i = 0; i < applied->n_changes; i++) {
		const struct sandbox_row *row;

		if (applied->changes[i].table != TABLE_SANDBOXES)
			continue;
		row = state_sandbox(tables, applied->changes[i].key);
		if (row == NULL || row->generation == 0)
			continue;
		if (row->id >= sizeof s->served / sizeof *s->served)
			sim_fail(s, "sandbox ids grew beyond the check's table");
		else if (s->served[row->id] != 0 && s->served[row->id] != row->generation)
			sim_fail(s, "sandbox %llu is bound a second time", (unsigned long long)row->id);
		else
			s->served[row->id] = row->generation;
	}
}

void sim_apply(struct sim *s, struct sim_node *n)
{
	while (n->applied < s->n_log) {
		struct sim_entry *entry = &s->log[n->applied];
		struct applied applied;
		struct err err = {0};

		n->applied++;
		if (state_apply(n->tables, n->applied, entry->bytes.p, entry->bytes.n, &applied, &err) < 0)
			sim_fail(s, "entry %llu: %s", (unsigned long long)n->applied, err.message);
		check_bindings(s, n->tables, &applied);
		if (n->id == s->leader && n->applied % (s->check_every + 1) == 0 &&
		    state_check(n->tables, &err) < 0)
			sim_fail(s, "after entry %llu: %s", (unsigned long long)n->applied, err.message);
		if (n->runtime != NULL)
			runtime_applied(n->runtime, &applied, s->now_ms);
		if (n->id == s->leader) {
			tell(s, entry, 0, &applied.results[0]);
			entry->proposer = 0; /* once */
		}
	}
}

static void apply_later(struct sim *s, struct sim_event *e)
{
	sim_apply(s, sim_node(s, e->node));
}

static void commit(struct sim *s, struct sim_entry *entry)
{
	if (s->n_log == s->log_capacity) {
		s->log_capacity = s->log_capacity == 0 ? 1024 : s->log_capacity * 2;
		s->log = realloc(s->log, s->log_capacity * sizeof *s->log);
		must(s->log != NULL);
	}
	s->log[s->n_log++] = *entry;
	for (uint64_t i = 1; i <= SIM_NODES; i++) {
		if (i != s->leader)
			sim_after(s, 1 + sim_draw(s, 8), apply_later)->node = i;
	}
}

static void commit_first(struct sim *s, struct sim_event *e)
{
	struct sim_entry entry;

	if (e->number != s->term || s->n_pending == 0)
		return;
	entry = s->pending[0];
	memmove(s->pending, s->pending + 1, --s->n_pending * sizeof *s->pending);
	commit(s, &entry);
	sim_apply(s, sim_node(s, s->leader));
}

static void append(struct sim *s, struct sim_event *e)
{
	struct sim_entry entry = {.bytes = e->bytes,
				  .proposer = e->node,
				  .to = e->to,
				  .correlation = e->correlation,
				  .life = e->life};

	e->bytes = (struct buf){0};
	if (s->leader == 0 || s->n_pending == sizeof s->pending / sizeof *s->pending) {
		tell(s, &entry, -EAGAIN, NULL);
		entry_done(&entry);
		return;
	}
	s->pending[s->n_pending++] = entry;
	sim_after(s, 1 + sim_draw(s, 3), commit_first)->number = s->term;
}

void sim_propose(struct sim *s, struct sim_node *from, uint8_t type, const void *body, struct address to,
		 uint64_t correlation)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct command command = {.type = type,
				  .feature = 1,
				  .node = from->id,
				  .epoch = from->epoch,
				  .sequence = ++from->sequence};
	struct entry entry = {
		.incarnation = 1, .time_ms = SIM_WALL_MS + s->now_ms, .commands = &command, .n_commands = 1};
	struct sim_event *e;

	if (type == COMMAND_CLUSTER_INIT)
		command.feature = 0;
	if (command_body_codec[type] != NULL)
		codec_encode(&bytes, command_body_codec[type], body);
	command.body = buf_str(&bytes);
	if (from->id != s->leader && sim_chance(s, s->faults.lose))
		return;
	e = sim_after(s, from->id == s->leader ? 0 : 1 + sim_draw(s, 3), append);
	e->node = from->id;
	e->to = to;
	e->correlation = correlation;
	e->life = from->life;
	codec_encode(&e->bytes, &entry_codec, &entry);
	must(!buf_failed(&e->bytes));
}

void sim_elect(struct sim *s, uint64_t node)
{
	uint64_t old = s->leader;

	if (node == old)
		return;
	s->leader = node;
	s->term++;
	if (old != 0)
		runtime_leading(sim_node(s, old)->runtime, false, s->term, s->now_ms);
	for (uint32_t i = 0; i < s->n_pending; i++) {
		struct sim_entry entry = s->pending[i];

		tell(s, &entry, -EINPROGRESS, NULL);
		entry.proposer = 0;
		if (sim_chance(s, 500))
			commit(s, &entry);
		else
			entry_done(&entry);
	}
	s->n_pending = 0;
	sim_apply(s, sim_node(s, node));
	runtime_leading(sim_node(s, node)->runtime, true, s->term, s->now_ms);
}

void sim_log_done(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_log; i++)
		entry_done(&s->log[i]);
	for (uint32_t i = 0; i < s->n_pending; i++)
		entry_done(&s->pending[i]);
	free(s->log);
}
