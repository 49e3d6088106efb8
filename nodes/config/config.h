/* config.h -- the one configuration file of a node: "name = value" lines, '#' comments. The table in config.c says each
 * name, its type, default and range; `berthd --check-config FILE` prints what is in force or what is wrong, by line. */
#ifndef CONFIG_CONFIG_H
#define CONFIG_CONFIG_H

#include "core/arena.h"
#include "core/err.h"
#include "core/str.h"

#define CONFIG_MEMBERS_MAX 64
#define CONFIG_VOTERS_MAX  5

enum config_role { CONFIG_VOTER, CONFIG_WORKER };

struct config_member {
	uint64_t id;
	bool voter;
	struct str name, raft, control,
		peer; /* host:port: of Raft (empty: a worker's), of control messages, of forwarded requests */
};

struct config {
	struct arena memory; /* of all strings below */
	uint64_t node_id;
	struct str node_name;
	uint64_t role;                                    /* enum config_role, of this node */
	struct config_member members[CONFIG_MEMBERS_MAX]; /* one "member" line a node, this one too */
	uint32_t n_members;
	uint64_t
		joined; /* 1: it joined a cluster that runs: member lines are its own, and of nodes that it may ask */

	uint64_t incarnation; /* of the cluster when this node joined it */

	struct str state_dir, run_dir;
	struct str listen, listen_tls, listen_metrics; /* host:port; empty: not served */
	struct str api_url;                            /* how clients reach this node */
	struct str audience;                           /* of management tokens: the same on all nodes */
	struct str tls_cert, tls_key;                  /* of clients' TLS */
	struct str ca_cert, node_cert, node_key;       /* between nodes */
	struct str keyring;                            /* empty: this node opens no keys, it is a worker */
	struct str first_keys; /* of a new cluster; empty: this node cannot begin one */
	struct str sandboxd_socket, admin_socket, admin_group;
	uint64_t certificate_lifetime_ms;
	uint64_t gateway_loops, cpu_milli, memory_bytes, log_level;
	struct str labels;
	uint64_t disk_free_min; /* percent */
	uint64_t connections_max, address_connections_max, pool_requests_max, token_requests_max,
		pool_waiting_max, token_waiting_max;
	uint64_t client_receive_buffer;
	uint64_t handshake_ms, head_ms, keep_alive_ms, stall_ms, rate_min, dial_ms, silence_ms,
		tunnel_idle_ms;

	/* Settings of the cluster: read by the node that starts a new cluster, then kept in the tables. */
	struct str cluster_id, domain, environment, region, tenant;
	uint64_t cooldown_s_min, queue_ms, lease_ms, lost_ms, pull_retry_ms, start_ms, image_stall_ms,
		overcommit_cpu, overcommit_memory, isolation;

	/* sandboxd's part of the file; berthd only checks that it is well-formed. */
	struct str user, image_ca, insecure_registries, allowed_registries, registry_mirror,
		registry_token_hosts, resolvers, egress_denied, egress_base, vm_kernel, libvirt_uri;
	uint64_t vm, vm_emulation;
	uint64_t image_parallel, image_fetch_max, image_layer_max, image_unpacked_max, image_entries_max,
		image_layers_max, image_depth_max, image_disk_max, image_retention_ms;
	uint64_t uid_base, uid_count, sandbox_memory_max, sandbox_disk_max, sandbox_read_max, sandbox_cpu_max,
		sandbox_pids_max, log_bytes_max, log_disk_max, log_retention_ms, egress_connections,
		egress_connection_rate, egress_packet_rate, egress_bandwidth;
	/* What either daemon writes down of events. */
	uint64_t events_disk_max, events_retention_ms;
	uint64_t disk_reserve, disk_floor;               /* bytes that stay free beside the log */
	uint64_t records_disk_max, records_retention_ms; /* billing records on disk */
	uint64_t feed_memory_max;                        /* of a voter: entries for workers */
};

/* -EINVAL: `err` names file, line, option and what is allowed. */
int config_load(const char *path, struct config *ret, struct err *err);
/* This node's own member line. */
const struct config_member *config_self(const struct config *c);
void config_done(struct config *c);
/* All options with their values, as the file would have them, without secrets. */
struct buf;
void config_print(const struct config *c, struct buf *to);
/* The reference for docs: name, type, default, meaning; one row an option. */
void config_reference(struct buf *to);

#endif
