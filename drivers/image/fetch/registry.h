/* registry.h -- one image in one registry: the distribution project's HTTP API, version 2.
 *
 * A GET goes out without credentials; a 401 on it brings a challenge, which is answered once: Basic with the caller's name and
 * password, or Bearer with a token that the named server gave for them. Redirects (blobs in cloud storage) are followed
 * to hosts that the policy allows, without credentials if the host is another. A blob whose transfer breaks off is asked for
 * from there on (Range), while each attempt brings something. */
#ifndef IMAGE_FETCH_REGISTRY_H
#define IMAGE_FETCH_REGISTRY_H

#include "image_fetch/walk.h"

struct registry;

/* Parses the reference and checks the policy. Borrows the request. `mirror` (or NULL) is asked in place of the reference's host,
 * without credentials. */
int registry_open(const struct image_fetch_request *q, const char *mirror, struct registry **ret,
		  struct err *err);
void registry_close(struct registry *r);
struct walk_source registry_source(struct registry *r);
/* The digest that the reference itself pins, or "". */
struct str registry_pinned(const struct registry *r);

#endif
