#include "control/feed/wire.h"

static const struct codec_field ask_fields[] = {
	CODEC_U64(struct feed_ask, number),
	CODEC_U64(struct feed_ask, incarnation),
	CODEC_U64(struct feed_ask, index),
	CODEC_U64(struct feed_ask, taken),
};
const struct codec_type feed_ask_codec = CODEC_TYPE(struct feed_ask, "feed ask", ask_fields);

static const struct codec_field piece_fields[] = {
	CODEC_U64(struct feed_piece, number),
	CODEC_ENUM(struct feed_piece, kind, FEED_KINDS),
	CODEC_U64(struct feed_piece, index),
	CODEC_U64(struct feed_piece, after),
	CODEC_U64(struct feed_piece, leader),
	CODEC_U64(struct feed_piece, term),
	CODEC_SECRET(struct feed_piece, bytes, FEED_BYTES_MAX),
};
const struct codec_type feed_piece_codec = CODEC_TYPE(struct feed_piece, "feed piece", piece_fields);
