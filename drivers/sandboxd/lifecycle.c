/* lifecycle.c -- <state>/events: a line of JSON for each start, exit and stop, written as it happens. It shares nothing
 * with the replicated ledger, so that bills can be recounted from it (docs/events.md). Bounded: at 64 MiB the file
 * becomes events.1. A line that cannot be written is lost: nothing waits for it. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "sandboxd/server_state.h"

#define BYTES_MAX (64l * 1024 * 1024)

static int open_file(struct server *s, bool anew)
{
	char path[SETTINGS_PATH_MAX + 16], before[SETTINGS_PATH_MAX + 16];

	snprintf(path, sizeof path, "%s/events", s->o.settings->state_dir);
	snprintf(before, sizeof before, "%s/events.1", s->o.settings->state_dir);
	if (anew)
		(void)!rename(path, before);
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

int lifecycle_open(struct server *s, struct err *err)
{
	s->events_fd = open_file(s, false);
	return s->events_fd < 0 ? err_system(err, -errno, "%s/events", s->o.settings->state_dir) : 0;
}

/* `more`: further members, each with its comma in front. */
static void put(struct server *s, const char *event, const struct sandbox *b, uint64_t wall_ms, const char *more)
{
	char line[512], text[CLOCK_TEXT_SIZE];
	struct driver_info info = {0};
	struct stat st;
	int n;

	if (b->instance != NULL)
		s->driver->ops->info(s->driver, b->instance, &info);
	n = snprintf(line, sizeof line,
		     "{\"event\":\"%s\",\"time\":\"%s\",\"wall_ms\":%" PRIu64 ",\"node\":%" PRIu64 ",\"sandbox\":%" PRIu64
		     ",\"pool\":%" PRIu64 ",\"revision\":%" PRIu64 ",\"pid\":%" PRId64 "%s}\n",
		     event, clock_text(wall_ms, text), wall_ms, s->node, b->id, info.pool_uid, info.revision, info.pid,
		     more);
	if (fstat(s->events_fd, &st) == 0 && st.st_size > BYTES_MAX) {
		int fd = open_file(s, true);

		if (fd >= 0) {
			close(s->events_fd);
			s->events_fd = fd;
		}
	}
	(void)!fd_write_all(s->events_fd, line, (size_t)n);
}

void lifecycle_started(struct server *s, const struct sandbox *b, const struct driver_limits *limits, uint64_t wall_ms)
{
	char more[80];

	snprintf(more, sizeof more, ",\"cpu_milli\":%" PRIu32 ",\"memory_bytes\":%" PRIu64, limits->cpu_milli,
		 limits->memory_bytes);
	put(s, "started", b, wall_ms, more);
}

void lifecycle_exited(struct server *s, const struct sandbox *b)
{
	static const char *const how[SANDBOX_EXITS] = {"code", "signal", "oom", "unknown"};
	char more[64];

	snprintf(more, sizeof more, ",\"how\":\"%s\",\"value\":%" PRId32, how[b->exit.how], b->exit.value);
	put(s, "exited", b, b->exit.wall_ms, more);
}

void lifecycle_stopped(struct server *s, const struct sandbox *b, uint64_t wall_ms)
{
	s->ended[s->next_ended++ % ENDED_KEPT] = (struct ended){b->id, b->exit_known ? b->exit.wall_ms : wall_ms};
	put(s, "stopped", b, wall_ms, "");
}

uint64_t lifecycle_ended_ms(const struct server *s, uint64_t sandbox)
{
	for (uint32_t i = 0; i < ENDED_KEPT; i++) {
		if (s->ended[i].sandbox == sandbox && s->ended[i].wall_ms != 0)
			return s->ended[i].wall_ms;
	}
	return clock_wall_ms();
}
