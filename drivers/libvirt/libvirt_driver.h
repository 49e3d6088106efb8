/* libvirt_driver.h -- sandboxes as virtual machines: the driver contract over libvirt, QEMU and a guest's agent.
 * One for a node. Everything that it makes on the host carries "berth-<hash of cluster and node>" in its name, and it
 * touches nothing else.
 *
 * new() and adopt() go by files alone and wait for nobody; prove() brings libvirtd up, prepares kernel and initrd, and lets a
 * canary answer: only then can it start anything. What runs goes on without libvirtd, and is stopped, frozen, dialled without it. */
#ifndef LIBVIRT_LIBVIRT_DRIVER_H
#define LIBVIRT_LIBVIRT_DRIVER_H

#include "drivers/driver.h"
#include "drivers_net/egress.h"

struct libvirt_driver_options {
	struct str cluster;
	uint64_t node;
	const char *state_dir; /* absolute, exists, 0711; vm/ is made in it */
	const char *bin_dir;   /* of berth-libvirtd, berth-vmshim, berth-guest, berth-qemu */
	struct egress *egress; /* borrowed until close() */
	const char *uri;       /* NULL or empty: a libvirtd of the node's own, below vm/ */
	const char *kernel;    /* NULL or empty: the machine's newest cloud kernel */
	bool emulation;        /* machines may be emulated when KVM is not to be had: slow */
	uint32_t canary_uid;   /* that nothing else runs as */
};

/* Strings are copied. The driver's close() frees it. */
int libvirt_driver_new(const struct libvirt_driver_options *o, struct driver **ret, struct err *err);

#endif
