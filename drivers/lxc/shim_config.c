#include "shim_config.h"

#define PATH_BYTES 4096

static const struct codec_field shim_config_fields[] = {
	CODEC_STR(struct shim_config, name, 64),
	CODEC_STR(struct shim_config, dir, PATH_BYTES),
	CODEC_STR(struct shim_config, lxc_path, PATH_BYTES),
	CODEC_STR(struct shim_config, root, PATH_BYTES),
	CODEC_STR(struct shim_config, init, PATH_BYTES),
	CODEC_STR(struct shim_config, user, 256),
	CODEC_STR(struct shim_config, working_dir, PATH_BYTES),
	CODEC_STR(struct shim_config, resolv_conf, 1024),
	CODEC_STRS(struct shim_config, argv, 1024),
	CODEC_STRS(struct shim_config, env, 1024),
	CODEC_SECRET(struct shim_config, filter, 65536),
	CODEC_U32(struct shim_config, uid_base),
	CODEC_U32(struct shim_config, logger_uid),
	CODEC_U32(struct shim_config, cpu_milli),
	CODEC_U32(struct shim_config, pids_max),
	CODEC_U64(struct shim_config, memory_bytes),
	CODEC_U64(struct shim_config, disk_bytes),
	CODEC_U64(struct shim_config, log_bytes),
	CODEC_U64(struct shim_config, read_bytes),
};
const struct codec_type shim_config_codec = CODEC_TYPE(struct shim_config, "shim config", shim_config_fields);

static const struct codec_field shim_report_fields[] = {
	CODEC_ENUM(struct shim_report, event, SHIM_EVENTS),
	CODEC_I64(struct shim_report, pid),
	CODEC_I64(struct shim_report, shim_pid),
	CODEC_U64(struct shim_report, pid_start),
	CODEC_U64(struct shim_report, shim_start),
	CODEC_U64(struct shim_report, started_boot_ms),
	CODEC_U64(struct shim_report, started_wall_ms),
	CODEC_I32(struct shim_report, code),
	CODEC_STR(struct shim_report, message, 1024),
};
const struct codec_type shim_report_codec = CODEC_TYPE(struct shim_report, "shim report", shim_report_fields);
