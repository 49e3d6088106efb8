/* lifecycle.c -- <state>/events: one line for each start, exit and stop, written as it happens. It shares nothing with
 * the replicated ledger, so that bills can be recounted from it. Bounded: at 64 MiB the file becomes events.1. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
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

void lifecycle_write(struct server *s, const char *event, const struct sandbox *b, uint64_t wall_ms)
{
	static const char *const how[SANDBOX_EXITS] = {"code", "signal", "oom", "unknown"};
	char line[256], text[CLOCK_TEXT_SIZE];
	struct driver_info info = {0};
	struct stat st;
	int n;

	if (b->instance != NULL)
		s->driver->ops->info(s->driver, b->instance, &info);
	n = snprintf(line, sizeof line,
		     "%s %s wall_ms=%" PRIu64 " sandbox=%" PRIu64 " pool=%" PRIu64 " revision=%" PRIu64
		     " pid=%" PRId64,
		     clock_text(clock_wall_ms(), text), event, wall_ms, b->id, info.pool_uid, info.revision,
		     info.pid);
	if (strcmp(event, "exited") == 0)
		n += snprintf(line + n, sizeof line - (size_t)n, " how=%s value=%d", how[b->exit.how],
			      b->exit.value);
	line[n++] = '\n';
	if (fstat(s->events_fd, &st) == 0 && st.st_size > BYTES_MAX) {
		int fd = open_file(s, true);

		if (fd >= 0) {
			close(s->events_fd);
			s->events_fd = fd;
		}
	}
	(void)!fd_write_all(s->events_fd, line, (size_t)n);
}
