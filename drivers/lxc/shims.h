/* shims.h -- starts shims. One process has berth-shim loaded and linked, and is forked for each: executing it would cost a
 * tenth of a start, and the shims of a node share what the linker wrote.
 *
 * Owns: that process, which ends with it; its children live on. Any thread. */
#ifndef LXC_SHIMS_H
#define LXC_SHIMS_H

#include <sys/types.h>

#include "core/err.h"

struct shims;

int shims_new(const char *bin_dir, struct shims **ret, struct err *err);
void shims_free(struct shims *s);

/* A new shim with copies of `config` and `control` (shim_config.h). *ret_pidfd is the caller's; the shim is nobody's
 * child that would have to wait for it. */
int shims_start(struct shims *s, const char *name, int config, int control, pid_t *ret_pid, int *ret_pidfd,
		struct err *err);

#endif
