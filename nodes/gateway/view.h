/* view.h -- what the gateway knows of pools and nodes: an immutable, counted snapshot that control makes and publishes.
 * Made by one thread, read by all after gateway_publish. All strings are copied in. */
#ifndef GATEWAY_VIEW_H
#define GATEWAY_VIEW_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "core/str.h"

struct view;

struct view_pool {
	uint64_t uid;
	struct str subscription, resource_group, name;
	struct str host;           /* "<pool>.<env>.<region>.<domain>"; empty: reached by path alone */
	struct str scope;          /* the resource's id, for roles: /subscriptions/.../sessionPools/<name> */
	uint32_t queue_timeout_ms; /* how long a first request waits for a sandbox; 0: 10 s */
	uint32_t request_timeout_ms; /* without a byte in either direction; 0: 240 s */
	uint64_t cooldown_ms; /* a tunnel that was silent for longer does not count as busy; 0: 300 s */
};

struct view_node {
	uint64_t id;
	struct sockaddr_storage peer; /* of its peer listener */
	bool silent;                  /* its lease ended as far as this node knows: it serves nobody */
};

struct view *view_new(void);
struct view *view_ref(struct view *v);
void view_unref(struct view *v); /* NULL is fine */
/* Before publishing only. -ENOMEM. */
int view_add_pool(struct view *v, const struct view_pool *pool);
int view_add_node(struct view *v, const struct view_node *node);

/* Which nodes were removed: those up to `newest` that are not in the view, and those below 64 with a bit in `removed`. */
void view_set_removed(struct view *v, uint64_t newest, uint64_t removed);
bool view_refuses(const struct view *v, uint64_t node);

/* Borrowed from the view; NULL if there is none. Names and hosts compare without case. `host` may carry a port. */
const struct view_pool *view_by_host(const struct view *v, struct str host);
const struct view_pool *view_by_name(const struct view *v, struct str subscription, struct str resource_group,
				     struct str name);
const struct view_pool *view_by_uid(const struct view *v, uint64_t uid);
const struct view_node *view_node(const struct view *v, uint64_t id);

#endif
