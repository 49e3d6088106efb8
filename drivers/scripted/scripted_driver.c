#include "scripted_driver.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

#define SAVED "scripted 1 count %lu\n"

static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n";

struct driver_instance {
	struct driver_info info;
	int stop_signal, stops_to_fail;
	char keep[512]; /* file that its log goes to; "": none */
	bool serves, deaf;
	bool counts, paused; /* paused: under `lock` */
	int saves_to_fail;
	unsigned long count;
	int over; /* eventfd: readable when it is over */
	int end;  /* eventfd: tells the server thread to end */
	int listener, log;
	uint16_t port;
	pthread_t server;
	pthread_mutex_t lock;
	struct driver_exit exit;
	bool exited;
	_Atomic bool frozen; /* it answers nobody */
};

static void finish(struct driver_instance *i, enum sandboxd_exit how, int32_t value)
{
	uint64_t one = 1;

	pthread_mutex_lock(&i->lock);
	if (!i->exited) {
		i->exited = true;
		i->exit = (struct driver_exit){.how = how, .value = value, .wall_ms = clock_wall_ms()};
		(void)!write(i->over, &one, sizeof one);
		(void)!write(i->end, &one, sizeof one);
	}
	pthread_mutex_unlock(&i->lock);
}

/* What waits at the listener is answered by whoever goes on. */
static bool is_paused(struct driver_instance *i)
{
	pthread_mutex_lock(&i->lock);
	bool paused = i->paused;

	pthread_mutex_unlock(&i->lock);
	return paused;
}

static void say(struct driver_instance *i, int fd)
{
	char text[128];

	if (i->counts) {
		int n = snprintf(text, sizeof text, "%lu\n", ++i->count);

		(void)!dprintf(fd, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s", n,
			       text);
	} else {
		(void)!send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
	}
}

static void *serve(void *arg)
{
	struct driver_instance *i = arg;

	for (;;) {
		struct pollfd p[] = {{i->listener, POLLIN, 0}, {i->end, POLLIN, 0}};
		char request[4096];

		if (is_paused(i)) {
			p[0].fd = -1;
			p[0].revents = 0;
		}
		if (poll(p, 2, p[0].fd < 0 ? 5 : -1) < 0 && errno != EINTR)
			return NULL;
		if (p[1].revents != 0)
			return NULL;
		if (p[0].revents == 0 || is_paused(i))
			continue;
		CLEANUP_FD int fd = accept4(i->listener, NULL, NULL, SOCK_CLOEXEC);

		bool asked = fd >= 0 && recv(fd, request, sizeof request, 0) > 0;

		while (i->frozen && poll(&p[1], 1, 1) == 0)
			;
		if (asked)
			say(i, fd);
	}
}

static int start_server(struct driver_instance *i, struct err *err)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof at;
	int r;

	i->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (i->listener < 0 || bind(i->listener, (struct sockaddr *)&at, n) != 0 ||
	    listen(i->listener, 64) != 0 || getsockname(i->listener, (struct sockaddr *)&at, &n) != 0)
		return err_system(err, -errno, "listen");
	i->port = at.sin_port;
	r = pthread_create(&i->server, NULL, serve, i);
	if (r != 0)
		return err_system(err, -r, "thread");
	i->serves = true;
	return 0;
}

static int32_t word_number(const struct driver_start *how, uint32_t at)
{
	uint64_t x = 0;

	return at < how->n_argv && str_u64(how->argv[at], INT32_MAX, &x) == 0 ? (int32_t)x : 0;
}

static int play(struct driver_instance *i, const struct driver_start *how, struct err *err)
{
	uint32_t at = 0;

	if (how->saved > 0) {
		char text[64] = "";

		i->counts = i->paused = true;
		if (read(how->saved, text, sizeof text - 1) <= 0 || sscanf(text, SAVED, &i->count) != 1)
			return err_set(err, -EBADMSG, "what was saved is damaged");
		return start_server(i, err);
	}
	if (how->n_argv > 2 && str_eq(how->argv[0], STR("slow"))) {
		usleep((useconds_t)word_number(how, 1) * 1000);
		at = 2;
	}
	struct str word = at < how->n_argv ? how->argv[at] : STR_NONE;

	if (str_eq(word, STR("serve")) || str_eq(word, STR("deaf")) || str_eq(word, STR("count"))) {
		i->deaf = str_eq(word, STR("deaf"));
		i->counts = str_eq(word, STR("count"));
		i->saves_to_fail = i->counts ? word_number(how, at + 1) : 0;
		dprintf(i->log, "2026-01-01T00:00:00.000Z stdout F serving\n");
		return start_server(i, err);
	}
	if (str_eq(word, STR("sticky")) || str_eq(word, STR("debris"))) {
		i->stops_to_fail = word_number(how, at + 1);
		return str_eq(word, STR("sticky")) ? start_server(i, err)
						   : err_set(err, -EIO, "left something");
	}
	if (str_eq(word, STR("exit")))
		finish(i, SANDBOX_EXIT_CODE, word_number(how, at + 1));
	else if (str_eq(word, STR("signal")))
		finish(i, SANDBOX_EXIT_SIGNAL, word_number(how, at + 1));
	else if (str_eq(word, STR("oom")))
		finish(i, SANDBOX_EXIT_OOM, SIGKILL);
	else if (str_eq(word, STR("fail")) && at + 1 < how->n_argv)
		return err_set(err, -EIO, "%.*s", STR_ARGS(how->argv[at + 1]));
	else
		return err_set(err, -ENOEXEC, "\"%.*s\": not found", STR_ARGS(word));
	return 0;
}

static void op_release(struct driver *d, struct driver_instance *i)
{
	(void)d;
	finish(i, SANDBOX_EXIT_UNKNOWN, 0);
	if (i->serves)
		pthread_join(i->server, NULL);
	fd_close(&i->over);
	fd_close(&i->end);
	fd_close(&i->listener);
	fd_close(&i->log);
	pthread_mutex_destroy(&i->lock);
	free(i);
}

static int op_start(struct driver *d, const struct driver_start *how, struct driver_instance **ret,
		    struct err *err)
{
	struct driver_instance *i = calloc(1, sizeof *i);
	int r;

	*ret = NULL;
	if (i == NULL)
		return err_set(err, -ENOMEM, "start sandbox %" PRIu64 ": no memory", how->sandbox);
	pthread_mutex_init(&i->lock, NULL);
	i->listener = -1;
	i->over = eventfd(0, EFD_CLOEXEC);
	i->end = eventfd(0, EFD_CLOEXEC);
	i->log = memfd_create("scripted", MFD_CLOEXEC);
	i->stop_signal = how->stop_signal;
	i->info = (struct driver_info){.sandbox = how->sandbox,
				       .pool_uid = how->pool_uid,
				       .revision = how->revision,
				       .started_boot_ms = clock_boot_ms(),
				       .started_wall_ms = clock_wall_ms(),
				       .pid = getpid(),
				       .slot = how->slot,
				       .uid_base = how->uid_base,
				       .target_port = how->target_port,
				       .egress = how->egress};
	(void)str_copy(how->digest, i->info.digest, sizeof i->info.digest);
	r = i->over < 0 || i->end < 0 || i->log < 0 ? err_system(err, -errno, "descriptors")
						    : play(i, how, err);
	if (r < 0) {
		if (i->stops_to_fail > 0)
			*ret = i;
		else
			op_release(d, i);
		return err_wrap(err, "start sandbox %" PRIu64, how->sandbox);
	}
	*ret = i;
	return 0;
}

static void op_keep_log(struct driver *d, struct driver_instance *i, const char *path)
{
	(void)d;
	snprintf(i->keep, sizeof i->keep, "%s.log", path);
}

static void write_log(const struct driver_instance *i)
{
	char text[4096];
	CLEANUP_FD int fd = i->keep[0] == '\0' ? -1 : open(i->keep, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	ssize_t n = pread(i->log, text, sizeof text, 0);

	if (fd >= 0 && n > 0)
		(void)!fd_write_all(fd, text, (size_t)n);
}

static int op_stop(struct driver *d, struct driver_instance *i, uint32_t grace_ms, struct err *err)
{
	struct pollfd p = {i->over, POLLIN, 0};

	(void)d;
	if (grace_ms > 0 && !i->deaf)
		finish(i, SANDBOX_EXIT_SIGNAL, i->stop_signal);
	else
		(void)!poll(&p, 1, (int)grace_ms);
	finish(i, SANDBOX_EXIT_SIGNAL, SIGKILL);
	write_log(i);
	if (i->stops_to_fail > 0 && i->stops_to_fail-- > 0)
		return err_set(err, -EBUSY, "stop sandbox %" PRIu64 ": something is left", i->info.sandbox);
	return 0;
}

static void set_paused(struct driver_instance *i, bool paused)
{
	pthread_mutex_lock(&i->lock);
	i->paused = paused;
	pthread_mutex_unlock(&i->lock);
}

static int op_save(struct driver *d, struct driver_instance *i, int fd, struct err *err)
{
	(void)d;
	if (!i->counts)
		return err_set(err, -ENOTSUP, "save sandbox %" PRIu64 ": it counts nothing", i->info.sandbox);
	if (i->saves_to_fail > 0 && i->saves_to_fail-- > 0)
		return err_set(err, -EIO, "save sandbox %" PRIu64 ": as the script says", i->info.sandbox);
	set_paused(i, true);
	if (dprintf(fd, SAVED, i->count) < 0) {
		set_paused(i, false);
		return err_system(err, -errno, "save sandbox %" PRIu64, i->info.sandbox);
	}
	return 0;
}

static int op_go_on(struct driver *d, struct driver_instance *i, struct err *err)
{
	(void)d;
	(void)err;
	set_paused(i, false);
	return 0;
}

static int op_adopt(struct driver *d, driver_found *found, void *arg, struct err *err)
{
	(void)d;
	(void)found;
	(void)arg;
	(void)err;
	return 0;
}

static int op_egress(struct driver *d, struct driver_instance *i, bool on, struct err *err)
{
	(void)d;
	if (on && !i->info.egress)
		return err_set(err, -ENOTSUP, "sandbox %" PRIu64 " was started without egress",
			       i->info.sandbox);
	return 0;
}

static int op_dial(struct driver *d, struct driver_instance *i, uint16_t port, int *ret_fd, struct err *err)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = i->port, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CLEANUP_FD int s = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	(void)d;
	if (!i->serves || port != i->info.target_port)
		return err_set(err, -ECONNREFUSED, "sandbox %" PRIu64 ": nothing listens on port %u",
			       i->info.sandbox, port);
	if (s < 0 || (connect(s, (struct sockaddr *)&to, sizeof to) != 0 && errno != EINPROGRESS))
		return err_system(err, -errno, "connect");
	*ret_fd = fd_take(&s);
	return 0;
}

static int op_freeze(struct driver *d, struct driver_instance *i, bool frozen, struct err *err)
{
	(void)d;
	(void)err;
	i->frozen = frozen;
	return 0;
}

static void op_kill(struct driver *d, struct driver_instance *i)
{
	(void)d;
	finish(i, SANDBOX_EXIT_SIGNAL, SIGKILL);
}

static int op_exit_fd(struct driver *d, struct driver_instance *i)
{
	(void)d;
	return i->over;
}

static void op_exit_status(struct driver *d, struct driver_instance *i, struct driver_exit *ret)
{
	(void)d;
	pthread_mutex_lock(&i->lock);
	*ret = i->exit;
	pthread_mutex_unlock(&i->lock);
}

static void op_info(struct driver *d, struct driver_instance *i, struct driver_info *ret)
{
	(void)d;
	*ret = i->info;
}

static int op_stats(struct driver *d, struct driver_instance *i, struct driver_stats *ret, struct err *err)
{
	(void)d;
	(void)i;
	(void)err;
	*ret = (struct driver_stats){.pids = 1};
	return 0;
}

static int op_log(struct driver *d, struct driver_instance *i, int *ret_fd, struct err *err)
{
	char path[64];
	int fd;

	(void)d;
	snprintf(path, sizeof path, "/proc/self/fd/%d", i->log);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_system(err, -errno, "open %s", path);
	*ret_fd = fd;
	return 0;
}

static void op_close(struct driver *d)
{
	free(d);
}

static const struct driver_ops scripted_ops = {
	.name = "scripted",
	.adopt = op_adopt,
	.start = op_start,
	.keep_log = op_keep_log,
	.stop = op_stop,
	.egress = op_egress,
	.dial = op_dial,
	.freeze = op_freeze,
	.save = op_save,
	.go_on = op_go_on,
	.kill = op_kill,
	.exit_fd = op_exit_fd,
	.exit_status = op_exit_status,
	.info = op_info,
	.stats = op_stats,
	.log = op_log,
	.release = op_release,
	.close = op_close,
};

int scripted_driver_new(struct driver **ret, struct err *err)
{
	struct driver *d = calloc(1, sizeof *d);

	if (d == NULL)
		return err_set(err, -ENOMEM, "scripted driver: no memory");
	d->ops = &scripted_ops;
	*ret = d;
	return 0;
}
