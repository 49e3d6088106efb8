/* What cordons and drains do to the tables: nothing new on such a node, the ready share elsewhere before it goes, and when
 * the node counts as empty. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "machine/machine.h"

static struct machine m;
static uint64_t pool;

static void start(uint32_t ready)
{
	machine_init(&m);
	machine_start(&m, 3);
	pool = machine_pool(&m, "echo", 10, ready);
}

static int order(uint64_t node, enum node_order what, uint64_t deadline_ms)
{
	return machine_do(&m, 1, COMMAND_NODE_ORDER,
			  &(struct msg_node_order){node, (uint8_t)what, deadline_ms})
		->code;
}

static int boot(uint64_t node)
{
	struct cmd_sandbox_boot c = {pool, state_pool(m.s, pool)->active_revision, node};

	return machine_do(&m, 1, COMMAND_SANDBOX_BOOT, &c)->code;
}

static uint8_t state_of(uint64_t sandbox)
{
	return state_sandbox(m.s, sandbox)->state;
}

static void gone(uint64_t sandbox, uint64_t node)
{
	struct cmd_sandbox_gone c = {.sandbox = sandbox, .stopped_ms = m.now_ms};

	assert_int_equal(machine_do(&m, node, COMMAND_SANDBOX_GONE, &c)->code, 0);
}

static void test_orders_are_idempotent(void **unused)
{
	uint64_t started;

	(void)unused;
	start(2);
	assert_int_equal(order(9, NODE_CORDON, 0), -ENOENT);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(order(2, NODE_CORDON, 0), 0);
		assert_true(state_node(m.s, 2)->cordoned && !state_node(m.s, 2)->draining);
	}
	for (int i = 0; i < 2; i++) {
		assert_int_equal(order(2, NODE_UNCORDON, 0), 0);
		assert_false(state_node(m.s, 2)->cordoned);
	}
	assert_int_equal(order(2, NODE_DRAIN, 1000), 0);
	started = state_node(m.s, 2)->drain_started_ms;
	assert_int_equal(started, m.now_ms);
	m.now_ms += 500;
	assert_int_equal(order(2, NODE_DRAIN, 9000), 0); /* another deadline, the same drain */
	assert_int_equal(state_node(m.s, 2)->drain_started_ms, started);
	assert_int_equal(state_node(m.s, 2)->drain_deadline_ms, m.now_ms + 9000);
	assert_int_equal(order(2, NODE_DRAIN_CANCEL, 0), 0);
	assert_int_equal(order(2, NODE_DRAIN_CANCEL, 0), 0);
	assert_false(state_node(m.s, 2)->cordoned || state_node(m.s, 2)->draining);
	machine_done(&m);
}

/* A cancelled drain leaves the cordon that was there before it, or was asked for meanwhile. */
static void test_cancel_keeps_an_operators_cordon(void **unused)
{
	(void)unused;
	start(2);
	order(2, NODE_CORDON, 0);
	order(2, NODE_DRAIN, 1000);
	order(2, NODE_DRAIN_CANCEL, 0);
	assert_true(state_node(m.s, 2)->cordoned);
	order(2, NODE_UNCORDON, 0);
	order(2, NODE_DRAIN, 1000);
	order(2, NODE_CORDON, 0);
	assert_true(state_node(m.s, 2)->draining);
	order(2, NODE_DRAIN_CANCEL, 0);
	assert_true(state_node(m.s, 2)->cordoned && !state_node(m.s, 2)->draining);
	order(2, NODE_DRAIN, 1000);
	order(2, NODE_UNCORDON, 0); /* brought back: the drain is over too */
	assert_false(state_node(m.s, 2)->cordoned || state_node(m.s, 2)->draining);
	machine_done(&m);
}

/* Two of two ready ones are on node 2: each goes when another is ready elsewhere, not before. */
static void test_the_ready_share_moves_first(void **unused)
{
	uint64_t old[2], new;

	(void)unused;
	start(2);
	for (int i = 0; i < 2; i++)
		old[i] = machine_ready(&m, pool, 2);
	assert_int_equal(boot(1), -EDQUOT);
	order(2, NODE_CORDON, 0);
	assert_int_equal(state_pool_moving(m.s, pool), 2);
	assert_int_equal(boot(2), -EHOSTDOWN);
	for (int i = 0; i < 2; i++) {
		new = machine_ready(&m, pool, (uint64_t)(1 + 2 * i));
		assert_int_equal(state_of(new), SANDBOX_READY);
		assert_int_equal(state_pool_counts(m.s, pool).ready, 2);
	}
	assert_int_equal(state_of(old[0]), SANDBOX_STOPPING);
	assert_int_equal(state_of(old[1]), SANDBOX_STOPPING);
	assert_int_equal(boot(1), -EDQUOT);
	machine_done(&m);
}

static void test_uncordoned_before_all_moved(void **unused)
{
	uint64_t old[2], booting;

	(void)unused;
	start(2);
	for (int i = 0; i < 2; i++)
		old[i] = machine_ready(&m, pool, 2);
	order(2, NODE_CORDON, 0);
	booting = machine_boot(&m, pool, 1);
	order(2, NODE_UNCORDON, 0);
	assert_int_equal(state_of(booting), SANDBOX_STOPPING); /* too many now */
	assert_int_equal(state_of(old[0]), SANDBOX_READY);
	assert_int_equal(state_of(old[1]), SANDBOX_READY);
	machine_done(&m);
}

static void test_what_boots_there_stops(void **unused)
{
	uint64_t booting;

	(void)unused;
	start(2);
	booting = machine_boot(&m, pool, 2);
	order(2, NODE_CORDON, 0);
	assert_int_equal(state_of(booting), SANDBOX_STOPPING);
	machine_done(&m);
}

/* New sessions go to other nodes while any of these has a ready one; else the moving one serves. */
static void test_sessions_go_elsewhere(void **unused)
{
	uint64_t moving, other;
	struct result r;

	(void)unused;
	start(2);
	moving = machine_ready(&m, pool, 2);
	other = machine_ready(&m, pool, 3);
	order(2, NODE_CORDON, 0);
	r = machine_open(&m, pool, "user-1");
	assert_int_equal(r.session.sandbox, other);
	r = machine_open(&m, pool, "user-2");
	assert_int_equal(r.session.sandbox, moving);
	assert_true(machine_open(&m, pool, "user-3").waiting);
	machine_done(&m);
}

/* The last session of the pool takes the ready one of a cordoned node: what was to replace it is for nobody. */
static void test_taken_while_it_is_replaced(void **unused)
{
	uint64_t sandbox;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 3);
	pool = machine_pool(&m, "echo", 1, 1);
	sandbox = machine_ready(&m, pool, 2);
	assert_int_equal(order(2, NODE_CORDON, 0), 0);
	assert_int_equal(boot(1), 0);
	assert_int_equal(machine_open(&m, pool, "user-1").session.sandbox, sandbox);
	assert_int_equal(state_pool_counts(m.s, pool).booting, 0);
	assert_int_equal(state_pool_counts(m.s, pool).stopping, 1);
	machine_done(&m);
}

static void test_when_it_is_drained(void **unused)
{
	uint64_t ready, bound;
	struct result r;

	(void)unused;
	start(2);
	order(3, NODE_DRAIN, 1000);
	assert_int_equal(state_node(m.s, 3)->drained_ms, m.now_ms); /* there was nothing */
	bound = machine_ready(&m, pool, 2);
	r = machine_open(&m, pool, "user-1");
	assert_int_equal(r.session.sandbox, bound);
	ready = machine_ready(&m, pool, 2);
	m.now_ms += 100;
	order(2, NODE_DRAIN, 60000);
	assert_int_equal(state_node(m.s, 2)->drained_ms, 0);
	assert_int_equal(state_of(ready), SANDBOX_READY);
	for (int i = 0; i < 2; i++)
		machine_ready(&m, pool, 1);
	assert_int_equal(state_of(ready), SANDBOX_STOPPING);
	gone(ready, 2);
	assert_int_equal(state_node(m.s, 2)->drained_ms, 0);
	m.now_ms += 5000;
	machine_do(&m, 1, COMMAND_SESSION_CLOSING,
		   &(struct cmd_session_closing){pool, r.session.generation, REAP_DRAINED});
	machine_do(&m, 2, COMMAND_SESSION_CLOSED,
		   &(struct cmd_session_closed){pool, r.session.generation, m.now_ms, false});
	assert_int_equal(state_node(m.s, 2)->drained_ms, m.now_ms);
	machine_do(
		&m, 2, COMMAND_NODE_JOIN,
		&(struct cmd_node_join){.id = 2, .name = STR("again"), .cpu_milli = 10, .memory_bytes = 1});
	assert_true(state_node(m.s, 2)->draining); /* a restart changes nothing of it */
	order(2, NODE_UNCORDON, 0);
	assert_int_equal(state_node(m.s, 2)->drained_ms, 0);
	assert_int_equal(state_node(m.s, 2)->drain_started_ms, 0);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders_are_idempotent),
		cmocka_unit_test(test_cancel_keeps_an_operators_cordon),
		cmocka_unit_test(test_the_ready_share_moves_first),
		cmocka_unit_test(test_uncordoned_before_all_moved),
		cmocka_unit_test(test_what_boots_there_stops),
		cmocka_unit_test(test_sessions_go_elsewhere),
		cmocka_unit_test(test_taken_while_it_is_replaced),
		cmocka_unit_test(test_when_it_is_drained),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
