/* container.h -- one container through liblxc. container_run() blocks in the calling process, which becomes liblxc's
 * monitor and must have a single thread; descriptors 0, 1 and 2 become the container's, and all others
 * have to be close-on-exec. liblxc must see no cgroups: it would make some of its own. */
#ifndef LXC_CONTAINER_H
#define LXC_CONTAINER_H

#include "core/err.h"
#include "lxc_shim/shim_config.h"

/* *ret_error_num as struct init_result says. Fails when liblxc refused the configuration; a start that failed later
 * is told by DIR/lxc.log. */
int container_run(const struct shim_config *c, int *ret_error_num, struct err *err);

/* The last error line in DIR/lxc.log, or "". */
void container_last_error(const char *dir, char *ret, size_t size);

#endif
