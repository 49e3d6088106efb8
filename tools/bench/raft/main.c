/* bench-raft -- how many entries a second the log takes, and how long one waits, with 1, 16 and 256 outstanding.
 *
 *   bench-raft [--servers 1|3] [--seconds N] [--bytes N] [--dir DIR]
 *
 * Each server is a process of its own on loopback, with its files below DIR (which must not exist, and is removed at the
 * end; use the disk that is meant). Whoever leads proposes to itself, as berthd's control loop does, writes its
 * figures into a pipe and ends; then the others are ended. The machine applied to only counts. */
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
#include <unistd.h>
#include <uv.h>

#include "consensus/consensus.h"
#include "core/must.h"
#include "core/str.h"

#define SERVERS_MAX 3
#define BYTES_MAX   65536u
#define SAMPLES_MAX (1u << 22)

static const unsigned depths[] = {1, 16, 256};
#define DEPTHS (sizeof depths / sizeof *depths)

struct settings {
	unsigned servers;
	uint64_t seconds, bytes;
	const char *dir;
	char addresses[SERVERS_MAX][CONSENSUS_ADDRESS_SIZE];
};

struct figures {
	double per_second, p50_us, p99_us;
};

struct bench {
	const struct settings *settings;
	struct consensus *consensus;
	uv_loop_t loop;
	uint64_t applied;
	char entry[BYTES_MAX];
	unsigned phase, outstanding;
	uint64_t phase_began, done, n_samples;
	uint32_t *samples; /* microseconds */
	struct figures figures[DEPTHS];
	int pipe;
};

struct call {
	struct bench *bench;
	uint64_t began;
};

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

static void on_failed(void *arg, const char *why)
{
	(void)arg;
	fprintf(stderr, "bench-raft: %s\n", why);
	_exit(1);
}

static int compare(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

static void end_phase(struct bench *b, uint64_t now)
{
	struct figures *f = &b->figures[b->phase];
	qsort(b->samples, b->n_samples, sizeof *b->samples, compare);
	f->per_second = (double)b->done * 1e9 / (double)(now - b->phase_began);
	f->p50_us = b->n_samples > 0 ? b->samples[b->n_samples / 2] : 0;
	f->p99_us = b->n_samples > 0 ? b->samples[b->n_samples * 99 / 100] : 0;
	b->phase++;
	b->done = b->n_samples = 0;
	b->phase_began = now;
	if (b->phase < DEPTHS)
		return;
	must(write(b->pipe, b->figures, sizeof b->figures) == sizeof b->figures);
	_exit(0);
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
	if (now - b->phase_began > b->settings->seconds * 1000000000ull)
		end_phase(b, now);
	propose_some(b);
}

static void propose_some(struct bench *b)
{
	while (b->outstanding < depths[b->phase]) {
		struct call *call = malloc(sizeof *call);
		must(call != NULL);
		*call = (struct call){b, uv_hrtime()};
		int rc = consensus_propose(b->consensus, b->entry, b->settings->bytes, on_proposed, call);
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

static _Noreturn void run_server(const struct settings *s, unsigned i, int pipe)
{
	struct bench *b = calloc(1, sizeof *b);
	struct consensus_member members[SERVERS_MAX];
	struct err err = {0};
	char dir[600];
	must(b != NULL && (b->samples = calloc(SAMPLES_MAX, sizeof *b->samples)) != NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	signal(SIGPIPE, SIG_IGN);
	must(uv_loop_init(&b->loop) == 0);
	b->settings = s;
	b->pipe = pipe;
	for (unsigned j = 0; j < s->servers; j++)
		members[j] = (struct consensus_member){j + 1, s->addresses[j]};
	snprintf(dir, sizeof dir, "%s/%u", s->dir, i + 1);
	struct consensus_options options = {
		.loop = &b->loop,
		.dir = dir,
		.id = i + 1,
		.members = members,
		.n_members = s->servers,
		.machine = {b, on_apply, on_take, on_write, on_free, on_restore_read, on_restore, free},
		.leadership = on_leadership,
		.failed = on_failed,
		.arg = b,
	};
	if (consensus_new(&options, &b->consensus, &err) != 0 || consensus_start(b->consensus, &err) != 0) {
		fprintf(stderr, "bench-raft: %s\n", err.message);
		_exit(1);
	}
	uv_run(&b->loop, UV_RUN_DEFAULT);
	_exit(1);
}

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

static int run_all(struct settings *s)
{
	pid_t pids[SERVERS_MAX];
	struct figures figures[DEPTHS];
	int ends[2];
	if (mkdir(s->dir, 0700) != 0) {
		fprintf(stderr, "bench-raft: make %s: %s\n", s->dir, strerror(errno));
		return 1;
	}
	must(pipe2(ends, O_CLOEXEC) == 0);
	pick_addresses(s);
	for (unsigned i = 0; i < s->servers; i++) {
		pids[i] = fork();
		must(pids[i] >= 0);
		if (pids[i] == 0)
			run_server(s, i, ends[1]);
	}
	close(ends[1]);
	bool got = read(ends[0], figures, sizeof figures) == sizeof figures;
	for (unsigned i = 0; i < s->servers; i++) {
		kill(pids[i], SIGKILL);
		waitpid(pids[i], NULL, 0);
	}
	close(ends[0]);
	nftw(s->dir, remove_one, 16, FTW_DEPTH | FTW_PHYS);
	if (!got)
		return 1;
	printf("%u server%s, entries of %llu bytes, %llu s each\n", s->servers, s->servers > 1 ? "s" : "",
	       (unsigned long long)s->bytes, (unsigned long long)s->seconds);
	printf("%12s %12s %10s %10s\n", "outstanding", "entries/s", "p50 us", "p99 us");
	for (unsigned i = 0; i < DEPTHS; i++)
		printf("%12u %12.0f %10.0f %10.0f\n", depths[i], figures[i].per_second, figures[i].p50_us,
		       figures[i].p99_us);
	return 0;
}

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	return str_u64(str_of(text), max, ret) == 0 && *ret > 0;
}

int main(int argc, char **argv)
{
	struct settings s = {.servers = 1, .seconds = 3, .bytes = 256, .dir = "/tmp/berth-bench-raft"};
	uint64_t servers = 1;
	bool ok = argc % 2 == 1;
	for (int i = 1; ok && i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "--servers") == 0)
			ok = number(argv[i + 1], SERVERS_MAX, &servers) && servers != 2;
		else if (strcmp(argv[i], "--seconds") == 0)
			ok = number(argv[i + 1], 3600, &s.seconds);
		else if (strcmp(argv[i], "--bytes") == 0)
			ok = number(argv[i + 1], BYTES_MAX, &s.bytes);
		else if (strcmp(argv[i], "--dir") == 0)
			s.dir = argv[i + 1];
		else
			ok = false;
	}
	if (!ok) {
		fprintf(stderr,
			"bench-raft [--servers 1|3] [--seconds 1..3600] [--bytes 1..%u] [--dir DIR]\n",
			(unsigned)BYTES_MAX);
		return 2;
	}
	s.servers = (unsigned)servers;
	return run_all(&s);
}
