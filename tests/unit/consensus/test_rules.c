/* test_rules.c -- more rules of the guard, over the real library: first that the fault is there without it. See test_guard.c. */
#include "fake_io.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

/* A leader of term 3 contradicts entry 3 while our own snapshot of the log is being stored. */
static unsigned truncations_while_storing(uint32_t off)
{
	struct fake f;
	fake_start(&f, 2, (raft_term[]){1, 1, 1}, 3, off);
	f.raft.snapshot.put.data = &f;
	fake_hear_entries(&f, 2, 3, 2, 1, 1, 3, 1);
	unsigned truncations = f.truncations;
	f.raft.snapshot.put.data = NULL;
	if (truncations == 0) {
		assert_int_equal(f.results, 1); /* it is alive, and up to where it agrees */
		assert_int_equal(f.result.last_log_index, 1);
		fake_hear_entries(&f, 2, 3, 2, 1, 1, 3, 1);
		assert_int_equal(f.truncations, 1);
	}
	fake_stop(&f);
	return truncations;
}

static void on_put(struct raft_io_snapshot_put *put, int status)
{
	*(int *)put->data = status;
}

/* Whether anything else that needs a barrier of the disk begins before a truncation is done. */
static bool stores_while_cutting(uint32_t off)
{
	struct fake f;
	int status = 1;
	struct raft_io_snapshot_put put = {.data = &status};
	fake_start(&f, 2, (raft_term[]){1, 1, 1}, 3, off);
	fake_hear_entries(&f, 2, 3, 2, 1, 1, 3, 1);
	assert_int_equal(f.truncations, 1);
	assert_int_equal(f.io.snapshot_put(&f.io, 10, &put, NULL, on_put), 0);
	bool own = f.put != NULL;
	fake_hear_entries(&f, 2, 4, 2, 1, 1, 4, 1);
	assert_int_equal(f.truncations > 1, own);
	while (f.n_writes > 0)
		fake_written(&f, 0);
	assert_ptr_equal(f.put, &put); /* it waited */
	fake_snapshot_stored(&f);
	assert_int_equal(status, 0);
	fake_stop(&f);
	return own;
}

static void test_snapshot_dropped_while_cutting(void **state)
{
	struct fake f;
	int status = 1;
	struct raft_io_snapshot_put put = {.data = &status};
	(void)state;
	fake_start(&f, 2, (raft_term[]){1, 1, 1}, 3, 0);
	fake_hear_entries(&f, 2, 3, 2, 1, 1, 3, 1);
	fake_hear_snapshot(&f, 2, 3, 20, 3);
	assert_null(f.put);
	assert_int_equal(f.io.snapshot_put(&f.io, 10, &put, NULL, on_put), 0);
	fake_stop(&f);
	assert_int_equal(status, RAFT_CANCELED);
}

static void test_one_barrier(void **state)
{
	(void)state;
	assert_int_equal(truncations_while_storing(OFF(GUARD_ONE_BARRIER)), 1);
	assert_int_equal(truncations_while_storing(0), 0);
	assert_true(stores_while_cutting(OFF(GUARD_ONE_BARRIER)));
	assert_false(stores_while_cutting(0));
}

static unsigned names_of(const struct raft_log *log, raft_index index, raft_term term)
{
	unsigned n = 0;
	for (size_t i = 0; i < log->refs_size; i++)
		for (const struct raft_entry_ref *slot = &log->refs[i]; slot != NULL; slot = slot->next)
			n += slot->count > 0 && slot->index == index && slot->term == term;
	return n;
}

/* Entry 2 of term 2 is being written when term 3 cuts it off; then the leader of term 4 brings it again. */
static unsigned names_of_reappended(uint32_t off)
{
	struct fake f;
	fake_start(&f, 2, NULL, 0, off | OFF(GUARD_ONE_BARRIER));
	fake_hear_entries(&f, 2, 2, 1, 1, 1, 2, 1);
	fake_hear_entries(&f, 3, 3, 1, 1, 1, 3, 1);
	assert_int_equal(f.n_writes, 2);
	fake_hear_entries(&f, 2, 4, 1, 1, 1, 2, 1);
	unsigned names = names_of(&f.raft.log, 2, 2);
	while (f.n_writes > 0)
		fake_written(&f, 0);
	if (names == 1) {
		fake_hear_entries(&f, 2, 4, 1, 1, 1, 2, 1);
		assert_int_equal(f.n_writes, 1);
		fake_written(&f, 0);
		assert_int_equal(guard_term_of(f.guard, 2), 2);
	}
	fake_stop(&f);
	return names;
}

/* Without the rule: freed twice. */
static bool reappends(uint32_t off)
{
	return names_of_reappended(off) == 1;
}

static void test_reappend(void **state)
{
	(void)state;
	assert_false(fake_survives(reappends, OFF(GUARD_REAPPEND)));
	assert_int_equal(names_of_reappended(0), 1);
}

/* A leader whose log ends in its snapshot reads that for server 3, which refuses a heartbeat meanwhile. */
static unsigned snapshots_read(uint32_t off)
{
	struct fake f;
	fake_start_compacted(&f, 1, 10, (raft_term[]){1}, 1, off);
	fake_elect(&f);
	fake_written(&f, 0); /* the barrier, 12 */
	fake_hear_result(&f, 2, 2, 12);
	assert_int_equal(f.raft.commit_index, 12);
	f.raft.log.snapshot.last_index = 12;
	f.raft.log.snapshot.last_term = 2;
	fake_hear_refusal(&f, 3, 2, 12, 0);
	fake_hear_refusal(&f, 3, 2, f.entries.prev_log_index, 0);
	fake_tick(&f, 200);
	assert_int_equal(f.n_gets, 1);
	fake_hear_refusal(&f, 3, 2, 12, 0);
	fake_tick(&f, 200);
	unsigned n = f.n_gets;
	fake_stop(&f);
	return n;
}

static void test_snapshot_sent(void **state)
{
	(void)state;
	assert_int_equal(snapshots_read(OFF(GUARD_SNAPSHOT_SENT)), 2);
	assert_int_equal(snapshots_read(0), 1);
}

static void on_transferred(struct raft_transfer *transfer)
{
	(void)transfer;
}

/* A leader hands over to server 2, is deposed, votes for server 3 in term 3, and is asked by server 2 in term 3. */
static raft_id vote_of_deposed(uint32_t off)
{
	struct fake f;
	struct raft_transfer transfer = {0};
	fake_start(&f, 1, NULL, 0, off);
	fake_elect(&f);
	fake_written(&f, 0);
	assert_int_equal(raft_transfer(&f.raft, &transfer, 2, on_transferred), 0);
	fake_hear_result(&f, 3, 3, 0);
	assert_int_equal(raft_state(&f.raft), RAFT_FOLLOWER);
	fake_hear_request_vote(&f, 3, 3, 9, 2, false);
	assert_true(f.vote.vote_granted);
	assert_int_equal(f.raft.voted_for, 3);
	fake_hear_request_vote(&f, 2, 3, 9, 2, true);
	raft_id vote = f.raft.voted_for;
	fake_stop(&f);
	return vote;
}

static void test_one_vote(void **state)
{
	(void)state;
	assert_int_equal(vote_of_deposed(OFF(GUARD_ONE_VOTE)), 2); /* the second vote of term 3 */
	assert_int_equal(vote_of_deposed(0), 3);
}

/* A fourth server, not committed, is overwritten; the entry of the committed configuration was compacted away. */
static unsigned servers_after_rollback(uint32_t off)
{
	struct fake f;
	fake_start_compacted(&f, 2, 10, (raft_term[]){1}, 1, off);
	fake_hear_entries(&f, 2, 2, 11, 1, 0, 0, 1);
	fake_hear_change(&f, 2, 2, 11, 1, 4);
	fake_written(&f, 0);
	assert_int_equal(f.raft.configuration.n, 4);
	assert_int_equal(f.raft.configuration_uncommitted_index, 12);
	fake_hear_entries(&f, 3, 3, 11, 1, 1, 3, 1);
	unsigned n = f.raft.configuration.n;
	assert_int_equal(f.raft.configuration_uncommitted_index, 0);
	fake_stop(&f);
	return n;
}

static bool rolls_back(uint32_t off)
{
	return servers_after_rollback(off) == 3;
}

/* The same after a restart, which finds the change in the files and cannot know that it is not committed. */
static unsigned servers_after_restart(uint32_t off)
{
	struct fake f;
	fake_start_changed(&f, 2, 10, (raft_term[]){1, 2}, 2, 4, off);
	assert_int_equal(f.raft.configuration.n, 4);
	fake_hear_entries(&f, 3, 3, 11, 1, 1, 3, 1);
	unsigned n = f.raft.configuration.n;
	assert_int_equal(f.raft.configuration_uncommitted_index, 0);
	fake_stop(&f);
	return n;
}

/* One that turns out to be committed stays. */
static void test_change_committed_after_restart(void **state)
{
	struct fake f;
	(void)state;
	fake_start_changed(&f, 2, 10, (raft_term[]){1, 2}, 2, 4, 0);
	assert_int_equal(f.raft.configuration_uncommitted_index, 12);
	assert_int_equal(f.raft.configuration_index, 1);
	fake_hear_entries(&f, 2, 2, 12, 2, 0, 0, 12);
	assert_int_equal(f.raft.commit_index, 12);
	assert_int_equal(f.raft.configuration_uncommitted_index, 0);
	assert_int_equal(f.raft.configuration_index, 12);
	assert_int_equal(f.raft.configuration.n, 4);
	fake_stop(&f);
}

static void test_rollback(void **state)
{
	(void)state;
	assert_int_equal(servers_after_restart(OFF(GUARD_ROLLBACK)), 4);
	assert_int_equal(servers_after_restart(0), 3);
	assert_false(fake_survives(rolls_back, OFF(GUARD_ROLLBACK)));
	assert_true(fake_survives(rolls_back, 0));
	assert_int_equal(servers_after_rollback(0), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_barrier),
		cmocka_unit_test(test_snapshot_dropped_while_cutting),
		cmocka_unit_test(test_reappend),
		cmocka_unit_test(test_snapshot_sent),
		cmocka_unit_test(test_one_vote),
		cmocka_unit_test(test_rollback),
		cmocka_unit_test(test_change_committed_after_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
