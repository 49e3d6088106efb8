/* base64url.h -- base64url without padding (RFC 7515, 2), strict: no other characters, no stray bits at the end. Pure. */
#ifndef GATEWAY_BASE64URL_H
#define GATEWAY_BASE64URL_H

#include "core/buf.h"
#include "core/str.h"

void base64url_encode(struct buf *to, const void *p, size_t n);
/* Appends the bytes. -EINVAL. */
int base64url_decode(struct str text, struct buf *to);

#endif
