/* domain_xml.h -- the description of one machine for libvirt, as text from numbers. Pure.
 *
 * A microvm: no PCI, no firmware, no USB, no graphics, no serial line; one read-only disk, one tap, one channel for the agent. QEMU
 * runs as the sandbox's user, and whatever the guest does to power, crash or reset it ends QEMU. Its bounds on
 * the host are not here: see machine_limits.c. */
#ifndef LIBVIRT_DOMAIN_XML_H
#define LIBVIRT_DOMAIN_XML_H

#include <stdbool.h>
#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

struct domain {
	const char *name;
	bool kvm;
	const char *cpu_model; /* NULL: as the host's */
	uint32_t uid;          /* of QEMU, user and group */
	uint64_t memory_bytes; /* of the guest, whole MiB */
	uint32_t vcpus;
	const char *emulator, *kernel, *initrd, *command_line;
	const char *disk;     /* erofs */
	const char *agent;    /* path of the channel's socket, which libvirt makes */
	const char *tap;      /* a ready-made interface; NULL: no network */
	const uint8_t *mac;   /* 6 bytes */
	struct str arguments; /* inside of <qemu:commandline>, as machine_memory_xml() writes it */
};

/* -EINVAL: a string holds what XML cannot. */
int domain_xml(const struct domain *d, struct buf *b, struct err *err);

#endif
