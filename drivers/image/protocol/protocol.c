#include "image_protocol/protocol.h"

#define MESSAGE_TEXT_MAX 384
#define REFERENCE_MAX    512

static const struct codec_field config_fields[] = {
	CODEC_STRS(struct image_config, entrypoint, IMAGE_STRINGS_MAX),
	CODEC_STRS(struct image_config, cmd, IMAGE_STRINGS_MAX),
	CODEC_STRS(struct image_config, env, IMAGE_STRINGS_MAX),
	CODEC_STR(struct image_config, working_dir, 4096),
	CODEC_STR(struct image_config, user, 256),
	CODEC_UINTS(struct image_config, exposed_ports, IMAGE_PORTS_MAX),
	CODEC_U32(struct image_config, stop_signal),
	CODEC_U32(struct image_config, uid),
	CODEC_U32(struct image_config, gid),
	CODEC_UINTS(struct image_config, groups, IMAGE_GROUPS_MAX),
};
const struct codec_type image_config_codec = CODEC_TYPE(struct image_config, "image config", config_fields);

static const struct codec_field layer_fields[] = {
	CODEC_U64(struct image_layer, offset),      CODEC_U64(struct image_layer, bytes),
	CODEC_STR(struct image_layer, diff_id, 64), CODEC_STR(struct image_layer, digest, 64),
	CODEC_BOOL(struct image_layer, cached),
};
const struct codec_type image_layer_codec = CODEC_TYPE(struct image_layer, "layer", layer_fields);

static const struct codec_field fetch_request_fields[] = {
	CODEC_ENUM(struct image_fetch_request, op, IMAGE_FETCH_OPS),
	CODEC_STR(struct image_fetch_request, reference, REFERENCE_MAX),
	CODEC_STR(struct image_fetch_request, digest, IMAGE_DIGEST_BYTES),
	CODEC_STR(struct image_fetch_request, username, 256),
	CODEC_SECRET(struct image_fetch_request, password, 16384),
	CODEC_STR(struct image_fetch_request, ca_pem, IMAGE_PEM_MAX),
	CODEC_STRS(struct image_fetch_request, registries, IMAGE_HOSTS_MAX),
	CODEC_STRS(struct image_fetch_request, insecure, IMAGE_HOSTS_MAX),
	CODEC_STRS(struct image_fetch_request, token_hosts, IMAGE_HOSTS_MAX),
	CODEC_STRS(struct image_fetch_request, mirrors, IMAGE_HOSTS_MAX),
	CODEC_STRS(struct image_fetch_request, cached, IMAGE_CACHED_MAX),
	CODEC_U64(struct image_fetch_request, bytes_max),
	CODEC_U64(struct image_fetch_request, layer_bytes_max),
	CODEC_U32(struct image_fetch_request, layers_max),
	CODEC_U32(struct image_fetch_request, parallel),
	CODEC_U32(struct image_fetch_request, connect_ms),
	CODEC_U32(struct image_fetch_request, stall_ms),
};
const struct codec_type image_fetch_request_codec =
	CODEC_TYPE(struct image_fetch_request, "fetch request", fetch_request_fields);

static const struct codec_field fetch_result_fields[] = {
	CODEC_I32(struct image_fetch_result, code),
	CODEC_STR(struct image_fetch_result, message, MESSAGE_TEXT_MAX),
	CODEC_STR(struct image_fetch_result, digest, IMAGE_DIGEST_BYTES),
	CODEC_STR(struct image_fetch_result, manifest, IMAGE_DIGEST_BYTES),
	CODEC_LIST(struct image_fetch_result, layers, IMAGE_LAYERS_MAX, &image_layer_codec),
	CODEC_ONE(struct image_fetch_result, config, &image_config_codec),
};
const struct codec_type image_fetch_result_codec =
	CODEC_TYPE(struct image_fetch_result, "fetch result", fetch_result_fields);

static const struct codec_field unpack_request_fields[] = {
	CODEC_LIST(struct image_unpack_request, layers, IMAGE_LAYERS_MAX, &image_layer_codec),
	CODEC_STR(struct image_unpack_request, user, 256),
	CODEC_U64(struct image_unpack_request, bytes_max),
	CODEC_U64(struct image_unpack_request, entries_max),
	CODEC_U32(struct image_unpack_request, depth_max),
};
const struct codec_type image_unpack_request_codec =
	CODEC_TYPE(struct image_unpack_request, "unpack request", unpack_request_fields);

static const struct codec_field unpack_result_fields[] = {
	CODEC_I32(struct image_unpack_result, code),
	CODEC_STR(struct image_unpack_result, message, MESSAGE_TEXT_MAX),
	CODEC_U64(struct image_unpack_result, bytes),
	CODEC_U64(struct image_unpack_result, entries),
	CODEC_U64(struct image_unpack_result, skipped),
	CODEC_U32(struct image_unpack_result, uid),
	CODEC_U32(struct image_unpack_result, gid),
	CODEC_UINTS(struct image_unpack_result, groups, IMAGE_GROUPS_MAX),
};
const struct codec_type image_unpack_result_codec =
	CODEC_TYPE(struct image_unpack_result, "unpack result", unpack_result_fields);

static const struct codec_field pack_request_fields[] = {
	CODEC_U64(struct image_pack_request, bytes_max),
};
const struct codec_type image_pack_request_codec =
	CODEC_TYPE(struct image_pack_request, "pack request", pack_request_fields);

bool image_digest_valid(struct str digest)
{
	if (digest.n != IMAGE_DIGEST_BYTES || !str_starts(digest, STR("sha256:")))
		return false;
	for (size_t i = 7; i < digest.n; i++) {
		char c = digest.p[i];

		if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f')))
			return false;
	}
	return true;
}
