/* Requests to the leader: kept until answered, sent again to the next leader, given up at their deadline. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/links/leaderbox.h"
#include "wire/messages.h"

static struct envelope request(uint64_t key, uint64_t correlation, uint64_t deadline_ms)
{
	return (struct envelope){.to = {ADDRESS_PLACEMENT, NODE_LEADER, 0},
				 .from = {ADDRESS_GATEWAY, 1, key},
				 .type = MSG_OPEN,
				 .correlation = correlation,
				 .deadline_ms = deadline_ms};
}

static struct envelope answer_to(const struct envelope *e, uint16_t type)
{
	return (struct envelope){.to = e->from, .from = e->to, .type = type, .correlation = e->correlation};
}

static void count(void *context, const struct envelope *e)
{
	(void)e;
	++*(unsigned *)context;
}

static unsigned kept(struct leaderbox *b)
{
	unsigned n = 0;

	leaderbox_each(b, count, &n);
	return n;
}

static void test_answered_is_forgotten(void **state)
{
	struct leaderbox *b = leaderbox_new();
	struct envelope one = request(0, 7, 0), other = request(1, 7, 0),
			answer = answer_to(&one, MSG_OPENED);

	(void)state;
	assert_int_equal(leaderbox_keep(b, &one), 0);
	assert_int_equal(leaderbox_keep(b, &one), 0);
	assert_int_equal(leaderbox_keep(b, &other), 0);
	assert_int_equal(kept(b), 2);
	leaderbox_answered(b, &answer);
	assert_int_equal(kept(b), 1);
	leaderbox_answered(b, &answer);
	assert_int_equal(kept(b), 1);
	leaderbox_free(b);
}

static void test_refused_is_sent_again_once(void **state)
{
	struct leaderbox *b = leaderbox_new();
	struct envelope one = request(0, 7, 0), refusal = answer_to(&one, MSG_REFUSED),
			stranger = request(0, 8, 0);
	struct envelope unknown = answer_to(&stranger, MSG_REFUSED);
	unsigned n = 0;

	(void)state;
	assert_int_equal(leaderbox_keep(b, &one), 0);
	assert_false(leaderbox_refused(b, &unknown));
	assert_true(leaderbox_refused(b, &refusal));
	leaderbox_resend(b, 5000, count, &n);
	leaderbox_resend(b, 5001, count, &n);
	assert_int_equal(n, 1);
	leaderbox_free(b);
}

/* The answer went to a connection that broke, or to the process that asked before us. */
static void test_unanswered_is_sent_again(void **state)
{
	struct leaderbox *b = leaderbox_new();
	struct envelope one = request(0, 7, 0);
	unsigned n = 0;

	(void)state;
	assert_int_equal(leaderbox_keep(b, &one), 0);
	leaderbox_resend(b, 5000, count, &n);
	leaderbox_resend(b, 4999 + LEADERBOX_RESEND_MS, count, &n);
	assert_int_equal(n, 0);
	leaderbox_resend(b, 5000 + LEADERBOX_RESEND_MS, count, &n);
	leaderbox_resend(b, 5001 + LEADERBOX_RESEND_MS, count, &n);
	assert_int_equal(n, 1);
	leaderbox_free(b);
}

static void test_deadline(void **state)
{
	struct leaderbox *b = leaderbox_new();
	struct envelope soon = request(0, 1, 100), never = request(0, 2, 0), later = request(0, 3, 200);
	unsigned late = 0;

	(void)state;
	assert_int_equal(leaderbox_keep(b, &soon), 0);
	assert_int_equal(leaderbox_keep(b, &never), 0);
	assert_int_equal(leaderbox_keep(b, &later), 0);
	leaderbox_expire(b, 99 + LEADERBOX_SLACK_MS, count, &late);
	assert_int_equal(late, 0);
	leaderbox_expire(b, 100 + LEADERBOX_SLACK_MS, count, &late);
	assert_int_equal(late, 1);
	assert_int_equal(kept(b), 2);
	leaderbox_free(b);
}

struct refusing {
	struct leaderbox *box;
	unsigned late;
};

/* As the control loop does: the refusal goes the way of every answer, which tells the box. */
static void refuse(void *context, const struct envelope *e)
{
	struct refusing *r = context;
	struct envelope refusal = {.to = e->from, .type = MSG_REFUSED, .correlation = e->correlation};

	leaderbox_answered(r->box, &refusal);
	r->late++;
}

static void test_a_late_one_is_refused_once(void **state)
{
	struct refusing r = {.box = leaderbox_new()};

	(void)state;
	for (uint64_t i = 1; i <= 100; i++) {
		struct envelope e = request(0, i, i % 2 == 0 ? 100 : 9000);

		assert_int_equal(leaderbox_keep(r.box, &e), 0);
	}
	leaderbox_expire(r.box, 100 + LEADERBOX_SLACK_MS, refuse, &r);
	assert_int_equal(r.late, 50);
	assert_int_equal(kept(r.box), 50);
	leaderbox_free(r.box);
}

static void test_only_what_may_be_repeated(void **state)
{
	(void)state;
	for (unsigned type = 0; type < MSG_TYPES; type++)
		assert_int_equal(leaderbox_takes((uint16_t)type), type == MSG_OPEN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answered_is_forgotten),
		cmocka_unit_test(test_refused_is_sent_again_once),
		cmocka_unit_test(test_unanswered_is_sent_again),
		cmocka_unit_test(test_deadline),
		cmocka_unit_test(test_a_late_one_is_refused_once),
		cmocka_unit_test(test_only_what_may_be_repeated),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
