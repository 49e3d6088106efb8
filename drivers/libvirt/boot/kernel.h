/* kernel.h -- Debian's kernel file: finding it, and the ELF program in it. */
#ifndef LIBVIRT_BOOT_KERNEL_H
#define LIBVIRT_BOOT_KERNEL_H

#include <limits.h>

#include "core/buf.h"
#include "core/err.h"

#define KERNEL_FILE_MAX     (64u << 20)
#define KERNEL_RELEASE_SIZE 128

/* The newest <dir>/vmlinuz-*-cloud-amd64. -ENOENT. */
int kernel_find(const char *dir, char ret_path[PATH_MAX], struct err *err);
/* "6.1.0-56-cloud-amd64". The file's bytes are those of a bzImage; -EBADMSG. */
int kernel_release(struct str file, char ret[KERNEL_RELEASE_SIZE], struct err *err);
/* The vmlinux, which has a note that says where QEMU enters it. -EBADMSG. */
int kernel_unpack(struct str file, struct buf *ret, struct err *err);

#endif
