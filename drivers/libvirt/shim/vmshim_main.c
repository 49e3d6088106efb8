/* vmshim_main.c -- berth-vmshim: holds the channel to one guest's agent for as long as its QEMU runs. Executed by sandboxd
 * (guest_shim.c), which it outlives.
 *
 * Happy path: log and exit file are opened, then privileges go; HELLO to the guest; sandboxd connects and asks; outputs
 * become lines of the log; EXIT is written down, BYE, and QEMU ends, and this process with it.
 * Failure: whatever the guest does that it may not ends the conversation, and this process; sandboxd ends QEMU then. A guest
 * that floods the channel is read no faster than a tenth of a processor allows.
 * Invariants: nothing blocks but poll and the log's disk; memory is bounded by the buffers below. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "confine.h"
#include "conversation.h"
#include "core/clock.h"
#include "core/fd.h"
#include "talk.h"

#define OUT_MAX      (GUEST_FRAME_MAX + 4096)
#define SIGNALS_MAX  1024 /* bytes of frames that wait */
#define LEAVE_MS     2000
#define CPU_BURST_NS 500000000
#define CPU_SHARE    10 /* one part of so many */

struct shim {
	struct conversation talk;
	int listen, agent, control, exit;
	struct buf out;
	bool clock; /* to be sent when nothing is before it */
	bool written;
	uint64_t leave_ms;         /* 0: it is not over */
	int64_t credit_ns;         /* of processor time, for reading */
	uint64_t wall_ns, used_ns; /* as of then */
};

/* -- sandboxd ------------------------------------------------------------------------------------------------- */

static void tell(struct shim *s)
{
	if (s->control >= 0)
		(void)!send(s->control, &s->talk.status, sizeof s->talk.status, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void accept_control(struct shim *s)
{
	int fd = accept4(s->listen, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	fd_close(&s->control); /* of a sandboxd that is gone */
	s->control = fd;
	tell(s);
}

/* Goes to the guest as it is: sandboxd made it. */
static bool take_frame(struct shim *s, int memfd)
{
	struct stat st;
	char *to;

	if (fstat(memfd, &st) != 0 || st.st_size <= 0 || st.st_size > GUEST_FRAME_MAX)
		return false;
	to = buf_reserve(&s->out, (size_t)st.st_size);
	if (to == NULL || pread(memfd, to, (size_t)st.st_size, 0) != (ssize_t)st.st_size)
		return false;
	s->out.n += (size_t)st.st_size;
	return true;
}

static void take_request(struct shim *s, const struct talk_request *q, int fd)
{
	struct guest_signal signal = {.signal = (uint8_t)q->signal};

	if (q->type == TALK_START && fd >= 0 && !s->talk.started)
		s->talk.started = take_frame(s, fd);
	else if (q->type == TALK_NETWORK && fd >= 0 && s->out.n < SIGNALS_MAX)
		(void)take_frame(s, fd);
	else if (q->type == TALK_CLOCK)
		s->clock = true;
	else if (q->type == TALK_SIGNAL && q->signal > 0 && q->signal < 65 && s->out.n < SIGNALS_MAX)
		guest_frame_write(&s->out, GUEST_SIGNAL, guest_body_codec[GUEST_SIGNAL], &signal);
}

static void read_control(struct shim *s)
{
	struct talk_request q;
	struct iovec iov = {&q, sizeof q};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(s->control, &m, MSG_CMSG_CLOEXEC);
	struct cmsghdr *c;
	CLEANUP_FD int fd = -1;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		fd_close(&s->control); /* this process goes on */
		return;
	}
	c = CMSG_FIRSTHDR(&m);
	if (c != NULL && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof fd);
	if (n == (ssize_t)sizeof q)
		take_request(s, &q, fd);
}

/* -- The guest ------------------------------------------------------------------------------------------------ */

static uint64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* How long the guest is not read, so that it costs no more than its share. */
static int rest_ms(struct shim *s)
{
	uint64_t wall = now_ns(CLOCK_MONOTONIC), used = now_ns(CLOCK_PROCESS_CPUTIME_ID);

	s->credit_ns += (int64_t)((wall - s->wall_ns) / CPU_SHARE) - (int64_t)(used - s->used_ns);
	if (s->credit_ns > CPU_BURST_NS)
		s->credit_ns = CPU_BURST_NS;
	s->wall_ns = wall;
	s->used_ns = used;
	return s->credit_ns >= 0 ? 0 : (int)(-s->credit_ns * CPU_SHARE / 1000000) + 1;
}

/* False: nothing can come from it any more. */
static bool read_agent(struct shim *s)
{
	size_t room;
	char *to = conversation_room(&s->talk, &room);
	ssize_t n = recv(s->agent, to, room, MSG_DONTWAIT);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	if (n == 0)
		return false;
	if (conversation_take(&s->talk, (size_t)n))
		tell(s);
	return true;
}

static void write_agent(struct shim *s)
{
	if (s->clock && s->out.n == 0 && s->talk.status.state != TALK_SILENT) {
		struct guest_clock clock = {.wall_ns = now_ns(CLOCK_REALTIME)};

		guest_frame_write(&s->out, GUEST_CLOCK, guest_body_codec[GUEST_CLOCK], &clock);
		s->clock = false;
	}
	while (s->out.n > 0) {
		ssize_t n = send(s->agent, s->out.p, s->out.n, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n <= 0)
			return;
		buf_drop(&s->out, (size_t)n);
		explicit_bzero(s->out.p + s->out.n, (size_t)n); /* where secrets have been */
	}
}

static void write_exit(struct shim *s)
{
	struct sandbox_exit e = s->talk.exit;
	CLEANUP_BUF struct buf b = {0};

	if (s->written)
		return;
	conversation_end(&s->talk);
	e.wall_ms = clock_wall_ms();
	codec_encode(&b, &sandbox_exit_codec, &e);
	(void)!pwrite(s->exit, b.p, b.n, 0);
	s->written = true;
}

static void take_leave(struct shim *s)
{
	write_exit(s);
	tell(s);
	guest_frame_write(&s->out, GUEST_BYE, NULL, NULL);
	s->leave_ms = clock_boot_ms() + LEAVE_MS;
}

static int wait_ms(const struct shim *s, int rest)
{
	uint64_t now = clock_boot_ms();
	int ms = rest > 0 ? rest : -1;

	if (s->leave_ms != 0 && (ms < 0 || s->leave_ms < now + (uint64_t)ms))
		ms = s->leave_ms > now ? (int)(s->leave_ms - now) : 0;
	return ms;
}

/* False: it is over. */
static bool turn(struct shim *s)
{
	int rest = rest_ms(s);
	struct pollfd p[] = {
		{rest > 0 ? -1 : s->agent, POLLIN, 0}, {s->listen, POLLIN, 0}, {s->control, POLLIN, 0}};
	bool leaving = s->leave_ms != 0;

	if (leaving)
		p[0].events = 0; /* nothing that it says matters now; its end does */

	write_agent(s);
	if (s->out.n > 0)
		p[0].events |= POLLOUT;
	if (poll(p, 3, wait_ms(s, rest)) < 0 && errno != EINTR)
		return false;
	if (p[1].revents != 0)
		accept_control(s);
	if (p[2].revents != 0)
		read_control(s);
	if ((p[0].revents & (leaving ? POLLHUP | POLLERR : ~POLLOUT)) != 0 && (leaving || !read_agent(s)))
		return false;
	if (s->leave_ms == 0 && conversation_is_over(&s->talk))
		take_leave(s);
	return s->leave_ms == 0 || clock_boot_ms() < s->leave_ms;
}

static void serve(struct shim *s)
{
	struct guest_hello hello = {.nonce = s->talk.nonce};

	guest_frame_write(&s->out, GUEST_HELLO, &guest_hello_codec, &hello);
	s->wall_ns = now_ns(CLOCK_MONOTONIC);
	while (turn(s))
		;
	write_exit(s);
}

/* -- The start ------------------------------------------------------------------------------------------------ */

static int open_all(struct shim *s, const char *dir, uint32_t id, uint64_t log_bytes, struct err *err)
{
	char path[600];
	int r;

	if (strlen(dir) > sizeof path - 8)
		return err_set(err, -ENAMETOOLONG, "%s", dir);
	snprintf(path, sizeof path, "%s/log", dir);
	r = log_writer_open(&s->talk.log, path, id, log_bytes, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%s/exit", dir);
	s->exit = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (s->exit < 0)
		return err_system(err, -errno, "open %s", path);
	if (getrandom(&s->talk.nonce, sizeof s->talk.nonce, 0) != (ssize_t)sizeof s->talk.nonce)
		return err_system(err, -errno, "random number");
	/* All that it will need, in one place. */
	s->out = BUF_MAX(OUT_MAX);
	return buf_reserve(&s->out, OUT_MAX) != NULL ? 0 : err_set(err, -ENOMEM, "no memory");
}

/* What sandboxd waits for is the end of standard error, and it must be empty. */
static int begin(struct shim *s, const char *dir, uint32_t id, uint64_t log_bytes, struct err *err)
{
	CLEANUP_FD int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	int r = open_all(s, dir, id, log_bytes, err);

	if (r < 0)
		return r;
	if (setsid() < 0 || null < 0)
		return err_system(err, -errno, "session");
	r = confine(id, err);
	if (r == 0 && dup3(null, 2, 0) != 2)
		r = err_system(err, -errno, "standard error");
	return r;
}

int main(int argc, char **argv)
{
	static struct shim s = {.listen = TALK_LISTEN_FD, .agent = TALK_AGENT_FD, .control = -1, .exit = -1};
	uint64_t id, log_bytes;
	struct err err = {0};
	pid_t pid;

	if (argc != 4 || str_u64(str_of(argv[2]), UINT32_MAX - 1, &id) < 0 || id == 0 ||
	    str_u64(str_of(argv[3]), UINT64_MAX, &log_bytes) < 0)
		return 2; /* only sandboxd starts it */
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	pid = fork(); /* nobody's child who would have to wait for it */
	if (pid != 0)
		_exit(pid < 0);
	conversation_begin(&s.talk);
	if (begin(&s, argv[1], (uint32_t)id, log_bytes, &err) < 0) {
		dprintf(2, "%s", err.message);
		_exit(1);
	}
	serve(&s);
	_exit(0);
}
