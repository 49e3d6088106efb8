/* pool_document.h -- from a request's body to what is stored: the pool's document in one canonical shape (that of
 * 2025-02-02-preview, without secrets' values, read-only fields and nulls), its limits and its template. */
#ifndef ARM_POOL_DOCUMENT_H
#define ARM_POOL_DOCUMENT_H

#include "arm/call.h"

/* Validates `body` (changed), merges it into the stored document when `patch`, seals secrets, and makes the message.
 * `stored` NULL: the pool does not exist. -EINVAL after an error reply was made; *ret lives in the arena. */
int pool_document_read(struct call *c, json_t *body, const struct pool_row *stored, bool patch,
		       struct msg_pool_put **ret);

/* RFC 7396: nulls delete, objects merge, all else replaces. */
void pool_document_merge(json_t *into, json_t *patch);

/* The built-in environment's resource id, in the pool's subscription and group. */
struct str pool_document_environment(const struct call *c);

#endif
