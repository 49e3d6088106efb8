/* Two years of a busy cluster in virtual time: each kind of row is counted each month, and stays within what lives, the retention of
 * operations (a day), hours (35 days), days and corrections (400 days), and what voters have not copied yet of the records. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "machine/machine.h"

#define HOUR   3600000ull
#define DAY    (24 * HOUR)
#define MONTHS 24
#define COPIED 200 /* records that the leader leaves in the tables */

struct counts {
	unsigned operations, revisions, pools, buckets, daily, corrections, records, sandboxes, sessions;
};

static struct counts count(const struct state *s)
{
	struct counts n = {0};

	for (const struct operation_row *r = NULL; (r = state_next_operation(s, r)) != NULL;)
		n.operations++;
	for (const struct pool_row *p = NULL; (p = state_next_pool(s, p)) != NULL; n.pools++) {
		for (const struct revision_row *r = NULL; (r = state_next_revision(s, p->uid, r)) != NULL;)
			n.revisions++;
	}
	for (const struct bucket_row *r = NULL; (r = state_next_any_bucket(s, r)) != NULL; n.buckets++)
		n.daily += r->width_ms == DAY;
	for (const struct correction_row *r = NULL; (r = state_next_correction(s, r)) != NULL;)
		n.corrections++;
	for (const struct record_row *r = NULL; (r = state_next_record(s, r)) != NULL;)
		n.records++;
	for (const struct sandbox_row *r = NULL; (r = state_next_sandbox(s, r)) != NULL;)
		n.sandboxes++;
	return n;
}

static void end(struct machine *m, uint64_t sandbox, uint64_t stopped_ms)
{
	struct cmd_sandbox_gone gone = {.sandbox = sandbox, .stopped_ms = stopped_ms};

	assert_int_equal(machine_do(m, 1, COMMAND_SANDBOX_GONE, &gone)->code, 0);
}

/* As the leader does (bookkeeping.c). */
static void trim(struct machine *m)
{
	struct counts n = count(m->s);
	struct cmd_records_trim body = {0};

	for (const struct record_row *r = NULL;
	     n.records > COPIED && (r = state_next_record(m->s, r)) != NULL;) {
		body.up_to = r->number;
		n.records--;
	}
	if (body.up_to != 0)
		machine_do(m, 1, COMMAND_RECORDS_TRIM, &body);
}

/* A day: a session that ends, one whose end is told two hours late, an update, a pool that comes and goes. */
static void live_a_day(struct machine *m, uint64_t pool, unsigned day)
{
	struct msg_pool_put put = machine_put("main", 10, 5);
	char name[32], user[32];
	uint64_t brief, late, sandbox;

	for (unsigned hour = 0; hour < 24; hour++) {
		m->now_ms = MACHINE_START + day * DAY + hour * HOUR;
		machine_do(m, 1, COMMAND_WAITERS_EXPIRE, NULL);
		m->now_ms += HOUR / 2;
		if (hour % 6 == 0) {
			sandbox = machine_ready(m, pool, 1);
			snprintf(user, sizeof user, "user-%u-%u", day, hour);
			assert_int_equal(machine_open(m, pool, user).code, 0);
			m->now_ms += 60000;
			end(m, sandbox, m->now_ms);
		}
	}
	late = machine_ready(m, pool, 1);
	m->now_ms += 2 * HOUR;
	end(m, late, m->now_ms - 2 * HOUR + 1000);
	put.template.target_port = (uint16_t)(1000 + day % 1000);
	machine_finish(m, machine_do(m, 1, COMMAND_POOL_PUT, &put)->operation);
	snprintf(name, sizeof name, "brief-%u", day);
	brief = machine_pool(m, name, 2, 1);
	sandbox = machine_ready(m, brief, 1);
	m->now_ms += 1000;
	machine_do(m, 1, COMMAND_POOL_DELETE, &(struct msg_pool_delete){brief});
	end(m, sandbox, m->now_ms);
	trim(m);
}

static void test_rows_over_two_years(void **unused)
{
	struct machine m;
	uint64_t pool;
	struct counts last = {0};

	(void)unused;
	machine_init(&m);
	machine_start(&m, 1);
	pool = machine_pool(&m, "main", 10, 5);
	m.quiet = true; /* audited once a month: the audit looks at all rows */
	for (unsigned month = 1; month <= MONTHS; month++) {
		for (unsigned day = (month - 1) * 30; day < month * 30; day++)
			live_a_day(&m, pool, day);
		struct counts n = count(m.s);
		unsigned days = month * 30 < 400 ? month * 30 : 401;

		m.quiet = false;
		machine_audit(&m, "a month");
		m.quiet = true;
		assert_int_equal(n.pools, 1);
		assert_true(n.operations <= 2 * 4); /* of a day and some hours */
		assert_true(n.revisions <= 2);
		assert_int_equal(n.sandboxes, 0);
		assert_true(n.records <= COPIED);
		/* Hours of 36 days, of two pools, the brief one's of a day; else a day each. */
		assert_true(n.buckets - n.daily <= 37 * (24 + 2));
		assert_true(n.daily <= 2 * days);
		assert_true(n.corrections > 0 && n.corrections <= days + 1);
		if (month > 15) { /* all retentions are over: a month adds nothing */
			assert_in_range(n.buckets, last.buckets - 62, last.buckets + 62);
			assert_in_range(n.corrections, last.corrections - 2, last.corrections + 2);
		}
		last = n;
	}
	print_message("after two years: %u buckets, %u of days, %u corrections, %u records, %u operations\n",
		      last.buckets, last.daily, last.corrections, last.records, last.operations);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_over_two_years),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
