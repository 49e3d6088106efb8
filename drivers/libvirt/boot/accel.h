/* accel.h -- what this machine runs guests with, proven by a canary guest that answered.
 *
 * /dev/kvm and libvirt's capabilities are not believed: there are machines whose /dev/kvm takes only guests of its own kind, where
 * domains reach "running" and never boot. KVM counts when the processor says that it has virtualization, and a guest with KVM
 * said hello within 10 seconds. Emulation counts when the configuration allows it, and an emulated guest said hello.
 *
 * Threads: any. Blocks: with KVM at most ACCEL_KVM_MS, then with emulation at most ACCEL_EMULATION_MS. */
#ifndef LIBVIRT_BOOT_ACCEL_H
#define LIBVIRT_BOOT_ACCEL_H

#include <stdint.h>

#include "libvirt_boot/boot_files.h"

#define ACCEL_KVM_MS       10000
#define ACCEL_EMULATION_MS 60000

enum accel_kind { ACCEL_NONE, ACCEL_KVM, ACCEL_EMULATION };

struct accel_options {
	const struct boot_files *files;
	const char *emulator; /* NULL: /usr/bin/qemu-system-x86_64 */
	uint32_t uid;         /* of the canary's QEMU, also its group: one like those of sandboxes, not 0 */
	bool emulation;       /* allowed by the configuration */
	bool any_processor; /* tests: the processor's flags are not asked, so that the canary has to find out */
};

/* What the node tells about itself. */
struct accel {
	enum accel_kind kind;
	char reason
		[ERR_MESSAGE_MAX]; /* one sentence. NONE: why no guest can run here; EMULATION: why not with KVM; KVM: empty */
	uint32_t hello_ms; /* from the start of the canary's QEMU to its hello; 0: none came */
};

void accel_prove(const struct accel_options *o, struct accel *ret);

#endif
