/* lifecycle.c -- <state>/events: a line of JSON for each start, exit and stop, written as it happens. It shares nothing
 * with the replicated ledger, so that bills can be recounted from it (docs/events.md). Bounded as journal.h says. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/log.h"
#include "sandboxd/server_state.h"

#define RECALLED_BYTES (256u * 1024)

static void remember(struct server *s, uint64_t sandbox, uint64_t wall_ms)
{
	for (uint32_t i = 0; i < ENDED_KEPT; i++) {
		if (s->ended[i].wall_ms != 0 && s->ended[i].sandbox == sandbox)
			return; /* its exit comes before its stop, and is its end */
	}
	s->ended[s->next_ended++ % ENDED_KEPT] = (struct ended){sandbox, wall_ms};
}

/* The ends that a former sandboxd wrote last: who waits for their stop may have lost the answer with it. */
static void recall(struct server *s, const char *path)
{
	char event[16];
	CLEANUP_FREE char *text = malloc(RECALLED_BYTES + 1);
	CLEANUP_FD int fd = -1;
	uint64_t wall_ms, sandbox;
	ssize_t n;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || text == NULL)
		return;
	(void)lseek(fd, -(off_t)RECALLED_BYTES, SEEK_END); /* a shorter file is read from its beginning */
	n = read(fd, text, RECALLED_BYTES);
	text[n < 0 ? 0 : n] = '\0';
	for (char *line = text, *next; (next = strchr(line, '\n')) != NULL; line = next + 1) {
		*next = '\0';
		if (sscanf(line,
			   "{\"event\":\"%15[a-z]\",\"time\":\"%*[^\"]\",\"wall_ms\":%" SCNu64
			   ",\"node\":%*u,\"sandbox\":%" SCNu64,
			   event, &wall_ms, &sandbox) == 3 &&
		    (strcmp(event, "exited") == 0 || strcmp(event, "stopped") == 0))
			remember(s, sandbox, wall_ms);
	}
}

int lifecycle_open(struct server *s, struct err *err)
{
	const struct settings *o = s->o.settings;
	char path[SETTINGS_PATH_MAX + 16];

	snprintf(path, sizeof path, "%s/events.1", o->state_dir); /* the other may have been begun just now */
	recall(s, path);
	snprintf(path, sizeof path, "%s/events", o->state_dir);
	recall(s, path);
	return journal_open(path, o->events_disk_max, o->events_retention_ms, &s->events, err);
}

/* `more`: further members, each with its comma in front. */
static void put(struct server *s, const char *event, const struct sandbox *b, uint64_t wall_ms,
		const char *more)
{
	char line[512], text[CLOCK_TEXT_SIZE];
	struct driver_info info = {0};
	int n;

	if (b->instance != NULL)
		b->driver->ops->info(b->driver, b->instance, &info);
	n = snprintf(line, sizeof line,
		     "{\"event\":\"%s\",\"time\":\"%s\",\"wall_ms\":%" PRIu64 ",\"node\":%" PRIu64
		     ",\"sandbox\":%" PRIu64 ",\"pool\":%" PRIu64 ",\"revision\":%" PRIu64 ",\"pid\":%" PRId64
		     "%s,\"v\":1}\n",
		     event, clock_text(wall_ms, text), wall_ms, s->node, b->id, info.pool_uid, info.revision,
		     info.pid, more);
	if (journal_write(s->events, line, (size_t)n, wall_ms) > 0)
		log_warn("the disk of state_dir is full: the oldest events are dropped");
}

void lifecycle_started(struct server *s, const struct sandbox *b, const struct driver_limits *limits,
		       uint64_t wall_ms)
{
	char more[120];

	snprintf(more, sizeof more,
		 ",\"isolation\":\"%s\",\"cpu_milli\":%" PRIu32 ",\"memory_bytes\":%" PRIu64,
		 isolation_name[b->isolation], limits->cpu_milli, limits->memory_bytes);
	put(s, "started", b, wall_ms, more);
}

void lifecycle_exited(struct server *s, const struct sandbox *b)
{
	static const char *const how[SANDBOX_EXITS] = {"code", "signal", "oom", "unknown"};
	char more[64];

	snprintf(more, sizeof more, ",\"how\":\"%s\",\"value\":%" PRId32, how[b->exit.how], b->exit.value);
	put(s, "exited", b, b->exit.wall_ms, more);
}

void lifecycle_saved(struct server *s, const struct sandbox *b, uint64_t bytes)
{
	char more[64];

	snprintf(more, sizeof more, ",\"bytes\":%" PRIu64, bytes);
	put(s, "saved", b, clock_wall_ms(), more);
}

void lifecycle_frozen(struct server *s, const struct sandbox *b)
{
	put(s, b->frozen ? "frozen" : "thawed", b, clock_wall_ms(), "");
}

void lifecycle_stopped(struct server *s, const struct sandbox *b, uint64_t wall_ms)
{
	remember(s, b->id, b->exit_known ? b->exit.wall_ms : wall_ms);
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
