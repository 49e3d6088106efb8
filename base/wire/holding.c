#include "holding.h"

static const struct codec_field holding_fields[] = {
	CODEC_STR(struct holding, kind, 32),  CODEC_U64(struct holding, bytes),
	CODEC_U64(struct holding, bytes_max), CODEC_U64(struct holding, n),
	CODEC_U64(struct holding, oldest_ms), CODEC_U64(struct holding, age_ms_max),
};
const struct codec_type holding_codec = CODEC_TYPE(struct holding, "holding", holding_fields);
