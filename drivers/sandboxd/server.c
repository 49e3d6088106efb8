#include "sandboxd/server.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "core/log.h"
#include "drivers_net/egress.h"
#include "sandboxd/server_state.h"

#define WORK_THREADS_MAX 512
#define STOP_THREADS_MAX \
	SANDBOXES_MAX /* a stop holds one for its grace, an hour at most: none waits for another */
#define WORK_WAITING_MAX  8192
#define IMAGE_THREADS_MAX 16
#define IMAGE_WAITING_MAX 256

static void on_signal(struct server *s, struct watch *w, uint32_t events)
{
	struct signalfd_siginfo info;

	(void)events;
	if (read(w->fd, &info, sizeof info) == (ssize_t)sizeof info)
		s->ending = true;
}

static void on_work_done(struct server *s, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	jobs_collect(s->work);
}

static void on_stops_done(struct server *s, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	jobs_collect(s->stops);
}

static void on_image_work_done(struct server *s, struct watch *w, uint32_t events)
{
	(void)w;
	(void)events;
	jobs_collect(s->image_work);
}

static int open_signals(struct server *s, struct err *err)
{
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	s->signals.on = on_signal;
	return fd < 0 ? err_system(err, -errno, "signalfd") : watch_add(s, &s->signals, fd, EPOLLIN, err);
}

static int open_work(struct server *s, struct err *err)
{
	int r = jobs_new(WORK_THREADS_MAX, WORK_WAITING_MAX, &s->work, err);

	if (r == 0)
		r = jobs_new(STOP_THREADS_MAX, WORK_WAITING_MAX, &s->stops, err);
	if (r == 0)
		r = jobs_new(IMAGE_THREADS_MAX, IMAGE_WAITING_MAX, &s->image_work, err);
	s->work_done.on = on_work_done;
	s->stops_done.on = on_stops_done;
	s->image_work_done.on = on_image_work_done;
	if (r == 0)
		r = watch_add(s, &s->work_done, jobs_fd(s->work), EPOLLIN, err);
	if (r == 0)
		r = watch_add(s, &s->stops_done, jobs_fd(s->stops), EPOLLIN, err);
	if (r == 0)
		r = watch_add(s, &s->image_work_done, jobs_fd(s->image_work), EPOLLIN, err);
	return r;
}

static int open_logs(struct server *s, struct err *err)
{
	const struct settings *o = s->o.settings;
	char path[SETTINGS_PATH_MAX + 16];

	snprintf(path, sizeof path, "%s/logs", o->state_dir);
	return kept_logs_open(path, o->log_disk_max, o->log_retention_ms, &s->logs, err);
}

int server_new(const struct server_options *o, struct server **ret, struct err *err)
{
	struct server *s = calloc(1, sizeof *s);
	uint32_t ranges = o->settings->uid_count / UIDS - 1; /* the first is the loggers' */
	int r;

	if (s == NULL)
		return err_set(err, -ENOMEM, "sandboxd: no memory");
	s->o = *o;
	s->n_slots = ranges < SANDBOXES_MAX ? ranges : SANDBOXES_MAX;
	s->listener.fd = s->signals.fd = s->fence.fd = s->tick.fd = s->lease_fd = s->saved_dir = -1;
	s->poll = epoll_create1(EPOLL_CLOEXEC);
	r = s->poll < 0 ? err_system(err, -errno, "epoll") : open_signals(s, err);
	if (r == 0)
		r = open_work(s, err);
	if (r == 0)
		r = fence_open(s, err);
	if (r == 0)
		r = tend_open(s, err);
	if (r == 0)
		r = lifecycle_open(s, err);
	if (r == 0)
		r = open_logs(s, err);
	if (r == 0)
		r = saved_files_open(o->settings->state_dir, &s->saved_dir, err);
	if (r == 0)
		r = identity_load(s, err);
	if (r == 0)
		r = connection_listen(s, err);
	if (r < 0) {
		server_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

int server_run(struct server *s, struct err *err)
{
	while (!s->ending) {
		/* One at a time: a handler may free the watch of another that is ready too. */
		struct epoll_event e;
		int n = epoll_wait(s->poll, &e, 1, dials_expire(s));

		if (n < 0 && errno != EINTR)
			return err_system(err, -errno, "epoll_wait");
		if (n == 1) {
			struct watch *w = e.data.ptr;

			w->on(s, w, e.events);
		}
	}
	return 0;
}

static void close_watch(struct server *s, struct watch *w)
{
	int fd = w->fd;

	watch_remove(s, w);
	fd_close(&fd);
}

void server_free(struct server *s)
{
	struct map_node *n;

	/* Jobs first: they use what follows. Sandboxes go on without us. */
	if (s->work != NULL)
		watch_remove(s, &s->work_done);
	if (s->stops != NULL)
		watch_remove(s, &s->stops_done);
	if (s->image_work != NULL)
		watch_remove(s, &s->image_work_done);
	jobs_free(s->work);
	jobs_free(s->stops);
	jobs_free(s->image_work);
	dials_drop(s);
	connection_close_all(s);
	while ((n = map_next(&s->sandboxes, NULL)) != NULL)
		sandbox_forget(s, container_of(n, struct sandbox, node));
	map_done(&s->sandboxes);
	carriers_close(s);
	if (s->egress != NULL)
		egress_free(s->egress);
	close_watch(s, &s->listener);
	close_watch(s, &s->signals);
	close_watch(s, &s->fence);
	close_watch(s, &s->tick);
	fd_close(&s->lease_fd);
	fd_close(&s->saved_dir);
	journal_close(s->events);
	kept_logs_close(s->logs);
	fd_close(&s->poll);
	free(s);
}
