/* test_cluster.c -- three servers in one process on loopback: election, proposals, reads, transfer, loss
 * of a majority, and a server that was away so long that it needs a snapshot. All of it over plain TCP, as the library does it,
 * and over mutual TLS, as the daemon does. */
#include "server.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <cmocka.h>

#include "../gateway/certs.h"
#include "loop/loop.h"

#define N       3
#define WAIT_MS 60000

static bool encrypted; /* all tests run twice */

struct cluster {
	struct loop loop;
	struct test_ca ca;
	struct tls_ctx *as_server[N], *as_client[N]; /* NULL: plain TCP */
	char addresses[N][CONSENSUS_ADDRESS_SIZE];
	struct server servers[N];
	uint32_t threshold, trailing, off;
	unsigned answered, ok, unknown, refused;
	uint64_t expect; /* for the waits */
	unsigned except;
};

static void start_one(struct cluster *c, unsigned i)
{
	struct consensus_options o = server_options(&c->servers[i], &c->loop.uv, "n", i + 1, c->addresses, N);
	o.snapshot_threshold = c->threshold;
	o.snapshot_trailing = c->trailing;
	o.guard_off_for_tests = c->off;
	const struct consensus_network network = {.loop = &c->loop,
						  .server = c->as_server[i],
						  .client = c->as_client[i],
						  .cluster = STR("test")};
	if (encrypted)
		o.network = &network;
	server_start(&c->servers[i], &o);
}

static void make_certificates(struct cluster *c)
{
	test_ca_make(&c->ca);
	for (unsigned i = 0; i < N; i++) {
		char san[64];
		snprintf(san, sizeof san, "URI:berth://node/%u,URI:berth://role/voter", i + 1);
		c->as_server[i] = test_ctx(&c->ca, TLS_SERVER, "x", san, &c->ca);
		c->as_client[i] = test_ctx(&c->ca, TLS_CLIENT, "x", san, &c->ca);
	}
}

static int set_up(void **state)
{
	struct cluster *c = calloc(1, sizeof *c);
	assert_non_null(c);
	assert_int_equal(loop_init(&c->loop, NULL), 0);
	if (encrypted)
		make_certificates(c);
	pick_addresses(c->addresses, N);
	c->except = N;
	*state = c;
	return 0;
}

static int tear_down(void **state)
{
	struct cluster *c = *state;
	for (unsigned i = 0; i < N; i++)
		server_stop(&c->servers[i], &c->loop.uv);
	assert_int_equal(loop_done(&c->loop), 0);
	for (unsigned i = 0; encrypted && i < N; i++) {
		tls_ctx_unref(c->as_server[i]);
		tls_ctx_unref(c->as_client[i]);
	}
	if (encrypted)
		test_ca_done(&c->ca);
	free(c);
	scratch_remove();
	return 0;
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
	assert_true(loop_until(&c->loop.uv, has_leader, c, WAIT_MS));
	return &c->servers[leader_of(c)];
}

static void on_done(void *arg, int status, uint64_t index)
{
	struct cluster *c = arg;
	(void)index;
	c->answered++;
	c->ok += status == 0;
	c->unknown += status == -ECONNABORTED;
	c->refused += status == -EAGAIN;
}

static bool all_answered(void *arg)
{
	struct cluster *c = arg;
	return c->answered >= c->expect;
}

/* Until n more were acknowledged: on a busy machine leadership may move at any time. */
static void propose_many(struct cluster *c, unsigned n, unsigned each_turn)
{
	static uint64_t next;
	unsigned goal = c->ok + n;
	while (c->ok < goal) {
		struct server *s = leader(c);
		for (unsigned j = 0; j < each_turn; j++) {
			uint64_t value = next++ % TALLY_MAX;
			assert_int_equal(consensus_propose(s->consensus, &value, sizeof value, on_done, c),
					 0);
			c->expect++;
		}
		assert_true(loop_until(&c->loop.uv, all_answered, c, WAIT_MS));
	}
}

/* All have what was acknowledged, and the same. */
static bool all_equal(void *arg)
{
	struct cluster *c = arg;
	const struct tally *first = &c->servers[c->except == 0 ? 1 : 0].tally;
	for (unsigned i = 0; i < N; i++)
		if (i != c->except &&
		    (c->servers[i].tally.applied < c->ok || c->servers[i].tally.hash != first->hash))
			return false;
	return true;
}

static void expect_equal(struct cluster *c)
{
	assert_true(loop_until(&c->loop.uv, all_equal, c, WAIT_MS));
}

static void start_all(struct cluster *c)
{
	for (unsigned i = 0; i < N; i++)
		start_one(c, i);
}

static bool all_agree(void *arg)
{
	struct cluster *c = arg;
	int l = leader_of(c);
	for (unsigned i = 0; i < N; i++)
		if (l < 0 || consensus_leader(c->servers[i].consensus, NULL) != (uint64_t)l + 1)
			return false;
	return true;
}

static void test_propose(void **state)
{
	struct cluster *c = *state;
	start_all(c);
	propose_many(c, 500, 50);
	assert_true(c->ok >= 500);
	expect_equal(c);
	assert_true(loop_until(&c->loop.uv, all_agree, c, WAIT_MS));
	struct server *l = leader(c);
	for (unsigned i = 0; i < N; i++) {
		const char *address;
		uint64_t id = consensus_leader(c->servers[i].consensus, &address);
		assert_int_equal(id, l - c->servers + 1);
		assert_string_equal(address, c->addresses[id - 1]);
		if (&c->servers[i] == l)
			continue;
		assert_int_equal(consensus_propose(c->servers[i].consensus, "12345678", 8, on_done, c),
				 -EAGAIN);
		assert_int_equal(consensus_barrier(c->servers[i].consensus, on_done, c), -EAGAIN);
		assert_int_equal(consensus_transfer(c->servers[i].consensus, 0, NULL, NULL), -EAGAIN);
	}
}

static void on_transferred(void *arg, int status)
{
	*(int *)arg = status;
}

static bool transferred(void *arg)
{
	return *(int *)arg != 1;
}

/* A follower that is writing, or slow, does not take over in time; so it is tried again. */
static void transfer_to(struct cluster *c, unsigned target)
{
	for (int status = 1, tries = 0; leader(c) != &c->servers[target]; tries++, status = 1) {
		assert_true(tries < 50);
		if (consensus_transfer(leader(c)->consensus, target + 1, on_transferred, &status) == 0)
			assert_true(loop_until(&c->loop.uv, transferred, &status, WAIT_MS));
	}
}

static void test_transfer(void **state)
{
	struct cluster *c = *state;
	int status = 1;
	start_all(c);
	propose_many(c, 10, 10);
	expect_equal(c);
	struct server *old = leader(c);
	unsigned target = (unsigned)(old - c->servers + 1) % N;
	assert_int_equal(consensus_transfer(old->consensus, 9, on_transferred, &status), -EINVAL);
	assert_int_equal(consensus_transfer(old->consensus, target + 1, on_transferred, &status), 0);
	assert_int_equal(consensus_transfer(old->consensus, target + 1, on_transferred, &status), -EBUSY);
	assert_int_equal(consensus_propose(old->consensus, "12345678", 8, on_done, c), -EAGAIN);
	assert_true(loop_until(&c->loop.uv, transferred, &status, WAIT_MS));
	assert_true(status == 0 || status == -ETIMEDOUT);
	transfer_to(c, target);
	assert_int_equal(old->leads_term, 0);
	propose_many(c, 10, 10);
	expect_equal(c);
}

static bool lost(void *arg)
{
	return ((struct server *)arg)->leads_term == 0;
}

/* The leader without its followers: what it accepted has no known outcome, and it says so. */
static void test_majority_lost(void **state)
{
	struct cluster *c = *state;
	start_all(c);
	propose_many(c, 10, 10);
	expect_equal(c);
	struct server *l = leader(c);
	unsigned before = c->ok;
	for (unsigned i = 0; i < N; i++)
		if (&c->servers[i] != l)
			server_stop(&c->servers[i], &c->loop.uv);
	uint64_t value = 1;
	if (consensus_propose(l->consensus, &value, sizeof value, on_done, c) == 0)
		c->expect++;
	if (consensus_barrier(l->consensus, on_done, c) == 0)
		c->expect++;
	assert_true(loop_until(&c->loop.uv, lost, l, WAIT_MS));
	assert_true(loop_until(&c->loop.uv, all_answered, c, WAIT_MS));
	assert_int_equal(c->ok, before);
	assert_int_equal(consensus_propose(l->consensus, &value, sizeof value, on_done, c), -EAGAIN);
	for (unsigned i = 0; i < N; i++)
		if (&c->servers[i] != l)
			start_one(c, i);
	struct server *next = leader(c);
	assert_true(next->gained > 0);
}

static bool snapshots_taken(void *arg)
{
	struct cluster *c = arg;
	bool all = true;
	for (unsigned i = 0; i < N; i++) { /* whichever leads, perhaps another one soon */
		struct consensus_counts counts;
		if (i == c->except)
			continue;
		consensus_count(c->servers[i].consensus, &counts);
		all = all && counts.snapshots > 0 && counts.log_first > 60;
	}
	return all;
}

/* One follower is stopped, and what it misses is compacted away. */
static struct server *leave_one_behind(struct cluster *c)
{
	c->threshold = 100;
	c->trailing = 20;
	c->off = 1u << GUARD_TRAILING;
	start_all(c);
	propose_many(c, 10, 10);
	expect_equal(c);
	struct server *l = leader(c);
	c->except = (unsigned)((l - c->servers + 1) % N);
	server_stop(&c->servers[c->except], &c->loop.uv);
	propose_many(c, 1000, 20);
	assert_true(loop_until(&c->loop.uv, snapshots_taken, c, WAIT_MS));
	return &c->servers[c->except];
}

static void expect_installed(struct cluster *c, const struct server *lagging)
{
	struct consensus_counts counts;
	c->except = N;
	expect_equal(c);
	consensus_count(lagging->consensus, &counts);
	assert_true(counts.restores > 0);
	assert_int_equal(counts.installs, counts.restores);
	propose_many(c, 20, 20);
	expect_equal(c);
}

static void test_lagging_server_gets_a_snapshot(void **state)
{
	struct cluster *c = *state;
	struct server *lagging = leave_one_behind(c);
	start_one(c, c->except);
	expect_installed(c, lagging);
}

static bool reading(void *arg)
{
	(void)arg;
	return tally_reading();
}

/* While a thread reads it: the loop turns, and a server that is closed waits for the thread. */
static void test_closed_while_a_snapshot_is_read(void **state)
{
	struct cluster *c = *state;
	struct server *lagging = leave_one_behind(c);
	tally_read_slowly(300);
	start_one(c, c->except);
	assert_true(loop_until(&c->loop.uv, reading, NULL, WAIT_MS));
	server_stop(lagging, &c->loop.uv);
	assert_false(tally_reading());
	tally_read_slowly(0);
	start_one(c, c->except);
	expect_installed(c, lagging);
}

static bool failed(void *arg)
{
	return ((struct server *)arg)->failed > 0;
}

/* A follower that cannot store a new term is of no use any more, and says so once. */
static void test_unavailable(void **state)
{
	struct cluster *c = *state;
	char dir[600], away[610];
	start_all(c);
	propose_many(c, 10, 10);
	expect_equal(c);
	struct server *old = leader(c);
	unsigned victim = (unsigned)((old - c->servers + 1) % N), target = (victim + 1) % N;
	snprintf(dir, sizeof dir, "%s/n%u", scratch_dir(), victim + 1);
	snprintf(away, sizeof away, "%s-away", dir);
	assert_int_equal(rename(dir, away), 0);
	transfer_to(c, target);
	assert_true(loop_until(&c->loop.uv, failed, &c->servers[victim], WAIT_MS));
	assert_int_equal(c->servers[victim].failed, 1);
	assert_non_null(strstr(c->servers[victim].why, "unavailable"));
	assert_int_equal(consensus_leader(c->servers[victim].consensus, NULL), 0);
	propose_many(c, 10, 10);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_propose, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_transfer, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_majority_lost, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_unavailable, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_lagging_server_gets_a_snapshot, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_closed_while_a_snapshot_is_read, set_up, tear_down),
	};
	int bad = cmocka_run_group_tests_name("plain", tests, NULL, NULL);
	encrypted = true;
	return bad + cmocka_run_group_tests_name("mutual TLS", tests, NULL, NULL);
}
