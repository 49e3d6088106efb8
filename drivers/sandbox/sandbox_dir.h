/* sandbox_dir.h -- the directory of one sandbox, <parent>/<16 hex digits>, and the small files in it that
 * outlive sandboxd. Any thread; nothing is owned. */
#ifndef SANDBOX_SANDBOX_DIR_H
#define SANDBOX_SANDBOX_DIR_H

#include <stdbool.h>

#include "records.h"

#define SANDBOX_DIR_MAX 400

void sandbox_dir_path(const char *parent, uint64_t sandbox, char ret[SANDBOX_DIR_MAX]);
/* The id that names such a directory, "00000000000000ab". */
bool sandbox_dir_id(const char *name, uint64_t *ret);
/* -EEXIST: there is one already. */
int sandbox_dir_make(const char *dir, const struct sandbox_meta *meta, struct err *err);
/* The shim of a start under way: what a next sandboxd has to see ended before it removes anything. */
int sandbox_dir_write_shim(const char *dir, int64_t pid, uint64_t start, struct err *err);
int sandbox_dir_read_shim(const char *dir, int64_t *ret_pid, uint64_t *ret_start, struct err *err);
int sandbox_dir_write_running(const char *dir, const struct sandbox_running *r, struct err *err);
/* ret->digest is empty; the digest goes to ret_digest, of DIGEST_MAX + 1 bytes. */
int sandbox_dir_read_meta(const char *dir, struct sandbox_meta *ret, char *ret_digest, struct err *err);
/* -ENOENT: it never ran. -ESTALE: it ran before the machine was booted. ret's strings are empty. */
int sandbox_dir_read_running(const char *dir, struct sandbox_running *ret, struct err *err);
/* False while none is written. */
bool sandbox_dir_read_exit(const char *dir, struct sandbox_exit *ret);
/* Whether its egress is on is told by the absence of the file `egress-off`. */
int sandbox_dir_set_egress(const char *dir, bool on, struct err *err);
bool sandbox_dir_egress_on(const char *dir);
/* Does not enter mounts. 0 when nothing is left. */
int sandbox_dir_remove(const char *dir, struct err *err);

#endif
