/* instance.h -- what a driver keeps of each sandbox, whatever runs it, and what is done with that alone. Embedded first in a driver's
 * own struct driver_instance. Owns nothing. Threads and errors: as driver.h says of the operations by these names. */
#ifndef INSTANCE_INSTANCE_H
#define INSTANCE_INSTANCE_H

#include "drivers/driver.h"
#include "drivers_net/egress.h"
#include "sandbox/sandbox_dir.h"

struct instance {
	struct sandbox_meta meta;
	struct sandbox_running running;
	char digest[DIGEST_MAX + 1];
	char dir[SANDBOX_DIR_MAX];
	char keep[SANDBOX_DIR_MAX]; /* where its log goes; "": it ends with the sandbox */
};

/* Of a start; its directory will be below `parent`. */
void instance_init(struct instance *i, const char *parent, const struct driver_start *how);
/* Of a former sandboxd's, from the directory. On failure (see sandbox_dir.h) what could be read is there, and no process. */
int instance_read(struct instance *i, const char *parent, uint64_t sandbox);

void instance_info(const struct instance *i, struct driver_info *ret);
int instance_log(const struct instance *i, int *ret_fd, struct err *err);
void instance_keep_log(struct instance *i, const char *path);
/* To where instance_keep_log() said. */
void instance_move_log(const struct instance *i);
int instance_egress(const struct instance *i, struct egress *e, bool on, struct err *err);

#endif
