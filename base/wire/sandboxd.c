#include "sandboxd.h"

#define MESSAGE_TEXT_MAX 1024
#define SANDBOXES_MAX    4096
#define IMAGES_MAX       1024

static const struct codec_field hello_fields[] = {
	CODEC_U32(struct sandboxd_hello, protocol),
	CODEC_STR(struct sandboxd_hello, cluster, 64),
	CODEC_U64(struct sandboxd_hello, node),
	CODEC_BOOL(struct sandboxd_hello, ending),
};
static const struct codec_type hello_codec = CODEC_TYPE(struct sandboxd_hello, "hello", hello_fields);

static const struct codec_field start_fields[] = {
	CODEC_U64(struct sandboxd_start, sandbox),
	CODEC_STR(struct sandboxd_start, pool, 64),
	CODEC_U64(struct sandboxd_start, pool_uid),
	CODEC_U64(struct sandboxd_start, revision),
	CODEC_STR(struct sandboxd_start, digest, DIGEST_MAX),
	CODEC_STRS(struct sandboxd_start, command, TEMPLATE_ARGS_MAX),
	CODEC_STRS(struct sandboxd_start, args, TEMPLATE_ARGS_MAX),
	CODEC_LIST(struct sandboxd_start, env, TEMPLATE_ENV_MAX, &env_var_codec),
	CODEC_U32(struct sandboxd_start, cpu_milli),
	CODEC_U64(struct sandboxd_start, memory_bytes),
	CODEC_U16(struct sandboxd_start, target_port),
	CODEC_BOOL(struct sandboxd_start, egress),
	CODEC_ENUM(struct sandboxd_start, isolation, ISOLATIONS),
	CODEC_U64(struct sandboxd_start, save),
};
static const struct codec_type start_codec = CODEC_TYPE(struct sandboxd_start, "start", start_fields);

static const struct codec_field stop_fields[] = {
	CODEC_U64(struct sandboxd_stop, sandbox),
	CODEC_U32(struct sandboxd_stop, grace_ms),
	CODEC_STR(struct sandboxd_stop, tag, SESSION_TAG_MAX),
	CODEC_U64(struct sandboxd_stop, save),
};
static const struct codec_type stop_codec = CODEC_TYPE(struct sandboxd_stop, "stop", stop_fields);

static const struct codec_field dial_fields[] = {
	CODEC_U64(struct sandboxd_dial, sandbox),
	CODEC_U16(struct sandboxd_dial, port),
	CODEC_U32(struct sandboxd_dial, timeout_ms),
};
static const struct codec_type dial_codec = CODEC_TYPE(struct sandboxd_dial, "dial", dial_fields);

static const struct codec_field image_fields[] = {
	CODEC_STR(struct sandboxd_image, reference, IMAGE_REFERENCE_MAX),
	CODEC_STR(struct sandboxd_image, digest, DIGEST_MAX),
	CODEC_STR(struct sandboxd_image, username, 256),
	CODEC_SECRET(struct sandboxd_image, password, SECRET_MAX),
};
static const struct codec_type image_codec = CODEC_TYPE(struct sandboxd_image, "image", image_fields);

static const struct codec_field log_fields[] = {
	CODEC_U64(struct sandboxd_log, sandbox),
	CODEC_U64(struct sandboxd_log, pool_uid),
	CODEC_STR(struct sandboxd_log, tag, SESSION_TAG_MAX),
	CODEC_BOOL(struct sandboxd_log, older),
};
static const struct codec_type log_codec = CODEC_TYPE(struct sandboxd_log, "log", log_fields);

static const struct codec_field fence_fields[] = {
	CODEC_U64(struct sandboxd_fence, boot_ms),
};
static const struct codec_type fence_codec = CODEC_TYPE(struct sandboxd_fence, "fence", fence_fields);

static const struct codec_field egress_fields[] = {
	CODEC_U64(struct sandboxd_egress, sandbox),
	CODEC_BOOL(struct sandboxd_egress, on),
};
static const struct codec_type egress_codec = CODEC_TYPE(struct sandboxd_egress, "egress", egress_fields);

static const struct codec_field park_fields[] = {
	CODEC_U64(struct sandboxd_park, sandbox),
	CODEC_BOOL(struct sandboxd_park, on),
};
static const struct codec_type park_codec = CODEC_TYPE(struct sandboxd_park, "park", park_fields);

static const struct codec_field sandbox_fields[] = {
	CODEC_U64(struct sandboxd_sandbox, sandbox),
	CODEC_U64(struct sandboxd_sandbox, pool_uid),
	CODEC_U64(struct sandboxd_sandbox, revision),
	CODEC_U64(struct sandboxd_sandbox, started_boot_ms),
	CODEC_I64(struct sandboxd_sandbox, pid),
	CODEC_U16(struct sandboxd_sandbox, target_port),
	CODEC_BOOL(struct sandboxd_sandbox, running),
	CODEC_BOOL(struct sandboxd_sandbox, frozen),
	CODEC_BOOL(struct sandboxd_sandbox, egress),
	CODEC_BOOL(struct sandboxd_sandbox, parked),
	CODEC_ENUM(struct sandboxd_sandbox, isolation, ISOLATIONS),
	CODEC_BOOL(struct sandboxd_sandbox, loaded),
	CODEC_U64(struct sandboxd_sandbox, save),
};
static const struct codec_type sandbox_codec = CODEC_TYPE(struct sandboxd_sandbox, "sandbox", sandbox_fields);

static const struct codec_field images_fields[] = {
	CODEC_ENUM(struct sandboxd_images, sweep, SANDBOXD_SWEEPS),
	CODEC_STRS(struct sandboxd_images, wanted, IMAGES_WANTED_MAX),
};
static const struct codec_type images_codec = CODEC_TYPE(struct sandboxd_images, "images", images_fields);

static const struct codec_field image_state_fields[] = {
	CODEC_STR(struct sandboxd_image_state, digest, DIGEST_MAX),
	CODEC_STR(struct sandboxd_image_state, reference, IMAGE_REFERENCE_MAX),
	CODEC_U64(struct sandboxd_image_state, bytes),
	CODEC_U64(struct sandboxd_image_state, last_used_ms),
	CODEC_U32(struct sandboxd_image_state, users),
};
static const struct codec_type image_state_codec =
	CODEC_TYPE(struct sandboxd_image_state, "image", image_state_fields);

static const struct codec_field exited_fields[] = {
	CODEC_U64(struct sandboxd_exited, sandbox),
	CODEC_ENUM(struct sandboxd_exited, how, SANDBOX_EXITS),
	CODEC_I32(struct sandboxd_exited, value),
	CODEC_U64(struct sandboxd_exited, wall_ms),
};
const struct codec_type sandboxd_exited_codec = CODEC_TYPE(struct sandboxd_exited, "exited", exited_fields);

static const struct codec_field network_fields[] = {
	CODEC_U32(struct sandboxd_network, repairs),
	CODEC_U64(struct sandboxd_network, wall_ms),
	CODEC_STR(struct sandboxd_network, problem, MESSAGE_TEXT_MAX),
};
const struct codec_type sandboxd_network_codec =
	CODEC_TYPE(struct sandboxd_network, "network", network_fields);

static const struct codec_field save_fields[] = {
	CODEC_U64(struct sandboxd_save, sandbox),
	CODEC_U64(struct sandboxd_save, save),
	CODEC_U64(struct sandboxd_save, bytes),
};
static const struct codec_type save_codec = CODEC_TYPE(struct sandboxd_save, "save", save_fields);

static const struct codec_field able_fields[] = {
	CODEC_U32(struct sandboxd_able, isolations),
	CODEC_STR(struct sandboxd_able, no_vm, NO_VM_MAX),
};
const struct codec_type sandboxd_able_codec = CODEC_TYPE(struct sandboxd_able, "able", able_fields);

static const struct codec_field reply_fields[] = {
	CODEC_I32(struct sandboxd_reply, code),
	CODEC_STR(struct sandboxd_reply, message, MESSAGE_TEXT_MAX),
	CODEC_STR(struct sandboxd_reply, digest, DIGEST_MAX),
	CODEC_U64(struct sandboxd_reply, sandbox),
	CODEC_I64(struct sandboxd_reply, pid),
	CODEC_U64(struct sandboxd_reply, wall_ms),
	CODEC_LIST(struct sandboxd_reply, sandboxes, SANDBOXES_MAX, &sandbox_codec),
	CODEC_LIST(struct sandboxd_reply, images, IMAGES_MAX, &image_state_codec),
	CODEC_U16(struct sandboxd_reply, exposed_port),
	CODEC_STR(struct sandboxd_reply, version, 64),
	CODEC_U32(struct sandboxd_reply, memory_mb),
	CODEC_U32(struct sandboxd_reply, cpus),
	CODEC_LIST(struct sandboxd_reply, holdings, HOLDINGS_MAX, &holding_codec),
	CODEC_U32(struct sandboxd_reply, isolations),
	CODEC_STR(struct sandboxd_reply, no_vm, NO_VM_MAX),
	CODEC_U64(struct sandboxd_reply, bytes),
};
const struct codec_type sandboxd_reply_codec = CODEC_TYPE(struct sandboxd_reply, "reply", reply_fields);

static const struct codec_field message_fields[] = {
	CODEC_ENUM(struct sandboxd_message, type, SANDBOXD_TYPES),
	CODEC_U64(struct sandboxd_message, correlation),
	CODEC_STR(struct sandboxd_message, body, SANDBOXD_PACKET_MAX),
};
const struct codec_type sandboxd_message_codec =
	CODEC_TYPE(struct sandboxd_message, "sandboxd message", message_fields);

const struct codec_type *const sandboxd_body_codec[SANDBOXD_TYPES] = {
	[SANDBOXD_HELLO] = &hello_codec,
	[SANDBOXD_START] = &start_codec,
	[SANDBOXD_STOP] = &stop_codec,
	[SANDBOXD_LIST] = NULL,
	[SANDBOXD_DIAL] = &dial_codec,
	[SANDBOXD_RESOLVE] = &image_codec,
	[SANDBOXD_PULL] = &image_codec,
	[SANDBOXD_IMPORT] = &image_codec,
	[SANDBOXD_IMAGES] = &images_codec,
	[SANDBOXD_FORGET] = &image_codec,
	[SANDBOXD_LOG] = &log_codec,
	[SANDBOXD_FENCE] = &fence_codec,
	[SANDBOXD_EGRESS] = &egress_codec,
	[SANDBOXD_HOLDINGS] = NULL,
	[SANDBOXD_PARK] = &park_codec,
	[SANDBOXD_REPLY] = &sandboxd_reply_codec,
	[SANDBOXD_EXITED] = &sandboxd_exited_codec,
	[SANDBOXD_NETWORK] = &sandboxd_network_codec,
	[SANDBOXD_ABLE] = &sandboxd_able_codec,
	[SANDBOXD_SAVE] = &save_codec,
	[SANDBOXD_GO_ON] = &save_codec,
	[SANDBOXD_SAVED] = &save_codec,
	[SANDBOXD_RECEIVE] = &save_codec,
	[SANDBOXD_RECEIVED] = &save_codec,
};

const char *const sandboxd_type_name[SANDBOXD_TYPES] = {
	[SANDBOXD_HELLO] = "hello",   [SANDBOXD_START] = "start",       [SANDBOXD_STOP] = "stop",
	[SANDBOXD_LIST] = "list",     [SANDBOXD_DIAL] = "dial",         [SANDBOXD_RESOLVE] = "resolve",
	[SANDBOXD_PULL] = "pull",     [SANDBOXD_IMPORT] = "import",     [SANDBOXD_IMAGES] = "images",
	[SANDBOXD_FORGET] = "forget", [SANDBOXD_LOG] = "log",           [SANDBOXD_FENCE] = "fence",
	[SANDBOXD_EGRESS] = "egress", [SANDBOXD_HOLDINGS] = "holdings", [SANDBOXD_PARK] = "park",
	[SANDBOXD_REPLY] = "reply",   [SANDBOXD_EXITED] = "exited",     [SANDBOXD_NETWORK] = "network",
	[SANDBOXD_ABLE] = "able",     [SANDBOXD_SAVE] = "save",         [SANDBOXD_GO_ON] = "go-on",
	[SANDBOXD_SAVED] = "saved",   [SANDBOXD_RECEIVE] = "receive",   [SANDBOXD_RECEIVED] = "received",
};
