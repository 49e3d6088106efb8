/* The bill to the millisecond: hours, late ends, finality, corrections, days, records. Numbers are written out by hand. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "machine/machine.h"

#define MINUTE 60000u
#define HOUR   3600000u
#define DAY    86400000u

static uint64_t at(const struct machine *m, uint64_t pool, uint64_t start)
{
	for (const struct bucket_row *b = NULL; (b = state_next_bucket(m->s, pool, b)) != NULL;) {
		if (b->start_ms == start)
			return b->sandbox_ms.low;
	}
	return 0;
}

static const struct bucket_row *bucket(const struct machine *m, uint64_t pool, uint64_t start)
{
	for (const struct bucket_row *b = NULL; (b = state_next_bucket(m->s, pool, b)) != NULL;) {
		if (b->start_ms == start)
			return b;
	}
	return NULL;
}

static void gone(struct machine *m, uint64_t sandbox, uint64_t stopped_ms, bool unserved)
{
	struct cmd_sandbox_gone c = {.sandbox = sandbox, .stopped_ms = stopped_ms, .unserved = unserved};

	assert_int_equal(machine_do(m, 1, COMMAND_SANDBOX_GONE, &c)->code, 0);
}

static uint64_t start(struct machine *m)
{
	machine_init(m);
	machine_start(m, 1);
	return machine_pool(m, "echo", 10, 5);
}

static void test_split_at_the_hour(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), sandbox, day = MACHINE_START;
	const struct bucket_row *b;

	(void)unused;
	m.now_ms = day + 59 * MINUTE;
	sandbox = machine_ready(&m, pool, 1);
	m.now_ms = day + 2 * HOUR + 1;
	gone(&m, sandbox, m.now_ms, false);
	assert_int_equal(at(&m, pool, day), MINUTE);
	assert_int_equal(at(&m, pool, day + HOUR), HOUR);
	assert_int_equal(at(&m, pool, day + 2 * HOUR), 1);
	b = bucket(&m, pool, day + HOUR);
	assert_int_equal(b->cpu_milli_ms.low, 250ull * HOUR);
	assert_int_equal(b->memory_byte_ms.low, (64ull << 20) * HOUR);
	assert_int_equal(b->session_ms.low, 0);
	assert_false(b->final);
	assert_true(bucket(&m, pool, day)->final);
	const struct record_row *record = state_next_record(m.s, NULL);

	assert_int_equal(record->sandbox, sandbox);
	assert_int_equal(record->opened_ms, 0);
	assert_int_equal(record->stopped_ms - record->ready_ms, HOUR + MINUTE + 1);
	machine_done(&m);
}

static void test_late_end_is_taken_back(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), sandbox, day = MACHINE_START;

	(void)unused;
	m.now_ms = day + 10 * MINUTE;
	sandbox = machine_ready(&m, pool, 1);
	m.now_ms = day + 20 * MINUTE;
	assert_int_equal(machine_open(&m, pool, "user-1").session.sandbox, sandbox);
	m.now_ms = day + HOUR + 29 * MINUTE; /* the first hour is not final yet */
	gone(&m, sandbox, day + 50 * MINUTE, false);
	assert_int_equal(at(&m, pool, day), 40 * MINUTE);
	assert_int_equal(bucket(&m, pool, day)->session_ms.low, 30 * MINUTE);
	assert_int_equal(at(&m, pool, day + HOUR), 0);
	assert_null(state_next_correction(m.s, NULL));
	assert_int_equal(state_next_record(m.s, NULL)->closed_ms, day + 50 * MINUTE);
	machine_done(&m);
}

static void test_final_hours_are_corrected(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), sandbox, day = MACHINE_START;
	const struct correction_row *c;

	(void)unused;
	m.now_ms = day;
	sandbox = machine_ready(&m, pool, 1);
	m.now_ms = day + HOUR + 45 * MINUTE;
	gone(&m, sandbox, day + 50 * MINUTE, false);
	c = state_next_correction(m.s, NULL);
	assert_non_null(c);
	assert_int_equal(c->from_ms, day + 50 * MINUTE);
	assert_int_equal(c->to_ms, day + HOUR);
	assert_int_equal(c->sandbox_ms.low, 10 * MINUTE);
	assert_int_equal(c->cpu_milli_ms.low, 250ull * 10 * MINUTE);
	assert_int_equal(at(&m, pool, day), HOUR); /* what was final stays */
	assert_int_equal(at(&m, pool, day + HOUR), 0);
	machine_done(&m);
}

static void test_unserved_session_is_free(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), sandbox, day = MACHINE_START;

	(void)unused;
	sandbox = machine_ready(&m, pool, 1);
	m.now_ms = day + 5 * MINUTE;
	machine_open(&m, pool, "user-1");
	m.now_ms = day + 8 * MINUTE;
	gone(&m, sandbox, m.now_ms, true);
	assert_int_equal(at(&m, pool, day), 5 * MINUTE);
	assert_int_equal(bucket(&m, pool, day)->session_ms.low, 0);
	machine_done(&m);
}

static void test_hours_become_days(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), sandbox, day = MACHINE_START;

	(void)unused;
	m.now_ms = day + 12 * HOUR;
	sandbox = machine_ready(&m, pool, 1);
	for (unsigned i = 0; i < 40 * 24; i++) {
		m.now_ms += HOUR;
		machine_do(&m, 1, COMMAND_WAITERS_EXPIRE, NULL);
	}
	assert_int_equal(bucket(&m, pool, day)->width_ms, DAY);
	assert_int_equal(at(&m, pool, day), 12 * HOUR);
	assert_int_equal(at(&m, pool, day + DAY), DAY);
	assert_true(bucket(&m, pool, day + DAY)->final);
	assert_int_equal(bucket(&m, pool, day + 36ull * DAY)->width_ms, HOUR);
	/* A standstill of a year, in one step. */
	m.now_ms += 365ull * DAY;
	gone(&m, sandbox, m.now_ms, false);
	assert_int_equal(at(&m, pool, day + 100ull * DAY), DAY);
	machine_done(&m);
}

static void test_bill_outlives_the_pool(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), sandbox = machine_ready(&m, pool, 1);

	(void)unused;
	m.now_ms += 7000;
	machine_do(&m, 1, COMMAND_POOL_DELETE, &(struct msg_pool_delete){pool});
	m.now_ms += 1000; /* stopping is billed too */
	gone(&m, sandbox, m.now_ms, false);
	assert_null(state_pool(m.s, pool));
	assert_null(state_rate(m.s, pool));
	assert_int_equal(at(&m, pool, MACHINE_START), 8000);
	assert_true(str_eq(state_next_record(m.s, NULL)->pool_name, STR("echo")));
	machine_done(&m);
}

static void test_trim(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), last = 0;
	const struct result *result;

	(void)unused;
	for (unsigned i = 0; i < 5; i++) {
		uint64_t sandbox = machine_ready(&m, pool, 1);

		m.now_ms += 1000;
		gone(&m, sandbox, m.now_ms, false);
	}
	for (const struct record_row *r = NULL; (r = state_next_record(m.s, r)) != NULL;)
		last = last == 0 ? state_next_record(m.s, r)->number : last;
	result = machine_do(&m, 1, COMMAND_RECORDS_TRIM, &(struct cmd_records_trim){last});
	assert_int_equal(result->id, 2);
	assert_true(state_next_record(m.s, NULL)->number > last);
	machine_done(&m);
}

static void test_a_lost_node_is_billed_to_the_lease(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), day = MACHINE_START;
	struct cmd_node_join join = {
		.id = 2, .name = STR("two"), .cpu_milli = 1000, .memory_bytes = 1u << 30};
	struct cmd_node_lost lost = {.node = 2, .renewed_ms = day};

	(void)unused;
	machine_do(&m, 2, COMMAND_NODE_JOIN, &join);
	lost.epoch = m.epoch[2];
	m.now_ms = day + 4000;
	machine_ready(&m, pool, 2);
	m.now_ms = day + 6000;
	machine_open(&m, pool, "user-1");
	m.now_ms = day + 19999;
	assert_int_equal(machine_do(&m, 1, COMMAND_NODE_LOST, &lost)->code, -EAGAIN);
	m.now_ms = day + 30000;
	assert_int_equal(machine_do(&m, 1, COMMAND_NODE_LOST, &lost)->code, 0);
	assert_int_equal(at(&m, pool, day), 11000);
	assert_int_equal(bucket(&m, pool, day)->session_ms.low, 9000);
	assert_null(state_session(m.s, pool, STR("user-1")));
	assert_int_equal(machine_do(&m, 1, COMMAND_NODE_LOST, &lost)->code, -ESTALE);
	assert_int_equal(machine_do(&m, 2, COMMAND_WAITERS_EXPIRE, NULL)->code, -ESTALE);
	machine_done(&m);
}

/* Nothing of it runs any more, since the machine's last lease at the latest; a start of the program alone ends nothing. */
static void test_a_booted_node_is_billed_to_the_lease(void **unused)
{
	struct machine m;
	uint64_t pool = start(&m), day = MACHINE_START;
	struct cmd_node_join join = {
		.id = 2, .name = STR("two"), .boot = STR("one"), .cpu_milli = 1000, .memory_bytes = 1u << 30};

	(void)unused;
	machine_do(&m, 2, COMMAND_NODE_JOIN, &join);
	m.now_ms = day + 4000;
	machine_ready(&m, pool, 2);
	m.now_ms = day + 6000;
	machine_open(&m, pool, "user-1");
	machine_do(&m, 2, COMMAND_NODE_JOIN, &join);
	assert_non_null(state_session(m.s, pool, STR("user-1")));
	m.now_ms = day + 60000;
	join.boot = STR("two");
	assert_int_equal(machine_do(&m, 2, COMMAND_NODE_JOIN, &join)->code, 0);
	assert_null(state_session(m.s, pool, STR("user-1")));
	assert_null(state_next_node_sandbox(m.s, 2, NULL));
	assert_int_equal(at(&m, pool, day), 17000);
	assert_int_equal(bucket(&m, pool, day)->session_ms.low, 15000);
	assert_int_equal(state_node(m.s, 2)->cpu_reserved, 0);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_split_at_the_hour),
		cmocka_unit_test(test_late_end_is_taken_back),
		cmocka_unit_test(test_final_hours_are_corrected),
		cmocka_unit_test(test_unserved_session_is_free),
		cmocka_unit_test(test_hours_become_days),
		cmocka_unit_test(test_bill_outlives_the_pool),
		cmocka_unit_test(test_trim),
		cmocka_unit_test(test_a_lost_node_is_billed_to_the_lease),
		cmocka_unit_test(test_a_booted_node_is_billed_to_the_lease),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
