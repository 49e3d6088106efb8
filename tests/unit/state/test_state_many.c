/* How the tables behave with many sessions: prints times and bytes, asserts results alone.
 * STATE_SESSIONS=1000000 for the size that the design names; the default keeps the suite short. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <cmocka.h>

#include "core/must.h"
#include "machine/machine.h"

#define BATCH ENTRY_COMMANDS_MAX

/* Processor time: other programs do not count. */
static uint64_t cpu_ms(void)
{
	return (uint64_t)clock() / (CLOCKS_PER_SEC / 1000);
}

/* Opens sessions from..to, in full entries. */
static void open_sessions(struct machine *m, uint64_t pool, unsigned from, unsigned to)
{
	while (from < to) {
		struct command commands[BATCH];
		struct buf bodies[BATCH] = {0};
		struct entry entry = {.incarnation = 1, .time_ms = m->now_ms, .commands = commands};
		struct err err = {0};
		char name[32];

		for (unsigned i = 0; i < BATCH && from < to; i++, from++, entry.n_commands++) {
			struct cmd_session_open open = {.pool = pool};

			snprintf(name, sizeof name, "identifier-%u", from);
			open.identifier = str_of(name);
			codec_encode(&bodies[i], command_body_codec[COMMAND_SESSION_OPEN], &open);
			commands[i] = (struct command){.type = COMMAND_SESSION_OPEN,
						       .feature = 1,
						       .node = 1,
						       .epoch = m->epoch[1],
						       .sequence = ++m->sequence[1],
						       .body = buf_str(&bodies[i])};
		}
		buf_clear(&m->entry);
		codec_encode(&m->entry, &entry_codec, &entry);
		must(state_apply(m->s, ++m->index, m->entry.p, m->entry.n, &m->applied, &err) == 0);
		for (unsigned i = 0; i < entry.n_commands; i++) {
			must(m->applied.results[i].code == 0 && m->applied.results[i].created);
			buf_done(&bodies[i]);
		}
	}
}

static double lookup_ns(const struct machine *m, uint64_t pool, unsigned n)
{
	uint64_t start = cpu_ms(), x = 1;
	unsigned rounds = 400000;
	char name[32];

	for (unsigned i = 0; i < rounds; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		int length = snprintf(name, sizeof name, "identifier-%u", (unsigned)((x >> 33) % n));

		must(state_session(m->s, pool, (struct str){name, (size_t)length}) != NULL);
	}
	return (double)(cpu_ms() - start) * 1e6 / rounds;
}

static int append(void *to, const void *p, size_t n)
{
	(void)p;
	*(size_t *)to += n;
	return 0;
}

static void test_many(void **unused)
{
	const char *wanted = getenv("STATE_SESSIONS");
	unsigned n = wanted != NULL ? (unsigned)strtoul(wanted, NULL, 10) : 20000, done = 0;
	struct machine m;
	struct err err = {0};
	uint64_t pool, start, took;
	size_t bytes = 0;

	(void)unused;
	machine_init(&m);
	m.quiet = true;
	machine_start(&m, 3);
	pool = machine_pool(&m, "echo", n, 0);
	for (unsigned step = n / 100; done < n; step *= 10) {
		unsigned to = done + step < n ? done + step : n;

		start = cpu_ms();
		open_sessions(&m, pool, done, to);
		took = cpu_ms() - start;
		printf("%8u sessions: open %6.2f us, lookup %4.0f ns\n", to, (double)took * 1e3 / (to - done),
		       lookup_ns(&m, pool, to));
		done = to;
	}
	start = cpu_ms();
	struct state_snapshot *snapshot = state_snapshot_new(m.s);

	printf("snapshot taken in %llu ms", (unsigned long long)(cpu_ms() - start));
	start = cpu_ms();
	assert_int_equal(state_snapshot_write(snapshot, append, &bytes), 0);
	state_snapshot_free(snapshot);
	printf(", written in %llu ms, %zu bytes", (unsigned long long)(cpu_ms() - start), bytes);
	start = cpu_ms();
	assert_int_equal(state_check(m.s, &err), 0);
	printf(", audited in %llu ms, heap %zu MiB\n", (unsigned long long)(cpu_ms() - start),
	       mallinfo2().uordblks >> 20);
	machine_done(&m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
