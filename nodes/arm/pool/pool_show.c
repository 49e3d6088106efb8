/* pool_show.c -- see pool_show.h. The stored document is in the canonical shape; this file adds what is read-only and turns
 * the shape into that of older versions. */
#include "arm/pool/pool_rules.h"
#include "arm/pool/pool_show.h"
#include "arm/version.h"

#define NODES_COUNTED_MAX 64

struct pool_sandboxes pool_show_sandboxes(const struct call *c, uint64_t pool, uint64_t revision)
{
	struct pool_sandboxes ret = {0};
	uint64_t seen[NODES_COUNTED_MAX];

	for (const struct sandbox_row *row = state_next_pool_sandbox(c->state, pool, NULL); row != NULL;
	     row = state_next_pool_sandbox(c->state, pool, row)) {
		uint32_t i = 0;

		if (revision != 0 && row->revision != revision)
			continue;
		ret.booting += row->state == SANDBOX_BOOTING;
		ret.ready += row->state == SANDBOX_READY;
		ret.bound += row->state == SANDBOX_BOUND;
		ret.stopping += row->state == SANDBOX_STOPPING;
		while (i < ret.nodes && seen[i] != row->node)
			i++;
		if (i == ret.nodes && i < NODES_COUNTED_MAX)
			seen[ret.nodes++] = row->node;
	}
	return ret;
}

struct str pool_show_uuid(const struct call *c, const char *kind, struct str of)
{
	uint64_t high = str_hash_stable(call_lower(c, of), str_hash_stable(str_of(kind), 1));
	uint64_t low = str_hash_stable(call_lower(c, of), str_hash_stable(str_of(kind), 2));

	/* RFC 9562, version 8: the bits are ours. */
	return call_printf(c, "%08llx-%04llx-8%03llx-%04llx-%012llx", (unsigned long long)(high >> 32),
			   (unsigned long long)(high >> 16 & 0xffff), (unsigned long long)(high & 0xfff),
			   (unsigned long long)(0x8000 | (low >> 48 & 0x3fff)),
			   (unsigned long long)(low & 0xffffffffffff));
}

struct str pool_show_endpoint(const struct call *c, const struct pool_row *row)
{
	const struct settings *s = &state_cluster(c->state)->settings;
	struct str scheme, rest, port = STR("");
	bool v6;

	if (s->domain.n == 0)
		return call_printf(c, "%.*s/subscriptions/%.*s/resourceGroups/%.*s/sessionPools/%.*s",
				   STR_ARGS(c->base), STR_ARGS(row->subscription),
				   STR_ARGS(row->resource_group), STR_ARGS(row->name));
	/* The gateway listens where this request came in: keep its port. */
	str_cut(c->base, ':', &scheme, &rest);
	v6 = rest.n > 2 && rest.p[2] == '[';
	if (v6)
		rest = str_slice(rest, str_find(rest, ']'), rest.n);
	if (str_find(rest, ':') < rest.n)
		port = str_slice(rest, str_find(rest, ':'), rest.n);
	return call_printf(c, "%.*s://%.*s%s%.*s%s%.*s.%.*s%.*s", STR_ARGS(scheme),
			   STR_ARGS(call_lower(c, row->name)), s->environment.n > 0 ? "." : "",
			   STR_ARGS(s->environment), s->region.n > 0 ? "." : "", STR_ARGS(s->region),
			   STR_ARGS(s->domain), STR_ARGS(port));
}

/* The shape of versions before 2025-01-01. */
static void to_older(const struct call *c, json_t *properties)
{
	json_t *dynamic = json_object_get(properties, "dynamicPoolConfiguration");
	json_t *life = json_object_get(dynamic, "lifecycleConfiguration"), *cooldown;
	json_t *registry = json_at(properties, "customContainerTemplate.registryCredentials"), *server;

	cooldown = json_incref(json_object_get(life, "cooldownPeriodInSeconds"));
	dynamic = json_put_object(properties, "dynamicPoolConfiguration");
	json_put_cstr(dynamic, "executionType", "Timed");
	if (cooldown != NULL)
		json_put(dynamic, "cooldownPeriodInSeconds", cooldown);
	server = json_object_get(registry, "server");
	if (c->version < VERSION_SERVER && server != NULL) {
		json_put(registry, "registryServer", json_incref(server));
		json_object_del(registry, "server");
	}
}

static void put_identity(const struct call *c, const struct pool_row *row, json_t *document)
{
	json_t *identity = json_object_get(document, "identity"), *ids, *value;
	struct str id = call_pool_id(c, row->subscription, row->resource_group, row->name);
	const char *key;
	void *next;

	if (identity == NULL) {
		if (c->version >= VERSION_IDENTITY)
			json_put_cstr(json_put_object(document, "identity"), "type", "None");
		return;
	}
	if (str_starts(json_str_of(json_object_get(identity, "type")), STR("SystemAssigned"))) {
		/* The uid makes a pool of the same name, created later, somebody else. */
		id = call_printf(c, "%.*s#%llu", STR_ARGS(id), (unsigned long long)row->uid);
		json_put_str(identity, "principalId", pool_show_uuid(c, "principal", id));
		json_put_str(identity, "tenantId", state_cluster(c->state)->settings.tenant);
	}
	ids = json_object_get(identity, "userAssignedIdentities");
	json_object_foreach_safe(ids, next, key, value)
	{
		json_put_str(value, "principalId", pool_show_uuid(c, "principal", str_of(key)));
		json_put_str(value, "clientId", pool_show_uuid(c, "client", str_of(key)));
	}
}

/* Azure appends user identities that are not listed, with lifecycle None. */
static void put_identity_settings(const struct call *c, json_t *document, json_t *properties)
{
	json_t *ids = json_at(document, "identity.userAssignedIdentities");
	json_t *list = json_object_get(properties, "managedIdentitySettings"), *value;
	const char *key;

	if (list == NULL && json_object_size(ids) == 0 && c->version < VERSION_IDENTITY)
		return;
	if (list == NULL)
		list = json_put_array(properties, "managedIdentitySettings");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (json_object_get(json_array_get(list, i), "lifecycle") == NULL)
			json_put_cstr(json_array_get(list, i), "lifecycle", "None");
	json_object_foreach(ids, key, value)
	{
		bool listed = false;

		for (size_t i = 0; i < json_array_size(list); i++)
			listed = listed || str_eq_nocase(json_str_of(json_object_get(json_array_get(list, i),
										     "identity")),
							 str_of(key));
		if (!listed) {
			json_t *setting = json_push_object(list);

			json_put_cstr(setting, "identity", key);
			json_put_cstr(setting, "lifecycle", "None");
		}
	}
}

static void put_template_status(const struct call *c, const struct pool_row *row, uint64_t revision,
				const char *key, const char *details, json_t *to, const json_t *template)
{
	const struct revision_row *rev = state_revision(c->state, row->uid, revision);
	struct pool_sandboxes n = pool_show_sandboxes(c, row->uid, revision);
	const struct operation_row *operation = state_operation(c->state, row->operation);
	bool desired = revision == row->desired_revision;
	bool pull_failed = desired && operation != NULL && operation->phase == PHASE_FAILED;
	json_t *status, *shown, *containers;

	if (rev == NULL)
		return;
	to = json_put_object(to, key);
	json_put_str(to, "details", desired && row->failure.n > 0 ? row->failure : str_of(details));
	json_put_time(to, "createdTime", rev->created_ms);
	status = json_put_object(to, "status");
	json_put_u64(status, "expectedCount", desired ? row->limits.ready_target : 0);
	json_put_u64(status, "readyCount", n.ready);
	json_put_u64(status, "pendingCount", n.booting);
	json_put_u64(status, "imagePullFailCount", pull_failed ? 1 : 0);
	json_put_u64(status, "crashCount", desired ? row->failures : 0);
	json_put_u64(status, "allocatedCount", n.bound);
	if (!desired) { /* the document shows the desired one; of an older one, its image is kept */
		shown = json_push_object(json_put_array(to, "containers"));
		json_put_str(shown, "image", rev->template.image);
		json_put_str(shown, "name", rev->template.container_name);
		json_put_u64(json_put_object(to, "ingress"), "targetPort", rev->template.target_port);
		return;
	}
	containers = json_deep_copy(json_object_get(template, "containers"));
	shown = json_array_get(containers, 0);
	if (json_object_get(shown, "env") == NULL)
		json_put_array(shown, "env");
	if (json_object_get(shown, "probes") == NULL)
		json_put_array(shown, "probes");
	json_put(to, "containers", containers);
	json_put(to, "ingress", json_deep_copy(json_object_get(template, "ingress")));
}

static void put_update_status(const struct call *c, const struct pool_row *row, json_t *properties)
{
	const json_t *template = json_object_get(properties, "customContainerTemplate");
	json_t *to = json_new_object();

	if (row->active_revision != 0)
		put_template_status(c, row, row->active_revision, "activeTemplate", "Running", to, template);
	if (row->desired_revision != row->active_revision)
		put_template_status(c, row, row->desired_revision, "desiredTemplate", "Progressing", to,
				    template);
	if (json_object_size(to) > 0)
		json_put(properties, "templateUpdateStatus", to);
	else
		json_decref(to);
}

static void put_properties(const struct call *c, const struct pool_row *row, json_t *document)
{
	json_t *properties = json_object_get(document, "properties");

	if (c->version != VERSION_ANY && c->version < VERSION_LIFECYCLE)
		to_older(c, properties);
	json_put_cstr(properties, "provisioningState",
		      row->provisioning < PROVISIONINGS ? provisioning_name[row->provisioning] : "Failed");
	if (row->active_revision != 0) {
		uint32_t nodes = pool_show_sandboxes(c, row->uid, 0).nodes;

		json_put_u64(properties, "nodeCount", nodes > 0 ? nodes : 1);
	}
	json_put_str(properties, "poolManagementEndpoint", pool_show_endpoint(c, row));
	if (c->version >= VERSION_STATUS || c->version == VERSION_ANY)
		put_update_status(c, row, properties);
	put_identity_settings(c, document, properties);
}

static void move(json_t *from, const char *key, json_t *to)
{
	json_t *value = json_object_get(from, key);

	if (value != NULL)
		json_put(to, key, json_incref(value));
}

json_t *pool_show(const struct call *c, const struct pool_row *row)
{
	struct json_bounds bounds = {.bytes_max = 256u * 1024};
	json_t *document = NULL, *ret = json_new_object(), *system;

	/* What cannot be read is shown as far as the row goes. */
	if (json_parse(row->document, &bounds, &document, NULL) < 0)
		document = json_new_object();
	if (!json_is_object(json_object_get(document, "properties")))
		json_put_object(document, "properties");
	json_put_str(ret, "id", call_pool_id(c, row->subscription, row->resource_group, row->name));
	json_put_str(ret, "name", row->name);
	json_put_cstr(ret, "type", "Microsoft.App/sessionPools");
	move(document, "location", ret);
	move(document, "tags", ret);
	if (!json_is_object(json_object_get(ret, "tags")))
		json_put_object(ret, "tags");
	json_put_cstr(json_object_get(ret, "tags"), POOL_TAG_ISOLATION, isolation_name[row->isolation]);
	system = json_put_object(ret, "systemData");
	json_put_time(system, "createdAt", row->created_ms);
	json_put_time(system, "lastModifiedAt", row->changed_ms);
	put_properties(c, row, document);
	put_identity(c, row, document);
	move(document, "properties", ret);
	move(document, "identity", ret);
	json_decref(document);
	return ret;
}
