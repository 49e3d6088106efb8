/* rootfs.h -- the root file system of one container, put together in a private mount namespace, so that nothing is
 * left when the last process of it is gone.
 *
 * DIR/lower: the image's tree, ids shifted into the sandbox's range by an idmapped mount. DIR/upper: a tmpfs of bounded
 * size, charged to whoever writes. DIR/root: the overlay of both. Single-threaded callers only. */
#ifndef LXC_ROOTFS_H
#define LXC_ROOTFS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/err.h"

#define SANDBOX_IDS 65536u

/* DIR/lower, DIR/upper and DIR/root are there. Leaves the caller in a mount namespace of its own, so all sandboxes of a node
 * share them: a start makes no folder on disk for them. The writable layer holds disk_bytes, and an inode for each page of them. */
int rootfs_mount(const char *image, const char *dir, uint32_t uid_base, uint64_t disk_bytes, struct err *err);

/* /dev/shm: a quarter of the memory, 64 MiB at most; as a line for liblxc, and read back from the running container. */
void rootfs_shm_entry(uint64_t memory_bytes, char *ret, size_t size);
int rootfs_check_shm(pid_t pid, uint64_t memory_bytes, struct err *err);

#endif
