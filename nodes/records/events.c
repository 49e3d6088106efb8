#include "records/events.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

#define BYTES_MAX (64l * 1024 * 1024)

struct events {
	pthread_mutex_t lock; /* of fd */
	int fd;
	uint64_t node;
	char path[PATH_MAX];
};

static const char *const kind_name[EVENT_KINDS] = {[EVENT_READY] = "ready",
						   [EVENT_OPENED] = "opened",
						   [EVENT_CONNECTED] = "connected",
						   [EVENT_DEAD] = "dead"};

static int open_file(const char *path)
{
	return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

int events_open(const char *path, uint64_t node, struct events **ret, struct err *err)
{
	struct events *e = calloc(1, sizeof *e);
	int r;

	if (e == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", path);
	e->node = node;
	r = snprintf(e->path, sizeof e->path, "%s", path) < (int)sizeof e->path ? 0 : -ENAMETOOLONG;
	e->fd = r == 0 ? open_file(path) : -1;
	if (e->fd < 0) {
		r = err_system(err, r < 0 ? r : -errno, "%s", path);
		free(e);
		return r;
	}
	pthread_mutex_init(&e->lock, NULL);
	*ret = e;
	return 0;
}

void events_close(struct events *e)
{
	if (e == NULL)
		return;
	close(e->fd);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

static void rotate(struct events *e)
{
	char before[PATH_MAX + 2];
	struct stat st;
	int fd;

	if (fstat(e->fd, &st) < 0 || st.st_size <= BYTES_MAX)
		return;
	snprintf(before, sizeof before, "%s.1", e->path);
	(void)!rename(e->path, before);
	fd = open_file(e->path);
	if (fd < 0)
		return;
	close(e->fd);
	e->fd = fd;
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
		     ",\"sandbox\":%" PRIu64 ",\"pool\":%" PRIu64 "%s}\n",
		     kind_name[kind], clock_text(wall_ms, time), wall_ms, e->node, event->sandbox,
		     event->pool, more);
	pthread_mutex_lock(&e->lock);
	rotate(e);
	(void)!fd_write_all(e->fd, line, (size_t)n);
	pthread_mutex_unlock(&e->lock);
}
