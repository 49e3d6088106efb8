/* attempt.h -- one thing that code in a sandbox may try, and what it has to be answered. The program that tries them all is static
 * and runs in a real sandbox (test_escape.c); `escape-check --list` prints the table that docs/sandbox.md holds. */
#ifndef ESCAPE_ATTEMPT_H
#define ESCAPE_ATTEMPT_H

#define ATTEMPT_NO 255 /* a state that is not as it should be */

struct attempt {
	const char *what;
	/* Runs in a child of its own. 0: it worked; else the error number, negative. */
	int (*go)(const struct attempt *a);
	/* The answers that are right, as words: names of errors, "allowed", "SIGSEGV", or "yes" for a state. */
	const char *expect, *expect_user; /* expect_user: of a plain user; NULL: the same */
	long n[4];                        /* for go */
};

struct group {
	const char *name;
	const struct attempt *attempts;
	unsigned n;
};

/* -errno for what a call returned below 0. */
int outcome(long result);

/* What the test says about the host, or "": BERTH_MARKER, a file there; BERTH_ABSTRACT, a socket; BERTH_PORT on its loopback. */
const char *told(const char *name);

extern const struct group group_calls, group_values, group_kernel, group_devices, group_writes, group_reads,
	group_processes, group_sockets, group_state;

#endif
