/* nemesis.c -- random schedules against the guarded library, from a seed: cut and deaf links, slow links
 * and disks, pauses, transfers, small snapshots, under load; then everything is healed and must agree.
 *
 * Each schedule runs in a process of its own, so that a crash in the library counts as a failure and not
 * as the end. A failure prints its seed; the same seed fails again:   nemesis --seeds 4711 1
 *
 *   nemesis [--seeds FIRST COUNT] [--servers 3|5] [--steps N] [--without RULE | --unguarded] [--fixed-timeouts]
 *
 * Without --seeds a bounded number runs, BERTH_NEMESIS=N times as many, and then so many without the guard that they show what it
 * is for: the first of them that goes wrong ends that. --without switches one rule off, --unguarded all: what goes wrong then is
 * told, and no failure. --fixed-timeouts leaves the simulation its election timeouts. */
#include "fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/must.h"

struct nemesis {
	struct fixture f;
	uint64_t random, next_value;
	bool fixed_timeouts;
	bool linked[RAFT_FIXTURE_MAX_SERVERS][RAFT_FIXTURE_MAX_SERVERS];
};

static uint32_t below(struct nemesis *t, uint32_t n)
{
	t->random ^= t->random << 13;
	t->random ^= t->random >> 7;
	t->random ^= t->random << 17;
	return (uint32_t)(t->random >> 11) % n;
}

static bool alive(struct nemesis *t, unsigned i)
{
	return raft_fixture_alive(&t->f.raft, i);
}

static void set_link(struct nemesis *t, unsigned from, unsigned to, bool on)
{
	if (on)
		raft_fixture_reconnect(&t->f.raft, from, to);
	else {
		if (raft_fixture_saturated(&t->f.raft, from, to))
			raft_fixture_desaturate(&t->f.raft, from, to);
		raft_fixture_disconnect(&t->f.raft, from, to);
	}
	t->linked[from][to] = on;
}

static void cut(struct nemesis *t, unsigned a, unsigned b)
{
	set_link(t, a, b, false);
	if (below(t, 2) == 0)
		set_link(t, b, a, false);
}

static void join(struct nemesis *t, unsigned a, unsigned b)
{
	set_link(t, a, b, true);
	set_link(t, b, a, true);
}

/* The library's kill is a pause: memory and disk stay as they are. */
static void pause_or_wake(struct nemesis *t, unsigned a)
{
	unsigned dead = 0;
	if (alive(t, a)) {
		for (unsigned i = 0; i < t->f.n; i++)
			dead += !alive(t, i);
		if (dead < (t->f.n - 1) / 2)
			raft_fixture_kill(&t->f.raft, a);
		else
			return;
	} else {
		raft_fixture_revive(&t->f.raft, a);
	}
	for (unsigned i = 0; i < t->f.n; i++)
		t->linked[a][i] = t->linked[i][a] = alive(t, a);
}

/* Messages may overtake each other then. Writes must not (raft_uv has one under way at a time, and the
 * library counts on it), so that a disk's latency stays what it was at the start. */
static void slow(struct nemesis *t, unsigned a)
{
	raft_fixture_set_network_latency(&t->f.raft, a, 1 + below(t, 400));
	raft_fixture_set_randomized_election_timeout(&t->f.raft, a, 1000 + below(t, 1000));
}

static void disturb(struct nemesis *t)
{
	unsigned a = below(t, t->f.n), b = below(t, t->f.n), what = below(t, 8);
	if (a == b)
		return;
	bool both = alive(t, a) && alive(t, b);
	if (what <= 1 && both)
		cut(t, a, b);
	else if (what <= 3 && both)
		join(t, a, b);
	else if (what == 4 && both && t->linked[a][b])
		raft_fixture_saturate(&t->f.raft, a, b);
	else if (what == 5 && both && t->linked[a][b])
		raft_fixture_desaturate(&t->f.raft, a, b);
	else if (what == 6)
		slow(t, a);
	else if (what == 7 && below(t, 3) == 0)
		pause_or_wake(t, a);
}

static void on_transferred(struct raft_transfer *transfer)
{
	(void)transfer; /* not freed: the library may still be sending its message */
}

static void transfer(struct nemesis *t, struct raft_transfer *transfers)
{
	for (unsigned i = 0; i < t->f.n; i++) {
		struct raft *r = fixture_server(&t->f, i);
		if (r->state == RAFT_LEADER && r->transfer == NULL && alive(t, i))
			(void)raft_transfer(r, &transfers[i], 0, on_transferred);
	}
}

static void heal_all(struct nemesis *t)
{
	for (unsigned a = 0; a < t->f.n; a++) {
		if (!alive(t, a))
			raft_fixture_revive(&t->f.raft, a);
		for (unsigned b = 0; b < t->f.n; b++) {
			if (a == b)
				continue;
			set_link(t, a, b, true);
			raft_fixture_desaturate(&t->f.raft, a, b);
		}
	}
}

static void load(struct nemesis *t)
{
	for (unsigned i = 0; i < t->f.n; i++)
		if (raft_state(fixture_server(&t->f, i)) == RAFT_LEADER && alive(t, i) && below(t, 6) == 0)
			fixture_propose(&t->f, i, ++t->next_value);
}

static int leader_of(struct nemesis *t)
{
	int leader = -1;
	raft_term term = 0;
	for (unsigned i = 0; i < t->f.n; i++) {
		struct raft *r = fixture_server(&t->f, i);
		if (r->state == RAFT_LEADER && r->current_term > term) {
			leader = (int)i;
			term = r->current_term;
		}
	}
	return leader;
}

static bool all_applied(struct nemesis *t, raft_index index)
{
	for (unsigned i = 0; i < t->f.n; i++)
		if (raft_last_applied(fixture_server(&t->f, i)) < index)
			return false;
	return true;
}

/* The library's simulation draws no election timeouts by itself. With fixed ones a server with a short one
 * and an old log keeps all others from ever standing. */
static void draw_timeouts(struct nemesis *t)
{
	if (t->fixed_timeouts || below(t, 100) != 0)
		return;
	for (unsigned i = 0; i < t->f.n; i++)
		raft_fixture_set_randomized_election_timeout(&t->f.raft, i, 1000 + below(t, 1000));
}

/* Healed for 20 s, one more entry is proposed; within another 60 s it must be everywhere: a snapshot whose answer was lost is sent
 * again after 30 s. */
static const char *settle(struct nemesis *t)
{
	heal_all(t);
	for (unsigned i = 0; i < t->f.n; i++) {
		raft_set_pre_vote(fixture_server(&t->f, i), true);
	}
	raft_time begin = raft_fixture_time(&t->f.raft);
	raft_index last = 0;
	while (raft_fixture_time(&t->f.raft) - begin < 80000 && (last == 0 || !all_applied(t, last))) {
		draw_timeouts(t);
		raft_fixture_step(&t->f.raft);
		int leader = leader_of(t);
		if (last == 0 && leader >= 0 && raft_fixture_time(&t->f.raft) - begin > 20000 &&
		    fixture_propose(&t->f, (unsigned)leader, ++t->next_value))
			last = raft_last_index(fixture_server(&t->f, (unsigned)leader));
	}
	if (last == 0)
		return "no leader 80 s after everything was healed";
	for (unsigned i = 0; i < t->f.n; i++)
		if (raft_state(fixture_server(&t->f, i)) == RAFT_UNAVAILABLE)
			return "a server became unavailable";
	return all_applied(t, last) ? NULL : "a follower did not catch up in 60 s";
}

static const char *judge(struct nemesis *t)
{
	const char *late = settle(t);
	if (t->f.violation != NULL || late != NULL)
		return t->f.violation != NULL ? t->f.violation : late;
	for (unsigned i = 1; i < t->f.n; i++)
		if (t->f.states[i].hash != t->f.states[0].hash)
			return "the final states differ";
	for (unsigned index = 0; index < FIXTURE_INDEX_MAX; index++)
		if (t->f.acknowledged[index] != 0 && t->f.acknowledged[index] != t->f.applied[index])
			return "an acknowledged entry was lost";
	return NULL;
}

static void describe(struct nemesis *t)
{
	for (unsigned i = 0; i < t->f.n; i++) {
		const struct raft *r = fixture_server(&t->f, i);
		fprintf(stderr,
			"  server %u: state %d term %llu vote %llu log %llu-%llu stored %llu committed %llu "
			"applied %llu snapshot %llu %s%s\n",
			i + 1, r->state, r->current_term, r->voted_for, r->log.offset + 1,
			raft_last_index((struct raft *)r), r->last_stored, r->commit_index, r->last_applied,
			r->log.snapshot.last_index, r->snapshot.put.data != NULL ? "storing a snapshot " : "",
			r->errmsg);
		for (unsigned j = 0; r->state == RAFT_LEADER && j < t->f.n; j++)
			fprintf(stderr, "    of server %u: state %d next %llu match %llu snapshot %llu\n",
				j + 1, r->leader_state.progress[j].state,
				r->leader_state.progress[j].next_index,
				r->leader_state.progress[j].match_index,
				r->leader_state.progress[j].snapshot_index);
	}
}

static bool fixed_timeouts;

static const char *run(uint64_t seed, unsigned n, unsigned steps, uint32_t off)
{
	struct nemesis *t = calloc(1, sizeof *t);
	struct raft_transfer *transfers = calloc(n, sizeof *transfers);
	must(t != NULL && transfers != NULL);
	t->fixed_timeouts = fixed_timeouts;
	t->random = seed * 0x9e3779b97f4a7c15ull | 1;
	for (unsigned i = 0; i < 10; i++)
		below(t, 2);
	memset(t->linked, 1, sizeof t->linked);
	fixture_init(&t->f, n, off);
	for (unsigned i = 0; i < n; i++) {
		raft_set_pre_vote(fixture_server(&t->f, i), below(t, 2) == 0);
		raft_set_snapshot_threshold(fixture_server(&t->f, i), 20 + below(t, 200));
		raft_set_snapshot_trailing(fixture_server(&t->f, i), 5 + below(t, 50));
	}
	fixture_start(&t->f);
	for (unsigned i = 0; i < n; i++) {
		raft_fixture_set_network_latency(&t->f.raft, i, 1 + below(t, 200));
		raft_fixture_set_disk_latency(&t->f.raft, i, 1 + below(t, 150));
	}
	for (unsigned step = 0; step < steps && t->f.violation == NULL; step++) {
		raft_fixture_step(&t->f.raft);
		load(t);
		if (below(t, 40) == 0)
			disturb(t);
		if (below(t, 1200) == 0)
			transfer(t, transfers);
		if (below(t, 400) == 0)
			heal_all(t);
	}
	const char *verdict = t->f.violation != NULL ? t->f.violation : judge(t);
	if (verdict != NULL)
		describe(t);
	return verdict;
}

/* The verdict of a schedule in a process of its own; empty: all well. */
static void run_apart(uint64_t seed, unsigned n, unsigned steps, uint32_t off, char verdict[128])
{
	int ends[2], status;
	must(pipe(ends) == 0);
	pid_t pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		const char *bad = run(seed, n, steps, off);
		if (bad != NULL && write(ends[1], bad, strlen(bad)) < 0)
			_exit(2);
		_exit(0);
	}
	close(ends[1]);
	ssize_t got = read(ends[0], verdict, 127);
	verdict[got > 0 ? got : 0] = 0;
	close(ends[0]);
	must(waitpid(pid, &status, 0) == pid);
	if (WIFSIGNALED(status))
		snprintf(verdict, 128, "ended by signal %d", WTERMSIG(status));
	else if (WEXITSTATUS(status) != 0)
		snprintf(verdict, 128, "exit status %d", WEXITSTATUS(status));
}

static unsigned run_all(uint64_t first, uint64_t count, unsigned n, unsigned steps, uint32_t off)
{
	unsigned bad = 0;
	for (uint64_t seed = first; seed < first + count; seed++) {
		char verdict[128];
		run_apart(seed, n, steps, off, verdict);
		if (verdict[0] != 0) {
			bad++;
			printf("seed %llu, %u servers: %s\n", (unsigned long long)seed, n, verdict);
			fflush(stdout);
		}
	}
	printf("%llu schedules of %u steps with %u servers from seed %llu: %u bad\n",
	       (unsigned long long)count, steps, n, (unsigned long long)first, bad);
	return bad;
}

#define UNGUARDED   ((1u << GUARD_RULES) - 1)
#define SHOWN_FIRST 161u /* of those from 1 on, seed 163 is the first that breaks a promise; 3 crash before */
#define SHOWN_MAX   200u

/* Whether the library alone breaks what the guard keeps: two values at one index, or an acknowledged one lost. */
static bool shows_what_the_guard_is_for(void)
{
	unsigned crashed = 0;
	for (uint64_t seed = SHOWN_FIRST; seed < SHOWN_FIRST + SHOWN_MAX; seed++) {
		char verdict[128];
		run_apart(seed, 3, 3000, UNGUARDED, verdict);
		crashed += strncmp(verdict, "ended by signal", 15) == 0;
		if (strstr(verdict, "two values") == NULL && strstr(verdict, "lost") == NULL &&
		    strstr(verdict, "differ") == NULL)
			continue;
		printf("without the guard: seed %llu of 3 servers: %s; %u crashed before\n",
		       (unsigned long long)seed, verdict, crashed);
		return true;
	}
	printf("without the guard: %u schedules, no violation, %u crashed\n", SHOWN_MAX, crashed);
	return false;
}

static bool rule_of(const char *name, uint32_t *ret_off)
{
	for (unsigned rule = 0; rule < GUARD_RULES; rule++) {
		if (strcmp(name, guard_rule_name((enum guard_rule)rule)) == 0) {
			*ret_off |= 1u << rule;
			return true;
		}
	}
	return false;
}

static unsigned run_bounded(uint32_t off)
{
	const char *times = getenv("BERTH_NEMESIS");
	uint64_t n = times != NULL ? strtoull(times, NULL, 10) : 1;
	unsigned bad = run_all(1, 60 * n, 3, 3000, off);
	bad += run_all(1, 15 * n, 5, 3000, off);
	return bad + !shows_what_the_guard_is_for();
}

static int usage(void)
{
	fprintf(stderr, "nemesis [--seeds FIRST COUNT] [--servers 3|5] [--steps 1..100000] [--without RULE | "
			"--unguarded] [--fixed-timeouts]\n");
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t first = 1, count = 0;
	unsigned n = 3, steps = 3000;
	const uint32_t usual = 1u << GUARD_TRAILING; /* snapshots are small here */
	uint32_t off = usual;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--unguarded") == 0)
			off = UNGUARDED;
		else if (strcmp(argv[i], "--fixed-timeouts") == 0)
			fixed_timeouts = true;
		else if (strcmp(argv[i], "--servers") == 0 && i + 1 < argc)
			n = (unsigned)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--steps") == 0 && i + 1 < argc)
			steps = (unsigned)strtoul(argv[++i], NULL, 10);
		else if (strcmp(argv[i], "--seeds") == 0 && i + 2 < argc) {
			first = strtoull(argv[++i], NULL, 10);
			count = strtoull(argv[++i], NULL, 10);
		} else if (strcmp(argv[i], "--without") != 0 || i + 1 >= argc || !rule_of(argv[++i], &off)) {
			return usage();
		}
	}
	if ((n != 3 && n != 5) || steps == 0 || steps > 100000)
		return usage();
	if (count == 0)
		return run_bounded(off) > 0;
	return run_all(first, count, n, steps, off) > 0 && off == usual;
}
