/* layers.h -- brings the layers of one manifest into the blobs file, several at once, each on a thread with a source of its
 * own. Sizes and digests are checked here; the first failure ends all. A layer that the manifest names twice is brought once. */
#ifndef IMAGE_FETCH_LAYERS_H
#define IMAGE_FETCH_LAYERS_H

#include "image_fetch/config.h"
#include "image_fetch/walk.h"

/* Fills ret->layers. -E2BIG: above a bound, before anything is asked for. */
int layers_get(const struct walk_source *source, const struct manifest *m, const struct config_diffs *diffs,
	       const struct walk_bounds *bounds, struct arena *arena, struct image_fetch_result *ret,
	       struct err *err);

/* A place in the blobs file where one layer is being written, hashed on the way. */
struct layer_sink {
	uint64_t offset, bytes, bytes_max;
	struct sha256 *hash;
	const bool *stop; /* or NULL; atomic */
};
int layers_write(void *sink, const void *p, size_t n); /* a walk_sink */

#endif
