/* boot_files.h -- what every guest of a node boots: a kernel and an initrd, made once from the machine's own packages.
 *
 *   <dir>/<version>/vmlinux     Debian's cloud kernel, unpacked, so that QEMU can enter it directly (it has a PVH note)
 *   <dir>/<version>/initrd      a cpio: /init (berth-guest), /m/<module>.ko, and /m/list: the modules' file names, one a line,
 *                               each behind those that it needs
 *   <dir>/<version>/            published by rename after a sync; directories 0711, files 0444: QEMU's users read them by path
 *
 * QEMU reads both only while it starts. The version also names the emulator, so it is the same exactly when a state that was saved
 * of one guest can be loaded into another: part of a template's key.
 * Threads: any, one at a time for one directory. Blocks, less than a second.
 * Codes: -ENOENT: the kernel, its modules or a program are not installed; the message names the package. */
#ifndef LIBVIRT_BOOT_BOOT_FILES_H
#define LIBVIRT_BOOT_BOOT_FILES_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>

#include "core/err.h"

#define BOOT_VERSION_SIZE      65
#define BOOT_COMMAND_LINE_SIZE 1024

struct boot_options {
	const char *
		dir; /* <state>/vm/boot; made if missing; its parent must exist and be passable for QEMU's users */
	const char *guest;    /* path of berth-guest */
	const char *emulator; /* NULL: /usr/bin/qemu-system-x86_64 */
	const char *kernel;   /* NULL: the newest /boot/vmlinuz-*-cloud-amd64 */
	const char *modules;  /* the directory of modules.dep; NULL: /lib/modules/<the kernel's release> */
};

struct boot_files {
	char vmlinux[PATH_MAX], initrd[PATH_MAX];
	char version[BOOT_VERSION_SIZE]; /* hexadecimal */
};

int boot_files_prepare(const struct boot_options *o, struct boot_files *ret, struct err *err);

/* Removes other versions than these, and what is left of broken attempts: after adoption, when it is known which ones saved guests
 * still need. */
int boot_files_sweep(const char *dir, const char *const *versions, size_t n, struct err *err);

/* What the kernel is told. Emulated guests are spared what only real processors need, and the measurements that emulation
 * falsifies: they get this machine's. */
void boot_command_line(bool emulated, char ret[BOOT_COMMAND_LINE_SIZE]);

#endif
