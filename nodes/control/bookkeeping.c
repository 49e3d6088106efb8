/* Closed billing records go from the tables to this voter's disk; the leader trims the tables once its own copy is safe
 * and they hold more than TRIM_ABOVE. Exports read both places. Beside them lies the record of events, which bills are
 * recounted from. */
#include <limits.h>
#include <stdio.h>
#include <sys/statvfs.h>

#include "control/control.h"
#include "core/clock.h"
#include "core/log.h"
#include "records/events.h"
#include "records/reader.h"
#include "records/records.h"
#include "state/command.h"

#define TRIM_ABOVE 50000
#define TRIM_MS    60000
#define DISK_MS    2000

int bookkeeping_open(struct control *c, struct err *err)
{
	char path[512];
	CLEANUP_ARENA struct arena arena = {0};
	struct str name = arena_printf(&arena, "%.*s/berthd/records.sqlite", STR_ARGS(c->config.state_dir));
	int r = str_copy(name, path, sizeof path);

	if (r < 0)
		return err_set(err, r, "state_dir: the path is too long");
	struct records_options records = {.path = path,
					  .bytes_max = c->config.records_disk_max,
					  .retention_ms = c->config.records_retention_ms};

	r = records_open(&records, &c->records, err);
	if (r == 0)
		r = reader_new(path, &c->reader, err);
	if (r < 0)
		return r;
	snprintf(path, sizeof path, "%.*s/berthd/events", STR_ARGS(c->config.state_dir));
	return events_open(path, c->config.node_id, c->config.events_disk_max, c->config.events_retention_ms,
			   &c->events, err);
}

void bookkeeping_close(struct control *c)
{
	reader_free(c->reader);
	records_close(c->records);
	events_close(c->events);
}

static void keep(struct control *c)
{
	const struct record_row *rows[RECORDS_BATCH_MAX];
	struct record_row last = {.number = c->records_handed};
	uint32_t n = 0;

	for (const struct record_row *r = state_next_record(c->state, &last);
	     r != NULL && n < RECORDS_BATCH_MAX; r = state_next_record(c->state, r))
		rows[n++] = r;
	n = n == 0 ? 0 : records_keep(c->records, rows, n);
	if (n > 0)
		c->records_handed = rows[n - 1]->number;
}

static void trim(struct control *c, uint64_t now)
{
	struct address nobody = {ADDRESS_CONTROL, c->config.node_id, 0};
	struct cmd_records_trim body = {0};
	uint64_t kept = records_kept(c->records), n = 0;

	for (const struct record_row *r = state_next_record(c->state, NULL); r != NULL;
	     r = state_next_record(c->state, r))
		n++;
	for (const struct record_row *r = state_next_record(c->state, NULL);
	     r != NULL && n > TRIM_ABOVE && r->number <= kept; r = state_next_record(c->state, r), n--)
		body.up_to = r->number;
	if (body.up_to > 0)
		proposer_submit(c->proposer, COMMAND_RECORDS_TRIM, &body, &nobody, 0, now + TRIM_MS);
}

/* Zeroes when it cannot be told. */
static struct disk_room disk_of(const struct control *c)
{
	struct disk_room room = {0};
	struct statvfs v;
	char dir[PATH_MAX];

	if (str_copy(c->config.state_dir, dir, sizeof dir) < 0 || statvfs(dir, &v) < 0)
		return room;
	room.bytes = (uint64_t)v.f_blocks * v.f_frsize;
	room.free = (uint64_t)v.f_bavail * v.f_frsize;
	room.nearly_full = room.free < room.bytes / 100 * c->config.disk_free_min;
	return room;
}

/* Told to the leader with each renewal: placement puts nothing on a full disk. */
static void look_at_disk(struct control *c, uint64_t now)
{
	struct disk_room room;

	if (now < c->disk_ms)
		return;
	c->disk_ms = now + DISK_MS;
	room = disk_of(c);
	if (room.nearly_full != c->disk_nearly_full)
		log_line(room.nearly_full ? LOG_WARN : LOG_INFO,
			 room.nearly_full
				 ? "the disk of state_dir has less than disk_free_min free: no new sandboxes"
				 : "the disk of state_dir has room for sandboxes again");
	c->disk_nearly_full = room.nearly_full;
	runtime_disk(c->runtime, &room);
}

void bookkeeping_tick(struct control *c, uint64_t now)
{
	look_at_disk(c, now);
	if (c->config.role == CONFIG_VOTER)
		keep(c);
	if (now < c->trim_ms)
		return;
	c->trim_ms = now + TRIM_MS;
	events_trim(c->events, clock_wall_ms());
	if (c->leads)
		trim(c, now);
}
