/* walk.h -- from a reference to a config and layers, whatever they come from: index -> manifest -> config -> layers.
 * Every digest is computed over the raw bytes here; a source is only trusted to deliver some. */
#ifndef IMAGE_FETCH_WALK_H
#define IMAGE_FETCH_WALK_H

#include "core/buf.h"
#include "image_fetch/manifest.h"

typedef int walk_sink(void *context, const void *p, size_t n);

/* A registry, or an OCI layout. */
struct walk_source {
	/* The manifest or index with this digest; with an empty digest the one that is asked for by name. */
	int (*manifest)(void *context, struct str digest, struct buf *ret, struct err *err);
	int (*blob)(void *context, const struct descriptor *blob, walk_sink *sink, void *sink_context,
		    struct err *err);
	void *context;
	/* Another of the same for a thread of its own, and its end; NULL: one thing at a time. */
	int (*fork)(void *context, struct walk_source *ret, struct err *err);
	void (*end)(void *context);
};

/* What an image may have, and what of it is here already. */
struct walk_bounds {
	uint64_t bytes_max, layer_bytes_max;
	uint32_t layers_max, parallel;
	const struct str *cached; /* digests as hex */
	uint32_t n_cached;
};

/* Only the digest of what is named (RESOLVE), or everything, layers written to IMAGE_FD_BLOBS (PULL, IMPORT).
 * `digest`: empty, or what must be taken. Fills the result's fields but code and message, from the arena. */
int walk_resolve(const struct walk_source *source, struct arena *arena, struct image_fetch_result *ret,
		 struct err *err);
int walk_pull(const struct walk_source *source, struct str digest, const struct walk_bounds *bounds,
	      struct arena *arena, struct image_fetch_result *ret, struct err *err);

#endif
