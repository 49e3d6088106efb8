/* test_arm_isolation.c -- the tag berth.isolation: its words, its default, that it never changes, where it is shown. */
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

#define V08           "api-version=2024-08-02-preview"
#define TEXT(f, path) json_string_value(json_at((f)->body, path))
#define CODE(f)       TEXT(f, "error.code")
#define STATUS        "/.berth/v1" FIXTURE_POOL "/status"

/* value NULL: no such tag. */
static int put(struct fixture *f, json_t *value)
{
	json_t *resource = fixture_resource(), *tags = json_put_object(resource, "tags");
	int status;

	json_put_cstr(tags, "mine", "1");
	if (value != NULL)
		json_put(tags, "berth.isolation", value);
	status = fixture_json(f, "PUT", FIXTURE_POOL, V08, resource);
	json_decref(resource);
	if (status == 201 && state_operation(f->state, f->operation)->ended_ms == 0)
		fixture_finish(f, true);
	return status;
}

static int patch(struct fixture *f, const char *text)
{
	return fixture_call(f, "PATCH", FIXTURE_POOL, V08, str_of(text));
}

static const struct pool_row *row(const struct fixture *f)
{
	return state_next_pool(f->state, NULL);
}

static void shows(struct fixture *f, uint8_t isolation)
{
	json_t *tags;

	assert_int_equal(row(f)->isolation, isolation);
	assert_int_equal(fixture_call(f, "GET", FIXTURE_POOL, V08, STR("")), 200);
	tags = json_object_get(f->body, "tags");
	assert_string_equal(json_string_value(json_object_get(tags, "berth.isolation")),
			    isolation_name[isolation]);
	assert_string_equal(json_string_value(json_object_get(tags, "mine")), "1");
	assert_int_equal(fixture_call(f, "GET", STATUS, "", STR("")), 200);
	assert_string_equal(TEXT(f, "isolation"), isolation_name[isolation]);
}

static void test_words(void **unused)
{
	static const char *const bad[] = {"", "VM", "kvm", "vm ", "containers", "0"};
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_int_equal(put(&f, json_string(bad[i])), 400);
		assert_non_null(strstr(TEXT(&f, "error.message"), "tags.berth.isolation"));
		assert_non_null(strstr(TEXT(&f, "error.message"), "\"vm\" or \"container\""));
	}
	assert_int_equal(put(&f, json_integer(1)), 400);
	assert_int_equal(put(&f, json_null()), 400);
	assert_int_equal(put(&f, json_string("vm")), 201);
	assert_string_equal(json_string_value(json_object_get(json_at(f.body, "tags"), "berth.isolation")),
			    "vm");
	shows(&f, ISOLATION_VM);
	fixture_done(&f);
}

/* Named once; who says nothing later changes nothing; who says something else is refused, and so is every field beside it. */
static void test_it_never_changes(void **unused)
{
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	assert_int_equal(put(&f, json_string("vm")), 201);
	assert_int_equal(put(&f, NULL), 201);
	shows(&f, ISOLATION_VM);
	assert_int_equal(put(&f, json_string("vm")), 201);
	assert_int_equal(put(&f, json_string("container")), 409);
	assert_string_equal(CODE(&f), "PropertyChangeNotAllowed");
	assert_non_null(strstr(TEXT(&f, "error.message"), "tags.berth.isolation"));
	assert_non_null(strstr(TEXT(&f, "error.message"), "cannot change"));
	assert_int_equal(patch(&f, "{\"tags\":{\"berth.isolation\":\"container\"},\"properties\":"
				   "{\"scaleConfiguration\":{\"maxConcurrentSessions\":120}}}"),
			 409);
	assert_int_not_equal(row(&f)->limits.max_sessions, 120);
	assert_int_equal(patch(&f, "{\"tags\":{\"berth.isolation\":\"kvm\"}}"), 400);
	assert_int_equal(patch(&f, "{\"tags\":{\"berth.isolation\":\"vm\"}}"), 202);
	assert_int_equal(patch(&f, "{\"tags\":{\"berth.isolation\":null}}"), 202);
	shows(&f, ISOLATION_VM);
	fixture_done(&f);
}

/* The cluster's setting, for those that name none. */
static void test_default(void **unused)
{
	struct fixture f;

	(void)unused;
	for (unsigned i = 0; i < ISOLATIONS; i++) {
		fixture_init_with(&f, (uint8_t)i);
		assert_int_equal(put(&f, NULL), 201);
		shows(&f, (uint8_t)i);
		assert_int_equal(fixture_call(&f, "GET", "/.berth/v1/cluster/status", "", STR("")), 0);
		assert_non_null(strstr(f.outcome.status.p, i == ISOLATION_VM
								   ? "\"isolation\":\"vm\""
								   : "\"isolation\":\"container\""));
		fixture_done(&f);
	}
}

/* A resource that was read can be written back, with as many tags as are allowed. */
static void test_it_is_no_tag_more(void **unused)
{
	json_t *resource = fixture_resource(), *tags = json_put_object(resource, "tags"), *shown;
	struct fixture f;
	char name[16];

	(void)unused;
	fixture_init(&f);
	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof name, "t%d", i);
		json_put_cstr(tags, name, "x");
	}
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, V08, resource), 201);
	fixture_finish(&f, true);
	assert_int_equal(fixture_call(&f, "GET", FIXTURE_POOL, V08, STR("")), 200);
	shown = json_incref(f.body);
	assert_int_equal(json_object_size(json_object_get(shown, "tags")), 51);
	assert_int_equal(fixture_json(&f, "PUT", FIXTURE_POOL, V08, shown), 201);
	json_decref(shown);
	json_decref(resource);
	fixture_done(&f);
}

static void test_nodes_show_what_they_run(void **unused)
{
	struct fixture f;

	(void)unused;
	fixture_init(&f);
	assert_int_equal(fixture_call(&f, "GET", "/.berth/v1/nodes", "", STR("")), 200);
	assert_string_equal(TEXT(&f, "value[0].noVm"), "not known yet");
	assert_int_equal(fixture_apply(&f, COMMAND_NODE_ABLE,
				       &(struct cmd_node_able){1u << ISOLATION_CONTAINER,
							       STR("the canary guest did not answer")})
				 .code,
			 0);
	assert_int_equal(fixture_call(&f, "GET", "/.berth/v1/nodes", "", STR("")), 200);
	assert_int_equal(json_array_size(json_at(f.body, "value[0].isolations")), 1);
	assert_string_equal(TEXT(&f, "value[0].isolations[0]"), "container");
	assert_string_equal(TEXT(&f, "value[0].noVm"), "the canary guest did not answer");
	assert_int_equal(put(&f, json_string("vm")), 201);
	assert_int_equal(fixture_call(&f, "GET", STATUS, "", STR("")), 200);
	assert_non_null(strstr(TEXT(&f, "unable"), "node \"n1\": the canary guest did not answer"));
	fixture_apply(&f, COMMAND_NODE_ABLE, &(struct cmd_node_able){(1u << ISOLATIONS) - 1, STR_NONE});
	assert_int_equal(fixture_call(&f, "GET", STATUS, "", STR("")), 200);
	assert_null(json_at(f.body, "unable"));
	assert_int_equal(fixture_call(&f, "GET", "/.berth/v1/nodes", "", STR("")), 200);
	assert_string_equal(TEXT(&f, "value[0].isolations[1]"), "vm");
	assert_null(json_at(f.body, "value[0].noVm"));
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_it_never_changes),
		cmocka_unit_test(test_default),
		cmocka_unit_test(test_it_is_no_tag_more),
		cmocka_unit_test(test_nodes_show_what_they_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
