/* lxc_driver.h -- sandboxes as LXC containers: the driver contract over berth-shim.
 * One for a node. Everything that it makes on the host carries "berth-<hash of cluster and node>" in its name, and it
 * touches nothing else. */
#ifndef LXC_LXC_DRIVER_H
#define LXC_LXC_DRIVER_H

#include "drivers/driver.h"

struct egress;

struct lxc_driver_options {
	struct str cluster;
	uint64_t node;
	const char *state_dir; /* absolute; sandboxes/ is made in it */
	const char *bin_dir;   /* of berth-shim and berth-init */
	struct egress *egress; /* borrowed for life; whoever made it settles and tends it */
};

/* Strings are copied. The driver's close() frees it. */
int lxc_driver_new(const struct lxc_driver_options *o, struct driver **ret, struct err *err);

#endif
