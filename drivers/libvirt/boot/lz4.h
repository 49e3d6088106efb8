/* lz4.h -- unpacks the "legacy" LZ4 frame, the one that kernels are compressed with. Pure. */
#ifndef LIBVIRT_BOOT_LZ4_H
#define LIBVIRT_BOOT_LZ4_H

#include <stddef.h>
#include <stdint.h>

#include "core/str.h"

/* Fills exactly n bytes. -EBADMSG: not such a frame, or it holds more or less. */
int lz4_unpack(struct str from, uint8_t *to, size_t n);

#endif
