/* records.h -- the small records in a sandbox's directory, which outlive sandboxd. Plain data; strings are borrowed.
 *
 * `meta` and `running` are sandboxd's, `exit` is written by whatever of the sandbox's own ends last, without privileges. */
#ifndef SANDBOX_RECORDS_H
#define SANDBOX_RECORDS_H

#include "core/codec.h"

struct sandbox_meta {
	uint64_t sandbox, pool_uid, revision;
	uint32_t slot;
	uint16_t target_port;
	bool egress;
	int32_t stop_signal;
	struct str digest; /* of the image */
	uint32_t uid_base;
};

struct sandbox_running {
	int64_t pid, shim_pid;          /* its first process, or its QEMU; what writes its log */
	uint64_t pid_start, shim_start; /* clock ticks after boot, from /proc/PID/stat: pids are used again */
	uint64_t started_boot_ms, started_wall_ms;
	struct str boot_id; /* in the file only */
};

struct sandbox_exit {
	uint8_t how; /* enum sandboxd_exit */
	int32_t value;
	uint64_t wall_ms;
};

extern const struct codec_type sandbox_meta_codec, sandbox_running_codec, sandbox_exit_codec;

#endif
