/* cluster.c -- see cluster.h. Everything but images and tokens is read from this node's tables. */
#include <errno.h>
#include <string.h>

#include "arm/cluster.h"
#include "arm/pool/pool_show.h"
#include "core/must.h"
#include "state/able.h"

#define TOKEN_ROLES_MAX 16
#define PATH_BYTES_MAX  4096

/* Of the node that is asked: the others know theirs. */
static void put_network(const struct arm_network *n, json_t *to)
{
	json_t *network = json_put_object(to, "network");

	json_put_cstr(network, "rules", n->problem[0] == '\0' ? "ok" : "failing");
	if (n->problem[0] != '\0')
		json_put_cstr(network, "problem", n->problem);
	json_put_u64(network, "repairs", n->repairs);
	if (n->repairs > 0)
		json_put_time(network, "repaired", n->repaired_ms);
}

static uint64_t free_of(uint64_t most, uint64_t used)
{
	return most > used ? most - used : 0;
}

const char *cluster_scheduling(const struct call *c, const struct node_row *row)
{
	if (row->draining)
		return row->drained_ms != 0 && row->id != c->arm->leader ? "drained" : "draining";
	return row->cordoned ? "cordoned" : row->disk.nearly_full ? "disk full" : "open";
}

/* What it can run, and why not virtual machines. */
static void put_isolations(const struct node_row *row, json_t *to)
{
	json_t *list = json_put_array(to, "isolations");

	for (unsigned i = 0; i < ISOLATIONS; i++) {
		if (state_node_runs(row, (uint8_t)i))
			json_push_str(list, str_of(isolation_name[i]));
	}
	if (row->epoch != 0 && !state_node_runs(row, ISOLATION_VM))
		json_put_str(to, "noVm", row->no_vm.n > 0 ? row->no_vm : STR("not known yet"));
}

static void put_node(const struct call *c, json_t *to, const struct node_row *row)
{
	const struct settings *s = &state_cluster(c->state)->settings;
	uint32_t booting = 0, ready = 0, bound = 0;

	for (const struct sandbox_row *box = NULL;
	     (box = state_next_node_sandbox(c->state, row->id, box)) != NULL;) {
		booting += box->state == SANDBOX_BOOTING;
		ready += box->state == SANDBOX_READY;
		bound += box->state == SANDBOX_BOUND;
	}
	json_put_u64(to, "id", row->id);
	json_put_str(to, "name", row->name);
	json_put_cstr(to, "state", row->state == NODE_UP ? "up" : row->state == NODE_NEW ? "new" : "lost");
	json_put_cstr(to, "role",
		      row->member != MEMBER_NONE ? member_role_name[row->member]
		      : row->voter               ? "joining"
						 : "worker");
	json_put_bool(to, "leaving", row->leaving);
	json_put_bool(to, "leader", row->id == c->arm->leader);
	json_put_bool(to, "cordoned", row->cordoned);
	json_put_bool(to, "draining", row->draining);
	json_put_cstr(to, "scheduling", cluster_scheduling(c, row));
	json_put_u64(to, "epoch", row->epoch);
	json_put_time(to, "renewed", row->renewed_ms);
	json_put_str(to, "raftAddress", row->raft_address);
	json_put_str(to, "controlAddress", row->control_address);
	json_put_str(to, "peerAddress", row->peer_address);
	json_put_str(to, "apiAddress", row->api_address);
	json_put_str(to, "labels", row->labels);
	json_put_str(to, "version", row->version);
	json_put_u64(to, "featureLevel", row->feature_level);
	put_isolations(row, to);
	json_put_u64(to, "cpuMilli", row->cpu_milli * s->overcommit_cpu);
	json_put_u64(to, "cpuMilliReserved", row->cpu_reserved);
	json_put_u64(to, "memoryBytes", row->memory_bytes * s->overcommit_memory);
	json_put_u64(to, "memoryBytesReserved", row->memory_reserved);
	json_put_u64(to, "cpuMilliFree", free_of(row->cpu_milli * s->overcommit_cpu, row->cpu_reserved));
	json_put_u64(to, "memoryBytesFree",
		     free_of(row->memory_bytes * s->overcommit_memory, row->memory_reserved));
	if (row->disk.bytes != 0) {
		json_put_u64(to, "diskBytes", row->disk.bytes);
		json_put_u64(to, "diskBytesFree", row->disk.free);
		json_put_u64(to, "diskUsedPercent",
			     (row->disk.bytes - row->disk.free) / (row->disk.bytes / 100 + 1));
	}
	json_put_bool(to, "diskNearlyFull", row->disk.nearly_full);
	json_put_u64(to, "booting", booting);
	json_put_u64(to, "ready", ready);
	json_put_u64(to, "bound", bound);
	if (row->id == c->arm->node && c->arm->network != NULL)
		put_network(c->arm->network, to);
}

/* The last change of voters: under way, done, or failed and why. */
static void put_change(const struct call *c, json_t *body)
{
	const struct operation_row *last = NULL;
	json_t *to;

	for (const struct operation_row *row = NULL; (row = state_next_operation(c->state, row)) != NULL;) {
		if (row->kind == OPERATION_MEMBER)
			last = row;
	}
	if (last == NULL)
		return;
	to = json_put_object(body, "memberChange");
	json_put_u64(to, "operation", last->id);
	json_put_u64(to, "node", last->node);
	json_put_cstr(to, "role", member_role_name[last->role]);
	json_put_cstr(to, "state",
		      last->phase == PHASE_CHANGE      ? "under way"
		      : last->phase == PHASE_SUCCEEDED ? "done"
						       : "failed");
	json_put_time(to, "started", last->started_ms);
	if (last->message.n > 0)
		json_put_str(to, "message", last->message);
}

static json_t *status_of(const struct call *c)
{
	const struct cluster_row *row = state_cluster(c->state);
	json_t *body = json_new_object(), *nodes, *settings;
	uint32_t pools = 0;

	for (const struct pool_row *pool = state_next_pool(c->state, NULL); pool != NULL;
	     pool = state_next_pool(c->state, pool))
		pools++;
	json_put_str(body, "id", row->id);
	json_put_cstr(body, "version", BERTH_VERSION);
	json_put_u64(body, "incarnation", row->incarnation);
	json_put_u64(body, "featureLevel", row->feature_level);
	json_put_time(body, "time", row->time_ms);
	json_put_u64(body, "index", state_index(c->state));
	json_put_u64(body, "term", c->arm->term);
	json_put_u64(body, "node", c->arm->node);
	json_put_u64(body, "leader", c->arm->leader);
	json_put_cstr(body, "health", c->arm->leader != 0 ? "ok" : "no leader");
	json_put_u64(body, "pools", pools);
	settings = json_put_object(body, "settings");
	json_put_u64(settings, "cooldownMsMin", row->settings.cooldown_ms_min);
	json_put_u64(settings, "queueMs", row->settings.queue_ms);
	json_put_u64(settings, "leaseMs", row->settings.lease_ms);
	json_put_u64(settings, "lostMs", row->settings.lost_ms);
	json_put_u64(settings, "pullRetryMs", row->settings.pull_retry_ms);
	json_put_u64(settings, "startMs", row->settings.start_ms);
	json_put_cstr(settings, "isolation", isolation_name[row->settings.isolation]);
	json_put_str(settings, "domain", row->settings.domain);
	json_put_str(settings, "environment", row->settings.environment);
	json_put_str(settings, "region", row->settings.region);
	json_put_str(settings, "tenant", row->settings.tenant);
	put_change(c, body);
	nodes = json_put_array(body, "nodes");
	for (const struct node_row *node = state_next_node(c->state, NULL); node != NULL;
	     node = state_next_node(c->state, node))
		put_node(c, json_push_object(nodes), node);
	return body;
}

void cluster_status(struct call *c)
{
	call_json(c, 200, status_of(c));
}

void cluster_health(struct call *c)
{
	CLEANUP_BUF struct buf text = {0};
	json_t *body = status_of(c);

	json_print(&text, body, false);
	json_decref(body);
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_STATUS;
	c->out->status = arena_str(c->arena, buf_str(&text));
}

void cluster_nodes(struct call *c)
{
	json_t *body = json_new_object(), *value = json_put_array(body, "value");

	for (const struct node_row *node = state_next_node(c->state, NULL); node != NULL;
	     node = state_next_node(c->state, node))
		put_node(c, json_push_object(value), node);
	call_json(c, 200, body);
}

const struct node_row *cluster_find_node(struct call *c)
{
	for (const struct node_row *node = NULL; (node = state_next_node(c->state, node)) != NULL;) {
		if (str_eq(node->name, c->extra) ||
		    str_eq(call_printf(c, "%llu", (unsigned long long)node->id), c->extra))
			return node;
	}
	call_error(c, 404, "NodeNotFound", "There is no node '%.*s'.", STR_ARGS(c->extra));
	return NULL;
}

void cluster_node(struct call *c)
{
	const struct node_row *node = cluster_find_node(c);
	CLEANUP_BUF struct buf text = {0};
	json_t *body;

	if (node == NULL)
		return;
	body = json_new_object();
	put_node(c, body, node);
	json_print(&text, body, false);
	json_decref(body);
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_NODE;
	c->out->node = (struct arm_node_ask){.node = node->id, .head = arena_str(c->arena, buf_str(&text))};
}

/* Why no node can run it; nothing while one can. */
static void put_unable(const struct call *c, const struct pool_row *row, json_t *to)
{
	uint64_t next = row->active_revision != 0 ? row->active_revision : row->desired_revision;
	const struct revision_row *revision = state_revision(c->state, row->uid, next);
	char text[ABLE_TEXT_MAX];

	if (revision != NULL && able_nodes(c->state, row, &revision->template, text) != ABLE_SOME)
		json_put_cstr(to, "unable", text);
}

/* How many are ready, booting, failing, and why. */
void cluster_pool_status(struct call *c)
{
	const struct pool_row *row = c->pool;
	struct pool_counts n = state_pool_counts(c->state, row->uid);
	const struct operation_row *operation = state_operation(c->state, row->operation);
	json_t *body = json_new_object(), *to;
	uint32_t with_egress = 0;

	for (const struct sandbox_row *b = NULL;
	     (b = state_next_pool_sandbox(c->state, row->uid, b)) != NULL;)
		with_egress += b->egress;
	json_put_str(body, "name", row->name);
	json_put_u64(body, "uid", row->uid);
	json_put_cstr(body, "isolation", isolation_name[row->isolation]);
	json_put_cstr(body, "provisioningState",
		      row->provisioning < PROVISIONINGS ? provisioning_name[row->provisioning] : "Failed");
	json_put_u64(body, "maxSessions", row->limits.max_sessions);
	json_put_u64(body, "readyTarget", row->limits.ready_target);
	to = json_put_object(body, "sandboxes");
	json_put_u64(to, "booting", n.booting);
	json_put_u64(to, "ready", n.ready);
	json_put_u64(to, "bound", n.bound);
	json_put_u64(to, "stopping", n.stopping);
	json_put_u64(to, "withEgress", with_egress);
	json_put_cstr(body, "egress", row->limits.egress ? "enabled" : "disabled");
	to = json_put_object(body, "sessions");
	json_put_u64(to, "waiting", n.waiting);
	json_put_u64(to, "live", n.live);
	json_put_u64(to, "closing", n.closing);
	json_put_u64(body, "desiredRevision", row->desired_revision);
	json_put_u64(body, "activeRevision", row->active_revision);
	put_unable(c, row, body);
	if (row->failures > 0 || row->failure.n > 0) {
		to = json_put_object(body, "failure");
		json_put_str(to, "message", row->failure);
		json_put_u64(to, "inARow", row->failures);
		json_put_time(to, "at", row->failed_ms);
	}
	if (operation != NULL) {
		static const char *const phases[PHASES] = {"resolving the image",
							   "caching the image",
							   "draining",
							   "changing the voters",
							   "succeeded",
							   "failed",
							   "canceled"};

		to = json_put_object(body, "operation");
		json_put_u64(to, "id", operation->id);
		json_put_cstr(to, "phase", operation->phase < PHASES ? phases[operation->phase] : "unknown");
		json_put_time(to, "started", operation->started_ms);
		if (operation->ended_ms != 0)
			json_put_time(to, "ended", operation->ended_ms);
		if (operation->phase == PHASE_FAILED) {
			json_put_str(to, "code", operation->code);
			json_put_str(to, "message", operation->message);
		}
	}
	call_json(c, 200, body);
}

void cluster_images(struct call *c)
{
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_IMAGES;
}

void cluster_prune(struct call *c)
{
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_PRUNE;
}

void cluster_forget(struct call *c)
{
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_FORGET;
	c->out->forget = arena_str(c->arena, c->extra);
}

/* {"reference": what it is to be called, "path": an archive or layout on this host}. */
void cluster_import(struct call *c)
{
	struct str reference = STR(""), path = STR("");
	struct err err = {0};
	json_t *body = call_body(c);
	int r;

	if (body == NULL)
		return;
	r = json_get_str(body, JSON_REQUIRED, IMAGE_REFERENCE_MAX, &reference, &err, "reference");
	if (r == 0)
		r = json_get_str(body, JSON_REQUIRED, PATH_BYTES_MAX, &path, &err, "path");
	if (r == 0 && (reference.n == 0 || path.n == 0 || path.p[0] != '/'))
		r = err_set(&err, -EINVAL, "reference must not be empty, and path must be absolute");
	if (r == 0) {
		c->out->kind = ARM_TASK;
		c->out->task = ARM_TASK_IMPORT;
		c->out->import.reference = arena_str(c->arena, reference);
		c->out->import.path = arena_str(c->arena, path);
	} else {
		call_error(c, 400, "InvalidRequestContent", "%s.", err.message);
	}
	json_decref(body);
}

static int read_roles(struct call *c, const json_t *body, struct arm_token_ask *ret, struct err *err)
{
	json_t *list = NULL;
	int r = json_get_array(body, JSON_OPTIONAL, TOKEN_ROLES_MAX, &list, err, "roles");

	if (r < 0)
		return r;
	ret->n_roles = (uint32_t)json_array_size(list);
	ret->roles = arena_array(c->arena, ret->n_roles + 1, sizeof *ret->roles);
	must(ret->roles != NULL);
	for (uint32_t i = 0; i < ret->n_roles; i++) {
		struct str role, scope = STR("/");

		r = json_get_str(body, JSON_REQUIRED, 128, &role, err, "roles[%u].role", i);
		if (r == 0)
			r = json_get_str(body, JSON_OPTIONAL, 1024, &scope, err, "roles[%u].scope", i);
		if (r < 0)
			return r;
		ret->roles[i] = (struct arm_role){arena_str(c->arena, role), arena_str(c->arena, scope)};
	}
	return 0;
}

void cluster_token(struct call *c)
{
	struct arm_token_ask *ask = &c->out->token;
	struct str subject = STR("operator"), audience = STR("management");
	uint64_t ttl_s = 3600;
	struct err err = {0};
	json_t *body = call_body(c);
	int r;

	if (body == NULL)
		return;
	r = json_get_str(body, JSON_OPTIONAL, 128, &subject, &err, "subject");
	if (r == 0)
		r = json_get_str(body, JSON_OPTIONAL, 512, &audience, &err, "audience");
	if (r == 0)
		r = json_get_u64(body, JSON_OPTIONAL, 60, 86400, &ttl_s, &err, "ttlSeconds");
	if (r == 0)
		r = read_roles(c, body, ask, &err);
	if (r == 0) {
		ask->subject = arena_str(c->arena, subject);
		ask->audience = str_eq_nocase(audience, STR("management")) ? arena_str(c->arena, c->arm->url)
				: str_eq_nocase(audience, STR("data"))     ? STR("https://dynamicsessions.io")
									   : arena_str(c->arena, audience);
		ask->ttl_s = (uint32_t)ttl_s;
		c->out->kind = ARM_TASK;
		c->out->task = ARM_TASK_TOKEN;
	} else {
		call_error(c, 400, "InvalidRequestContent", "%s.", err.message);
	}
	json_decref(body);
}
