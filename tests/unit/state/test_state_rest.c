/* Sessions that sleep and move (docs/moving.md): each command's refusals, what is reserved where, what is billed, and that whoever loses
 * the race between MOVED and KEPT is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "machine/machine.h"

#define MEMORY (64ull << 20) /* of machine_put()'s template */

struct world {
	struct machine m;
	uint64_t pool, box, generation;
};

static int code(struct world *w, uint64_t node, uint8_t type, const void *body)
{
	return machine_do(&w->m, node, type, body)->code;
}

/* A session on node 1, of three. */
static void open_world(struct world *w)
{
	machine_init(&w->m);
	machine_start(&w->m, 3);
	machine_able(&w->m, 3);
	w->pool = machine_pool_in(&w->m, "machines", 5, 1, ISOLATION_VM);
	w->box = machine_ready(&w->m, w->pool, 1);
	w->generation = machine_open(&w->m, w->pool, "user-1").session.generation;
}

static const struct sandbox_row *box(const struct world *w)
{
	return state_sandbox(w->m.s, w->box);
}

static int save(struct world *w, uint64_t node, uint8_t type, uint64_t number)
{
	return code(w, node, type, &(struct cmd_sandbox_save){w->box, number});
}

static int on_session(struct world *w, uint8_t type)
{
	return code(w, 2, type, &(struct cmd_session){w->pool, w->generation});
}

static int move(struct world *w, uint64_t target)
{
	return code(w, 2, COMMAND_SANDBOX_MOVE, &(struct cmd_sandbox_move){w->box, target});
}

static uint64_t reserved(const struct world *w, uint64_t node)
{
	return state_node(w->m.s, node)->memory_reserved;
}

static void test_sleep_and_wake(void **unused)
{
	struct world w;
	const struct rate_row *rate;

	(void)unused;
	open_world(&w);
	assert_int_equal(on_session(&w, COMMAND_SESSION_SUSPEND), 0);
	assert_int_equal(on_session(&w, COMMAND_SESSION_SUSPEND), 0); /* it is so */
	assert_int_equal(box(&w)->rest, REST_SAVING);
	assert_int_equal(on_session(&w, COMMAND_SESSION_WAKE), -EAGAIN);
	assert_int_equal(reserved(&w, 1), MEMORY);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_SAVED, box(&w)->save), -EPERM);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save - 1), -ESTALE);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_AWAKE, box(&w)->save), -ESTALE);
	w.m.now_ms += 1000;
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	assert_true(box(&w)->asleep);
	assert_int_equal(reserved(&w, 1), 0);
	rate = state_rate(w.m.s, w.pool);
	assert_int_equal(rate->asleep_bytes, MEMORY);
	assert_int_equal(rate->sandboxes, 0);
	assert_int_equal(rate->sessions, 1);
	assert_int_equal(state_pool_counts(w.m.s, w.pool).live, 1); /* it holds its place */
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_KEPT, box(&w)->save), -ESTALE);
	w.m.now_ms += 5000;
	/* A request wakes it: the same session, not ready yet. */
	struct result r = machine_open(&w.m, w.pool, "user-1");

	assert_int_equal(r.session.generation, w.generation);
	assert_true(r.waiting && !r.created);
	assert_int_equal(box(&w)->rest, REST_WAKING);
	assert_int_equal(reserved(&w, 1), MEMORY);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_AWAKE, box(&w)->save), 0);
	r = machine_open(&w.m, w.pool, "user-1");
	assert_false(r.waiting);
	assert_int_equal(box(&w)->asleep_ms, 5000);
	machine_done(&w.m);
}

static void test_no_room_to_wake(void **unused)
{
	struct world w;
	struct cmd_node_join small = {.id = 1, .name = STR("one"), .cpu_milli = 1, .memory_bytes = 1};

	(void)unused;
	open_world(&w);
	assert_int_equal(on_session(&w, COMMAND_SESSION_SUSPEND), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	assert_int_equal(code(&w, 1, COMMAND_NODE_JOIN, &small), 0);
	assert_int_equal(on_session(&w, COMMAND_SESSION_WAKE), -ENOSPC);
	assert_int_equal(machine_open(&w.m, w.pool, "user-1").code, -ENOSPC);
	assert_true(box(&w)->asleep);
	machine_done(&w.m);
}

static void test_move(void **unused)
{
	struct world w;

	(void)unused;
	open_world(&w);
	assert_int_equal(move(&w, 1), -EHOSTDOWN);
	assert_int_equal(move(&w, 2), 0);
	assert_int_equal(move(&w, 3), -EAGAIN);
	assert_int_equal(on_session(&w, COMMAND_SESSION_SUSPEND), -EAGAIN);
	assert_int_equal(reserved(&w, 1), MEMORY);
	assert_int_equal(reserved(&w, 2), MEMORY);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_MOVED, box(&w)->save), -ESTALE);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	assert_false(box(&w)->asleep);
	assert_int_equal(save(&w, 3, COMMAND_SANDBOX_MOVED, box(&w)->save), -EPERM);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_MOVED, box(&w)->save), 0);
	assert_int_equal(box(&w)->node, 2);
	assert_int_equal(box(&w)->rest, REST_WAKING);
	assert_int_equal(reserved(&w, 1), 0);
	assert_int_equal(reserved(&w, 2), MEMORY);
	assert_int_equal(state_session_by_generation(w.m.s, w.generation)->node, 2);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_KEPT, box(&w)->save),
			 -ESTALE); /* the source is too late */
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_AWAKE, box(&w)->save), -EPERM);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_AWAKE, box(&w)->save), 0);
	assert_true(state_session_by_generation(w.m.s, w.generation)->index == w.m.index);
	machine_done(&w.m);
}

static void test_kept_excludes_moved(void **unused)
{
	struct world w;
	uint64_t first;

	(void)unused;
	open_world(&w);
	assert_int_equal(move(&w, 2), 0);
	first = box(&w)->save;
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, first), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_KEPT, first), 0);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_MOVED, first), -ESTALE);
	assert_int_equal(reserved(&w, 2), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_AWAKE, first), 0);
	/* Another round: what is told of the first changes nothing. */
	assert_int_equal(move(&w, 2), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, first), -ESTALE);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_MOVED, first), -ESTALE);
	machine_done(&w.m);
}

static void lose(struct world *w, uint64_t node)
{
	const struct node_row *row;
	struct renewal others[3];
	struct cmd_node_renew renew = {.renewals = others};

	w->m.now_ms += 3600000;
	for (uint64_t id = 1; id <= 3; id++) {
		if (id != node)
			others[renew.n_renewals++] = (struct renewal){.node = id, .epoch = w->m.epoch[id]};
	}
	assert_int_equal(code(w, node == 3 ? 2 : 3, COMMAND_NODE_RENEW, &renew), 0);
	row = state_node(w->m.s, node);
	assert_int_equal(code(w, node == 3 ? 2 : 3, COMMAND_NODE_LOST,
			      &(struct cmd_node_lost){node, row->epoch, row->renewed_ms}),
			 0);
}

static void test_lost_nodes(void **unused)
{
	struct world w;

	(void)unused;
	open_world(&w);
	assert_int_equal(move(&w, 2), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	lose(&w, 2);
	assert_int_equal(box(&w)->target, 0);
	assert_int_equal(box(&w)->rest, REST_WAKING);
	assert_int_equal(box(&w)->node, 1);
	lose(&w, 1);
	assert_null(box(&w));
	assert_null(state_session_by_generation(w.m.s, w.generation));
	machine_done(&w.m);
}

static void test_closing_takes_the_target_away(void **unused)
{
	struct world w;
	struct cmd_session_closing closing;

	(void)unused;
	open_world(&w);
	closing = (struct cmd_session_closing){w.pool, w.generation, REAP_STOPPED};
	assert_int_equal(move(&w, 2), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	assert_int_equal(code(&w, 3, COMMAND_SESSION_CLOSING, &closing), 0);
	assert_int_equal(reserved(&w, 2), 0);
	assert_int_equal(save(&w, 2, COMMAND_SANDBOX_MOVED, box(&w)->save), -EPERM);
	assert_int_equal(code(&w, 1, COMMAND_SESSION_CLOSED,
			      &(struct cmd_session_closed){.pool = w.pool, .generation = w.generation}),
			 0);
	assert_int_equal(reserved(&w, 1), 0);
	machine_done(&w.m);
}

static void test_a_sleeper_moves(void **unused)
{
	struct world w;

	(void)unused;
	open_world(&w);
	assert_int_equal(on_session(&w, COMMAND_SESSION_SUSPEND), 0);
	assert_int_equal(save(&w, 1, COMMAND_SANDBOX_SAVED, box(&w)->save), 0);
	assert_int_equal(move(&w, 3), 0);
	assert_int_equal(reserved(&w, 3), 0);
	assert_int_equal(on_session(&w, COMMAND_SESSION_WAKE), -EAGAIN);
	assert_true(machine_open(&w.m, w.pool, "user-1").waiting);
	assert_true(box(&w)->asleep);
	assert_int_equal(save(&w, 3, COMMAND_SANDBOX_MOVED, box(&w)->save), 0);
	assert_int_equal(box(&w)->node, 3);
	assert_true(box(&w)->asleep);
	assert_int_equal(on_session(&w, COMMAND_SESSION_WAKE), 0);
	assert_int_equal(reserved(&w, 3), MEMORY);
	machine_done(&w.m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sleep_and_wake),
		cmocka_unit_test(test_no_room_to_wake),
		cmocka_unit_test(test_move),
		cmocka_unit_test(test_kept_excludes_moved),
		cmocka_unit_test(test_lost_nodes),
		cmocka_unit_test(test_closing_takes_the_target_away),
		cmocka_unit_test(test_a_sleeper_moves),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
