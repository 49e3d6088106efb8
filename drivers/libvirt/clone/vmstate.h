/* vmstate.h -- the state of a machine to and from a descriptor, through libvirt's passthrough to QEMU's monitor.
 *
 * libvirt's own save is of no use here: what it saves can be restored only under the same UUID, as the same domain.
 * VMSTATE_DEVICES leaves out memory that is in a shared file, which a template's is: 64 KB that any number of clones load over
 * private mappings of the file. VMSTATE_ALL is everything, a clone's private pages too, to move one machine or put it on disk;
 * a machine that loads it has fresh memory of its own. Either is loaded as it was saved, by a machine of the same kind, size, devices.
 *
 * A saved machine stays suspended; virDomainResume() makes it go on. Save and load block; a thread of the caller's, and bounded
 * by the timeout as long as libvirtd answers. What QEMU writes passes through a pipe: more than bytes_max ends it with -EFBIG.
 * The descriptor's offset is where writing begins and reading begins; two loads at once need two descriptions (open it anew). */
#ifndef CLONE_VMSTATE_H
#define CLONE_VMSTATE_H

#include <libvirt/libvirt.h>
#include <stdint.h>

#include "core/err.h"

enum vmstate { VMSTATE_DEVICES, VMSTATE_ALL };

/* Of a suspended domain; one that was saved already runs for a moment before. On failure the domain is suspended still, and the file holds part of it. -ETIMEDOUT, -EFBIG, -EIO. */
int vmstate_save(virDomainPtr domain, enum vmstate what, int fd, uint64_t bytes_max, uint64_t timeout_ms,
		 struct err *err);
/* Into a domain that was created paused, with "-incoming defer". It is suspended then. On failure it is good for nothing. */
int vmstate_load(virDomainPtr domain, enum vmstate what, int fd, uint64_t timeout_ms, struct err *err);

#endif
