#include "records/events.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "core/log.h"

struct events {
	uint64_t node;
	struct journal *journal;
};

static const char *const kind_name[EVENT_KINDS] = {[EVENT_READY] = "ready",
						   [EVENT_OPENED] = "opened",
						   [EVENT_CONNECTED] = "connected",
						   [EVENT_DEAD] = "dead"};

int events_open(const char *path, uint64_t node, uint64_t bytes_max, uint64_t age_ms_max, struct events **ret,
		struct err *err)
{
	struct events *e = calloc(1, sizeof *e);
	int r;

	if (e == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", path);
	e->node = node;
	r = journal_open(path, bytes_max, age_ms_max, &e->journal, err);
	if (r < 0) {
		free(e);
		return r;
	}
	*ret = e;
	return 0;
}

void events_close(struct events *e)
{
	if (e == NULL)
		return;
	journal_close(e->journal);
	free(e);
}

void events_trim(struct events *e, uint64_t wall_ms)
{
	journal_trim(e->journal, wall_ms);
}

void events_usage(struct events *e, struct journal_usage *ret)
{
	journal_usage(e->journal, ret);
}

void events_write(struct events *e, enum event_kind kind, const struct event *event)
{
	char line[512], time[CLOCK_TEXT_SIZE], more[128] = "";
	uint64_t wall_ms = clock_wall_ms();
	int n = 0;

	if (event->generation != 0)
		n = snprintf(more, sizeof more, ",\"generation\":%" PRIu64, event->generation);
	if (event->identifier_tag[0] != '\0')
		snprintf(more + n, sizeof more - (size_t)n, ",\"identifier_tag\":\"%s\"",
			 event->identifier_tag);
	n = snprintf(line, sizeof line,
		     "{\"event\":\"%s\",\"time\":\"%s\",\"wall_ms\":%" PRIu64 ",\"node\":%" PRIu64
		     ",\"sandbox\":%" PRIu64 ",\"pool\":%" PRIu64 "%s,\"v\":1}\n",
		     kind_name[kind], clock_text(wall_ms, time), wall_ms, e->node, event->sandbox,
		     event->pool, more);
	if (journal_write(e->journal, line, (size_t)n, wall_ms) > 0)
		log_warn("the disk of state_dir is full: the oldest events are dropped");
}
