/* templates.h -- machines that were booted until their guests idle, then saved: what clones start from.
 *
 * Happy path: templates_get() finds none for the key, boots one through the caller over a memfd (shared), suspends and saves it, has
 * its QEMU ended, and seals the memfd: from then on nobody can write it, with whatever descriptor. Whoever asks for the same
 * key meanwhile waits. Each clone maps templates_memory() privately and loads templates_state(). templates_put() when it has.
 * Failures: the build failed: that caller and those who wait are told why, and start their sandboxes without it; so does whoever
 * asks before the back-off (10 s, doubled up to 10 minutes) is over. A clone that did not come up spoils its template.
 * templates_tend() drops what was not used for some minutes, and what another version of kernel or QEMU made; clones that run keep
 * their pages. Templates live in this process's memory alone: nothing to clean on disk, nothing stale.
 * Owns: memfds. Threads: any; get blocks while it or another thread builds. */
#ifndef CLONE_TEMPLATES_H
#define CLONE_TEMPLATES_H

#include <libvirt/libvirt.h>
#include <stdint.h>

#include "core/err.h"

#define TEMPLATES_MAX         32
#define TEMPLATES_UNUSED_MS   (10 * 60 * 1000)
#define TEMPLATES_STATE_BYTES (8 << 20) /* of devices; 64 KB is usual */

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

/* How the caller boots one. Both are called in the thread of templates_get(), without locks. */
struct templates_boot {
	/* A domain over this memory (MACHINE_MEMORY_TEMPLATE) runs, and its guest answered and idles. On failure nothing is left. */
	int (*boot)(void *arg, int memory, virDomainPtr *ret, struct err *err);
	/* What boot made is gone, its QEMU too; the reference is the callee's. */
	int (*end)(void *arg, virDomainPtr domain, struct err *err);
	void *arg;
};

int templates_new(struct templates **ret, struct err *err);
void templates_free(struct templates *t); /* all were put */

/* One to clone from, held until templates_put(). -EAGAIN: its build failed a while ago, or there are too many; else why it
 * failed now. The caller boots cold then. */
int templates_get(struct templates *t, const struct templates_key *key, const struct templates_boot *boot,
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
