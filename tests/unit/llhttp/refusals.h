/* refusals.h -- why the gateway refuses what llhttp takes, and takes what llhttp refuses: two tables, and which row a case is.
 * docs/http.md holds them as refusals_print and refusals_print_taken write them. */
#ifndef LLHTTP_REFUSALS_H
#define LLHTTP_REFUSALS_H

#include "core/buf.h"
#include "reading.h"

struct refusal {
	const char *what; /* is refused */
	const char *answer;
	const char *why; /* with the RFC's section */
};

extern const struct refusal refusals[];
extern const unsigned n_refusals;

/* The row of a refused reading; < 0: none, as for what the library refuses too; -1: nothing says why. */
int refusals_row(enum reading_kind kind, struct str bytes, const struct reading *ours);
void refusals_print(struct buf *to);

struct taken {
	const char *what; /* is taken */
	const char *why;
};

enum { TAKEN_METHOD, TAKEN_TABS, TAKEN_EXTENSION, TAKEN_TRAILER, TAKEN_ROWS };
extern const struct taken taken[TAKEN_ROWS];

/* The row of what the library refused, or framed otherwise; -1: none. Never TAKEN_METHOD: these it is not shown. */
int refusals_taken(struct str bytes, const struct reading *ours, const struct reading *theirs);
void refusals_print_taken(struct buf *to);

#endif
