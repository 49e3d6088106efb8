/* templates.h -- machines that were booted until their guests idle, then saved: what clones start from.
 *
 * Happy path: templates_get() finds none for the key and has the caller make one: boot over a memfd (shared), suspend, save the
 * devices, end QEMU. Then the memfd is sealed: from now on nobody can write it, with whatever descriptor. Whoever asks for
 * the same key meanwhile waits. Each clone maps templates_memory() privately and loads templates_state(); then templates_put().
 * Failures: the making failed: that caller and those who wait are told why, and start their sandboxes without it; so does
 * whoever asks before the back-off (10 s, doubled up to 10 minutes) is over. A clone that did not come up spoils its template.
 * templates_tend() drops what was not used for some minutes; get, what another version of kernel or QEMU made. Clones that run
 * keep their pages. Templates live in this process's memory alone: nothing to clean on disk, nothing stale.
 * Owns: memfds. Threads: any; get blocks while it or another thread makes one. */
#ifndef CLONE_TEMPLATES_H
#define CLONE_TEMPLATES_H

#include <stdint.h>

#include "core/err.h"

#define TEMPLATES_MAX         32
#define TEMPLATES_UNUSED_MS   (10 * 60 * 1000)
#define TEMPLATES_STATE_BYTES (8 << 20) /* of devices, for vmstate_save(); 64 KB is usual */

struct templates;
struct templates_entry;

/* Machines with the same key differ in nothing until their START. Borrowed. */
struct templates_key {
	uint64_t pool_uid;
	const char *digest;    /* of the image, which is the disk */
	const char *version;   /* of kernel, initrd and QEMU: boot_files.version */
	const char *cpu_model; /* with the accelerator, say "tcg qemu64" */
	uint64_t memory_bytes;
	uint32_t vcpus;
};

/* Boots a machine over `memory` (MACHINE_MEMORY_TEMPLATE), suspends it once its guest answered and idles, and saves its devices to
 * `state`. When it returns QEMU is gone, and with it all else that was made. In the thread of templates_get(), without locks. */
typedef int templates_make(void *arg, int memory, int state, struct err *err);

int templates_new(struct templates **ret, struct err *err);
void templates_free(struct templates *t); /* all were put */

/* One to clone from, held until templates_put(). -EAGAIN: its build failed a while ago, or there are too many; else why it
 * failed now. The caller boots cold then. */
int templates_get(struct templates *t, const struct templates_key *key, templates_make *make, void *arg,
		  struct templates_entry **ret, struct err *err);
void templates_put(struct templates *t, struct templates_entry *held);
/* Instead of put: a clone of it did not come up. It is dropped, and built again after the back-off. */
void templates_spoil(struct templates *t, struct templates_entry *held, const struct err *why);

int templates_memory(const struct templates_entry *held); /* borrowed, sealed */
/* An open file of its own, for one vmstate_load(); the caller's. */
int templates_state(const struct templates_entry *held, int *ret_fd, struct err *err);

/* Now and then, on any thread. 0, or -EIO with why the latest build failed, once for each failure. */
int templates_tend(struct templates *t, struct err *err);

#endif
