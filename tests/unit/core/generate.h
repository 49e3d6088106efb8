/* generate.h -- values for any codec type, drawn from a seed: what the field tables allow, and their edges.
 * Reached as "generate/generate.h" by tests that link test_generate. */
#ifndef GENERATE_GENERATE_H
#define GENERATE_GENERATE_H

#include "core/codec.h"

struct generate {
	uint64_t seed;       /* the state: the same seed gives the same values */
	uint32_t length_max; /* of strings and lists, whatever their fields allow */
	struct arena *arena; /* where strings and lists go */
};

uint64_t generate_u64(struct generate *g);
/* 0 .. below - 1. */
uint64_t generate_below(struct generate *g, uint64_t below);
/* Fills *ret (type->size bytes, zeroed first) with a value that codec_encode accepts. */
void generate_value(struct generate *g, const struct codec_type *type, void *ret);

#endif
