/* records.h -- closed billing records on this voter's disk, for as long as the retention: the tables keep only the newest.
 *
 * Happy path: records_keep() hands rows over; a thread of its own writes them to SQLite in one transaction a batch; the
 * number of the last one on disk is told by records_kept(). Rows are told apart by number: writing one again changes nothing.
 * Once a minute what is over the age or the bytes goes, the oldest first, and the file shrinks with it.
 * Failure modes: a file that cannot be opened is an error of records_open; a batch that cannot be written (a full disk) is a
 * log line, an unmoved records_kept() and is tried again each second: the leader trims only what is kept, and the tables have a
 * bound of their own. A damaged file is moved aside and begun anew.
 * Threads: the control loop calls; the writer thread writes; reader.h reads. Owns: the file and the thread. */
#ifndef RECORDS_RECORDS_H
#define RECORDS_RECORDS_H

#include "core/err.h"
#include "state/tables.h"

#define RECORDS_BATCH_MAX 512

struct records;

struct records_options {
	const char *path;
	uint64_t bytes_max;    /* of the file; older rows go */
	uint64_t retention_ms; /* rows that closed longer ago go */
};

struct records_usage {
	uint64_t bytes, oldest_ms, n; /* oldest_ms: when the oldest one closed; 0: none is kept */
	bool failing;                 /* the last batch could not be written */
};

int records_open(const struct records_options *options, struct records **ret, struct err *err);
/* Writes what was handed over, then closes. */
void records_close(struct records *r);
/* Copies at most RECORDS_BATCH_MAX rows, which must have rising numbers; how many were taken (0: the last batch is not
 * written yet, come again). */
uint32_t records_keep(struct records *r, const struct record_row *const *rows, uint32_t n);
/* The highest number that is on disk; 0: none. */
uint64_t records_kept(const struct records *r);
/* As of the last batch, or the last minute. */
void records_usage(struct records *r, struct records_usage *ret);

#endif
