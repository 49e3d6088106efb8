/* lxc_instance.h -- what the files of the lxc driver share: its own struct and that of one instance. Private. */
#ifndef LXC_LXC_INSTANCE_H
#define LXC_LXC_INSTANCE_H

#include <semaphore.h>

#include "sandbox/cgroup.h"
#include "core/buf.h"
#include "drivers/driver.h"
#include "drivers_net/egress.h"
#include "instance/instance.h"
#include "shims.h"
#include "lxc_shim/shim/seccomp_filter.h"
#include "sandbox/process.h"

#define CONTAINER_NAME_MAX 40

struct lxc_driver {
	struct driver base;
	uint32_t hash; /* of cluster and node */
	char sandboxes[256], lxc_path[256], bin_dir[256];
	struct cgroup_layout layout;
	struct buf filter;     /* seccomp */
	struct egress *egress; /* borrowed */
	struct shims *shims;
	sem_t ends; /* how many sandboxes may be killed and removed at once */
	int own_netns;
};

struct driver_instance {
	struct instance base;
	char freezer[CGROUP_PATH_MAX + 32]; /* "": not running when adopted */
	int pidfd, shim_pidfd, netns;       /* -1: over */
	bool exited;
	struct driver_exit exit;
};

void lxc_container_name(const struct lxc_driver *d, uint64_t sandbox, char ret[CONTAINER_NAME_MAX]);
/* cgroups, interface, files; its processes are gone. */
int lxc_remove_host_objects(struct lxc_driver *d, const char *dir, uint64_t sandbox, uint32_t slot,
			    struct err *err);
/* Opens pidfds and namespace of what `running` names. -ESRCH: over. */
int lxc_hold(struct lxc_driver *d, struct driver_instance *i, struct err *err);

int lxc_start(struct driver *d, const struct driver_start *how, struct driver_instance **ret,
	      struct err *err);
int lxc_adopt(struct driver *d, driver_found *found, void *arg, struct err *err);

#endif
