/* Drains on three nodes, on virtual time: what moves, what is waited for, what the deadline ends, and that a drain outlives
 * leaders, restarts and its cancelling. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "blank.h"
#include "sim.h"

#define COOLDOWN_MS 20000

static uint64_t pool, drained;

static struct pool_counts counts(struct sim *s)
{
	return state_pool_counts(sim_tables(s), pool);
}

static bool is_full(struct sim *s)
{
	const struct pool_row *row = state_pool(sim_tables(s), pool);
	struct pool_counts n = counts(s);

	return row->provisioning == PROVISIONING_SUCCEEDED && n.ready == row->limits.ready_target &&
	       n.booting == 0 && n.stopping == 0;
}

static bool all_answered(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_asks; i++) {
		if (s->asks[i].answers == 0)
			return false;
	}
	return true;
}

static const struct node_row *node_of(struct sim *s)
{
	return state_node(sim_tables(s), drained);
}

static bool is_drained(struct sim *s)
{
	return node_of(s)->draining && node_of(s)->drained_ms != 0;
}

/* Sandboxes of the node in that state. */
static uint32_t has(struct sim *s, uint64_t node, uint8_t state)
{
	uint32_t n = 0;

	for (const struct sandbox_row *row = NULL;
	     (row = state_next_node_sandbox(sim_tables(s), node, row)) != NULL;)
		n += row->state == state;
	return n;
}

static void order(struct sim *s, enum node_order what, uint64_t deadline_ms)
{
	uint64_t by = 1 + drained % SIM_NODES;

	sim_send(s, by, (struct address){ADDRESS_DRAIN, by, 0}, MSG_NODE_ORDER,
		 &(struct msg_node_order){drained, (uint8_t)what, deadline_ms}, ORDER_CORRELATION);
	sim_run(s, 200);
}

/* A full pool, and some sessions on each node. */
static struct sim *busy_cluster(uint64_t seed, uint64_t node)
{
	struct sim *s = sim_new(seed);
	char identifier[32];

	drained = node;
	pool = sim_put(s, "p", "registry/image:1", 60, 6, COOLDOWN_MS);
	assert_true(sim_until(s, is_full, 20000));
	for (uint32_t i = 0; i < 12; i++) {
		snprintf(identifier, sizeof identifier, "user-%u", i);
		sim_open(s, 1 + i % SIM_NODES, pool, identifier, 0);
		assert_true(sim_until(s, all_answered, 5000));
		assert_int_equal(s->asks[i].opened.code, OPEN_OK);
		assert_true(sim_until(s, is_full, 5000));
	}
	assert_true(has(s, node, SANDBOX_BOUND) > 0 && has(s, node, SANDBOX_READY) > 0);
	return s;
}

static void test_a_cordon_moves_the_ready_share(void **state)
{
	struct sim *s = busy_cluster(1, 2);
	uint32_t bound = has(s, 2, SANDBOX_BOUND);

	(void)state;
	s->busy = true;
	sim_send(s, 1, (struct address){ADDRESS_DRAIN, 1, 0}, MSG_NODE_ORDER,
		 &(struct msg_node_order){2, NODE_CORDON, 0}, ORDER_CORRELATION);
	for (uint32_t i = 0; i < 300; i++) { /* never fewer than before: new ones first */
		sim_run(s, 10);
		assert_true(counts(s).ready >= 6);
	}
	assert_true(is_full(s));
	assert_int_equal(has(s, 2, SANDBOX_READY), 0);
	assert_int_equal(has(s, 2, SANDBOX_BOUND), bound); /* a cordon ends no session */
	order(s, NODE_UNCORDON, 0);
	sim_open(s, 1, pool, "user-next", 0);
	sim_run(s, 5000);
	assert_true(has(s, 2, SANDBOX_READY) > 0);
	sim_free(s);
}

static void test_idle_sessions_are_waited_for(void **state)
{
	struct sim *s = busy_cluster(2, 2);

	(void)state;
	order(s, NODE_DRAIN, 3600000);
	sim_run(s, 5000);
	assert_true(has(s, 2, SANDBOX_BOUND) > 0); /* not idle for long enough */
	assert_int_equal(has(s, 2, SANDBOX_READY), 0);
	assert_true(sim_until(s, is_drained, 2 * COOLDOWN_MS));
	assert_true(node_of(s)->drained_ms - node_of(s)->drain_started_ms < 2 * COOLDOWN_MS);
	sim_run(s, 1000);
	assert_int_equal(sim_node(s, 2)->n_runs, 0);
	assert_true(is_full(s));
	sim_free(s);
}

static void test_busy_ones_end_at_the_deadline(void **state)
{
	struct sim *s = busy_cluster(3, 2);
	uint32_t left;

	(void)state;
	s->busy = true;
	order(s, NODE_DRAIN, 60000);
	sim_run(s, 58000);
	left = has(s, 2, SANDBOX_BOUND);
	assert_true(left > 0);
	assert_false(is_drained(s));
	assert_true(sim_until(s, is_drained, 10000));
	assert_true(counts(s).live > 0); /* those of other nodes go on */
	sim_free(s);
}

static void test_a_leader_hands_over(void **state)
{
	struct sim *s = busy_cluster(4, 1);

	(void)state;
	sim_elect(s, 1);
	assert_int_equal(sim_leader(s), 1);
	order(s, NODE_DRAIN, 3600000);
	sim_run(s, 3000);
	assert_int_not_equal(sim_leader(s), 1);
	assert_true(sim_until(s, is_drained, 2 * COOLDOWN_MS));
	sim_free(s);
}

/* The new leader knows from the tables alone what there is to do. */
static void test_it_survives_leaders_and_restarts(void **state)
{
	struct sim *s = busy_cluster(5, 3);

	(void)state;
	s->busy = true;
	order(s, NODE_DRAIN, 30000);
	sim_run(s, 10000);
	sim_elect(s, 2);
	sim_run(s, 10000);
	sim_restart(s, sim_node(s, 3));
	sim_restart(s, sim_node(s, 2));
	assert_true(sim_until(s, is_drained, 40000));
	order(s, NODE_UNCORDON, 0);
	sim_open(s, 1, pool, "user-next", 0);
	sim_run(s, 10000);
	assert_true(has(s, 3, SANDBOX_READY) > 0); /* it takes part again */
	sim_free(s);
}

static void test_a_cancelled_drain_ends_nothing(void **state)
{
	struct sim *s = busy_cluster(6, 2);
	uint32_t bound = has(s, 2, SANDBOX_BOUND);

	(void)state;
	s->busy = true;
	order(s, NODE_DRAIN, 10000);
	sim_run(s, 5000);
	order(s, NODE_DRAIN_CANCEL, 0);
	sim_run(s, 30000);
	assert_false(node_of(s)->draining || node_of(s)->cordoned);
	assert_int_equal(has(s, 2, SANDBOX_BOUND), bound);
	sim_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_cordon_moves_the_ready_share),
		cmocka_unit_test(test_idle_sessions_are_waited_for),
		cmocka_unit_test(test_busy_ones_end_at_the_deadline),
		cmocka_unit_test(test_a_leader_hands_over),
		cmocka_unit_test(test_it_survives_leaders_and_restarts),
		cmocka_unit_test(test_a_cancelled_drain_ends_nothing),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
