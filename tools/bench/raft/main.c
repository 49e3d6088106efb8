/* bench-raft -- how many entries a second the log takes, and how long one waits, with 1, 16 and 256 outstanding.
 *
 *   bench-raft [--servers 1|3] [--outstanding N] [--seconds N] [--bytes N] [--sessions N] [--dir DIR]
 *
 * With --outstanding that depth alone. With --sessions the machine is Berth's tables with so many sessions, and an entry opens
 * one and ends another; the last of three servers begins when the load is over, so that it gets a snapshot. Also told then: a lookup, memory
 * a session, and the longest turn of a loop, in its own CPU time, of the leader and of the server that got the snapshot.
 *
 * Each server is a process of its own on loopback, with its files below DIR (which must not exist, and is removed at the
 * end; use the disk that is meant). Whoever leads proposes to itself, as berthd's control loop does, and writes its
 * figures into a pipe; then all are ended. Without --sessions the machine only counts. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "consensus/consensus.h"
#include "core/must.h"
#include "core/str.h"
#include "tables.h"

#define SERVERS_MAX 3
#define BYTES_MAX   65536u
#define SAMPLES_MAX (1u << 22)
#define DEPTHS_MAX  3
#define PATIENCE_S  180  /* for all else; the servers end with their parent */
#define COMPACT     4096 /* entries between snapshots, with tables */

struct settings {
	unsigned servers, n_depths, depths[DEPTHS_MAX];
	uint64_t seconds, bytes, sessions;
	const char *dir;
	char addresses[SERVERS_MAX][CONSENSUS_ADDRESS_SIZE];
	struct tables *tables; /* NULL: a counter */
};

struct figures {
	double per_second, p50_us, p99_us;
};

/* What a server tells when it is done: the leader after the load, the last one when it has a snapshot. */
struct report {
	struct figures figures[DEPTHS_MAX];
	double longest_ms; /* turn of the loop, in CPU time */
	uint64_t snapshots;
};

struct bench {
	const struct settings *settings;
	struct consensus *consensus;
	uv_loop_t loop;
	uv_prepare_t turn;
	uint64_t turned_ns; /* CPU time at the last turn's end */
	bool late;          /* the server that begins when the load is over */
	uint64_t applied;
	struct buf entry;
	unsigned phase, outstanding;
	uint64_t phase_began, done, n_samples;
	uint32_t *samples; /* microseconds */
	struct report report;
	int pipe;
};

struct call {
	struct bench *bench;
	uint64_t began;
};

/* -- A machine that counts -------------------------------------------------------------------------------------- */

static int on_apply(void *arg, uint64_t index, const void *entry, size_t n, struct err *err)
{
	(void)index;
	(void)entry;
	(void)n;
	(void)err;
	((struct bench *)arg)->applied++;
	return 0;
}

static void *on_take(void *arg)
{
	uint64_t *view = malloc(sizeof *view);
	if (view != NULL)
		*view = ((struct bench *)arg)->applied;
	return view;
}

static int on_write(const void *view, int (*write)(void *, const void *, size_t), void *to)
{
	return write(to, view, sizeof(uint64_t));
}

static void on_free(void *arg, void *view)
{
	(void)arg;
	free(view);
}

static int on_restore_read(const void *p, size_t n, void **ret, struct err *err)
{
	if (n != sizeof(uint64_t))
		return err_set(err, -EBADMSG, "snapshot of %zu bytes", n);
	*ret = malloc(n);
	must(*ret != NULL);
	memcpy(*ret, p, n);
	return 0;
}

static void *on_restore(void *arg, void *view)
{
	((struct bench *)arg)->applied = *(uint64_t *)view;
	return view;
}

static struct consensus_machine counter(struct bench *b)
{
	return (struct consensus_machine){b,       on_apply,        on_take,    on_write,
					  on_free, on_restore_read, on_restore, free};
}

/* -- One server --------------------------------------------------------------------------------------------------- */

static void on_failed(void *arg, const char *why)
{
	(void)arg;
	fprintf(stderr, "bench-raft: %s\n", why);
	_exit(1);
}

static uint64_t cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void tell(struct bench *b)
{
	struct consensus_counts counts;
	consensus_count(b->consensus, &counts);
	b->report.snapshots = b->late ? counts.installs : counts.snapshots;
	must(write(b->pipe, &b->report, sizeof b->report) == sizeof b->report);
	b->settings = NULL; /* no more */
}

static void on_turn(uv_prepare_t *turn)
{
	struct bench *b = turn->data;
	uint64_t now = cpu_ns();
	double ms = (double)(now - b->turned_ns) / 1e6;
	struct consensus_counts counts;
	if (b->turned_ns != 0 && ms > b->report.longest_ms)
		b->report.longest_ms = ms;
	b->turned_ns = now;
	if (!b->late || b->settings == NULL)
		return;
	consensus_count(b->consensus, &counts);
	if (counts.installs > 0 && counts.committed > 0 &&
	    consensus_applied(b->consensus) >= counts.committed)
		tell(b);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void end_phase(struct bench *b, uint64_t now)
{
	struct figures *f = &b->report.figures[b->phase];
	qsort(b->samples, b->n_samples, sizeof *b->samples, compare);
	f->per_second = (double)b->done * 1e9 / (double)(now - b->phase_began);
	f->p50_us = b->n_samples > 0 ? b->samples[b->n_samples / 2] : 0;
	f->p99_us = b->n_samples > 0 ? b->samples[b->n_samples * 99 / 100] : 0;
	b->phase++;
	b->done = b->n_samples = 0;
	b->turned_ns = 0; /* sorting is no work of a server */
	b->phase_began = uv_hrtime();
}

/* With tables the load goes on, unmeasured, until the log no longer has its beginning: the late server is to get a snapshot. */
static bool is_over(const struct bench *b)
{
	struct consensus_counts counts;
	if (b->phase < b->settings->n_depths)
		return false;
	consensus_count(b->consensus, &counts);
	return b->settings->tables == NULL || counts.log_first > 1;
}

static void propose_some(struct bench *b);

static void on_proposed(void *arg, int status, uint64_t index)
{
	struct call *call = arg;
	struct bench *b = call->bench;
	uint64_t now = uv_hrtime();
	(void)index;
	b->outstanding--;
	if (status == 0) {
		b->done++;
		if (b->n_samples < SAMPLES_MAX)
			b->samples[b->n_samples++] = (uint32_t)((now - call->began) / 1000);
	}
	free(call);
	if (b->settings != NULL && b->phase < b->settings->n_depths &&
	    now - b->phase_began > b->settings->seconds * 1000000000ull)
		end_phase(b, now);
	if (b->settings != NULL && is_over(b))
		tell(b);
	propose_some(b);
}

static void propose_some(struct bench *b)
{
	const struct settings *s = b->settings;
	while (s != NULL && b->outstanding < s->depths[b->phase < s->n_depths ? b->phase : s->n_depths - 1]) {
		struct call *call = malloc(sizeof *call);
		must(call != NULL);
		*call = (struct call){b, uv_hrtime()};
		if (s->tables != NULL)
			tables_entry(s->tables, &b->entry);
		int rc = consensus_propose(b->consensus, b->entry.p, b->entry.n, on_proposed, call);
		if (rc != 0) {
			free(call);
			return;
		}
		b->outstanding++;
	}
}

static void on_leadership(void *arg, bool leads, uint64_t term)
{
	struct bench *b = arg;
	(void)term;
	if (!leads) {
		fprintf(stderr, "bench-raft: leadership moved; the figures of this phase include that\n");
		return;
	}
	b->phase = 0;
	b->done = b->n_samples = 0;
	b->phase_began = uv_hrtime();
	propose_some(b);
}

static _Noreturn void run_server(const struct settings *s, unsigned i, bool late, int pipe)
{
	struct bench *b = calloc(1, sizeof *b);
	struct consensus_member members[SERVERS_MAX];
	struct err err = {0};
	char dir[600];
	must(b != NULL && (b->samples = calloc(SAMPLES_MAX, sizeof *b->samples)) != NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	must(uv_loop_init(&b->loop) == 0 && uv_prepare_init(&b->loop, &b->turn) == 0);
	b->turn.data = b;
	b->settings = s;
	b->late = late;
	b->pipe = pipe;
	for (uint64_t k = 0; k < s->bytes; k++)
		buf_add(&b->entry, "", 1);
	for (unsigned j = 0; j < s->servers; j++)
		members[j] = (struct consensus_member){j + 1, s->addresses[j]};
	snprintf(dir, sizeof dir, "%s/%u", s->dir, i + 1);
	struct consensus_options options = {
		.loop = &b->loop,
		.dir = dir,
		.id = i + 1,
		.members = members,
		.n_members = s->servers,
		.machine = s->tables != NULL ? tables_machine(s->tables) : counter(b),
		.snapshot_threshold = s->tables != NULL ? COMPACT : 0,
		.leadership = on_leadership,
		.failed = on_failed,
		.arg = b,
	};
	if (consensus_new(&options, &b->consensus, &err) != 0 || consensus_start(b->consensus, &err) != 0) {
		fprintf(stderr, "bench-raft: %s\n", err.message);
		_exit(1);
	}
	must(uv_prepare_start(&b->turn, on_turn) == 0);
	uv_run(&b->loop, UV_RUN_DEFAULT);
	_exit(1);
}

/* -- All of them -------------------------------------------------------------------------------------------------- */

static void pick_addresses(struct settings *s)
{
	int fds[SERVERS_MAX];
	for (unsigned i = 0; i < s->servers; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
		socklen_t size = sizeof a;
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		must(fds[i] >= 0 && bind(fds[i], (struct sockaddr *)&a, sizeof a) == 0);
		must(getsockname(fds[i], (struct sockaddr *)&a, &size) == 0);
		snprintf(s->addresses[i], CONSENSUS_ADDRESS_SIZE, "127.0.0.1:%u", ntohs(a.sin_port));
	}
	for (unsigned i = 0; i < s->servers; i++)
		close(fds[i]);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

/* Runs servers from..to, and waits for the report of one. */
static bool run_some(const struct settings *s, unsigned from, unsigned to, bool late, pid_t *pids,
		     struct report *ret)
{
	int ends[2];
	bool got;
	must(pipe2(ends, O_CLOEXEC) == 0);
	for (unsigned i = from; i < to; i++) {
		pids[i] = fork();
		must(pids[i] >= 0);
		if (pids[i] == 0)
			run_server(s, i, late, ends[1]);
	}
	close(ends[1]);
	got = read(ends[0], ret, sizeof *ret) == sizeof *ret;
	close(ends[0]);
	return got;
}

static void print(const struct settings *s, const struct report *load, const struct report *late)
{
	const struct tables *t = s->tables;
	printf("%u server%s, entries of %llu bytes, %llu s each\n", s->servers, s->servers > 1 ? "s" : "",
	       (unsigned long long)s->bytes, (unsigned long long)s->seconds);
	printf("%12s %12s %10s %10s\n", "outstanding", "entries/s", "p50 us", "p99 us");
	for (unsigned i = 0; i < s->n_depths; i++)
		printf("%12u %12.0f %10.0f %10.0f\n", s->depths[i], load->figures[i].per_second,
		       load->figures[i].p50_us, load->figures[i].p99_us);
	printf("longest turn %.2f ms of CPU, %llu snapshots taken\n", load->longest_ms,
	       (unsigned long long)load->snapshots);
	if (t == NULL)
		return;
	printf("%llu sessions, %.0f bytes each with its sandbox, lookup %.0f ns\n",
	       (unsigned long long)t->sessions, (double)t->heap_bytes / (double)t->sessions,
	       tables_lookup_ns(t));
	if (s->servers > 1)
		printf("longest turn %.2f ms of CPU, %llu snapshots restored\n", late->longest_ms,
		       (unsigned long long)late->snapshots);
}

static int run_all(struct settings *s)
{
	pid_t pids[SERVERS_MAX] = {0};
	struct report load = {0}, late = {0};
	unsigned early = s->servers > 1 && s->sessions > 0 ? s->servers - 1 : s->servers;
	bool got;
	if (s->sessions > 0)
		s->tables = tables_new(s->sessions);
	if (mkdir(s->dir, 0700) != 0) {
		fprintf(stderr, "bench-raft: make %s: %s\n", s->dir, strerror(errno));
		return 1;
	}
	pick_addresses(s);
	got = run_some(s, 0, early, false, pids, &load);
	if (got && early < s->servers)
		got = run_some(s, early, s->servers, true, pids, &late);
	for (unsigned i = 0; i < s->servers; i++) {
		if (pids[i] <= 0)
			continue;
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (got)
		print(s, &load, &late);
	return got ? 0 : 1;
}

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	return str_u64(str_of(text), max, ret) == 0 && *ret > 0;
}

static bool take_option(struct settings *s, const char *name, const char *value)
{
	uint64_t n = 0;
	if (strcmp(name, "--servers") == 0) {
		bool ok = number(value, SERVERS_MAX, &n) && n != 2;
		s->servers = (unsigned)n;
		return ok;
	}
	if (strcmp(name, "--outstanding") == 0) {
		bool ok = number(value, 4096, &n);
		s->depths[0] = (unsigned)n;
		s->n_depths = 1;
		return ok;
	}
	if (strcmp(name, "--dir") == 0) {
		s->dir = value;
		return true;
	}
	return strcmp(name, "--seconds") == 0    ? number(value, 3600, &s->seconds)
	       : strcmp(name, "--bytes") == 0    ? number(value, BYTES_MAX, &s->bytes)
	       : strcmp(name, "--sessions") == 0 ? number(value, 5000000, &s->sessions)
						 : false;
}

int main(int argc, char **argv)
{
	struct settings s = {.servers = 1,
			     .n_depths = DEPTHS_MAX,
			     .depths = {1, 16, 256},
			     .seconds = 3,
			     .bytes = 256,
			     .dir = "/tmp/berth-bench-raft"};
	bool ok = argc % 2 == 1;
	for (int i = 1; ok && i + 1 < argc; i += 2)
		ok = take_option(&s, argv[i], argv[i + 1]);
	if (!ok) {
		fprintf(stderr,
			"bench-raft [--servers 1|3] [--outstanding 1..4096] [--seconds 1..3600] [--bytes "
			"1..%u]\n"
			"           [--sessions 1..5000000] [--dir DIR]\n",
			(unsigned)BYTES_MAX);
		return 2;
	}
	alarm((unsigned)(s.seconds * s.n_depths) + PATIENCE_S);
	return run_all(&s);
}
