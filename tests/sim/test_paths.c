/* The paths of the design, one after the other, on three nodes without faults. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "blank.h"
#include "sim.h"

static uint64_t pool;

static struct pool_counts counts(struct sim *s)
{
	return state_pool_counts(sim_tables(s), pool);
}

static bool is_succeeded(struct sim *s)
{
	return state_pool(sim_tables(s), pool)->provisioning == PROVISIONING_SUCCEEDED;
}

static bool is_full(struct sim *s)
{
	const struct pool_row *row = state_pool(sim_tables(s), pool);
	struct pool_counts n = counts(s);

	return n.ready == row->limits.ready_target && n.booting == 0 && n.stopping == 0;
}

static bool has_no_session(struct sim *s)
{
	struct pool_counts n = counts(s);

	return n.waiting + n.live + n.closing == 0;
}

static bool all_answered(struct sim *s)
{
	for (uint32_t i = 0; i < s->n_asks; i++) {
		if (s->asks[i].answers == 0)
			return false;
	}
	return true;
}

static struct sim *with_pool(uint32_t max, uint32_t ready, uint64_t cooldown_ms)
{
	struct sim *s = sim_new(1);

	pool = sim_put(s, "p", "registry/image:1", max, ready, cooldown_ms);
	assert_int_not_equal(pool, 0);
	assert_true(sim_until(s, is_succeeded, 20000));
	assert_true(sim_until(s, is_full, 20000));
	return s;
}

static void test_open_bind_reap(void **state)
{
	struct sim *s = with_pool(10, 2, 3000);
	struct sim_ask *first, *again;

	(void)state;
	first = sim_open(s, 2, pool, "user-one", 0);
	assert_true(sim_until(s, all_answered, 5000));
	assert_int_equal(first->opened.code, OPEN_OK);
	assert_true(first->opened.created);
	again = sim_open(s, 3, pool, "user-one", 0);
	assert_true(sim_until(s, all_answered, 5000));
	assert_int_equal(again->opened.code, OPEN_OK);
	assert_false(again->opened.created);
	assert_int_equal(again->opened.session.sandbox, first->opened.session.sandbox);
	assert_true(sim_until(s, is_full, 5000)); /* refilled */
	assert_int_equal(counts(s).live, 1);
	assert_true(sim_until(s, has_no_session, 20000)); /* reaped */
	sim_run(s, 100);                                  /* the owner's tables lag */
	assert_int_equal(s->n_ended, SIM_LOOPS);
	assert_null(sim_run_of(sim_node(s, first->opened.session.node), first->opened.session.sandbox));
	sim_free(s);
}

static uint32_t answers_with(const struct sim *s, uint8_t code)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < s->n_asks; i++)
		n += !s->asks[i].refused && s->asks[i].answers == 1 && s->asks[i].opened.code == code;
	return n;
}

static void test_a_thousand_ask_for_one(void **state)
{
	struct sim *s = with_pool(50, 3, 300000);

	(void)state;
	for (uint32_t i = 0; i < 1000; i++)
		sim_open(s, 1 + i % SIM_NODES, pool, "the-same-user", 0);
	assert_true(sim_until(s, all_answered, 15000));
	assert_int_equal(answers_with(s, OPEN_OK), 1000);
	for (uint32_t i = 1; i < 1000; i++)
		assert_int_equal(s->asks[i].opened.session.generation, s->asks[0].opened.session.generation);
	assert_int_equal(counts(s).live, 1);
	sim_free(s);
}

static void test_a_hundred_at_a_maximum_of_fifty(void **state)
{
	struct sim *s = with_pool(50, 5, 300000);
	char identifier[32];

	(void)state;
	for (uint32_t i = 0; i < 100; i++) {
		snprintf(identifier, sizeof identifier, "user-%u", i);
		sim_open(s, 1 + i % SIM_NODES, pool, identifier, 0);
	}
	assert_true(sim_until(s, all_answered, 15000));
	assert_int_equal(answers_with(s, OPEN_OK), 50);
	assert_int_equal(answers_with(s, OPEN_FULL), 50);
	assert_int_equal(counts(s).live, 50);
	for (uint32_t i = 0; i < 100; i++) {
		if (s->asks[i].opened.code != OPEN_FULL)
			continue;
		assert_true(s->asks[i].opened.allocation_ms >= 9000); /* they waited */
		assert_true(s->asks[i].opened.retry_after_s > 0);
	}
	sim_free(s);
}

/* One of the fifty ends: the first who waits gets its place. */
static void test_a_place_that_becomes_free(void **state)
{
	struct sim *s = with_pool(1, 1, 300000);
	struct sim_ask *second;

	(void)state;
	sim_open(s, 1, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	second = sim_open(s, 2, pool, "user-2", 0);
	sim_run(s, 500);
	sim_send(s, 3, (struct address){ADDRESS_PLACEMENT, NODE_LEADER, 0}, MSG_STOP,
		 &(struct msg_stop){pool, STR("user-1")}, 2000000);
	assert_true(sim_until(s, all_answered, 9000));
	assert_int_equal(second->opened.code, OPEN_OK);
	assert_int_equal(s->stop_code_set, 1);
	assert_int_equal(s->stop_code, 0);
	sim_send(s, 3, (struct address){ADDRESS_PLACEMENT, NODE_LEADER, 0}, MSG_STOP,
		 &(struct msg_stop){pool, STR("user-1")}, 2000000);
	sim_run(s, 500);
	assert_int_equal(s->stop_code, -ENOENT);
	sim_free(s);
}

static void test_busy_sessions_stay(void **state)
{
	struct sim *s = with_pool(10, 1, 2000);

	(void)state;
	sim_open(s, 1, pool, "busy-user", 0);
	s->busy = true;
	sim_run(s, 20000);
	assert_int_equal(counts(s).live, 1);
	assert_true(s->n_reopened > 0);
	s->busy = false;
	s->active_ms = s->now_ms; /* and then idle: a cooldown later it goes */
	sim_run(s, 1500);
	assert_int_equal(counts(s).live, 1);
	assert_true(sim_until(s, has_no_session, 10000));
	sim_free(s);
}

static void test_a_dead_sandbox_is_replaced(void **state)
{
	struct sim *s = with_pool(10, 2, 300000);
	struct sim_ask *first, *second;

	(void)state;
	first = sim_open(s, 1, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	second = sim_open(s, 2, pool, "user-1", first->opened.session.sandbox);
	assert_true(sim_until(s, all_answered, 12000));
	assert_int_equal(second->opened.code, OPEN_OK);
	assert_int_not_equal(second->opened.session.sandbox, first->opened.session.sandbox);
	assert_int_equal(counts(s).live, 1);
	sim_free(s);
}

static void test_a_crash_ends_the_session(void **state)
{
	struct sim *s = with_pool(10, 1, 300000);
	struct sim_ask *first;

	(void)state;
	first = sim_open(s, 1, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	sim_run(s, 100); /* the owner's tables lag */
	sim_crash(s, sim_node(s, first->opened.session.node), first->opened.session.sandbox, 1);
	assert_true(sim_until(s, has_no_session, 5000));
	sim_run(s, 100); /* the owner's tables lag */
	assert_int_equal(s->n_ended, SIM_LOOPS);
	assert_int_equal(state_pool(sim_tables(s), pool)->failures,
			 0); /* a user's crash is not the pool's fault */
	sim_free(s);
}

static void test_a_pool_that_cannot_start(void **state)
{
	struct sim *s = sim_new(1);
	struct sim_ask *ask;

	(void)state;
	s->faults.start_fails = 1000;
	pool = sim_put(s, "p", "registry/image:1", 10, 1, 300000);
	assert_true(sim_until(s, is_succeeded, 20000));
	ask = sim_open(s, 1, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 15000));
	assert_int_equal(ask->opened.code, OPEN_CANNOT_START);
	assert_true(state_pool(sim_tables(s), pool)->failures > 1);
	assert_true(s->n_starts < 20); /* with a back-off */
	sim_run(s, 60000);
	assert_true(s->n_starts < 30);
	s->faults.start_fails = 0;
	assert_true(sim_until(s, is_full, 120000));
	assert_int_equal(state_pool(sim_tables(s), pool)->failures, 0);
	sim_free(s);
}

static void test_a_port_that_never_answers(void **state)
{
	struct sim *s = sim_new(1);
	const struct pool_row *row;

	(void)state;
	s->faults.deaf = 1000;
	pool = sim_put(s, "p", "registry/image:1", 10, 1, 300000);
	sim_run(s, 80000);
	row = state_pool(sim_tables(s), pool);
	assert_true(row->failures >= 1);
	assert_true(str_starts(row->failure, STR("it never answered on port 8080 within 60 s")));
	sim_free(s);
}

static void test_an_update_rolls(void **state)
{
	struct sim *s = with_pool(20, 4, 300000);
	struct sim_ask *bound;
	uint64_t old;

	(void)state;
	bound = sim_open(s, 1, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	assert_true(sim_until(s, is_full, 5000));
	old = state_pool(sim_tables(s), pool)->active_revision;
	assert_int_equal(sim_put(s, "p", "registry/image:2", 20, 4, 300000), pool);
	for (uint32_t i = 0; i < 100; i++) {
		sim_run(s, 100);
		assert_true(counts(s).ready >= 2); /* step by step */
	}
	assert_true(sim_until(s, is_full, 30000));
	assert_int_not_equal(state_pool(sim_tables(s), pool)->active_revision, old);
	for (const struct sandbox_row *row = NULL;
	     (row = state_next_ready(sim_tables(s), pool, row)) != NULL;)
		assert_int_not_equal(row->revision, old);
	assert_int_equal(state_sandbox(sim_tables(s), bound->opened.session.sandbox)->revision, old);
	sim_free(s);
}

static bool pool_is_gone(struct sim *s)
{
	return state_pool(sim_tables(s), pool) == NULL;
}

static void test_delete_ends_all(void **state)
{
	struct sim *s = with_pool(20, 3, 300000);
	uint64_t operation;

	(void)state;
	sim_open(s, 1, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	sim_send(s, 2, (struct address){ADDRESS_POOL, sim_leader(s), pool}, MSG_POOL_DELETE,
		 &(struct msg_pool_delete){pool}, 1000000);
	assert_true(sim_until(s, pool_is_gone, 30000));
	operation = 0;
	for (const struct operation_row *row = NULL;
	     (row = state_next_operation(sim_tables(s), row)) != NULL;) {
		if (row->kind == OPERATION_DELETE && row->phase == PHASE_SUCCEEDED)
			operation = row->id;
	}
	assert_int_not_equal(operation, 0);
	for (uint64_t i = 1; i <= SIM_NODES; i++)
		assert_int_equal(sim_node(s, i)->n_runs, 0);
	sim_free(s);
}

static bool is_ended(struct sim *s)
{
	const struct pool_row *row = state_pool(sim_tables(s), pool);

	return row->provisioning != PROVISIONING_IN_PROGRESS;
}

static void operation_fails(int32_t code, const char *name, uint64_t within_ms)
{
	struct sim *s = sim_new(1);
	const struct operation_row *row;

	s->resolve_code = code;
	pool = sim_put(s, "p", "registry/image:1", 10, 1, 300000);
	assert_true(sim_until(s, is_ended, within_ms));
	row = state_operation(sim_tables(s), state_pool(sim_tables(s), pool)->operation);
	assert_int_equal(row->phase, PHASE_FAILED);
	assert_true(str_eq(row->code, str_of(name)));
	sim_free(s);
}

static void test_operations_fail_with_their_cause(void **state)
{
	(void)state;
	operation_fails(-ENOENT, "ImageNotFound", 2000);
	operation_fails(-EACCES, "RegistryCredentialsRefused", 2000);
	operation_fails(-ECONNREFUSED, "RegistryUnreachable", 400000);
}

/* The registry is silent, the leader changes, the operation ends once. */
static void test_an_operation_survives_its_leader(void **state)
{
	struct sim *s = sim_new(1);

	(void)state;
	s->resolve_code = -ETIMEDOUT;
	pool = sim_put(s, "p", "registry/image:1", 10, 1, 300000);
	sim_run(s, 5000);
	sim_elect(s, 2);
	sim_run(s, 5000);
	assert_false(is_ended(s));
	s->resolve_code = 0;
	assert_true(sim_until(s, is_succeeded, 30000));
	assert_true(sim_until(s, is_full, 10000));
	sim_free(s);
}

static void test_a_restarted_daemon_adopts(void **state)
{
	struct sim *s = with_pool(10, 3, 300000);
	struct sim_ask *first, *again;
	uint32_t starts;

	(void)state;
	first = sim_open(s, 2, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	assert_true(sim_until(s, is_full, 5000));
	starts = s->n_starts;
	for (uint64_t i = 1; i <= SIM_NODES; i++) {
		sim_restart(s, sim_node(s, i));
		sim_run(s, 3000);
	}
	assert_int_equal(s->n_starts, starts);
	again = sim_open(s, 3, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	assert_int_equal(again->opened.session.sandbox, first->opened.session.sandbox);
	sim_free(s);
}

/* A sandbox without a row is stopped, by the leader's judgement; ones with rows are not. */
static void test_orphans_are_stopped(void **state)
{
	struct sim *s = with_pool(10, 3, 300000);
	struct sim_node *n = sim_node(s, 2);

	(void)state;
	n->runs[n->n_runs++] = (struct sim_run){.sandbox = 60000};
	sim_adopt(s, n);
	sim_run(s, 3000);
	assert_null(sim_run_of(n, 60000));
	assert_true(is_full(s));
	sim_free(s);
}

static bool nothing_may_send(struct sim *s)
{
	for (uint64_t id = 1; id <= SIM_NODES; id++) {
		for (uint32_t i = 0; i < sim_node(s, id)->n_runs; i++) {
			if (sim_node(s, id)->runs[i].egress)
				return false;
		}
	}
	return true;
}

/* Also in those that a restarted daemon adopts. */
static void test_egress_is_turned_off(void **state)
{
	struct sim *s = sim_new(9);

	(void)state;
	s->put_egress = true;
	pool = sim_put(s, "p", "registry/image:1", 10, 3, 300000);
	assert_true(sim_until(s, is_full, 20000));
	sim_open(s, 2, pool, "user-1", 0);
	assert_true(sim_until(s, all_answered, 5000));
	assert_false(nothing_may_send(s));
	sim_restart(s, sim_node(s, 2));
	s->put_egress = false;
	sim_put(s, "p", "registry/image:1", 10, 3, 300000);
	assert_true(sim_until(s, nothing_may_send, 10000));
	sim_free(s);
}

static void test_leases_last(void **state)
{
	struct sim *s = sim_new(1);

	(void)state;
	for (uint32_t i = 0; i < 30; i++) {
		sim_run(s, 1000);
		for (uint64_t k = 1; k <= SIM_NODES; k++)
			assert_true(runtime_lease_ms(sim_node(s, k)->runtime) >
				    sim_boot_ms(sim_node(s, k)) + 10000);
	}
	assert_true(s->n_fences > 60);
	sim_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_open_bind_reap),
		cmocka_unit_test(test_a_thousand_ask_for_one),
		cmocka_unit_test(test_a_hundred_at_a_maximum_of_fifty),
		cmocka_unit_test(test_a_place_that_becomes_free),
		cmocka_unit_test(test_busy_sessions_stay),
		cmocka_unit_test(test_a_dead_sandbox_is_replaced),
		cmocka_unit_test(test_a_crash_ends_the_session),
		cmocka_unit_test(test_a_pool_that_cannot_start),
		cmocka_unit_test(test_a_port_that_never_answers),
		cmocka_unit_test(test_an_update_rolls),
		cmocka_unit_test(test_delete_ends_all),
		cmocka_unit_test(test_operations_fail_with_their_cause),
		cmocka_unit_test(test_an_operation_survives_its_leader),
		cmocka_unit_test(test_a_restarted_daemon_adopts),
		cmocka_unit_test(test_orphans_are_stopped),
		cmocka_unit_test(test_egress_is_turned_off),
		cmocka_unit_test(test_leases_last),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
