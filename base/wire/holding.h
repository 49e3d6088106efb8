/* holding.h -- how much of one kind of thing a node keeps, and its bounds: what the daemons tell operators of. */
#ifndef WIRE_HOLDING_H
#define WIRE_HOLDING_H

#include "core/codec.h"

#define HOLDINGS_MAX 32

struct holding {
	struct str kind;
	uint64_t bytes, bytes_max; /* bytes_max 0: none of bytes */
	uint64_t n;
	uint64_t oldest_ms;  /* wall clock; 0: there is none, or it does not say */
	uint64_t age_ms_max; /* 0: none of age: it ends with what it belongs to */
};

extern const struct codec_type holding_codec;

#endif
