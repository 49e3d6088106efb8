/* frames.h -- cuts what comes over a control link into frames: a length (4 bytes, big endian, type included), a type, a payload.
 * Nothing is kept but an incomplete frame. Pure. */
#ifndef CONTROL_FRAMES_H
#define CONTROL_FRAMES_H

#include <stdint.h>

#include "core/buf.h"
#include "core/err.h"

#define FRAMES_HEAD_BYTES 5
#define FRAMES_BYTES_MAX  (1u << 20) /* of a frame, behind the length */
#define FRAMES_TAKE_MAX   65536u     /* at once */
#define FRAMES_BUFFER     BUF_MAX(FRAMES_BYTES_MAX + FRAMES_TAKE_MAX + 4)

void frames_head(uint8_t head[FRAMES_HEAD_BYTES], uint8_t type, size_t n);
/* Calls taken() for each frame that is whole, with types below `types`. -EPROTO: no frame of this protocol; -ENOMEM. */
int frames_take(struct buf *in, const char *bytes, size_t n, uint8_t types,
		void (*taken)(void *context, uint8_t type, const uint8_t *p, size_t n), void *context,
		struct err *err);

#endif
