/* apply_rest.c -- a session's virtual machine sleeps, wakes and moves: docs/moving.md has the states and who may ask for what.
 *
 * Each command after the first names the save that it is about, so that one of an earlier round changes nothing. Invariants: whoever is not
 * `node` of the row never runs it; a row that is SAVED runs nowhere; MOVED and KEPT exclude each other, whichever commits first. */
#include <errno.h>
#include <inttypes.h>

#include "core/must.h"
#include "state/apply/apply.h"

/* -- Parts ------------------------------------------------------------------------------------------------------ */

void apply_reserve(struct apply *a, uint64_t node, const struct sandbox_row *sandbox, bool take)
{
	const struct node_row *old = state_node(a->s, node);
	struct node_row row;

	must(old != NULL);
	if (sandbox->asleep)
		return;
	row = *old;
	must(take ||
	     (row.cpu_reserved >= sandbox->cpu_milli && row.memory_reserved >= sandbox->memory_bytes));
	row.cpu_reserved += take ? sandbox->cpu_milli : -(uint64_t)sandbox->cpu_milli;
	row.memory_reserved += take ? sandbox->memory_bytes : -sandbox->memory_bytes;
	store_put(a->s, KIND_NODES, &row);
}

/* Both rows; the session goes wherever its sandbox is. */
static void put(struct apply *a, const struct sandbox_row *row)
{
	struct session_row session = *state_session_by_generation(a->s, row->generation);

	if (row->rest == REST_AWAKE && session.rest != REST_AWAKE)
		session.index = a->index; /* whoever forwards to it waits for this */
	session.rest = row->rest;
	session.node = row->node;
	store_put(a->s, KIND_SANDBOXES, row);
	store_put(a->s, KIND_SESSIONS, &session);
}

/* Not on its way any more. */
static void stay(struct apply *a, struct sandbox_row *row)
{
	if (row->target == 0)
		return;
	apply_reserve(a, row->target, row, false);
	row->target = 0;
}

/* Where it was before its move began; one that is saved as it sleeps does. */
static void turn_back(struct apply *a, struct sandbox_row *row)
{
	stay(a, row);
	if (!row->asleep)
		row->rest = REST_WAKING;
}

static void sleeps(struct apply *a, struct sandbox_row *row)
{
	apply_reserve(a, row->node, row, false);
	ledger_asleep(a->s, row, a->now_ms);
	row->asleep = true;
	row->slept_ms = a->now_ms;
}

void apply_session_close(struct apply *a, const struct session_row *session, uint8_t reason)
{
	const struct sandbox_row *sandbox = state_sandbox(a->s, session->sandbox);
	struct session_row row = *session;
	struct sandbox_row box;

	must(session->state == SESSION_LIVE && sandbox != NULL);
	row.state = SESSION_CLOSING;
	row.reason = reason;
	row.closing_ms = a->now_ms;
	store_put(a->s, KIND_SESSIONS, &row);
	if (sandbox->target == 0)
		return;
	box = *sandbox;
	stay(a, &box);
	store_put(a->s, KIND_SANDBOXES, &box);
}

void apply_arrivals_end(struct apply *a, uint64_t node)
{
	for (const struct sandbox_row *sandbox = NULL;
	     (sandbox = state_next_sandbox(a->s, sandbox)) != NULL;) {
		struct sandbox_row row = *sandbox;

		if (row.target != node)
			continue;
		turn_back(a, &row);
		put(a, &row);
	}
}

bool apply_wake(struct apply *a, const struct session_row *session)
{
	const struct sandbox_row *sandbox = state_sandbox(a->s, session->sandbox);
	struct sandbox_row row;

	if (session->state != SESSION_LIVE || !sandbox->asleep || sandbox->target != 0)
		return true;
	if (!apply_fits(a, state_node(a->s, sandbox->node), sandbox->cpu_milli, sandbox->memory_bytes))
		return false;
	row = *sandbox;
	ledger_awake(a->s, &row, a->now_ms);
	row.asleep = false;
	row.asleep_ms += a->now_ms - row.slept_ms;
	row.slept_ms = a->now_ms;
	row.rest = REST_WAKING;
	apply_reserve(a, row.node, &row, true);
	put(a, &row);
	return true;
}

/* -- Commands --------------------------------------------------------------------------------------------------- */

/* The live session, if its pool's sandboxes can be saved; refuses otherwise. */
static const struct session_row *restable(struct apply *a, uint64_t pool, uint64_t generation)
{
	const struct session_row *session = state_session_by_generation(a->s, generation);

	if (session == NULL || session->pool != pool) {
		apply_refuse(a, -ESRCH, "pool %" PRIu64 " has no session of generation %" PRIu64, pool,
			     generation);
		return NULL;
	}
	if (state_pool(a->s, pool)->isolation != ISOLATION_VM) {
		apply_refuse(a, -ENOTSUP,
			     "the pool's isolation is \"container\": only virtual machines can be suspended");
		return NULL;
	}
	if (session->state != SESSION_LIVE) {
		apply_refuse(a, -EBUSY, "the session is %s", session_state_name[session->state]);
		return NULL;
	}
	return session;
}

void apply_session_suspend(struct apply *a, const void *body)
{
	const struct cmd_session *c = body;
	const struct session_row *session = restable(a, c->pool, c->generation);
	struct sandbox_row row;

	if (session == NULL)
		return;
	row = *state_sandbox(a->s, session->sandbox);
	if (row.rest == REST_WAKING || row.target != 0) {
		apply_refuse(a, -EAGAIN, "the session is %s just now", row.target != 0 ? "moving" : "waking");
		return;
	}
	a->result->session = apply_session_ref(session);
	if (row.rest != REST_AWAKE)
		return;
	row.rest = REST_SAVING;
	row.save = apply_next_id(a);
	put(a, &row);
}

void apply_session_wake(struct apply *a, const void *body)
{
	const struct cmd_session *c = body;
	const struct session_row *session = restable(a, c->pool, c->generation);

	if (session == NULL)
		return;
	if (session->rest == REST_SAVING || state_sandbox(a->s, session->sandbox)->target != 0) {
		apply_refuse(a, -EAGAIN, "the session is being %s just now",
			     session->rest == REST_SAVING ? "saved" : "moved");
		return;
	}
	if (apply_wake(a, session))
		a->result->session = apply_session_ref(state_session_by_generation(a->s, c->generation));
}

/* The target, if it can take the sandbox; refuses otherwise. */
static const struct node_row *takes(struct apply *a, const struct sandbox_row *sandbox, uint64_t id)
{
	const struct node_row *node = state_node(a->s, id);
	const struct revision_row *revision = state_revision(a->s, sandbox->pool, sandbox->revision);

	if (node == NULL || node->state != NODE_UP || node->cordoned || id == sandbox->node)
		apply_refuse(a, -EHOSTDOWN, "node %" PRIu64 " takes no sandbox of others", id);
	else if (!state_node_runs(node, ISOLATION_VM) ||
		 !template_labels_fit(&revision->template, node->labels))
		apply_refuse(a, -ENODEV, "node %" PRIu64 " cannot run sandbox %" PRIu64, id, sandbox->id);
	else if (sandbox->asleep || apply_fits(a, node, sandbox->cpu_milli, sandbox->memory_bytes))
		return node;
	return NULL;
}

void apply_sandbox_move(struct apply *a, const void *body)
{
	const struct cmd_sandbox_move *c = body;
	const struct sandbox_row *sandbox = state_sandbox(a->s, c->sandbox);
	struct sandbox_row row;

	if (sandbox == NULL || sandbox->state != SANDBOX_BOUND) {
		apply_refuse(a, -ENOENT, "sandbox %" PRIu64 " has no session", c->sandbox);
		return;
	}
	if (restable(a, sandbox->pool, sandbox->generation) == NULL)
		return;
	if (sandbox->target != 0 || (sandbox->rest != REST_AWAKE && !sandbox->asleep)) {
		apply_refuse(a, -EAGAIN, "sandbox %" PRIu64 " is %s already", c->sandbox,
			     sandbox->target != 0 ? "moving" : sandbox_rest_name[sandbox->rest]);
		return;
	}
	if (takes(a, sandbox, c->target) == NULL)
		return;
	row = *sandbox;
	row.target = c->target;
	if (!row.asleep) {
		row.rest = REST_SAVING;
		row.save = apply_next_id(a);
	}
	apply_reserve(a, c->target, &row, true);
	put(a, &row);
	a->result->id = row.save;
}

/* The sandbox, if the command is about its present save, and it is in one of these states; refuses otherwise. */
static const struct sandbox_row *present(struct apply *a, const struct cmd_sandbox_save *c, unsigned rests)
{
	const struct sandbox_row *sandbox = state_sandbox(a->s, c->sandbox);

	if (sandbox == NULL) {
		apply_refuse(a, -ENOENT, "no sandbox %" PRIu64, c->sandbox);
		return NULL;
	}
	if (sandbox->save != c->save || (rests & 1u << sandbox->rest) == 0) {
		apply_refuse(a, -ESTALE, "sandbox %" PRIu64 " is %s, save %" PRIu64, c->sandbox,
			     sandbox_rest_name[sandbox->rest], sandbox->save);
		return NULL;
	}
	a->result->id = c->sandbox;
	return sandbox;
}

/* As present(), for its node alone. */
static const struct sandbox_row *own(struct apply *a, const struct cmd_sandbox_save *c, unsigned rests)
{
	const struct sandbox_row *sandbox = present(a, c, rests);

	if (sandbox == NULL || sandbox->node == a->command->node)
		return sandbox;
	apply_refuse(a, -EPERM, "sandbox %" PRIu64 " is of node %" PRIu64, c->sandbox, sandbox->node);
	return NULL;
}

void apply_sandbox_saved(struct apply *a, const void *body)
{
	const struct sandbox_row *sandbox = own(a, body, 1u << REST_SAVING);
	struct sandbox_row row;

	if (sandbox == NULL)
		return;
	row = *sandbox;
	row.rest = REST_SAVED;
	if (row.target == 0)
		sleeps(a, &row);
	put(a, &row);
}

void apply_sandbox_kept(struct apply *a, const void *body)
{
	const struct cmd_sandbox_save *c = body;
	const struct sandbox_row *sandbox = present(a, c, 1u << REST_SAVING | 1u << REST_SAVED);
	struct sandbox_row row;

	if (sandbox == NULL)
		return;
	if (sandbox->node != a->command->node && sandbox->target != a->command->node &&
	    !state_node(a->s, a->command->node)->voter) {
		apply_refuse(a, -EPERM, "sandbox %" PRIu64 " is of node %" PRIu64, c->sandbox, sandbox->node);
		return;
	}
	if (sandbox->rest == REST_SAVED && sandbox->target == 0) {
		apply_refuse(a, -ESTALE, "sandbox %" PRIu64 " is asleep", c->sandbox);
		return;
	}
	row = *sandbox;
	turn_back(a, &row);
	put(a, &row);
}

/* It may have been told to drain meanwhile, and was empty. */
static void filled(struct apply *a, uint64_t node)
{
	struct node_row row = *state_node(a->s, node);

	if (row.drained_ms == 0)
		return;
	row.drained_ms = 0;
	store_put(a->s, KIND_NODES, &row);
}

void apply_sandbox_moved(struct apply *a, const void *body)
{
	const struct cmd_sandbox_save *c = body;
	const struct sandbox_row *sandbox = present(a, c, 1u << REST_SAVED);
	uint64_t from;
	struct sandbox_row row;

	if (sandbox == NULL)
		return;
	if (sandbox->target == 0 || sandbox->target != a->command->node) {
		apply_refuse(a, -EPERM, "sandbox %" PRIu64 " does not move to node %" PRIu64, c->sandbox,
			     a->command->node);
		return;
	}
	row = *sandbox;
	from = row.node;
	apply_reserve(a, from, &row, false);
	row.node = row.target;
	row.node_epoch = state_node(a->s, row.node)->epoch;
	filled(a, row.node);
	row.target = 0;
	if (!row.asleep)
		row.rest = REST_WAKING;
	put(a, &row);
	apply_drained(a, from);
	a->result->session = apply_session_ref(state_session_by_generation(a->s, row.generation));
}

void apply_sandbox_awake(struct apply *a, const void *body)
{
	const struct sandbox_row *sandbox = own(a, body, 1u << REST_WAKING);
	struct sandbox_row row;

	if (sandbox == NULL)
		return;
	row = *sandbox;
	row.rest = REST_AWAKE;
	put(a, &row);
}
