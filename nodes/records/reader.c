#include "records/reader.h"

#include <errno.h>
#include <pthread.h>
#include <sqlite3.h>
#include <stdlib.h>

#include "core/arena.h"
#include "core/codec.h"
#include "core/must.h"

struct reader {
	sqlite3 *db;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	/* Under the lock: */
	struct reader_page *first, **last;
	bool ending;
};

static int fail(sqlite3 *db, struct err *err)
{
	return err_set(err, -EIO, "billing records: %s", db == NULL ? "no memory" : sqlite3_errmsg(db));
}

static int read_row(sqlite3_stmt *s, struct reader_page *p)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct record_row row;

	if (codec_decode(sqlite3_column_blob(s, 0), (size_t)sqlite3_column_bytes(s, 0), &record_row_codec,
			 &arena, &row, &p->err) < 0)
		return err_wrap(&p->err, "billing records");
	p->row(p, &row);
	p->last = row.number;
	p->n++;
	return 0;
}

/* A short transaction a page: a long one would keep the writer's log from being emptied. */
static int read_page(struct reader *r, struct reader_page *p)
{
	static const char text[] =
		"SELECT row FROM record WHERE number > ? AND number <= ? AND stopped_ms >= ? AND ready_ms < ?"
		" ORDER BY number LIMIT ?";
	const uint64_t values[] = {p->after, p->up_to, p->from_ms, p->to_ms, READER_ROWS_MAX};
	sqlite3_stmt *s = NULL;
	int bad = sqlite3_prepare_v2(r->db, text, -1, &s, NULL), code = 0;

	for (int i = 0; bad == SQLITE_OK && i < 5; i++)
		bad = sqlite3_bind_int64(s, i + 1,
					 (sqlite3_int64)(values[i] > INT64_MAX ? INT64_MAX : values[i]));
	while (code == 0 && (bad == SQLITE_OK || bad == SQLITE_ROW)) {
		bad = sqlite3_step(s);
		if (bad == SQLITE_ROW)
			code = read_row(s, p);
	}
	if (code == 0 && bad != SQLITE_DONE)
		code = fail(r->db, &p->err);
	sqlite3_finalize(s);
	return code;
}

static void *read_on(void *arg)
{
	struct reader *r = arg;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		while (r->first == NULL && !r->ending)
			pthread_cond_wait(&r->wake, &r->lock);
		struct reader_page *p = r->first;

		if (p == NULL)
			break;
		r->first = p->next;
		if (r->first == NULL)
			r->last = &r->first;
		bool ending = r->ending;

		pthread_mutex_unlock(&r->lock);
		p->code = ending ? err_set(&p->err, -ECANCELED, "this node stops") : read_page(r, p);
		p->done(p);
		pthread_mutex_lock(&r->lock);
	}
	pthread_mutex_unlock(&r->lock);
	return NULL;
}

int reader_new(const char *path, struct reader **ret, struct err *err)
{
	struct reader *r = calloc(1, sizeof *r);

	must(r != NULL);
	r->last = &r->first;
	if (sqlite3_open_v2(path, &r->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
	    sqlite3_exec(r->db, "PRAGMA busy_timeout = 2000; PRAGMA query_only = 1", NULL, NULL, NULL) !=
		    SQLITE_OK) {
		int code = fail(r->db, err);

		sqlite3_close(r->db);
		free(r);
		return code;
	}
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wake, NULL);
	must(pthread_create(&r->thread, NULL, read_on, r) == 0);
	*ret = r;
	return 0;
}

void reader_post(struct reader *r, struct reader_page *p)
{
	p->next = NULL;
	p->code = 0;
	p->n = 0;
	pthread_mutex_lock(&r->lock);
	*r->last = p;
	r->last = &p->next;
	pthread_cond_signal(&r->wake);
	pthread_mutex_unlock(&r->lock);
}

void reader_free(struct reader *r)
{
	if (r == NULL)
		return;
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
