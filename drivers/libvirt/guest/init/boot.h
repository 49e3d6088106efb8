/* boot.h -- from the initramfs to a machine that only lacks its identity: modules, file systems, the image's root at
 * BOOT_ROOT with what a container's root has mounted in it. */
#ifndef GUEST_INIT_BOOT_H
#define GUEST_INIT_BOOT_H

#include <stdint.h>

#include "core/err.h"

#define BOOT_ROOT  "/r"
#define BOOT_GROUP "/cg/sandbox" /* of the image's processes */

/* Without it nobody can be told. */
int boot_kernel(struct err *err);

/* The image's root, from its disk as soon as that is there. May be called again until it is 0. */
int boot_root(int disk_ms, struct err *err);

/* Of the writable layer. */
int boot_disk_bytes(uint64_t bytes, struct err *err);

/* In the process that becomes the image's: the image's root is its root. */
int boot_enter_root(struct err *err);

int boot_write(const char *path, const char *text);

#endif
