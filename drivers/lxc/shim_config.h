/* shim_config.h -- what sandboxd tells berth-shim, and back. The configuration goes through a memfd (it holds
 * secrets: never argv, never the environment); the reports through a SOCK_SEQPACKET socket.
 *
 *   shim -> sandboxd  SHIM_READY   the container exists, its limits are read back, its program has not begun
 *   sandboxd -> shim  SHIM_GO      one byte; the end of the socket instead means: give up
 *   shim -> sandboxd  SHIM_RUNNING or SHIM_FAILED with a message; then the shim closes the socket
 *
 * The files in a sandbox's directory: sandbox/records.h. */
#ifndef LXC_SHIM_CONFIG_H
#define LXC_SHIM_CONFIG_H

#include "core/codec.h"

#define SHIM_FORKS_FD   3  /* of the process that is forked for each shim, see shims.h */
#define SHIM_NAME_ROOM  48 /* its second argument has this size; in a shim it is the container's name */
#define SHIM_CONFIG_FD  3
#define SHIM_CONTROL_FD 4
#define SHIM_GO         'g'
#define SHIM_REPORT_MAX 2048

enum shim_event { SHIM_READY, SHIM_RUNNING, SHIM_FAILED, SHIM_EVENTS };

struct shim_config {
	struct str name; /* of the container: "berth-<hash>-<id>" */
	struct str dir;  /* the sandbox's own directory */
	struct str
		lxc_path; /* liblxc's, for the name of its socket; with the points of the mounts, see rootfs.h */
	struct str root; /* the image's tree */
	struct str init; /* berth-init on the host */
	struct str user, working_dir, resolv_conf;
	struct str *argv;
	uint32_t n_argv;
	struct str *env;
	uint32_t n_env;
	struct str filter; /* seccomp instructions */
	uint32_t uid_base, logger_uid;
	uint32_t cpu_milli, pids_max;
	uint64_t memory_bytes, disk_bytes, log_bytes;
	uint64_t read_bytes; /* a second, from the image's disk */
};

struct shim_report {
	uint8_t event;
	int64_t pid, shim_pid;          /* the container's first process; the shim's logger */
	uint64_t pid_start, shim_start; /* clock ticks after boot, from /proc/PID/stat: pids are used again */
	uint64_t started_boot_ms, started_wall_ms;
	int32_t code;
	struct str message; /* SHIM_FAILED */
};

extern const struct codec_type shim_config_codec, shim_report_codec;

#endif
