/* Who belongs to the cluster: tokens, admission, one change of voters at a time, and nodes that go. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "machine/machine.h"

#define HASH(c) ((struct str){c c c c c c c c c c c c c c c c, 64})
#define A       HASH("aaaa")
#define B       HASH("bbbb")
#define KEY1    HASH("0001")
#define KEY2    HASH("0002")

static int code(struct machine *m, uint64_t node, uint8_t type, const void *body)
{
	return machine_do(m, node, type, body)->code;
}

static void start(struct machine *m, unsigned nodes)
{
	machine_init(m);
	machine_start(m, nodes);
}

static int token(struct machine *m, struct str hash, bool voter)
{
	return code(m, 1, COMMAND_NODE_TOKEN,
		    &(struct cmd_node_token){.hash = hash, .voter = voter, .life_ms = 600000});
}

static struct cmd_node_admit admission(struct str hash, struct str key, const char *name, const char *raft,
				       const char *control, const char *peer)
{
	return (struct cmd_node_admit){.hash = hash,
				       .key = key,
				       .name = str_of(name),
				       .raft_address = str_of(raft),
				       .control_address = str_of(control),
				       .peer_address = str_of(peer)};
}

static uint64_t admit(struct machine *m, struct str hash, const char *name, const char *port)
{
	struct cmd_node_admit c = admission(hash, KEY1, name, port, port + 1, port + 2);
	const struct result *result = machine_do(m, 1, COMMAND_NODE_ADMIT, &c);

	assert_int_equal(result->code, 0);
	assert_true(result->created);
	return result->id;
}

static void test_a_token_admits_once(void **unused)
{
	struct machine m;
	struct cmd_node_admit c = admission(A, KEY1, "node4", "h:1", "h:2", "h:3");
	uint64_t id;

	(void)unused;
	start(&m, 3);
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -ENOKEY);
	assert_int_equal(token(&m, A, true), 0);
	assert_int_equal(token(&m, A, true), -EEXIST);
	id = machine_do(&m, 1, COMMAND_NODE_ADMIT, &c)->id;
	assert_true(id > 1000);
	assert_int_equal(state_node(m.s, id)->state, NODE_NEW);
	assert_true(state_node(m.s, id)->voter);
	/* The same key: an answer was lost. Another: it was stolen. */
	assert_int_equal(machine_do(&m, 1, COMMAND_NODE_ADMIT, &c)->id, id);
	assert_false(machine_do(&m, 1, COMMAND_NODE_ADMIT, &c)->created);
	c = admission(A, KEY2, "node5", "h:4", "h:5", "h:6");
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -EALREADY);
	machine_done(&m);
}

static void test_a_token_expires(void **unused)
{
	struct machine m;
	struct cmd_node_admit c = admission(A, KEY1, "node4", "h:1", "h:2", "h:3");
	struct cmd_node_token short_lived = {.hash = B, .life_ms = 999};

	(void)unused;
	start(&m, 1);
	assert_int_equal(code(&m, 1, COMMAND_NODE_TOKEN, &short_lived), -EINVAL);
	assert_int_equal(token(&m, A, false), 0);
	m.now_ms += 600000;
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -ETIME);
	m.now_ms += 90000000;
	assert_int_equal(token(&m, B, false), 0);
	assert_null(state_join_token(m.s, A));
	for (unsigned i = 0; i < JOIN_TOKENS_MAX - 1; i++) {
		char hash[65];

		memset(hash, 'c', sizeof hash);
		hash[0] = (char)('0' + i);
		assert_int_equal(token(&m, (struct str){hash, 64}, false), 0);
	}
	assert_int_equal(token(&m, KEY1, false), -ENOBUFS);
	machine_done(&m);
}

static void test_names_and_addresses(void **unused)
{
	struct machine m;
	static const char *const bad[] = {"",
					  "Node",
					  "a b",
					  "-a",
					  "a-",
					  "n\033[2J",
					  "0123456789012345678901234567890123456789012345678901234567890123"};
	struct cmd_node_admit c;

	(void)unused;
	start(&m, 1);
	assert_int_equal(token(&m, A, true), 0);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		c = admission(A, KEY1, bad[i], "h:1", "h:2", "h:3");
		assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -EINVAL);
	}
	c = admission(A, KEY1, "node", "h:1", "h:2", "h:3"); /* as the first one */
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -EEXIST);
	c = admission(A, KEY1, "b", "127.0.0.1:1", "h:2", "h:3");
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -EADDRINUSE);
	c = admission(A, KEY1, "b", "", "h:2", "h:3");
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), -EINVAL);
	c = admission(A, KEY1, "b", "h:1", "h:2", "h:3");
	assert_int_equal(code(&m, 1, COMMAND_NODE_ADMIT, &c), 0); /* nothing of that used the token up */
	machine_done(&m);
}

/* Starts an admitted node, whose id is too large for the machine's arrays. */
static void join(struct machine *m, uint64_t id, bool voter)
{
	CLEANUP_BUF struct buf body = {0};
	struct cmd_node_join join = {.id = id,
				     .name = state_node(m->s, id)->name,
				     .raft_address = state_node(m->s, id)->raft_address,
				     .control_address = STR("h:9"),
				     .peer_address = STR("h:10"),
				     .voter = voter,
				     .cpu_milli = 1000,
				     .memory_bytes = 1 << 20};
	struct command c = {.type = COMMAND_NODE_JOIN, .feature = 1, .node = id};

	codec_encode(&body, command_body_codec[COMMAND_NODE_JOIN], &join);
	c.body = buf_str(&body);
	assert_int_equal(machine_command(m, &c, 1)->code, 0);
}

static uint64_t begin(struct machine *m, uint64_t node, uint8_t role)
{
	const struct result *result =
		machine_do(m, 1, COMMAND_MEMBER_BEGIN, &(struct cmd_member_begin){node, role});

	assert_int_equal(result->code, 0);
	return result->operation;
}

static void end(struct machine *m, uint64_t operation, const char *message)
{
	assert_int_equal(code(m, 1, COMMAND_MEMBER_END, &(struct cmd_member_end){operation, str_of(message)}),
			 0);
}

static void test_one_change_at_a_time(void **unused)
{
	struct machine m;
	uint64_t a, b, operation;

	(void)unused;
	start(&m, 1);
	assert_int_equal(state_node(m.s, 1)->member, MEMBER_VOTER);
	token(&m, A, true);
	token(&m, B, false);
	a = admit(&m, A, "a", "x:11");
	b = admit(&m, B, "b", "y:22");
	struct cmd_member_begin voter = {a, MEMBER_VOTER}, standby = {a, MEMBER_STANDBY},
				worker = {b, MEMBER_STANDBY};

	assert_int_equal(code(&m, 1, COMMAND_MEMBER_BEGIN, &voter), -EHOSTDOWN);
	assert_int_equal(code(&m, 1, COMMAND_MEMBER_BEGIN, &worker), -EINVAL);
	operation = begin(&m, a, MEMBER_STANDBY);
	assert_int_equal(code(&m, 1, COMMAND_MEMBER_BEGIN, &standby), -EBUSY);
	assert_int_equal(state_node(m.s, a)->member, MEMBER_NONE);
	end(&m, operation, "");
	assert_int_equal(state_node(m.s, a)->member, MEMBER_STANDBY);
	assert_int_equal(code(&m, 1, COMMAND_MEMBER_END, &(struct cmd_member_end){.operation = operation}),
			 -ESTALE);
	assert_int_equal(code(&m, 1, COMMAND_MEMBER_BEGIN, &standby), -EALREADY);
	join(&m, a, true);
	end(&m, begin(&m, a, MEMBER_VOTER), "it did not catch up");
	assert_int_equal(state_node(m.s, a)->member, MEMBER_STANDBY);
	end(&m, begin(&m, a, MEMBER_VOTER), "");
	assert_int_equal(state_node(m.s, a)->member, MEMBER_VOTER);
	/* What a worker asks for. */
	join(&m, b, true);
	assert_false(state_node(m.s, b)->voter);
	struct command c = {.type = COMMAND_NODE_LEAVE,
			    .feature = 1,
			    .node = b,
			    .epoch = state_node(m.s, b)->epoch,
			    .sequence = 1};
	CLEANUP_BUF struct buf body = {0};

	codec_encode(&body, command_body_codec[COMMAND_NODE_LEAVE], &(struct cmd_node_leave){.node = a});
	c.body = buf_str(&body);
	assert_int_equal(machine_command(&m, &c, 1)->code, -EPERM);
	machine_done(&m);
}

static void test_leaving(void **unused)
{
	struct machine m;
	uint64_t pool, sandbox;
	struct cmd_node_leave leave = {.node = 3};
	struct cmd_node_drop drop = {.node = 3};

	(void)unused;
	start(&m, 3);
	pool = machine_pool(&m, "echo", 10, 2);
	sandbox = machine_ready(&m, pool, 3);
	machine_open(&m, pool, "user-1");
	machine_ready(&m, pool, 3);
	assert_int_equal(code(&m, 1, COMMAND_NODE_DROP, &drop), -EBUSY);
	assert_int_equal(code(&m, 1, COMMAND_NODE_LEAVE, &leave), -EBUSY);
	leave.force = true;
	assert_int_equal(code(&m, 1, COMMAND_NODE_LEAVE, &leave), 0);
	assert_true(state_node(m.s, 3)->leaving);
	assert_int_equal(state_session(m.s, pool, STR("user-1"))->state, SESSION_CLOSING);
	assert_int_equal(state_pool_counts(m.s, pool).ready, 0);
	assert_int_equal(code(&m, 3, COMMAND_SANDBOX_GONE,
			      &(struct cmd_sandbox_gone){.sandbox = sandbox, .stopped_ms = m.now_ms}),
			 0);
	sandbox = state_next_node_sandbox(m.s, 3, NULL)->id;
	assert_int_equal(code(&m, 3, COMMAND_SANDBOX_GONE,
			      &(struct cmd_sandbox_gone){.sandbox = sandbox, .stopped_ms = m.now_ms}),
			 0);
	assert_int_equal(code(&m, 1, COMMAND_NODE_DROP, &drop), -EBUSY); /* a voter yet */
	end(&m, begin(&m, 3, MEMBER_NONE), "");
	assert_int_equal(code(&m, 1, COMMAND_NODE_DROP, &drop), 0);
	assert_null(state_node(m.s, 3));
	assert_false(state_node_belongs(m.s, 3));
	struct cmd_node_join again = {.id = 3, .name = STR("again"), .cpu_milli = 10, .memory_bytes = 1};

	assert_int_equal(code(&m, 3, COMMAND_NODE_JOIN, &again), -ENOENT);
	/* Of two voters that are up none may go by itself: 1 of 1 left is a majority. The last one stays. */
	leave = (struct cmd_node_leave){.node = 2};
	assert_int_equal(code(&m, 1, COMMAND_NODE_LEAVE, &leave), 0);
	end(&m, begin(&m, 2, MEMBER_NONE), "");
	leave.node = 1;
	assert_int_equal(code(&m, 1, COMMAND_NODE_LEAVE, &leave), -EPERM);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_token_admits_once),
		cmocka_unit_test(test_a_token_expires),
		cmocka_unit_test(test_names_and_addresses),
		cmocka_unit_test(test_one_change_at_a_time),
		cmocka_unit_test(test_leaving),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
