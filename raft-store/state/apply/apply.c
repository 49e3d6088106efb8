/* apply.c -- an entry: decoded, time clamped, each command checked for repetition, executed by its handler.
 *
 * Happy path: decode; refuse another incarnation; cluster time = max(last, entry's); ledger_tick; for each command look
 * for a kept result, else decode the body, run the handler, keep the result.
 * Failure modes: undecodable entries and bodies, an unknown epoch, an old sequence are results with an error; types and features that this
 * program does not know stop the node before anything is changed. */
#include "state/apply/apply.h"

#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "core/must.h"

static apply_handler *const handlers[COMMAND_TYPES] = {
	[COMMAND_CLUSTER_INIT] = apply_cluster_init,
	[COMMAND_NODE_JOIN] = apply_node_join,
	[COMMAND_NODE_RENEW] = apply_node_renew,
	[COMMAND_NODE_LOST] = apply_node_lost,
	[COMMAND_NODE_ORDER] = apply_node_order,
	[COMMAND_NODE_IMAGES] = apply_node_images,
	[COMMAND_POOL_PUT] = apply_pool_put,
	[COMMAND_POOL_DELETE] = apply_pool_delete,
	[COMMAND_OPERATION_STEP] = apply_operation_step,
	[COMMAND_SANDBOX_BOOT] = apply_sandbox_boot,
	[COMMAND_SANDBOX_READY] = apply_sandbox_ready,
	[COMMAND_SANDBOX_STOPPING] = apply_sandbox_stopping,
	[COMMAND_SANDBOX_GONE] = apply_sandbox_gone,
	[COMMAND_SESSION_OPEN] = apply_session_open,
	[COMMAND_SESSION_CLOSING] = apply_session_closing,
	[COMMAND_SESSION_CLOSED] = apply_session_closed,
	[COMMAND_WAITERS_EXPIRE] = apply_waiters_expire,
	[COMMAND_RECORDS_TRIM] = apply_records_trim,
	[COMMAND_KEY_PUT] = apply_key_put,
	[COMMAND_KEY_USE] = apply_key_use,
	[COMMAND_KEY_RETIRE] = apply_key_retire,
	[COMMAND_SECRET_RESEAL] = apply_secret_reseal,
	[COMMAND_NODE_KEYS] = apply_node_keys,
	[COMMAND_NODE_TOKEN] = apply_node_token,
	[COMMAND_NODE_ADMIT] = apply_node_admit,
	[COMMAND_NODE_LEAVE] = apply_node_leave,
	[COMMAND_NODE_DROP] = apply_node_drop,
	[COMMAND_MEMBER_BEGIN] = apply_member_begin,
	[COMMAND_MEMBER_END] = apply_member_end,
	[COMMAND_CLUSTER_LEVEL] = apply_cluster_level,
	[COMMAND_SESSION_SUSPEND] = apply_session_suspend,
	[COMMAND_SESSION_WAKE] = apply_session_wake,
	[COMMAND_SANDBOX_MOVE] = apply_sandbox_move,
	[COMMAND_SANDBOX_SAVED] = apply_sandbox_saved,
	[COMMAND_SANDBOX_KEPT] = apply_sandbox_kept,
	[COMMAND_SANDBOX_MOVED] = apply_sandbox_moved,
	[COMMAND_SANDBOX_AWAKE] = apply_sandbox_awake,
	[COMMAND_NODE_ABLE] = apply_node_able,
};

void apply_refuse(struct apply *a, int code, const char *format, ...)
{
	char text[ERR_MESSAGE_MAX];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof text, format, args);
	va_end(args);
	*a->result = (struct result){
		.code = code, .index = a->index, .message = arena_str(&a->s->arena, str_of(text))};
}

uint64_t apply_next_id(struct apply *a)
{
	must(a->cluster.counter < UINT64_MAX);
	return ++a->cluster.counter;
}

/* -- Repetition ------------------------------------------------------------------------------------------------- */

/* These two come from nodes that have no epoch yet. */
static bool without_epoch(uint8_t type)
{
	return type == COMMAND_CLUSTER_INIT || type == COMMAND_NODE_JOIN;
}

/* False: the result is there already, nothing may be executed. */
static bool is_new(struct apply *a)
{
	const struct command *c = a->command;
	const struct node_row *node = state_node(a->s, c->node);
	const struct result_row *kept;

	if (without_epoch(c->type))
		return true;
	if (node == NULL || node->state != NODE_UP || node->epoch != c->epoch) {
		apply_refuse(a, -ESTALE, "node %" PRIu64 ": epoch %" PRIu64 " is not its present one",
			     c->node, c->epoch);
		return false;
	}
	if (c->sequence == 0) {
		apply_refuse(a, -EINVAL, "sequence: 0, allowed from 1");
		return false;
	}
	kept = store_find(a->s, KIND_RESULTS, (struct tree_key){.a = c->node, .b = c->sequence});
	if (kept != NULL) {
		*a->result = kept->result;
		return false;
	}
	if (node->sequence >= RESULTS_KEPT && c->sequence <= node->sequence - RESULTS_KEPT) {
		apply_refuse(a, -ESTALE,
			     "sequence: %" PRIu64 " is too old, the results before %" PRIu64 " are not kept",
			     c->sequence, node->sequence - RESULTS_KEPT + 1);
		return false;
	}
	return true;
}

/* Results are kept by sequence, so the window moves with the highest one. */
static void keep_result(struct apply *a)
{
	const struct command *c = a->command;
	const struct node_row *node = state_node(a->s, c->node);
	struct result_row kept = {.node = c->node, .sequence = c->sequence, .result = *a->result};
	const struct result_row *oldest;
	struct node_row row;

	if (without_epoch(c->type) || node == NULL || node->epoch != c->epoch)
		return;
	store_put(a->s, KIND_RESULTS, &kept);
	if (c->sequence <= node->sequence)
		return;
	row = *node;
	row.sequence = c->sequence;
	store_put_silent(a->s, KIND_NODES, &row);
	while ((oldest = store_next(&a->s->rows[KIND_RESULTS], c->node, NULL)) != NULL &&
	       row.sequence >= RESULTS_KEPT && oldest->sequence <= row.sequence - RESULTS_KEPT)
		store_remove(a->s, KIND_RESULTS, oldest);
}

/* -- One command, one entry -------------------------------------------------------------------------------------- */

static void execute(struct apply *a)
{
	const struct command *c = a->command;
	const struct codec_type *type = command_body_codec[c->type];
	struct err err = {0};
	void *body = NULL;

	if (handlers[c->type] == NULL) {
		apply_refuse(a, -EBADMSG, "command: type %u", c->type);
		return;
	}
	if (type != NULL) {
		body = arena_alloc(&a->s->arena, type->size);
		must(body != NULL);
		if (codec_decode(c->body.p, c->body.n, type, &a->s->arena, body, &err) < 0) {
			must(err.code != -ENOMEM);
			apply_refuse(a, -EBADMSG, "%s: %s", command_type_name[c->type], err.message);
			return;
		}
	} else if (c->body.n != 0) {
		apply_refuse(a, -EBADMSG, "%s: has no body", command_type_name[c->type]);
		return;
	}
	handlers[c->type](a, body);
}

/* Voters are trusted; a worker reports what is its own, which the handlers look at. */
static bool is_allowed(struct apply *a)
{
	const struct node_row *node = state_node(a->s, a->command->node);

	if (node == NULL || node->voter || command_of_workers(a->command->type))
		return true;
	apply_refuse(a, -EPERM, "node %" PRIu64 " is a worker: it may not propose %s", node->id,
		     command_type_name[a->command->type]);
	return false;
}

static void one_command(struct apply *a, const struct entry *entry)
{
	bool is_init = a->command->type == COMMAND_CLUSTER_INIT;

	a->result->index = a->index;
	if (a->cluster.id.n == 0 && !is_init) {
		apply_refuse(a, -ENXIO, "the cluster is not initialised yet");
		return;
	}
	if (a->cluster.id.n != 0 && entry->incarnation != a->cluster.incarnation) {
		apply_refuse(a, -ESTALE, "incarnation: %" PRIu64 ", the cluster's is %" PRIu64,
			     entry->incarnation, a->cluster.incarnation);
		return;
	}
	if (!is_new(a) || !is_allowed(a))
		return;
	execute(a);
	keep_result(a);
}

/* -EPROTO when this program is too old for a command of the entry. */
static int check_level(const struct state *s, const struct entry *entry, struct err *err)
{
	for (uint32_t i = 0; i < entry->n_commands; i++) {
		const struct command *c = &entry->commands[i];

		if (c->type >= COMMAND_TYPES)
			return err_set(err, -EPROTO, "command type %u is unknown to this version", c->type);
		if (c->feature > FEATURE_LEVEL || c->feature > state_cluster(s)->feature_level)
			return err_set(
				err, -EPROTO,
				"command %s needs feature level %u, this version has %d, the cluster %u",
				command_type_name[c->type], c->feature, FEATURE_LEVEL,
				state_cluster(s)->feature_level);
	}
	return 0;
}

/* The entry as a whole is a no-op: one result says why. */
static void malformed(struct apply *a, struct applied *ret, const char *why)
{
	a->result = arena_alloc(&a->s->arena, sizeof *a->result);
	must(a->result != NULL);
	apply_refuse(a, -EBADMSG, "%s", why);
	*ret = (struct applied){.results = a->result, .n_results = 1};
	ret->commands = arena_alloc(&a->s->arena, sizeof *ret->commands); /* of nobody */
	must(ret->commands != NULL);
}

static void run(struct apply *a, const struct entry *entry, struct applied *ret)
{
	uint64_t before = a->cluster.time_ms;

	a->now_ms = entry->time_ms > before ? entry->time_ms : before;
	a->cluster.time_ms = a->now_ms;
	ret->n_results = entry->n_commands;
	ret->commands = entry->commands;
	ret->results = arena_array(&a->s->arena, entry->n_commands, sizeof *ret->results);
	must(ret->results != NULL);
	ledger_tick(a->s, before, a->now_ms);
	if (before / LEDGER_HOUR_MS != a->now_ms / LEDGER_HOUR_MS)
		apply_operations_expire(a);
	for (uint32_t i = 0; i < entry->n_commands; i++) {
		a->command = &entry->commands[i];
		a->result = &ret->results[i];
		one_command(a, entry);
	}
	store_put(a->s, KIND_CLUSTER, &a->cluster);
	ret->changes = a->s->changes;
	ret->n_changes = (uint32_t)a->s->n_changes;
}

int state_apply(struct state *s, uint64_t index, const void *entry, size_t n, struct applied *ret,
		struct err *err)
{
	struct apply a = {.s = s, .index = index};
	struct entry decoded = {0};
	struct err why = {0};
	int r;

	if (index <= s->index)
		return err_set(err, -EPROTO, "entry %" PRIu64 " comes behind %" PRIu64, index, s->index);
	store_begin(s);
	r = codec_decode(entry, n, &entry_codec, &s->arena, &decoded, &why);
	must(r != -ENOMEM);
	if (r == 0 && (r = check_level(s, &decoded, err)) < 0)
		return r;
	s->index = index;
	*ret = (struct applied){0};
	a.cluster = *state_cluster(s);
	if (why.code != 0)
		malformed(&a, ret, why.message);
	else if (decoded.time_ms > APPLY_TIME_MAX)
		malformed(&a, ret, "entry.time_ms: beyond the year 2200");
	else
		run(&a, &decoded, ret);
	return 0;
}
