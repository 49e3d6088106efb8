/* machine.h -- real guests for tests: QEMU without libvirt, emulated, with the image of a busybox. One at a time. */
#ifndef GUEST_MACHINE_H
#define GUEST_MACHINE_H

#include <sys/types.h>

#include "libvirt_shim/guest_shim.h"

struct machine {
	pid_t qemu; /* 0: it is over */
	struct guest_shim *shim;
	char dir[96]; /* the shim's */
	int port;     /* of 127.0.0.1, leads to the guest's 8080 */
	bool slow;
	int monitor; /* QEMU's, once it was asked something; -1 */
	char *log;   /* after machine_wait */
	struct driver_exit exit;
};

/* NULL, or what this computer lacks. */
const char *machine_lacks(void);
/* Kernel, initrd, image. */
int machine_files_make(void **state);
int machine_files_remove(void **state);

/* Until its agent answered. */
void machine_boot(struct machine *m);
/* One whose clock is 20 times slower, with a processor that gives random numbers: its kernel's generator is ready at once, and has for
 * a second of its own, which is long, no cause to renew itself. */
void machine_boot_slow(struct machine *m);
/* `argv` ends with NULL. 0, or as guest_shim_start says. */
int machine_start(struct machine *m, const char *const *argv, const char *user, struct err *err);
/* As root, a shell's script that begins. */
void machine_run(struct machine *m, const char *script);
/* Until the shim ended; its log and exit are there. */
void machine_wait(struct machine *m);
/* Its memory and devices go to a file, and it and its shim end. */
void machine_save(struct machine *m);
/* It goes on, with a shim that never met it. */
void machine_restore(struct machine *m);
/* So far. */
bool machine_logged(struct machine *m, const char *text);
/* Whatever still runs of it does not. */
void machine_done(struct machine *m);

#endif
