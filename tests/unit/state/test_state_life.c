/* The happy path of a pool: made, filled, used, emptied, deleted; and what each step leaves in the tables. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "machine/machine.h"

static void test_pool_from_put_to_delete(void **unused)
{
	struct machine m;
	struct result open;
	uint64_t pool, sandbox;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 3);
	pool = machine_pool(&m, "echo", 10, 2);
	assert_int_equal(state_pool(m.s, pool)->provisioning, PROVISIONING_SUCCEEDED);
	assert_ptr_equal(state_pool_by_name(m.s, STR("SUB"), STR("Group"), STR("ECHO")),
			 state_pool(m.s, pool));
	sandbox = machine_ready(&m, pool, 1);
	machine_ready(&m, pool, 2);
	m.now_ms += 1000;
	open = machine_open(&m, pool, "user-1");
	assert_int_equal(open.code, 0);
	assert_true(open.created);
	assert_int_equal(open.session.sandbox, sandbox);
	assert_int_equal(open.session.node, 1);
	assert_int_equal(open.session.index, m.index);
	assert_int_equal(machine_open(&m, pool, "user-1").session.generation, open.session.generation);
	assert_int_equal(state_node(m.s, 1)->cpu_reserved, 250);

	m.now_ms += 5000;
	assert_int_equal(machine_do(&m, 2, COMMAND_POOL_DELETE, &(struct msg_pool_delete){pool})->code, 0);
	assert_int_equal(state_session_by_generation(m.s, open.id)->state, SESSION_CLOSING);
	assert_int_equal(machine_open(&m, pool, "user-2").code, -ESHUTDOWN);
	struct cmd_session_closed closed = {.pool = pool, .generation = open.id, .stopped_ms = m.now_ms};

	assert_int_equal(machine_do(&m, 2, COMMAND_SESSION_CLOSED, &closed)->code, -EPERM);
	assert_int_equal(machine_do(&m, 1, COMMAND_SESSION_CLOSED, &closed)->code, 0);
	const struct sandbox_row *last = state_next_sandbox(m.s, NULL);
	struct cmd_sandbox_gone gone = {.sandbox = last->id, .stopped_ms = m.now_ms};

	assert_int_equal(last->state, SANDBOX_STOPPING);
	uint64_t operation = state_pool(m.s, pool)->operation;
	assert_int_equal(machine_do(&m, 2, COMMAND_SANDBOX_GONE, &gone)->code, 0);
	assert_null(state_pool(m.s, pool));
	assert_int_equal(state_operation(m.s, operation)->phase, PHASE_SUCCEEDED);
	assert_int_equal(state_node(m.s, 1)->cpu_reserved, 0);
	const struct bucket_row *bucket = state_next_bucket(m.s, pool, NULL);

	assert_int_equal(bucket->session_ms.low, 5000);
	assert_int_equal(bucket->sandbox_ms.low, 12000);
	assert_int_equal(bucket->cpu_milli_ms.low, 250 * 12000);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pool_from_put_to_delete),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
