#include "envelope.h"

#include "messages.h"

static const struct codec_field address_fields[] = {
	CODEC_ENUM(struct address, kind, ADDRESS_KINDS),
	CODEC_U64(struct address, node),
	CODEC_U64(struct address, key),
};
const struct codec_type address_codec = CODEC_TYPE(struct address, "address", address_fields);

static const struct codec_field envelope_fields[] = {
	CODEC_ONE(struct envelope, to, &address_codec), CODEC_ONE(struct envelope, from, &address_codec),
	CODEC_ENUM(struct envelope, type, MSG_TYPES),   CODEC_U64(struct envelope, correlation),
	CODEC_U64(struct envelope, deadline_ms),        CODEC_U64(struct envelope, incarnation),
	CODEC_STR(struct envelope, trace, 64),          CODEC_STR(struct envelope, body, ENVELOPE_BODY_MAX),
};
const struct codec_type envelope_codec = CODEC_TYPE(struct envelope, "envelope", envelope_fields);

const char *const address_kind_name[ADDRESS_KINDS] = {
	[ADDRESS_NONE] = "none",       [ADDRESS_PLACEMENT] = "placement", [ADDRESS_MEMBERSHIP] = "membership",
	[ADDRESS_POOL] = "pool",       [ADDRESS_CACHE] = "cache",         [ADDRESS_SANDBOX] = "sandbox",
	[ADDRESS_SESSION] = "session", [ADDRESS_REAPER] = "reaper",       [ADDRESS_GATEWAY] = "gateway",
	[ADDRESS_API] = "api",         [ADDRESS_CONTROL] = "control",     [ADDRESS_IMAGES] = "images",
	[ADDRESS_ORPHANS] = "orphans", [ADDRESS_DRAIN] = "drain",         [ADDRESS_ARRIVAL] = "arrival",
};
