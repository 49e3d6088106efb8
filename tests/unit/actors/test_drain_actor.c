/* The drain actor: orders are answered with their entry, a leader that drains yields, and a deadline ends what is left. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "drain/drain.h"
#include "sim/blank.h"
#include "stage.h"

static struct stage *s;

static void order(uint64_t correlation, uint64_t node, enum node_order what, uint64_t deadline_ms)
{
	stage_post(s, ADDRESS_DRAIN, 0, MSG_NODE_ORDER, correlation,
		   &(struct msg_node_order){node, (uint8_t)what, deadline_ms});
}

/* As an entry of another node. */
static void apply(uint64_t node, enum node_order what, uint64_t deadline_ms)
{
	struct msg_node_order body = {node, (uint8_t)what, deadline_ms};

	assert_int_equal(stage_apply(s, STAGE_OTHER, COMMAND_NODE_ORDER, &body).code, 0);
}

static void orders_are_answered(bool leads)
{
	const struct seen *answer;

	s = stage_new(leads, false);
	order(31, STAGE_OTHER, NODE_CORDON, 0);
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_ORDER), -ENOENT);
	answer = stage_next(s, EFFECT_SEND, MSG_NODE_ORDERED);
	assert_non_null(answer);
	assert_int_equal(answer->correlation, 31);
	order(32, STAGE_OTHER, NODE_CORDON, 0);
	stage_refused(s, stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_ORDER), -ETIMEDOUT);
	answer = stage_next(s, EFFECT_SEND, MSG_NODE_ORDERED);
	assert_non_null(answer);
	assert_int_equal(answer->correlation, 32);
	stage_post(s, ADDRESS_DRAIN, 0, MSG_CLUSTER_LEVEL, 33, &(struct msg_cluster_level){1});
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_CLUSTER_LEVEL), 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_NODE_ORDERED)->correlation, 33);
	stage_free(s);
}

static void test_orders_are_answered(void **state)
{
	(void)state;
	orders_are_answered(true);
	orders_are_answered(false);
}

static void test_orders_are_bounded(void **state)
{
	(void)state;
	s = stage_new(true, false);
	for (uint64_t i = 0; i <= DRAIN_ORDERS_MAX; i++)
		order(100 + i, STAGE_OTHER, NODE_CORDON, 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_REFUSED)->code, -ENOBUFS);
	stage_free(s);
}

/* An order outlives the leadership of the node that proposed it; work of a leader does not. */
static void test_a_follower_only_takes_orders(void **state)
{
	const struct seen *proposal;

	(void)state;
	s = stage_new(true, false);
	order(42, STAGE_OTHER, NODE_CORDON, 0);
	proposal = stage_next(s, EFFECT_PROPOSE, COMMAND_NODE_ORDER);
	runtime_leading(s->runtime, false, 2, s->now_ms);
	stage_run(s, 0);
	stage_proposed(s, proposal, 0);
	assert_int_equal(stage_next(s, EFFECT_SEND, MSG_NODE_ORDERED)->correlation, 42);
	s->looked = s->n_seen;
	apply(STAGE_NODE, NODE_DRAIN, 0);
	stage_run(s, 10000);
	assert_null(stage_next(s, EFFECT_YIELD, 0));
	stage_free(s);
}

static void test_a_leader_yields(void **state)
{
	(void)state;
	s = stage_new(true, false);
	stage_run(s, 5000);
	assert_null(stage_next(s, EFFECT_YIELD, 0));
	apply(STAGE_OTHER, NODE_DRAIN, 600000); /* another's drain */
	stage_run(s, 5000);
	s->looked = 0;
	assert_null(stage_next(s, EFFECT_YIELD, 0));
	apply(STAGE_NODE, NODE_DRAIN, 600000); /* nobody stays: it leads on */
	stage_run(s, 5000);
	s->looked = 0;
	assert_null(stage_next(s, EFFECT_YIELD, 0));
	apply(STAGE_OTHER, NODE_UNCORDON, 0);
	stage_run(s, 1500);
	s->looked = 0;
	assert_non_null(stage_next(s, EFFECT_YIELD, 0));
	assert_null(stage_next(s, EFFECT_YIELD, 0)); /* an election takes its time */
	stage_run(s, 4000);
	assert_non_null(stage_next(s, EFFECT_YIELD, 0));
	stage_free(s);
}

static void test_the_deadline_ends_what_is_left(void **state)
{
	uint64_t bound, ready, generation;
	const struct seen *end;

	(void)state;
	s = stage_new(true, false);
	bound = stage_boot(s);
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){bound});
	generation = stage_apply(s, STAGE_NODE, COMMAND_SESSION_OPEN,
				 &(struct cmd_session_open){.pool = s->pool, .identifier = STR("user-1")})
			     .id;
	ready = stage_boot(s);
	stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_READY, &(struct cmd_sandbox){ready});
	s->looked = s->n_seen;
	apply(STAGE_NODE, NODE_DRAIN, 30000);
	stage_run(s, 29000);
	assert_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING));
	stage_run(s, 1000); /* cluster time goes with entries */
	s->looked = s->n_seen;
	stage_apply(s, STAGE_OTHER, COMMAND_WAITERS_EXPIRE, NULL);
	stage_run(s, 2000);
	end = stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING);
	assert_non_null(end);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_STOPPING));
	stage_run(s, 2000);
	assert_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING)); /* one at a time */
	stage_refused(s, end, -ETIMEDOUT); /* unknown: once more, since the tables show no end */
	stage_run(s, 6000);
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_SESSION_CLOSING));
	stage_apply(s, STAGE_NODE, COMMAND_SESSION_CLOSED,
		    &(struct cmd_session_closed){s->pool, generation, 1, false});
	stage_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_orders_are_answered),
		cmocka_unit_test(test_orders_are_bounded),
		cmocka_unit_test(test_a_follower_only_takes_orders),
		cmocka_unit_test(test_a_leader_yields),
		cmocka_unit_test(test_the_deadline_ends_what_is_left),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
