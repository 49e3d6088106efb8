#include "control/links/frames.h"

#include <errno.h>

void frames_head(uint8_t head[FRAMES_HEAD_BYTES], uint8_t type, size_t n)
{
	for (unsigned i = 0; i < 4; i++)
		head[i] = (uint8_t)((n + 1) >> (24 - 8 * i));
	head[4] = type;
}

int frames_take(struct buf *in, const char *bytes, size_t more, uint8_t types,
		void (*taken)(void *context, uint8_t type, const uint8_t *p, size_t n), void *context,
		struct err *err)
{
	size_t at = 0;

	buf_add(in, bytes, more);
	if (buf_failed(in))
		return err_set(err, -ENOMEM, "no memory for a frame");
	while (in->n - at >= FRAMES_HEAD_BYTES) {
		const uint8_t *head = (const uint8_t *)in->p + at;
		size_t n = (size_t)head[0] << 24 | (size_t)head[1] << 16 | (size_t)head[2] << 8 | head[3];

		if (n == 0 || n > FRAMES_BYTES_MAX || head[4] >= types)
			return err_set(err, -EPROTO, "a frame of impossible length or type");
		if (in->n - at < 4 + n)
			break;
		taken(context, head[4], head + FRAMES_HEAD_BYTES, n - 1);
		at += 4 + n;
	}
	buf_drop(in, at);
	return 0;
}
