/* server.c -- see server.h. */
#include "server.h"

#include <arpa/inet.h>
#include <ftw.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "core/clock.h"

static char scratch[64];
static pid_t scratch_owner;

const char *scratch_dir(void)
{
	if (scratch[0] == 0) {
		scratch_owner = getpid();
		snprintf(scratch, sizeof scratch, "/tmp/berth-test.%d", (int)scratch_owner);
		assert_int_equal(mkdir(scratch, 0700), 0);
	}
	return scratch;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

void scratch_remove(void)
{
	if (scratch[0] != 0 && scratch_owner == getpid())
		nftw(scratch, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	scratch[0] = 0;
}

/* An address of this process alone, so that nothing else takes its ports while a server is stopped. */
static struct sockaddr_in own_address(void)
{
	uint32_t pid = (uint32_t)getpid();
	uint32_t ip = 127u << 24 | (1 + (pid >> 16 & 63)) << 16 | (pid & 0xffff);
	return (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(ip)};
}

void pick_addresses(char (*addresses)[CONSENSUS_ADDRESS_SIZE], unsigned n)
{
	int fds[CONSENSUS_MEMBERS_MAX];
	for (unsigned i = 0; i < n; i++) {
		struct sockaddr_in a = own_address();
		socklen_t size = sizeof a;
		char ip[INET_ADDRSTRLEN];
		fds[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_true(fds[i] >= 0);
		assert_int_equal(bind(fds[i], (struct sockaddr *)&a, sizeof a), 0);
		assert_int_equal(getsockname(fds[i], (struct sockaddr *)&a, &size), 0);
		assert_non_null(inet_ntop(AF_INET, &a.sin_addr, ip, sizeof ip));
		snprintf(addresses[i], CONSENSUS_ADDRESS_SIZE, "%s:%u", ip, ntohs(a.sin_port));
	}
	for (unsigned i = 0; i < n; i++)
		close(fds[i]);
}

static void on_leadership(void *arg, bool leads, uint64_t term)
{
	struct server *s = arg;
	s->leads_term = leads ? term : 0;
	s->gained += leads;
}

static void on_failed(void *arg, const char *why)
{
	struct server *s = arg;
	s->failed++;
	snprintf(s->why, sizeof s->why, "%s", why);
}

static void on_closed(void *arg)
{
	struct server *s = arg;
	s->closed = true;
}

struct consensus_options server_options(struct server *s, struct uv_loop_s *loop, const char *name,
					uint64_t id, char (*addresses)[CONSENSUS_ADDRESS_SIZE], unsigned n)
{
	static struct consensus_member members[CONSENSUS_MEMBERS_MAX];
	static char dir[CONSENSUS_DIR_SIZE];
	for (unsigned i = 0; i < n; i++)
		members[i] = (struct consensus_member){i + 1, addresses[i]};
	snprintf(dir, sizeof dir, "%s/%s%llu", scratch_dir(), name, (unsigned long long)id);
	return (struct consensus_options){
		.loop = loop,
		.dir = dir,
		.id = id,
		.members = members,
		.n_members = n,
		.machine = tally_machine(&s->tally),
		.leadership = on_leadership,
		.failed = on_failed,
		.arg = s,
	};
}

void server_start(struct server *s, const struct consensus_options *options)
{
	struct err err = {0};
	signal(SIGPIPE, SIG_IGN);
	if (consensus_new(options, &s->consensus, &err) != 0 || consensus_start(s->consensus, &err) != 0)
		fail_msg("%s", err.message);
}

static bool is_closed(void *arg)
{
	return ((struct server *)arg)->closed;
}

void server_stop(struct server *s, struct uv_loop_s *loop)
{
	if (s->consensus == NULL)
		return;
	consensus_close(s->consensus, on_closed, s);
	assert_true(loop_until(loop, is_closed, s, 30000));
	assert_int_equal(s->tally.views, 0);
	memset(s, 0, sizeof *s);
}

static void wake(uv_timer_t *timer)
{
	(void)timer;
}

static void free_timer(uv_handle_t *handle)
{
	free(handle);
}

bool loop_until(struct uv_loop_s *loop, bool (*done)(void *arg), void *arg, uint64_t ms_max)
{
	uv_timer_t *timer = malloc(sizeof *timer);
	uint64_t end = clock_boot_ms() + ms_max;
	bool is_done;
	assert_non_null(timer);
	uv_timer_init(loop, timer);
	uv_timer_start(timer, wake, 20, 20); /* so that the loop never waits longer */
	while (!(is_done = done(arg)) && clock_boot_ms() < end)
		uv_run(loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)timer, free_timer);
	return is_done;
}

void loop_end(struct uv_loop_s *loop)
{
	uv_run(loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(loop), 0);
}

int servers_leader(const struct server *servers, unsigned n)
{
	int leader = -1;
	uint64_t term = 0;
	for (unsigned i = 0; i < n; i++) {
		const struct server *s = &servers[i];
		if (s->consensus != NULL && s->leads_term > term && consensus_leads(s->consensus)) {
			leader = (int)i;
			term = s->leads_term;
		}
	}
	return leader;
}
