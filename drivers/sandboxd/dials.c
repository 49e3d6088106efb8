/* dials.c -- connections into sandboxes: the driver begins them, the loop waits, the socket goes to berthd. */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "sandboxd/server_state.h"

#define TIMEOUT_MS_DEFAULT 1000u
#define TIMEOUT_MS_MAX     60000u

static void finish(struct server *s, struct dial *d, int code, const struct err *err)
{
	struct dial **at = &s->dials;
	int fd = d->watch.fd;

	watch_remove(s, &d->watch);
	if (code == 0) {
		struct sandboxd_reply r = {.sandbox = d->sandbox};

		reply(s, &d->asker, &r, fd);
	} else {
		reply_code(s, &d->asker, code, err);
	}
	close(fd);
	while (*at != d)
		at = &(*at)->next;
	*at = d->next;
	s->n_dials--;
	free(d);
}

static void on_connected(struct server *s, struct watch *w, uint32_t events)
{
	struct dial *d = container_of(w, struct dial, watch);
	struct err err = {0};
	int code = 0;
	socklen_t n = sizeof code;

	(void)events;
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &code, &n) != 0)
		code = errno;
	if (code != 0)
		err_system(&err, -code, "connect into sandbox %" PRIu64, d->sandbox);
	finish(s, d, -code, &err);
}

static int start(struct server *s, struct sandbox *b, uint16_t port, struct dial *d, struct err *err)
{
	CLEANUP_FD int fd = -1;
	int r;

	if (b->frozen)
		return err_set(err, -EBUSY, "sandbox %" PRIu64 " is frozen: the node's lease has ended",
			       b->id);
	if (b->loaded)
		return err_set(err, -EBUSY, "sandbox %" PRIu64 " is loaded, and does not run yet", b->id);
	if (b->state != SANDBOX_RUNNING)
		return err_set(err, -ECONNREFUSED, "sandbox %" PRIu64 " is not running", b->id);
	r = b->parked ? sandbox_still(b, false, false, err) : 0;
	if (r < 0)
		return r;
	if (s->n_dials >= DIALS_MAX)
		return err_set(err, -EAGAIN, "%u connections into sandboxes are under way already",
			       DIALS_MAX);
	if (port == 0) {
		struct driver_info info = {.sandbox = b->id};

		b->driver->ops->info(b->driver, b->instance, &info);
		port = info.target_port;
	}
	r = b->driver->ops->dial(b->driver, b->instance, port, &fd, err);
	if (r == 0)
		r = watch_add(s, &d->watch, fd, EPOLLOUT, err);
	if (r == 0)
		fd_take(&fd);
	return r;
}

void dial_start(struct server *s, struct sandbox *b, uint16_t port, uint32_t timeout_ms, struct asker asker)
{
	struct dial *d = calloc(1, sizeof *d);
	struct err err = {0};
	int r;

	if (d == NULL) {
		reply_code(s, &asker, -ENOMEM, NULL);
		return;
	}
	timeout_ms = timeout_ms == 0 ? TIMEOUT_MS_DEFAULT : timeout_ms;
	timeout_ms = timeout_ms > TIMEOUT_MS_MAX ? TIMEOUT_MS_MAX : timeout_ms;
	*d = (struct dial){.watch = {.fd = -1, .on = on_connected},
			   .asker = asker,
			   .sandbox = b->id,
			   .deadline_ms = clock_boot_ms() + timeout_ms};
	r = start(s, b, port, d, &err);
	if (r < 0) {
		reply_code(s, &asker, r, &err);
		free(d);
		return;
	}
	d->next = s->dials;
	s->dials = d;
	s->n_dials++;
}

int dials_expire(struct server *s)
{
	uint64_t now = s->dials == NULL ? 0 : clock_boot_ms(), next = UINT64_MAX;

	for (struct dial *d = s->dials, *then; d != NULL; d = then) {
		then = d->next;
		if (d->deadline_ms <= now) {
			struct err err;

			finish(s, d,
			       err_set(&err, -ETIMEDOUT,
				       "connect into sandbox %" PRIu64 ": no answer in time", d->sandbox),
			       &err);
		} else if (d->deadline_ms < next) {
			next = d->deadline_ms;
		}
	}
	return next == UINT64_MAX ? -1 : (int)(next - now);
}

void dials_drop(struct server *s)
{
	struct err err;

	while (s->dials != NULL)
		finish(s, s->dials, err_set(&err, -ECANCELED, "sandboxd ends"), &err);
}
