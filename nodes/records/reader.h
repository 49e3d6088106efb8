/* reader.h -- reads kept records page by page on a thread of its own, so that no export waits on the control loop, nor
 * the loop on an export. Pages of several readers take turns.
 *
 * Failure modes: a page that cannot be read has a code and a message. Threads: any posts; row() and done() run on the
 * reader's. Owns: the thread and its connection; a page is the poster's again when done() runs. */
#ifndef RECORDS_READER_H
#define RECORDS_READER_H

#include "core/err.h"
#include "state/tables.h"

#define READER_ROWS_MAX 512 /* a page */

struct reader;

struct reader_page {
	uint64_t from_ms, to_ms; /* rows that overlap [from, to) */
	uint64_t after, up_to;   /* with numbers above `after`, up to `up_to` */
	void (*row)(struct reader_page *p,
		    const struct record_row *row); /* the row is valid during the call */
	void (*done)(struct reader_page *p);       /* exactly once */
	/* Out: */
	int code;
	struct err err;
	uint64_t last; /* number of the last row */
	uint32_t n;    /* fewer than READER_ROWS_MAX: there are no more */
	struct reader_page *next;
};

int reader_new(const char *path, struct reader **ret, struct err *err);
void reader_post(struct reader *r, struct reader_page *p);
/* Pages that wait are done with -ECANCELED. */
void reader_free(struct reader *r); /* NULL: nothing */

#endif
