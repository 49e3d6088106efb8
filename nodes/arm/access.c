/* access.c -- Azure's built-in roles that matter here, by name and by id (learn.microsoft.com, "Azure built-in roles"). */
#include "arm/access.h"

static const struct role {
	struct str name, id;
	unsigned rights;
} roles[] = {
	{STR("Owner"), STR("8e3af657-a8ff-443c-a75c-2fe8c4bcb635"),
	 ACCESS_READ | ACCESS_WRITE | ACCESS_IDENTIFIERS},
	{STR("Contributor"), STR("b24988ac-6180-42a0-ab88-20f7382dd24c"), ACCESS_READ | ACCESS_WRITE},
	{STR("Reader"), STR("acdd72a7-3385-48ef-bd42-f606fba81ae7"), ACCESS_READ},
	{STR("Container Apps SessionPools Contributor"), STR("f7669afb-68b2-44b4-9c5f-6d2a47fddda0"),
	 ACCESS_READ | ACCESS_WRITE},
	{STR("Container Apps SessionPools Reader"), STR("af61e8fc-2633-4b95-bed3-421ad6826515"), ACCESS_READ},
	{STR("Azure ContainerApps Session Executor"), STR("0fb8eba5-a2bb-4abe-b1c1-49dfad359bb0"),
	 ACCESS_EXECUTE | ACCESS_IDENTIFIERS},
};

static unsigned rights_of(struct str role)
{
	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
		if (str_eq_nocase(role, roles[i].name) || str_eq_nocase(role, roles[i].id))
			return roles[i].rights;
	return 0;
}

/* Is `below` the resource `above` or something under it? */
static bool covers(struct str above, struct str below)
{
	while (above.n > 0 && above.p[above.n - 1] == '/')
		above.n--;
	if (below.n < above.n || !str_eq_nocase(above, str_slice(below, 0, above.n)))
		return false;
	return below.n == above.n || below.p[above.n] == '/';
}

static bool allowed(const struct arm_caller *caller, unsigned rights, struct str scope, bool near)
{
	unsigned got = 0;

	if (caller->local)
		return true;
	for (uint32_t i = 0; i < caller->n_roles; i++) {
		struct str at = caller->roles[i].scope;

		/* A role without a scope holds nowhere. */
		if (at.n > 0 && at.p[0] == '/' && (covers(at, scope) || (near && covers(scope, at))))
			got |= rights_of(caller->roles[i].role);
	}
	return (rights & ~got) == 0;
}

bool access_allowed(const struct arm_caller *caller, unsigned rights, struct str scope)
{
	return allowed(caller, rights, scope, false);
}

bool access_near(const struct arm_caller *caller, unsigned rights, struct str scope)
{
	return allowed(caller, rights, scope, true);
}
