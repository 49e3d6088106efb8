/* A new incarnation: nodes are gone, what ran there is billed to the end of its lease, all else stays. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>

#include "machine.h"

static struct reincarnation next_of(const struct machine *m, uint64_t survivor)
{
	return (struct reincarnation){.incarnation = state_cluster(m->s)->incarnation + 1,
				      .counter = state_cluster(m->s)->counter + 1000000,
				      .survivor = survivor};
}

/* Sessions "one" on node 1 and "two" on node 2, a waiter, and a ready sandbox on node 2. */
static uint64_t world(struct machine *m)
{
	uint64_t pool;

	machine_init(m);
	machine_start(m, 3);
	pool = machine_pool(m, "echo", 10, 2);
	machine_ready(m, pool, 1);
	machine_open(m, pool, "identifier one");
	machine_ready(m, pool, 2);
	machine_open(m, pool, "identifier two");
	machine_open(m, pool, "identifier three");
	m->now_ms += 1000;
	machine_do(m, 1, COMMAND_WAITERS_EXPIRE, NULL);
	return pool;
}

static unsigned nodes(const struct state *s)
{
	unsigned n = 0;

	for (const struct node_row *node = NULL; (node = state_next_node(s, node)) != NULL;)
		n++;
	return n;
}

static void test_all_nodes_gone(void **unused)
{
	struct machine m;
	uint64_t pool = world(&m), renewed = state_node(m.s, 2)->renewed_ms, counter;
	struct reincarnation r = next_of(&m, 0);
	struct node_row founder = {.name = STR("new"), .raft_address = STR("127.0.0.1:9")};
	const struct record_row *record;
	struct err err = {0};

	(void)unused;
	counter = state_cluster(m.s)->counter;
	r.founder = &founder;
	assert_int_equal(state_reincarnate(m.s, &r, &err), 0);
	assert_int_equal(nodes(m.s), 1);
	assert_true(str_eq(state_node(m.s, r.ret_founder)->name, STR("new")));
	assert_null(state_next_sandbox(m.s, NULL));
	assert_null(state_next_pool_session(m.s, pool, NULL));
	assert_non_null(state_pool(m.s, pool));
	assert_true(state_cluster(m.s)->incarnation == 2);
	assert_true(state_cluster(m.s)->counter > counter + 1000000); /* of the records */
	assert_true(state_cluster(m.s)->time_ms >= renewed + 15000);
	record = state_next_record(m.s, NULL);
	assert_non_null(record);
	for (unsigned n = 0; record != NULL; record = state_next_record(m.s, record), n++) {
		assert_true(record->stopped_ms == renewed + 15000);
		assert_int_equal(record->reason, REAP_DEAD);
		assert_true(n < 2);
	}
	/* Commands of the incarnation before are refused, and a new node begins. */
	struct command old = {
		.type = COMMAND_WAITERS_EXPIRE, .feature = 1, .node = 1, .epoch = 1, .sequence = 1};

	assert_int_equal(machine_command(&m, &old, 1)->code, -ESTALE);
	struct cmd_node_join join = {.id = r.ret_founder,
				     .name = STR("new"),
				     .voter = true,
				     .cpu_milli = 4000,
				     .memory_bytes = 8ull << 30};
	struct command c = {.type = COMMAND_NODE_JOIN, .feature = 1, .node = r.ret_founder};
	CLEANUP_BUF struct buf body = {0};

	codec_encode(&body, command_body_codec[COMMAND_NODE_JOIN], &join);
	c.body = buf_str(&body);
	assert_int_equal(machine_command(&m, &c, 1)->code, -ESTALE);
	assert_int_equal(machine_command(&m, &c, 2)->code, 0);
	assert_true(state_node(m.s, r.ret_founder)->epoch > counter + 1000000);
	machine_done(&m);
}

static void test_survivor_keeps_its_own(void **unused)
{
	struct machine m;
	uint64_t pool = world(&m), box = 0;
	struct reincarnation r = next_of(&m, 1);
	struct err err = {0};
	const struct session_row *session = state_session(m.s, pool, STR("identifier one"));

	(void)unused;
	assert_non_null(session);
	box = session->sandbox;
	assert_int_equal(state_reincarnate(m.s, &r, &err), 0);
	assert_int_equal(nodes(m.s), 1);
	assert_int_equal(state_node(m.s, 1)->member, MEMBER_VOTER);
	session = state_session(m.s, pool, STR("identifier one"));
	assert_non_null(session);
	assert_true(session->sandbox == box && session->state == SESSION_LIVE);
	assert_null(state_session(m.s, pool, STR("identifier two")));
	assert_null(state_session(m.s, pool, STR("identifier three")));
	machine_done(&m);
}

static void test_refused(void **unused)
{
	struct machine m;
	struct reincarnation r;
	struct err err = {0};
	uint64_t hash;

	(void)unused;
	world(&m);
	hash = state_hash(m.s);
	r = next_of(&m, 77);
	assert_int_equal(state_reincarnate(m.s, &r, &err), -ENOENT);
	r = next_of(&m, 0);
	r.incarnation = 1;
	assert_int_equal(state_reincarnate(m.s, &r, &err), -EINVAL);
	r = next_of(&m, 0);
	r.counter = 5;
	assert_int_equal(state_reincarnate(m.s, &r, &err), -EINVAL);
	r.counter = UINT64_MAX;
	assert_int_equal(state_reincarnate(m.s, &r, &err), -EINVAL);
	assert_true(state_hash(m.s) == hash);
	machine_done(&m);
	machine_init(&m);
	r = (struct reincarnation){.incarnation = 2, .counter = 2000};
	assert_int_equal(state_reincarnate(m.s, &r, &err), -EINVAL);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_nodes_gone),
		cmocka_unit_test(test_survivor_keeps_its_own),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
