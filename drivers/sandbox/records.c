#include "records.h"

#include "wire/sandboxd.h"

static const struct codec_field sandbox_meta_fields[] = {
	CODEC_U64(struct sandbox_meta, sandbox),     CODEC_U64(struct sandbox_meta, pool_uid),
	CODEC_U64(struct sandbox_meta, revision),    CODEC_U32(struct sandbox_meta, slot),
	CODEC_U16(struct sandbox_meta, target_port), CODEC_BOOL(struct sandbox_meta, egress),
	CODEC_I32(struct sandbox_meta, stop_signal), CODEC_STR(struct sandbox_meta, digest, DIGEST_MAX),
	CODEC_U32(struct sandbox_meta, uid_base),
};
const struct codec_type sandbox_meta_codec =
	CODEC_TYPE(struct sandbox_meta, "sandbox meta", sandbox_meta_fields);

static const struct codec_field sandbox_running_fields[] = {
	CODEC_I64(struct sandbox_running, pid),
	CODEC_I64(struct sandbox_running, shim_pid),
	CODEC_U64(struct sandbox_running, pid_start),
	CODEC_U64(struct sandbox_running, shim_start),
	CODEC_U64(struct sandbox_running, started_boot_ms),
	CODEC_U64(struct sandbox_running, started_wall_ms),
	CODEC_STR(struct sandbox_running, boot_id, 64),
};
const struct codec_type sandbox_running_codec =
	CODEC_TYPE(struct sandbox_running, "sandbox running", sandbox_running_fields);

static const struct codec_field sandbox_exit_fields[] = {
	CODEC_ENUM(struct sandbox_exit, how, SANDBOX_EXITS),
	CODEC_I32(struct sandbox_exit, value),
	CODEC_U64(struct sandbox_exit, wall_ms),
};
const struct codec_type sandbox_exit_codec =
	CODEC_TYPE(struct sandbox_exit, "sandbox exit", sandbox_exit_fields);
