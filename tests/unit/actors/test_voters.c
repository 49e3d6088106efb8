/* Which nodes become voters, by the tables alone; and how the leader's membership goes about one change. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <cmocka.h>

#include "core/must.h"
#include "membership/voters.h"
#include "stage.h"

static struct stage *s;

static void token_and_node(unsigned i)
{
	char hash[65], key[65], name[16], raft[16], control[16], peer[16];

	snprintf(hash, sizeof hash, "%064u", i);
	snprintf(key, sizeof key, "%064u", i + 1000);
	snprintf(name, sizeof name, "node%u", i);
	snprintf(raft, sizeof raft, "h:%u0", i);
	snprintf(control, sizeof control, "h:%u1", i);
	snprintf(peer, sizeof peer, "h:%u2", i);
	must(stage_apply(s, STAGE_NODE, COMMAND_NODE_TOKEN,
			 &(struct cmd_node_token){str_of(hash), true, 600000})
		     .code == 0);
	must(stage_apply(s, STAGE_NODE, COMMAND_NODE_ADMIT,
			 &(struct cmd_node_admit){.hash = str_of(hash),
						  .key = str_of(key),
						  .name = str_of(name),
						  .raft_address = str_of(raft),
						  .control_address = str_of(control),
						  .peer_address = str_of(peer)})
		     .code == 0);
}

static uint64_t node_named(const char *name)
{
	return state_node_by_name(s->tables, str_of(name))->id;
}

/* Its first start, by hand: the stage counts the commands of two nodes alone. */
static void starts(const char *name)
{
	const struct node_row *row = state_node_by_name(s->tables, str_of(name));
	struct cmd_node_join join = {.id = row->id,
				     .name = row->name,
				     .raft_address = row->raft_address,
				     .control_address = row->control_address,
				     .peer_address = row->peer_address,
				     .cpu_milli = 1000,
				     .memory_bytes = 1 << 20};
	struct command command = {.type = COMMAND_NODE_JOIN, .feature = 1, .node = row->id};
	struct entry entry = {.incarnation = 1,
			      .time_ms = 1700000000000 + s->now_ms,
			      .commands = &command,
			      .n_commands = 1};
	CLEANUP_BUF struct buf body = {0}, bytes = {0};
	struct applied applied;

	codec_encode(&body, command_body_codec[COMMAND_NODE_JOIN], &join);
	command.body = buf_str(&body);
	codec_encode(&bytes, &entry_codec, &entry);
	must(state_apply(s->tables, ++s->index, bytes.p, bytes.n, &applied, NULL) == 0);
	assert_int_equal(applied.results[0].code, 0);
}

static void does(uint64_t node, uint8_t role)
{
	struct cmd_member_begin next = {0};
	struct result r;

	assert_true(voters_next(s->tables, &next));
	assert_int_equal(next.node, node);
	assert_int_equal(next.role, role);
	r = stage_apply(s, STAGE_NODE, COMMAND_MEMBER_BEGIN, &next);
	assert_int_equal(r.code, 0);
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_MEMBER_END,
				     &(struct cmd_member_end){.operation = r.operation})
				 .code,
			 0);
}

static void does_nothing(void)
{
	struct cmd_member_begin next;

	assert_false(voters_next(s->tables, &next));
}

static void lose(uint64_t node)
{
	const struct node_row *row = state_node(s->tables, node);
	struct cmd_node_lost lost = {row->id, row->epoch, row->renewed_ms};

	s->now_ms += 30000;
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_NODE_LOST, &lost).code, 0);
}

/* A stage whose runtime does nothing by itself: it follows. Its two nodes are voters. */
static void test_an_odd_number(void **state)
{
	(void)state;
	s = stage_new(false, false);
	does_nothing(); /* two: nobody makes it three */
	token_and_node(3);
	does(node_named("node3"), MEMBER_STANDBY);
	does_nothing(); /* it never started */
	starts("node3");
	does(node_named("node3"), MEMBER_VOTER);
	token_and_node(4);
	starts("node4");
	does(node_named("node4"), MEMBER_STANDBY);
	does_nothing(); /* four would be no better than three */
	token_and_node(5);
	starts("node5");
	does(node_named("node5"), MEMBER_STANDBY);
	does(node_named("node4"), MEMBER_VOTER);
	does(node_named("node5"), MEMBER_VOTER);
	token_and_node(6);
	starts("node6");
	does_nothing(); /* five are enough */
	stage_free(s);
}

static void test_a_lost_one_makes_room_first(void **state)
{
	(void)state;
	s = stage_new(false, false);
	token_and_node(3);
	does(node_named("node3"), MEMBER_STANDBY);
	starts("node3");
	does(node_named("node3"), MEMBER_VOTER);
	lose(STAGE_OTHER);
	does_nothing(); /* nobody to take its place */
	token_and_node(4);
	does(node_named("node4"), MEMBER_STANDBY);
	does_nothing();
	starts("node4");
	does(STAGE_OTHER, MEMBER_NONE);
	does(node_named("node4"), MEMBER_VOTER);
	does_nothing();
	stage_free(s);
}

static void test_a_leaving_one_goes_when_it_is_empty(void **state)
{
	uint64_t sandbox;

	(void)state;
	s = stage_new(false, false);
	token_and_node(3);
	does(node_named("node3"), MEMBER_STANDBY);
	starts("node3");
	does(node_named("node3"), MEMBER_VOTER);
	sandbox = stage_boot(s); /* on node 1 */
	assert_int_equal(
		stage_apply(s, STAGE_OTHER, COMMAND_NODE_LEAVE, &(struct cmd_node_leave){.node = STAGE_NODE})
			.code,
		0);
	does_nothing();
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_GONE,
				     &(struct cmd_sandbox_gone){.sandbox = sandbox})
				 .code,
			 0);
	does(STAGE_NODE, MEMBER_NONE);
	stage_free(s);
}

/* Begun in the tables, done to the log, ended in the tables; what is not known is done again. */
static void test_one_change(void **state)
{
	const struct seen *seen;
	struct result r;

	(void)state;
	s = stage_new(true, false);
	token_and_node(3);
	stage_run(s, 1100);
	seen = stage_next(s, EFFECT_PROPOSE, COMMAND_MEMBER_BEGIN);
	assert_non_null(seen);
	assert_null(stage_next(s, EFFECT_MEMBER, 0));
	r = stage_apply(s, STAGE_NODE, COMMAND_MEMBER_BEGIN,
			&(struct cmd_member_begin){node_named("node3"), MEMBER_STANDBY});
	s->looked = 0;
	stage_proposed(s, stage_next(s, EFFECT_PROPOSE, COMMAND_MEMBER_BEGIN), 0);
	seen = stage_next(s, EFFECT_MEMBER, 0);
	assert_non_null(seen);
	stage_proposed(s, seen, -EAGAIN);
	s->looked = s->n_seen;
	stage_run(s, 1000);
	assert_null(stage_next(s, EFFECT_MEMBER, 0));
	s->looked = 0;
	while (stage_next(s, EFFECT_MEMBER, 0) != NULL)
		;
	stage_run(s, 3000);
	seen = stage_next(s, EFFECT_MEMBER, 0);
	assert_non_null(seen);
	stage_proposed(s, seen, -EHOSTDOWN);
	seen = stage_next(s, EFFECT_PROPOSE, COMMAND_MEMBER_END);
	assert_non_null(seen);
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_MEMBER_END,
				     &(struct cmd_member_end){r.operation, STR("no")})
				 .code,
			 0);
	stage_proposed(s, seen, 0);
	s->looked = s->n_seen;
	stage_run(s, 8000);
	assert_null(stage_next(s, EFFECT_PROPOSE, COMMAND_MEMBER_BEGIN)); /* it pauses behind a failure */
	stage_run(s, 4000);
	s->looked = 0;
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_MEMBER_BEGIN));
	assert_non_null(stage_next(s, EFFECT_PROPOSE, COMMAND_MEMBER_BEGIN));
	stage_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_an_odd_number),
		cmocka_unit_test(test_a_lost_one_makes_room_first),
		cmocka_unit_test(test_a_leaving_one_goes_when_it_is_empty),
		cmocka_unit_test(test_one_change),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
