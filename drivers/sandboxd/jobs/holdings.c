/* holdings.c -- what this node keeps on disk and in memory for its sandboxes, and the bounds. The sandboxes are counted on the
 * loop, what takes locks or disk on a thread. */
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "core/fd.h"
#include "image/image.h"
#include "sandboxd/server_state.h"

enum { KEPT, RUNNING, LAYERS, EVENTS, IMAGES, SAVED, KINDS };

struct holdings_job {
	struct job job;
	struct server *s;
	struct asker asker;
	struct arena arena;
	struct holding kinds[KINDS];
};

static void count_sandbox(const struct sandbox *b, struct holding kinds[KINDS])
{
	struct driver_stats stats = {0};
	CLEANUP_FD int fd = -1;
	struct stat st;

	kinds[LAYERS].n++;
	kinds[RUNNING].n++;
	if (b->instance == NULL)
		return;
	if (b->driver->ops->stats(b->driver, b->instance, &stats, NULL) == 0)
		kinds[LAYERS].bytes += stats.files_bytes;
	if (b->driver->ops->log(b->driver, b->instance, &fd, NULL) == 0 && fstat(fd, &st) == 0)
		kinds[RUNNING].bytes += (uint64_t)st.st_size;
}

static void count_images(struct holdings_job *j)
{
	struct image_state *images = NULL;
	size_t n = 0;

	if (j->s->o.store == NULL || image_list(j->s->o.store, &j->arena, &images, &n) < 0)
		return;
	for (size_t i = 0; i < n; i++) {
		struct holding *h = &j->kinds[IMAGES];

		h->bytes += images[i].bytes;
		h->n += images[i].bytes > 0; /* else it is another name of one */
		if (images[i].last_used_ms != 0 &&
		    (h->oldest_ms == 0 || images[i].last_used_ms < h->oldest_ms))
			h->oldest_ms = images[i].last_used_ms;
	}
}

static void count_saved(struct holdings_job *j)
{
	struct saved_file *files = arena_array(&j->arena, SANDBOXES_MAX, sizeof *files);
	uint32_t n = files == NULL ? 0 : saved_files_list(j->s->saved_dir, files, SANDBOXES_MAX);

	for (uint32_t i = 0; i < n; i++)
		j->kinds[SAVED].bytes += files[i].bytes;
	j->kinds[SAVED].n = n;
}

static void run_holdings(struct job *job)
{
	struct holdings_job *j = container_of(job, struct holdings_job, job);
	struct kept_logs_usage logs;
	struct journal_usage events;

	kept_logs_usage(j->s->logs, &logs);
	j->kinds[KEPT].bytes = logs.bytes;
	j->kinds[KEPT].oldest_ms = logs.oldest_ms;
	j->kinds[KEPT].n = logs.n;
	journal_usage(j->s->events, &events);
	j->kinds[EVENTS].bytes = events.bytes;
	j->kinds[EVENTS].oldest_ms = events.oldest_ms;
	count_images(j);
	count_saved(j);
}

static void done_holdings(struct job *job)
{
	struct holdings_job *j = container_of(job, struct holdings_job, job);
	struct sandboxd_reply r = {.holdings = j->kinds, .n_holdings = KINDS, .version = STR(BERTH_VERSION)};

	reply(j->s, &j->asker, &r, -1);
	arena_done(&j->arena);
	free(j);
}

void holdings_call(struct server *s, struct asker asker)
{
	const struct settings *o = s->o.settings;
	struct holdings_job *j = calloc(1, sizeof *j);

	if (j == NULL) {
		reply_code(s, &asker, -ENOMEM, NULL);
		return;
	}
	*j = (struct holdings_job){
		.job = {.run = run_holdings, .done = done_holdings},
		.s = s,
		.asker = asker,
		.kinds = {[KEPT] = {.kind = STR("logs of ended"),
				    .bytes_max = o->log_disk_max,
				    .age_ms_max = o->log_retention_ms},
			  [RUNNING] = {.kind = STR("logs of running")},
			  [LAYERS] = {.kind = STR("writable layers")},
			  [EVENTS] = {.kind = STR("events of sandboxd"),
				      .bytes_max = o->events_disk_max,
				      .age_ms_max = o->events_retention_ms},
			  [IMAGES] = {.kind = STR("images"),
				      .bytes_max = s->o.store == NULL ? 0 : image_disk_bytes_max(s->o.store),
				      .age_ms_max = o->image_retention_ms},
			  [SAVED] = {.kind = STR("memory of suspended")}}};
	for (struct map_node *n = map_next(&s->sandboxes, NULL); n != NULL; n = map_next(&s->sandboxes, n))
		count_sandbox(container_of(n, struct sandbox, node), j->kinds);
	j->kinds[RUNNING].bytes_max = j->kinds[RUNNING].n * o->log_bytes_max;
	j->kinds[LAYERS].bytes_max = j->kinds[LAYERS].n * o->disk_bytes_max;
	if (jobs_post(s->work, &j->job) == 0)
		return;
	free(j);
	reply_code(s, &asker, -EAGAIN, NULL);
}
