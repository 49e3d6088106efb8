/* test_disk.c -- a disk that fills up: below the reserve a server says so, below the floor it takes nothing; and when a write of the
 * library itself finds no room the process ends, and one that has room again finds everything that was acknowledged.
 *
 * The full disk is a tmpfs in a mount namespace of the test's own. Without the right to make one: skipped. */
#include "server.h"

#include <errno.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "core/must.h"

#define WAIT_MS 60000
#define EACH    64

/* ---- a server on that disk, in a process of its own ---- */

struct process {
	uv_loop_t loop;
	struct server server;
	struct consensus_options options;
	uint64_t large[TALLY_LARGE / 8];
	unsigned outstanding;
	uint64_t *acknowledged; /* shared with the test */
};

static bool leads(void *arg)
{
	return ((struct process *)arg)->server.leads_term != 0;
}

static void on_done(void *arg, int status, uint64_t index)
{
	struct process *p = arg;
	(void)index;
	p->outstanding--;
	if (status == 0)
		++*p->acknowledged;
}

static bool answered(void *arg)
{
	return ((struct process *)arg)->outstanding == 0;
}

static void propose(struct process *p)
{
	if (consensus_propose(p->server.consensus, p->large, sizeof p->large, on_done, p) == 0)
		p->outstanding++;
}

static void begin(struct process *p)
{
	server_start(&p->server, &p->options);
	must(loop_until(&p->loop, leads, p, WAIT_MS));
}

/* Proposes until the process ends for want of room. */
static _Noreturn void fill(struct process *p)
{
	begin(p);
	uint64_t last = UINT64_MAX;
	while (*p->acknowledged != last) {
		last = *p->acknowledged;
		for (unsigned i = 0; i < EACH; i++)
			propose(p);
		must(loop_until(&p->loop, answered, p, WAIT_MS));
	}
	_exit(2);
}

/* Every entry that was acknowledged is there, and more can follow. */
static _Noreturn void recover(struct process *p)
{
	uint64_t before = *p->acknowledged;
	begin(p);
	bool all = p->server.tally.applied >= before;
	propose(p);
	must(loop_until(&p->loop, answered, p, WAIT_MS));
	_exit(all && *p->acknowledged == before + 1 ? 0 : 1);
}

static int run_apart(struct process *p, void (*run)(struct process *p))
{
	int status;
	pid_t pid = fork();
	must(pid >= 0);
	if (pid == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGABRT, SIG_DFL);
		signal(SIGPIPE, SIG_IGN);
		must(uv_loop_init(&p->loop) == 0);
		p->options.loop = &p->loop;
		run(p);
	}
	must(waitpid(pid, &status, 0) == pid);
	return status;
}

/* ---- the tests ---- */

static void init(struct process *p, char (*addresses)[CONSENSUS_ADDRESS_SIZE], const char *name)
{
	memset(p, 0, sizeof *p);
	pick_addresses(addresses, 1);
	p->options = server_options(&p->server, NULL, name, 1, addresses, 1);
}

static void test_reserve(void **state)
{
	static struct process p;
	static uint64_t acknowledged;
	char addresses[1][CONSENSUS_ADDRESS_SIZE];
	struct consensus_counts counts;
	(void)state;
	scratch_dir();
	for (int floor = 0; floor < 2; floor++) {
		init(&p, addresses, "reserve");
		p.acknowledged = &acknowledged;
		uv_loop_init(&p.loop);
		p.options.loop = &p.loop;
		p.options.disk_reserve = UINT64_MAX / 2;
		p.options.disk_floor = floor ? UINT64_MAX / 2 : 1;
		char dir[128];
		snprintf(dir, sizeof dir, "%s/floor%d", scratch_dir(), floor);
		p.options.dir = dir;
		begin(&p);
		assert_true(consensus_disk_low(p.server.consensus));
		consensus_count(p.server.consensus, &counts);
		assert_true(counts.disk_low);
		assert_true(counts.disk_free > 0 && counts.disk_free < UINT64_MAX);
		assert_int_equal(consensus_propose(p.server.consensus, p.large, sizeof p.large, on_done, &p),
				 floor ? -ENOSPC : 0);
		p.outstanding = !floor;
		assert_true(loop_until(&p.loop, answered, &p, WAIT_MS));
		server_stop(&p.server, &p.loop);
		loop_end(&p.loop);
	}
	assert_int_equal(acknowledged, 1);
	scratch_remove();
}

static void mount_tmpfs(const char *dir, const char *size, unsigned long flags)
{
	must(mount("tmpfs", dir, "tmpfs", flags, size) == 0);
}

/* In a namespace of its own: exit status 0, or what went wrong. */
static int fill_and_recover(uint64_t *acknowledged)
{
	static struct process p;
	char addresses[1][CONSENSUS_ADDRESS_SIZE], dir[128], raft[160];
	if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return 77;
	init(&p, addresses, "unused");
	snprintf(dir, sizeof dir, "%s/small", scratch_dir());
	snprintf(raft, sizeof raft, "%s/raft", dir);
	must(mkdir(dir, 0700) == 0);
	mount_tmpfs(dir, "size=24m", 0);
	p.acknowledged = acknowledged;
	p.options.dir = raft;
	p.options.disk_reserve = p.options.disk_floor = 1;
	int status = run_apart(&p, fill);
	if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT)
		return 2;
	mount_tmpfs(dir, "size=160m", MS_REMOUNT);
	status = run_apart(&p, recover);
	umount2(dir, MNT_DETACH);
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : 3;
}

static void test_no_room(void **state)
{
	uint64_t *acknowledged =
		mmap(NULL, sizeof *acknowledged, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int status;
	(void)state;
	assert_true(acknowledged != MAP_FAILED);
	scratch_dir();
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(fill_and_recover(acknowledged));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	scratch_remove();
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77) {
		print_message("SKIPPED: no right to make a mount namespace\n");
		skip();
	}
	print_message("  acknowledged before the disk was full: %llu entries of %u bytes\n",
		      (unsigned long long)*acknowledged, (unsigned)TALLY_LARGE);
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_true(*acknowledged > 1000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_reserve), cmocka_unit_test(test_no_room)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
