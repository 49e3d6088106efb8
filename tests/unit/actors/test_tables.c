/* Walks every actor's table: a hole, an edge to nowhere, a state or message without a name fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "cast/cast.h"

static void test_every_cell_is_written(void **state)
{
	unsigned n_cells = 0, n_on = 0;

	(void)state;
	for (size_t i = 0; i < CAST_CLASSES; i++) {
		const struct sm_def *def = cast_classes[i]->sm;
		char text[256];

		if (sm_wrong(def, text, sizeof text) != NULL)
			fail_msg("%s", text);
		for (uint8_t s = 0; s < def->n_states; s++) {
			for (uint8_t m = 0; m < def->n_messages; m++) {
				n_cells++;
				n_on += def->cells[s][def->messages[m]].kind == SM_ON;
			}
		}
	}
	print_message("%u cells in %u tables, %u with handlers\n", n_cells, CAST_CLASSES, n_on);
	assert_true(n_on > 100);
}

static void test_names_are_there(void **state)
{
	(void)state;
	for (size_t i = 1; i < MSG_TYPES; i++)
		assert_non_null(message_type_name[i]);
	for (size_t i = 0; i < ADDRESS_KINDS; i++)
		assert_non_null(address_kind_name[i]);
	for (size_t i = 0; i < CAST_CLASSES; i++) {
		for (size_t k = 0; k < i; k++) {
			assert_int_not_equal(cast_classes[i]->kind, cast_classes[k]->kind);
			assert_string_not_equal(cast_classes[i]->sm->name, cast_classes[k]->sm->name);
		}
	}
}

/* Every state but the first is reached from the first, along the edges of the tables. */
static void test_states_are_reachable(void **state)
{
	(void)state;
	for (size_t i = 0; i < CAST_CLASSES; i++) {
		const struct sm_def *def = cast_classes[i]->sm;
		uint32_t reached = 1, before = 0;

		while (reached != before) {
			before = reached;
			for (uint8_t s = 0; s < def->n_states; s++) {
				for (uint8_t m = 0; m < def->n_messages && (reached & SM_TO(s)) != 0; m++)
					reached |= def->cells[s][def->messages[m]].to;
			}
		}
		if (reached != (SM_TO(def->n_states) - 1))
			fail_msg("%s: states %x of %x are reached", def->name, reached,
				 SM_TO(def->n_states) - 1);
	}
}

/* The checker itself: it must catch what it is for. */
static uint8_t nothing(struct actor *a, struct context *c, const struct message *m)
{
	(void)a;
	(void)c;
	(void)m;
	return 0;
}

static void test_bad_tables_are_caught(void **state)
{
	static const uint8_t messages[] = {MSG_TIMER, MSG_OPEN};
	static const char *const names[] = {"only"};
	static const struct sm_cell hole[1][MSG_TYPES] = {[0] = {[MSG_TIMER] = ON(nothing, 1)}};
	static const struct sm_cell edge[1][MSG_TYPES] = {
		[0] = {[MSG_TIMER] = ON(nothing, 2), [MSG_OPEN] = IGNORE}};
	static const struct sm_cell extra[1][MSG_TYPES] = {
		[0] = {[MSG_TIMER] = IGNORE, [MSG_OPEN] = REFUSE, [MSG_STOP] = REFUSE}};
	static const struct sm_cell good[1][MSG_TYPES] = {
		[0] = {[MSG_TIMER] = ON(nothing, 1), [MSG_OPEN] = DEFER}};
	struct sm_def def = {.name = "x",
			     .states = names,
			     .n_states = 1,
			     .final = 1,
			     .messages = messages,
			     .n_messages = 2};
	char text[256];

	(void)state;
	def.cells = hole;
	assert_non_null(sm_wrong(&def, text, sizeof text));
	assert_string_equal(text, "x: only x open is a hole");
	def.cells = edge;
	assert_non_null(sm_wrong(&def, text, sizeof text));
	def.cells = extra;
	assert_non_null(sm_wrong(&def, text, sizeof text));
	def.cells = good;
	assert_null(sm_wrong(&def, text, sizeof text));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cell_is_written),
		cmocka_unit_test(test_names_are_there),
		cmocka_unit_test(test_states_are_reachable),
		cmocka_unit_test(test_bad_tables_are_caught),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
