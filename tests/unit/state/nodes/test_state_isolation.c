/* What a pool's sandboxes run in: chosen once, kept by snapshots, and booted only where a node says that it can. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <cmocka.h>

#include "machine/machine.h"

#define BOTH (1u << ISOLATION_CONTAINER | 1u << ISOLATION_VM)

static uint64_t make_pool(struct machine *m, const char *name, uint8_t isolation)
{
	return machine_pool_in(m, name, 10, 4, isolation);
}

static int able(struct machine *m, uint64_t node, uint32_t isolations, const char *no_vm)
{
	return machine_do(m, node, COMMAND_NODE_ABLE, &(struct cmd_node_able){isolations, str_of(no_vm)})
		->code;
}

static int join(struct machine *m, uint64_t node, uint32_t isolations, const char *no_vm)
{
	struct cmd_node_join body = {.id = node,
				     .name = STR("node"),
				     .voter = true,
				     .cpu_milli = 4000,
				     .memory_bytes = 8ull << 30,
				     .isolations = isolations,
				     .no_vm = str_of(no_vm)};

	return machine_do(m, node, COMMAND_NODE_JOIN, &body)->code;
}

static const struct result *boot(struct machine *m, uint64_t pool, uint64_t node)
{
	return machine_do(m, 1, COMMAND_SANDBOX_BOOT,
			  &(struct cmd_sandbox_boot){pool, state_pool(m->s, pool)->active_revision, node});
}

static void test_a_pool_keeps_its_isolation(void **unused)
{
	struct msg_pool_put put;
	const struct result *r;
	struct machine m;
	uint64_t pool;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 1);
	for (unsigned i = 0; i < ISOLATIONS; i++) {
		put = machine_put(isolation_name[i], 10, 1);
		pool = make_pool(&m, isolation_name[i], (uint8_t)i);
		assert_int_equal(state_pool(m.s, pool)->isolation, i);
		put.isolation = (uint8_t)(ISOLATIONS - 1 - i);
		put.limits.max_sessions = 9;
		r = machine_do(&m, 1, COMMAND_POOL_PUT, &put);
		assert_int_equal(r->code, -EROFS);
		assert_non_null(memmem(r->message.p, r->message.n, "cannot change", 13));
		assert_int_equal(state_pool(m.s, pool)->limits.max_sessions, 10);
		put.isolation = (uint8_t)i;
		put.limits.max_sessions = 11;
		assert_int_equal(machine_do(&m, 1, COMMAND_POOL_PUT, &put)->code, 0);
		assert_int_equal(state_pool(m.s, pool)->isolation, i);
	}
	/* Its name may be another pool's later, of the other isolation. */
	assert_int_equal(machine_do(&m, 1, COMMAND_POOL_DELETE, &(struct msg_pool_delete){pool})->code, 0);
	assert_null(state_pool(m.s, pool));
	assert_int_equal(state_pool(m.s, make_pool(&m, "vm", ISOLATION_CONTAINER))->isolation,
			 ISOLATION_CONTAINER);
	machine_done(&m);
}

static void test_nodes_say_what_they_run(void **unused)
{
	struct machine m;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 2);
	/* Nothing said: containers, and why not virtual machines is not known. */
	assert_true(state_node_runs(state_node(m.s, 1), ISOLATION_CONTAINER));
	assert_false(state_node_runs(state_node(m.s, 1), ISOLATION_VM));
	assert_int_equal(state_node(m.s, 1)->no_vm.n, 0);
	assert_int_equal(able(&m, 1, 1u << ISOLATION_CONTAINER, "/dev/kvm is missing"), 0);
	assert_true(str_eq(state_node(m.s, 1)->no_vm, STR("/dev/kvm is missing")));
	assert_false(state_node_runs(state_node(m.s, 2), ISOLATION_VM));
	/* A reason of a node that can is none. */
	assert_int_equal(able(&m, 1, BOTH, "old reason"), 0);
	assert_true(state_node_runs(state_node(m.s, 1), ISOLATION_VM));
	assert_int_equal(state_node(m.s, 1)->no_vm.n, 0);
	assert_int_equal(able(&m, 1, 0, ""), -EINVAL);
	assert_int_equal(able(&m, 1, 1u << ISOLATIONS, ""), -EINVAL);
	/* It starts anew: what it says counts, and while it does not know yet, what it said last. */
	assert_int_equal(join(&m, 1, 0, ""), 0);
	assert_true(state_node_runs(state_node(m.s, 1), ISOLATION_VM));
	assert_int_equal(join(&m, 1, 1u << ISOLATION_CONTAINER, "KVM is off"), 0);
	assert_false(state_node_runs(state_node(m.s, 1), ISOLATION_VM));
	assert_true(str_eq(state_node(m.s, 1)->no_vm, STR("KVM is off")));
	assert_int_equal(join(&m, 1, 1u << ISOLATIONS, ""), -EINVAL);
	assert_int_equal(join(&m, 2, BOTH, ""), 0);
	assert_true(state_node_runs(state_node(m.s, 2), ISOLATION_VM));
	machine_done(&m);
}

static void test_boots_only_where_it_can(void **unused)
{
	const struct result *r;
	struct machine m;
	uint64_t pool, plain;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 3);
	able(&m, 1, 1u << ISOLATION_CONTAINER, "no canary answered");
	able(&m, 2, BOTH, "");
	able(&m, 3, 1u << ISOLATION_VM, "");
	pool = make_pool(&m, "vms", ISOLATION_VM);
	plain = make_pool(&m, "plain", ISOLATION_CONTAINER);
	r = boot(&m, pool, 1);
	assert_int_equal(r->code, -ENODEV);
	assert_non_null(memmem(r->message.p, r->message.n, "no canary answered", 18));
	assert_int_equal(boot(&m, pool, 2)->code, 0);
	assert_int_equal(boot(&m, pool, 3)->code, 0);
	assert_int_equal(boot(&m, plain, 1)->code, 0);
	assert_int_equal(boot(&m, plain, 2)->code, 0);
	assert_int_equal(boot(&m, plain, 3)->code, -ENODEV);
	/* What runs there goes on when the node cannot any more; nothing new comes. */
	assert_int_equal(able(&m, 2, 1u << ISOLATION_CONTAINER, "the module was removed"), 0);
	assert_int_equal(state_pool_counts(m.s, pool).booting, 2);
	assert_int_equal(boot(&m, pool, 2)->code, -ENODEV);
	machine_done(&m);
}

static int append(void *to, const void *p, size_t n)
{
	buf_add(to, p, n);
	return 0;
}

static void test_snapshots_keep_it(void **unused)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct state_snapshot *snapshot;
	struct state *copy = NULL;
	struct err err = {0};
	struct machine m;
	uint64_t pool;

	(void)unused;
	machine_init(&m);
	machine_start(&m, 1);
	able(&m, 1, 1u << ISOLATION_CONTAINER, "no canary answered");
	pool = make_pool(&m, "vms", ISOLATION_VM);
	snapshot = state_snapshot_new(m.s);
	assert_int_equal(state_snapshot_write(snapshot, append, &bytes), 0);
	state_snapshot_free(snapshot);
	assert_int_equal(state_read(bytes.p, bytes.n, &copy, &err), 0);
	assert_int_equal(state_pool(copy, pool)->isolation, ISOLATION_VM);
	assert_true(str_eq(state_node(copy, 1)->no_vm, STR("no canary answered")));
	assert_int_equal(state_hash(copy), state_hash(m.s));
	state_free(copy);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_a_pool_keeps_its_isolation),
		cmocka_unit_test(test_nodes_say_what_they_run),
		cmocka_unit_test(test_boots_only_where_it_can),
		cmocka_unit_test(test_snapshots_keep_it),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
