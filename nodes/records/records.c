#include "records/records.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/codec.h"
#include "core/log.h"
#include "core/must.h"

#define LOOK_S      60 /* between looks for what has to go */
#define RETRY_S     1
#define AT_ONCE     5000 /* rows that one statement removes */
#define PAGES_FREED 4096 /* at once, to the file system */
#define FORMAT      1    /* PRAGMA user_version */

/* auto_vacuum comes first: it takes effect in an empty file only. */
static const char schema[] =
	"PRAGMA auto_vacuum = INCREMENTAL;"
	"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 2000;"
	"PRAGMA journal_size_limit = 16777216;"
	"CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY, ready_ms INTEGER NOT NULL,"
	" stopped_ms INTEGER NOT NULL, row BLOB NOT NULL) STRICT;"
	"PRAGMA user_version = 1;"
	"CREATE INDEX IF NOT EXISTS record_stopped ON record (stopped_ms);";

struct records {
	char path[512];
	uint64_t bytes_max, retention_ms;
	sqlite3 *db; /* the thread's */
	_Atomic uint64_t kept;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* Under the lock: */
	struct arena memory;
	struct record_row *batch[RECORDS_BATCH_MAX];
	uint32_t n;
	struct records_usage usage;
	bool ending;
};

static int fail(sqlite3 *db, struct err *err, const char *what)
{
	return err_set(err, -EIO, "%s: %s", what, db == NULL ? "no memory" : sqlite3_errmsg(db));
}

/* Looked at before anything is written. */
static bool newer(sqlite3 *db)
{
	sqlite3_stmt *s = NULL;
	bool is = sqlite3_prepare_v2(db, "PRAGMA user_version", -1, &s, NULL) == SQLITE_OK &&
		  sqlite3_step(s) == SQLITE_ROW && sqlite3_column_int64(s, 0) > FORMAT;

	sqlite3_finalize(s);
	return is;
}

static int open_file(const char *path, sqlite3 **ret, struct err *err)
{
	sqlite3 *db = NULL;
	int r = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
				NULL);

	if (r == SQLITE_OK && newer(db)) {
		sqlite3_close(db);
		return err_set(err, -EPROTO, "%s: of a newer version; this one knows format %d", path,
			       FORMAT);
	}
	if (r != SQLITE_OK || sqlite3_exec(db, schema, NULL, NULL, NULL) != SQLITE_OK) {
		r = sqlite3_errcode(db) == SQLITE_NOTADB || sqlite3_errcode(db) == SQLITE_CORRUPT ? -EBADMSG
												  : -EIO;
		fail(db, err, path);
		sqlite3_close(db);
		return r;
	}
	*ret = db;
	return 0;
}

/* The one number that a query answers. */
static uint64_t ask(sqlite3 *db, const char *query)
{
	sqlite3_stmt *s = NULL;
	uint64_t number = 0;

	if (sqlite3_prepare_v2(db, query, -1, &s, NULL) == SQLITE_OK && sqlite3_step(s) == SQLITE_ROW)
		number = (uint64_t)sqlite3_column_int64(s, 0);
	sqlite3_finalize(s);
	return number;
}

/* -- The writer's thread --------------------------------------------------------------------------------------- */

static int insert(sqlite3_stmt *s, const struct record_row *row)
{
	CLEANUP_BUF struct buf bytes = {0};

	codec_encode(&bytes, &record_row_codec, row);
	sqlite3_bind_int64(s, 1, (sqlite3_int64)row->number);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)row->ready_ms);
	sqlite3_bind_int64(s, 3, (sqlite3_int64)row->stopped_ms);
	sqlite3_bind_blob(s, 4, bytes.p, (int)bytes.n, SQLITE_TRANSIENT);
	int r = sqlite3_step(s);

	sqlite3_reset(s);
	return r == SQLITE_DONE ? 0 : -EIO;
}

static int write_batch(struct records *r, struct record_row *const *rows, uint32_t n)
{
	sqlite3_stmt *s = NULL;
	int bad = sqlite3_exec(r->db, "BEGIN", NULL, NULL, NULL);

	if (bad == 0)
		bad = sqlite3_prepare_v2(r->db, "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", -1, &s,
					 NULL);
	for (uint32_t i = 0; bad == 0 && i < n; i++)
		bad = insert(s, rows[i]);
	sqlite3_finalize(s);
	if (bad == 0)
		bad = sqlite3_exec(r->db, "COMMIT", NULL, NULL, NULL);
	if (bad == 0)
		return 0;
	if (!r->usage.failing)
		log_error("billing records cannot be written to %s, and stay in the tables: %s", r->path,
			  sqlite3_errmsg(r->db));
	sqlite3_exec(r->db, "ROLLBACK", NULL, NULL, NULL);
	return -EIO;
}

/* What is over the age or the bytes, and then the file's own size. */
static void drop_old(struct records *r)
{
	static const char used[] = "SELECT (page_count - freelist_count) * page_size FROM pragma_page_count,"
				   " pragma_freelist_count, pragma_page_size";
	char old[160], oldest[160], vacuum[64];
	uint64_t dropped = 0, n;

	snprintf(
		old, sizeof old,
		"DELETE FROM record WHERE number IN (SELECT number FROM record WHERE stopped_ms < %lld LIMIT "
		"%d)",
		(long long)(clock_wall_ms() - r->retention_ms), AT_ONCE);
	snprintf(oldest, sizeof oldest,
		 "DELETE FROM record WHERE number IN (SELECT number FROM record ORDER BY number LIMIT %d)",
		 AT_ONCE);
	while (sqlite3_exec(r->db, old, NULL, NULL, NULL) == SQLITE_OK && sqlite3_changes(r->db) > 0)
		;
	while (ask(r->db, used) > r->bytes_max &&
	       sqlite3_exec(r->db, oldest, NULL, NULL, NULL) == SQLITE_OK &&
	       (n = (uint64_t)sqlite3_changes(r->db)) > 0)
		dropped += n;
	if (dropped > 0)
		log_warn("%llu billing records, the oldest, were dropped: records_disk_max is reached",
			 (unsigned long long)dropped);
	snprintf(vacuum, sizeof vacuum, "PRAGMA incremental_vacuum(%d)", PAGES_FREED);
	sqlite3_exec(r->db, vacuum, NULL, NULL, NULL);
}

static void measure(struct records *r)
{
	struct records_usage now = {
		.bytes = ask(r->db, "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size"),
		.oldest_ms = ask(r->db, "SELECT min(stopped_ms) FROM record"),
		.n = ask(r->db, "SELECT count(*) FROM record"),
	};

	pthread_mutex_lock(&r->lock);
	now.failing = r->usage.failing;
	r->usage = now;
	pthread_mutex_unlock(&r->lock);
}

static bool due(struct timespec *look)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	if (now.tv_sec < look->tv_sec && now.tv_sec + LOOK_S >= look->tv_sec)
		return false;
	look->tv_sec = now.tv_sec + LOOK_S;
	return true;
}

/* With the lock held, and given up meanwhile. */
static void write_and_tell(struct records *r)
{
	uint32_t n = r->n;

	/* The loop adds nothing while n > 0, so the batch is ours without the lock. */
	pthread_mutex_unlock(&r->lock);
	int bad = write_batch(r, r->batch, n);

	if (bad == 0)
		atomic_store(&r->kept, r->batch[n - 1]->number);
	pthread_mutex_lock(&r->lock);
	if (bad == 0 && r->usage.failing)
		log_info("billing records are written again");
	r->usage.failing = bad < 0;
	if (bad == 0) {
		arena_done(&r->memory);
		r->n = 0;
	}
}

static void *write_on(void *arg)
{
	struct records *r = arg;
	struct timespec look = {0}, retry;

	pthread_mutex_lock(&r->lock);
	while (!r->ending || r->n > 0) {
		if (due(&look)) {
			pthread_mutex_unlock(&r->lock);
			drop_old(r);
			measure(r);
			pthread_mutex_lock(&r->lock);
		}
		if (r->n > 0)
			write_and_tell(r);
		if (r->n > 0 && r->ending)
			break; /* it is still in the tables */
		if (r->ending)
			continue;
		clock_gettime(CLOCK_REALTIME, &retry);
		retry.tv_sec += RETRY_S;
		pthread_cond_timedwait(&r->wake, &r->lock, r->n > 0 ? &retry : &look);
	}
	arena_done(&r->memory);
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* -- The control loop ------------------------------------------------------------------------------------------- */

int records_open(const struct records_options *options, struct records **ret, struct err *err)
{
	struct records *r = calloc(1, sizeof *r);
	const char *path = options->path;
	char aside[600];
	int bad;

	must(r != NULL);
	r->bytes_max = options->bytes_max;
	r->retention_ms = options->retention_ms;
	snprintf(r->path, sizeof r->path, "%s", path);
	bad = open_file(path, &r->db, err);
	if (bad == -EBADMSG) {
		snprintf(aside, sizeof aside, "%s.damaged", path);
		log_error("%s: not a file of billing records; it is moved to %s and begun anew", path, aside);
		bad = rename(path, aside) < 0 ? -errno : open_file(path, &r->db, err);
	}
	if (bad < 0) {
		free(r);
		return err_wrap(err, "billing records");
	}
	if (ask(r->db, "PRAGMA auto_vacuum") == 0) /* a file from before: once */
		sqlite3_exec(r->db, "PRAGMA auto_vacuum = INCREMENTAL; VACUUM", NULL, NULL, NULL);
	atomic_store(&r->kept, ask(r->db, "SELECT max(number) FROM record"));
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	must(pthread_create(&r->thread, NULL, write_on, r) == 0);
	*ret = r;
	return 0;
}

void records_close(struct records *r)
{
	pthread_mutex_lock(&r->lock);
	r->ending = true;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
	pthread_join(r->thread, NULL);
	sqlite3_close(r->db);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->wake);
	free(r);
}

uint32_t records_keep(struct records *r, const struct record_row *const *rows, uint32_t n)
{
	uint32_t taken = n < RECORDS_BATCH_MAX ? n : RECORDS_BATCH_MAX;

	pthread_mutex_lock(&r->lock);
	if (r->n > 0)
		taken = 0;
	for (uint32_t i = 0; i < taken; i++) {
		r->batch[i] = codec_clone(&r->memory, &record_row_codec, rows[i]);
		must(r->batch[i] != NULL);
	}
	if (taken > 0) {
		r->n = taken;
		pthread_cond_signal(&r->wake);
	}
	pthread_mutex_unlock(&r->lock);
	return taken;
}

uint64_t records_kept(const struct records *r)
{
	return atomic_load(&r->kept);
}

void records_usage(struct records *r, struct records_usage *ret)
{
	pthread_mutex_lock(&r->lock);
	*ret = r->usage;
	pthread_mutex_unlock(&r->lock);
}
