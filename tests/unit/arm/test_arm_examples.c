/* test_arm_examples.c -- every example of management-2024-08-02-preview: its request is sent as written, and the answer has
 * the documented status, headers, fields and types. Fields beyond the example's must be in the resource's definition. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "json/build.h"

#define DIR     "azure-spec/management-2024-08-02-preview/"
#define VERSION "api-version=2024-08-02-preview"
#define LIST    "/subscriptions/" FIXTURE_SUB "/resourceGroups/rg/providers/Microsoft.App/sessionPools"

/* What the definition allows and this example does not show. */
static const char *const extra[] = {"systemData",          "tags", "secrets", "nodeCount",
				    "registryCredentials", NULL};
static unsigned compared;

static bool is_extra(const char *key)
{
	for (size_t i = 0; extra[i] != NULL; i++)
		if (strcmp(extra[i], key) == 0)
			return true;
	return false;
}

/* Fields and types of `want` are in `got`, and nothing else but extra ones. */
static void same_shape(const json_t *want, const json_t *got, const char *at)
{
	const char *key;
	json_t *value;
	char path[256];

	compared++;
	if (json_is_number(want) ? !json_is_number(got) : json_typeof(want) != json_typeof(got))
		fail_msg("%s: the example has %s, the answer %s", at, json_kind_name(want),
			 json_kind_name(got));
	if (json_is_object(want)) {
		json_object_foreach((json_t *)want, key, value)
		{
			snprintf(path, sizeof path, "%.120s.%s", at, key);
			/* On the last page there is none (recorded); the definition requires only "value". */
			if (strcmp(key, "nextLink") == 0 && json_object_get(got, key) == NULL)
				continue;
			if (json_object_get(got, key) == NULL)
				fail_msg("%s: is in the example and not in the answer", path);
			same_shape(value, json_object_get(got, key), path);
		}
		json_object_foreach((json_t *)got, key,
				    value) if (json_object_get(want, key) == NULL && !is_extra(key))
			fail_msg("%s.%s: is in the answer and not in the definition", at, key);
	} else if (json_is_array(want)) {
		assert_int_equal(json_array_size(want), json_array_size(got));
		for (size_t i = 0; i < json_array_size(want); i++) {
			snprintf(path, sizeof path, "%.120s[%zu]", at, i);
			same_shape(json_array_get(want, i), json_array_get(got, i), path);
		}
	} else if (json_is_string(want) && strstr(at, "ndpoint") == NULL &&
		   strstr(at, "provisioningState") == NULL) {
		assert_string_equal(json_string_value(want), json_string_value(got));
	} else if (json_is_integer(want)) {
		assert_int_equal(json_integer_value(want), json_integer_value(got));
	}
}

/* The example's own request, with the registry credentials that its responses show and its request does not. */
static void create(struct fixture *f, json_t *ret_responses[1])
{
	json_t *example = fixture_load(DIR "SessionPools_CreateOrUpdate.json");
	json_t *request = json_at(example, "parameters.sessionPoolEnvelope");
	json_t *response = json_at(example, "responses.201.body");
	json_t *registry = json_at(response, "properties.customContainerTemplate.registryCredentials");

	json_put(json_at(request, "properties.customContainerTemplate"), "registryCredentials",
		 json_incref(registry));
	assert_int_equal(fixture_json(f, "PUT", FIXTURE_POOL, VERSION, request), 201);
	if (ret_responses != NULL) {
		same_shape(response, f->body, "201");
		assert_string_equal(json_string_value(json_at(f->body, "properties.provisioningState")),
				    "InProgress");
		*ret_responses = json_incref(json_object_get(example, "responses"));
	}
	json_decref(example);
}

static void test_create(void **unused)
{
	struct fixture f;
	json_t *responses = NULL;
	char path[600];

	(void)unused;
	fixture_init(&f);
	create(&f, &responses);
	assert_string_equal(fixture_header(&f, "content-type"), "application/json; charset=utf-8");
	assert_string_equal(fixture_header(&f, "x-ms-async-operation-timeout"), "PT30M");
	snprintf(path, sizeof path,
		 "https://berth.example:8443/subscriptions/" FIXTURE_SUB
		 "/providers/Microsoft.App/locations/eastus/operationStatuses/"
		 "%llu?api-version=2024-08-02-preview"
		 "&azureAsyncOperation=true",
		 (unsigned long long)f.operation);
	assert_string_equal(fixture_header(&f, "azure-asyncoperation"), path);
	fixture_finish(&f, true);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, VERSION, STR("")), 200);
	same_shape(json_at(responses, "200.body"), f.body, "200");
	assert_string_equal(json_string_value(json_at(f.body, "properties.provisioningState")), "Succeeded");
	json_decref(responses);
	fixture_done(&f);
}

static void test_get_and_lists(void **unused)
{
	static const struct {
		const char *file, *path;
	} cases[] = {
		{DIR "SessionPools_Get.json", FIXTURE_POOL},
		{DIR "SessionPools_ListByResourceGroup.json", LIST},
		{DIR "SessionPools_ListBySubscription.json",
		 "/subscriptions/" FIXTURE_SUB "/providers/Microsoft.App/sessionPools"},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *example = fixture_load(cases[i].file);
		struct fixture f;

		fixture_init(&f);
		create(&f, NULL);
		fixture_finish(&f, true);
		assert_int_equal(fixture_call(&f, "GET", cases[i].path, VERSION, STR("")), 200);
		same_shape(json_at(example, "responses.200.body"), f.body, cases[i].file);
		json_decref(example);
		fixture_done(&f);
	}
}

static void test_patch(void **unused)
{
	json_t *example = fixture_load(DIR "SessionPools_Patch.json");
	char path[256];
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	create(&f, NULL);
	fixture_finish(&f, true);
	assert_int_equal(fixture_json(&f, "PATCH", FIXTURE_POOL, VERSION,
				      json_at(example, "parameters.sessionPoolEnvelope")),
			 202);
	assert_int_equal(f.reply.body.n, 0);
	assert_non_null(strstr(fixture_header(&f, "location"), "/operationResults/"));
	snprintf(path, sizeof path,
		 "/subscriptions/" FIXTURE_SUB
		 "/providers/Microsoft.App/locations/eastus/operationResults/%llu",
		 (unsigned long long)f.operation);
	if (state_operation(f.state, f.operation)->phase < PHASE_SUCCEEDED) {
		assert_int_equal(fixture_call(&f, "GET", path, VERSION, STR("")), 202);
		assert_non_null(fixture_header(&f, "location"));
		fixture_finish(&f, true);
	}
	assert_int_equal(fixture_call(&f, "GET", path, VERSION, STR("")), 200);
	same_shape(json_at(example, "responses.200.body"), f.body, "patched");
	json_decref(example);
	fixture_done(&f);
}

static void test_delete(void **unused)
{
	json_t *example = fixture_load(DIR "SessionPools_Delete.json");
	char path[256];
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	assert_non_null(json_at(example, "responses.204"));
	assert_int_equal(fixture_call(&f, "DELETE", FIXTURE_POOL, VERSION, STR("")), 204);
	create(&f, NULL);
	fixture_finish(&f, true);
	assert_int_equal(fixture_call(&f, "DELETE", FIXTURE_POOL, VERSION, STR("")), 202);
	assert_non_null(strstr(fixture_header(&f, "location"), "/locations/eastus/operationResults/"));
	snprintf(path, sizeof path,
		 "/subscriptions/" FIXTURE_SUB
		 "/providers/Microsoft.App/locations/eastus/operationResults/%llu",
		 (unsigned long long)f.operation);
	if (state_operation(f.state, f.operation)->phase < PHASE_SUCCEEDED) {
		assert_int_equal(fixture_call(&f, "GET", path, VERSION, STR("")), 202);
		fixture_finish(&f, true);
	}
	assert_int_equal(fixture_call(&f, "GET", path, VERSION, STR("")), 204);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, VERSION, STR("")), 404);
	assert_string_equal(json_string_value(json_at(f.body, "error.code")), "ResourceNotFound");
	json_decref(example);
	fixture_done(&f);
}

/* The document's two templates, nothing but placeholders replaced. */
static void test_templates(void **unused)
{
	static const char *const files[] = {"document/template-1.json", "document/template-2.json"};

	(void)unused;
	for (size_t i = 0; i < 2; i++) {
		json_t *template = fixture_load(files[i]);
		struct fixture f;

		fixture_init(&f);
		assert_int_equal(fixture_json(&f, "PUT",
					      "/subscriptions/" FIXTURE_SUB
					      "/resourceGroups/rg/providers/Microsoft.App"
					      "/sessionPools/my-session-pool",
					      VERSION, template),
				 201);
		assert_int_equal(
			json_integer_value(json_at(
				f.body, "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds")),
			600);
		assert_string_equal(json_string_value(json_at(f.body, "properties.poolManagementEndpoint")),
				    "https://my-session-pool.env.local.berth.example:8443");
		assert_null(strstr(f.reply.body.p, "hunter2"));
		assert_null(json_at(f.body, "properties.secrets[0].value"));
		if (i == 1) {
			json_t *ids = json_at(f.body, "identity.userAssignedIdentities"), *value;
			const char *key;

			assert_int_equal(json_object_size(ids), 1);
			json_object_foreach(ids, key, value)
			{
				assert_int_equal(
					strlen(json_string_value(json_object_get(value, "clientId"))), 36);
				assert_int_equal(
					strlen(json_string_value(json_object_get(value, "principalId"))), 36);
			}
			assert_string_equal(
				json_string_value(
					json_at(f.body, "properties.managedIdentitySettings[0].lifecycle")),
				"None");
		}
		json_decref(template);
		fixture_done(&f);
	}
}

static void test_compared(void **unused)
{
	(void)unused;
	print_message("compared %u values\n", compared);
	assert_true(compared > 100);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_create),    cmocka_unit_test(test_get_and_lists),
		cmocka_unit_test(test_patch),     cmocka_unit_test(test_delete),
		cmocka_unit_test(test_templates), cmocka_unit_test(test_compared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
