/* test_founding.c -- what a stopped server's files hold, and a server that begins with a snapshot: alone, restarted, and with
 * another one that joins and gets the snapshot. */
#include "server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "consensus/disk/founding.h"

#define N       3
#define WAIT_MS 60000

struct cluster {
	uv_loop_t loop;
	char addresses[N][CONSENSUS_ADDRESS_SIZE];
	struct server servers[N];
	unsigned ok, answered;
};

static struct cluster c;

static int set_up(void **state)
{
	(void)state;
	memset(&c, 0, sizeof c);
	uv_loop_init(&c.loop);
	pick_addresses(c.addresses, N);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	for (unsigned i = 0; i < N; i++)
		server_stop(&c.servers[i], &c.loop);
	loop_end(&c.loop);
	scratch_remove();
	return 0;
}

static void start(unsigned i, unsigned n, uint32_t threshold)
{
	struct consensus_options o = server_options(&c.servers[i], &c.loop, "f", i + 1, c.addresses, n);
	o.snapshot_threshold = threshold;
	server_start(&c.servers[i], &o);
}

static struct server *leading(void)
{
	for (unsigned i = 0; i < N; i++)
		if (c.servers[i].consensus != NULL && consensus_leads(c.servers[i].consensus))
			return &c.servers[i];
	return NULL;
}

static bool has_leader(void *arg)
{
	(void)arg;
	return leading() != NULL;
}

static void on_done(void *arg, int status, uint64_t index)
{
	(void)arg;
	(void)index;
	c.answered++;
	c.ok += status == 0;
}

static bool answered(void *arg)
{
	return c.answered >= *(unsigned *)arg;
}

static void propose(unsigned n)
{
	static uint64_t next;
	assert_true(loop_until(&c.loop, has_leader, NULL, WAIT_MS));
	for (unsigned i = 0; i < n; i++) {
		uint64_t value = next++ % TALLY_MAX;
		unsigned goal = c.answered + 1;
		assert_int_equal(consensus_propose(leading()->consensus, &value, sizeof value, on_done, NULL),
				 0);
		assert_true(loop_until(&c.loop, answered, &goal, WAIT_MS));
	}
}

static void dir_of(unsigned i, char path[CONSENSUS_DIR_SIZE])
{
	snprintf(path, CONSENSUS_DIR_SIZE, "%s/f%u", scratch_dir(), i + 1);
}

/* What a stopped server holds, in a tally of its own. */
static struct tally *survey(unsigned i, struct consensus_survey *ret)
{
	static struct tally seen;
	struct consensus_machine machine;
	char path[CONSENSUS_DIR_SIZE];
	struct err err = {0};
	memset(&seen, 0, sizeof seen);
	machine = tally_machine(&seen);
	dir_of(i, path);
	if (consensus_survey(path, i + 1, c.addresses[i], &machine, ret, &err) != 0)
		fail_msg("%s", err.message);
	return &seen;
}

static void found(unsigned i, const struct tally *tally, uint64_t index, uint64_t term)
{
	struct consensus_machine machine = tally_machine((struct tally *)(uintptr_t)tally);
	void *view = machine.snapshot_take(machine.arg);
	char path[CONSENSUS_DIR_SIZE];
	struct consensus_founding f = {.dir = path,
				       .id = i + 1,
				       .address = c.addresses[i],
				       .index = index,
				       .term = term,
				       .snapshot = view,
				       .snapshot_write = machine.snapshot_write};
	struct err err = {0};
	dir_of(i, path);
	if (consensus_found(&f, &err) != 0)
		fail_msg("%s", err.message);
	assert_int_equal(consensus_found(&f, &err), -EEXIST);
	machine.snapshot_free(machine.arg, view);
}

static void test_survey_sees_all(void **state)
{
	struct consensus_survey s;
	struct consensus_machine machine = tally_machine(&c.servers[1].tally);
	char path[CONSENSUS_DIR_SIZE];
	struct err err = {0};
	(void)state;
	for (unsigned i = 0; i < N; i++)
		start(i, N, 0);
	propose(200);
	dir_of(0, path);
	assert_int_equal(consensus_survey(path, 1, c.addresses[0], &machine, &s, &err), -EBUSY);
	for (unsigned i = 0; i < N; i++)
		server_stop(&c.servers[i], &c.loop);
	for (unsigned i = 0; i < N; i++) {
		const struct tally *seen = survey(i, &s);
		/* Each holds all of them, but perhaps the very last, on its way to a follower. */
		assert_true(seen->applied >= 199 && s.n_entries == seen->applied && s.snapshot_index == 0);
		assert_true(s.term > 0 && s.last_term <= s.term && s.last_index >= 200 && s.written_ms > 0);
		assert_true(s.promised_index > 0 && s.promised_index <= s.last_index);
	}
	assert_int_equal(consensus_survey(path, 2, c.addresses[0], &machine, &s, &err), -EINVAL);
	dir_of(7, path);
	assert_int_equal(consensus_survey(path, 1, c.addresses[0], &machine, &s, &err), -ENOENT);
	c.servers[0].consensus = NULL;
}

static bool joined(void *arg)
{
	(void)arg;
	return c.servers[1].tally.applied == c.servers[0].tally.applied;
}

static void on_changed(void *arg, int status)
{
	*(int *)arg = status;
}

static bool changed(void *arg)
{
	return *(int *)arg != 1;
}

/* One of three goes on alone with what it had; then another one joins it, whose log begins with nothing. */
static void test_founded_server_goes_on(void **state)
{
	struct consensus_survey s;
	struct tally kept;
	char path[CONSENSUS_DIR_SIZE], old[CONSENSUS_DIR_SIZE + 16];
	int status = 1;
	(void)state;
	for (unsigned i = 0; i < N; i++)
		start(i, N, 0);
	propose(50);
	for (unsigned i = 0; i < N; i++)
		server_stop(&c.servers[i], &c.loop);
	kept = *survey(0, &s);
	dir_of(0, path);
	snprintf(old, sizeof old, "%s.old", path);
	assert_int_equal(rename(path, old), 0);
	found(0, &kept, s.last_index + 1, s.term + 1);

	memset(&c.servers[0], 0, sizeof c.servers[0]);
	start(0, 1, 0);
	propose(20);
	assert_int_equal(c.servers[0].tally.applied, kept.applied + 20);
	assert_true(consensus_term(c.servers[0].consensus) == s.term + 1);
	server_stop(&c.servers[0], &c.loop);
	memset(&c.servers[0], 0, sizeof c.servers[0]);
	start(0, 1, 0);
	propose(1);
	assert_int_equal(c.servers[0].tally.applied, kept.applied + 21);

	dir_of(1, path);
	snprintf(old, sizeof old, "%s.old", path);
	assert_int_equal(rename(path, old), 0);
	snprintf(old, sizeof old, "%s.watermark", path);
	assert_int_equal(unlink(old), 0);
	memset(&c.servers[1], 0, sizeof c.servers[1]);
	struct consensus_options o = server_options(&c.servers[1], &c.loop, "f", 2, c.addresses, 0);
	o.members = NULL;
	o.address = c.addresses[1];
	server_start(&c.servers[1], &o);
	assert_int_equal(consensus_change(c.servers[0].consensus, 2, c.addresses[1], CONSENSUS_STANDBY,
					  on_changed, &status),
			 0);
	assert_true(loop_until(&c.loop, changed, &status, WAIT_MS));
	assert_int_equal(status, 0);
	assert_true(loop_until(&c.loop, joined, NULL, WAIT_MS));
	assert_true(c.servers[1].tally.hash == c.servers[0].tally.hash);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_survey_sees_all, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_founded_server_goes_on, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
