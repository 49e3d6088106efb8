#include "purge.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "core/must.h"
#include "wire/sandboxd.h"

#define CONNECT_MS      10000
#define ANSWER_S        60
#define LIBVIRTD_END_MS 10000

static int connect_to(const struct config *config, struct err *err)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval patience = {.tv_sec = ANSWER_S};
	uint64_t deadline = clock_boot_ms() + CONNECT_MS;

	if (str_copy(config->sandboxd_socket, address.sun_path, sizeof address.sun_path) < 0)
		return err_set(err, -ENAMETOOLONG, "sandboxd_socket: the path is too long");
	for (;;) {
		CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);

		if (fd < 0)
			return err_system(err, -errno, "socket");
		setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
		if (connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
			return fd_take(&fd);
		if (clock_boot_ms() > deadline)
			return err_system(err, -errno, "connect to sandboxd");
		usleep(20000);
	}
}

/* One call and its reply; events in between are skipped. */
static int call(int fd, uint8_t type, const void *body, struct arena *arena, struct sandboxd_reply *ret,
		struct err *err)
{
	CLEANUP_BUF struct buf inner = {0}, packet = {0};
	struct sandboxd_message message = {.type = type, .correlation = 1};
	CLEANUP_FREE char *in = malloc(SANDBOXD_PACKET_MAX);

	must(in != NULL);
	if (sandboxd_body_codec[type] != NULL)
		codec_encode(&inner, sandboxd_body_codec[type], body);
	message.body = buf_str(&inner);
	codec_encode(&packet, &sandboxd_message_codec, &message);
	if (send(fd, packet.p, packet.n, MSG_NOSIGNAL) < 0)
		return err_system(err, -errno, "%s", sandboxd_type_name[type]);
	for (;;) {
		ssize_t n = recv(fd, in, SANDBOXD_PACKET_MAX, 0);

		if (n <= 0)
			return err_set(err, n < 0 ? -errno : -ECONNRESET, "%s: sandboxd did not answer",
				       sandboxd_type_name[type]);
		int r = codec_decode(in, (size_t)n, &sandboxd_message_codec, arena, &message, err);

		if (r == 0 && message.type == SANDBOXD_REPLY)
			r = codec_decode(message.body.p, message.body.n, &sandboxd_reply_codec, arena, ret,
					 err);
		if (r < 0)
			return r;
		if (message.type == SANDBOXD_REPLY)
			return ret->code < 0 ? err_set(err, ret->code, "%s: %.*s", sandboxd_type_name[type],
						       STR_ARGS(ret->message))
					     : 0;
	}
}

static int stop_all(int fd, const struct config *config, struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct sandboxd_hello hello = {.protocol = SANDBOXD_PROTOCOL,
				       .cluster = config->cluster_id,
				       .node = config->node_id,
				       .ending = true};
	struct sandboxd_reply reply, stopped;
	int r = call(fd, SANDBOXD_HELLO, &hello, &arena, &reply, err), failed = 0;

	if (r == 0)
		r = call(fd, SANDBOXD_LIST, NULL, &arena, &reply, err);
	for (uint32_t i = 0; r == 0 && i < reply.n_sandboxes; i++) {
		struct sandboxd_stop stop = {.sandbox = reply.sandboxes[i].sandbox};
		int bad = call(fd, SANDBOXD_STOP, &stop, &arena, &stopped, err);

		if (bad < 0) {
			failed = bad;
			log_error("sandbox %" PRIu64 ": %s", stop.sandbox, err->message);
		}
	}
	return r < 0 ? r : failed;
}

/* The node's own libvirtd outlives sandboxd, which may need it again. The launcher holds its lock, and has written its pid into it. */
static void end_libvirtd(const struct config *config)
{
	CLEANUP_FD int lock = -1, process = -1;
	char path[PATH_MAX], text[16] = "";
	struct pollfd gone = {.events = POLLIN};

	snprintf(path, sizeof path, "%.*s/sandboxd/vm/libvirtd/lock", STR_ARGS(config->state_dir));
	lock = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	if (lock < 0 || flock(lock, LOCK_EX | LOCK_NB) == 0 || read(lock, text, sizeof text - 1) <= 0)
		return;
	process = (int)syscall(SYS_pidfd_open, atoi(text), 0);
	if (process < 0 || syscall(SYS_pidfd_send_signal, process, SIGTERM, NULL, 0) != 0)
		return;
	gone.fd = process;
	if (poll(&gone, 1, LIBVIRTD_END_MS) != 1)
		(void)syscall(SYS_pidfd_send_signal, process, SIGKILL, NULL, 0);
}

int purge_node(const struct config *config, struct child *sandboxd, struct err *err)
{
	int r = child_start(sandboxd, clock_boot_ms(), err);

	if (r < 0)
		return r;
	CLEANUP_FD int fd = connect_to(config, err);

	r = fd < 0 ? fd : stop_all(fd, config, err);
	kill(sandboxd->pid, SIGTERM);
	while (waitpid(sandboxd->pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	end_libvirtd(config);
	return r;
}
