/* machine_boot.h -- a machine from nothing to its guest's hello, whichever way it comes to its memory. Private. */
#ifndef LIBVIRT_MACHINE_BOOT_H
#define LIBVIRT_MACHINE_BOOT_H

#include "libvirt_clone/machine_memory.h"
#include "machine.h"

/* What is the same for a sandbox's machine and for the one that becomes its template. */
struct machine_boot {
	struct libvirt_driver *d;
	const struct driver_start *how;
	char name[MACHINE_NAME_MAX], tap[16];
	char disk[SANDBOX_DIR_MAX + 32], agent[SANDBOX_DIR_MAX + 32];
	bool kvm;
	const char *cpu_model; /* NULL: the host's own */
	uint32_t vcpus;
	uint64_t memory_bytes, host_bytes; /* of the guest; of QEMU in all */
	uint8_t mac[EGRESS_MAC];
};

struct machine_memory_of {
	enum machine_memory kind;
	int handed_over; /* template, clone: the memory; else -1 */
	int load;        /* clone: the template's state; loaded: a saved machine; else -1 */
};

/* Size, processors, name. Disk, agent, tap and MAC are the caller's to set. */
void machine_boot_init(struct machine_boot *b, struct libvirt_driver *d, const struct driver_start *how);

/* The domain runs and its guest has answered; its QEMU and its shim are in `i`, whose directory is there. Takes its turn among
 * boots. One that is loaded stays paused, and is not asked. On failure there may be a domain. */
int machine_boot(const struct machine_boot *b, const struct machine_memory_of *memory,
		 struct driver_instance *i, struct err *err);

/* As machine_boot() with fresh memory, but from a template if there can be one. */
int machine_clone(const struct machine_boot *b, struct driver_instance *i, struct err *err);

#endif
