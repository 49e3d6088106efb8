/* test_guard.c -- each rule of the guard, over the real library: first that the fault is there without it. */
#include "fake_io.h"

#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* A new leader of term 2 whose log holds an entry of term 1 hears that a follower holds it too. */
static raft_index committed_by_counting(uint32_t off, uint64_t *ret_acted)
{
	struct fake f;
	fake_start(&f, 1, (raft_term[]){1}, 1, off);
	fake_elect(&f);
	fake_hear_result(&f, 2, 2, 2);
	raft_index committed = f.raft.commit_index;
	*ret_acted = guard_count(f.guard, GUARD_TERM_BARRIER);
	fake_stop(&f);
	return committed;
}

static void test_term_barrier(void **state)
{
	uint64_t acted;
	(void)state;
	assert_int_equal(committed_by_counting(OFF(GUARD_TERM_BARRIER), &acted), 2);
	assert_int_equal(acted, 0);
	assert_int_equal(committed_by_counting(0, &acted), 1);
	assert_int_equal(acted, 1);
}

static void test_leads_once_the_barrier_is_applied(void **state)
{
	struct fake f;
	(void)state;
	fake_start(&f, 1, (raft_term[]){1}, 1, 0);
	fake_elect(&f);
	assert_int_equal(f.n_writes, 1);
	assert_int_equal(raft_last_index(&f.raft), 3);
	assert_false(guard_leads(f.guard));
	fake_written(&f, 0);
	assert_false(guard_leads(f.guard));
	fake_hear_result(&f, 2, 2, 3);
	assert_int_equal(f.raft.commit_index, 3);
	assert_true(guard_leads(f.guard));
	assert_true(f.settled >= 3);
	fake_hear_entries(&f, 3, 3, 3, 2, 0, 0, 0);
	assert_false(guard_leads(f.guard));
	fake_stop(&f);
}

/* Whether a failed write ends the process. */
static bool aborts(uint32_t off)
{
	pid_t pid = fork();
	if (pid == 0) {
		struct fake f;
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		close(STDERR_FILENO);
		fake_start(&f, 1, NULL, 0, off);
		fake_elect(&f);
		fake_written(&f, RAFT_IOERR);
		_exit(0);
	}
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT;
}

static void test_write_failure(void **state)
{
	(void)state;
	assert_true(aborts(0));
}

/* Without the rule the library stays leader although its log is not on its disk. */
static void test_write_failure_without(void **state)
{
	struct fake f;
	(void)state;
	fake_start(&f, 1, NULL, 0, OFF(GUARD_WRITE_FAILURE) | OFF(GUARD_TERM_BARRIER));
	fake_elect(&f);
	fake_propose(&f);
	fake_written(&f, RAFT_IOERR);
	assert_int_equal(raft_state(&f.raft), RAFT_LEADER);
	assert_int_equal(guard_count(f.guard, GUARD_WRITE_FAILURE), 1);
	fake_stop(&f);
}

/* Entries of the leader of term 2 are being written when server 3 takes over in term 3, without them. */
static unsigned answers_about_older_term(uint32_t off)
{
	struct fake f;
	fake_start(&f, 2, NULL, 0, off);
	fake_hear_entries(&f, 2, 2, 1, 1, 2, 2, 1);
	fake_hear_entries(&f, 3, 3, 1, 1, 0, 0, 1);
	unsigned before = f.results;
	fake_written(&f, 0);
	unsigned answers = f.results - before;
	if (answers > 0) {
		assert_int_equal(f.result_to, 3);
		assert_int_equal(f.result.term, 3);
		assert_int_equal(f.result.last_log_index, 3); /* which server 3 has not */
	}
	fake_stop(&f);
	return answers;
}

static void test_stale_result(void **state)
{
	(void)state;
	assert_int_equal(answers_about_older_term(OFF(GUARD_STALE_RESULT) | OFF(GUARD_VERIFIED)), 1);
	assert_int_equal(answers_about_older_term(0), 0);
}

/* The follower's log goes on behind what the heartbeat compared. */
static raft_index acknowledged(uint32_t off)
{
	struct fake f;
	fake_start(&f, 2, (raft_term[]){1, 1, 1, 1}, 4, off);
	fake_hear_entries(&f, 2, 2, 3, 1, 0, 0, 1);
	assert_int_equal(f.results, 1);
	raft_index last = f.result.last_log_index;
	fake_stop(&f);
	return last;
}

static void test_verified(void **state)
{
	(void)state;
	assert_int_equal(acknowledged(OFF(GUARD_VERIFIED)), 5);
	assert_int_equal(acknowledged(0), 3);
}

static raft_index committed_by_heartbeat(uint32_t off)
{
	struct fake f;
	fake_start(&f, 2, (raft_term[]){1, 1, 1, 1}, 4, off);
	fake_hear_entries(&f, 2, 2, 3, 1, 0, 0, 5);
	raft_index committed = f.raft.commit_index;
	fake_stop(&f);
	return committed;
}

static void test_commit_limit(void **state)
{
	(void)state;
	assert_int_equal(committed_by_heartbeat(OFF(GUARD_COMMIT_LIMIT)), 5);
	assert_int_equal(committed_by_heartbeat(0), 3);
}

/* A late message with entries from the very first on comes to a server that holds a snapshot up to 10. */
static raft_index last_after_old_entries(uint32_t off, struct raft_append_entries_result *ret_result)
{
	struct fake f;
	fake_start_compacted(&f, 2, 10, (raft_term[]){1, 1}, 2, off);
	assert_int_equal(raft_last_index(&f.raft), 12);
	fake_hear_entries(&f, 2, 2, 0, 0, 3, 1, 3);
	if (f.n_writes > 0)
		fake_written(&f, 0);
	*ret_result = f.result;
	raft_index last = raft_last_index(&f.raft);
	fake_stop(&f);
	return last;
}

/* Without the rule the library appends them behind entry 12 or crashes, as its build has it. */
static bool unharmed_by_old_entries(uint32_t off)
{
	struct raft_append_entries_result result;
	return last_after_old_entries(off, &result) == 12;
}

static void test_compacted(void **state)
{
	struct raft_append_entries_result result;
	(void)state;
	assert_false(fake_survives(unharmed_by_old_entries, OFF(GUARD_COMPACTED)));
	assert_true(fake_survives(unharmed_by_old_entries, 0));
	assert_int_equal(last_after_old_entries(0, &result), 12);
	assert_int_equal(result.rejected, 0);
	assert_int_equal(result.last_log_index, 10);
}

static int state_after_timeout(uint32_t off, bool snapshot)
{
	struct fake f;
	fake_start(&f, 2, NULL, 0, off);
	if (snapshot)
		fake_hear_snapshot(&f, 2, 2, 20, 2);
	else
		fake_hear_entries(&f, 2, 2, 1, 1, 1, 2, 1);
	assert_int_equal(snapshot ? f.put != NULL : f.n_writes, 1);
	fake_tick(&f, 5000);
	int reached = raft_state(&f.raft);
	if (snapshot && reached == RAFT_CANDIDATE) {
		/* libraft's own end of an install looks at a follower's fields, which are another role's
		 * now: it cannot go on from here, not even to be closed. */
		return reached;
	}
	if (snapshot)
		fake_snapshot_stored(&f); /* libraft leaks when it is closed meanwhile */
	fake_stop(&f);
	return reached;
}

static void test_busy_tick(void **state)
{
	(void)state;
	assert_int_equal(state_after_timeout(OFF(GUARD_BUSY_TICK), false), RAFT_CANDIDATE);
	assert_int_equal(state_after_timeout(0, false), RAFT_FOLLOWER);
	assert_int_equal(state_after_timeout(0, true), RAFT_FOLLOWER);
}

static int state_after_timeout_now(uint32_t off)
{
	struct fake f;
	fake_start(&f, 2, NULL, 0, off);
	fake_hear_entries(&f, 2, 2, 1, 1, 1, 2, 1);
	fake_hear_timeout_now(&f, 2, 2, 2, 2);
	int reached = raft_state(&f.raft);
	fake_stop(&f);
	return reached;
}

static void test_busy_transfer(void **state)
{
	(void)state;
	assert_int_equal(state_after_timeout_now(OFF(GUARD_BUSY_TRANSFER)), RAFT_CANDIDATE);
	assert_int_equal(state_after_timeout_now(0), RAFT_FOLLOWER);
}

/* The leader has stored up to 5; a follower, which makes the quorum, up to 3. */
static raft_index committed_behind_own_disk(uint32_t off)
{
	struct fake f;
	fake_start(&f, 1, NULL, 0, off);
	fake_elect(&f);
	fake_written(&f, 0); /* the barrier, 2 */
	for (unsigned i = 0; i < 3; i++) {
		fake_propose(&f);
		fake_written(&f, 0);
	}
	assert_int_equal(f.raft.last_stored, 5);
	fake_hear_result(&f, 2, 2, 3);
	assert_int_equal(f.raft.last_stored, 5);
	raft_index committed = f.raft.commit_index;
	fake_hear_result(&f, 3, 2, 5);
	assert_int_equal(f.raft.commit_index, 5);
	fake_stop(&f);
	return committed;
}

static void test_peer_match(void **state)
{
	(void)state;
	assert_int_equal(committed_behind_own_disk(OFF(GUARD_PEER_MATCH)), 1);
	assert_int_equal(committed_behind_own_disk(0), 3);
}

/* How many messages follow a follower's answer that commits the last entry. */
static unsigned sent_after_commit(struct fake *f, uint32_t off)
{
	fake_start(f, 1, NULL, 0, off);
	fake_elect(f);
	fake_written(f, 0); /* the barrier, 2 */
	unsigned before = f->n_sends;
	fake_hear_result(f, 2, 2, 2);
	assert_int_equal(f->raft.commit_index, 2);
	guard_turn(f->guard);
	return f->n_sends - before;
}

static void test_commit_news(void **state)
{
	struct fake f;
	(void)state;
	assert_int_equal(sent_after_commit(&f, OFF(GUARD_COMMIT_NEWS)), 0);
	fake_stop(&f);
	assert_int_equal(sent_after_commit(&f, 0), 1);
	assert_int_equal(f.entries_to, 2);
	assert_int_equal(f.entries.leader_commit, 2);
	assert_int_equal(f.entries.prev_log_index, 2);
	assert_int_equal(f.entries.prev_log_term, 2);
	assert_int_equal(f.entries.n_entries, 0);
	/* Once to each, and to the slow one when it has all. */
	unsigned before = f.n_sends;
	fake_hear_result(&f, 2, 2, 2);
	guard_turn(f.guard);
	assert_int_equal(f.n_sends, before);
	fake_hear_result(&f, 3, 2, 2);
	guard_turn(f.guard);
	assert_int_equal(f.n_sends, before + 1);
	assert_int_equal(f.entries_to, 3);
	/* Nothing while an entry is under way: it will carry the news of the one before, or be committed soon. */
	fake_propose(&f);
	fake_propose(&f);
	fake_written(&f, 0);
	fake_written(&f, 0);
	before = f.n_sends;
	fake_hear_result(&f, 2, 2, 3);
	guard_turn(f.guard);
	assert_int_equal(f.raft.commit_index, 3);
	assert_int_equal(f.n_sends, before);
	fake_hear_result(&f, 2, 2, 4);
	guard_turn(f.guard);
	assert_int_equal(f.n_sends, before + 1);
	assert_int_equal(f.entries.leader_commit, 4);
	fake_stop(&f);
}

static void test_trailing(void **state)
{
	struct raft r = {0};
	struct raft_io io = {0};
	struct guard *g = NULL;
	struct err err = {0};
	struct guard_options options = {0};
	(void)state;
	r.io = &io;
	r.snapshot.trailing = GUARD_TRAILING_MIN - 1;
	assert_int_equal(guard_new(&r, &options, &g, &err), -EINVAL);
	assert_null(g);
	assert_non_null(strstr(err.message, "8191"));
	options.off_for_tests = OFF(GUARD_TRAILING);
	assert_int_equal(guard_new(&r, &options, &g, &err), 0);
	guard_free(g);
}

static void test_term_of(void **state)
{
	struct fake f;
	(void)state;
	fake_start_compacted(&f, 7, 10, (raft_term[]){4, 7}, 2, 0);
	assert_int_equal(guard_term_of(f.guard, 0), 0);
	assert_int_equal(guard_term_of(f.guard, 9), 0);
	assert_int_equal(guard_term_of(f.guard, 10), 1);
	assert_int_equal(guard_term_of(f.guard, 11), 4);
	assert_int_equal(guard_term_of(f.guard, 12), 7);
	assert_int_equal(guard_term_of(f.guard, 13), 0);
	fake_stop(&f);
}

static void test_every_rule_has_a_name(void **state)
{
	(void)state;
	for (int i = 0; i < GUARD_RULES; i++)
		assert_true(strlen(guard_rule_name((enum guard_rule)i)) > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_term_barrier),
		cmocka_unit_test(test_leads_once_the_barrier_is_applied),
		cmocka_unit_test(test_write_failure),
		cmocka_unit_test(test_write_failure_without),
		cmocka_unit_test(test_stale_result),
		cmocka_unit_test(test_verified),
		cmocka_unit_test(test_commit_limit),
		cmocka_unit_test(test_compacted),
		cmocka_unit_test(test_busy_tick),
		cmocka_unit_test(test_busy_transfer),
		cmocka_unit_test(test_peer_match),
		cmocka_unit_test(test_commit_news),
		cmocka_unit_test(test_trailing),
		cmocka_unit_test(test_term_of),
		cmocka_unit_test(test_every_rule_has_a_name),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
