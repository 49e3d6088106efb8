/* talk.h -- reading the request and writing the one result of a child. */
#ifndef IMAGE_CHILD_TALK_H
#define IMAGE_CHILD_TALK_H

#include "image_protocol/protocol.h"

int talk_request(const struct codec_type *type, struct arena *arena, void *ret, struct err *err);
/* 0, or -E2BIG when the result is longer than a message may be (nothing is written then). */
int talk_result(const struct codec_type *type, const void *result);

#endif
