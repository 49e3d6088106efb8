/* operations.c -- what clients poll after PUT (operationStatuses), PATCH and DELETE (operationResults).
 * An operation that this node has not applied yet (its id lies above the replicated counter here) is still running. */
#include "arm/pool/pool_show.h"
#include "arm/pool/pools.h"

/* Finds the operation of the path; makes the reply and answers false when there is none to show. */
static bool find(struct call *c, const struct operation_row **ret)
{
	uint64_t id = 0;
	const struct operation_row *row = NULL;
	const struct pool_row *pool;

	*ret = NULL;
	if (str_u64(c->extra, INT64_MAX, &id) == 0)
		row = state_operation(c->state, id);
	if (row == NULL && id > state_cluster(c->state)->counter)
		return true;
	pool = row == NULL ? NULL : state_pool(c->state, row->pool);
	if (row == NULL || (pool != NULL && !str_eq_nocase(pool->subscription, c->subscription))) {
		call_error(c, 404, "OperationNotFound",
			   "There is no operation '%.*s'; operations are kept for a day.",
			   STR_ARGS(c->extra));
		return false;
	}
	*ret = row;
	return true;
}

static const char *status_of(const struct operation_row *row)
{
	if (row == NULL || row->phase < PHASE_SUCCEEDED)
		return "InProgress";
	return row->phase == PHASE_SUCCEEDED ? "Succeeded"
	       : row->phase == PHASE_FAILED  ? "Failed"
					     : "Canceled";
}

static void put_failure(json_t *body, const struct operation_row *row)
{
	json_t *error = json_put_object(body, "error");

	json_put_str(error, "code", row->code.n > 0 ? row->code : STR("OperationFailed"));
	json_put_str(error, "message", row->message);
}

void operations_status(struct call *c)
{
	const struct operation_row *row;
	json_t *body;

	if (!find(c, &row))
		return;
	body = json_new_object();
	json_put_str(body, "id", arena_str(c->arena, c->request->path));
	json_put_str(body, "name", c->extra);
	json_put_cstr(body, "status", status_of(row));
	json_put_time(body, "startTime", row != NULL ? row->started_ms : c->request->now_ms);
	if (row != NULL && row->ended_ms != 0)
		json_put_time(body, "endTime", row->ended_ms);
	if (row != NULL && row->phase >= PHASE_FAILED)
		put_failure(body, row);
	call_json(c, 200, body);
	if (row == NULL || row->phase < PHASE_SUCCEEDED)
		arm_reply_header(&c->out->reply, "retry-after", STR("1"));
}

void operations_result(struct call *c)
{
	const struct operation_row *row;
	const struct pool_row *pool;
	json_t *body;

	if (!find(c, &row))
		return;
	if (row == NULL || row->phase < PHASE_SUCCEEDED) {
		call_empty(c, 202);
		arm_reply_header(&c->out->reply, "location",
				 call_printf(c, "%.*s%.*s?%.*s", STR_ARGS(c->base),
					     STR_ARGS(c->request->path), STR_ARGS(c->request->query)));
		arm_reply_header(&c->out->reply, "retry-after", STR("1"));
		return;
	}
	if (row->phase != PHASE_SUCCEEDED) {
		body = json_new_object();
		put_failure(body, row);
		call_json(c, 409, body);
		return;
	}
	pool = state_pool(c->state, row->pool);
	if (row->kind == OPERATION_DELETE || pool == NULL)
		call_empty(c, 204);
	else
		call_json(c, 200, pool_show(c, pool));
}
