/* kept_logs.h -- console logs of ended sandboxes, below <state>/logs, until they are too old or too many.
 *
 * Happy path: the driver moves a log to kept_logs_path() when it ends a sandbox; kept_logs_add() names it by when, which sandbox,
 * pool and session (a keyed hash of the identifier, which berthd made); kept_logs_find() opens the newest that fits. The names
 * are the whole index, so that a restart finds all again. A log is one or two files: what was written last, and what
 * was rotated before.
 * Bounds: bytes on disk, age, KEPT_LOGS_MAX logs, and a nearly full disk: the oldest go. An empty log is not kept.
 * Trust: the directory is root's alone; what is not a plain file is removed; nothing reads what a sandbox wrote.
 * Threads: any. Owns: the directory. */
#ifndef SANDBOXD_KEPT_LOGS_H
#define SANDBOXD_KEPT_LOGS_H

#include <stdbool.h>
#include <stdint.h>

#include "core/err.h"

#define KEPT_LOGS_MAX      65536
#define KEPT_LOGS_PATH_MAX 400
#define KEPT_LOGS_TAG_MIN  8
#define KEPT_LOGS_TAG      32 /* lower-case hex digits of a session's tag, at most */

struct kept_logs;

struct kept_logs_query {
	uint64_t sandbox; /* 0: any */
	uint64_t pool;    /* 0: any */
	const char *tag;  /* "": any */
	bool older;       /* the part that was rotated before */
};

struct kept_logs_usage {
	uint64_t bytes, oldest_ms, n;
};

int kept_logs_open(const char *dir, uint64_t bytes_max, uint64_t age_ms_max, struct kept_logs **ret,
		   struct err *err);
void kept_logs_close(struct kept_logs *k); /* NULL: nothing */
/* Where a driver moves the two files to: this with ".log" and ".old". */
void kept_logs_path(const struct kept_logs *k, uint64_t sandbox, uint64_t pool, char ret[KEPT_LOGS_PATH_MAX]);
/* What lies there is kept from now on. `tag`: one that kept_logs_good_tag() takes. */
void kept_logs_add(struct kept_logs *k, uint64_t sandbox, uint64_t pool, const char *tag, uint64_t wall_ms);
/* Empty, or hex digits within the bounds above. */
bool kept_logs_good_tag(const char *tag);
/* For reading, the caller's. -ENOENT: there is none such. */
int kept_logs_find(struct kept_logs *k, const struct kept_logs_query *q, uint64_t *ret_sandbox,
		   uint64_t *ret_wall_ms, int *ret_fd);
/* True once when a nearly full disk costs logs before their time. */
bool kept_logs_trim(struct kept_logs *k, uint64_t wall_ms);
void kept_logs_usage(struct kept_logs *k, struct kept_logs_usage *ret);

#endif
