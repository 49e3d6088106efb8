/* test_figure8.c -- the schedule of figure 8 in the Raft paper: an entry of an old term that reached a
 * majority, is counted as committed, applied, and then overwritten. The library alone does that; behind
 * the guard it does not.
 *
 *   1. S0 leads.                         4. S0 leads again, A reaches S1: a majority has A, of an old term.
 *   2. S0 is cut off, takes A, deposed.  5. S0 dies. S2's log ends in a later term than S1's: S1 votes for it.
 *   3. S2 leads, takes B alone, deposed. */
#include "fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#define NOBODY 7
#define A      1
#define B      2
#define C      3

/* The next election is that of `candidate`: it is impatient, one other is slow, and one waits for ever. */
static void set_timeouts(struct fixture *f, unsigned candidate)
{
	unsigned mute = candidate == 0 ? 2 : 0;
	for (unsigned i = 0; i < 3; i++) {
		struct raft *r = fixture_server(f, i);
		bool never = candidate == NOBODY || !raft_fixture_alive(&f->raft, i) || i == mute;
		unsigned ms = i == candidate ? 1000 : never ? 900000 : 2650;
		raft_fixture_set_randomized_election_timeout(&f->raft, i, ms);
		if (r->state == RAFT_FOLLOWER)
			r->follower_state.randomized_election_timeout = ms;
		else if (r->state == RAFT_CANDIDATE)
			r->candidate_state.randomized_election_timeout = ms;
		if (r->state == RAFT_FOLLOWER || r->state == RAFT_CANDIDATE)
			r->election_timer_start = raft_fixture_time(&f->raft);
	}
}

static void until(struct fixture *f, unsigned i, int state, unsigned impatient)
{
	raft_time end = raft_fixture_time(&f->raft) + 20000;
	set_timeouts(f, impatient);
	while (raft_state(fixture_server(f, i)) != state && raft_fixture_time(&f->raft) < end)
		raft_fixture_step(&f->raft);
	assert_int_equal(raft_state(fixture_server(f, i)), state);
}

static const char *run(uint32_t off)
{
	struct fixture *f = malloc(sizeof *f);
	assert_non_null(f);
	fixture_init(f, 3, off);
	fixture_start(f);
	until(f, 0, RAFT_LEADER, 0);
	raft_fixture_step_until_elapsed(&f->raft, 500);

	fixture_cut(f, 0, 1);
	fixture_cut(f, 0, 2);
	assert_true(fixture_propose(f, 0, A));
	raft_index index = raft_last_index(fixture_server(f, 0));
	until(f, 0, RAFT_FOLLOWER, NOBODY);

	until(f, 2, RAFT_LEADER, 2);
	fixture_cut(f, 2, 1);
	raft_fixture_step_until_elapsed(&f->raft, 20);
	assert_true(fixture_propose(f, 2, B));
	until(f, 2, RAFT_FOLLOWER, NOBODY);

	set_timeouts(f, NOBODY);
	/* Its barrier takes long; answers come before it is stored. */
	raft_fixture_set_disk_latency(&f->raft, 0, 500);
	fixture_heal(f, 0, 1);
	until(f, 0, RAFT_LEADER, 0);
	uint64_t deaf = guard_count(f->guards[0], GUARD_TERM_BARRIER);
	for (int i = 0; i < 3000 && fixture_server(f, 0)->commit_index < index &&
			guard_count(f->guards[0], GUARD_TERM_BARRIER) == deaf;
	     i++)
		raft_fixture_step(&f->raft);

	raft_fixture_kill(&f->raft, 0);
	fixture_heal(f, 2, 1);
	until(f, 2, RAFT_LEADER, 2);
	raft_fixture_step_until_elapsed(&f->raft, 3000);
	assert_true(fixture_propose(f, 2, C));
	raft_fixture_step_until_elapsed(&f->raft, 1000);
	const char *violation = f->violation;
	fixture_done(f);
	free(f);
	return violation;
}

static void test_library_alone(void **state)
{
	(void)state;
	assert_non_null(run((1u << GUARD_RULES) - 1));
	assert_non_null(run(1u << GUARD_TERM_BARRIER)); /* it is this rule that matters */
}

static void test_guarded(void **state)
{
	(void)state;
	assert_null(run(0));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_library_alone),
					   cmocka_unit_test(test_guarded)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
