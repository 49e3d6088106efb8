/* manifest.h -- OCI image manifests and indexes, and Docker's schema 2 forms of both (image-spec v1, manifest.md and
 * image-index.md). Pure; strings live in the arena. */
#ifndef IMAGE_FETCH_MANIFEST_H
#define IMAGE_FETCH_MANIFEST_H

#include <stdbool.h>

#include "core/arena.h"
#include "core/err.h"
#include "core/str.h"
#include "image_protocol/protocol.h"

#define MANIFEST_BYTES_MAX (4u << 20)
#define CONFIG_BYTES_MAX   (4u << 20)

/* This machine, in the words of Go. */
#if defined(__x86_64__)
#define MANIFEST_ARCHITECTURE "amd64"
#elif defined(__aarch64__)
#define MANIFEST_ARCHITECTURE "arm64"
#else
#error "this architecture has no name among image platforms yet"
#endif

struct descriptor {
	struct str digest; /* checked to be sha256 */
	uint64_t bytes;
};

struct manifest {
	bool index;
	struct descriptor chosen; /* index: the entry for linux on this architecture */
	struct descriptor config; /* manifest: */
	struct descriptor *layers;
	uint32_t n_layers;
};

/* -EBADMSG names the field; -ENOENT: an index without this platform. */
int manifest_parse(struct str text, struct arena *arena, struct manifest *ret, struct err *err);

#endif
