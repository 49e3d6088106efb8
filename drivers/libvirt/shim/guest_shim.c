#include "libvirt_shim/guest_shim.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "sandbox/process.h"
#include "sandbox/sandbox_dir.h"
#include "talk.h"

#define BEGIN_WAIT_MS  30000
#define STATUS_WAIT_MS 10000

struct guest_shim {
	char dir[SANDBOX_DIR_MAX];
	int sock, pidfd; /* -1: it was over when adopted */
	pid_t pid;
	_Atomic uint32_t state; /* enum talk_state, as of the last call that blocked */
	struct talk_status status;
};

/* -- Its status ----------------------------------------------------------------------------------------------- */

/* For people, and from a guest. */
static void make_printable(char *text, size_t size)
{
	text[size - 1] = '\0';
	for (; *text != '\0'; text++) {
		if (*text < ' ' || *text > '~')
			*text = '?';
	}
}

/* One message, with the process that sent it, as the kernel says. 0 or -errno; -ECONNRESET: there will be none. */
static int receive_status(struct guest_shim *g)
{
	struct talk_status status;
	struct iovec iov = {&status, sizeof status};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(struct ucred))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(g->sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct cmsghdr *c = n > 0 ? CMSG_FIRSTHDR(&m) : NULL;
	struct ucred who = {0};

	if (n < 0)
		return errno == EINTR ? -EAGAIN : -errno;
	if (n == 0)
		return -ECONNRESET;
	if (n != (ssize_t)sizeof status || status.state >= TALK_STATES)
		return -EPROTO;
	if (c != NULL && c->cmsg_type == SCM_CREDENTIALS)
		memcpy(&who, CMSG_DATA(c), sizeof who);
	if (g->pid == 0)
		g->pid = who.pid;
	make_printable(status.release, sizeof status.release);
	make_printable(status.message, sizeof status.message);
	g->status = status;
	atomic_store(&g->state, status.state);
	return 0;
}

/* Until its state is `wanted` or a later one. */
static int wait_for_state(struct guest_shim *g, enum talk_state wanted, int timeout_ms, const char *what,
			  struct err *err)
{
	uint64_t deadline = clock_boot_ms() + (uint64_t)timeout_ms, now;
	struct pollfd p = {g->sock, POLLIN, 0};
	int r = g->sock < 0 ? -ECONNRESET : 0;

	while (r == 0 && g->status.state < wanted) {
		r = receive_status(g);
		if (r != -EAGAIN)
			continue;
		now = clock_boot_ms();
		if (now >= deadline)
			return err_set(err, -ETIMEDOUT, "no %s within %d ms", what, timeout_ms);
		poll(&p, 1, (int)(deadline - now));
		r = 0;
	}
	if (r == 0 && g->status.state == TALK_BROKEN)
		return err_set(err, -EPROTO, "the machine's agent broke the protocol: %s", g->status.message);
	return r == 0 ? 0 : err_set(err, r, "the machine ended: no %s", what);
}

/* -- Beginning ------------------------------------------------------------------------------------------------ */

/* A path that is short enough for a socket, through a descriptor of its directory. */
static int socket_address(const char *dir, struct sockaddr_un *ret, int *ret_dir, struct err *err)
{
	int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		return err_system(err, -errno, "open %s", dir);
	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(ret->sun_path, sizeof ret->sun_path, "/proc/self/fd/%d/shim", fd);
	*ret_dir = fd;
	return 0;
}

static int listen_in(const char *dir, int *ret, struct err *err)
{
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), dir_fd = -1;
	struct sockaddr_un a;
	int r = socket_address(dir, &a, &dir_fd, err);

	if (r < 0)
		return r;
	unlinkat(dir_fd, "shim", 0);
	/* The mode of its file: root's alone. */
	if (sock < 0 || fchmod(sock, 0600) != 0 || bind(sock, (struct sockaddr *)&a, sizeof a) != 0 ||
	    listen(sock, 4) != 0)
		return err_system(err, -errno, "socket %s/shim", dir);
	*ret = fd_take(&sock);
	return 0;
}

static int run_shim(const struct guest_shim_options *o, int report, int listen, int agent, pid_t *ret_pid)
{
	char path[300], program[] = "berth-vmshim", dir[SANDBOX_DIR_MAX], uid[16], bytes[24];
	char *const argv[] = {program, dir, uid, bytes, NULL};
	char *const env[] = {(char[]){"ASAN_OPTIONS=detect_leaks=0"}, NULL};
	const int fds[] = {[TALK_LISTEN_FD - 3] = listen, [TALK_AGENT_FD - 3] = agent};

	snprintf(path, sizeof path, "%s/berth-vmshim", o->bin_dir);
	snprintf(dir, sizeof dir, "%s", o->dir);
	snprintf(uid, sizeof uid, "%u", o->uid);
	snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)o->log_bytes);
	return process_spawn(path, argv, env, report, fds, 2, ret_pid);
}

/* It says nothing when it has begun, and why when it cannot. */
static int wait_for_begin(int report, struct err *err)
{
	struct pollfd p = {report, POLLIN, 0};
	char text[ERR_MESSAGE_MAX];
	ssize_t n;
	int r;

	do
		r = poll(&p, 1, BEGIN_WAIT_MS);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return err_set(err, -ETIMEDOUT, "the shim did not begin within %d ms", BEGIN_WAIT_MS);
	n = read(report, text, sizeof text - 1);
	if (n <= 0)
		return 0;
	text[n] = '\0';
	return err_set(err, -EIO, "the shim: %s", text);
}

static int spawn_shim(const struct guest_shim_options *o, int listen, int agent, struct err *err)
{
	CLEANUP_FD int report = -1, theirs = -1;
	int ends[2], r, status;
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC) != 0)
		return err_system(err, -errno, "pipe");
	report = ends[0];
	theirs = ends[1];
	r = run_shim(o, theirs, listen, agent, &pid);
	if (r < 0)
		return err_system(err, r, "run %s/berth-vmshim", o->bin_dir);
	fd_close(&theirs);
	r = wait_for_begin(report, err);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (r == 0 && status != 0)
		r = err_set(err, -EIO, "the shim did not begin");
	return r;
}

/* -ENOENT, -ECONNREFUSED: nobody is there. */
static int connect_shim(struct guest_shim *g, struct err *err)
{
	CLEANUP_FD int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0), dir_fd = -1;
	struct sockaddr_un a;
	int on = 1, r = socket_address(g->dir, &a, &dir_fd, err);

	if (r < 0)
		return r;
	/* Before the first message, so that it says who sent it. */
	if (sock < 0 || setsockopt(sock, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
	    connect(sock, (struct sockaddr *)&a, sizeof a) != 0)
		return err_system(err, -errno, "connect to %s/shim", g->dir);
	g->sock = fd_take(&sock);
	return 0;
}

static bool is_connected(const struct guest_shim *g)
{
	struct pollfd p = {g->sock, 0, 0};

	return poll(&p, 1, 0) == 0;
}

/* Its first status comes at once; a pidfd is its own as long as the process behind it still holds the connection. */
static int meet(struct guest_shim *g, struct err *err)
{
	struct pollfd p = {g->sock, POLLIN, 0};
	int r;

	poll(&p, 1, STATUS_WAIT_MS);
	r = receive_status(g);
	if (r == 0 && g->pid > 0)
		g->pidfd = (int)syscall(SYS_pidfd_open, g->pid, 0);
	if (r == 0 && (g->pidfd < 0 || !is_connected(g)))
		r = -ECONNRESET;
	return r == 0 ? 0 : err_system(err, r, "the shim in %s", g->dir);
}

static struct guest_shim *make(const char *dir, struct err *err)
{
	struct guest_shim *g = strlen(dir) < SANDBOX_DIR_MAX ? calloc(1, sizeof *g) : NULL;

	if (g == NULL) {
		err_set(err, -ENOMEM, "no memory for a shim in %s", dir);
		return NULL;
	}
	snprintf(g->dir, sizeof g->dir, "%s", dir);
	g->sock = g->pidfd = -1;
	return g;
}

int guest_shim_new(const struct guest_shim_options *o, int agent, struct guest_shim **ret, struct err *err)
{
	struct guest_shim *g = make(o->dir, err);
	CLEANUP_FD int listen = -1;
	int r = g == NULL ? -ENOMEM : listen_in(o->dir, &listen, err);

	if (r == 0)
		r = spawn_shim(o, listen, agent, err);
	fd_close(&listen);
	if (r == 0)
		r = connect_shim(g, err);
	if (r == 0)
		r = meet(g, err);
	if (r < 0) {
		guest_shim_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

int guest_shim_adopt(const char *dir, struct guest_shim **ret, struct err *err)
{
	struct guest_shim *g = make(dir, err);
	struct sandbox_exit e;
	int r = g == NULL ? -ENOMEM : 0;

	if (r == 0 && !sandbox_dir_read_exit(dir, &e)) {
		r = connect_shim(g, err);
		if (r == 0)
			r = meet(g, err);
		if (r == -ECONNREFUSED || r == -ECONNRESET)
			r = 0; /* it is over, and could not say so */
		if (r == 0 && g->pidfd < 0)
			fd_close(&g->sock);
	}
	if (r < 0) {
		guest_shim_free(g);
		return r;
	}
	*ret = g;
	return 0;
}

/* -- The conversation ------------------------------------------------------------------------------------------- */

int guest_shim_hello(struct guest_shim *g, int timeout_ms, struct err *err)
{
	return wait_for_state(g, TALK_IDLE, timeout_ms, "answer of its agent", err);
}

static int send_request(struct guest_shim *g, const struct talk_request *q, int fd)
{
	struct iovec iov = {(void *)(uintptr_t)q, sizeof *q};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (g->sock < 0)
		return -ECONNRESET;
	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof fd);
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(g->sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static int encode_start(const struct guest_spec *spec, struct buf *to, struct err *err)
{
	char seed[GUEST_SEED_BYTES];
	struct timespec now;
	struct guest_start s = {
		.argv = (struct str *)(uintptr_t)spec->argv,
		.n_argv = spec->n_argv,
		.env = (struct str *)(uintptr_t)spec->env,
		.n_env = spec->n_env,
		.user = spec->user,
		.working_dir = spec->working_dir,
		.hostname = spec->hostname.n > 0 ? spec->hostname : STR("sandbox"),
		.resolv_conf = spec->resolv_conf,
		.seed = {seed, sizeof seed},
		.address = spec->address,
		.gateway = spec->gateway,
		.prefix = spec->prefix,
		.pids_max = spec->pids_max,
		.disk_bytes = spec->disk_bytes,
	};
	int r;

	if (spec->mac != NULL) {
		s.mac = (struct str){(const char *)spec->mac, GUEST_MAC_BYTES};
		s.gateway_mac = (struct str){(const char *)spec->gateway_mac, GUEST_MAC_BYTES};
	}
	if (getrandom(seed, sizeof seed, 0) != (ssize_t)sizeof seed)
		return err_system(err, -errno, "random seed");
	clock_gettime(CLOCK_REALTIME, &now);
	s.wall_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	r = guest_start_check(&s, err);
	if (r == 0 && buf_reserve(to, GUEST_FRAME_MAX) == NULL)
		r = err_set(err, -ENOMEM, "no memory for a start");
	if (r == 0 && guest_frame_write(to, GUEST_START, &guest_start_codec, &s) < 0)
		r = err_set(err, -E2BIG, "arguments and environment exceed %u bytes", CODEC_BYTES_MAX);
	explicit_bzero(seed, sizeof seed);
	return r;
}

/* A start holds secrets: in memory that has no name. */
static int send_frame(struct guest_shim *g, uint32_t type, struct buf *frame, struct err *err)
{
	CLEANUP_FD int fd = memfd_create("frame", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	int r = fd < 0 ? -errno : fd_write_all(fd, frame->p, frame->n);

	if (r == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL) < 0)
		r = -errno;
	if (r == 0)
		r = send_request(g, &(struct talk_request){.type = type}, fd);
	return r < 0 ? err_system(err, r, "a frame to its guest") : 0;
}

static int send_start(struct guest_shim *g, const struct guest_spec *spec, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(GUEST_FRAME_MAX);
	int r = encode_start(spec, &b, err);

	if (r == 0)
		r = send_frame(g, TALK_START, &b, err);
	if (b.p != NULL)
		explicit_bzero(b.p, b.n);
	return r;
}

int guest_shim_start(struct guest_shim *g, const struct guest_spec *spec, int timeout_ms, struct err *err)
{
	int r = send_start(g, spec, err);

	if (r == 0)
		r = wait_for_state(g, TALK_RUNNING, timeout_ms, "start of its program", err);
	if (r == 0 && g->status.state == TALK_FAILED)
		r = err_set(err, -ENOEXEC, "%s", g->status.message);
	return r;
}

const char *guest_shim_release(const struct guest_shim *g)
{
	return g->status.release;
}

bool guest_shim_running(const struct guest_shim *g)
{
	return g->pidfd >= 0 && atomic_load(&g->state) == TALK_RUNNING;
}

int guest_shim_signal(struct guest_shim *g, int signal)
{
	return send_request(g, &(struct talk_request){.type = TALK_SIGNAL, .signal = signal}, -1);
}

int guest_shim_clock(struct guest_shim *g)
{
	return send_request(g, &(struct talk_request){.type = TALK_CLOCK}, -1);
}

int guest_shim_network(struct guest_shim *g, const struct guest_spec *spec, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(GUEST_FRAME_MAX);
	const struct guest_network n = {.mac = {(const char *)spec->mac, GUEST_MAC_BYTES},
					.gateway_mac = {(const char *)spec->gateway_mac, GUEST_MAC_BYTES},
					.address = spec->address,
					.gateway = spec->gateway,
					.prefix = spec->prefix};
	int r = guest_network_check(&n, err);

	if (r == 0 && guest_frame_write(&b, GUEST_NETWORK, guest_body_codec[GUEST_NETWORK], &n) < 0)
		r = err_set(err, -ENOMEM, "no memory for a frame");
	return r == 0 ? send_frame(g, TALK_NETWORK, &b, err) : r;
}

/* -- The end -------------------------------------------------------------------------------------------------- */

int guest_shim_pidfd(const struct guest_shim *g)
{
	return g->pidfd;
}

void guest_shim_exit(const struct guest_shim *g, struct driver_exit *ret)
{
	struct sandbox_exit e;

	*ret = (struct driver_exit){.how = SANDBOX_EXIT_UNKNOWN, .wall_ms = clock_wall_ms()};
	if (sandbox_dir_read_exit(g->dir, &e))
		*ret = (struct driver_exit){
			.how = (enum sandboxd_exit)e.how, .value = e.value, .wall_ms = e.wall_ms};
}

void guest_shim_free(struct guest_shim *g)
{
	if (g == NULL)
		return;
	fd_close(&g->sock);
	fd_close(&g->pidfd);
	free(g);
}
