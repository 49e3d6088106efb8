/* connection.c -- berthd's connections: SOCK_SEQPACKET, so that one packet is one message.
 * Each of berthd's loops has its own. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "core/must.h"
#include "sandboxd/server_state.h"

#define PACKETS_A_TURN 64 /* then the others get theirs */
#define SEND_BUFFER    (4 * 1024 * 1024)

struct outgoing {
	struct outgoing *next;
	int fd; /* -1: none */
	size_t n;
	char bytes[];
};

struct connection {
	struct watch watch;
	uint64_t id;
	bool hello, broken;
	struct outgoing *first, *last;
	unsigned n_waiting;
	size_t bytes_waiting;
	struct connection *next;
};

static char *packet_bytes; /* one for all: the loop reads one packet at a time */

bool connection_said_hello(const struct connection *c)
{
	return c->hello;
}

void connection_set_hello(struct connection *c)
{
	c->hello = true;
}

/* -- Sending -------------------------------------------------------------------------------------------------- */

static int send_now(int sock, const void *p, size_t n, int fd)
{
	struct iovec iov = {(void *)(uintptr_t)p, n};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fd >= 0) {
		m.msg_control = &control;
		m.msg_controllen = sizeof control;
		struct cmsghdr *c = CMSG_FIRSTHDR(&m);

		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(c), &fd, sizeof fd);
	}
	return sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void want_write(struct server *s, struct connection *c, bool write)
{
	struct epoll_event e = {.events = EPOLLIN | (write ? (uint32_t)EPOLLOUT : 0), .data.ptr = &c->watch};

	(void)epoll_ctl(s->poll, EPOLL_CTL_MOD, c->watch.fd, &e);
}

static void drop_first(struct connection *c)
{
	struct outgoing *o = c->first;

	c->first = o->next;
	if (c->first == NULL)
		c->last = NULL;
	c->n_waiting--;
	c->bytes_waiting -= o->n;
	fd_close(&o->fd);
	free(o);
}

/* A connection that does not read is cut: what it missed it learns from the list after it came back. */
static void enqueue(struct server *s, struct connection *c, const struct buf *b, int fd)
{
	bool fits = c->n_waiting < OUTBOX_MAX && c->bytes_waiting + b->n <= OUTBOX_BYTES_MAX;
	struct outgoing *o = fits ? malloc(sizeof *o + b->n) : NULL;

	if (o == NULL) {
		c->broken = true;
		shutdown(c->watch.fd, SHUT_RDWR);
		return;
	}
	*o = (struct outgoing){.fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 0), .n = b->n};
	memcpy(o->bytes, b->p, b->n);
	if (c->last != NULL)
		c->last->next = o;
	else
		c->first = o;
	c->last = o;
	c->bytes_waiting += b->n;
	if (c->n_waiting++ == 0)
		want_write(s, c, true);
}

static void send_packet(struct server *s, struct connection *c, const struct buf *b, int fd)
{
	int r = c->first != NULL ? -EAGAIN : send_now(c->watch.fd, b->p, b->n, fd);

	if (r == -EAGAIN) {
		enqueue(s, c, b, fd);
	} else if (r < 0) {
		if (r == -EMSGSIZE)
			log_error("a reply of %zu bytes does not fit into the socket", b->n);
		c->broken = true;
		shutdown(c->watch.fd, SHUT_RDWR);
	}
}

static struct connection *find(struct server *s, uint64_t id)
{
	struct connection *c = s->connections;

	while (c != NULL && c->id != id)
		c = c->next;
	return c;
}

void reply(struct server *s, const struct asker *to, struct sandboxd_reply *r, int fd)
{
	struct connection *c = find(s, to->connection);
	CLEANUP_BUF struct buf b = BUF_MAX(SANDBOXD_PACKET_MAX);

	if (c == NULL || c->broken)
		return;
	if (packet_encode(&b, SANDBOXD_REPLY, to->correlation, r) < 0) {
		struct sandboxd_reply why = {.code = -EMSGSIZE,
					     .message = STR("the answer is too long for one packet")};

		log_error("a reply exceeds %u bytes", SANDBOXD_PACKET_MAX);
		buf_clear(&b);
		must(packet_encode(&b, SANDBOXD_REPLY, to->correlation, &why) == 0);
	}
	send_packet(s, c, &b, fd);
}

void reply_code(struct server *s, const struct asker *to, int code, const struct err *err)
{
	struct sandboxd_reply r = {.code = code};

	if (code < 0 && err != NULL)
		r.message = str_of(err->message);
	reply(s, to, &r, -1);
}

bool askers_add(struct asker **list, const struct asker *asker)
{
	unsigned n = 0;

	for (; *list != NULL; list = &(*list)->next)
		n++;
	*list = n < ASKERS_MAX ? malloc(sizeof **list) : NULL;
	if (*list == NULL)
		return false;
	**list = *asker;
	(*list)->next = NULL;
	return true;
}

void askers_answer(struct server *s, struct asker **list, struct sandboxd_reply *r)
{
	for (const struct asker *a = *list; a != NULL; a = a->next)
		reply(s, a, r, -1);
	askers_drop(list);
}

void askers_drop(struct asker **list)
{
	struct asker *a;

	while ((a = *list) != NULL) {
		*list = a->next;
		free(a);
	}
}

static void send_event(struct server *s, enum sandboxd_type type, const void *body, struct connection *only)
{
	CLEANUP_BUF struct buf bytes = {0};

	must(packet_encode(&bytes, type, 0, body) == 0);
	for (struct connection *c = s->connections; c != NULL; c = c->next) {
		if ((only == NULL || c == only) && c->hello && !c->broken)
			send_packet(s, c, &bytes, -1);
	}
}

void send_exited(struct server *s, const struct sandbox *b, struct connection *only)
{
	struct sandboxd_exited e = {.sandbox = b->id,
				    .how = (uint8_t)b->exit.how,
				    .value = b->exit.value,
				    .wall_ms = b->exit.wall_ms};
	send_event(s, SANDBOXD_EXITED, &e, only);
}

void send_network(struct server *s, struct connection *only)
{
	struct sandboxd_network e = {.repairs = s->network.repairs,
				     .wall_ms = s->network.repaired_wall_ms,
				     .problem = str_of(s->network.problem.message)};

	send_event(s, SANDBOXD_NETWORK, &e, only);
}

void send_able(struct server *s)
{
	struct sandboxd_able able = carriers_able(s);

	send_event(s, SANDBOXD_ABLE, &able, NULL);
}

/* -- Receiving ------------------------------------------------------------------------------------------------ */

static void close_connection(struct server *s, struct connection *c)
{
	struct connection **at = &s->connections;
	int fd = c->watch.fd;

	while (*at != c)
		at = &(*at)->next;
	*at = c->next;
	s->n_connections--;
	watch_remove(s, &c->watch);
	close(fd);
	while (c->first != NULL)
		drop_first(c);
	free(c);
}

void connection_close_all(struct server *s)
{
	while (s->connections != NULL)
		close_connection(s, s->connections);
	free(packet_bytes);
	packet_bytes = NULL;
}

/* The first descriptor is kept, any others closed: no request has two. */
static int take_fds(struct msghdr *m)
{
	int kept = -1;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
			if (kept < 0)
				kept = fd;
			else
				close(fd);
		}
	}
	return kept;
}

/* -EAGAIN: nothing there. Anything else negative ends the connection. */
static int read_packet(struct server *s, struct connection *c)
{
	CLEANUP_ARENA struct arena arena = {0};
	CLEANUP_FD int fd = -1;
	struct iovec iov = {packet_bytes, SANDBOXD_PACKET_MAX};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(8 * sizeof(int))];
	} control;
	struct msghdr m = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	ssize_t n = recvmsg(c->watch.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	struct packet p;
	struct err err = {0};
	int r;

	if (n < 0)
		return errno == EINTR ? 0 : -errno;
	fd = take_fds(&m);
	if (n == 0)
		return -ECONNRESET;
	r = (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0
		    ? err_set(&err, -EBADMSG, "packet: too large, or with too many descriptors")
		    : packet_decode(packet_bytes, (size_t)n, &arena, &p, &err);
	explicit_bzero(packet_bytes, (size_t)n); /* environments hold secrets */
	if (r < 0) {
		log_warn("connection %lu: %s", (unsigned long)c->id, err.message);
		return r;
	}
	request_handle(s, c, c->id, &p, &arena, fd_take(&fd));
	return 0;
}

static void on_connection(struct server *s, struct watch *w, uint32_t events)
{
	struct connection *c = container_of(w, struct connection, watch);
	int r = 0;

	while ((events & EPOLLOUT) != 0 && c->first != NULL && r == 0) {
		r = send_now(w->fd, c->first->bytes, c->first->n, c->first->fd);
		if (r == 0)
			drop_first(c);
	}
	if (c->first == NULL && (events & EPOLLOUT) != 0)
		want_write(s, c, false);
	if (r == -EAGAIN)
		r = 0;
	for (int i = 0; i < PACKETS_A_TURN && r == 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0; i++)
		r = read_packet(s, c);
	if ((r < 0 && r != -EAGAIN) || c->broken)
		close_connection(s, c);
}

static bool may_connect(struct server *s, int fd)
{
	struct ucred who;
	socklen_t n = sizeof who;

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0)
		return false;
	if (who.uid == 0 || who.uid == s->o.peer_uid)
		return true;
	log_warn("refused a connection of user %u (process %d)", who.uid, (int)who.pid);
	return false;
}

static void on_listener(struct server *s, struct watch *w, uint32_t events)
{
	int fd = accept4(w->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), size = SEND_BUFFER;
	struct connection *c;

	(void)events;
	if (fd < 0)
		return;
	c = s->n_connections < CONNECTIONS_MAX && may_connect(s, fd) ? calloc(1, sizeof *c) : NULL;
	if (c == NULL) {
		close(fd);
		return;
	}
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
	c->id = ++s->next_connection;
	c->watch.on = on_connection;
	if (watch_add(s, &c->watch, fd, EPOLLIN, NULL) < 0) {
		close(fd);
		free(c);
		return;
	}
	c->next = s->connections;
	s->connections = c;
	s->n_connections++;
}

int connection_listen(struct server *s, struct err *err)
{
	struct sockaddr_un at = {.sun_family = AF_UNIX};
	const char *path = s->o.settings->socket;
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	packet_bytes = malloc(SANDBOXD_PACKET_MAX);
	if (fd < 0 || packet_bytes == NULL || str_copy(str_of(path), at.sun_path, sizeof at.sun_path) < 0)
		return err_set(err, -EINVAL, "listen on %s: path too long, or no memory", path);
	(void)!unlink(path);
	if (bind(fd, (struct sockaddr *)&at, sizeof at) != 0 || listen(fd, 64) != 0)
		return err_system(err, -errno, "listen on %s", path);
	/* Who may connect is judged by SO_PEERCRED; the directory keeps others away from the socket itself. */
	if (chown(path, s->o.peer_uid, (gid_t)-1) != 0 || chmod(path, 0600) != 0)
		return err_system(err, -errno, "chown %s", path);
	s->listener.on = on_listener;
	int r = watch_add(s, &s->listener, fd, EPOLLIN, err);

	if (r == 0)
		fd_take(&fd);
	return r;
}
