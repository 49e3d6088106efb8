/* Where placement lets sandboxes boot: shares by what is free, labels, images, full disks, cordons. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "sim/blank.h"
#include "stage.h"

static struct stage *s;

/* The node starts anew, with these. */
static void join(uint64_t node, uint64_t memory_bytes, const char *labels)
{
	struct cmd_node_join body = {.id = node,
				     .name = STR("n"),
				     .voter = true,
				     .labels = str_of(labels),
				     .cpu_milli = 8000,
				     .memory_bytes = memory_bytes};

	s->epoch[node] = 0;
	s->epoch[node] = stage_apply(s, node, COMMAND_NODE_JOIN, &body).id;
	s->sequence[node] = 0;
}

static void disk(uint64_t node, bool nearly_full)
{
	struct renewal renewal = {
		.node = node, .epoch = s->epoch[node], .disk = {1000, nearly_full ? 10 : 900, nearly_full}};

	assert_int_equal(
		stage_apply(s, STAGE_NODE, COMMAND_NODE_RENEW, &(struct cmd_node_renew){&renewal, 1}).id, 1);
}

static void image(uint64_t node, bool held)
{
	struct str digest = STR("sha256:1");

	stage_apply(s, node, COMMAND_NODE_IMAGES, &(struct cmd_node_images){node, &digest, held ? 1 : 0});
}

/* The pool, its target, and what its nodes have to be. */
static void put(uint32_t target, const char *labels)
{
	struct msg_pool_put body = {
		.subscription = STR("s"),
		.resource_group = STR("g"),
		.name = STR("p"),
		.document = STR("{}"),
		.limits = {.max_sessions = 20, .ready_target = target, .cooldown_ms = 5000},
		.template = {.container_name = STR("c"),
			     .image = STR("r/i:1"),
			     .cpu_milli = 250,
			     .memory_bytes = 1 << 26,
			     .target_port = 80,
			     .node_labels = str_of(labels)},
		.new_revision = labels[0] != '\0'};
	struct result r = stage_apply(s, STAGE_NODE, COMMAND_POOL_PUT, &body);
	struct cmd_operation_step step = {.operation = r.operation,
					  .from = PHASE_RESOLVE,
					  .phase = PHASE_CACHE,
					  .digest = STR("sha256:1")};

	if (!body.new_revision)
		return;
	stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP, &step);
	step = (struct cmd_operation_step){
		.operation = r.operation, .from = PHASE_CACHE, .phase = PHASE_SUCCEEDED};
	stage_apply(s, STAGE_NODE, COMMAND_OPERATION_STEP, &step);
	s->revision = state_pool(s->tables, s->pool)->active_revision;
}

/* Carries the proposals out until placement wants no more: how many each node got. */
static void boot_all(uint32_t ret[3])
{
	const struct seen *boot;

	ret[1] = ret[2] = 0;
	runtime_leading(s->runtime, true, 1, s->now_ms);
	stage_run(s, 10);
	while ((boot = stage_next(s, EFFECT_PROPOSE, COMMAND_SANDBOX_BOOT)) != NULL) {
		struct cmd_sandbox_boot body = {s->pool, s->revision, (uint64_t)boot->code};
		struct result r = stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT, &body);

		assert_int_equal(r.code, 0);
		assert_int_equal(stage_apply(s, (uint64_t)boot->code, COMMAND_SANDBOX_READY,
					     &(struct cmd_sandbox){r.id})
					 .code,
				 0);
		ret[boot->code]++;
		stage_proposed(s, boot, 0);
		stage_run(s, 10);
	}
}

static void test_equal_nodes_share(void **state)
{
	uint32_t n[3];

	(void)state;
	s = stage_new(false, false);
	image(STAGE_OTHER, true);
	put(8, "");
	boot_all(n);
	assert_int_equal(n[1], 4);
	assert_int_equal(n[2], 4);
	stage_free(s);
}

static void test_the_share_goes_with_what_is_free(void **state)
{
	uint32_t n[3];

	(void)state;
	s = stage_new(false, false);
	join(STAGE_NODE, 30ull << 26, "");
	join(STAGE_OTHER, 10ull << 26, "");
	image(STAGE_NODE, true);
	image(STAGE_OTHER, true);
	put(8, "");
	boot_all(n);
	assert_int_equal(n[1] + n[2], 8);
	assert_in_range(n[1], 5, 6); /* 6, if boot slots did not matter */
	stage_free(s);
}

static void test_capacity_is_never_exceeded(void **state)
{
	uint32_t n[3];

	(void)state;
	s = stage_new(false, false);
	join(STAGE_NODE, 3ull << 26, "");
	join(STAGE_OTHER, 2ull << 26, "");
	image(STAGE_NODE, true);
	image(STAGE_OTHER, true);
	put(8, "");
	boot_all(n);
	assert_int_equal(n[1], 3);
	assert_int_equal(n[2], 2);
	stage_free(s);
}

static void only_the_first(void)
{
	uint32_t n[3];

	put(6, "");
	boot_all(n);
	assert_int_equal(n[1], 6);
	assert_int_equal(n[2], 0);
	stage_free(s);
}

static void test_nothing_without_the_image(void **state)
{
	(void)state;
	s = stage_new(false, false);
	only_the_first();
}

static void test_nothing_on_a_cordoned_node(void **state)
{
	(void)state;
	s = stage_new(false, false);
	image(STAGE_OTHER, true);
	stage_apply(s, STAGE_NODE, COMMAND_NODE_ORDER, &(struct msg_node_order){STAGE_OTHER, NODE_CORDON, 0});
	only_the_first();
}

static void test_nothing_on_a_full_disk(void **state)
{
	(void)state;
	s = stage_new(false, false);
	image(STAGE_OTHER, true);
	disk(STAGE_NODE, false);
	disk(STAGE_OTHER, true);
	assert_int_equal(state_node(s->tables, STAGE_OTHER)->disk.free, 10);
	only_the_first();
}

static void test_labels(void **state)
{
	uint32_t n[3];

	(void)state;
	s = stage_new(false, false);
	join(STAGE_OTHER, 1ull << 34, "disk=ssd,zone=b");
	image(STAGE_NODE, true);
	image(STAGE_OTHER, true);
	put(6, "zone=b");
	boot_all(n);
	assert_int_equal(n[1], 0);
	assert_int_equal(n[2], 6);
	put(7, "zone=b");
	assert_int_equal(stage_apply(s, STAGE_NODE, COMMAND_SANDBOX_BOOT,
				     &(struct cmd_sandbox_boot){s->pool, s->revision, STAGE_NODE})
				 .code,
			 -ENODEV);
	stage_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_equal_nodes_share),
		cmocka_unit_test(test_the_share_goes_with_what_is_free),
		cmocka_unit_test(test_capacity_is_never_exceeded),
		cmocka_unit_test(test_nothing_without_the_image),
		cmocka_unit_test(test_nothing_on_a_cordoned_node),
		cmocka_unit_test(test_nothing_on_a_full_disk),
		cmocka_unit_test(test_labels),
	};

	blank_from_environment();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
