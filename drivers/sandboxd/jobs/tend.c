/* tend.c -- once a second, on a thread, one look at a time: at what is set up on the host for all
 * sandboxes; what somebody else changed there is repaired and told: to the log, and to berthd, for health. Logs and events
 * over their bounds go. */
#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "drivers_net/egress.h"
#include "sandboxd/server_state.h"

#define PERIOD_S 1

static void run_tend(struct job *job)
{
	struct tending *t = container_of(job, struct tending, job);
	struct server *s = t->server;
	uint64_t now = clock_wall_ms();

	journal_trim(s->events, now);
	t->disk_full = kept_logs_trim(s->logs, now);
	t->code = egress_tend(s->egress, &t->err);
	for (int i = 0; i < ISOLATIONS; i++) {
		struct driver *d = s->carriers[i].driver;

		t->told[i].code = d == NULL || d->ops->tend == NULL ? 0 : d->ops->tend(d, &t->told[i]);
	}
}

static void done_tend(struct job *job)
{
	struct tending *t = container_of(job, struct tending, job);
	struct server *s = t->server;
	struct network_health *n = &s->network;
	bool same = strcmp(n->problem.message, t->code < 0 ? t->err.message : "") == 0;

	t->server = NULL;
	if (t->disk_full)
		log_warn("the disk of state_dir is nearly full: the oldest logs of ended sandboxes are "
			 "dropped");
	for (int i = 0; i < ISOLATIONS; i++) {
		if (t->told[i].code < 0)
			log_warn("%s: %s", s->carriers[i].driver->ops->name, t->told[i].message);
	}
	if (t->code > 0) {
		n->repairs++;
		n->repaired_wall_ms = clock_wall_ms();
		log_warn("somebody changed this node's network rules: they are restored");
	} else if (t->code < 0 && !same) {
		log_error("this node's network rules: %s", t->err.message);
	}
	n->problem = t->code < 0 ? t->err : (struct err){0};
	if (t->code > 0 || !same)
		send_network(s, NULL);
}

static void on_tick(struct server *s, struct watch *w, uint32_t events)
{
	uint64_t count;

	(void)events;
	if (read(w->fd, &count, sizeof count) != (ssize_t)sizeof count || !carriers_opened(s))
		return;
	carriers_prove(s);
	if (s->tending.server != NULL)
		return;
	s->tending = (struct tending){.job = {.run = run_tend, .done = done_tend}, .server = s};
	if (jobs_post(s->work, &s->tending.job) < 0)
		s->tending.server = NULL;
}

int tend_open(struct server *s, struct err *err)
{
	static const struct itimerspec every = {.it_value = {.tv_sec = PERIOD_S},
						.it_interval = {.tv_sec = PERIOD_S}};
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);

	s->tick.on = on_tick;
	if (fd < 0 || timerfd_settime(fd, 0, &every, NULL) != 0)
		return err_system(err, -errno, "timerfd");
	return watch_add(s, &s->tick, fd, EPOLLIN, err);
}
