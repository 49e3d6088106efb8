/* linear.h -- is there one order of what clients and owners of an identifier saw, in which each of them was right?
 *
 * The object is an identifier of a pool: it has no session, or one, of a generation that never was before. Operations have an
 * interval, and happen at one moment within it (linearizability); identifiers are independent, so each has a history of its own.
 * The search is Wing and Gong's with Lowe's memory of what was tried. Pure. */
#ifndef SIM_JUDGE_LINEAR_H
#define SIM_JUDGE_LINEAR_H

#include <stdbool.h>
#include <stdint.h>

enum linear_kind {
	LINEAR_OPENED, /* an answer: the session is that one; makes it if there is none and it never was */
	LINEAR_SERVED, /* a request was served by it */
	LINEAR_STOPPED, /* a stop that was acknowledged: there is a session, whichever; one that nobody knew is named later */
	LINEAR_NONE,   /* a stop that was told: there is none */
	LINEAR_CLOSED, /* the owner, or the loss of its node, ended it */
	LINEAR_KINDS
};
extern const char *const linear_kind_name[LINEAR_KINDS];

struct linear_op {
	uint64_t begin_ms, end_ms;
	uint64_t generation; /* not of STOPPED and NONE */
	uint8_t kind;
};

#define LINEAR_MAX 4096

/* The operations in any order; sorts them by begin. False: no order is right; *ret_bad is then the operation that the longest
 * right beginning cannot be followed by. */
bool linear_check(struct linear_op *ops, uint32_t n, uint32_t *ret_bad);

#endif
