/* initrd.h -- writes a guest's initrd: a cpio archive of the "newc" kind, the same bytes for the same contents. */
#ifndef LIBVIRT_BOOT_INITRD_H
#define LIBVIRT_BOOT_INITRD_H

#include <stdint.h>

#include "core/buf.h"

void initrd_directory(struct buf *b, const char *path, uint32_t mode);
void initrd_file(struct buf *b, const char *path, uint32_t mode, struct str contents);
void initrd_device(struct buf *b, const char *path, uint32_t mode, unsigned major, unsigned minor);
void initrd_end(struct buf *b);

#endif
