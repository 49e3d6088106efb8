/* disk.c -- see disk.h. */
#include "sim/raft/disk.h"

#include <stdlib.h>
#include <string.h>

#include "core/must.h"

/* -- Copies ------------------------------------------------------------------------------------------------------- */

struct raft_buffer disk_copy_buffer(const struct raft_buffer *from, unsigned n)
{
	struct raft_buffer to = {0};
	size_t at = 0;

	for (unsigned i = 0; i < n; i++)
		to.len += from[i].len;
	to.base = raft_malloc(to.len + 1);
	must(to.base != NULL);
	for (unsigned i = 0; i < n; i++) {
		memcpy((char *)to.base + at, from[i].base, from[i].len);
		at += from[i].len;
	}
	return to;
}

void disk_copy_configuration(const struct raft_configuration *from, struct raft_configuration *to)
{
	raft_configuration_init(to);
	for (unsigned i = 0; i < from->n; i++)
		must(raft_configuration_add(to, from->servers[i].id, from->servers[i].address,
					    from->servers[i].role) == 0);
}

/* As the library wants entries that come from a disk or a peer: all in one piece of memory. */
struct raft_entry *disk_copy_batch(const struct raft_entry *from, size_t n)
{
	struct raft_entry *to = n == 0 ? NULL : raft_malloc(n * sizeof *to);
	size_t size = 0;
	char *batch;

	if (n == 0)
		return NULL;
	for (size_t i = 0; i < n; i++)
		size += from[i].buf.len;
	batch = raft_malloc(size + 1);
	must(to != NULL && batch != NULL);
	size = 0;
	for (size_t i = 0; i < n; i++) {
		to[i] = (struct raft_entry){
			from[i].term, from[i].type, {batch + size, from[i].buf.len}, batch};
		memcpy(to[i].buf.base, from[i].buf.base, from[i].buf.len);
		size += from[i].buf.len;
	}
	return to;
}

/* -- The disk ----------------------------------------------------------------------------------------------------- */

struct sim_disk *sim_disk_new(void)
{
	struct sim_disk *d = calloc(1, sizeof *d);

	must(d != NULL);
	d->first = 1;
	return d;
}

static void snapshot_drop(struct sim_disk *d)
{
	if (d->snapshot.index == 0)
		return;
	raft_configuration_close(&d->snapshot.configuration);
	raft_free(d->snapshot.bufs[0].base);
	raft_free(d->snapshot.bufs);
	d->snapshot.index = 0;
}

/* Entries from `index` on. */
void disk_truncate(struct sim_disk *d, raft_index index)
{
	while (d->n > 0 && d->first + d->n > index)
		raft_free(d->entries[--d->n].buf.base);
}

/* Entries below `index`. */
static void disk_forget(struct sim_disk *d, raft_index index)
{
	size_t n = 0;

	while (n < d->n && d->first + n < index)
		raft_free(d->entries[n++].buf.base);
	memmove(d->entries, d->entries + n, (d->n - n) * sizeof *d->entries);
	d->first += n;
	d->n -= n;
}

void sim_disk_free(struct sim_disk *d)
{
	if (d == NULL)
		return;
	snapshot_drop(d);
	disk_truncate(d, 0);
	free(d->entries);
	free(d);
}

void disk_append(struct sim_disk *d, const struct raft_entry *entries, unsigned n)
{
	if (d->n + n > d->capacity) {
		d->capacity = (d->n + n) * 2;
		d->entries = realloc(d->entries, d->capacity * sizeof *d->entries);
		must(d->entries != NULL);
	}
	for (unsigned i = 0; i < n; i++)
		d->entries[d->n++] = (struct raft_entry){entries[i].term, entries[i].type,
							 disk_copy_buffer(&entries[i].buf, 1), NULL};
}

void disk_snapshot(struct sim_disk *d, const struct raft_snapshot *from, unsigned trailing)
{
	snapshot_drop(d);
	d->snapshot = *from;
	disk_copy_configuration(&from->configuration, &d->snapshot.configuration);
	d->snapshot.bufs = raft_malloc(sizeof *d->snapshot.bufs);
	must(d->snapshot.bufs != NULL);
	d->snapshot.bufs[0] = disk_copy_buffer(from->bufs, from->n_bufs);
	d->snapshot.n_bufs = 1;
	if (trailing == 0) {
		disk_truncate(d, 0);
		d->first = from->index + 1;
	} else if (from->index > trailing) {
		disk_forget(d, from->index - trailing + 1);
	}
}

struct raft_snapshot *disk_load_snapshot(const struct sim_disk *d)
{
	struct raft_snapshot *to;

	if (d->snapshot.index == 0)
		return NULL;
	to = raft_malloc(sizeof *to);
	must(to != NULL);
	*to = d->snapshot;
	disk_copy_configuration(&d->snapshot.configuration, &to->configuration);
	to->bufs = raft_malloc(sizeof *to->bufs);
	must(to->bufs != NULL);
	to->bufs[0] = disk_copy_buffer(d->snapshot.bufs, 1);
	return to;
}
