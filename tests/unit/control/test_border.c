/* What another node may send: every type is decided, and a worker changes nothing that is not its own. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include "control/links/border.h"
#include "wire/messages.h"

static void test_every_type_is_decided(void **state)
{
	(void)state;
	for (int type = 0; type < MSG_TYPES; type++) {
		if (!border_knows_message((uint16_t)type))
			fail_msg("message %s: border.c does not say who may send it",
				 message_type_name[type]);
	}
	for (int type = 0; type < COMMAND_TYPES; type++) {
		if (!border_knows_command((uint8_t)type))
			fail_msg("command %d: border.c does not say who may send it", type);
	}
	assert_false(border_lets_message(true, MSG_TYPES));
	assert_non_null(border_refuses_command(true, 1, &(struct command){.type = COMMAND_TYPES}));
	assert_non_null(border_refuses_command(true, 1, &(struct command){.type = COMMAND_NONE}));
}

/* What passes between the parts of one node is believed by them. */
static void test_nobody_sends_what_is_inside(void **state)
{
	static const uint16_t inside[] = {MSG_TIMER,  MSG_LEADING, MSG_CHANGED, MSG_PROPOSED,
					  MSG_DRIVEN, MSG_EXITED,  MSG_ADOPTED, MSG_POOL_PUT};

	(void)state;
	for (size_t i = 0; i < sizeof inside / sizeof *inside; i++)
		assert_false(border_lets_message(true, inside[i]));
	assert_true(border_lets_message(true, MSG_OPENED));
	assert_false(border_lets_message(false, MSG_OPENED));
	assert_true(border_lets_message(false, MSG_OPEN));
	assert_true(border_lets_frame(true, PEER_FEED));
	assert_false(border_lets_frame(false, PEER_FEED));
	assert_false(border_lets_frame(true, PEER_FRAMES));
}

static const char *join(bool voter, uint64_t from, uint64_t id, bool as_voter)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct cmd_node_join body = {.id = id, .voter = as_voter};

	codec_encode(&bytes, command_body_codec[COMMAND_NODE_JOIN], &body);
	return border_refuses_command(
		voter, from,
		&(struct command){.type = COMMAND_NODE_JOIN, .node = from, .body = buf_str(&bytes)});
}

static void test_in_its_own_name(void **state)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct cmd_node_images images = {.node = 4};
	struct command list = {.type = COMMAND_NODE_IMAGES};

	(void)state;
	assert_null(join(false, 4, 4, false));
	assert_non_null(join(false, 4, 4, true));
	assert_non_null(join(false, 4, 1, false));
	assert_null(join(true, 1, 1, true));
	assert_non_null(join(true, 1, 2, true));
	codec_encode(&bytes, command_body_codec[COMMAND_NODE_IMAGES], &images);
	list.body = buf_str(&bytes);
	assert_null(border_refuses_command(false, 4, &list));
	assert_non_null(border_refuses_command(true, 1, &list));
}

static void test_workers_report(void **state)
{
	static const uint8_t reports[] = {
		COMMAND_SANDBOX_READY, COMMAND_SANDBOX_GONE,  COMMAND_SESSION_CLOSED, COMMAND_SESSION_CLOSING,
		COMMAND_NODE_KEYS,     COMMAND_SANDBOX_SAVED, COMMAND_SANDBOX_KEPT,   COMMAND_SANDBOX_MOVED,
		COMMAND_SANDBOX_AWAKE, COMMAND_NODE_ABLE};
	unsigned allowed = 0;

	(void)state;
	for (size_t i = 0; i < sizeof reports; i++)
		assert_null(border_refuses_command(false, 4, &(struct command){.type = reports[i]}));
	for (int type = 0; type < COMMAND_TYPES; type++) {
		bool lets =
			border_refuses_command(false, 4, &(struct command){.type = (uint8_t)type}) == NULL;

		assert_int_equal(lets, command_of_workers((uint8_t)type)); /* apply refuses the others too */
		allowed += lets;
	}
	assert_int_equal(allowed, sizeof reports + 2); /* joining and images: in its own name */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_type_is_decided),
		cmocka_unit_test(test_nobody_sends_what_is_inside),
		cmocka_unit_test(test_in_its_own_name),
		cmocka_unit_test(test_workers_report),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
