/* pools.c -- PUT, GET, PATCH, DELETE and the lists. Statuses and headers as recorded from the real service:
 * PUT 201 (200 for a pool that was there) with azure-asyncoperation; PATCH and DELETE 202 with location. */
#include <errno.h>

#include "arm/continuation.h"
#include "arm/pool/pool_document.h"
#include "arm/pool/pool_rules.h"
#include "arm/pool/pool_show.h"
#include "arm/pool/pools.h"
#include "arm/version.h"
#include "core/must.h"

#define LIST_PAGE 100

void continuation_post(struct call *c, enum arm_then then, struct address to, uint16_t type, const void *body,
		       struct arm_continuation values)
{
	struct arm_continuation *keep = arena_alloc(c->arena, sizeof *keep);

	must(keep != NULL);
	*keep = values;
	keep->then = (uint8_t)then;
	keep->call = *c;
	keep->call.pool = NULL; /* rows do not outlive this call */
	c->out->kind = ARM_POST;
	c->out->to = to;
	c->out->type = type;
	c->out->body = body;
	c->out->then = keep;
}

static struct str operation_link(const struct call *c, struct str location, const char *what,
				 uint64_t operation)
{
	CLEANUP_BUF struct buf squeezed = {0};

	/* "East US" is eastus in a path. */
	for (size_t i = 0; i < location.n; i++) {
		char x = location.p[i];

		if ((x >= 'a' && x <= 'z') || (x >= '0' && x <= '9') || x == '-')
			buf_add(&squeezed, &x, 1);
		else if (x >= 'A' && x <= 'Z')
			buf_printf(&squeezed, "%c", x - 'A' + 'a');
	}
	return call_printf(
		c, "%.*s/subscriptions/%.*s/providers/Microsoft.App/locations/%.*s/%s/%llu?api-version=%.*s",
		STR_ARGS(c->base), STR_ARGS(c->subscription), squeezed.n > 0 ? (int)squeezed.n : 5,
		squeezed.n > 0 ? squeezed.p : "local", what, (unsigned long long)operation,
		STR_ARGS(c->version_text));
}

static struct str location_of(const struct call *c, struct str document)
{
	struct json_bounds bounds = {.bytes_max = 256u * 1024};
	json_t *json = NULL;
	struct str ret = STR("local");

	if (json_parse(document, &bounds, &json, NULL) == 0 &&
	    json_is_string(json_object_get(json, "location")))
		ret = arena_str(c->arena, json_str_of(json_object_get(json, "location")));
	json_decref(json);
	return ret;
}

static void write_pool(struct call *c, bool patch)
{
	const struct pool_row *stored = state_pool_by_name(c->state, c->subscription, c->group, c->name);
	struct arm_continuation then = {0};
	struct msg_pool_put *put = NULL;
	json_t *body;
	int r;

	if (stored == NULL && !pool_name_good(c->name)) {
		call_error(c, 400, "InvalidResourceName",
			   "The pool's name '%.*s' is not valid: 3 to 63 lower case letters, digits and "
			   "single hyphens, "
			   "a letter first, no hyphen at the end.",
			   STR_ARGS(c->name));
		return;
	}
	if (stored == NULL && (c->subscription.n > 128 || c->group.n > 90)) {
		call_error(c, 400, "InvalidResourceName",
			   "The subscription or resource group in the path is too long.");
		return;
	}
	if (stored != NULL && stored->provisioning == PROVISIONING_DELETING) {
		call_error(c, 409, "SessionPoolBeingDeleted", "The pool '%.*s' is being deleted.",
			   STR_ARGS(c->name));
		return;
	}
	body = call_body(c);
	if (body == NULL)
		return;
	r = pool_document_read(c, body, stored, patch, &put);
	json_decref(body);
	if (r < 0)
		return;
	if (patch) {
		put->expect_uid = stored->uid;
		put->expect_operation = stored->operation;
	}
	then.put = put;
	then.location = location_of(c, put->document);
	continuation_post(c, patch ? THEN_PATCH : THEN_PUT,
			  (struct address){ADDRESS_POOL, c->arm->node, stored == NULL ? 0 : stored->uid},
			  MSG_POOL_PUT, put, then);
}

void pools_put(struct call *c)
{
	write_pool(c, false);
}

void pools_patch(struct call *c)
{
	write_pool(c, true);
}

void pools_get(struct call *c)
{
	call_json(c, 200, pool_show(c, c->pool));
}

void pools_delete(struct call *c)
{
	const struct pool_row *row = state_pool_by_name(c->state, c->subscription, c->group, c->name);
	struct msg_pool_delete *body = arena_alloc(c->arena, sizeof *body);
	struct arm_continuation then = {0};

	must(body != NULL);
	if (row == NULL) {
		call_empty(c, 204);
		return;
	}
	body->pool = row->uid;
	then.location = location_of(c, row->document);
	continuation_post(c, THEN_DELETE, (struct address){ADDRESS_POOL, c->arm->node, row->uid},
			  MSG_POOL_DELETE, body, then);
}

static void list(struct call *c, bool group)
{
	json_t *body = json_new_object(), *value = json_put_array(body, "value");
	uint64_t skip = 0, n = 0;

	if (call_query_u64(c, "$skipToken", 0, UINT32_MAX, 0, &skip) < 0) {
		json_decref(body);
		return;
	}
	for (const struct pool_row *row = state_next_pool(c->state, NULL); row != NULL;
	     row = state_next_pool(c->state, row)) {
		if (!str_eq_nocase(row->subscription, c->subscription) ||
		    (group && !str_eq_nocase(row->resource_group, c->group)))
			continue;
		if (n >= skip && n < skip + LIST_PAGE)
			json_push(value, pool_show(c, row));
		n++;
	}
	if (n > skip + LIST_PAGE)
		json_put_str(body, "nextLink",
			     call_printf(c, "%.*s%.*s?api-version=%.*s&$skipToken=%llu", STR_ARGS(c->base),
					 STR_ARGS(c->request->path), STR_ARGS(c->version_text),
					 (unsigned long long)(skip + LIST_PAGE)));
	call_json(c, 200, body);
}

void pools_list(struct call *c)
{
	list(c, false);
}

void pools_list_group(struct call *c)
{
	list(c, true);
}

/* The resource as it will be: this node's tables may not show the change yet. */
static json_t *show_put(struct call *c, const struct msg_pool_put *put, const struct msg_pool_answer *answer)
{
	const struct pool_row *stored = state_pool(c->state, answer->pool);
	struct pool_row row = {.uid = answer->pool, .created_ms = c->request->now_ms};

	if (stored != NULL)
		row = *stored;
	row.subscription = put->subscription;
	row.resource_group = put->resource_group;
	row.name = put->name;
	row.document = put->document;
	row.limits = put->limits;
	row.isolation = put->isolation;
	row.provisioning = PROVISIONING_IN_PROGRESS;
	row.changed_ms = c->request->now_ms;
	return pool_show(c, &row);
}

static void refuse(struct call *c, const struct msg_pool_answer *answer)
{
	struct str text = answer->message.n > 0 ? answer->message : STR("the request was refused");

	switch (answer->code) {
	case -ENOENT:
		call_error(c, 404, "ResourceNotFound", "The pool does not exist any more: %.*s.",
			   STR_ARGS(text));
		break;
	case -ESTALE:
	case -EEXIST:
	case -EBUSY:
		call_error(c, 409, "Conflict", "%.*s.", STR_ARGS(text));
		break;
	case -EROFS:
		call_error(c, 409, "PropertyChangeNotAllowed", "tags." POOL_TAG_ISOLATION ": %.*s.",
			   STR_ARGS(text));
		break;
	case -EINVAL:
	case -EBADMSG:
		call_error(c, 400, "InvalidRequestContent", "%.*s.", STR_ARGS(text));
		break;
	case -ENOSPC:
		call_error(c, 507, "InsufficientStorage", "Nothing new can be stored: %.*s.", STR_ARGS(text));
		break;
	default:
		call_error(c, 503, "ServiceUnavailable", "%.*s. Try again.", STR_ARGS(text));
		arm_reply_header(&c->out->reply, "retry-after", STR("2"));
	}
}

void pools_answer(struct call *c, const struct arm_continuation *then, const struct msg_pool_answer *answer)
{
	struct str results = operation_link(c, then->location, "operationResults", answer->operation);
	struct str statuses = operation_link(c, then->location, "operationStatuses", answer->operation);
	struct arm_reply *reply = &c->out->reply;

	if (then->then == THEN_DELETE && answer->code == -ENOENT) {
		call_empty(c, 204);
	} else if (answer->code != 0) {
		refuse(c, answer);
	} else if (then->then == THEN_PUT) {
		/* 201 for an update too, as recorded: the client polls the operation either way. */
		call_json(c, 201, show_put(c, then->put, answer));
		arm_reply_header(reply, "azure-asyncoperation",
				 call_printf(c, "%.*s&azureAsyncOperation=true", STR_ARGS(statuses)));
		arm_reply_header(reply, "x-ms-async-operation-timeout", STR("PT30M"));
	} else {
		call_empty(c, 202);
		arm_reply_header(reply, "location", results);
		arm_reply_header(reply, "retry-after", STR("1"));
	}
}
