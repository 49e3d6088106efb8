/* test_arm_access.c -- who may do what, sessions with and without the right to see identifiers, Berth's own API, the bill,
 * and what clients ask around the pools. */
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
#define TEXT(f, path)   json_string_value(json_at((f).body, path))
#define NUMBER(f, path) json_integer_value(json_at((f).body, path))
#define BERTH           "/.berth/v1"

static void create(struct fixture *f)
{
	json_t *resource = fixture_resource();

	fixture_init(f);
	assert_int_equal(fixture_json(f, "PUT", FIXTURE_POOL, V08, resource), 201);
	fixture_finish(f, true);
	json_decref(resource);
}

/* One sandbox, ready, and bound to an identifier. */
static uint64_t open_session(struct fixture *f, const char *identifier)
{
	const struct pool_row *pool = state_pool(f->state, f->last_pool);
	struct cmd_sandbox_boot boot = {.pool = pool->uid, .revision = pool->desired_revision, .node = 1};
	struct cmd_sandbox ready = {.sandbox = fixture_apply(f, COMMAND_SANDBOX_BOOT, &boot).id};
	struct cmd_session_open open = {
		.pool = pool->uid, .identifier = str_of(identifier), .preferred = ready.sandbox};

	assert_true(ready.sandbox > 0);
	f->now_ms += 1000;
	assert_int_equal(fixture_apply(f, COMMAND_SANDBOX_READY, &ready).code, 0);
	f->now_ms += 1000;
	assert_int_equal(fixture_apply(f, COMMAND_SESSION_OPEN, &open).code, 0);
	return ready.sandbox;
}

static void test_roles(void **unused)
{
	static const struct {
		const char *role, *scope, *method, *path;
		int status; /* 0: allowed */
	} cases[] = {
		{"Reader", "/", "GET", FIXTURE_POOL, 0},
		{"reader", "/subscriptions/" FIXTURE_SUB, "GET", FIXTURE_POOL, 0},
		{"acdd72a7-3385-48ef-bd42-f606fba81ae7", FIXTURE_POOL, "GET", FIXTURE_POOL, 0},
		{"Reader", FIXTURE_POOL "2", "GET", FIXTURE_POOL, 403},
		{"Reader", "/subscriptions/" FIXTURE_SUB "/resourceGroups/r", "GET", FIXTURE_POOL, 403},
		{"Reader", "", "GET", FIXTURE_POOL, 403},
		{"Reader", "/", "PUT", FIXTURE_POOL, 403},
		{"Reader", "/", "DELETE", FIXTURE_POOL, 403},
		{"Reader", FIXTURE_POOL, "GET", BERTH "/cluster", 403},
		{"Contributor", "/", "GET", BERTH "/cluster", 0},
		{"Contributor", "/", "DELETE", FIXTURE_POOL, 0},
		{"Contributor", "/", "POST", BERTH "/tokens", 403},
		{"Owner", "/", "POST", BERTH "/images/import", 403},
		{"Azure ContainerApps Session Executor", "/", "GET", FIXTURE_POOL, 403},
		{"Nobody", "/", "GET", FIXTURE_POOL, 403},
		{"Reader", FIXTURE_POOL, "GET", "/subscriptions", 0},
		{"Nobody", "/", "GET", "/metadata/endpoints", 0},
	};

	(void)unused;
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct arm_role role = {str_of(cases[i].role), str_of(cases[i].scope)};
		struct fixture f;
		int status;

		create(&f);
		f.caller = (struct arm_caller){.subject = STR("x"), .roles = &role, .n_roles = 1};
		status = fixture_call(&f, cases[i].method, cases[i].path, V08, STR(""));
		if (cases[i].status == 0 ? status >= 400 : status != cases[i].status)
			fail_msg("%s at %s: %s %s answered %d", cases[i].role, cases[i].scope,
				 cases[i].method, cases[i].path, status);
		fixture_done(&f);
	}
	assert_true(arm_public(STR("GET"), STR("/metadata/endpoints")));
	assert_false(arm_public(STR("GET"), STR("/subscriptions")));
}

static void test_management_calls(void **unused)
{
	const struct arm_role reader = {STR("Reader"), STR("/")};
	struct fixture f;

	(void)unused;
	create(&f);
	open_session(&f, "alice-1");
	f.pool = f.last_pool;
	assert_int_equal(fixture_call(&f, "POST", "/.management/getSession", "identifier=alice-1", STR("")),
			 200);
	assert_string_equal(TEXT(f, "identifier"), "alice-1");
	assert_non_null(TEXT(f, "expiresAt"));
	assert_non_null(TEXT(f, "etag"));
	assert_int_equal(fixture_call(&f, "POST", "/.management/getSession", "identifier=nobody", STR("")),
			 400);
	assert_string_equal(TEXT(f, "error.code"), "SessionWithIdentifierNotFound");
	assert_int_equal(fixture_call(&f, "POST", "/.management/listSessions", "skip=0", STR("")), 200);
	assert_int_equal(NUMBER(f, "count"), 1);
	assert_int_equal(fixture_call(&f, "POST", "/.management/stopSession", "identifier=alice-1", STR("")),
			 200);
	assert_string_equal(fixture_header(&f, "content-type"), "text/plain; charset=utf-8");
	assert_true(str_eq(buf_str(&f.reply.body),
			   STR("Session alice-1 in session pool testsessionpool stopped.")));
	assert_int_equal(fixture_call(&f, "POST", "/.management/stopSession", "identifier=nobody", STR("")),
			 400);
	assert_true(str_eq(buf_str(&f.reply.body), STR("Failed to stop session, session not found.")));
	assert_int_equal(fixture_call(&f, "POST", "/.management/stopSession", "identifier=abc", STR("")),
			 400);
	assert_int_equal(fixture_call(&f, "POST", "/.management/stopSession", "", STR("")), 400);
	assert_int_equal(fixture_call(&f, "POST", "/.management/stopSession", "identifier=a%20bcd", STR("")),
			 400);
	assert_string_equal(TEXT(f, "error.code"), "SessionRequestValidationFailed");
	assert_int_equal(fixture_call(&f, "POST", "/.management/other", "", STR("")), 400);
	assert_string_equal(TEXT(f, "error.code"), "SessionRequestNotSupported");
	f.caller.roles = &reader;
	f.caller.n_roles = 1;
	assert_int_equal(fixture_call(&f, "POST", "/.management/getSession", "identifier=alice-1", STR("")),
			 403);
	fixture_done(&f);
}

static void test_operator_sessions(void **unused)
{
	const struct arm_role reader = {STR("Reader"), STR("/")};
	struct fixture f;

	(void)unused;
	create(&f);
	open_session(&f, "alice-1");
	assert_int_equal(fixture_call(&f, "GET", BERTH FIXTURE_POOL "/sessions", "", STR("")), 200);
	assert_string_equal(TEXT(f, "value[0].identifier"), "alice-1");
	assert_int_equal(strlen(TEXT(f, "value[0].identifierHash")), 32);
	assert_string_equal(TEXT(f, "value[0].nodeName"), "n1");
	assert_int_equal(
		fixture_call(&f, "POST", BERTH FIXTURE_POOL "/stopSession", "identifier=alice-1", STR("")),
		200);
	assert_int_equal(
		fixture_call(&f, "POST", BERTH FIXTURE_POOL "/stopSession", "identifier=nobody", STR("")),
		404);
	assert_int_equal(fixture_call(&f, "GET", BERTH FIXTURE_POOL "/logs",
				      "identifier=alice-1&follow=true&tail=5", STR("")),
			 0);
	assert_int_equal(f.outcome.task, ARM_TASK_LOGS);
	assert_true(f.outcome.logs.follow && f.outcome.logs.tail == 5 && f.outcome.logs.node == 1);
	/* Of what is not here: some node may have the log of one that ended. */
	assert_int_equal(fixture_call(&f, "GET", BERTH FIXTURE_POOL "/logs", "sandbox=999", STR("")), 0);
	assert_true(f.outcome.logs.node == 0 && f.outcome.logs.sandbox == 999 && f.outcome.logs.tag.n == 0);
	assert_int_equal(fixture_call(&f, "GET", BERTH FIXTURE_POOL "/logs", "identifier=carol-9", STR("")),
			 0);
	assert_true(f.outcome.logs.node == 0 && f.outcome.logs.sandbox == 0 && f.outcome.logs.tag.n == 32);
	f.caller.roles = &reader;
	f.caller.n_roles = 1;
	assert_int_equal(fixture_call(&f, "GET", BERTH FIXTURE_POOL "/sessions", "", STR("")), 200);
	assert_null(strstr(f.reply.body.p, "alice-1"));
	assert_int_equal(strlen(TEXT(f, "value[0].identifierHash")), 32);
	fixture_done(&f);
}

static void test_cluster(void **unused)
{
	struct fixture f;

	(void)unused;
	create(&f);
	open_session(&f, "alice-1");
	assert_int_equal(fixture_call(&f, "GET", BERTH "/cluster", "", STR("")), 200);
	assert_int_equal(NUMBER(f, "leader"), 1);
	assert_int_equal(NUMBER(f, "nodes[0].bound"), 1);
	assert_int_equal(NUMBER(f, "nodes[0].cpuMilli"), 32000);
	assert_int_equal(NUMBER(f, "nodes[0].cpuMilliReserved"), 250);
	assert_int_equal(fixture_call(&f, "GET", BERTH "/nodes/n1", "", STR("")), 0);
	assert_true(f.outcome.task == ARM_TASK_NODE && f.outcome.node.node == 1);
	assert_true(str_starts(f.outcome.node.head, STR("{\"id\":1,")));
	assert_int_equal(fixture_call(&f, "GET", BERTH "/nodes/n2", "", STR("")), 404);
	assert_int_equal(fixture_call(&f, "GET", BERTH FIXTURE_POOL "/status", "", STR("")), 200);
	assert_int_equal(NUMBER(f, "sandboxes.bound"), 1);
	assert_int_equal(NUMBER(f, "sessions.live"), 1);
	f.caller.local = true;
	assert_int_equal(fixture_call(&f, "POST", BERTH "/tokens", "",
				      STR("{\"audience\":\"data\",\"ttlSeconds\":600,\"roles\":"
					  "[{\"role\":\"Reader\"}]}")),
			 0);
	assert_int_equal(f.outcome.task, ARM_TASK_TOKEN);
	assert_true(str_eq(f.outcome.token.audience, STR("https://dynamicsessions.io")));
	assert_true(str_eq(f.outcome.token.roles[0].scope, STR("/")));
	assert_int_equal(fixture_call(&f, "POST", BERTH "/tokens", "", STR("{\"ttlSeconds\":5}")), 400);
	assert_int_equal(fixture_call(&f, "POST", BERTH "/images/import", "",
				      STR("{\"reference\":\"a:1\",\"path\":\"/x\"}")),
			 0);
	assert_int_equal(f.outcome.task, ARM_TASK_IMPORT);
	assert_int_equal(fixture_call(&f, "POST", BERTH "/images/import", "",
				      STR("{\"reference\":\"a:1\",\"path\":\"x\"}")),
			 400);
	fixture_done(&f);
}

/* The export as a whole, with the records of the tables. */
static json_t *export(struct fixture *f, const char *query)
{
	CLEANUP_BUF struct buf text = {0};
	const struct record_row *first = state_next_record(f->state, NULL);
	json_t *whole = NULL;
	struct err err;

	assert_int_equal(fixture_call(f, "GET", BERTH "/billing", query, STR("")), 0);
	assert_int_equal(f->outcome.task, ARM_TASK_EXPORT);
	buf_add_str(&text, f->outcome.export.head);
	for (const struct record_row *r = first; r != NULL; r = state_next_record(f->state, r))
		arm_export_record(&text, false, r == first, r);
	buf_add_str(&text, arm_export_end(false));
	assert_int_equal(json_parse(buf_str(&text), &(struct json_bounds){0}, &whole, &err), 0);
	return whole;
}

static void test_billing(void **unused)
{
	struct fixture f;
	struct cmd_sandbox_gone gone;
	struct renewal renewal = {.node = 1};
	struct cmd_node_renew renew = {.renewals = &renewal, .n_renewals = 1};
	uint64_t sandbox;

	(void)unused;
	create(&f);
	renewal.epoch = f.epoch;
	sandbox = open_session(&f, "alice-1");
	f.now_ms += 60000;
	gone = (struct cmd_sandbox_gone){.sandbox = sandbox, .stopped_ms = f.now_ms};
	fixture_apply(&f, COMMAND_SANDBOX_GONE, &gone);
	open_session(&f, "bob-0077");
	f.now_ms += 5000;
	fixture_apply(&f, COMMAND_NODE_RENEW, &renew); /* cluster time goes on */
	json_t *bill = export(&f, "from=2025-12-31&to=2026-02-01");

	assert_int_equal(json_array_size(json_at(bill, "records")), 1);
	assert_true(json_is_string(json_at(bill, "records[0].reason")));
	/* alice: ready one second before opened, 61 s in all; bob: 1 s until he was bound, the rest runs; 250 milli-vCPU */
	assert_string_equal(json_string_value(json_at(bill, "buckets[0].sandboxMs")), "62000");
	assert_string_equal(json_string_value(json_at(bill, "buckets[0].cpuMilliMs")), "15500000");
	assert_true(json_real_value(json_at(bill, "buckets[0].vcpuSeconds")) > 15.49);
	assert_int_equal(json_array_size(json_at(bill, "running")), 1);
	assert_string_equal(json_string_value(json_at(bill, "running[0].sessionMs")), "5000");
	json_decref(bill);
	assert_int_equal(fixture_call(&f, "GET", BERTH "/billing", "from=2025-12-31&to=2026-02-01&format=csv",
				      STR("")),
			 0);
	assert_true(f.outcome.export.csv && str_find(f.outcome.export.head, '\n') < f.outcome.export.head.n);
	assert_int_equal(fixture_call(&f, "GET", BERTH "/billing", "from=yesterday", STR("")), 400);
	assert_int_equal(fixture_call(&f, "GET", BERTH "/billing", "format=xml", STR("")), 400);
	assert_int_equal(fixture_call(&f, "GET", BERTH "/billing", "from=2026-01-02&to=2026-01-01", STR("")),
			 400);
	fixture_done(&f);
}

static void test_around(void **unused)
{
	struct fixture f;

	(void)unused;
	create(&f);
	assert_int_equal(fixture_call(&f, "GET", "/metadata/endpoints", "api-version=2022-09-01", STR("")),
			 200);
	assert_string_equal(TEXT(f, "resourceManager"), "https://berth.example:8443");
	assert_int_equal(fixture_call(&f, "GET", "/subscriptions", "api-version=2022-12-01", STR("")), 200);
	assert_string_equal(TEXT(f, "value[0].subscriptionId"), FIXTURE_SUB);
	assert_int_equal(fixture_call(&f, "GET", "/subscriptions/s/providers/Microsoft.App",
				      "api-version=2024-11-01", STR("")),
			 200);
	assert_string_equal(TEXT(f, "registrationState"), "Registered");
	assert_string_equal(TEXT(f, "resourceTypes[0].resourceType"), "sessionPools");
	assert_int_equal(fixture_call(&f, "GET", "/subscriptions/s/resourceGroups/g",
				      "api-version=2022-12-01", STR("")),
			 200);
	assert_int_equal(
		fixture_call(
			&f, "GET",
			"/subscriptions/s/resourceGroups/g/providers/Microsoft.App/managedEnvironments/e",
			"api-version=2025-07-01", STR("")),
		200);
	assert_string_equal(TEXT(f, "properties.defaultDomain"), "env.local.berth.example");
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_management_calls),
		cmocka_unit_test(test_operator_sessions),
		cmocka_unit_test(test_cluster),
		cmocka_unit_test(test_billing),
		cmocka_unit_test(test_around),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
