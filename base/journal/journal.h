/* journal.h -- a file of lines that grows for months within a bound of bytes and of age.
 *
 * Happy path: lines go to PATH. At an eighth of the bytes or of the age it becomes PATH.1, the former PATH.1 becomes
 * PATH.2, and so on; what is over either bound goes, the oldest first. A line is JSON with a member "wall_ms".
 * Failure modes: on a full disk the oldest files go, and the line is tried once more; one that cannot be written is lost and
 * counted. Nobody waits for more than the one write. Threads: any. Owns: the files. */
#ifndef JOURNAL_JOURNAL_H
#define JOURNAL_JOURNAL_H

#include <stddef.h>
#include <stdint.h>

#include "core/err.h"

#define JOURNAL_FILES 8 /* PATH, PATH.1 ... PATH.7 */

struct journal;

struct journal_usage {
	uint64_t bytes, oldest_ms; /* wall clock of the first line; 0: there is none */
	uint64_t lost;             /* lines, since the start */
};

int journal_open(const char *path, uint64_t bytes_max, uint64_t age_ms_max, struct journal **ret,
		 struct err *err);
void journal_close(struct journal *j); /* NULL: nothing */
/* The line has its line feed. 0; 1: the disk turned out to be full, and the oldest lines went; -errno: it is lost. */
int journal_write(struct journal *j, const char *line, size_t n, uint64_t wall_ms);
/* Files whose last line is older than the age go; for quiet times, when nothing is written. */
void journal_trim(struct journal *j, uint64_t wall_ms);
void journal_usage(struct journal *j, struct journal_usage *ret);

#endif
