/* pull.h -- inside of the image library: what pulls and imports have in common. */
#ifndef IMAGE_PULL_H
#define IMAGE_PULL_H

#include "image/store.h"

/* -EINVAL: outside of the bounds of requests. */
int pull_check(struct str reference, struct str digest, const struct image_credentials *c, struct err *err);

/* Runs berth-fetch for the request (with `source`, or -1), unpacks, publishes under `name`. No mutex held. */
int pull_make(struct image_store *s, struct image_fetch_request *q, int source, struct str name,
	      image_progress *progress, void *context, char ret_digest[IMAGE_DIGEST_SIZE], struct err *err);

#endif
