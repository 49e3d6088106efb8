/* records.h -- closed billing records on this voter's disk, for as long as the retention: the tables keep only the newest.
 *
 * Happy path: records_keep() hands rows over; a thread of its own writes them to SQLite in one transaction a batch; the
 * number of the last one on disk is told by records_kept(). Rows are told apart by number: writing one again changes nothing.
 * Failure modes: a file that cannot be opened is an error of records_open; one that cannot be written later is a log line
 * and an unmoved records_kept(): the leader trims only what is kept. A damaged file is moved aside and begun anew.
 * Threads: the control loop calls; the writer thread writes. Owns: the file and the thread. */
#ifndef RECORDS_RECORDS_H
#define RECORDS_RECORDS_H

#include "core/err.h"
#include "state/tables.h"

#define RECORDS_BATCH_MAX 512

struct records;

/* `retention_ms`: rows that closed longer ago go. */
int records_open(const char *path, uint64_t retention_ms, struct records **ret, struct err *err);
/* Writes what was handed over, then closes. */
void records_close(struct records *r);
/* Copies at most RECORDS_BATCH_MAX rows, which must have rising numbers; how many were taken (0: the last batch is not
 * written yet, come again). */
uint32_t records_keep(struct records *r, const struct record_row *const *rows, uint32_t n);
/* The highest number that is on disk; 0: none. */
uint64_t records_kept(const struct records *r);
/* Rows that overlap [from, to), by number. The row is valid during the call. */
int records_each(struct records *r, uint64_t from_ms, uint64_t to_ms,
		 void (*each)(void *to, const struct record_row *row), void *to, struct err *err);

#endif
