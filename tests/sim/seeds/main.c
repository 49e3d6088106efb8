/* main.c -- berth-sim: many seeds, several at a time, each batch in a process of its own, so that a crash is that of its seed.
 * See `berth-sim --help`. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "sim/blank.h"
#include "core/clock.h"
#include "core/must.h"
#include "sim/seeds/seed.h"

#define JOBS_MAX    64
#define BATCH       16
#define SEED_CPU_S  120 /* then it hangs */
#define PROGRESS_MS 10000

static const char help[] = "berth-sim: whole clusters on virtual time, from seeds; judges what "
			   "docs/architecture.md says must hold.\n"
			   "\n"
			   "  --seeds N         how many; default: as many as fit into --seconds\n"
			   "  --start S         the first; default 1\n"
			   "  --seconds T       ends no later than after T s; default: BERTH_SIM_SECONDS, "
			   "else 30, without --seeds\n"
			   "  --jobs J          so many at a time; default: one\n"
			   "  --voters V        1, 3 or 5 instead of what the seed chooses\n"
			   "  --workers W       0 to 50 instead of what the seed chooses\n"
			   "  --twice           runs each seed twice and compares the traces\n"
			   "  --unguarded       the library without our guard\n"
			   "  --expect-violation  success is one violation within the seeds; stops there\n"
			   "  --quiet           no progress\n"
			   "\n"
			   "A seed that fails prints what did not hold and the command that replays it "
			   "exactly. Exit status: 0 all held, 1 not, 2 usage.\n";

struct batch {
	pid_t pid;
	int fd;
	uint64_t next, end; /* the seed that runs */
};

static struct {
	uint64_t first, count, seconds;
	uint32_t jobs;
	bool twice, expect, quiet;
	struct seed_options seed;
} options = {.first = 1, .jobs = 1, .seed = {.workers = -1}};

static struct batch batches[JOBS_MAX];
static struct seed_result sums;
static uint64_t n_done, n_failed, first_failed, begun_ms, next_seed, shown_ms;

/* -- Options ------------------------------------------------------------------------------------------------------ */

static uint64_t number(const char *name, const char *text, uint64_t max)
{
	char *end = NULL;
	uint64_t value = text == NULL ? 0 : strtoull(text, &end, 10);

	if (text == NULL || *text < '0' || *text > '9' || *end != '\0' || value > max) {
		fprintf(stderr, "berth-sim: %s: a number up to %llu\n", name, (unsigned long long)max);
		exit(2);
	}
	return value;
}

static bool flag(const char *name)
{
	bool *at = strcmp(name, "--twice") == 0              ? &options.twice
		   : strcmp(name, "--unguarded") == 0        ? &options.seed.unguarded
		   : strcmp(name, "--expect-violation") == 0 ? &options.expect
		   : strcmp(name, "--quiet") == 0            ? &options.quiet
							     : NULL;

	if (at != NULL)
		*at = true;
	return at != NULL;
}

static void option(const char *name, const char *value)
{
	if (strcmp(name, "--seeds") == 0)
		options.count = number(name, value, 1000000000);
	else if (strcmp(name, "--start") == 0)
		options.first = number(name, value, UINT64_MAX / 2);
	else if (strcmp(name, "--seconds") == 0)
		options.seconds = number(name, value, 1000000);
	else if (strcmp(name, "--jobs") == 0)
		options.jobs = (uint32_t)number(name, value, JOBS_MAX);
	else if (strcmp(name, "--voters") == 0)
		options.seed.voters = (uint32_t)number(name, value, SIM_VOTERS);
	else if (strcmp(name, "--workers") == 0)
		options.seed.workers = (int)number(name, value, 50);
	else {
		fprintf(stderr, "berth-sim: unknown option %s; see --help\n", name);
		exit(2);
	}
}

static void read_options(int argc, char **argv)
{
	const char *seconds = getenv("BERTH_SIM_SECONDS");

	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0) {
			fputs(help, stdout);
			exit(0);
		}
		if (!flag(argv[i])) {
			option(argv[i], i + 1 < argc ? argv[i + 1] : NULL);
			i++;
		}
	}
	if (options.count == 0 && options.seconds == 0)
		options.seconds = seconds != NULL ? number("BERTH_SIM_SECONDS", seconds, 1000000) : 30;
	if (options.count == 0)
		options.count = UINT64_MAX / 4;
	options.jobs = options.jobs == 0 ? 1 : options.jobs;
}

/* -- In the children ---------------------------------------------------------------------------------------------- */

static void limit_time(void)
{
	struct itimerval limit = {.it_value = {SEED_CPU_S, 0}};

	setitimer(ITIMER_PROF, &limit, NULL);
}

static void run_batch(uint64_t first, uint64_t end, int fd)
{
	struct rlimit none = {0, 0};
	struct seed_result result, again;

	setrlimit(RLIMIT_CORE, &none);
	for (uint64_t seed = first; seed < end; seed++) {
		limit_time();
		seed_run(seed, &options.seed, &result);
		if (options.twice) {
			seed_run(seed, &options.seed, &again);
			if (again.trace != result.trace) {
				fprintf(stderr, "seed %llu: its second run went another way\n",
					(unsigned long long)seed);
				_exit(3);
			}
		}
		if (write(fd, &result, sizeof result) != sizeof result)
			_exit(4);
	}
	_exit(0);
}

/* -- In the parent ------------------------------------------------------------------------------------------------ */

static void start(struct batch *b, uint64_t first, uint64_t end)
{
	int ends[2];

	must(pipe(ends) == 0);
	b->next = first;
	b->end = end;
	fflush(NULL);
	b->pid = fork();
	must(b->pid >= 0);
	if (b->pid == 0) {
		close(ends[0]);
		run_batch(first, end, ends[1]);
	}
	close(ends[1]);
	b->fd = ends[0];
}

static void start_next(struct batch *b)
{
	uint64_t end = options.first + options.count, first = next_seed;

	next_seed = first + BATCH < end ? first + BATCH : end;
	start(b, first, next_seed);
}

static void add(const struct seed_result *r)
{
	n_done++;
	sums.asks += r->asks;
	sums.served += r->served;
	sums.stale += r->stale;
	sums.entries += r->entries;
	sums.events += r->events;
	sums.virtual_ms += r->virtual_ms;
	for (uint32_t i = 0; i < FAULTS; i++)
		sums.counts[i] += r->counts[i];
}

static void failed(uint64_t seed, int status)
{
	n_done++;
	if (n_failed++ == 0)
		first_failed = seed;
	if (WIFSIGNALED(status) && WTERMSIG(status) != SIGABRT)
		fprintf(stderr, "seed %llu: ended by signal %d%s\n", (unsigned long long)seed,
			WTERMSIG(status), WTERMSIG(status) == SIGPROF ? ": it hangs" : "");
	printf("replay: berth-sim --seeds 1 --start %llu", (unsigned long long)seed);
	if (options.seed.voters != 0)
		printf(" --voters %u", options.seed.voters);
	if (options.seed.workers >= 0)
		printf(" --workers %d", options.seed.workers);
	printf("%s%s\n", options.seed.unguarded ? " --unguarded" : "", options.twice ? " --twice" : "");
	fflush(stdout);
}

static bool time_is_over(void)
{
	return (options.seconds != 0 && clock_boot_ms() > begun_ms + options.seconds * 1000) ||
	       (options.expect && n_failed > 0);
}

/* A child ended: by a seed that failed, then the rest of its batch goes on in another one. */
static void ended(struct batch *b)
{
	int status;

	close(b->fd);
	must(waitpid(b->pid, &status, 0) == b->pid);
	b->pid = 0;
	if (b->next == b->end)
		return;
	failed(b->next, status);
	if (b->next + 1 < b->end && !time_is_over())
		start(b, b->next + 1, b->end);
}

static void take(struct batch *b)
{
	struct seed_result result;
	ssize_t n = read(b->fd, &result, sizeof result);

	if (n == (ssize_t)sizeof result) {
		add(&result);
		b->next++;
	} else {
		ended(b);
	}
}

static double rate(void)
{
	uint64_t ms = clock_boot_ms() - begun_ms;

	return ms == 0 ? 0 : (double)n_done * 1000 / (double)ms;
}

static void show_progress(void)
{
	uint64_t now = clock_boot_ms();

	if (options.quiet || now < shown_ms + PROGRESS_MS)
		return;
	shown_ms = now;
	fprintf(stderr, "%llu seeds, %.1f a second, %llu failed\n", (unsigned long long)n_done, rate(),
		(unsigned long long)n_failed);
}

/* False: nothing runs any more. */
static bool turn(void)
{
	struct pollfd fds[JOBS_MAX];
	struct batch *of[JOBS_MAX];
	nfds_t n = 0;

	for (uint32_t i = 0; i < options.jobs; i++) {
		if (batches[i].pid == 0 && next_seed < options.first + options.count && !time_is_over())
			start_next(&batches[i]);
		if (batches[i].pid == 0)
			continue;
		if (time_is_over()) { /* what runs is not waited for */
			kill(batches[i].pid, SIGKILL);
			close(batches[i].fd);
			waitpid(batches[i].pid, NULL, 0);
			batches[i].pid = 0;
			continue;
		}
		of[n] = &batches[i];
		fds[n++] = (struct pollfd){.fd = batches[i].fd, .events = POLLIN};
	}
	if (n == 0)
		return false;
	if (poll(fds, n, 500) < 0)
		must(errno == EINTR);
	for (nfds_t i = 0; i < n; i++) {
		if (fds[i].revents != 0)
			take(of[i]);
	}
	show_progress();
	return true;
}

static void report(void)
{
	uint64_t ms = clock_boot_ms() - begun_ms;

	printf("%llu seeds from %llu in %.1f s, %.1f a second: %llu failed\n", (unsigned long long)n_done,
	       (unsigned long long)options.first, (double)ms / 1000, rate(), (unsigned long long)n_failed);
	printf("%llu h of clusters' time, %llu events, %llu entries, %llu requests, %llu served, %llu "
	       "refused as stale\n",
	       (unsigned long long)(sums.virtual_ms / 3600000), (unsigned long long)sums.events,
	       (unsigned long long)sums.entries, (unsigned long long)sums.asks,
	       (unsigned long long)sums.served, (unsigned long long)sums.stale);
	for (uint32_t i = 0; i < FAULTS; i++)
		printf("  %-28s %llu\n", sim_fault_name[i], (unsigned long long)sums.counts[i]);
}

int main(int argc, char **argv)
{
	read_options(argc, argv);
	blank_from_environment();
	begun_ms = shown_ms = clock_boot_ms();
	next_seed = options.first;
	while (turn())
		;
	report();
	if (options.expect && n_failed > 0)
		printf("a violation, as expected, at seed %llu, the %lluth\n",
		       (unsigned long long)first_failed,
		       (unsigned long long)(first_failed - options.first + 1));
	return options.expect ? n_failed == 0 : n_failed > 0 || n_done == 0;
}
