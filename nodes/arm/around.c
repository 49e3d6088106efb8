/* around.c -- see around.h. Any subscription and group that a path names exists: they are names for access and lists. */
#include "arm/around.h"

#define SUBSCRIPTION_NONE "00000000-0000-0000-0000-000000000000"

static const struct settings *settings(const struct call *c)
{
	return &state_cluster(c->state)->settings;
}

static struct str region(const struct call *c)
{
	return settings(c)->region.n > 0 ? settings(c)->region : STR("local");
}

void around_endpoints(struct call *c)
{
	json_t *body = json_new_object(), *authentication, *audiences;

	json_put_cstr(body, "name", "Berth");
	json_put_str(body, "resourceManager", c->base);
	authentication = json_put_object(body, "authentication");
	json_put_str(authentication, "loginEndpoint", c->base);
	audiences = json_put_array(authentication, "audiences");
	json_push_str(audiences, c->base);
	json_put_str(authentication, "tenant", settings(c)->tenant);
	json_put_cstr(authentication, "identityProvider", "AAD");
	json_put_object(body, "suffixes");
	json_put_str(body, "microsoftGraphResourceId", c->base);
	json_put_str(body, "activeDirectoryDataLake", c->base);
	json_put_str(body, "batch", c->base);
	json_put_str(body, "gallery", c->base);
	call_json(c, 200, body);
}

static void put_subscription(const struct call *c, json_t *to, struct str id)
{
	json_put_str(to, "id", call_printf(c, "/subscriptions/%.*s", STR_ARGS(id)));
	json_put_str(to, "subscriptionId", id);
	json_put_str(to, "tenantId", settings(c)->tenant);
	json_put_cstr(to, "displayName", "Berth");
	json_put_cstr(to, "state", "Enabled");
}

/* Those that pools or the caller's roles name; else the one of all zeros. */
void around_subscriptions(struct call *c)
{
	json_t *body = json_new_object(), *value = json_put_array(body, "value"), *seen = json_new_object();
	const char *key;
	json_t *mark;

	for (const struct pool_row *row = state_next_pool(c->state, NULL); row != NULL;
	     row = state_next_pool(c->state, row))
		json_put_bool(seen, arena_str(c->arena, call_lower(c, row->subscription)).p, true);
	for (uint32_t i = 0; i < c->request->caller.n_roles; i++) {
		struct str scope = call_lower(c, c->request->caller.roles[i].scope), id, rest;

		if (!str_starts(scope, STR("/subscriptions/")))
			continue;
		str_cut(str_slice(scope, 15, scope.n), '/', &id, &rest);
		if (id.n > 0 && id.n <= 128)
			json_put_bool(seen, arena_str(c->arena, id).p, true);
	}
	if (json_object_size(seen) == 0)
		json_put_bool(seen, SUBSCRIPTION_NONE, true);
	json_object_foreach(seen, key, mark) put_subscription(c, json_push_object(value), str_of(key));
	json_decref(seen);
	call_json(c, 200, body);
}

void around_subscription(struct call *c)
{
	json_t *body = json_new_object();

	put_subscription(c, body, c->subscription);
	call_json(c, 200, body);
}

static void put_type(const struct call *c, json_t *types, const char *name)
{
	json_t *type = json_push_object(types), *versions;

	json_put_cstr(type, "resourceType", name);
	json_push_str(json_put_array(type, "locations"), region(c));
	versions = json_put_array(type, "apiVersions");
	json_push_str(versions, STR("2025-02-02-preview"));
	json_push_str(versions, STR("2025-01-01"));
	json_push_str(versions, STR("2024-08-02-preview"));
	json_push_str(versions, STR("2024-02-02-preview"));
	json_put_cstr(type, "capabilities", "None");
}

void around_provider(struct call *c)
{
	json_t *body = json_new_object(), *types;

	json_put_str(
		body, "id",
		call_printf(c, "/subscriptions/%.*s/providers/Microsoft.App", STR_ARGS(c->subscription)));
	json_put_cstr(body, "namespace", "Microsoft.App");
	json_put_cstr(body, "registrationState", "Registered");
	json_put_cstr(body, "registrationPolicy", "RegistrationRequired");
	types = json_put_array(body, "resourceTypes");
	put_type(c, types, "sessionPools");
	put_type(c, types, "managedEnvironments");
	put_type(c, types, "operations");
	call_json(c, 200, body);
}

void around_group(struct call *c)
{
	json_t *body = json_new_object();

	json_put_str(body, "id", c->scope);
	json_put_str(body, "name", c->group);
	json_put_cstr(body, "type", "Microsoft.Resources/resourceGroups");
	json_put_str(body, "location", region(c));
	json_put_cstr(json_put_object(body, "properties"), "provisioningState", "Succeeded");
	call_json(c, 200, body);
}

void around_environment(struct call *c)
{
	const struct settings *s = settings(c);
	json_t *body = json_new_object(), *properties, *profiles, *profile;

	json_put_str(body, "id",
		     call_printf(c,
				 "/subscriptions/%.*s/resourceGroups/%.*s/providers/Microsoft.App/"
				 "managedEnvironments/%.*s",
				 STR_ARGS(c->subscription), STR_ARGS(c->group), STR_ARGS(c->name)));
	json_put_str(body, "name", c->name);
	json_put_cstr(body, "type", "Microsoft.App/managedEnvironments");
	json_put_str(body, "location", region(c));
	properties = json_put_object(body, "properties");
	json_put_cstr(properties, "provisioningState", "Succeeded");
	json_put_str(properties, "defaultDomain",
		     call_printf(c, "%.*s%s%.*s%s%.*s", STR_ARGS(s->environment),
				 s->environment.n > 0 ? "." : "", STR_ARGS(s->region),
				 s->region.n > 0 ? "." : "", STR_ARGS(s->domain)));
	profiles = json_put_array(properties, "workloadProfiles");
	profile = json_push_object(profiles);
	json_put_cstr(profile, "name", "Consumption");
	json_put_cstr(profile, "workloadProfileType", "Consumption");
	call_json(c, 200, body);
}
