#include "image_child/talk.h"

#include <errno.h>

#include "core/fd.h"

int talk_request(const struct codec_type *type, struct arena *arena, void *ret, struct err *err)
{
	CLEANUP_BUF struct buf b = BUF_MAX(IMAGE_MESSAGE_MAX);
	int r = fd_read_all(IMAGE_FD_REQUEST, &b);

	if (r < 0)
		return err_system(err, r, "read the request");
	return codec_decode(b.p, b.n, type, arena, ret, err);
}

int talk_result(const struct codec_type *type, const void *result)
{
	CLEANUP_BUF struct buf b = BUF_MAX(IMAGE_MESSAGE_MAX);

	codec_encode(&b, type, result);
	return buf_failed(&b) ? -E2BIG : fd_write_all(IMAGE_FD_RESULT, b.p, b.n);
}
