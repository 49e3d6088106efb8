/* Which images go, and when: a sweep is told which digests pools want; an image is in use if one of them leads to it, or a sandbox
 * runs from it, or an import gave it a name (no registry could bring it back). Of the others those go that were unused for
 * too long, and, while all together takes more than the bound, the longest unused one. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "core/clock.h"
#include "image/disk.h"
#include "image/store.h"

#define GRACE_MS 15000 /* what came just now may be missing in an older list of what is wanted */

static bool has_layer(const struct image_entry *e, struct str digest)
{
	for (uint32_t i = 0; i < e->n_layers; i++) {
		if (str_eq(e->layers[i].digest, digest))
			return true;
	}
	return false;
}

/* A layer that several images link counts for the first of them. */
static uint64_t used_bytes(const struct image_store *s)
{
	uint64_t total = 0;

	for (const struct image_entry *e = s->entries; e != NULL; e = e->next) {
		total += e->disk_bytes + e->packed_bytes;
		for (uint32_t i = 0; i < e->n_layers; i++) {
			const struct image_entry *first = s->entries;

			while (first != e && !has_layer(first, e->layers[i].digest))
				first = first->next;
			total += first == e ? e->layers[i].bytes : 0;
		}
	}
	return total;
}

static bool is_unused(const struct image_entry *e)
{
	return e->users == 0 && !e->wanted && !e->named &&
	       (e->came_ms == 0 || clock_boot_ms() - e->came_ms >= GRACE_MS);
}

static struct image_entry *longest_unused(struct image_store *s)
{
	struct image_entry *found = NULL;

	for (struct image_entry *e = s->entries; e != NULL; e = e->next) {
		if (is_unused(e) && (found == NULL || e->last_used_ms < found->last_used_ms))
			found = e;
	}
	return found;
}

int sweep_make_room(struct image_store *s, uint64_t bytes, struct err *err)
{
	uint64_t max = s->options.disk_bytes_max, used;
	char gone[PATH_MAX];

	while ((used = used_bytes(s)) + bytes > max) {
		struct image_entry *e = s->wanted_known ? longest_unused(s) : NULL;

		if (e == NULL)
			return err_set(err, -ENOSPC,
				       "the image takes %" PRIu64 " bytes, and of %" PRIu64
				       " that images may take %" PRIu64 " are in use",
				       bytes, max, used);
		int r = store_take_out(s, e, gone, err);

		if (r < 0)
			return r;
	}
	return 0;
}

uint32_t sweep_unused(struct image_store *s)
{
	struct image_entry *e;
	char gone[PATH_MAX];
	uint32_t n = 0;

	pthread_mutex_lock(&s->mutex);
	while (s->wanted_known && (e = longest_unused(s)) != NULL && store_take_out(s, e, gone, NULL) == 0)
		n++;
	pthread_mutex_unlock(&s->mutex);
	return n;
}

/* The record's time is that of the last use, so that a restart does not forget it. */
static void keep_time(const struct image_store *s, struct image_entry *e, uint64_t now)
{
	struct timespec times[2] = {{.tv_sec = (time_t)(now / 1000)}, {.tv_sec = (time_t)(now / 1000)}};
	char path[PATH_MAX];

	e->last_used_ms = now;
	if (store_path(s, "images", e->digest + 7, "record", path, NULL) == 0)
		(void)utimensat(AT_FDCWD, path, times, 0);
}

static void mark(struct image_store *s, const struct str *wanted, size_t n_wanted)
{
	uint64_t now = clock_wall_ms();

	for (struct image_entry *e = s->entries; e != NULL; e = e->next)
		e->wanted = false;
	for (size_t i = 0; i < n_wanted; i++) {
		struct image_entry *e = store_find(s, wanted[i]);

		if (e != NULL)
			e->wanted = true;
	}
	for (struct image_entry *e = s->entries; e != NULL; e = e->next) {
		if (e->users > 0 || e->wanted)
			keep_time(s, e, now);
	}
	s->wanted_known = true;
}

/* The next to go, or NULL. */
static struct image_entry *next_victim(struct image_store *s, enum image_sweep how)
{
	struct image_entry *e = longest_unused(s);
	uint64_t now = clock_wall_ms();

	if (e == NULL || how == IMAGE_SWEEP_UNUSED)
		return e;
	bool old = e->last_used_ms < now && now - e->last_used_ms > s->options.unused_ms_max;

	return old || used_bytes(s) > s->options.disk_bytes_max ? e : NULL;
}

int image_sweep(struct image_store *s, enum image_sweep how, const struct str *wanted, size_t n_wanted,
		struct arena *arena, struct image_state **ret_gone, size_t *ret_n)
{
	struct image_state *gone;
	struct image_entry *e;
	char path[PATH_MAX];
	size_t n = 0;

	pthread_mutex_lock(&s->mutex);
	mark(s, wanted, n_wanted);
	for (e = s->entries; e != NULL; e = e->next)
		n++;
	gone = arena_array(arena, n + 1, sizeof *gone);
	n = 0;
	while (gone != NULL && (e = next_victim(s, how)) != NULL) {
		gone[n] = store_state(e, arena);
		if (store_take_out(s, e, path, NULL) < 0)
			break;
		n++;
	}
	pthread_mutex_unlock(&s->mutex);
	*ret_gone = gone;
	*ret_n = n;
	return gone == NULL ? -ENOMEM : 0;
}

void image_clean(struct image_store *s)
{
	char path[PATH_MAX];
	struct dirent *d;
	DIR *work = store_path(s, "work", NULL, NULL, path, NULL) < 0 ? NULL : opendir(path);

	while (work != NULL && (d = readdir(work)) != NULL) {
		if (strncmp(d->d_name, "gone-", 5) == 0 &&
		    store_path(s, "work", d->d_name, NULL, path, NULL) == 0)
			(void)disk_remove(path, NULL); /* what is left, the next time */
	}
	if (work != NULL)
		closedir(work);
}
