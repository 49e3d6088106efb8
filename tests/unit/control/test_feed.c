/* A voter's feeder and a worker's intake over a wire that holds, drops and cuts: the worker's tables always become the voter's,
 * a slow worker costs no more than its window, and what was not asked for is not taken. */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdint.h>
#include <cmocka.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/feed/feeder.h"
#include "control/feed/intake.h"
#include "core/log.h"
#include "machine/machine.h"

#define VOTERS 3
#define WORKER 7
#define FRAMES 4096

struct frame {
	uint64_t from; /* a voter's piece; 0: an ask of the worker */
	uint64_t to;
	struct buf bytes;
};

static struct loop *loop;

struct fixture {
	struct machine m; /* all voters have these tables */
	struct feeder *feeders[VOTERS + 1];
	struct intake *intake;
	struct state *worker;
	struct frame wire[FRAMES];
	unsigned n, dropped;
	uint64_t now_ms, leader, incarnation;
	size_t under_way, under_way_max; /* bytes of pieces */
	bool up[VOTERS + 1], hold;
	unsigned drop_next; /* so many pieces */
	char tag_key[32];
	struct buf whole; /* a snapshot that is being restored, and for how many turns */
	unsigned restoring;
	bool corrupt; /* the next one */
};

struct voter {
	struct fixture *f;
	uint64_t id;
};
static struct voter voters[VOTERS + 1];

static void post(struct fixture *f, uint64_t from, uint64_t to, const void *p, size_t n)
{
	assert_true(f->n < FRAMES);
	struct frame *x = &f->wire[f->n++];

	*x = (struct frame){.from = from, .to = to};
	buf_add(&x->bytes, p, n);
}

static int on_send(void *context, uint64_t worker, const void *p, size_t n)
{
	struct voter *v = context;

	assert_int_equal(worker, WORKER);
	if (!v->f->up[v->id])
		return -ENOTCONN;
	v->f->under_way += n;
	if (v->f->under_way > v->f->under_way_max)
		v->f->under_way_max = v->f->under_way;
	post(v->f, v->id, worker, p, n);
	return 0;
}

static void on_leader(void *context, uint64_t *ret_leader, uint64_t *ret_term)
{
	*ret_leader = ((struct voter *)context)->f->leader;
	*ret_term = 5;
}

static uint64_t on_next_voter(void *context, uint64_t voter)
{
	struct fixture *f = context;

	for (uint64_t i = 1; i <= VOTERS; i++) {
		uint64_t next = (voter + i - 1) % VOTERS + 1;

		if (f->up[next])
			return next;
	}
	return 0;
}

static int on_ask(void *context, uint64_t voter, const void *p, size_t n)
{
	struct fixture *f = context;

	if (!f->up[voter])
		return -ENOTCONN;
	post(f, 0, voter, p, n);
	return 0;
}

static void on_tables(void *context, uint64_t *ret_incarnation, uint64_t *ret_index, uint64_t *ret_time_ms)
{
	struct fixture *f = context;
	uint64_t known = state_cluster(f->worker)->incarnation;

	*ret_incarnation = known != 0 && f->incarnation != 0 ? f->incarnation : known;
	*ret_index = state_index(f->worker);
	*ret_time_ms = state_cluster(f->worker)->time_ms;
}

static int on_apply(void *context, uint64_t index, const void *p, size_t n, struct err *err)
{
	struct applied applied;

	return state_apply(((struct fixture *)context)->worker, index, p, n, &applied, err);
}

static void on_restore(void *context, struct buf *bytes)
{
	struct fixture *f = context;

	assert_int_equal(f->whole.n, 0); /* one at a time */
	f->whole = *bytes;
	if (f->corrupt)
		f->whole.p[f->whole.n / 2] ^= 1;
	f->corrupt = false;
}

/* Tables are made of a snapshot some turns after it came. */
static void restore(struct fixture *f)
{
	struct err err = {0};
	int r;

	if (f->whole.n == 0 || f->restoring++ < 3)
		return;
	r = state_restore(f->worker, f->whole.p, f->whole.n, &err);
	buf_done(&f->whole);
	f->whole = (struct buf){0};
	f->restoring = 0;
	intake_restored(f->intake, r < 0 ? err.message : NULL, f->now_ms);
}

static void on_tag_key(void *context, struct str key)
{
	struct fixture *f = context;

	assert_int_equal(key.n, sizeof f->tag_key);
	memcpy(f->tag_key, key.p, key.n);
}

static struct fixture *make(uint64_t ring_bytes)
{
	struct fixture *f = calloc(1, sizeof *f);
	struct err err = {0};

	assert_non_null(f);
	machine_init(&f->m);
	machine_start(&f->m, 3);
	f->m.quiet = true;
	f->worker = state_new();
	f->leader = 1;
	f->now_ms = 1000;
	for (uint64_t i = 1; i <= VOTERS; i++) {
		voters[i] = (struct voter){f, i};
		struct feeder_options o = {.loop = loop,
					   .state = f->m.s,
					   .ring_bytes = ring_bytes,
					   .send = on_send,
					   .leader = on_leader,
					   .tag_key = STR("0123456789abcdef0123456789abcdef"),
					   .context = &voters[i]};

		assert_int_equal(feeder_new(&o, &f->feeders[i], &err), 0);
		f->up[i] = true;
	}
	struct intake_options o = {.number = 100,
				   .next_voter = on_next_voter,
				   .ask = on_ask,
				   .tables = on_tables,
				   .apply = on_apply,
				   .restore = on_restore,
				   .tag_key = on_tag_key,
				   .context = f};

	f->intake = intake_new(&o);
	return f;
}

static void end(struct fixture *f)
{
	for (uint64_t i = 1; i <= VOTERS; i++)
		feeder_free(f->feeders[i]);
	for (unsigned i = 0; i < f->n; i++)
		buf_done(&f->wire[i].bytes);
	buf_done(&f->whole);
	intake_free(f->intake);
	state_free(f->worker);
	machine_done(&f->m);
	loop_run_once(loop);
	free(f);
}

/* One entry, on all voters. */
static void commit(struct fixture *f, size_t bytes)
{
	static char document[200000];
	struct msg_pool_put put = machine_put("p", 4, 1);

	memset(document, 'x', sizeof document);
	if (bytes > 0)
		put.document = (struct str){document, bytes};
	f->m.now_ms += 10;
	machine_do(&f->m, 1, COMMAND_POOL_PUT, &put);
	for (uint64_t i = 1; i <= VOTERS; i++)
		feeder_applied(f->feeders[i], f->m.index, f->m.entry.p, f->m.entry.n);
}

static void deliver(struct fixture *f, struct frame *x)
{
	struct err err = {0};

	if (x->from == 0) {
		if (f->up[x->to])
			assert_int_equal(feeder_asked(f->feeders[x->to], WORKER, x->bytes.p, x->bytes.n,
						      f->now_ms, &err),
					 0);
	} else {
		f->under_way -= x->bytes.n;
		if (f->drop_next > 0)
			f->drop_next--;
		else if (f->up[x->from])
			intake_received(f->intake, x->from, x->bytes.p, x->bytes.n, f->now_ms);
	}
	buf_done(&x->bytes);
}

/* What is on the wire arrives; while it is held, asks alone. */
static void arrive(struct fixture *f)
{
	unsigned n = f->n;
	static struct frame frames[FRAMES];

	memcpy(frames, f->wire, n * sizeof *frames);
	f->n = 0;
	for (unsigned i = 0; i < n; i++) {
		if (f->hold && frames[i].from != 0)
			f->wire[f->n++] = frames[i];
		else
			deliver(f, &frames[i]);
	}
}

static void turn(struct fixture *f, unsigned ms)
{
	f->now_ms += ms;
	for (uint64_t i = 1; i <= VOTERS; i++) {
		if (f->up[i])
			feeder_turn(f->feeders[i], f->now_ms);
	}
	arrive(f);
	arrive(f);
	restore(f);
}

static bool same(const struct fixture *f)
{
	return state_index(f->worker) == state_index(f->m.s) && state_hash(f->worker) == state_hash(f->m.s);
}

/* Turns, with a tick each 250 ms, until the worker has all; a thread may have to make its pieces meanwhile. */
static void settle(struct fixture *f)
{
	for (unsigned i = 0; i < 4000 && !same(f); i++) {
		if (i % 25 == 0)
			intake_tick(f->intake, f->now_ms);
		turn(f, 10);
		if (!same(f) && f->n == 0)
			usleep(200);
	}
	assert_true(same(f));
}

static struct feeder_counts counts(const struct fixture *f, uint64_t voter)
{
	struct feeder_counts ret;

	feeder_count(f->feeders[voter], &ret);
	return ret;
}

static void test_from_nothing(void **state)
{
	struct fixture *f = make(64 << 20);

	(void)state;
	for (int i = 0; i < 20; i++)
		commit(f, 150000); /* several pieces */
	settle(f);
	assert_int_equal(intake_voter(f->intake), 1);
	assert_int_equal(intake_leader(f->intake), 1);
	assert_int_equal(intake_term(f->intake), 5);
	assert_memory_equal(f->tag_key, "0123456789abcdef0123456789abcdef", 32);
	for (int i = 0; i < 300; i++) {
		commit(f, 0);
		turn(f, 1);
	}
	settle(f);
	assert_int_equal(counts(f, 1).snapshots, 1);
	assert_int_equal(intake_counts(f->intake).restores, 1);
	assert_int_equal(intake_counts(f->intake).entries, 300);
	end(f);
}

/* Another voter goes on where the first one was: its ring reaches back. */
static void test_another_voter(void **state)
{
	struct fixture *f = make(64 << 20);
	struct cmd_node_join join = {
		.id = WORKER, .name = STR("w"), .cpu_milli = 1000, .memory_bytes = 1 << 30, .voter = false};

	(void)state;
	machine_do(&f->m, WORKER, COMMAND_NODE_JOIN, &join);
	turn(f, 1); /* all voters know that there are workers */
	settle(f);
	for (int i = 0; i < 10; i++)
		commit(f, 100);
	settle(f);
	f->up[1] = false;
	intake_peer(f->intake, 1, false, f->now_ms);
	for (int i = 0; i < 10; i++)
		commit(f, 100);
	settle(f);
	assert_int_equal(intake_voter(f->intake), 2);
	assert_int_equal(counts(f, 2).snapshots, 0);
	/* A voter that was started anew has no ring: it sends a snapshot. */
	f->up[1] = true;
	f->up[2] = f->up[3] = false;
	intake_peer(f->intake, 2, false, f->now_ms);
	feeder_restored(f->feeders[1]);
	settle(f);
	assert_int_equal(intake_voter(f->intake), 1);
	end(f);
}

static void test_a_slow_worker_costs_a_window(void **state)
{
	struct fixture *f = make(2 << 20);

	(void)state;
	settle(f);
	f->hold = true;
	for (int i = 0; i < 100; i++) {
		commit(f, 100000);
		turn(f, 1);
	}
	assert_true(f->under_way_max < FEED_WINDOW_BYTES + CODEC_BYTES_MAX);
	assert_true(counts(f, 1).ring_bytes <= 2 << 20);
	f->hold = false;
	settle(f);
	assert_true(counts(f, 1).behind >= 1);
	assert_true(intake_counts(f->intake).restores >= 2);
	end(f);
}

static void test_what_was_lost_comes_again(void **state)
{
	struct fixture *f = make(64 << 20);

	(void)state;
	for (int i = 0; i < 20; i++)
		commit(f, 150000);
	intake_tick(f->intake, f->now_ms);
	for (int i = 0; i < 50 && f->under_way == 0; i++) {
		turn(f, 10);
		usleep(200);
	}
	f->drop_next = 2; /* of the snapshot */
	settle(f);
	commit(f, 100);
	f->drop_next = 1;
	turn(f, 1);
	commit(f, 100);
	settle(f);
	end(f);
}

static void test_a_damaged_snapshot_comes_from_another(void **state)
{
	struct fixture *f = make(64 << 20);

	(void)state;
	for (int i = 0; i < 5; i++)
		commit(f, 100000);
	f->corrupt = true;
	for (int i = 0; i < 200 && intake_voter(f->intake) != 2; i++) {
		if (i % 25 == 0)
			intake_tick(f->intake, f->now_ms);
		turn(f, 10);
		commit(f, 10); /* entries come while tables are made */
		usleep(200);
	}
	assert_int_equal(intake_voter(f->intake), 2);
	assert_int_equal(state_index(f->worker), 0);
	settle(f);
	assert_int_equal(intake_counts(f->intake).restores, 1);
	end(f);
}

/* A worker that takes nothing for long is forgotten; its next ask begins a feed again. */
static void test_a_silent_worker_is_forgotten(void **state)
{
	struct fixture *f = make(64 << 20);

	(void)state;
	settle(f);
	turn(f, 1); /* what was asked meanwhile */
	turn(f, 1);
	assert_int_equal(counts(f, 1).workers, 1);
	turn(f, FEEDER_SILENT_MS + 1);
	turn(f, 1);
	assert_int_equal(counts(f, 1).workers, 0);
	commit(f, 0);
	intake_tick(f->intake, f->now_ms);
	settle(f);
	end(f);
}

static void test_voters_that_do_not_serve_are_left(void **state)
{
	struct fixture *f = make(64 << 20);

	(void)state;
	settle(f);
	assert_int_equal(intake_voter(f->intake), 1);
	f->hold = true; /* silent */
	for (int i = 0; i < 10; i++) {
		intake_tick(f->intake, f->now_ms);
		turn(f, 250);
	}
	assert_int_equal(intake_voter(f->intake), 2);
	f->hold = false;
	settle(f);
	f->leader = 0; /* none known */
	for (int i = 0; i < 24; i++) {
		intake_tick(f->intake, f->now_ms);
		turn(f, 250);
	}
	assert_int_equal(intake_leader(f->intake), 0);
	assert_int_equal(intake_voter(f->intake), 3);
	f->leader = 2;
	for (int i = 0; i < 24; i++) { /* a leader, and still no entry */
		intake_tick(f->intake, f->now_ms);
		turn(f, 250);
	}
	assert_int_equal(intake_voter(f->intake), 1);
	for (uint64_t i = 1; i <= VOTERS; i++) {
		f->up[i] = false;
		intake_peer(f->intake, i, false, f->now_ms);
	}
	intake_tick(f->intake, f->now_ms);
	assert_int_equal(intake_voter(f->intake), 0);
	assert_int_equal(intake_leader(f->intake), 0);
	end(f);
}

/* After a backup was restored the same index means something else. */
static void test_another_incarnation(void **state)
{
	struct fixture *f = make(64 << 20);

	(void)state;
	settle(f);
	f->incarnation = 9;
	f->up[1] = false;
	intake_peer(f->intake, 1, false, f->now_ms);
	for (int i = 0; i < 200 && counts(f, 2).snapshots == 0; i++)
		turn(f, 10);
	assert_int_equal(counts(f, 2).snapshots, 1);
	end(f);
}

static void test_what_was_not_asked_for_is_dropped(void **state)
{
	struct fixture *f = make(64 << 20);
	CLEANUP_BUF struct buf bytes = {0};
	struct feed_piece piece = {.number = 101, .kind = FEED_RESTORE, .leader = 66, .term = 66};
	uint64_t hash;

	(void)state;
	settle(f);
	hash = state_hash(f->worker);
	codec_encode(&bytes, &feed_piece_codec, &piece);
	intake_received(f->intake, 2, bytes.p, bytes.n, f->now_ms); /* a voter, not the one that was asked */
	intake_received(f->intake, 55, bytes.p, bytes.n, f->now_ms);
	piece.number = 100; /* an older feed of the right one */
	buf_clear(&bytes);
	codec_encode(&bytes, &feed_piece_codec, &piece);
	intake_received(f->intake, 1, bytes.p, bytes.n, f->now_ms);
	assert_int_equal(intake_leader(f->intake), 1);
	assert_int_equal(state_hash(f->worker), hash);
	intake_received(f->intake, 1, "\xc1garbage", 8, f->now_ms); /* the one that was asked, broken */
	assert_int_equal(intake_voter(f->intake), 2);
	assert_int_equal(state_hash(f->worker), hash);
	commit(f, 0);
	settle(f);
	end(f);
}

static void test_asks_that_are_refused(void **state)
{
	struct fixture *f = make(64 << 20);
	struct feed_ask ask = {.number = 1};
	struct cmd_node_join join = {
		.id = 2, .name = STR("v"), .cpu_milli = 1000, .memory_bytes = 1 << 30, .voter = true};
	struct err err = {0};

	(void)state;
	assert_int_equal(feeder_asked(f->feeders[1], WORKER, "\xc1", 1, f->now_ms, &err), -EBADMSG);
	machine_do(&f->m, 2, COMMAND_NODE_JOIN, &join);
	for (uint64_t i = 0; i < 20000; i++) { /* each of them would begin a feed */
		CLEANUP_BUF struct buf bytes = {0};

		ask.number++;
		codec_encode(&bytes, &feed_ask_codec, &ask);
		assert_int_equal(feeder_asked(f->feeders[1], 2, bytes.p, bytes.n, f->now_ms, &err), -EPERM);
		assert_int_equal(feeder_asked(f->feeders[1], WORKER, bytes.p, bytes.n, f->now_ms, &err), 0);
		if (i % 2000 == 0)
			turn(f, 100);
	}
	assert_true(counts(f, 1).snapshots <= 2); /* within one second */
	for (uint64_t i = 100; i < 200; i++) {
		CLEANUP_BUF struct buf bytes = {0};
		int r;

		codec_encode(&bytes, &feed_ask_codec, &ask);
		r = feeder_asked(f->feeders[2], i, bytes.p, bytes.n, f->now_ms, &err);
		assert_int_equal(r, i < 100 + FEEDER_WORKERS_MAX ? 0 : -ENOBUFS);
	}
	feeder_gone(f->feeders[2], 120);
	for (uint64_t i = 100; i < 200; i++)
		feeder_gone(f->feeders[2], i);
	end(f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_from_nothing),
		cmocka_unit_test(test_another_voter),
		cmocka_unit_test(test_a_slow_worker_costs_a_window),
		cmocka_unit_test(test_what_was_lost_comes_again),
		cmocka_unit_test(test_a_damaged_snapshot_comes_from_another),
		cmocka_unit_test(test_a_silent_worker_is_forgotten),
		cmocka_unit_test(test_voters_that_do_not_serve_are_left),
		cmocka_unit_test(test_another_incarnation),
		cmocka_unit_test(test_what_was_not_asked_for_is_dropped),
		cmocka_unit_test(test_asks_that_are_refused),
	};
	struct err err = {0};

	log_init("test", LOG_ERROR);
	loop = calloc(1, sizeof *loop);
	assert_non_null(loop);
	assert_int_equal(loop_init(loop, &err), 0);
	return cmocka_run_group_tests_name("feed", tests, NULL, NULL);
}
