/* The proposer against real tables and a log that loses, doubles and forwards: each command is executed once and answered
 * once, whoever leads. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <string.h>

#include "control/proposer.h"

#define ANSWERS_MAX 2048

struct answer {
	uint64_t correlation;
	int code;
};

struct fixture {
	struct state *state;
	struct proposer *p;
	uint64_t index;
	struct buf entry, forwarded; /* the last of each */
	uint64_t leader;             /* of the last forward */
	unsigned n_entries, n_forwards;
	bool lose;
	struct answer answers[ANSWERS_MAX];
	unsigned n_answers;
	bool full;
	unsigned n_refusals;
	struct buf refused; /* the last refusal */
	char message[256];  /* of the last answer */
};

static void on_done(void *context, const struct address *to, uint64_t correlation, int code,
		    const struct result *result)
{
	struct fixture *f = context;

	(void)to;
	f->message[0] = '\0';
	if (result != NULL)
		(void)str_copy(result->message, f->message, sizeof f->message);
	assert_true(f->n_answers < ANSWERS_MAX);
	f->answers[f->n_answers++] = (struct answer){correlation, code};
}

static int on_propose(void *context, const void *entry, size_t n)
{
	struct fixture *f = context;

	f->n_entries++;
	buf_clear(&f->entry);
	buf_add(&f->entry, entry, n);
	return f->lose ? -EAGAIN : 0;
}

static int on_forward(void *context, uint64_t leader, const void *p, size_t n)
{
	struct fixture *f = context;

	f->n_forwards++;
	f->leader = leader;
	buf_clear(&f->forwarded);
	buf_add(&f->forwarded, p, n);
	return f->lose ? -ENOTCONN : 0;
}

static const char *on_full(void *context)
{
	return ((struct fixture *)context)->full ? "the disk of node 1 is nearly full" : NULL;
}

static void on_refuse(void *context, uint64_t node, const void *p, size_t n)
{
	struct fixture *f = context;

	assert_int_equal(node, 2);
	f->n_refusals++;
	buf_clear(&f->refused);
	buf_add(&f->refused, p, n);
}

/* Commits the last entry. */
static void commit(struct fixture *f)
{
	struct applied applied;
	struct err err = {0};

	assert_int_equal(state_apply(f->state, ++f->index, f->entry.p, f->entry.n, &applied, &err), 0);
	proposer_applied(f->p, &applied);
}

static void submit_join(struct fixture *f, uint64_t correlation)
{
	struct cmd_node_join join = {.id = 1,
				     .name = STR("a"),
				     .raft_address = STR("127.0.0.1:1"),
				     .peer_address = STR("127.0.0.1:2"),
				     .api_address = STR("https://a"),
				     .version = STR("1"),
				     .voter = true,
				     .cpu_milli = 4000,
				     .memory_bytes = 1ull << 32};

	proposer_submit(f->p, COMMAND_NODE_JOIN, &join, &(struct address){ADDRESS_CONTROL, 1, 0}, correlation,
			0);
}

static void submit_cordon(struct fixture *f, uint64_t correlation, uint64_t deadline_ms)
{
	struct msg_node_order cordon = {.node = 1, .order = NODE_CORDON};

	proposer_submit(f->p, COMMAND_NODE_ORDER, &cordon, &(struct address){ADDRESS_CONTROL, 1, 0},
			correlation, deadline_ms);
}

static int set_up(void **state)
{
	static struct fixture f;
	struct settings settings = {.cooldown_ms_min = 1000,
				    .queue_ms = 1000,
				    .lease_ms = 15000,
				    .lost_ms = 20000,
				    .operation_kept_ms = 86400000,
				    .overcommit_cpu = 8,
				    .overcommit_memory = 1,
				    .environment = STR("e"),
				    .region = STR("r"),
				    .tenant = STR("t")};
	struct cmd_cluster_init init = {.id = STR("00000000-0000-4000-8000-000000000001"),
					.settings = settings};

	f = (struct fixture){.state = state_new()};
	struct proposer_options options = {.node = 1,
					   .state = f.state,
					   .done = on_done,
					   .propose = on_propose,
					   .forward = on_forward,
					   .full = on_full,
					   .refuse = on_refuse,
					   .context = &f};

	f.p = proposer_new(&options);
	proposer_leader(f.p, 1, true);
	proposer_submit(f.p, COMMAND_CLUSTER_INIT, &init, &(struct address){ADDRESS_CONTROL, 1, 0}, 900, 0);
	proposer_turn(f.p, 1000, 5000000);
	commit(&f);
	submit_join(&f, 901);
	proposer_turn(f.p, 1001, 5000001);
	commit(&f);
	assert_int_equal(f.n_answers, 2);
	assert_int_equal(f.answers[0].code, 0);
	assert_int_equal(f.answers[1].code, 0);
	proposer_joined(f.p, state_node(f.state, 1)->epoch);
	f.n_answers = f.n_entries = 0;
	*state = &f;
	return 0;
}

static int tear_down(void **state)
{
	struct fixture *f = *state;

	proposer_free(f->p);
	state_free(f->state);
	buf_done(&f->entry);
	buf_done(&f->forwarded);
	return 0;
}

static void test_one_turn_one_entry(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 1; i <= 20; i++)
		submit_cordon(f, i, 0);
	assert_int_equal(f->n_entries, 0);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries, 1);
	commit(f);
	assert_int_equal(f->n_answers, 20);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(f->answers[i].correlation, i + 1);
		assert_int_equal(f->answers[i].code, 0);
	}
}

/* The entry was lost; what is sent again has the same sequence, so that both copies may commit. */
static void test_sent_again_executed_once(void **state)
{
	struct fixture *f = *state;
	CLEANUP_BUF struct buf first = {0};

	submit_cordon(f, 1, 0);
	proposer_turn(f->p, 2000, 5001000);
	buf_add(&first, f->entry.p, f->entry.n);
	proposer_turn(f->p, 2100, 5001100);
	assert_int_equal(f->n_entries, 1);
	proposer_turn(f->p, 2000 + 5000, 5006000);
	assert_int_equal(f->n_entries, 2);
	commit(f);
	uint64_t sequence = state_node(f->state, 1)->sequence;

	buf_clear(&f->entry);
	buf_add(&f->entry, first.p, first.n);
	commit(f);
	assert_int_equal(f->n_answers, 1);
	assert_int_equal(state_node(f->state, 1)->sequence, sequence);
}

static void test_new_leader_gets_it_at_once(void **state)
{
	struct fixture *f = *state;

	proposer_leader(f->p, 0, false);
	submit_cordon(f, 1, 0);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries + f->n_forwards, 0);
	proposer_leader(f->p, 2, false);
	proposer_turn(f->p, 2001, 5001001);
	assert_int_equal(f->n_forwards, 1);
	assert_int_equal(f->leader, 2);
	proposer_leader(f->p, 3, false);
	proposer_turn(f->p, 2002, 5001002);
	assert_int_equal(f->n_forwards, 2);
	assert_int_equal(f->leader, 3);
}

/* What could not be handed over is handed over the next turn. */
static void test_refused_hand_over(void **state)
{
	struct fixture *f = *state;

	f->lose = true;
	submit_cordon(f, 1, 0);
	proposer_turn(f->p, 2000, 5001000);
	f->lose = false;
	proposer_turn(f->p, 2001, 5001001);
	assert_int_equal(f->n_entries, 2);
	commit(f);
	assert_int_equal(f->n_answers, 1);
}

static void test_a_new_epoch_sends_nothing_twice(void **state)
{
	struct fixture *f = *state;

	submit_cordon(f, 7, 0);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries, 1);
	submit_cordon(f, 8, 0);
	proposer_joined(f->p, 1000000);
	assert_int_equal(f->n_answers, 1);
	assert_int_equal(f->answers[0].correlation, 7);
	assert_int_equal(f->answers[0].code, -EINPROGRESS);
	proposer_turn(f->p, 2001, 5001001);
	assert_int_equal(f->n_entries, 2);
	proposer_turn(f->p, 9000, 5008000);
	assert_int_equal(f->n_answers, 1);
}

static void test_deadline(void **state)
{
	struct fixture *f = *state;

	submit_cordon(f, 1, 3000);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(proposer_next_ms(f->p), 3000);
	proposer_turn(f->p, 3000, 5002000);
	assert_int_equal(f->n_answers, 1);
	assert_int_equal(f->answers[0].code, -EINPROGRESS);
	commit(f); /* it is executed after all; nobody is told twice */
	assert_int_equal(f->n_answers, 1);
	assert_true(state_node(f->state, 1)->cordoned);
}

static void test_too_many(void **state)
{
	struct fixture *f = *state;

	for (uint64_t i = 0; i < 600; i++)
		submit_cordon(f, i + 1, 0);
	assert_int_equal(f->n_answers, 600 - 512);
	assert_int_equal(f->answers[0].code, -ENOBUFS);
}

/* One command, as node 2 hands it over. */
static void forward_of_node_2(struct buf *bytes)
{
	struct msg_node_order cordon = {.node = 1, .order = NODE_CORDON};
	CLEANUP_BUF struct buf body = {0};
	struct command command = {
		.type = COMMAND_NODE_ORDER, .feature = FEATURE_LEVEL, .node = 2, .epoch = 7, .sequence = 1};
	struct forward forward = {.commands = &command, .n_commands = 1};

	codec_encode(&body, command_body_codec[COMMAND_NODE_ORDER], &cordon);
	command.body = buf_str(&body);
	codec_encode(bytes, &forward_codec, &forward);
}

static void test_forwarded(void **state)
{
	struct fixture *f = *state;
	CLEANUP_BUF struct buf bytes = {0};
	struct err err = {0};

	forward_of_node_2(&bytes);
	assert_int_equal(proposer_forwarded(f->p, 3, bytes.p, bytes.n, &err), -EPERM);
	assert_non_null(strstr(err.message, "node 3"));
	assert_int_equal(proposer_forwarded(f->p, 2, bytes.p, bytes.n - 1, &err), -EBADMSG);
	assert_int_equal(proposer_forwarded(f->p, 2, bytes.p, bytes.n, &err), 0);
	submit_cordon(f, 1, 0);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries, 1);
	commit(f);
	assert_int_equal(f->n_answers, 1);
}

/* Others know of an election before the elected may propose: what they send meanwhile need not come again. */
static void test_forwarded_to_the_elected(void **state)
{
	struct fixture *f = *state;
	CLEANUP_BUF struct buf bytes = {0};
	struct err err = {0};

	forward_of_node_2(&bytes);
	proposer_leader(f->p, 1, false);
	assert_int_equal(proposer_forwarded(f->p, 2, bytes.p, bytes.n, &err), 0);
	submit_cordon(f, 1, 0);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries + f->n_forwards, 0);
	proposer_leader(f->p, 1, true);
	proposer_turn(f->p, 2001, 5001001);
	assert_int_equal(f->n_entries, 1);
	struct applied applied;

	assert_int_equal(state_apply(f->state, ++f->index, f->entry.p, f->entry.n, &applied, &err), 0);
	assert_int_equal(applied.n_results, 2);
	assert_int_equal(applied.commands[0].node, 2);

	/* One that lost to another forgets them. */
	proposer_applied(f->p, &applied);
	proposer_leader(f->p, 1, false);
	assert_int_equal(proposer_forwarded(f->p, 2, bytes.p, bytes.n, &err), 0);
	proposer_leader(f->p, 3, false);
	proposer_leader(f->p, 1, true);
	proposer_turn(f->p, 2002, 5001002);
	assert_int_equal(f->n_entries, 1);
}

/* One of these in the log would stop all nodes, and again at each start. */
static void test_what_nobody_knows_is_not_proposed(void **state)
{
	struct fixture *f = *state;
	struct command commands[] = {
		{.type = COMMAND_TYPES, .feature = FEATURE_LEVEL, .node = 2, .epoch = 7, .sequence = 1},
		{.type = 255, .feature = FEATURE_LEVEL, .node = 2, .epoch = 7, .sequence = 1},
		{.type = COMMAND_NODE_ORDER,
		 .feature = FEATURE_LEVEL + 1,
		 .node = 2,
		 .epoch = 7,
		 .sequence = 1}};

	for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
		CLEANUP_BUF struct buf bytes = {0};
		struct forward forward = {.commands = &commands[i], .n_commands = 1};
		struct err err = {0};

		codec_encode(&bytes, &forward_codec, &forward);
		assert_int_equal(proposer_forwarded(f->p, 2, bytes.p, bytes.n, &err), -EPROTO);
	}
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries, 0);
}

static void submit_boot(struct fixture *f, uint64_t correlation)
{
	struct cmd_sandbox_boot boot = {.pool = 1, .revision = 1, .node = 1};

	proposer_submit(f->p, COMMAND_SANDBOX_BOOT, &boot, &(struct address){ADDRESS_CONTROL, 1, 0},
			correlation, 0);
}

/* On a disk that is nearly full the leader takes what ends something, and refuses what begins something, also of others. */
static void test_full(void **state)
{
	struct fixture *f = *state;
	CLEANUP_BUF struct buf bytes = {0};
	struct err err = {0};

	f->full = true;
	submit_boot(f, 1);
	assert_int_equal(f->n_answers, 1);
	assert_int_equal(f->answers[0].code, -ENOSPC);
	assert_non_null(strstr(f->message, "node 1 is nearly full"));
	submit_cordon(f, 2, 0);
	proposer_turn(f->p, 2000, 5001000);
	assert_int_equal(f->n_entries, 1);
	commit(f);
	assert_int_equal(f->answers[1].code, 0);

	/* What a follower forwards, as this very node would as a follower of itself. */
	proposer_leader(f->p, 3, false);
	submit_boot(f, 3);
	proposer_turn(f->p, 2100, 5001100);
	assert_int_equal(f->n_forwards, 1);
	struct forward forward;
	CLEANUP_ARENA struct arena arena = {0};

	assert_int_equal(codec_decode(f->forwarded.p, f->forwarded.n, &forward_codec, &arena, &forward, &err),
			 0);
	assert_int_equal(forward.n_commands, 1);
	forward.commands[0].node = 2;
	codec_encode(&bytes, &forward_codec, &forward);
	proposer_leader(f->p, 1, true);
	assert_int_equal(proposer_forwarded(f->p, 2, bytes.p, bytes.n, &err), 0);
	assert_int_equal(f->n_refusals, 1);

	struct refusal refusal;

	assert_int_equal(codec_decode(f->refused.p, f->refused.n, &refusal_codec, &arena, &refusal, &err), 0);
	assert_int_equal(refusal.n_commands, 1);
	assert_int_equal(refusal.commands[0].body.n, 0);
	refusal.commands[0].node = 1;
	buf_clear(&bytes);
	codec_encode(&bytes, &refusal_codec, &refusal);
	assert_int_equal(proposer_refused(f->p, bytes.p, bytes.n - 1, &err), -EBADMSG);
	assert_int_equal(proposer_refused(f->p, bytes.p, bytes.n, &err), 0);
	assert_int_equal(f->n_answers, 3);
	assert_int_equal(f->answers[2].correlation, 3);
	assert_int_equal(f->answers[2].code, -ENOSPC);
	/* Once more is nobody's. */
	assert_int_equal(proposer_refused(f->p, bytes.p, bytes.n, &err), 0);
	assert_int_equal(f->n_answers, 3);

	/* What went out twice may have been carried out: nobody can say that it was refused. */
	proposer_leader(f->p, 3, false);
	submit_boot(f, 4);
	proposer_turn(f->p, 3000, 5002000);
	proposer_turn(f->p, 9000, 5008000);
	assert_int_equal(f->n_forwards, 3);
	refusal.commands[0].sequence++;
	buf_clear(&bytes);
	codec_encode(&bytes, &refusal_codec, &refusal);
	assert_int_equal(proposer_refused(f->p, bytes.p, bytes.n, &err), 0);
	assert_int_equal(f->answers[3].code, -EINPROGRESS);
	buf_done(&f->refused);
}

/* Wall clocks jump; cluster time does not go back and goes on by the steady clock. */
static void test_cluster_time(void **state)
{
	struct fixture *f = *state;
	uint64_t before = state_cluster(f->state)->time_ms;

	submit_cordon(f, 1, 0);
	proposer_turn(f->p, 1500, 1);
	commit(f);
	assert_int_equal(state_cluster(f->state)->time_ms, before + 499);
	proposer_leader(f->p, 0, false);
	proposer_leader(f->p, 1, true);
	submit_cordon(f, 2, 0);
	proposer_turn(f->p, 1600, 1);
	commit(f);
	assert_int_equal(state_cluster(f->state)->time_ms, before + 499);
}

#define CASE(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		CASE(test_one_turn_one_entry),
		CASE(test_sent_again_executed_once),
		CASE(test_new_leader_gets_it_at_once),
		CASE(test_refused_hand_over),
		CASE(test_a_new_epoch_sends_nothing_twice),
		CASE(test_deadline),
		CASE(test_too_many),
		CASE(test_forwarded),
		CASE(test_forwarded_to_the_elected),
		CASE(test_what_nobody_knows_is_not_proposed),
		CASE(test_full),
		CASE(test_cluster_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
