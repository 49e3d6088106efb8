/* settings.h -- what the node's configuration file says to sandboxd. The file is berthd's too ("name = value" lines);
 * sandboxd reads the names below and skips the others, which berthd checks. */
#ifndef SANDBOXD_SETTINGS_H
#define SANDBOXD_SETTINGS_H

#include <stdint.h>

#include "core/err.h"
#include "drivers/driver.h"

#define SETTINGS_PATH_MAX 256
#define SETTINGS_TEXT_MAX 4097

struct settings {
	char state_dir[SETTINGS_PATH_MAX]; /* state_dir of the file, and "/sandboxd" */
	char socket[SETTINGS_PATH_MAX];    /* sandboxd_socket */
	char user[64];                     /* berthd's: the only one who may connect, besides root */
	uint32_t uid_base, uid_count;      /* 65536 a sandbox; the first 65536 are the loggers' */
	uint64_t memory_max, log_bytes_max;
	uint64_t log_disk_max, log_retention_ms; /* of ended sandboxes */
	uint64_t events_disk_max, events_retention_ms;
	uint64_t disk_bytes_max; /* sandbox_disk_max: of the writable layer, which is memory */
	uint64_t read_bytes_max; /* sandbox_read_max: a second, from the disk of the images */
	uint32_t cpu_milli_max;  /* sandbox_cpu_max */
	uint32_t pids_max;       /* sandbox_pids_max */
	char image_ca[SETTINGS_PATH_MAX], insecure_registries[SETTINGS_TEXT_MAX],
		allowed_registries[SETTINGS_TEXT_MAX], registry_mirror[SETTINGS_TEXT_MAX],
		registry_token_hosts[SETTINGS_TEXT_MAX];
	uint32_t image_stall_ms; /* how long a registry may be silent */
	uint32_t image_parallel, image_layers_max, image_depth_max, image_entries_max;
	uint64_t image_fetch_max, image_layer_max, image_unpacked_max,
		image_disk_max; /* the last: 0: half of the disk */
	uint64_t image_retention_ms;
	char resolvers[512];  /* IPv4, spaces between */
	char denied[1024];    /* egress_denied and the members' addresses: IPv4, spaces between */
	uint32_t egress_base; /* egress_base: first address of sandboxes with egress; 0: from the node's id */
	struct egress_limits egress_limits;
	uint32_t vm, vm_emulation; /* 1: on */
	char vm_kernel[SETTINGS_PATH_MAX], libvirt_uri[SETTINGS_PATH_MAX];
	uint32_t log_level;
};

/* The file has to be root's, and nobody else's to write. -EINVAL names file, line and what is allowed. */
int settings_load(const char *path, struct settings *ret, struct err *err);
void settings_defaults(struct settings *s);

#endif
