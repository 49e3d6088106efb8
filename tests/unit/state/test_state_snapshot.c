/* Snapshots: a frozen view whatever is written later, also when another thread encodes it; and what restore refuses. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

#include "machine/machine.h"

static int append(void *to, const void *p, size_t n)
{
	assert_true(n > 0 && n <= 256 * 1024);
	buf_add(to, p, n);
	return 0;
}

static void bytes_of(struct state *s, struct buf *to)
{
	struct state_snapshot *snapshot = state_snapshot_new(s);

	assert_int_equal(state_snapshot_write(snapshot, append, to), 0);
	state_snapshot_free(snapshot);
}

/* A pool with sessions in every state; the document makes it larger than a piece of the stream. */
static uint64_t fill(struct machine *m)
{
	static char document[200000];
	struct msg_pool_put put = machine_put("echo", 200, 20);
	struct secret_put secret = {.name = STR("password"), .sealed = STR("sealed")};
	char identifier[32];
	struct result result;

	memset(document, 'x', sizeof document);
	put.document = (struct str){document, sizeof document};
	put.secrets = &secret;
	put.n_secrets = 1;
	machine_start(m, 3);
	result = *machine_do(m, 1, COMMAND_POOL_PUT, &put);
	machine_finish(m, result.operation);
	for (unsigned i = 0; i < 20; i++)
		machine_ready(m, result.id, 1 + i % 3);
	for (unsigned i = 0; i < 30; i++) {
		snprintf(identifier, sizeof identifier, "user-%u", i);
		machine_open(m, result.id, identifier);
		m->now_ms += 60000;
	}
	machine_boot(m, result.id, 2);
	struct cmd_session_closing closing = {
		.pool = result.id, .generation = state_session(m->s, result.id, STR("user-3"))->generation};

	machine_do(m, 1, COMMAND_SESSION_CLOSING, &closing);
	return result.id;
}

static void churn(struct machine *m, uint64_t pool, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct session_row *row = state_next_pool_session(m->s, pool, NULL);
		struct cmd_session_closed closed = {.pool = pool, .stopped_ms = m->now_ms};

		while (row != NULL && row->state == SESSION_WAITING)
			row = state_next_pool_session(m->s, pool, row);
		if (row == NULL)
			return;
		closed.generation = row->generation;
		machine_do(m, row->node, COMMAND_SESSION_CLOSED, &closed);
		m->now_ms += 1000;
	}
}

static void test_round_trip(void **unused)
{
	struct machine m;
	CLEANUP_BUF struct buf first = {0}, second = {0};
	struct state *other = state_new();
	struct err err = {0};

	(void)unused;
	machine_init(&m);
	fill(&m);
	bytes_of(m.s, &first);
	assert_int_equal(state_restore(other, first.p, first.n, &err), 0);
	assert_int_equal(state_hash(other), state_hash(m.s));
	assert_int_equal(state_index(other), m.index);
	bytes_of(other, &second);
	assert_int_equal(first.n, second.n);
	assert_memory_equal(first.p, second.p, first.n);
	state_free(other);
	machine_done(&m);
}

static void test_later_writes_do_not_show(void **unused)
{
	struct machine m;
	CLEANUP_BUF struct buf before = {0}, after = {0};
	struct state_snapshot *snapshot;
	uint64_t pool;

	(void)unused;
	machine_init(&m);
	pool = fill(&m);
	bytes_of(m.s, &before);
	snapshot = state_snapshot_new(m.s);
	churn(&m, pool, 15);
	machine_do(&m, 1, COMMAND_POOL_DELETE, &(struct msg_pool_delete){pool});
	assert_int_equal(state_snapshot_write(snapshot, append, &after), 0);
	state_snapshot_free(snapshot);
	assert_int_equal(before.n, after.n);
	assert_memory_equal(before.p, after.p, before.n);
	machine_done(&m);
}

struct encoding {
	struct state_snapshot *snapshot;
	struct buf bytes;
};

static void *encode(void *arg)
{
	struct encoding *e = arg;

	state_snapshot_write(e->snapshot, append, &e->bytes);
	state_snapshot_free(e->snapshot); /* dropped there too */
	return NULL;
}

static void test_encoded_on_a_thread(void **unused)
{
	struct machine m;
	struct encoding e = {0};
	CLEANUP_BUF struct buf before = {0};
	uint64_t pool;
	pthread_t thread;

	(void)unused;
	machine_init(&m);
	pool = fill(&m);
	for (unsigned i = 0; i < 20; i++) {
		buf_clear(&before);
		bytes_of(m.s, &before);
		e.snapshot = state_snapshot_new(m.s);
		assert_int_equal(pthread_create(&thread, NULL, encode, &e), 0);
		machine_ready(&m, pool, 3);
		churn(&m, pool, 1);
		pthread_join(thread, NULL);
		assert_int_equal(before.n, e.bytes.n);
		assert_memory_equal(before.p, e.bytes.p, before.n);
		buf_done(&e.bytes);
	}
	machine_done(&m);
}

static int refuse(void *to, const void *p, size_t n)
{
	(void)p;
	(void)n;
	return --*(int *)to < 0 ? -ENOSPC : 0;
}

static void test_write_error_ends_it(void **unused)
{
	struct machine m;
	struct state_snapshot *snapshot;
	int left = 1;

	(void)unused;
	machine_init(&m);
	fill(&m);
	snapshot = state_snapshot_new(m.s);
	assert_int_equal(state_snapshot_write(snapshot, refuse, &left), -ENOSPC);
	state_snapshot_free(snapshot);
	machine_done(&m);
}

static void still_the_same(struct machine *m, uint64_t hash, const char *p, size_t n, size_t at)
{
	struct err err = {0};
	int r = state_restore(m->s, p, n, &err);

	if (r == 0)
		fail_msg("a snapshot with a fault at %zu was taken", at);
	assert_true(err.message[0] != 0);
	assert_int_equal(state_hash(m->s), hash);
}

static void test_cut_and_garbled_are_refused(void **unused)
{
	struct machine m;
	CLEANUP_BUF struct buf bytes = {0};
	uint64_t hash;

	(void)unused;
	machine_init(&m);
	fill(&m);
	bytes_of(m.s, &bytes);
	hash = state_hash(m.s);
	for (size_t n = 0; n < bytes.n; n += n < 2000 ? 1 : 4999)
		still_the_same(&m, hash, bytes.p, n, n);
	for (size_t at = 0; at < bytes.n; at += at < 600 || bytes.n - at < 600 ? 3 : 3331) {
		char was = bytes.p[at];

		bytes.p[at] = (char)(was ^ 0x21);
		still_the_same(&m, hash, bytes.p, bytes.n, at);
		bytes.p[at] = was;
	}
	buf_add(&bytes, "x", 1);
	still_the_same(&m, hash, bytes.p, bytes.n, bytes.n);
	assert_int_equal(state_check(m.s, NULL), 0);
	machine_done(&m);
}

#define FORMAT_AT 7  /* of the stream's bytes: the format's number */
#define LEVEL_AT  14 /* behind kind, length and the array's head: the feature level */

/* Of a newer program, whatever may follow: refused as what it is, and nothing changes. */
static void test_newer_ones_are_refused(void **unused)
{
	struct machine m;
	CLEANUP_BUF struct buf bytes = {0};
	struct err err = {0};
	uint64_t hash;

	(void)unused;
	machine_init(&m);
	fill(&m);
	bytes_of(m.s, &bytes);
	hash = state_hash(m.s);
	assert_int_equal(bytes.p[LEVEL_AT], FEATURE_LEVEL);
	bytes.p[LEVEL_AT] = FEATURE_LEVEL + 1;
	assert_int_equal(state_restore(m.s, bytes.p, bytes.n, &err), -EPROTO);
	assert_string_equal(err.message, "snapshot: feature level 2; this version has 1");
	bytes.p[FORMAT_AT]++;
	assert_int_equal(state_restore(m.s, bytes.p, FORMAT_AT + 1, &err), -EPROTO);
	assert_string_equal(err.message, "snapshot: format 2; this version knows 1");
	assert_int_equal(state_hash(m.s), hash);
	machine_done(&m);
}

static void test_empty_state(void **unused)
{
	struct state *a = state_new(), *b = state_new();
	CLEANUP_BUF struct buf bytes = {0};

	(void)unused;
	bytes_of(a, &bytes);
	assert_int_equal(state_restore(b, bytes.p, bytes.n, NULL), 0);
	assert_int_equal(state_hash(a), state_hash(b));
	state_free(a);
	state_free(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_later_writes_do_not_show),
		cmocka_unit_test(test_encoded_on_a_thread),
		cmocka_unit_test(test_write_error_ends_it),
		cmocka_unit_test(test_cut_and_garbled_are_refused),
		cmocka_unit_test(test_newer_ones_are_refused),
		cmocka_unit_test(test_empty_state),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
