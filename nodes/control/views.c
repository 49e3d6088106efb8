/* The gateway's picture of the cluster: pools with their endpoints, nodes with their addresses. Made anew when a row of
 * these tables changed, handed over as an immutable snapshot. */
#include "control/control.h"
#include "core/log.h"
#include "core/must.h"

static void add_pool(struct control *c, struct view *view, const struct pool_row *pool)
{
	const struct settings *settings = &state_cluster(c->state)->settings;
	CLEANUP_ARENA struct arena arena = {0};
	struct view_pool v = {.uid = pool->uid,
			      .subscription = pool->subscription,
			      .resource_group = pool->resource_group,
			      .name = pool->name,
			      .queue_timeout_ms = (uint32_t)settings->queue_ms,
			      .request_timeout_ms = (uint32_t)c->config.silence_ms,
			      .cooldown_ms = pool->limits.cooldown_ms};

	v.scope = arena_printf(
		&arena, "/subscriptions/%.*s/resourceGroups/%.*s/providers/Microsoft.App/sessionPools/%.*s",
		STR_ARGS(pool->subscription), STR_ARGS(pool->resource_group), STR_ARGS(pool->name));
	if (settings->domain.n > 0)
		v.host = arena_printf(&arena, "%.*s.%.*s.%.*s.%.*s", STR_ARGS(pool->name),
				      STR_ARGS(settings->environment), STR_ARGS(settings->region),
				      STR_ARGS(settings->domain));
	must(view_add_pool(view, &v) == 0);
}

void views_publish(struct control *c)
{
	struct view *view = view_new();
	struct err err = {0};

	must(view != NULL);
	for (const struct pool_row *p = state_next_pool(c->state, NULL); p != NULL;
	     p = state_next_pool(c->state, p))
		add_pool(c, view, p);
	for (const struct node_row *n = state_next_node(c->state, NULL); n != NULL;
	     n = state_next_node(c->state, n)) {
		struct view_node v = {.id = n->id, .silent = silence_of(&c->silence, n->id)};

		if (mesh_address(n->peer_address, &v.peer, &err) < 0)
			log_warn("node %.*s: %s", STR_ARGS(n->name), err.message);
		else
			must(view_add_node(view, &v) == 0);
	}
	view_set_removed(view, state_cluster(c->state)->counter, state_cluster(c->state)->removed_first);
	gateway_publish(c->gateway, view);
}
