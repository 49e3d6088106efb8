#include "records/records.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/clock.h"
#include "core/codec.h"
#include "core/log.h"
#include "core/must.h"

static const char schema[] =
	"PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA busy_timeout = 2000;"
	"CREATE TABLE IF NOT EXISTS record (number INTEGER PRIMARY KEY, ready_ms INTEGER NOT NULL,"
	" stopped_ms INTEGER NOT NULL, row BLOB NOT NULL) STRICT;"
	"CREATE INDEX IF NOT EXISTS record_stopped ON record (stopped_ms);";

struct records {
	char path[512];
	uint64_t retention_ms;
	sqlite3 *writing, *reading; /* the thread's, the loop's */
	_Atomic uint64_t kept;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* Under the lock: */
	struct arena memory;
	struct record_row *batch[RECORDS_BATCH_MAX];
	uint32_t n;
	bool ending;
};

static int fail(sqlite3 *db, struct err *err, const char *what)
{
	return err_set(err, -EIO, "%s: %s", what, db == NULL ? "no memory" : sqlite3_errmsg(db));
}

static int open_file(const char *path, sqlite3 **ret, struct err *err)
{
	sqlite3 *db = NULL;
	int r = sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX,
				NULL);

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

static uint64_t highest(sqlite3 *db)
{
	sqlite3_stmt *s = NULL;
	uint64_t number = 0;

	if (sqlite3_prepare_v2(db, "SELECT max(number) FROM record", -1, &s, NULL) == SQLITE_OK &&
	    sqlite3_step(s) == SQLITE_ROW)
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
	char trim[128];
	int bad = sqlite3_exec(r->writing, "BEGIN", NULL, NULL, NULL);

	if (bad == 0)
		bad = sqlite3_prepare_v2(r->writing, "INSERT OR REPLACE INTO record VALUES (?, ?, ?, ?)", -1,
					 &s, NULL);
	for (uint32_t i = 0; bad == 0 && i < n; i++)
		bad = insert(s, rows[i]);
	sqlite3_finalize(s);
	snprintf(trim, sizeof trim, "DELETE FROM record WHERE stopped_ms < %lld",
		 (long long)(clock_wall_ms() - r->retention_ms));
	if (bad == 0)
		bad = sqlite3_exec(r->writing, trim, NULL, NULL, NULL);
	if (bad == 0)
		bad = sqlite3_exec(r->writing, "COMMIT", NULL, NULL, NULL);
	if (bad != 0) {
		log_error("billing records cannot be written to %s: %s", r->path, sqlite3_errmsg(r->writing));
		sqlite3_exec(r->writing, "ROLLBACK", NULL, NULL, NULL);
		return -EIO;
	}
	return 0;
}

static void *write_on(void *arg)
{
	struct records *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		while (r->n == 0 && !r->ending)
			pthread_cond_wait(&r->wake, &r->lock);
		if (r->n == 0)
			break;
		uint32_t n = r->n;

		/* The loop adds nothing while n > 0, so the batch is ours without the lock. */
		pthread_mutex_unlock(&r->lock);
		if (write_batch(r, r->batch, n) == 0)
			atomic_store(&r->kept, r->batch[n - 1]->number);
		pthread_mutex_lock(&r->lock);
		arena_done(&r->memory);
		r->n = 0;
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

/* -- The control loop ------------------------------------------------------------------------------------------- */

int records_open(const char *path, uint64_t retention_ms, struct records **ret, struct err *err)
{
	struct records *r = calloc(1, sizeof *r);
	char aside[600];
	int bad;

	must(r != NULL);
	r->retention_ms = retention_ms;
	snprintf(r->path, sizeof r->path, "%s", path);
	bad = open_file(path, &r->writing, err);
	if (bad == -EBADMSG) {
		snprintf(aside, sizeof aside, "%s.damaged", path);
		log_error("%s: not a file of billing records; it is moved to %s and begun anew", path, aside);
		bad = rename(path, aside) < 0 ? -errno : open_file(path, &r->writing, err);
	}
	if (bad == 0)
		bad = open_file(path, &r->reading, err);
	if (bad < 0) {
		sqlite3_close(r->writing);
		free(r);
		return err_wrap(err, "billing records");
	}
	atomic_store(&r->kept, highest(r->writing));
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
	sqlite3_close(r->reading);
	sqlite3_close(r->writing);
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

int records_each(struct records *r, uint64_t from_ms, uint64_t to_ms,
		 void (*each)(void *to, const struct record_row *row), void *to, struct err *err)
{
	sqlite3_stmt *s = NULL;
	int bad = sqlite3_prepare_v2(
		r->reading, "SELECT row FROM record WHERE stopped_ms >= ? AND ready_ms < ? ORDER BY number",
		-1, &s, NULL);

	sqlite3_bind_int64(s, 1, (sqlite3_int64)from_ms);
	sqlite3_bind_int64(s, 2, (sqlite3_int64)(to_ms > INT64_MAX ? INT64_MAX : to_ms));
	while (bad == SQLITE_OK || bad == SQLITE_ROW) {
		CLEANUP_ARENA struct arena arena = {0};
		struct record_row row;

		bad = sqlite3_step(s);
		if (bad != SQLITE_ROW)
			break;
		if (codec_decode(sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0),
				 &record_row_codec, &arena, &row, err) < 0) {
			sqlite3_finalize(s);
			return err_wrap(err, "billing records");
		}
		each(to, &row);
	}
	sqlite3_finalize(s);
	return bad == SQLITE_DONE ? 0 : fail(r->reading, err, "billing records");
}
