/* world.h -- what the tests of drivers share: a scratch directory with a small real root file system (busybox), a
 * driver on it, and counts of what the host holds, taken before and after. */
#ifndef DRIVERS_WORLD_WORLD_H
#define DRIVERS_WORLD_WORLD_H

#include <sys/types.h>

#include "drivers/driver.h"

#define WORLD_UIDS 200000000u

enum world_kind { WORLD_SCRIPTED, WORLD_LXC, WORLD_LIBVIRT };

/* What of this driver is on the host. */
struct world_counts {
	long mounts, cgroups, processes, files, interfaces;
};

struct world {
	enum world_kind kind;
	char dir[128], root[160];
	char disk[160];        /* the same as an erofs, for machines */
	struct egress *egress; /* of its sandboxes */
	struct driver *driver;
	uint64_t next_id;
	uint64_t node; /* as the driver is told: this process's id */
	int keeper;    /* see keeper.h; -1 with the scripted driver */
	struct world_counts before;
};

/* Why containers or machines cannot be tested here, or NULL. */
const char *world_lacks_lxc(void);
const char *world_lacks_libvirt(void);
/* Machines are emulated where this machine has no KVM; the driver is proven. */
int world_open(struct world *w, enum world_kind kind);
/* Closes the driver, ends what a failed test left running, and removes the directory. -1, and says what, when anything
 * more is on the host than after world_open: a test leaves nothing behind. */
int world_close(struct world *w);
/* The same comparison alone. */
int world_left_behind(const struct world *w);
int world_open_driver(struct world *w, struct err *err);
int world_adopt(struct world *w, driver_found *found, void *arg, struct err *err);
void world_close_driver(struct world *w);
/* libvirtd and its launcher, of machines. */
void world_end_libvirtd(const struct world *w);
pid_t world_libvirtd_pid(const struct world *w, const char *file);

/* A start of this program (terminated by NULL) with a slot of its own and limits of 0.5 CPU and 64 MiB. */
struct world_start {
	struct driver_start how;
	struct str argv[16], env[8];
};
void world_program(struct world *w, struct world_start *s, const char *const *argv);

/* HTTP GET / at the port; the status, or -errno. Tries for up to 10 s while nothing listens. */
int world_get(struct world *w, struct driver_instance *i, uint16_t port);
/* Waits for the end; then the status. False after 20 s. */
bool world_wait(struct world *w, struct driver_instance *i, struct driver_exit *ret);
/* The log, terminated; waits up to 5 s until `text` is in it. False if it never is. */
bool world_log_has(struct world *w, struct driver_instance *i, const char *text, char *ret, size_t size);

#endif
