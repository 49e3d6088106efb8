/* kept.h -- inside of the image library: layers as they came, kept so that images with a common base fetch it once.
 *
 * They lie beside each image that has them, one file with a link for each: what no image has any more is gone by itself. Nobody
 * vouches for them but unpack, which compares what comes out of each with its diff_id. */
#ifndef IMAGE_KEPT_H
#define IMAGE_KEPT_H

#include "image/store.h"

/* The digests of all kept layers, for berth-fetch: in the arena. Takes the mutex. */
int kept_list(struct image_store *s, struct arena *arena, struct str **ret, uint32_t *ret_n);
/* For each layer that is said to be cached: a link in `dir`, its bytes behind the others in `blobs`, its offset there.
 * -ESTALE: one is gone meanwhile, or was never here. Takes the mutex. */
int kept_take(struct image_store *s, const char *dir, int blobs, struct image_layer *layers, uint32_t n,
	      struct err *err);
/* Writes the layers that were fetched into `dir`. */
int kept_add(const char *dir, int blobs, const struct image_layer *layers, uint32_t n, struct err *err);

#endif
