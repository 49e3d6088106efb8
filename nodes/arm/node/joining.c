/* joining.c -- see joining.h. The fields are read here; tokens, certificates and clocks are the process's. */
#include "arm/node/joining.h"

#include <errno.h>

#define CSR_MAX     8192
#define ADDRESS_MAX 63
#define URL_MAX     255
#define TTL_S_MAX   (7u * 86400u)

static void task(struct call *c, enum arm_task which)
{
	c->out->kind = ARM_TASK;
	c->out->task = (uint8_t)which;
}

void joining_ca(struct call *c)
{
	task(c, ARM_TASK_CA);
}

/* {"role": "voter" or "worker", "ttlSeconds"} */
void joining_token(struct call *c)
{
	struct str role = STR("voter");
	uint64_t ttl_s = 3600;
	struct err err = {0};
	json_t *body = call_body(c);
	int r;

	if (body == NULL)
		return;
	r = json_get_str(body, JSON_OPTIONAL, 16, &role, &err, "role");
	if (r == 0)
		r = json_get_u64(body, JSON_OPTIONAL, 1, TTL_S_MAX, &ttl_s, &err, "ttlSeconds");
	if (r == 0 && !str_eq(role, STR("voter")) && !str_eq(role, STR("worker")))
		r = err_set(&err, -EINVAL, "role: \"%.*s\", allowed are voter and worker", STR_ARGS(role));
	if (r < 0) {
		call_error(c, 400, "InvalidRequestContent", "%s.", err.message);
	} else {
		task(c, ARM_TASK_JOIN_TOKEN);
		c->out->join_token = (struct arm_join_token_ask){.voter = str_eq(role, STR("voter")),
								 .life_ms = ttl_s * 1000};
	}
	json_decref(body);
}

static int read_fields(struct call *c, const json_t *body, struct arm_join_ask *ask, struct err *err)
{
	const struct {
		const char *name;
		size_t max;
		bool optional;
		struct str *to;
	} fields[] = {
		{"token", 128, false, &ask->secret},
		{"csr", CSR_MAX, false, &ask->csr},
		{"clientsCsr", CSR_MAX, false, &ask->clients_csr},
		{"name", 64, false, &ask->name},
		{"raftAddress", ADDRESS_MAX, true, &ask->raft_address},
		{"controlAddress", ADDRESS_MAX, false, &ask->control_address},
		{"forwardAddress", ADDRESS_MAX, false, &ask->peer_address},
		{"apiAddress", URL_MAX, false, &ask->api_address},
		{"version", 64, false, &ask->version},
	};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof fields / sizeof *fields; i++) {
		r = json_get_str(body, fields[i].optional ? JSON_OPTIONAL : JSON_REQUIRED, fields[i].max,
				 fields[i].to, err, "%s", fields[i].name);
		*fields[i].to = arena_str(c->arena, *fields[i].to);
	}
	if (r == 0)
		r = json_get_u64(body, JSON_REQUIRED, 0, INT64_MAX, &ask->clock_ms, err, "clockMs");
	if (r == 0)
		r = json_get_u64(body, JSON_REQUIRED, 0, UINT16_MAX, &ask->feature_level, err,
				 "featureLevel");
	return r;
}

void joining_ask(struct call *c)
{
	struct err err = {0};
	json_t *body;

	if (!str_eq(c->request->scheme, STR("https"))) {
		call_error(c, 403, "TlsRequired", "Join tokens are taken over TLS alone.");
		return;
	}
	body = call_body(c);
	if (body == NULL)
		return;
	if (read_fields(c, body, &c->out->join, &err) < 0)
		call_error(c, 400, "InvalidRequestContent", "%s.", err.message);
	else
		task(c, ARM_TASK_JOIN);
	json_decref(body);
}

void joining_leave(struct call *c)
{
	for (const struct node_row *node = NULL; (node = state_next_node(c->state, node)) != NULL;) {
		if (!str_eq(node->name, c->extra) &&
		    !str_eq(call_printf(c, "%llu", (unsigned long long)node->id), c->extra))
			continue;
		task(c, ARM_TASK_LEAVE);
		c->out->leave = (struct arm_leave_ask){.node = node->id,
						       .force = str_eq(call_query(c, "force"), STR("true")),
						       .name = arena_str(c->arena, node->name)};
		return;
	}
	call_error(c, 404, "NodeNotFound", "There is no node '%.*s'.", STR_ARGS(c->extra));
}
