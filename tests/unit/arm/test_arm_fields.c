/* test_arm_fields.c -- each wrong field of a pool: what is put where, and the target and code that the answer names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fixture.h"
#include "json/build.h"

#define BAD  "InvalidParameterValue"
#define MISS "MissingRequiredProperty"
#define UNKN "UnknownProperty"
#define T    "properties.customContainerTemplate."
#define C    T "containers[0]."
#define L    "properties.dynamicPoolConfiguration.lifecycleConfiguration."
#define S    "properties.scaleConfiguration."

/* A merge patch on a valid resource (null removes), and the error. `container` patches the first container. */
static const struct {
	const char *patch, *container, *code, *target;
} cases[] = {
	{"{\"location\":null}", NULL, MISS, "location"},
	{"{\"location\":7}", NULL, BAD, "location"},
	{"{\"location\":\"\"}", NULL, BAD, "location"},
	{"{\"tags\":[]}", NULL, BAD, "tags"},
	{"{\"tags\":{\"a\":1}}", NULL, BAD, "tags.a"},
	{"{\"sku\":{}}", NULL, UNKN, "sku"},
	{"{\"properties\":null}", NULL, MISS, "properties"},
	{"{\"properties\":[]}", NULL, BAD, "properties"},
	{"{\"properties\":{\"colour\":1}}", NULL, UNKN, "properties.colour"},
	{"{\"identity\":{\"type\":\"Root\"}}", NULL, BAD, "identity.type"},
	{"{\"identity\":{}}", NULL, MISS, "identity.type"},
	{"{\"identity\":{\"type\":\"UserAssigned\"}}", NULL, MISS, "identity.userAssignedIdentities"},
	{"{\"identity\":{\"type\":\"UserAssigned\",\"userAssignedIdentities\":{\"x\":{}}}}", NULL, BAD,
	 "identity.userAssignedIdentities"},
	{"{\"identity\":{\"type\":\"UserAssigned\",\"userAssignedIdentities\":[1]}}", NULL, BAD,
	 "identity.userAssignedIdentities"},
	{"{\"properties\":{\"environmentId\":\"env\"}}", NULL, BAD, "properties.environmentId"},
	{"{\"properties\":{\"poolManagementType\":\"Manual\"}}", NULL, BAD, "properties.poolManagementType"},
	{"{\"properties\":{\"containerType\":\"PythonLTS\"}}", NULL, BAD, "properties.containerType"},
	{"{\"properties\":{\"scaleConfiguration\":null}}", NULL, MISS, "properties.scaleConfiguration"},
	{"{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":null}}}", NULL, MISS,
	 S "maxConcurrentSessions"},
	{"{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":0}}}", NULL, BAD,
	 S "maxConcurrentSessions"},
	{"{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":1.5}}}", NULL, BAD,
	 S "maxConcurrentSessions"},
	{"{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":\"many\"}}}", NULL, BAD,
	 S "maxConcurrentSessions"},
	{"{\"properties\":{\"scaleConfiguration\":{\"maxConcurrentSessions\":1e18}}}", NULL, BAD,
	 S "maxConcurrentSessions"},
	{"{\"properties\":{\"scaleConfiguration\":{\"readySessionInstances\":-1}}}", NULL, BAD,
	 S "readySessionInstances"},
	{"{\"properties\":{\"scaleConfiguration\":{\"readySessionInstances\":501}}}", NULL,
	 "SessionPoolInvalidReadySessionInstances", S "readySessionInstances"},
	{"{\"properties\":{\"secrets\":{}}}", NULL, BAD, "properties.secrets"},
	{"{\"properties\":{\"secrets\":[7]}}", NULL, BAD, "properties.secrets[0]"},
	{"{\"properties\":{\"secrets\":[{\"value\":\"x\"}]}}", NULL, MISS, "properties.secrets[0].name"},
	{"{\"properties\":{\"secrets\":[{\"name\":\"UPPER\",\"value\":\"x\"}]}}", NULL, BAD,
	 "properties.secrets[0].name"},
	{"{\"properties\":{\"secrets\":[{\"name\":\"a\"}]}}", NULL, MISS, "properties.secrets[0].value"},
	{"{\"properties\":{\"secrets\":[{\"name\":\"a\",\"value\":\"\"}]}}", NULL, BAD,
	 "properties.secrets[0].value"},
	{"{\"properties\":{\"secrets\":[{\"name\":\"a\",\"value\":\"x\"},{\"name\":\"a\",\"value\":\"y\"}]}}",
	 NULL, "DuplicateName", "properties.secrets[1].name"},
	{"{\"properties\":{\"secrets\":[{\"name\":\"a\",\"value\":\"x\",\"keyVaultUrl\":\"https://v\"}]}}",
	 NULL, BAD, "properties.secrets[0].keyVaultUrl"},
	{"{\"properties\":{\"dynamicPoolConfiguration\":7}}", NULL, BAD,
	 "properties.dynamicPoolConfiguration"},
	{"{\"properties\":{\"dynamicPoolConfiguration\":{\"cooldownPeriodInSeconds\":300}}}", NULL, UNKN,
	 "properties.dynamicPoolConfiguration.cooldownPeriodInSeconds"},
	{"{\"properties\":{\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{"
	 "\"cooldownPeriodInSeconds\":299}}}}",
	 NULL, BAD, L "cooldownPeriodInSeconds"},
	{"{\"properties\":{\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{"
	 "\"cooldownPeriodInSeconds\":\"3601\"}}}}",
	 NULL, BAD, L "cooldownPeriodInSeconds"},
	{"{\"properties\":{\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{\"lifecycleType\":"
	 "\"Never\"}}}}",
	 NULL, BAD, L "lifecycleType"},
	{"{\"properties\":{\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{"
	 "\"maxAlivePeriodInSeconds\":0}}}}",
	 NULL, BAD, L "maxAlivePeriodInSeconds"},
	{"{\"properties\":{\"customContainerTemplate\":null}}", NULL, MISS,
	 "properties.customContainerTemplate"},
	{"{\"properties\":{\"customContainerTemplate\":{\"ingress\":null}}}", NULL, MISS, T "ingress"},
	{"{\"properties\":{\"customContainerTemplate\":{\"ingress\":{\"targetPort\":null}}}}", NULL, MISS,
	 T "ingress.targetPort"},
	{"{\"properties\":{\"customContainerTemplate\":{\"ingress\":{\"targetPort\":0}}}}", NULL, BAD,
	 T "ingress.targetPort"},
	{"{\"properties\":{\"customContainerTemplate\":{\"ingress\":{\"targetPort\":65536}}}}", NULL, BAD,
	 T "ingress.targetPort"},
	{"{\"properties\":{\"customContainerTemplate\":{\"containers\":null}}}", NULL, MISS, T "containers"},
	{"{\"properties\":{\"customContainerTemplate\":{\"containers\":[]}}}", NULL, BAD, T "containers"},
	{"{\"properties\":{\"customContainerTemplate\":{\"containers\":[{},{}]}}}", NULL, BAD,
	 T "containers"},
	{"{\"properties\":{\"customContainerTemplate\":{\"containers\":[null]}}}", NULL, BAD,
	 T "containers[0]"},
	{"{\"properties\":{\"customContainerTemplate\":{\"registryCredentials\":{\"username\":\"u\"}}}}",
	 NULL, MISS, T "registryCredentials.server"},
	{"{\"properties\":{\"customContainerTemplate\":{\"registryCredentials\":{\"server\":\"a b\"}}}}",
	 NULL, BAD, T "registryCredentials.server"},
	{"{\"properties\":{\"customContainerTemplate\":{\"registryCredentials\":{\"registryServer\":\"a\"}}}"
	 "}",
	 NULL, UNKN, T "registryCredentials.registryServer"},
	{"{\"properties\":{\"customContainerTemplate\":{\"registryCredentials\":{\"server\":\"a\","
	 "\"username\":\"u\"}}}}",
	 NULL, BAD, T "registryCredentials"},
	{"{\"properties\":{\"customContainerTemplate\":{\"registryCredentials\":{\"server\":\"a\","
	 "\"username\":\"u\","
	 "\"passwordSecretRef\":\"none\"}}}}",
	 NULL, "SecretNotFound", T "registryCredentials.passwordSecretRef"},
	{"{\"properties\":{\"customContainerTemplate\":{\"registryCredentials\":{\"server\":\"a\","
	 "\"identity\":\"me\"}}}}",
	 NULL, BAD, T "registryCredentials.identity"},
	{"{\"properties\":{\"sessionNetworkConfiguration\":{\"status\":\"Open\"}}}", NULL, BAD,
	 "properties.sessionNetworkConfiguration.status"},
	{"{\"properties\":{\"managedIdentitySettings\":[{\"identity\":\"x\"}]}}", NULL, BAD,
	 "properties.managedIdentitySettings[0].identity"},
	{"{\"properties\":{\"managedIdentitySettings\":[{\"identity\":\"system\",\"lifecycle\":\"Init\"}]}}",
	 NULL, BAD, "properties.managedIdentitySettings[0].lifecycle"},
	{NULL, "{\"image\":null}", MISS, C "image"},
	{NULL, "{\"image\":\"a b\"}", BAD, C "image"},
	{NULL, "{\"image\":\"\"}", BAD, C "image"},
	{NULL, "{\"image\":\"name:\"}", BAD, C "image"},
	{NULL, "{\"name\":\"a/b\"}", BAD, C "name"},
	{NULL, "{\"command\":\"sh\"}", BAD, C "command"},
	{NULL, "{\"command\":[1]}", BAD, C "command[0]"},
	{NULL, "{\"args\":[null]}", BAD, C "args[0]"},
	{NULL, "{\"env\":[{}]}", MISS, C "env[0].name"},
	{NULL, "{\"env\":[{\"name\":\"A=B\"}]}", BAD, C "env[0].name"},
	{NULL, "{\"env\":[{\"name\":\"1A\"}]}", BAD, C "env[0].name"},
	{NULL, "{\"env\":[{\"name\":\"A\",\"value\":1}]}", BAD, C "env[0].value"},
	{NULL, "{\"env\":[{\"name\":\"A\"},{\"name\":\"A\"}]}", "DuplicateName", C "env[1].name"},
	{NULL, "{\"env\":[{\"name\":\"A\",\"secretRef\":\"none\"}]}", "SecretNotFound", C "env[0].secretRef"},
	{NULL, "{\"resources\":null}", MISS, C "resources"},
	{NULL, "{\"resources\":{\"cpu\":null}}", MISS, C "resources.cpu"},
	{NULL, "{\"resources\":{\"cpu\":0.1}}", BAD, C "resources.cpu"},
	{NULL, "{\"resources\":{\"cpu\":0.3}}", BAD, C "resources.cpu"},
	{NULL, "{\"resources\":{\"cpu\":2.25}}", BAD, C "resources.cpu"},
	{NULL, "{\"resources\":{\"memory\":1}}", BAD, C "resources.memory"},
	{NULL, "{\"resources\":{\"memory\":\"1G\"}}", BAD, C "resources.memory"},
	{NULL, "{\"resources\":{\"memory\":\"8Gi\"}}", BAD, C "resources.memory"},
	{NULL, "{\"resources\":{\"memory\":\"0.25Gi\"}}", BAD, C "resources.memory"},
	{NULL, "{\"resources\":{\"memory\":\"1.2.3Gi\"}}", BAD, C "resources.memory"},
	{NULL, "{\"resources\":{\"gpu\":1}}", BAD, C "resources.gpu"},
	{NULL, "{\"volumeMounts\":[{}]}", BAD, C "volumeMounts"},
	{NULL, "{\"probes\":[{\"tcpSocket\":{\"port\":80}}]}", MISS, C "probes[0].type"},
	{NULL, "{\"probes\":[{\"type\":\"Readiness\",\"tcpSocket\":{\"port\":80}}]}", BAD,
	 C "probes[0].type"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\"}]}", BAD, C "probes[0]"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"httpGet\":{\"port\":80}}]}",
	 BAD, C "probes[0]"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{}}]}", MISS, C "probes[0].tcpSocket.port"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"failureThreshold\":11}]}",
	 BAD, C "probes[0].failureThreshold"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"periodSeconds\":0}]}", BAD,
	 C "probes[0].periodSeconds"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"timeoutSeconds\":241}]}",
	 BAD, C "probes[0].timeoutSeconds"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"initialDelaySeconds\":61}]}",
	 BAD, C "probes[0].initialDelaySeconds"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"successThreshold\":0}]}",
	 BAD, C "probes[0].successThreshold"},
	{NULL,
	 "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80},\"terminationGracePeriodSeconds\":"
	 "3601}]}",
	 BAD, C "probes[0].terminationGracePeriodSeconds"},
	{NULL,
	 "{\"probes\":[{\"type\":\"Startup\",\"tcpSocket\":{\"port\":80}},{\"type\":\"Startup\","
	 "\"tcpSocket\":{\"port\":80}}]}",
	 "DuplicateName", C "probes[1].type"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"httpGet\":{\"port\":80,\"path\":\"x\"}}]}", BAD,
	 C "probes[0].httpGet.path"},
	{NULL, "{\"probes\":[{\"type\":\"Startup\",\"httpGet\":{\"port\":80,\"scheme\":\"FTP\"}}]}", BAD,
	 C "probes[0].httpGet.scheme"},
	{NULL,
	 "{\"probes\":[{\"type\":\"Startup\",\"httpGet\":{\"port\":80,\"httpHeaders\":[{\"name\":\"a "
	 "b\",\"value\":\"\"}]}}]}",
	 BAD, C "probes[0].httpGet.httpHeaders[0].name"},
	{NULL,
	 "{\"probes\":[{\"type\":\"Startup\",\"httpGet\":{\"port\":80,\"httpHeaders\":[{\"name\":\"a\","
	 "\"value\":\"\\n\"}]}}]}",
	 BAD, C "probes[0].httpGet.httpHeaders[0].value"},
};

/* RFC 7396, written again for the test. */
static void merge(json_t *into, json_t *patch)
{
	const char *key;
	json_t *value;

	json_object_foreach(patch, key, value)
	{
		if (json_is_null(value) && strcmp(key, "args") != 0)
			json_object_del(into, key);
		else if (json_is_object(value) && json_is_object(json_object_get(into, key)))
			merge(json_object_get(into, key), value);
		else
			json_object_set(into, key, value);
	}
}

static json_t *parsed(const char *text)
{
	json_t *ret = NULL;
	struct err err = {0};

	if (json_parse(str_of(text), &(struct json_bounds){0}, &ret, &err) < 0)
		fail_msg("%s: %s", text, err.message);
	return ret;
}

static json_t *resource_2025(void)
{
	json_t *ret = fixture_resource();

	json_object_del(json_object_get(ret, "properties"), "dynamicPoolConfiguration");
	return ret;
}

static void test_wrong_fields(void **unused)
{
	unsigned n = 0;

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		json_t *resource = resource_2025(),
		       *patch = parsed(cases[i].patch != NULL ? cases[i].patch : cases[i].container);
		bool found = false;
		struct fixture f;

		fixture_init(&f);
		merge(cases[i].patch != NULL
			      ? resource
			      : json_at(resource, "properties.customContainerTemplate.containers[0]"),
		      patch);
		if (fixture_json(&f, "PUT", FIXTURE_POOL, "api-version=2025-02-02-preview", resource) != 400)
			fail_msg("%s: answered %d", json_string_value(json_at(f.body, "error.target")),
				 f.reply.status);
		for (size_t k = 0; k < json_array_size(json_at(f.body, "error.details")); k++) {
			json_t *detail = json_array_get(json_at(f.body, "error.details"), k);
			const char *target = json_string_value(json_object_get(detail, "target"));

			found = found || (strcmp(target, cases[i].target) == 0 &&
					  strcmp(json_string_value(json_object_get(detail, "code")),
						 cases[i].code) == 0);
			/* The message names the field. */
			if (strncmp(json_string_value(json_object_get(detail, "message")), target,
				    strlen(target)) != 0)
				fail_msg("%s: %s", target,
					 json_string_value(json_object_get(detail, "message")));
		}
		if (!found)
			fail_msg("%s wanted for %s: %.*s", cases[i].target,
				 cases[i].patch != NULL ? cases[i].patch : cases[i].container,
				 STR_ARGS(buf_str(&f.reply.body)));
		assert_null(state_next_pool(f.state, NULL));
		json_decref(resource);
		json_decref(patch);
		fixture_done(&f);
		n++;
	}
	print_message("%u wrong fields\n", n);
	assert_true(n > 90);
}

static void test_all_errors_at_once(void **unused)
{
	json_t *resource = resource_2025();
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	json_object_del(resource, "location");
	json_put_i64(json_at(resource, "properties.customContainerTemplate.ingress"), "targetPort", 0);
	json_put_cstr(json_at(resource, "properties"), "colour", "red");
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, "api-version=2025-01-01", resource), 400);
	assert_int_equal(json_array_size(json_at(f.body, "error.details")), 3);
	json_decref(resource);
	fixture_done(&f);
}

static void test_names_and_bodies(void **unused)
{
	static const char *const names[] = {
		"ab",  "Upper", "1abc",  "a--b",
		"ab-", "a_b",   "a%20b", "a123456789012345678901234567890123456789012345678901234567890123"};
	static const char *const bodies[] = {
		"", "[]", "{", "\"x\"", "{\"a\":1,\"a\":2}", "{} x", "{\"a\":\"\\u0000\"}"};
	char path[400];
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path,
			 "/subscriptions/s/resourceGroups/g/providers/Microsoft.App/sessionPools/%s",
			 names[i]);
		assert_int_equal(fixture_call(&f, "PUT", path, "api-version=2025-01-01", STR("{}")), 400);
		assert_string_equal(json_string_value(json_at(f.body, "error.code")), "InvalidResourceName");
	}
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++) {
		assert_int_equal(
			fixture_call(&f, "PUT", FIXTURE_POOL, "api-version=2025-01-01", str_of(bodies[i])),
			400);
		assert_string_equal(json_string_value(json_at(f.body, "error.code")),
				    "InvalidRequestContent");
	}
	fixture_done(&f);
}

static void test_tolerated(void **unused)
{
	json_t *resource = resource_2025();
	json_t *more = parsed(
		"{\"id\":\"x\",\"type\":\"y\",\"systemData\":{},\"properties\":{\"nodeCount\":1,"
		"\"provisioningState\":\"Failed\",\"secrets\":null,\"poolManagementEndpoint\":\"x\","
		"\"containertype\":null,"
		"\"scaleConfiguration\":{\"maxConcurrentSessions\":\"12\",\"readySessionInstances\":0},"
		"\"dynamicPoolConfiguration\":{\"lifecycleConfiguration\":{\"cooldownPeriodInSeconds\":"
		"\"400\","
		"\"maxAlivePeriodInSeconds\":null}}}}");
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	json_object_del(json_object_get(more, "properties"), "containertype");
	json_object_update_recursive(resource, more);
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, "api-version=2025-02-02-preview", resource),
			 201);
	assert_int_equal(
		json_integer_value(json_at(f.body, "properties.scaleConfiguration.maxConcurrentSessions")),
		12);
	assert_true(json_is_integer(json_at(f.body, L "cooldownPeriodInSeconds")));
	assert_int_equal(state_pool(f.state, f.last_pool)->limits.cooldown_ms, 400000);
	assert_int_equal(state_pool(f.state, f.last_pool)->limits.ready_target, 0);
	json_decref(more);
	json_decref(resource);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_wrong_fields),
		cmocka_unit_test(test_all_errors_at_once),
		cmocka_unit_test(test_names_and_bodies),
		cmocka_unit_test(test_tolerated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
