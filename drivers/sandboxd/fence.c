/* fence.c -- what stands still: all, by the node's lease, which is kept here too, also when berthd no longer runs; and machines that
 * are parked because they serve nobody. These are two facts: a lease that ends and comes back leaves parked what was.
 * Happy path: each renewal moves a timer and the file <state>/lease; when the timer fires all that runs is frozen until a renewal.
 * Failure modes: a sandboxd that was started anew goes on with the file's deadline: if that is over, what it adopts is frozen before
 * anything else. One that stands still is killed by its supervisor, which reads the file too, and so becomes that case. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/log.h"
#include "sandboxd/server_state.h"

int sandbox_still(struct sandbox *b, bool frozen, bool parked, struct err *err)
{
	bool is = b->frozen || b->parked, shall = frozen || parked;
	int r = is == shall ? 0 : b->driver->ops->freeze(b->driver, b->instance, shall, err);

	if (r == 0) {
		b->frozen = frozen;
		b->parked = parked;
	}
	return r;
}

int sandbox_park(struct sandbox *b, bool on, struct err *err)
{
	if (b->isolation != ISOLATION_VM)
		return err_set(err, -ENOTSUP, "park sandbox %" PRIu64 ": it is no machine", b->id);
	if (b->state != SANDBOX_RUNNING || b->loaded || b->switching)
		return err_set(err, -ESRCH, "park sandbox %" PRIu64 ": it is not running", b->id);
	return sandbox_still(b, b->frozen, on, err);
}

static void set_all(struct server *s, bool frozen)
{
	for (struct map_node *n = map_next(&s->sandboxes, NULL); n != NULL; n = map_next(&s->sandboxes, n)) {
		struct sandbox *b = container_of(n, struct sandbox, node);
		struct err err = {0};

		/* One that is being stopped may not use its grace beyond the lease. */
		if (b->state == SANDBOX_STOPPING && frozen)
			b->driver->ops->kill(b->driver, b->instance);
		if (b->state != SANDBOX_RUNNING || b->frozen == frozen)
			continue;
		if (sandbox_still(b, frozen, b->parked, &err) == 0)
			lifecycle_frozen(s, b);
		else
			log_error("sandbox %lu: %s: %s", (unsigned long)b->id, frozen ? "freeze" : "thaw",
				  err.message);
	}
}

static void fence(struct server *s, bool fenced)
{
	if (s->fenced != fenced)
		log_warn(fenced ? "the node's lease has ended: all sandboxes are frozen"
				: "the lease is renewed");
	s->fenced = fenced;
	set_all(s, fenced);
	if (fenced)
		s->lease.kept_ms = s->lease.until_ms;
	if (lease_file_write(s->lease_fd, &s->lease) < 0)
		log_error("the end of the lease could not be written down");
}

static void on_deadline(struct server *s, struct watch *w, uint32_t events)
{
	uint64_t count;

	(void)events;
	if (read(w->fd, &count, sizeof count) == (ssize_t)sizeof count)
		fence(s, true);
}

int fence_open(struct server *s, struct err *err)
{
	int fd = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK), r;
	char path[SETTINGS_PATH_MAX + 16];

	s->fence.on = on_deadline;
	r = fd < 0 ? err_system(err, -errno, "timerfd") : watch_add(s, &s->fence, fd, EPOLLIN, err);
	snprintf(path, sizeof path, "%s/lease", s->o.settings->state_dir);
	if (r == 0)
		r = lease_file_read(path, &s->lease, err);
	return r == 0 ? lease_file_open(path, &s->lease_fd, err) : r;
}

void fence_adopted(struct server *s)
{
	bool over = s->lease.until_ms != 0 && s->lease.until_ms <= clock_boot_ms();

	/* Whether they are frozen is not known: the other is assumed. */
	for (struct map_node *n = map_next(&s->sandboxes, NULL); n != NULL; n = map_next(&s->sandboxes, n))
		container_of(n, struct sandbox, node)->frozen = !over;
	fence_set(s, s->lease.until_ms);
}

void fence_set(struct server *s, uint64_t boot_ms)
{
	struct itimerspec at = {.it_value = {.tv_sec = (time_t)(boot_ms / 1000),
					     .tv_nsec = (long)(boot_ms % 1000) * 1000000}};
	bool now = boot_ms != 0 && boot_ms <= clock_boot_ms();

	/* All zero disarms. A time in the past fires at once, but the answer shall come after the freezing. */
	(void)timerfd_settime(s->fence.fd, TFD_TIMER_ABSTIME, &at, NULL);
	s->lease.until_ms = boot_ms;
	fence(s, now);
}
