/* test_single.c -- one server on raft_uv: proposals, reads, restart, snapshots, and directories that are refused. */
#include "server.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#define WAIT_MS 30000

struct fixture {
	uv_loop_t loop;
	char addresses[1][CONSENSUS_ADDRESS_SIZE];
	struct server server;
	struct consensus_options options;
	unsigned answered, ok;
	int status;
	uint64_t index;
};

static int set_up(void **state)
{
	struct fixture *f = calloc(1, sizeof *f);
	assert_non_null(f);
	signal(SIGPIPE, SIG_IGN);
	uv_loop_init(&f->loop);
	pick_addresses(f->addresses, 1);
	f->options = server_options(&f->server, &f->loop, "single", 1, f->addresses, 1);
	*state = f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;
	server_stop(&f->server, &f->loop);
	loop_end(&f->loop);
	free(f);
	scratch_remove();
	return 0;
}

static bool leads(void *arg)
{
	return ((struct fixture *)arg)->server.leads_term != 0;
}

static void begin(struct fixture *f)
{
	server_start(&f->server, &f->options);
	assert_true(loop_until(&f->loop, leads, f, WAIT_MS));
}

static void on_done(void *arg, int status, uint64_t index)
{
	struct fixture *f = arg;
	f->answered++;
	f->ok += status == 0;
	f->status = status;
	if (status == 0)
		assert_true(index > f->index);
	f->index = status == 0 ? index : f->index;
}

static void propose(struct fixture *f, uint64_t value)
{
	assert_int_equal(consensus_propose(f->server.consensus, &value, sizeof value, on_done, f), 0);
}

static bool all_answered(void *arg)
{
	struct fixture *f = arg;
	struct consensus_counts counts;
	consensus_count(f->server.consensus, &counts);
	return counts.unanswered == 0;
}

static void propose_many(struct fixture *f, unsigned n, unsigned each_turn)
{
	for (unsigned i = 0; i < n; i += each_turn) {
		for (unsigned j = 0; j < each_turn; j++)
			propose(f, (i + j) % TALLY_MAX);
		assert_true(loop_until(&f->loop, all_answered, f, WAIT_MS));
	}
}

static void test_propose_and_restart(void **state)
{
	struct fixture *f = *state;
	struct consensus_counts counts;
	begin(f);
	assert_int_equal(f->server.tally.applied, 0);
	propose_many(f, 1000, 100);
	assert_int_equal(f->ok, 1000);
	consensus_count(f->server.consensus, &counts);
	assert_int_equal(counts.batches, 10); /* one a turn */
	assert_int_equal(counts.proposed, 1000);
	assert_int_equal(f->index, f->server.tally.index);
	uint64_t hash = f->server.tally.hash, term = consensus_term(f->server.consensus);
	server_stop(&f->server, &f->loop);

	f->index = 0;
	begin(f);
	assert_int_equal(f->server.tally.applied, 1000);
	assert_int_equal(f->server.tally.hash, hash);
	assert_true(consensus_term(f->server.consensus) >= term);
	propose_many(f, 10, 1);
	assert_int_equal(f->server.tally.applied, 1010);
}

static void test_entry_bounds(void **state)
{
	struct fixture *f = *state;
	static const char bytes[CONSENSUS_ENTRY_MAX + 1];
	begin(f);
	assert_int_equal(consensus_propose(f->server.consensus, bytes, 0, on_done, f), -EMSGSIZE);
	assert_int_equal(consensus_propose(f->server.consensus, bytes, sizeof bytes, on_done, f), -EMSGSIZE);
	unsigned n = 0;
	while (consensus_propose(f->server.consensus, &(uint64_t){1}, sizeof(uint64_t), on_done, f) == 0)
		n++;
	assert_int_equal(n, CONSENSUS_QUEUE_MAX);
	assert_int_equal(f->answered, 0); /* never inside the call */
	assert_true(loop_until(&f->loop, all_answered, f, WAIT_MS));
	assert_int_equal(f->ok, n);
}

static void test_reads_share_a_barrier(void **state)
{
	struct fixture *f = *state;
	struct consensus_counts before, after;
	begin(f);
	propose(f, 7);
	consensus_count(f->server.consensus, &before);
	struct fixture reads[20] = {0};
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(consensus_barrier(f->server.consensus, on_done, &reads[i]), 0);
	assert_true(loop_until(&f->loop, all_answered, f, WAIT_MS));
	for (unsigned tries = 0; reads[19].ok == 0 && tries < 1000; tries++)
		uv_run(&f->loop, UV_RUN_ONCE);
	for (unsigned i = 0; i < 20; i++)
		assert_int_equal(reads[i].ok, 1);
	assert_int_equal(f->server.tally.seen[7], 1);
	consensus_count(f->server.consensus, &after);
	assert_int_equal(after.barriers - before.barriers, 1);
}

static void test_close_answers_everything(void **state)
{
	struct fixture *f = *state;
	begin(f);
	for (unsigned i = 0; i < 50; i++)
		propose(f, i);
	assert_int_equal(consensus_barrier(f->server.consensus, on_done, f), 0);
	server_stop(&f->server, &f->loop);
	assert_int_equal(f->answered, 51);
	assert_int_equal(f->status, -ECANCELED);
}

static bool has_snapshot(void *arg)
{
	struct fixture *f = arg;
	struct consensus_counts counts;
	consensus_count(f->server.consensus, &counts);
	return counts.snapshots > 0 && counts.log_first > 1;
}

static void test_snapshot_and_restart(void **state)
{
	struct fixture *f = *state;
	f->options.snapshot_threshold = 100;
	f->options.snapshot_trailing = 10;
	f->options.guard_off_for_tests = 1u << GUARD_TRAILING;
	begin(f);
	propose_many(f, 500, 50);
	assert_true(loop_until(&f->loop, has_snapshot, f, WAIT_MS));
	propose_many(f, 50, 10);
	uint64_t hash = f->server.tally.hash;
	server_stop(&f->server, &f->loop);
	f->index = 0;
	begin(f);
	struct consensus_counts counts;
	consensus_count(f->server.consensus, &counts);
	assert_int_equal(counts.restores, 1);
	assert_int_equal(f->server.tally.applied, 550);
	assert_int_equal(f->server.tally.hash, hash);
}

static uint64_t directory_bytes(struct fixture *f, unsigned *ret_files)
{
	DIR *dir = opendir(f->options.dir);
	struct dirent *d;
	struct stat st;
	uint64_t bytes = 0;

	assert_non_null(dir);
	*ret_files = 0;
	while ((d = readdir(dir)) != NULL) {
		if (fstatat(dirfd(dir), d->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
			continue;
		bytes += (uint64_t)st.st_size;
		++*ret_files;
	}
	closedir(dir);
	return bytes;
}

/* Ten times as many entries as lie between two snapshots: the directory holds what the trailing ones and those since take. */
static void test_directory_stays_small(void **state)
{
	enum { THRESHOLD = 8192, ROUNDS = 10, SEGMENT = 8 << 20 };
	struct fixture *f = *state;
	struct consensus_counts counts;
	uint64_t large[TALLY_LARGE / 8] = {1}, first = 0, most = 0;
	unsigned files = 0;

	f->options.snapshot_threshold = THRESHOLD;
	begin(f);
	for (unsigned i = 0; i < ROUNDS * THRESHOLD; i++) {
		assert_int_equal(consensus_propose(f->server.consensus, large, sizeof large, on_done, f), 0);
		if (i % 64 == 63)
			assert_true(loop_until(&f->loop, all_answered, f, WAIT_MS));
		if (i % THRESHOLD != THRESHOLD - 1)
			continue;
		uint64_t now = directory_bytes(f, &files);

		first = first == 0 ? now : first;
		most = now > most ? now : most;
		assert_true(files < 24);
	}
	consensus_count(f->server.consensus, &counts);
	assert_true(counts.snapshots >= ROUNDS / 2);
	/* Of these entries, and four segments that are open, wait to be used, or are kept for one entry. */
	assert_true(most <= (THRESHOLD + 2ull * 8192) * (TALLY_LARGE + 64) + 4 * SEGMENT);
	assert_true(first > 0 && most < (uint64_t)ROUNDS * THRESHOLD * TALLY_LARGE * 3 / 4);
}

/* A machine that refuses an entry stops the server, and again at each start. */
static void test_machine_refuses(void **state)
{
	struct fixture *f = *state;
	struct err err = {0};
	begin(f);
	propose(f, 3);
	propose(f, TALLY_MAX);
	propose(f, 4);
	for (unsigned tries = 0; f->server.failed == 0 && tries < 1000; tries++)
		uv_run(&f->loop, UV_RUN_ONCE);
	assert_int_equal(f->server.failed, 1);
	assert_non_null(strstr(f->server.why, "value 65536"));
	assert_int_equal(f->ok, 1);
	assert_int_equal(consensus_propose(f->server.consensus, "x", 1, on_done, f), -EAGAIN);
	assert_int_equal(f->server.tally.seen[4], 0);
	server_stop(&f->server, &f->loop);
	assert_int_equal(consensus_new(&f->options, &f->server.consensus, &err), 0);
	assert_int_equal(consensus_start(f->server.consensus, &err), -EUCLEAN);
	assert_non_null(strstr(err.message, "value 65536"));
}

static void path_of(struct fixture *f, const char *name, char path[600])
{
	snprintf(path, 600, "%s/%s", f->options.dir, name);
}

static void expect_refused(struct fixture *f, int code, const char *message)
{
	struct err err = {0};
	assert_int_equal(consensus_new(&f->options, &f->server.consensus, &err), 0);
	int rc = consensus_start(f->server.consensus, &err);
	if (rc != code || strstr(err.message, message) == NULL)
		fail_msg("%d \"%s\" instead of %d \"%s\"", rc, err.message, code, message);
	server_stop(&f->server, &f->loop);
}

static void stop_with_some_terms(struct fixture *f)
{
	for (unsigned i = 0; i < 3; i++) {
		begin(f);
		propose_many(f, 2, 1);
		server_stop(&f->server, &f->loop);
		f->index = 0;
	}
}

static void test_refuses_other_server(void **state)
{
	struct fixture *f = *state;
	char addresses[3][CONSENSUS_ADDRESS_SIZE];
	stop_with_some_terms(f);
	pick_addresses(addresses, 3);
	const char *dir = f->options.dir;
	struct consensus_options other = server_options(&f->server, &f->loop, "other", 2, addresses, 3);
	f->options = other;
	char copy[CONSENSUS_DIR_SIZE];
	snprintf(copy, sizeof copy, "%s/single1", scratch_dir());
	(void)dir;
	f->options.dir = copy;
	expect_refused(f, -EINVAL, "not to id 2");
}

/* The first start was cut short between the library's files and ours: nothing ran yet, so it is done again. */
static void test_bootstrap_cut_short(void **state)
{
	struct fixture *f = *state;
	char path[600];
	begin(f);
	server_stop(&f->server, &f->loop);
	char command[700];
	snprintf(command, sizeof command, "cd %s && rm -f member open-* metadata2 ../single1.watermark",
		 f->options.dir);
	assert_int_equal(system(command), 0);
	path_of(f, "0000000000000001-0000000000000001", path);
	unlink(path);
	snprintf(command, sizeof command, "cd %s && rm -f 000*", f->options.dir);
	assert_int_equal(system(command), 0);
	begin(f);
	propose_many(f, 2, 1);
}

static void test_refuses_what_another_process_has(void **state)
{
	struct fixture *f = *state;
	struct server other = {0};
	struct err err = {0};
	char free_address[1][CONSENSUS_ADDRESS_SIZE];
	begin(f);
	struct consensus_options o = f->options;
	o.machine = tally_machine(&other.tally);
	o.arg = &other;
	assert_int_equal(consensus_new(&o, &other.consensus, &err), 0);
	assert_int_equal(consensus_start(other.consensus, &err), -EADDRINUSE);
	assert_non_null(strstr(err.message, f->addresses[0]));
	server_stop(&other, &f->loop);

	pick_addresses(free_address, 1);
	struct consensus_member member = {1, free_address[0]};
	o.members = &member;
	assert_int_equal(consensus_new(&o, &other.consensus, &err), 0);
	assert_int_equal(consensus_start(other.consensus, &err), -EBUSY);
	server_stop(&other, &f->loop);
	propose_many(f, 2, 1);
}

static void expect_invalid(struct consensus_options options, const char *message)
{
	struct err err = {0};
	struct consensus *c = NULL;
	assert_int_equal(consensus_new(&options, &c, &err), -EINVAL);
	if (strstr(err.message, message) == NULL)
		fail_msg("\"%s\" instead of \"%s\"", err.message, message);
	assert_null(c);
}

static void test_options(void **state)
{
	struct fixture *f = *state;
	struct consensus_options o = f->options;
	struct consensus_member members[3] = {
		{1, "127.0.0.1:7001"}, {2, "127.0.0.1:7002"}, {3, "127.0.0.1:7003"}};
	o.members = members;
	o.n_members = 2;
	expect_invalid(o, "must be 1, 3, 5 or 7");
	o.n_members = 3;
	o.id = 4;
	expect_invalid(o, "id 4 is not among them");
	o.id = 1;
	o.address = "127.0.0.1:7002";
	expect_invalid(o, "or has another address");
	o.address = NULL;
	o.n_members = 0;
	expect_invalid(o, "member address: missing");
	o.n_members = 3;
	members[2].address = "10.0.0.1:7003";
	expect_invalid(o, "only 127.0.0.0/8 is allowed");
	members[2].address = "localhost:7003";
	expect_invalid(o, "must be a dotted quad and a port");
	members[2].address = "127.0.0.1:0";
	expect_invalid(o, "must be a dotted quad and a port");
	members[2].address = "127.0.0.1:7001";
	expect_invalid(o, "is there twice");
	members[2] = (struct consensus_member){0, "127.0.0.1:7003"};
	expect_invalid(o, "id must be above 0");
	o = f->options;
	o.heartbeat_ms = 200;
	expect_invalid(o, "election_ms: 300");
	o = f->options;
	o.dir = "";
	expect_invalid(o, "dir");
	f->options.snapshot_trailing = 100;
	expect_refused(f, -EINVAL, "at least 8192 must stay");
	signal(SIGPIPE, SIG_DFL);
	expect_refused(f, -EINVAL, "SIGPIPE");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_propose_and_restart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_entry_bounds, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_reads_share_a_barrier, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close_answers_everything, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_snapshot_and_restart, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_directory_stays_small, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_machine_refuses, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refuses_other_server, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_bootstrap_cut_short, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_refuses_what_another_process_has, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_options, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
