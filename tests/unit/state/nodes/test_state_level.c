/* A program of a higher feature level in a cluster of a lower one: built with FEATURE_LEVEL 2. What the level allows is
 * proposed only once all nodes have it; and what such a cluster wrote is refused by a program of the lower level. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "state/state.h"

#define NODES 3

static struct state *s;
static uint64_t applied_index, epoch[NODES + 1], sequence[NODES + 1];
static struct err fault;

/* state_apply's own answer; the command's in *ret. */
static int apply(uint64_t node, uint8_t type, uint16_t feature, const void *body, struct result *ret)
{
	CLEANUP_BUF struct buf bytes = {0}, entry_bytes = {0};
	bool without = type == COMMAND_CLUSTER_INIT || type == COMMAND_NODE_JOIN;
	struct command c = {.type = type,
			    .feature = feature,
			    .node = node,
			    .epoch = without ? 0 : epoch[node],
			    .sequence = ++sequence[node]};
	struct entry entry = {.incarnation = 1, .time_ms = 1700000000000, .commands = &c, .n_commands = 1};
	struct applied applied;
	int r;

	fault = (struct err){0};
	if (command_body_codec[type] != NULL)
		codec_encode(&bytes, command_body_codec[type], body);
	c.body = buf_str(&bytes);
	codec_encode(&entry_bytes, &entry_codec, &entry);
	r = state_apply(s, applied_index + 1, entry_bytes.p, entry_bytes.n, &applied, &fault);
	if (r == 0) {
		applied_index++;
		*ret = applied.results[0];
	}
	return r;
}

static void join(uint64_t node, uint32_t level)
{
	struct cmd_node_join body = {.id = node,
				     .name = STR("old-one"),
				     .version = STR("0.1.0"),
				     .voter = true,
				     .cpu_milli = 1000,
				     .memory_bytes = 1 << 30,
				     .feature_level = level};
	struct result r = {.code = -1};

	assert_int_equal(apply(node, COMMAND_NODE_JOIN, 1, &body, &r), 0);
	assert_int_equal(r.code, 0);
	epoch[node] = r.id;
	sequence[node] = 0;
}

static int raise(uint32_t level, struct result *ret)
{
	struct msg_cluster_level body = {level};

	assert_int_equal(apply(1, COMMAND_CLUSTER_LEVEL, 1, &body, ret), 0);
	return ret->code;
}

static void start(void)
{
	struct cmd_cluster_init init = {
		.id = STR("x"),
		.settings = {.lease_ms = 1, .lost_ms = 1, .overcommit_cpu = 1, .overcommit_memory = 1},
		.feature_level = 1};
	struct result r = {.code = -1};

	s = state_new();
	applied_index = 0;
	memset(sequence, 0, sizeof sequence);
	assert_int_equal(apply(1, COMMAND_CLUSTER_INIT, 0, &init, &r), 0);
	assert_int_equal(r.code, 0);
	for (uint64_t node = 1; node <= NODES; node++)
		join(node, 1);
}

static void test_raised_when_all_have_it(void **state)
{
	struct result r = {0};

	(void)state;
	start();
	assert_int_equal(raise(2, &r), -EBUSY);
	join(1, 2);
	join(3, 2);
	assert_int_equal(raise(2, &r), -EBUSY);
	assert_true(str_starts(r.message, STR("node \"old-one\" (version 0.1.0) has feature level 1")));
	assert_int_equal(state_cluster(s)->feature_level, 1);
	join(2, 2);
	assert_int_equal(raise(2, &r), 0);
	assert_int_equal(state_cluster(s)->feature_level, 2);
	assert_int_equal(raise(1, &r), 0); /* never back */
	assert_int_equal(state_cluster(s)->feature_level, 2);
	assert_int_equal(state_check(s, &fault), 0);
	state_free(s);
}

/* Such a command stops the program before anything is changed: whoever proposed it was wrong. */
static void test_nothing_above_the_level(void **state)
{
	struct result r = {0};
	uint64_t hash;

	(void)state;
	start();
	for (uint64_t node = 1; node <= NODES; node++)
		join(node, 2);
	hash = state_hash(s);
	assert_int_equal(apply(1, COMMAND_WAITERS_EXPIRE, 2, NULL, &r), -EPROTO);
	assert_non_null(strstr(fault.message, "needs feature level 2"));
	assert_int_equal(state_hash(s), hash);
	sequence[1]--;
	assert_int_equal(raise(2, &r), 0);
	assert_int_equal(apply(1, COMMAND_WAITERS_EXPIRE, 2, NULL, &r), 0);
	assert_int_equal(apply(1, COMMAND_WAITERS_EXPIRE, 3, NULL, &r), -EPROTO);
	state_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_raised_when_all_have_it),
		cmocka_unit_test(test_nothing_above_the_level),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
