/* layer.h -- one layer's tar, plain or packed, into the tree. Two readers one behind the other: the first unpacks gzip (zlib) or zstd (libarchive), so
 * that the bytes of the tar itself can be counted and hashed; the second reads the tar. */
#ifndef IMAGE_UNPACK_LAYER_H
#define IMAGE_UNPACK_LAYER_H

#include "image_protocol/protocol.h"
#include "image_unpack/tree.h"

struct layer_totals {
	uint64_t bytes_max, entries_max;  /* over all layers */
	uint64_t bytes, entries, skipped; /* bytes: as the files' sizes say, holes counted */
	unsigned depth_max;
};

/* Reads layer->bytes at layer->offset of `blobs`. -EBADMSG: refused entry, not a tar, another diff_id; -E2BIG: above the totals. */
int layer_unpack(int blobs, const struct image_layer *layer, struct tree *tree, struct layer_totals *totals,
		 struct err *err);

#endif
