/* test_arm_pools.c -- merge patch, shapes by version, secrets, identities, operations that fail, what actors refuse. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "json/build.h"

#define V08             "api-version=2024-08-02-preview"
#define V02             "api-version=2024-02-02-preview"
#define V251            "api-version=2025-01-01"
#define V252            "api-version=2025-02-02-preview"
#define TEXT(f, path)   json_string_value(json_at((f).body, path))
#define NUMBER(f, path) json_integer_value(json_at((f).body, path))
#define CODE(f)         TEXT(f, "error.code")
#define TEMPLATE        "properties.customContainerTemplate."

static void create(struct fixture *f)
{
	json_t *resource = fixture_resource();

	fixture_init(f);
	assert_int_equal(fixture_json(f, "PUT", FIXTURE_POOL, V08, resource), 201);
	fixture_finish(f, true);
	json_decref(resource);
}

static int patch(struct fixture *f, const char *query, const char *text)
{
	int status = fixture_call(f, "PATCH", FIXTURE_POOL, query, str_of(text));

	if (status == 202 && state_operation(f->state, f->operation)->phase < PHASE_SUCCEEDED)
		fixture_finish(f, true);
	return status;
}

static const struct pool_row *row(const struct fixture *f)
{
	return state_pool(f->state, f->last_pool);
}

/* What is named changes, what is not named stays, null deletes, arrays are replaced whole. */
static void test_merge(void **unused)
{
	struct fixture f;

	(void)unused;
	create(&f);
	assert_int_equal(patch(&f, V252,
			       "{\"tags\":{\"a\":\"1\",\"b\":\"2\"},\"properties\":{\"scaleConfiguration\":"
			       "{\"maxConcurrentSessions\":\"120\"}}}"),
			 202);
	assert_int_equal(row(&f)->limits.max_sessions, 120);
	assert_int_equal(row(&f)->limits.ready_target, 100);
	assert_int_equal(row(&f)->limits.cooldown_ms, 600000);
	assert_true(row(&f)->limits.egress);
	assert_int_equal(
		patch(&f, V252,
		      "{\"tags\":{\"a\":null},\"identity\":{\"type\":\"None\","
		      "\"userAssignedIdentities\":null},\"properties\":{\"sessionNetworkConfiguration\":"
		      "{\"status\":\"egressdisabled\"}}}"),
		202);
	assert_false(row(&f)->limits.egress);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_null(json_at(f.body, "tags.a"));
	assert_string_equal(TEXT(f, "tags.b"), "2");
	assert_string_equal(TEXT(f, "identity.type"), "None");
	assert_string_equal(TEXT(f, TEMPLATE "containers[0].args[0]"), "-c");
	assert_string_equal(TEXT(f, "properties.sessionNetworkConfiguration.status"), "EgressDisabled");
	/* a container without command and args has none afterwards */
	assert_int_equal(
		patch(&f, V252,
		      "{\"properties\":{\"customContainerTemplate\":{\"containers\":[{\"image\":\"a/b:2\","
		      "\"resources\":{\"cpu\":2.0,\"memory\":\"4Gi\"}}]}}}"),
		202);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_null(json_at(f.body, TEMPLATE "containers[0].args"));
	assert_int_equal(NUMBER(f, TEMPLATE "ingress.targetPort"), 80);
	assert_int_equal(state_revision(f.state, f.last_pool, row(&f)->desired_revision)->template.cpu_milli,
			 2000);
	/* the merged whole is checked */
	assert_int_equal(
		patch(&f, V252, "{\"properties\":{\"scaleConfiguration\":{\"readySessionInstances\":121}}}"),
		400);
	assert_string_equal(CODE(f), "SessionPoolInvalidReadySessionInstances");
	assert_int_equal(patch(&f, V252, "{\"properties\":{\"customContainerTemplate\":{\"ingress\":null}}}"),
			 400);
	assert_int_equal(
		fixture_call(&f, "PATCH",
			     "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/none",
			     V252, STR("{}")),
		404);
	fixture_done(&f);
}

/* The template alone makes a new revision. */
static void test_revisions(void **unused)
{
	struct fixture f;
	uint64_t first;

	(void)unused;
	create(&f);
	first = row(&f)->desired_revision;
	assert_int_equal(
		patch(&f, V252, "{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":200}}}"),
		202);
	assert_int_equal(row(&f)->desired_revision, first);
	assert_int_equal(
		patch(&f, V252,
		      "{\"properties\":{\"customContainerTemplate\":{\"ingress\":{\"targetPort\":81}}}}"),
		202);
	assert_true(row(&f)->desired_revision != first);
	fixture_done(&f);
}

static void test_versions(void **unused)
{
	static const char *const bad[] = {"",
					  "api-version=",
					  "api-version=2023-01-01",
					  "api-version=2024-08-02-beta",
					  "api-version=latest",
					  "api-version=2024-13-01",
					  "api-version=20240802"};
	json_t *old = fixture_resource(), *registry;
	struct fixture f;

	(void)unused;
	create(&f);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, bad[i], STR("")), 400);
		assert_string_equal(CODE(f),
				    i < 2 ? "MissingApiVersionParameter" : "InvalidApiVersionParameter");
	}
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V08, STR("")), 200);
	assert_int_equal(NUMBER(f, "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds"), 600);
	assert_null(json_at(f.body, "properties.templateUpdateStatus"));
	assert_null(json_at(f.body, "identity"));
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V251, STR("")), 200);
	assert_null(json_at(f.body, "properties.dynamicPoolConfiguration.executionType"));
	assert_int_equal(
		NUMBER(f,
		       "properties.dynamicPoolConfiguration.lifecycleConfiguration.cooldownPeriodInSeconds"),
		600);
	assert_null(json_at(f.body, "properties.templateUpdateStatus"));
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, "api-version=2026-07-01", STR("")), 200);
	assert_non_null(fixture_header(&f, "api-supported-versions"));
	assert_string_equal(TEXT(f, "identity.type"), "None");
	assert_int_equal(json_array_size(json_at(f.body, "properties.managedIdentitySettings")), 0);
	if (row(&f)->active_revision != 0)
		assert_int_equal(
			NUMBER(f, "properties.templateUpdateStatus.activeTemplate.status.expectedCount"),
			100);
	else
		assert_int_equal(
			NUMBER(f, "properties.templateUpdateStatus.desiredTemplate.status.expectedCount"),
			100);
	/* the first version's name of the registry */
	registry = json_put_object(json_at(old, "properties.customContainerTemplate"), "registryCredentials");
	json_put_cstr(registry, "registryServer", "r.example");
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, V02, old), 201);
	assert_string_equal(TEXT(f, TEMPLATE "registryCredentials.registryServer"), "r.example");
	fixture_finish(&f, true);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V251, STR("")), 200);
	assert_string_equal(TEXT(f, TEMPLATE "registryCredentials.server"), "r.example");
	/* a field of the wrong version says so */
	assert_int_equal(
		patch(&f, V252,
		      "{\"properties\":{\"dynamicPoolConfiguration\":{\"executionType\":\"Timed\"}}}"),
		400);
	assert_non_null(strstr(TEXT(f, "error.message"), "2025-02-02"));
	assert_int_equal(
		patch(&f, V08,
		      "{\"properties\":{\"dynamicPoolConfiguration\":{\"cooldownPeriodInSeconds\":900}}}"),
		202);
	assert_int_equal(row(&f)->limits.cooldown_ms, 900000);
	json_decref(old);
	fixture_done(&f);
}

static void test_secrets(void **unused)
{
	struct fixture f;

	(void)unused;
	create(&f);
	assert_int_equal(
		patch(&f, V252,
		      "{\"properties\":{\"secrets\":[{\"name\":\"one\",\"value\":\"swordfish\"},"
		      "{\"name\":\"two\",\"value\":\"x\",\"keyVaultUrl\":\"\",\"identity\":\"\"}]}}"),
		202);
	assert_int_equal(f.sealed, 2);
	assert_true(str_eq(state_secret(f.state, f.last_pool, STR("one"))->sealed, STR("sealed:9")));
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_int_equal(json_array_size(json_at(f.body, "properties.secrets")), 2);
	assert_null(json_at(f.body, "properties.secrets[0].value"));
	assert_null(strstr(f.reply.body.p, "swordfish"));
	assert_null(strstr(f.reply.body.p, "sealed"));
	/* named without a value: the stored one stays; not named: gone */
	assert_int_equal(patch(&f, V252, "{\"properties\":{\"secrets\":[{\"name\":\"one\"}]}}"), 202);
	assert_true(str_eq(state_secret(f.state, f.last_pool, STR("one"))->sealed, STR("sealed:9")));
	assert_null(state_secret(f.state, f.last_pool, STR("two")));
	/* nothing said of secrets: all stay */
	assert_int_equal(
		patch(&f, V252, "{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":300}}}"),
		202);
	assert_non_null(state_secret(f.state, f.last_pool, STR("one")));
	assert_int_equal(patch(&f, V252, "{\"properties\":{\"secrets\":[{\"name\":\"two\"}]}}"), 400);
	assert_int_equal(f.sealed, 2);
	fixture_done(&f);
}

static void test_identity(void **unused)
{
	struct fixture f;
	char first[64];

	(void)unused;
	create(&f);
	assert_int_equal(
		patch(&f, V252,
		      "{\"identity\":{\"type\":\"SystemAssigned, UserAssigned\",\"userAssignedIdentities\":"
		      "{\"/a/b\":{},\"/c/d\":{}}},\"properties\":{\"managedIdentitySettings\":"
		      "[{\"identity\":\"/a/b\",\"lifecycle\":\"main\"}]}}"),
		202);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_string_equal(TEXT(f, "identity.type"), "SystemAssigned,UserAssigned");
	assert_int_equal(strlen(TEXT(f, "identity.principalId")), 36);
	assert_string_equal(TEXT(f, "identity.tenantId"), "72f988bf-86f1-41af-91ab-2d7cd011db47");
	snprintf(first, sizeof first, "%s", TEXT(f, "identity.principalId"));
	assert_int_equal(json_array_size(json_at(f.body, "properties.managedIdentitySettings")), 2);
	assert_string_equal(TEXT(f, "properties.managedIdentitySettings[0].lifecycle"), "Main");
	assert_string_equal(TEXT(f, "properties.managedIdentitySettings[1].lifecycle"), "None");
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_string_equal(TEXT(f, "identity.principalId"), first);
	assert_int_equal(patch(&f, V252, "{\"identity\":{\"userAssignedIdentities\":{\"/a/b\":null}}}"), 202);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_int_equal(json_object_size(json_at(f.body, "identity.userAssignedIdentities")), 1);
	assert_int_equal(
		patch(&f, V252, "{\"identity\":{\"type\":\"None\",\"userAssignedIdentities\":null}}"), 202);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V252, STR("")), 200);
	assert_null(json_at(f.body, "identity.userAssignedIdentities"));
	fixture_done(&f);
}

static void test_failed_operation(void **unused)
{
	json_t *resource = fixture_resource();
	struct fixture f;
	char path[256];

	(void)unused;
	fixture_init(&f);
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, V252, resource), 400); /* executionType */
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, V08, resource), 201);
	snprintf(path, sizeof path,
		 "/subscriptions/" FIXTURE_SUB
		 "/providers/Microsoft.App/locations/eastus/operationStatuses/%llu",
		 (unsigned long long)f.operation);
	assert_int_equal(fixture_call(&f, "GET", path, V08, STR("")), 200);
	assert_string_equal(TEXT(f, "status"), "InProgress");
	assert_non_null(TEXT(f, "startTime"));
	fixture_finish(&f, false);
	assert_int_equal(fixture_call(&f, "GET", path, V08, STR("")), 200);
	assert_string_equal(TEXT(f, "status"), "Failed");
	assert_string_equal(CODE(f), "ImagePullFailed");
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V08, STR("")), 200);
	assert_string_equal(TEXT(f, "properties.provisioningState"), "Failed");
	assert_int_equal(fixture_call(&f, "GET", "/.berth/v1" FIXTURE_POOL "/status", "", STR("")), 200);
	assert_string_equal(TEXT(f, "operation.message"), "the registry refused");
	/* an operation of the future is one that this node has not applied yet */
	assert_int_equal(fixture_call(&f, "GET",
				      "/subscriptions/" FIXTURE_SUB
				      "/providers/Microsoft.App/locations/eastus/operationStatuses/999999",
				      V08, STR("")),
			 200);
	assert_string_equal(TEXT(f, "status"), "InProgress");
	assert_int_equal(fixture_call(&f, "GET",
				      "/subscriptions/" FIXTURE_SUB
				      "/providers/Microsoft.App/locations/eastus/operationStatuses/x",
				      V08, STR("")),
			 404);
	json_decref(resource);
	fixture_done(&f);
}

static void test_refused(void **unused)
{
	json_t *resource = fixture_resource();
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	f.answer_code = -EAGAIN;
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, V08, resource), 503);
	assert_non_null(fixture_header(&f, "retry-after"));
	json_decref(resource);
	fixture_done(&f);
}

/* Paths are compared without case; names are answered as they were first written. */
static void test_case(void **unused)
{
	struct fixture f;

	(void)unused;
	create(&f);
	assert_int_equal(
		fixture_call(&f, "GET",
			     "/SUBSCRIPTIONS/" FIXTURE_SUB
			     "/RESOURCEGROUPS/RG/PROVIDERS/microsoft.app/SESSIONPOOLS/TestSessionPool",
			     "API-VERSION=2024-08-02-preview", STR("")),
		200);
	assert_string_equal(TEXT(f, "id"), FIXTURE_POOL);
	assert_int_equal(fixture_call(&f, "POST", FIXTURE_POOL, V08, STR("")), 405);
	assert_int_equal(fixture_call(&f, "GET", "/nothing", V08, STR("")), 404);
	assert_int_equal(fixture_call(&f, "GET", "/a/../b", V08, STR("")), 400);
	assert_int_equal(fixture_call(&f, "GET", "/a%0ab", V08, STR("")), 400);
	assert_int_equal(fixture_call(&f, "GET", "/a%4", V08, STR("")), 400);
	fixture_done(&f);
}

static void test_pages(void **unused)
{
	json_t *resource = fixture_resource();
	char path[256];
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	for (int i = 0; i < 150; i++) {
		snprintf(path, sizeof path,
			 "/subscriptions/s/resourceGroups/g%d/providers/Microsoft.App/sessionPools/pool%d",
			 i % 2, i);
		assert_int_equal(fixture_json(&f, "PUT", path, V08, resource), 201);
	}
	assert_int_equal(fixture_call(&f, "GET", "/subscriptions/s/providers/Microsoft.App/sessionPools", V08,
				      STR("")),
			 200);
	assert_int_equal(json_array_size(json_at(f.body, "value")), 100);
	assert_non_null(strstr(TEXT(f, "nextLink"), "?api-version=2024-08-02-preview&$skipToken=100"));
	assert_int_equal(fixture_call(&f, "GET", "/subscriptions/s/providers/Microsoft.App/sessionPools",
				      V08 "&$skipToken=100", STR("")),
			 200);
	assert_int_equal(json_array_size(json_at(f.body, "value")), 50);
	assert_null(json_at(f.body, "nextLink"));
	assert_int_equal(
		fixture_call(&f, "GET",
			     "/subscriptions/s/resourceGroups/G1/providers/Microsoft.App/sessionPools", V08,
			     STR("")),
		200);
	assert_int_equal(json_array_size(json_at(f.body, "value")), 75);
	json_decref(resource);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_merge),    cmocka_unit_test(test_revisions),
		cmocka_unit_test(test_versions), cmocka_unit_test(test_secrets),
		cmocka_unit_test(test_identity), cmocka_unit_test(test_failed_operation),
		cmocka_unit_test(test_refused),  cmocka_unit_test(test_case),
		cmocka_unit_test(test_pages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
