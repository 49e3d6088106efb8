/* canary.h -- boots one guest without a disk, a network or libvirt, and waits until its first program says hello.
 *
 * QEMU runs as the given user, in its own seccomp filter, and never longer than the time given; nothing of it is left. The guest is our
 * own and no image has run in it; what it answers is bounded and decoded all the same.
 * Blocks; any thread. */
#ifndef LIBVIRT_BOOT_CANARY_H
#define LIBVIRT_BOOT_CANARY_H

#include <stdbool.h>
#include <stdint.h>

#include "libvirt_boot/boot_files.h"

struct canary {
	const struct boot_files *files;
	const char *emulator; /* path */
	uint32_t uid;         /* and group; not 0 */
	bool kvm;
	uint32_t timeout_ms;
};

/* -ETIMEDOUT; -EIO: QEMU ended before, the message has its reason; -EBADMSG: the answer is none. */
int canary_run(const struct canary *c, uint32_t *ret_hello_ms, struct err *err);

#endif
