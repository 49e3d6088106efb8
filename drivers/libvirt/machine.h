/* machine.h -- what the files of the libvirt driver share: its own struct and that of one instance. Private.
 *
 *   <state>/vm/boot/               kernel and initrd, see boot/boot_files.h
 *   <state>/vm/libvirtd/           the node's own libvirtd, see launcher/
 *   <state>/vm/handover            the socket that berth-qemu asks, see clone/handover.h
 *   <state>/vm/machines/<id>/      root's, 0711: meta, running, what the shim keeps (shim/guest_shim.h)
 *   <state>/vm/machines/<id>/qemu/ 0710, the group is QEMU's: `disk`, a link to the image's, and `agent`, the channel's socket */
#ifndef LIBVIRT_MACHINE_H
#define LIBVIRT_MACHINE_H

#include <semaphore.h>
#include <stdatomic.h>

#include "core/buf.h"
#include "drivers/driver.h"
#include "drivers_net/egress.h"
#include "instance/instance.h"
#include "libvirt_boot/accel.h"
#include "libvirt_clone/handover.h"
#include "libvirt_clone/templates.h"
#include "libvirt_connection/connection.h"
#include "libvirt_shim/guest_shim.h"
#include "sandbox/process.h"

#define MACHINE_NAME_MAX 40
#define MACHINE_PATH_MAX 320

struct libvirt_driver {
	struct driver base;
	uint32_t hash; /* of cluster and node */
	char vm_dir[MACHINE_PATH_MAX], machines[MACHINE_PATH_MAX], bin_dir[256];
	char pids[MACHINE_PATH_MAX]; /* where libvirt writes <name>.pid */
	char kernel[256];            /* "": the machine's newest */
	struct egress *egress;
	struct connection *connection;
	bool emulation; /* allowed */
	uint32_t canary_uid;
	struct handover *handover;
	struct templates *templates;
	sem_t boots; /* how many machines may boot at once */
	/* Set by prove(), which comes before any start(). */
	struct boot_files files;
	struct accel accel;
	char command_line[BOOT_COMMAND_LINE_SIZE];
};

struct driver_instance {
	struct instance base;    /* running.pid: QEMU's */
	int pidfd;               /* QEMU's; -1: over */
	struct guest_shim *shim; /* NULL: it never had one */
	atomic_bool killed;      /* by us */
	bool exited;
	struct driver_exit exit;
};

void machine_name(const struct libvirt_driver *d, uint64_t sandbox, char ret[MACHINE_NAME_MAX]);
/* Where berth-qemu asks for descriptors. */
void machine_handover_path(const struct libvirt_driver *d, char ret[MACHINE_PATH_MAX]);
/* The QEMU of a domain, from libvirt's file, if it is one and runs as `uid`. -ESRCH: there is none. */
int machine_qemu(const struct libvirt_driver *d, const char *name, uint32_t uid, pid_t *ret_pid,
		 uint64_t *ret_start, int *ret_pidfd, struct err *err);

/* -- Beginning -- */
int machine_start(struct driver *d, const struct driver_start *how, struct driver_instance **ret,
		  struct err *err);
/* Bounds QEMU's memory, its reads from the disk and its processor time. -ERANGE: one of them is not in force. */
int machine_bound(pid_t pid, const char *disk, const struct driver_limits *limits, uint64_t host_bytes,
		  struct err *err);

/* -- On and off a file -- */
int machine_save(struct driver *d, struct driver_instance *i, int fd, struct err *err);
int machine_go_on(struct driver *d, struct driver_instance *i, struct err *err);

/* -- End -- */
void machine_kill(struct driver_instance *i);
void machine_exit_status(struct driver_instance *i, struct driver_exit *ret);
/* libvirt knows it no more: 0 also when it never did. */
int machine_destroy(struct libvirt_driver *d, const char *name, struct err *err);
/* Its QEMU, its shim and its domain are gone. */
int machine_end_processes(struct libvirt_driver *d, struct driver_instance *i, struct err *err);
/* Kills it and removes domain, tap and directory; its log is kept first. */
int machine_end(struct libvirt_driver *d, struct driver_instance *i, struct err *err);
int machine_stop(struct driver *d, struct driver_instance *i, uint32_t grace_ms, struct err *err);

/* -- After a restart -- */
int machine_adopt(struct driver *d, driver_found *found, void *arg, struct err *err);
int machine_prove(struct driver *d, struct err *err);

#endif
