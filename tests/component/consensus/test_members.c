/* test_members.c -- a log that grows, shrinks and replaces its servers, in one process on loopback. */
#include "server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#include "core/clock.h"

#define N       5
#define WAIT_MS 60000
#define PENDING 1 /* no status is positive */

struct cluster {
	uv_loop_t loop;
	char addresses[N][CONSENSUS_ADDRESS_SIZE];
	struct server servers[N];
	uint32_t threshold, trailing, off;
	unsigned answered, asked, ok;
};

static int set_up(void **state)
{
	struct cluster *c = calloc(1, sizeof *c);
	assert_non_null(c);
	uv_loop_init(&c->loop);
	pick_addresses(c->addresses, N);
	*state = c;
	return 0;
}

static int tear_down(void **state)
{
	struct cluster *c = *state;
	for (unsigned i = 0; i < N; i++)
		server_stop(&c->servers[i], &c->loop);
	loop_end(&c->loop);
	free(c);
	scratch_remove();
	return 0;
}

/* Server i + 1, of `initial` first ones or, with 0, one that joins. */
static void start_one(struct cluster *c, unsigned i, unsigned initial)
{
	struct consensus_options o =
		server_options(&c->servers[i], &c->loop, "n", i + 1, c->addresses, initial);
	if (initial == 0) {
		o.members = NULL;
		o.address = c->addresses[i];
	}
	o.snapshot_threshold = c->threshold;
	o.snapshot_trailing = c->trailing;
	o.guard_off_for_tests = c->off;
	server_start(&c->servers[i], &o);
}

static int leader_of(const struct cluster *c)
{
	return servers_leader(c->servers, N);
}

static bool has_leader(void *arg)
{
	return leader_of(arg) >= 0;
}

static struct server *leader(struct cluster *c)
{
	assert_true(loop_until(&c->loop, has_leader, c, WAIT_MS));
	return &c->servers[leader_of(c)];
}

static void on_done(void *arg, int status, uint64_t index)
{
	struct cluster *c = arg;
	(void)index;
	c->answered++;
	c->ok += status == 0;
}

static bool all_answered(void *arg)
{
	struct cluster *c = arg;
	return c->answered == c->asked;
}

static void propose_many(struct cluster *c, unsigned n)
{
	static uint64_t next;
	unsigned goal = c->ok + n;
	while (c->ok < goal) {
		uint64_t value = next++ % TALLY_MAX;
		if (consensus_propose(leader(c)->consensus, &value, sizeof value, on_done, c) == 0)
			c->asked++;
		assert_true(loop_until(&c->loop, all_answered, c, WAIT_MS));
	}
}

static void on_changed(void *arg, int status)
{
	*(int *)arg = status;
}

static bool ended(void *arg)
{
	return *(int *)arg != PENDING;
}

/* On whoever leads; leadership may move on a busy machine, so what is unknown is asked for again. */
static int change(struct cluster *c, unsigned i, enum consensus_role role)
{
	for (;;) {
		int status = PENDING;
		int rc = consensus_change(leader(c)->consensus, i + 1, c->addresses[i], role, on_changed,
					  &status);
		if (rc == -EAGAIN)
			continue;
		if (rc != 0)
			return rc;
		assert_true(loop_until(&c->loop, ended, &status, WAIT_MS));
		if (status != -ECONNABORTED)
			return status;
	}
}

static void transfer_to(struct cluster *c, unsigned target)
{
	for (int status = PENDING, tries = 0; leader(c) != &c->servers[target]; tries++, status = PENDING) {
		assert_true(tries < 50);
		if (consensus_transfer(leader(c)->consensus, target + 1, on_changed, &status) == 0)
			assert_true(loop_until(&c->loop, ended, &status, WAIT_MS));
	}
}

struct equal {
	struct cluster *c;
	unsigned from, to;
};

static bool are_equal(void *arg)
{
	struct equal *e = arg;
	for (unsigned i = e->from; i < e->to; i++)
		if (e->c->servers[i].tally.applied < e->c->ok ||
		    e->c->servers[i].tally.hash != e->c->servers[e->from].tally.hash)
			return false;
	return true;
}

static void expect_equal(struct cluster *c, unsigned from, unsigned to)
{
	struct equal e = {c, from, to};
	assert_true(loop_until(&c->loop, are_equal, &e, WAIT_MS));
}

static enum consensus_role role_of(struct cluster *c, unsigned i)
{
	struct consensus_server list[CONSENSUS_MEMBERS_MAX];
	uint32_t n = consensus_servers(leader(c)->consensus, list);
	for (uint32_t k = 0; k < n; k++)
		if (list[k].id == i + 1) {
			assert_string_equal(list[k].address, c->addresses[i]);
			return list[k].role;
		}
	return CONSENSUS_GONE;
}

static void grow(struct cluster *c)
{
	start_one(c, 0, 1);
	propose_many(c, 50);
	start_one(c, 1, 0);
	start_one(c, 2, 0);
	assert_int_equal(change(c, 1, CONSENSUS_STANDBY), 0);
	assert_int_equal(role_of(c, 1), CONSENSUS_STANDBY);
	expect_equal(c, 0, 2);
	assert_int_equal(change(c, 1, CONSENSUS_VOTER), 0);
	assert_int_equal(change(c, 2, CONSENSUS_VOTER), 0);
	assert_int_equal(role_of(c, 2), CONSENSUS_VOTER);
}

static bool heard_all(void *arg)
{
	struct cluster *c = arg;
	struct consensus_server list[CONSENSUS_MEMBERS_MAX];
	uint32_t n = consensus_servers(leader(c)->consensus, list);
	bool all = n == 3;
	for (uint32_t i = 0; i < n; i++)
		all &= list[i].stored >= consensus_applied(leader(c)->consensus) && list[i].ago_ms < WAIT_MS;
	return all;
}

static void test_one_becomes_three(void **state)
{
	struct cluster *c = *state;
	grow(c);
	propose_many(c, 50);
	expect_equal(c, 0, 3);
	assert_true(loop_until(&c->loop, heard_all, c, WAIT_MS));
	/* All three count: with one away the others go on. */
	unsigned away = (unsigned)leader_of(c);
	server_stop(&c->servers[away], &c->loop);
	propose_many(c, 50);
	start_one(c, away, away == 0 ? 1 : 0); /* it knows from its log who is there */
	expect_equal(c, 0, 3);
}

static void test_refusals(void **state)
{
	struct cluster *c = *state;
	int status = PENDING, second = PENDING;
	start_one(c, 0, 1);
	start_one(c, 1, 0);
	struct consensus *first = leader(c)->consensus;
	assert_int_equal(consensus_change(first, 1, NULL, CONSENSUS_GONE, on_changed, &status), -EINVAL);
	assert_int_equal(consensus_change(first, 2, NULL, CONSENSUS_VOTER, on_changed, &status), -EINVAL);
	assert_int_equal(
		consensus_change(c->servers[1].consensus, 1, NULL, CONSENSUS_GONE, on_changed, &status),
		-EAGAIN);
	assert_int_equal(consensus_change(first, 2, c->addresses[1], CONSENSUS_VOTER, on_changed, &status),
			 0);
	assert_int_equal(consensus_change(first, 3, c->addresses[2], CONSENSUS_STANDBY, on_changed, &second),
			 -EBUSY);
	assert_true(loop_until(&c->loop, ended, &status, WAIT_MS));
	assert_int_equal(status, 0);
	assert_int_equal(second, PENDING);
	assert_int_equal(change(c, 1, CONSENSUS_VOTER), 0); /* it is one */
	status = PENDING;
	if (leader_of(c) == 0) {
		assert_int_equal(
			consensus_change(first, 2, c->addresses[3], CONSENSUS_VOTER, on_changed, &status), 0);
		assert_true(loop_until(&c->loop, ended, &status, WAIT_MS));
		assert_int_equal(status, -EEXIST);
	}
	assert_int_equal(change(c, 4, CONSENSUS_GONE), 0); /* it never was there */
}

/* The one that leads cannot remove itself; the next one removes it, and it disturbs nobody afterwards. */
static void test_the_leader_goes(void **state)
{
	struct cluster *c = *state;
	grow(c);
	transfer_to(c, 1);
	transfer_to(c, 0);
	transfer_to(c, 1);
	assert_int_equal(change(c, 0, CONSENSUS_GONE), 0);
	uint64_t applied = c->servers[0].tally.applied;
	propose_many(c, 50);
	expect_equal(c, 1, 3);
	assert_true(c->servers[0].tally.applied <= applied + 1);
	uint64_t term = consensus_term(leader(c)->consensus), end = clock_boot_ms() + 2000;
	while (clock_boot_ms() < end)
		uv_run(&c->loop, UV_RUN_ONCE);
	assert_int_equal(consensus_term(leader(c)->consensus), term);
}

/* One of three is dead for good: it goes, and another takes its place. One that never answers is not promoted. */
static void test_a_dead_one_is_replaced(void **state)
{
	struct cluster *c = *state;
	for (unsigned i = 0; i < 3; i++)
		start_one(c, i, 3);
	propose_many(c, 50);
	unsigned dead = ((unsigned)leader_of(c) + 1) % 3;
	server_stop(&c->servers[dead], &c->loop);
	assert_int_equal(change(c, dead, CONSENSUS_GONE), 0);
	assert_int_equal(change(c, 4, CONSENSUS_STANDBY), 0); /* nobody listens there */
	uint64_t began = clock_boot_ms();
	assert_int_equal(change(c, 4, CONSENSUS_VOTER), -ETIMEDOUT);
	print_message("promoting a dead one failed after %llu ms\n",
		      (unsigned long long)(clock_boot_ms() - began));
	assert_int_equal(role_of(c, 4), CONSENSUS_STANDBY);
	propose_many(c, 10);
	assert_int_equal(change(c, 4, CONSENSUS_GONE), 0);
	start_one(c, 3, 0);
	assert_int_equal(change(c, 3, CONSENSUS_VOTER), 0);
	propose_many(c, 50);
	expect_equal(c, 3, 4);
}

/* It joins a log whose beginning is compacted away, and comes back after a restart. */
static void test_a_late_one_gets_a_snapshot(void **state)
{
	struct cluster *c = *state;
	struct consensus_counts counts;
	c->threshold = 100;
	c->trailing = 20;
	c->off = 1u << GUARD_TRAILING;
	start_one(c, 0, 1);
	propose_many(c, 500);
	start_one(c, 1, 0);
	assert_int_equal(change(c, 1, CONSENSUS_STANDBY), 0);
	expect_equal(c, 0, 2);
	consensus_count(c->servers[1].consensus, &counts);
	assert_true(counts.restores > 0);
	server_stop(&c->servers[1], &c->loop);
	propose_many(c, 10); /* a standby is not needed for that */
	start_one(c, 1, 0);
	expect_equal(c, 0, 2);
	assert_int_equal(change(c, 1, CONSENSUS_VOTER), 0);
	propose_many(c, 10);
	expect_equal(c, 0, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_one_becomes_three, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_the_leader_goes, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_dead_one_is_replaced, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_a_late_one_gets_a_snapshot, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
