/* arm.c -- one table of routes: method, path, right, handler. A request runs down it: parse, match, check the caller, find
 * the pool, check the version, handle. Paths are compared without case (ARM's rule); {s} {g} {n} {x} take any segment. */
#include <errno.h>
#include <string.h>

#include "arm/access.h"
#include "arm/around.h"
#include "arm/billing.h"
#include "arm/cluster.h"
#include "arm/continuation.h"
#include "arm/node/joining.h"
#include "arm/node/drain.h"
#include "arm/pool/pools.h"
#include "arm/sessions.h"
#include "arm/version.h"
#include "core/must.h"

enum route_flag {
	ROUTE_VERSION = 1, /* needs an api-version of Microsoft.App */
	ROUTE_POOL = 2,    /* the pool must exist */
	ROUTE_NEAR = 4,    /* a role below the scope is enough */
};

struct route {
	const char *method, *path;
	unsigned rights; /* 0: no token needed */
	unsigned flags;
	call_handler *handler;
};

#define SUB   "subscriptions/{s}"
#define GROUP SUB "/resourceGroups/{g}"
#define APP   "/providers/Microsoft.App"
#define POOL  GROUP APP "/sessionPools/{n}"
#define BERTH ".berth/v1/"

static const struct route routes[] = {
	{"PUT", POOL, ACCESS_WRITE, ROUTE_VERSION, pools_put},
	{"GET", POOL, ACCESS_READ, ROUTE_VERSION | ROUTE_POOL, pools_get},
	{"PATCH", POOL, ACCESS_WRITE, ROUTE_VERSION | ROUTE_POOL, pools_patch},
	{"DELETE", POOL, ACCESS_WRITE, ROUTE_VERSION, pools_delete},
	{"GET", GROUP APP "/sessionPools", ACCESS_READ, ROUTE_VERSION, pools_list_group},
	{"GET", SUB APP "/sessionPools", ACCESS_READ, ROUTE_VERSION, pools_list},
	{"GET", SUB APP "/locations/{g}/operationStatuses/{x}", ACCESS_READ, ROUTE_VERSION | ROUTE_NEAR,
	 operations_status},
	{"GET", SUB APP "/locations/{g}/operationResults/{x}", ACCESS_READ, ROUTE_VERSION | ROUTE_NEAR,
	 operations_result},

	{"GET", "metadata/endpoints", 0, 0, around_endpoints},
	{"GET", "subscriptions", ACCESS_READ, ROUTE_NEAR, around_subscriptions},
	{"GET", SUB, ACCESS_READ, ROUTE_NEAR, around_subscription},
	{"GET", SUB APP, ACCESS_READ, ROUTE_NEAR, around_provider},
	{"GET", GROUP, ACCESS_READ, ROUTE_NEAR, around_group},
	{"GET", GROUP APP "/managedEnvironments/{n}", ACCESS_READ, ROUTE_NEAR, around_environment},

	{"GET", BERTH "cluster", ACCESS_READ, 0, cluster_status},
	{"GET", BERTH "keys", ACCESS_READ, 0, cluster_keys},
	{"POST", BERTH "keys/rotate", ACCESS_LOCAL, 0, cluster_rotate},
	{"GET", BERTH "backup", ACCESS_LOCAL, 0, cluster_backup},
	{"POST", BERTH "cluster/upgrade", ACCESS_WRITE, 0, drain_upgrade},
	{"GET", BERTH "cluster/status", ACCESS_READ, 0, cluster_health},
	{"GET", BERTH "nodes", ACCESS_READ, 0, cluster_nodes},
	{"GET", BERTH "nodes/{x}", ACCESS_READ, 0, cluster_node},
	{"POST", BERTH "nodes/{x}/cordon", ACCESS_WRITE, 0, drain_cordon},
	{"POST", BERTH "nodes/{x}/uncordon", ACCESS_WRITE, 0, drain_uncordon},
	{"GET", BERTH "nodes/{x}/drain", ACCESS_READ, 0, drain_show},
	{"POST", BERTH "nodes/{x}/drain", ACCESS_WRITE, 0, drain_begin},
	{"DELETE", BERTH "nodes/{x}/drain", ACCESS_WRITE, 0, drain_cancel},
	{"DELETE", BERTH "nodes/{x}", ACCESS_OWNER, 0, joining_leave},
	{"GET", BERTH "ca", 0, 0, joining_ca},
	{"POST", BERTH "join", 0, 0, joining_ask},
	{"POST", BERTH "joinTokens", ACCESS_OWNER, 0, joining_token},
	{"GET", BERTH "images", ACCESS_READ, 0, cluster_images},
	{"POST", BERTH "images/import", ACCESS_LOCAL, 0, cluster_import},
	{"POST", BERTH "images/prune", ACCESS_LOCAL, 0, cluster_prune},
	{"DELETE", BERTH "images/{x}", ACCESS_LOCAL, 0, cluster_forget},
	{"POST", BERTH "tokens", ACCESS_LOCAL, 0, cluster_token},
	{"GET", BERTH "billing", ACCESS_READ, 0, billing_export},
	{"GET", BERTH POOL "/status", ACCESS_READ, ROUTE_POOL, cluster_pool_status},
	{"GET", BERTH POOL "/sessions", ACCESS_READ, ROUTE_POOL, sessions_list},
	{"POST", BERTH POOL "/stopSession", ACCESS_WRITE, ROUTE_POOL, sessions_stop},
	{"POST", BERTH POOL "/suspendSession", ACCESS_WRITE, ROUTE_POOL, sessions_suspend},
	{"POST", BERTH POOL "/resumeSession", ACCESS_WRITE, ROUTE_POOL, sessions_resume},
	{"GET", BERTH POOL "/logs", ACCESS_READ, ROUTE_POOL, sessions_logs},
};

/* Below a pool's endpoint. */
static const struct route data_routes[] = {
	{"POST", ".management/stopSession", ACCESS_EXECUTE, ROUTE_POOL, sessions_data_stop},
	{"POST", ".management/getSession", ACCESS_EXECUTE, ROUTE_POOL, sessions_data_get},
	{"GET", ".management/getSession", ACCESS_EXECUTE, ROUTE_POOL, sessions_data_get},
	{"POST", ".management/listSessions", ACCESS_EXECUTE, ROUTE_POOL, sessions_data_list},
	{"GET", ".management/listSessions", ACCESS_EXECUTE, ROUTE_POOL, sessions_data_list},
};

static void take(struct call *c, struct str hole, struct str segment)
{
	struct str *to = hole.p[1] == 's'   ? &c->subscription
			 : hole.p[1] == 'g' ? &c->group
			 : hole.p[1] == 'n' ? &c->name
					    : &c->extra;

	*to = segment;
}

static bool matches(struct call *c, const char *path)
{
	struct str rest = str_of(path), part;
	bool more = true;
	uint32_t i = 0;

	c->subscription = c->group = c->name = c->extra = STR_NONE;
	for (; more; i++) {
		more = str_cut(rest, '/', &part, &rest);
		if (i == c->n_segments)
			return false;
		if (part.p[0] == '{')
			take(c, part, c->segments[i]);
		else if (!str_eq_nocase(part, c->segments[i]))
			return false;
	}
	return i == c->n_segments;
}

/* NULL: none; then *ret_allowed lists the methods that this path takes. */
static const struct route *find(struct call *c, struct str *ret_allowed)
{
	const struct route *list = c->request->pool != 0 ? data_routes : routes;
	size_t n = c->request->pool != 0 ? sizeof data_routes / sizeof *data_routes
					 : sizeof routes / sizeof *routes;

	*ret_allowed = STR_NONE;
	for (size_t i = 0; i < n; i++) {
		if (!matches(c, list[i].path))
			continue;
		if (str_eq(c->request->method, str_of(list[i].method)))
			return &list[i];
		*ret_allowed = call_printf(c, "%.*s%s%s", STR_ARGS(*ret_allowed),
					   ret_allowed->n > 0 ? ", " : "", list[i].method);
	}
	return NULL;
}

static void set_scope(struct call *c, const struct route *route)
{
	if (c->request->pool != 0)
		c->scope = call_pool_id(c, c->pool->subscription, c->pool->resource_group, c->pool->name);
	else if (c->name.n > 0)
		c->scope = call_pool_id(c, c->subscription, c->group, c->name);
	else if (c->group.n > 0 && c->extra.n == 0)
		c->scope = call_printf(c, "/subscriptions/%.*s/resourceGroups/%.*s",
				       STR_ARGS(c->subscription), STR_ARGS(c->group));
	else if (c->subscription.n > 0)
		c->scope = call_printf(c, "/subscriptions/%.*s", STR_ARGS(c->subscription));
	else
		c->scope = STR("/");
	/* The environment of a group is not a pool. */
	if (route->handler == around_environment)
		c->scope = call_printf(c, "/subscriptions/%.*s/resourceGroups/%.*s",
				       STR_ARGS(c->subscription), STR_ARGS(c->group));
}

static bool check_access(struct call *c, const struct route *route)
{
	const struct arm_caller *caller = &c->request->caller;
	bool near = (route->flags & ROUTE_NEAR) != 0;

	if (route->rights == 0 || (near ? access_near(caller, route->rights, c->scope)
					: access_allowed(caller, route->rights, c->scope)))
		return true;
	if (route->rights & ACCESS_LOCAL)
		call_error(c, 403, "AuthorizationFailed", "This is possible on a node's admin socket only.");
	else
		call_error(c, 403, "AuthorizationFailed",
			   "The client '%.*s' does not have authorization to %s over scope '%.*s'.",
			   STR_ARGS(caller->subject),
			   route->rights & ACCESS_WRITE     ? "make changes"
			   : route->rights & ACCESS_EXECUTE ? "use sessions"
							    : "read",
			   STR_ARGS(c->scope));
	return false;
}

static bool check_version(struct call *c)
{
	c->version_text = call_query(c, "api-version");
	if (c->version_text.n == 0) {
		call_error(c, 400, "MissingApiVersionParameter",
			   "The api-version query parameter (?api-version=) is required for all requests.");
		return false;
	}
	if (version_parse(c->version_text, &c->version) < 0 || c->version < VERSION_FIRST) {
		call_error(
			c, 400, "InvalidApiVersionParameter",
			"The api-version '%.*s' is invalid. The supported versions are '%s' and later ones.",
			STR_ARGS(str_slice(c->version_text, 0,
					   c->version_text.n < 64 ? c->version_text.n : 64)),
			version_list);
		return false;
	}
	arm_reply_header(&c->out->reply, "api-supported-versions", str_of(version_list));
	return true;
}

static bool find_pool(struct call *c)
{
	if (c->request->pool == 0)
		c->pool = state_pool_by_name(c->state, c->subscription, c->group, c->name);
	if (c->pool != NULL)
		return true;
	call_error(
		c, 404, "ResourceNotFound",
		"The Resource 'Microsoft.App/sessionPools/%.*s' under resource group '%.*s' was not found.",
		STR_ARGS(c->name), STR_ARGS(c->group));
	return false;
}

static void refuse_method(struct call *c, struct str allowed)
{
	call_error(c, 405, "MethodNotAllowed", "The method %.*s is not allowed here, but %.*s.",
		   STR_ARGS(c->request->method), STR_ARGS(allowed));
	arm_reply_header(&c->out->reply, "allow", allowed);
}

static void run(struct call *c)
{
	const struct route *route;
	struct err err = {0};
	struct str allowed;

	if (call_parse(c, &err) < 0) {
		call_error(c, 400, "InvalidRequestUri", "The request's URI is not valid: %s.", err.message);
		return;
	}
	if (c->request->pool != 0 && (c->pool = state_pool(c->state, c->request->pool)) == NULL) {
		call_error(c, 404, "ResourceNotFound", "The session pool does not exist.");
		return;
	}
	route = find(c, &allowed);
	if (route == NULL) {
		if (allowed.n > 0)
			refuse_method(c, allowed);
		else if (c->request->pool != 0)
			call_error(c, 400, "SessionRequestNotSupported",
				   "Below /.management there are stopSession, getSession and listSessions.");
		else
			call_error(c, 404, "InvalidResourceType", "There is nothing at this path.");
		return;
	}
	set_scope(c, route);
	if (!check_access(c, route) || ((route->flags & ROUTE_VERSION) && !check_version(c)) ||
	    ((route->flags & ROUTE_POOL) && !find_pool(c)))
		return;
	route->handler(c);
}

void arm_handle(const struct arm *arm, const struct arm_request *request, const struct state *state,
		struct arena *arena, struct arm_outcome *ret)
{
	struct call *c = arena_alloc(arena, sizeof *c);

	*ret = (struct arm_outcome){0};
	if (c == NULL) {
		arm_reply_error(&ret->reply, 503, "ServiceUnavailable", "Out of memory.");
		return;
	}
	*c = (struct call){.arm = arm, .request = request, .state = state, .arena = arena, .out = ret};
	run(c);
	if (c->n_asks > 0) {
		arm_reply_done(&ret->reply);
		*ret = (struct arm_outcome){.kind = ARM_ASK, .asks = c->asks, .n_asks = c->n_asks};
	}
}

static const struct route *route_of(struct str method, struct str path)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct arm_request request = {.method = method, .path = path};
	struct arm arm = {0};
	struct call c = {.arm = &arm, .request = &request, .arena = &arena};
	struct str allowed;

	return call_parse(&c, NULL) < 0 ? NULL : find(&c, &allowed);
}

bool arm_public(struct str method, struct str path)
{
	const struct route *route = route_of(method, path);

	return route != NULL && route->rights == 0;
}

bool arm_shown(const struct state *state, uint16_t type, const void *body)
{
	const struct msg_pool_answer *answer = body;
	const struct msg_node_ordered *ordered = body;

	if (type == MSG_NODE_ORDERED)
		return ordered->code != 0 || state_index(state) >= ordered->index;
	if (type != MSG_POOL_ANSWER || answer->code != 0)
		return true;
	return state_operation(state, answer->operation) != NULL;
}

bool arm_again(const struct arm_outcome *outcome, uint16_t type, const void *body)
{
	const struct msg_pool_answer *answer = body;

	return type == MSG_POOL_ANSWER && outcome->then->then == THEN_PATCH && answer->code == -ESTALE;
}

void arm_answer(const struct arm *arm, const struct arm_outcome *outcome, const struct state *state,
		uint16_t type, const void *body, struct arena *arena, struct arm_reply *ret)
{
	const struct arm_continuation *then = outcome->then;
	struct arm_outcome out = {0};
	struct call c = then->call;

	c.arm = arm;
	c.state = state;
	c.arena = arena;
	c.out = &out;
	if (c.version != 0)
		arm_reply_header(&out.reply, "api-supported-versions", str_of(version_list));
	if (type == MSG_POOL_ANSWER && then->then <= THEN_DELETE) {
		pools_answer(&c, then, body);
	} else if (type == MSG_STOPPED && then->then > THEN_DELETE) {
		sessions_answer(&c, then, body);
	} else if (type == MSG_RESTED && then->then == THEN_REST) {
		sessions_rested(&c, then, body);
	} else if (type == MSG_NODE_ORDERED && then->then == THEN_ORDER) {
		drain_answer(&c, then, body);
	} else {
		const struct msg_refused *refused = type == MSG_REFUSED ? body : NULL;

		call_error(&c, 503, "ServiceUnavailable", "%.*s. Try again.",
			   STR_ARGS(refused != NULL && refused->message.n > 0
					    ? refused->message
					    : STR("No leader answered in time")));
		arm_reply_header(&out.reply, "retry-after", STR("2"));
	}
	*ret = out.reply;
}
