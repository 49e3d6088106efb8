/* test_crash.c -- three servers as processes under load, killed with SIGKILL: the leader again and again,
 * then all at once. Every value that was acknowledged must be there afterwards, once, on all three.
 *
 * Each process proposes values of a range of its own while it leads, and reports through a pipe: what was
 * acknowledged, who leads. A value counts as acknowledged once its report is in the pipe. */
#include "server.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define N           3
#define OUTSTANDING 16
#define RANGE       3000u           /* values that one process may propose */
#define MARKER      (TALLY_MAX - 1) /* proposed last: who has it has everything */
#define WAIT_MS     60000

enum { REPORT_LEADS = 1, REPORT_ACKNOWLEDGED, REPORT_FINAL };

struct report {
	uint32_t kind, server;
	uint64_t value;
};

/* ---- one server process ---- */

struct process {
	struct server server;
	uv_loop_t loop;
	uv_timer_t timer;
	struct consensus_options options;
	int pipe;
	uint64_t next, end; /* values still to propose */
	bool final;         /* propose the marker alone, and report when it is applied */
	bool reported;
	uint64_t told_term;
	unsigned outstanding;
};

struct sent {
	struct process *process;
	uint64_t value;
};

static void report(const struct process *p, uint32_t kind, uint64_t value)
{
	struct report r = {kind, (uint32_t)p->options.id, value};
	must(write(p->pipe, &r, sizeof r) == sizeof r);
}

static void on_proposed(void *arg, int status, uint64_t index)
{
	struct sent *s = arg;
	(void)index;
	s->process->outstanding--;
	if (status == 0)
		report(s->process, REPORT_ACKNOWLEDGED, s->value);
	free(s);
}

static void propose_next(struct process *p)
{
	struct sent *s = malloc(sizeof *s);
	must(s != NULL);
	*s = (struct sent){p, p->next};
	int rc = consensus_propose(p->server.consensus, &s->value, sizeof s->value, on_proposed, s);
	if (rc != 0) {
		must(rc == -EAGAIN || rc == -ENOSPC);
		free(s);
		return;
	}
	p->next++;
	p->outstanding++;
}

static void write_final(struct process *p)
{
	char path[600];
	struct err err = {0};
	snprintf(path, sizeof path, "%s.final", p->options.dir);
	must(fd_write_file(path, 0600, &p->server.tally, sizeof p->server.tally, &err) == 0);
	report(p, REPORT_FINAL, p->server.tally.hash);
	p->reported = true;
}

static void on_timer(uv_timer_t *timer)
{
	struct process *p = timer->data;
	must(p->server.failed == 0);
	if (p->server.leads_term != 0 && p->server.leads_term != p->told_term) {
		p->told_term = p->server.leads_term;
		report(p, REPORT_LEADS, p->told_term);
	}
	for (unsigned i = p->outstanding; i < OUTSTANDING && p->next < p->end && p->server.leads_term != 0;
	     i++)
		propose_next(p);
	if (p->final && !p->reported && p->server.tally.seen[MARKER] > 0)
		write_final(p);
}

static _Noreturn void run_process(struct process *p)
{
	struct err err = {0};
	signal(SIGPIPE, SIG_IGN);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(uv_loop_init(&p->loop) == 0);
	p->options.loop = &p->loop;
	if (consensus_new(&p->options, &p->server.consensus, &err) != 0 ||
	    consensus_start(p->server.consensus, &err) != 0) {
		fprintf(stderr, "server %llu: %s\n", (unsigned long long)p->options.id, err.message);
		_exit(3);
	}
	uv_timer_init(&p->loop, &p->timer);
	p->timer.data = p;
	uv_timer_start(&p->timer, on_timer, 1, 1);
	uv_run(&p->loop, UV_RUN_DEFAULT);
	_exit(4);
}

/* ---- the test ---- */

struct cluster {
	char addresses[N][CONSENSUS_ADDRESS_SIZE];
	struct process processes[N]; /* what the next fork of each copies */
	pid_t pids[N];
	int pipe[2];
	unsigned ranges; /* handed out */
	int leader;      /* who reported last that it leads */
	unsigned finals;
	uint64_t final_hash[N];
	unsigned acknowledged;
	bool was_acknowledged[TALLY_MAX];
};

static void spawn(struct cluster *c, unsigned i, bool final)
{
	struct process *p = &c->processes[i];
	memset(p, 0, sizeof *p);
	p->options = server_options(&p->server, NULL, "crash", i + 1, c->addresses, N);
	p->pipe = c->pipe[1];
	p->final = final;
	p->next = final ? MARKER : (uint64_t)c->ranges++ * RANGE;
	p->end = final ? MARKER + 1 : p->next + RANGE;
	assert_true(p->end <= MARKER || final);
	c->pids[i] = fork();
	assert_true(c->pids[i] >= 0);
	if (c->pids[i] == 0)
		run_process(p);
}

static void kill_one(struct cluster *c, unsigned i)
{
	int status;
	if (c->pids[i] == 0)
		return;
	kill(c->pids[i], SIGKILL);
	assert_int_equal(waitpid(c->pids[i], &status, 0), c->pids[i]);
	c->pids[i] = 0;
	if (c->leader == (int)i)
		c->leader = -1;
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		fail_msg("server %u ended by itself: status %x", i + 1, (unsigned)status);
}

static void hear(struct cluster *c, const struct report *r)
{
	unsigned i = r->server - 1;
	switch (r->kind) {
	case REPORT_LEADS:
		if (c->pids[i] != 0)
			c->leader = (int)i;
		break;
	case REPORT_ACKNOWLEDGED:
		assert_false(c->was_acknowledged[r->value]);
		c->was_acknowledged[r->value] = true;
		c->acknowledged++;
		break;
	default:
		c->finals++;
		c->final_hash[i] = r->value;
		break;
	}
}

/* Reads reports until there were n more acknowledgements, and f finals, and somebody leads. */
static void wait_for(struct cluster *c, unsigned n, unsigned finals)
{
	unsigned goal = c->acknowledged + n;
	uint64_t end = clock_boot_ms() + WAIT_MS;
	while (c->acknowledged < goal || c->finals < finals || c->leader < 0) {
		struct pollfd pfd = {.fd = c->pipe[0], .events = POLLIN};
		struct report r;
		if (clock_boot_ms() > end)
			fail_msg("%u of %u acknowledged, %u of %u finals, leader %d", c->acknowledged, goal,
				 c->finals, finals, c->leader);
		if (poll(&pfd, 1, 100) == 1 && read(c->pipe[0], &r, sizeof r) == sizeof r)
			hear(c, &r);
	}
}

/* Takes what dead processes had still reported. */
static void drain(struct cluster *c)
{
	struct pollfd pfd = {.fd = c->pipe[0], .events = POLLIN};
	struct report r;
	while (poll(&pfd, 1, 0) == 1 && read(c->pipe[0], &r, sizeof r) == sizeof r)
		hear(c, &r);
}

static void check_final(struct cluster *c, unsigned i)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct err err = {0};
	char path[600];
	snprintf(path, sizeof path, "%s/crash%u.final", scratch_dir(), i + 1);
	assert_int_equal(fd_read_file(path, 1 << 22, &bytes, &err), 0);
	assert_int_equal(bytes.n, sizeof(struct tally));
	const struct tally *t = (const struct tally *)(const void *)bytes.p;
	unsigned lost = 0, twice = 0;
	for (unsigned value = 0; value < MARKER; value++) {
		lost += c->was_acknowledged[value] && t->seen[value] == 0;
		twice += t->seen[value] > 1;
	}
	if (lost != 0 || twice != 0)
		fail_msg("server %u: %u of %u acknowledged values lost, %u applied twice", i + 1, lost,
			 c->acknowledged, twice);
	assert_int_equal(c->final_hash[i], c->final_hash[0]);
}

static int set_up(void **state)
{
	struct cluster *c = calloc(1, sizeof *c);
	assert_non_null(c);
	scratch_dir();
	pick_addresses(c->addresses, N);
	assert_int_equal(pipe2(c->pipe, O_CLOEXEC), 0);
	c->leader = -1;
	*state = c;
	return 0;
}

static int tear_down(void **state)
{
	struct cluster *c = *state;
	for (unsigned i = 0; i < N; i++) {
		if (c->pids[i] != 0) {
			kill(c->pids[i], SIGKILL);
			waitpid(c->pids[i], NULL, 0);
		}
	}
	close(c->pipe[0]);
	close(c->pipe[1]);
	free(c);
	scratch_remove();
	return 0;
}

static void test_kill(void **state)
{
	struct cluster *c = *state;
	for (unsigned i = 0; i < N; i++)
		spawn(c, i, false);
	wait_for(c, 200, 0);
	for (unsigned round = 0; round < 4; round++) {
		unsigned victim = (unsigned)c->leader;
		kill_one(c, victim);
		drain(c);
		wait_for(c, 100, 0);
		spawn(c, victim, false);
		wait_for(c, 100, 0);
	}
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < N; i++)
			kill(c->pids[i], SIGKILL);
		for (unsigned i = 0; i < N; i++)
			kill_one(c, i);
		drain(c);
		for (unsigned i = 0; i < N; i++)
			spawn(c, i, round == 1);
		wait_for(c, round == 0 ? 100 : 1, round == 0 ? 0 : N);
	}
	assert_true(c->acknowledged >= 1000);
	for (unsigned i = 0; i < N; i++)
		check_final(c, i);
}

/* Without room for a segment: files of this process may not grow beyond 1 MiB. */
static void test_disk_full(void **state)
{
	struct cluster *c = *state;
	int status;
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		struct process *p = &c->processes[0];
		struct rlimit small = {1 << 20, 1 << 20}, none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		signal(SIGXFSZ, SIG_IGN);
		setrlimit(RLIMIT_FSIZE, &small);
		close(STDERR_FILENO);
		p->options = server_options(&p->server, NULL, "full", 1, c->addresses, 1);
		p->pipe = c->pipe[1];
		run_process(p);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kill, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_disk_full, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
