/* handover.c -- see handover.h. One thread polls the socket; under one lock, an offer is found, sent and ended.
 * Failure: a peer without an offer sees its connection closed. A peer whose socket takes no message loses its offer. */
#include "handover.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define OFFERS_MAX 256
#define BACKLOG    64
#define SWEEP_MS   1000

struct offer {
	bool open;    /* between offer and withdraw */
	bool given;   /* its descriptors are gone */
	bool expired; /* likewise, unused */
	uid_t uid;
	uint64_t deadline_ms; /* boot time */
	int fds[EMULATOR_FDS_MAX];
	size_t n_fds;
};

struct handover {
	char path[sizeof((struct sockaddr_un *)NULL)->sun_path];
	int sock, ending; /* listens; an eventfd */
	pthread_t thread;
	bool threaded;
	pthread_mutex_t lock; /* of the offers */
	struct offer offers[OFFERS_MAX];
};

static void close_fds(struct offer *o)
{
	for (size_t i = 0; i < o->n_fds; i++)
		fd_close(&o->fds[i]);
	o->n_fds = 0;
}

static struct offer *find(struct handover *h, uid_t uid)
{
	for (size_t i = 0; i < OFFERS_MAX; i++) {
		if (h->offers[i].open && h->offers[i].uid == uid)
			return &h->offers[i];
	}
	return NULL;
}

/* -- Serving ------------------------------------------------------------------------------------------------ */

static void send_fds(int sock, const struct offer *o)
{
	char byte = (char)o->n_fds;
	struct iovec iov = {&byte, 1};
	union {
		struct cmsghdr head;
		char bytes[CMSG_SPACE(EMULATOR_FDS_MAX * sizeof(int))];
	} control = {.bytes = {0}};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = &control,
			   .msg_controllen = CMSG_SPACE(o->n_fds * sizeof(int))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(o->n_fds * sizeof(int));
	memcpy(CMSG_DATA(c), o->fds, o->n_fds * sizeof(int));
	(void)!sendmsg(sock, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void serve(struct handover *h)
{
	CLEANUP_FD int peer = accept4(h->sock, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred who;
	socklen_t n = sizeof who;

	if (peer < 0 || getsockopt(peer, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0)
		return;
	pthread_mutex_lock(&h->lock);
	struct offer *o = find(h, who.uid);

	if (o != NULL && !o->given && !o->expired && clock_boot_ms() < o->deadline_ms) {
		send_fds(peer, o);
		o->given = true;
		close_fds(o);
	}
	pthread_mutex_unlock(&h->lock);
}

/* What nobody asked for in time is closed: a template's memory must not be kept by a libvirt that is stuck. */
static void sweep(struct handover *h)
{
	uint64_t now_ms = clock_boot_ms();

	pthread_mutex_lock(&h->lock);
	for (size_t i = 0; i < OFFERS_MAX; i++) {
		struct offer *o = &h->offers[i];

		if (o->open && !o->given && !o->expired && now_ms >= o->deadline_ms) {
			o->expired = true;
			close_fds(o);
		}
	}
	pthread_mutex_unlock(&h->lock);
}

static void *run(void *arg)
{
	struct handover *h = arg;

	for (;;) {
		struct pollfd p[] = {{.fd = h->sock, .events = POLLIN}, {.fd = h->ending, .events = POLLIN}};

		if (poll(p, 2, SWEEP_MS) < 0 && errno != EINTR)
			return NULL;
		if (p[1].revents != 0)
			return NULL;
		if (p[0].revents & POLLIN)
			serve(h);
		sweep(h);
	}
}

/* -- Offers ------------------------------------------------------------------------------------------------- */

int handover_offer(struct handover *h, uid_t uid, const int *fds, size_t n_fds, uint64_t timeout_ms,
		   struct err *err)
{
	struct offer fresh = {.open = true, .uid = uid, .deadline_ms = clock_boot_ms() + timeout_ms};
	size_t at = 0;
	int r = 0;

	must(n_fds > 0 && n_fds <= EMULATOR_FDS_MAX);
	for (size_t i = 0; i < n_fds && r == 0; i++) {
		int copy = fcntl(fds[i], F_DUPFD_CLOEXEC, 3);

		if (copy < 0)
			r = err_system(err, -errno, "descriptor for QEMU");
		else
			fresh.fds[fresh.n_fds++] = copy;
	}
	pthread_mutex_lock(&h->lock);
	while (at < OFFERS_MAX && h->offers[at].open)
		at++;
	if (r == 0 && find(h, uid) != NULL)
		r = err_set(err, -EBUSY, "descriptors for uid %u are offered already", (unsigned)uid);
	else if (r == 0 && at == OFFERS_MAX)
		r = err_set(err, -EAGAIN, "more than %d machines wait for descriptors", OFFERS_MAX);
	else if (r == 0)
		h->offers[at] = fresh;
	pthread_mutex_unlock(&h->lock);
	if (r < 0)
		close_fds(&fresh);
	return r;
}

bool handover_withdraw(struct handover *h, uid_t uid)
{
	bool given = false;

	pthread_mutex_lock(&h->lock);
	struct offer *o = find(h, uid);

	if (o != NULL) {
		given = o->given;
		close_fds(o);
		o->open = false;
	}
	pthread_mutex_unlock(&h->lock);
	return given;
}

/* -- The socket --------------------------------------------------------------------------------------------- */

static int listen_at(struct handover *h, const char *path, struct err *err)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};

	if (strlen(path) >= sizeof a.sun_path)
		return err_set(err, -ENAMETOOLONG, "%s: longer than %zu bytes", path, sizeof a.sun_path - 1);
	strcpy(a.sun_path, path);
	strcpy(h->path, path);
	unlink(path);
	h->sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (h->sock < 0 || bind(h->sock, (struct sockaddr *)&a, sizeof a) != 0 || chmod(path, 0666) != 0 ||
	    listen(h->sock, BACKLOG) != 0)
		return err_system(err, -errno, "socket %s", path);
	h->ending = eventfd(0, EFD_CLOEXEC);
	if (h->ending < 0)
		return err_system(err, -errno, "eventfd");
	return 0;
}

int handover_new(const char *path, struct handover **ret, struct err *err)
{
	struct handover *h = calloc(1, sizeof *h);
	int r;

	if (h == NULL)
		return err_set(err, -ENOMEM, "handover: no memory");
	h->sock = h->ending = -1;
	pthread_mutex_init(&h->lock, NULL);
	r = listen_at(h, path, err);
	if (r == 0 && (r = -pthread_create(&h->thread, NULL, run, h)) != 0)
		err_system(err, r, "thread for %s", path);
	if (r < 0) {
		handover_free(h);
		return r;
	}
	h->threaded = true;
	*ret = h;
	return 0;
}

void handover_free(struct handover *h)
{
	if (h == NULL)
		return;
	if (h->threaded) {
		eventfd_write(h->ending, 1);
		pthread_join(h->thread, NULL);
	}
	if (h->sock >= 0)
		unlink(h->path);
	fd_close(&h->sock);
	fd_close(&h->ending);
	for (size_t i = 0; i < OFFERS_MAX; i++)
		close_fds(&h->offers[i]);
	pthread_mutex_destroy(&h->lock);
	free(h);
}
