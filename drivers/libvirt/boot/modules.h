/* modules.h -- which kernel modules a guest loads, in which order. Pure. */
#ifndef LIBVIRT_BOOT_MODULES_H
#define LIBVIRT_BOOT_MODULES_H

#include "core/err.h"
#include "core/str.h"

#define MODULES_MAX 48

struct modules {
	struct str paths
		[MODULES_MAX]; /* in modules.dep, borrowed: "kernel/fs/erofs/erofs.ko", each behind those that it needs */
	size_t n;
};

/* `dep` and `builtin` are the contents of modules.dep and modules.builtin; what is built in needs no loading. `wanted` ends with NULL.
 * -ENOENT: the kernel has no such module. */
int modules_order(struct str dep, struct str builtin, const char *const *wanted, struct modules *ret,
		  struct err *err);
/* "erofs.ko" */
struct str modules_file(struct str path);

#endif
