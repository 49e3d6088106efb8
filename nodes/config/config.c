/* Happy path: read the file, walk its lines, find each name in the table, parse by type, check the range, then check what
 * must go together. Any failure names file, line, option and what is allowed; nothing half-read is used. */
#include "config.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <string.h>
#include <unistd.h>

#include "core/buf.h"
#include "core/fd.h"
#include "core/must.h"
#include "wire/template.h"

#define FILE_MAX   65536
#define LONGEST_MS (3650ull * 86400000)

enum option_type {
	OPTION_TEXT,
	OPTION_NUMBER,
	OPTION_SIZE,
	OPTION_DURATION, /* in the struct: milliseconds */
	OPTION_ADDRESS,
	OPTION_PATH,
	OPTION_LEVEL,
	OPTION_ROLE,
	OPTION_SWITCH,
	OPTION_ISOLATION,
	OPTION_MEMBER
};

struct option {
	const char *name;
	enum option_type type;
	size_t offset;
	bool required;
	const char *fallback; /* as the file would have it; NULL: empty or 0 */
	uint64_t min, max;
	const char *meaning;
};

#define AT(field) offsetof(struct config, field)

static const struct option options[] = {
	{"node_id", OPTION_NUMBER, AT(node_id), true, NULL, 1, INT64_MAX,
	 "number of this node, unique in the cluster"},
	{"node_name", OPTION_TEXT, AT(node_name), true, NULL, 1, 63, "name of this node, for people"},
	{"role", OPTION_ROLE, AT(role), false, "voter", 0, 1,
	 "voter, which holds the log, or worker, which a voter feeds"},
	{"member", OPTION_MEMBER, 0, true, NULL, 0, 0,
	 "one line a node: ID NAME RAFT-ADDRESS CONTROL-ADDRESS FORWARD-ADDRESS; of a worker, RAFT-ADDRESS "
	 "is \"-\""},
	{"incarnation", OPTION_NUMBER, AT(incarnation), false, "1", 1, INT64_MAX,
	 "of the cluster when this node became part of it; restoring and recovering begin a new one"},
	{"joined", OPTION_NUMBER, AT(joined), false, "0", 0, 1,
	 "1: it joined a cluster that runs; its member lines are its own and those of nodes that it asks "
	 "first"},
	{"state_dir", OPTION_PATH, AT(state_dir), true, NULL, 0, 0, "what must survive a restart"},
	{"run_dir", OPTION_PATH, AT(run_dir), true, NULL, 0, 0, "sockets and pid files"},
	{"listen", OPTION_ADDRESS, AT(listen), false, NULL, 0, 0, "HTTP of clients, host:port"},
	{"listen_tls", OPTION_ADDRESS, AT(listen_tls), false, NULL, 0, 0, "HTTPS of clients, host:port"},
	{"listen_metrics", OPTION_ADDRESS, AT(listen_metrics), false, NULL, 0, 0,
	 "HTTP for /metrics and causes at /ready, to whoever reaches it, host:port"},
	{"api_url", OPTION_TEXT, AT(api_url), true, NULL, 1, 255, "URL of this node for clients"},
	{"audience", OPTION_TEXT, AT(audience), true, NULL, 1, 255,
	 "audience of management tokens, the same on all nodes: the cluster's URL"},
	{"tls_cert", OPTION_PATH, AT(tls_cert), false, NULL, 0, 0, "certificate chain for listen_tls, PEM"},
	{"tls_key", OPTION_PATH, AT(tls_key), false, NULL, 0, 0, "its key, PEM"},
	{"ca_cert", OPTION_PATH, AT(ca_cert), true, NULL, 0, 0, "the cluster's CA, PEM"},
	{"node_cert", OPTION_PATH, AT(node_cert), true, NULL, 0, 0, "this node's certificate from that CA"},
	{"certificate_lifetime", OPTION_DURATION, AT(certificate_lifetime_ms), false, "90d", 10000,
	 LONGEST_MS,
	 "of the certificates that a leader issues for nodes; they renew themselves at two thirds of it"},
	{"node_key", OPTION_PATH, AT(node_key), true, NULL, 0, 0, "its key"},
	{"keyring", OPTION_PATH, AT(keyring), false, NULL, 0, 0,
	 "key ring that the cluster's keys are sealed under; voters have it, workers do not"},
	{"first_keys", OPTION_PATH, AT(first_keys), false, NULL, 0, 0,
	 "sealed keys that the first leader of a new cluster takes over; not needed afterwards"},
	{"sandboxd_socket", OPTION_PATH, AT(sandboxd_socket), true, NULL, 0, 0, "where sandboxd listens"},
	{"admin_socket", OPTION_PATH, AT(admin_socket), true, NULL, 0, 0, "the local operator's HTTP socket"},
	{"admin_group", OPTION_TEXT, AT(admin_group), false, NULL, 0, 31,
	 "group that may use it; empty: root and the daemon's user"},
	{"user", OPTION_TEXT, AT(user), true, NULL, 1, 31, "unprivileged user that berthd runs as"},
	{"gateway_loops", OPTION_NUMBER, AT(gateway_loops), false, "1", 1, 16, "threads that serve clients"},
	{"connections_max", OPTION_NUMBER, AT(connections_max), false, "20000", 10, 1000000,
	 "connections of clients; fewer if the limit of open files is lower"},
	{"address_connections_max", OPTION_NUMBER, AT(address_connections_max), false, "2000", 1, 1000000,
	 "of these from one IPv4 address or IPv6 /64"},
	{"pool_requests_max", OPTION_NUMBER, AT(pool_requests_max), false, "10000", 1, 1000000,
	 "requests under way to one pool through this node"},
	{"token_requests_max", OPTION_NUMBER, AT(token_requests_max), false, "5000", 1, 1000000,
	 "the same of one token's subject, to all pools"},
	{"pool_waiting_max", OPTION_NUMBER, AT(pool_waiting_max), false, "4000", 1, 1000000,
	 "of a pool's, how many may wait for a session"},
	{"token_waiting_max", OPTION_NUMBER, AT(token_waiting_max), false, "2000", 1, 1000000,
	 "the same of a token's subject"},
	{"handshake_ms", OPTION_NUMBER, AT(handshake_ms), false, "10000", 100, 600000,
	 "until a client's TLS handshake is done"},
	{"head_ms", OPTION_NUMBER, AT(head_ms), false, "15000", 100, 600000,
	 "until a request's head is there, and a body of the management API"},
	{"keep_alive_ms", OPTION_NUMBER, AT(keep_alive_ms), false, "75000", 100, 3600000,
	 "how long a client's connection may be without a request"},
	{"rate_min", OPTION_NUMBER, AT(rate_min), false, "100", 0, 1000000000,
	 "bytes a second that a client sends or takes of a body while it alone is waited for; 0: any"},
	{"stall_ms", OPTION_NUMBER, AT(stall_ms), false, "60000", 100, 600000,
	 "over how long rate_min is looked at"},
	{"dial_ms", OPTION_NUMBER, AT(dial_ms), false, "3000", 100, 600000,
	 "to connect to a sandbox, or to the node that has it"},
	{"silence_ms", OPTION_NUMBER, AT(silence_ms), false, "240000", 100, 86400000,
	 "how long a request may pass no byte either way, its answer's first one too"},
	{"tunnel_idle_ms", OPTION_NUMBER, AT(tunnel_idle_ms), false, "3600000", 1000, 86400000,
	 "the same of a WebSocket or another upgraded connection"},
	{"client_receive_buffer", OPTION_SIZE, AT(client_receive_buffer), false, "208Ki", 0, 64 << 20,
	 "what a client may send before its session reads; larger for fast uploads from far away; 0: the "
	 "kernel's"},
	{"cpu_milli", OPTION_NUMBER, AT(cpu_milli), false, "0", 0, 10000000,
	 "CPU to hand out, 1000 = one core; 0: the machine's"},
	{"memory", OPTION_SIZE, AT(memory_bytes), false, "0", 0, UINT64_MAX / 2,
	 "memory to hand out; 0: the machine's"},
	{"labels", OPTION_TEXT, AT(labels), false, NULL, 0, LABELS_MAX,
	 "of this node, name=value,name=value: a pool with the tag berth.nodeLabels runs where all of its "
	 "labels are"},
	{"disk_free_min", OPTION_NUMBER, AT(disk_free_min), false, "5", 0, 99,
	 "percent of the disk of state_dir; a node with less free gets no new sandbox"},
	{"log_level", OPTION_LEVEL, AT(log_level), false, "info", 0, 3, "debug, info, warn or error"},
	{"cluster_id", OPTION_TEXT, AT(cluster_id), true, NULL, 36, 36, "UUID of the cluster"},
	{"domain", OPTION_TEXT, AT(domain), false, NULL, 0, 200,
	 "pools answer at <pool>.<environment>.<region>.<domain>; empty: path form only"},
	{"environment", OPTION_TEXT, AT(environment), false, "default", 1, 63,
	 "name of the managed environment"},
	{"region", OPTION_TEXT, AT(region), false, "local", 1, 63, "name of the region"},
	{"tenant", OPTION_TEXT, AT(tenant), true, NULL, 36, 36,
	 "UUID that tokens and identities carry as tenant"},
	{"cooldown_min", OPTION_NUMBER, AT(cooldown_s_min), false, "300", 1, 300,
	 "lowest cooldown a pool may have, seconds; below 300 for tests alone"},
	{"queue_ms", OPTION_NUMBER, AT(queue_ms), false, "10000", 100, 600000,
	 "how long a first request waits for a sandbox"},
	{"lease_ms", OPTION_NUMBER, AT(lease_ms), false, "15000", 1000, 600000,
	 "how long a node serves without renewing its lease"},
	{"lost_ms", OPTION_NUMBER, AT(lost_ms), false, "20000", 2000, 900000,
	 "after how long without renewal a node is lost"},
	{"pull_retry_ms", OPTION_NUMBER, AT(pull_retry_ms), false, "300000", 1000, 3600000,
	 "how long an image is asked for again when its registry does not answer"},
	{"start_ms", OPTION_NUMBER, AT(start_ms), false, "60000", 1000, 3600000,
	 "until a sandbox's port answers; a startup probe may allow longer"},
	{"isolation", OPTION_ISOLATION, AT(isolation), false, "container", 0, ISOLATIONS - 1,
	 "of pools that name none: vm or container; a pool's own tag berth.isolation goes first"},
	{"overcommit_cpu", OPTION_NUMBER, AT(overcommit_cpu), false, "8", 1, 64,
	 "reservations may reach CPU x this"},
	{"overcommit_memory", OPTION_NUMBER, AT(overcommit_memory), false, "1", 1, 16, "and memory x this"},
	{"uid_base", OPTION_NUMBER, AT(uid_base), false, "1000000000", 100000, 4000000000,
	 "first host uid of sandboxes"},
	{"uid_count", OPTION_NUMBER, AT(uid_count), false, "134217728", 65536, 4000000000,
	 "how many uids they may use, 65536 each"},
	{"sandbox_memory_max", OPTION_SIZE, AT(sandbox_memory_max), false, "4Gi", 16 << 20, UINT64_MAX / 2,
	 "no sandbox gets more"},
	{"sandbox_disk_max", OPTION_SIZE, AT(sandbox_disk_max), false, "512Mi", 1 << 20, UINT64_MAX / 2,
	 "of a sandbox's writable layer, which is memory"},
	{"sandbox_read_max", OPTION_SIZE, AT(sandbox_read_max), false, "256Mi", 1 << 20, UINT64_MAX / 2,
	 "that a sandbox reads from the disk of the images in a second; where a disk is below them"},
	{"sandbox_cpu_max", OPTION_NUMBER, AT(sandbox_cpu_max), false, "2000", 10, 1000000,
	 "no sandbox gets more, 1000 = one core"},
	{"sandbox_pids_max", OPTION_NUMBER, AT(sandbox_pids_max), false, "512", 8, 1000000,
	 "processes and threads of a sandbox"},
	{"egress_denied", OPTION_TEXT, AT(egress_denied), false, NULL, 0, 900,
	 "IPv4 addresses and ranges that sandboxes with egress never reach"},
	{"egress_base", OPTION_TEXT, AT(egress_base), false, NULL, 0, 15,
	 "first address of sandboxes with egress; empty: by the node's number"},
	{"egress_connections", OPTION_NUMBER, AT(egress_connections), false, "1024", 1, 1000000,
	 "outbound connections of one sandbox at once"},
	{"egress_connection_rate", OPTION_NUMBER, AT(egress_connection_rate), false, "200", 1, 1000000,
	 "new ones of one sandbox in a second"},
	{"egress_packet_rate", OPTION_NUMBER, AT(egress_packet_rate), false, "50000", 10, 100000000,
	 "packets that one sandbox sends in a second"},
	{"egress_bandwidth", OPTION_SIZE, AT(egress_bandwidth), false, "128Mi", 65536, UINT64_MAX / 2,
	 "bytes that one sandbox sends in a second, and receives in one"},
	{"log_bytes_max", OPTION_SIZE, AT(log_bytes_max), false, "16Mi", 65536, UINT64_MAX / 2,
	 "of one sandbox's console log"},
	{"log_disk_max", OPTION_SIZE, AT(log_disk_max), false, "1Gi", 1 << 20, UINT64_MAX / 2,
	 "of all console logs of ended sandboxes; the oldest go first"},
	{"log_retention", OPTION_DURATION, AT(log_retention_ms), false, "7d", 1000, LONGEST_MS,
	 "how long the console log of an ended sandbox can be read"},
	{"events_disk_max", OPTION_SIZE, AT(events_disk_max), false, "128Mi", 65536, UINT64_MAX / 2,
	 "of the events that either daemon writes down; the oldest go first"},
	{"events_retention", OPTION_DURATION, AT(events_retention_ms), false, "90d", 1000, LONGEST_MS,
	 "how long events are kept"},
	{"disk_reserve", OPTION_SIZE, AT(disk_reserve), false, "256Mi", 1 << 20, UINT64_MAX / 2,
	 "below so many free bytes on a voter's disk nothing new begins; they are for what ends sessions"},
	{"disk_floor", OPTION_SIZE, AT(disk_floor), false, "64Mi", 1 << 20, UINT64_MAX / 2,
	 "below so many the log takes nothing, so that it can still be compacted; less than disk_reserve"},
	{"records_disk_max", OPTION_SIZE, AT(records_disk_max), false, "4Gi", 1 << 20, UINT64_MAX / 2,
	 "of closed billing records on a voter's disk; the oldest go first"},
	{"records_retention", OPTION_DURATION, AT(records_retention_ms), false, "400d", 3600000, LONGEST_MS,
	 "how long closed billing records are kept"},
	{"feed_memory_max", OPTION_SIZE, AT(feed_memory_max), false, "64Mi", 65536, 4ull << 30,
	 "of applied entries that a voter keeps for workers; who is behind them gets a snapshot"},
	{"image_ca", OPTION_PATH, AT(image_ca), false, NULL, 0, 0,
	 "CAs of registries, PEM; empty: the system's"},
	{"image_stall_ms", OPTION_NUMBER, AT(image_stall_ms), false, "30000", 1000, 600000,
	 "how long a registry may be silent, or send less than 1 KiB/s"},
	{"image_parallel", OPTION_NUMBER, AT(image_parallel), false, "3", 1, 16,
	 "layers of one image fetched at the same time"},
	{"image_fetch_max", OPTION_SIZE, AT(image_fetch_max), false, "8Gi", 1 << 20, UINT64_MAX / 2,
	 "of one image's layers as they come"},
	{"image_layer_max", OPTION_SIZE, AT(image_layer_max), false, "4Gi", 1 << 20, UINT64_MAX / 2,
	 "of one such layer"},
	{"image_unpacked_max", OPTION_SIZE, AT(image_unpacked_max), false, "16Gi", 1 << 20, UINT64_MAX / 2,
	 "of one image's files, holes counted"},
	{"image_entries_max", OPTION_NUMBER, AT(image_entries_max), false, "1000000", 100, 100000000,
	 "entries in one image's layers"},
	{"image_layers_max", OPTION_NUMBER, AT(image_layers_max), false, "128", 1, 256,
	 "layers of one image"},
	{"image_depth_max", OPTION_NUMBER, AT(image_depth_max), false, "64", 8, 128,
	 "directories inside each other in an image"},
	{"image_disk_max", OPTION_SIZE, AT(image_disk_max), false, "0", 0, UINT64_MAX / 2,
	 "of all images on a node; above it the longest unused go; 0: half of the disk"},
	{"image_retention", OPTION_DURATION, AT(image_retention_ms), false, "30d", 60000, LONGEST_MS,
	 "until an image that no pool and no sandbox uses is removed; imports stay"},
	{"insecure_registries", OPTION_TEXT, AT(insecure_registries), false, NULL, 0, 1024,
	 "host:port, comma separated, reached without TLS"},
	{"allowed_registries", OPTION_TEXT, AT(allowed_registries), false, NULL, 0, 4096,
	 "hosts images may come from, comma separated, \"*.suffix\" for all below one; empty: any. A host "
	 "named in full may "
	 "have a private address"},
	{"registry_mirror", OPTION_TEXT, AT(registry_mirror), false, NULL, 0, 4096,
	 "HOST MIRROR[,MIRROR], several with ';' between: asked before HOST, never with its credentials"},
	{"registry_token_hosts", OPTION_TEXT, AT(registry_token_hosts), false, NULL, 0, 1024,
	 "token servers outside of their registry's domain that may see its credentials, comma separated"},
	{"resolvers", OPTION_TEXT, AT(resolvers), false, NULL, 0, 256,
	 "DNS servers that sandboxes with egress may ask"},
	{"vm", OPTION_SWITCH, AT(vm), false, "on", 0, 1,
	 "on or off: virtual machines run here, if QEMU, libvirt and a kernel are installed and a guest "
	 "answers"},
	{"vm_emulation", OPTION_SWITCH, AT(vm_emulation), false, "off", 0, 1,
	 "on or off: without KVM they may run emulated, which is much slower and no hardware's boundary"},
	{"vm_kernel", OPTION_PATH, AT(vm_kernel), false, NULL, 0, 0,
	 "the guests' kernel, a Debian vmlinuz; empty: the newest /boot/vmlinuz-*-cloud-amd64"},
	{"libvirt_uri", OPTION_TEXT, AT(libvirt_uri), false, NULL, 0, 255,
	 "of the libvirt that runs them; empty: a private libvirtd of this node"},
};

#define N_OPTIONS (sizeof options / sizeof *options)

struct reading {
	const char *path;
	int line;
	struct config *config;
	bool seen[N_OPTIONS];
};

static bool is_address(struct str s)
{
	size_t colon = s.n;
	uint64_t port;

	while (colon > 0 && s.p[colon - 1] != ':')
		colon--;
	return colon > 1 && str_u64(str_slice(s, colon, s.n), 65535, &port) == 0 && port > 0;
}

static const char *const level_names[] = {"debug", "info", "warn", "error", NULL};
static const char *const role_names[] = {"voter", "worker", NULL};
static const char *const switch_names[] = {"off", "on", NULL};
static const char *const isolation_names[] = {
	[ISOLATION_CONTAINER] = "container", [ISOLATION_VM] = "vm", [ISOLATIONS] = NULL};

/* Of a type whose values are words; else NULL. */
static const char *const *names_of(enum option_type type)
{
	return type == OPTION_LEVEL       ? level_names
	       : type == OPTION_ROLE      ? role_names
	       : type == OPTION_SWITCH    ? switch_names
	       : type == OPTION_ISOLATION ? isolation_names
					  : NULL;
}

static int parse_name(const char *const *names, struct str s, uint64_t *ret)
{
	for (uint64_t i = 0; names[i] != NULL; i++) {
		if (str_eq(s, str_of(names[i]))) {
			*ret = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int take_member(struct reading *r, struct str value, struct err *err)
{
	struct config *c = r->config;
	struct str id, name, raft, control, peer;
	struct config_member m;

	if (c->n_members == CONFIG_MEMBERS_MAX)
		return err_set(err, -EINVAL, "%s:%d: member: more than %d", r->path, r->line,
			       CONFIG_MEMBERS_MAX);
	str_cut(value, ' ', &id, &value);
	str_cut(str_trim(value), ' ', &name, &value);
	str_cut(str_trim(value), ' ', &raft, &value);
	str_cut(str_trim(value), ' ', &control, &value);
	peer = str_trim(value);
	m.voter = !str_eq(raft, STR("-"));
	if (str_u64(id, INT64_MAX, &m.id) < 0 || m.id == 0 || name.n == 0 || (m.voter && !is_address(raft)) ||
	    !is_address(control) || !is_address(peer))
		return err_set(err, -EINVAL,
			       "%s:%d: member: expected \"ID NAME RAFT CONTROL FORWARD\", the last three "
			       "host:port; of a worker, RAFT is \"-\"",
			       r->path, r->line);
	m.name = arena_str(&c->memory, name);
	m.raft = m.voter ? arena_str(&c->memory, raft) : STR_NONE;
	m.control = arena_str(&c->memory, control);
	m.peer = arena_str(&c->memory, peer);
	for (uint32_t i = 0; i < c->n_members; i++) {
		if (c->members[i].id == m.id)
			return err_set(err, -EINVAL, "%s:%d: member: id %" PRIu64 " is there twice", r->path,
				       r->line, m.id);
	}
	c->members[c->n_members++] = m;
	return 0;
}

static int take_number(struct reading *r, const struct option *o, struct str value, struct err *err)
{
	uint64_t *to = (uint64_t *)(void *)((char *)r->config + o->offset);
	uint64_t n = 0;
	int bad = o->type == OPTION_NUMBER     ? str_u64(value, UINT64_MAX, &n)
		  : o->type == OPTION_SIZE     ? str_size(value, &n)
		  : o->type == OPTION_DURATION ? str_duration(value, &n)
					       : parse_name(names_of(o->type), value, &n);

	if (bad < 0 || n < o->min || n > o->max)
		return err_set(err, -EINVAL, "%s:%d: %s: \"%.*s\" is not %s", r->path, r->line, o->name,
			       STR_ARGS(value),
			       o->type == OPTION_LEVEL       ? "one of debug, info, warn, error"
			       : o->type == OPTION_ROLE      ? "voter or worker"
			       : o->type == OPTION_SWITCH    ? "on or off"
			       : o->type == OPTION_ISOLATION ? "vm or container"
			       : o->type == OPTION_SIZE      ? "a size such as 512Mi or 4Gi in range"
			       : o->type == OPTION_DURATION  ? "a time such as 90s, 36h or 7d in range"
							     : "a number in range");
	*to = n;
	return 0;
}

static int take_text(struct reading *r, const struct option *o, struct str value, struct err *err)
{
	struct str *to = (struct str *)(void *)((char *)r->config + o->offset);

	if (o->type == OPTION_PATH && (value.n >= PATH_MAX || (value.n > 0 && value.p[0] != '/')))
		return err_set(err, -EINVAL, "%s:%d: %s: expected an absolute path", r->path, r->line,
			       o->name);
	if (o->type == OPTION_ADDRESS && value.n > 0 && !is_address(value))
		return err_set(err, -EINVAL, "%s:%d: %s: expected host:port", r->path, r->line, o->name);
	if (o->type == OPTION_TEXT && (value.n < o->min || value.n > o->max))
		return err_set(err, -EINVAL, "%s:%d: %s: %" PRIu64 " to %" PRIu64 " characters are allowed",
			       r->path, r->line, o->name, o->min, o->max);
	*to = arena_str(&r->config->memory, value);
	return 0;
}

static int take_value(struct reading *r, const struct option *o, struct str value, struct err *err)
{
	switch (o->type) {
	case OPTION_MEMBER:
		return take_member(r, value, err);
	case OPTION_NUMBER:
	case OPTION_SIZE:
	case OPTION_DURATION:
	case OPTION_LEVEL:
	case OPTION_ROLE:
	case OPTION_SWITCH:
	case OPTION_ISOLATION:
		return take_number(r, o, value, err);
	case OPTION_TEXT:
	case OPTION_ADDRESS:
	case OPTION_PATH:
		return take_text(r, o, value, err);
	}
	must(false);
	return -EINVAL;
}

static int take_line(struct reading *r, struct str line, struct err *err)
{
	struct str name, value;

	line = str_trim(line);
	if (line.n == 0 || line.p[0] == '#')
		return 0;
	if (!str_cut(line, '=', &name, &value))
		return err_set(err, -EINVAL, "%s:%d: expected \"name = value\"", r->path, r->line);
	name = str_trim(name);
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (!str_eq(name, str_of(options[i].name)))
			continue;
		if (r->seen[i] && options[i].type != OPTION_MEMBER)
			return err_set(err, -EINVAL, "%s:%d: %s is there twice", r->path, r->line,
				       options[i].name);
		r->seen[i] = true;
		return take_value(r, &options[i], str_trim(value), err);
	}
	return err_set(err, -EINVAL, "%s:%d: unknown option \"%.*s\"", r->path, r->line, STR_ARGS(name));
}

const struct config_member *config_self(const struct config *c)
{
	for (uint32_t i = 0; i < c->n_members; i++) {
		if (c->members[i].id == c->node_id)
			return &c->members[i];
	}
	must(false);
	return NULL;
}

static int check_members(const struct config *c, const char *path, struct err *err)
{
	const struct config_member *self = NULL;
	uint32_t voters = 0;

	for (uint32_t i = 0; i < c->n_members; i++) {
		if (c->members[i].id == c->node_id && str_eq(c->members[i].name, c->node_name))
			self = &c->members[i];
		voters += c->members[i].voter;
	}
	if (self == NULL)
		return err_set(err, -EINVAL, "%s: member: no line for this node (%" PRIu64 " %.*s)", path,
			       c->node_id, STR_ARGS(c->node_name));
	if (self->voter != (c->role == CONFIG_VOTER))
		return err_set(err, -EINVAL, "%s: role: %s, but this node's member line is a %s's", path,
			       role_names[c->role], role_names[self->voter ? CONFIG_VOTER : CONFIG_WORKER]);
	if (c->joined == 0 && voters != 1 && voters != 3 && voters != CONFIG_VOTERS_MAX)
		return err_set(err, -EINVAL, "%s: member: 1, 3 or 5 voters are allowed, not %u", path,
			       voters);
	if (c->role == CONFIG_VOTER && c->keyring.n == 0)
		return err_set(err, -EINVAL, "%s: keyring is missing: a voter needs it", path);
	return 0;
}

static int check_together(const struct config *c, const char *path, struct err *err)
{
	int r = check_members(c, path, err);

	if (r < 0)
		return r;
	if (c->listen.n == 0 && c->listen_tls.n == 0)
		return err_set(err, -EINVAL, "%s: one of listen and listen_tls is needed", path);
	if (c->listen_tls.n > 0 && (c->tls_cert.n == 0 || c->tls_key.n == 0))
		return err_set(err, -EINVAL, "%s: listen_tls needs tls_cert and tls_key", path);
	if (!template_labels_good(c->labels))
		return err_set(err, -EINVAL,
			       "%s: labels: expected name=value,name=value of letters, digits and ._/-, no "
			       "name twice",
			       path);
	if (c->disk_reserve <= c->disk_floor)
		return err_set(err, -EINVAL, "%s: disk_reserve must be above disk_floor", path);
	if (c->lost_ms <= c->lease_ms)
		return err_set(err, -EINVAL, "%s: lost_ms must be above lease_ms", path);
	return 0;
}

static int read_lines(struct reading *r, struct str text, struct err *err)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (options[i].fallback != NULL)
			must(take_value(r, &options[i], str_of(options[i].fallback), NULL) == 0);
	}
	while (text.n > 0) {
		struct str line;

		r->line++;
		str_cut(text, '\n', &line, &text);
		int bad = take_line(r, line, err);

		if (bad < 0)
			return bad;
	}
	for (size_t i = 0; i < N_OPTIONS; i++) {
		if (options[i].required && !r->seen[i])
			return err_set(err, -EINVAL, "%s: %s is missing: %s", r->path, options[i].name,
				       options[i].meaning);
	}
	return check_together(r->config, r->path, err);
}

int config_load(const char *path, struct config *ret, struct err *err)
{
	CLEANUP_BUF struct buf text = {0};
	struct config c = {0};
	struct reading reading = {.path = path, .config = &c};
	int r = fd_read_file(path, FILE_MAX, &text, err);

	if (r < 0)
		return err_wrap(err, "configuration");
	r = read_lines(&reading, buf_str(&text), err);
	if (r < 0) {
		config_done(&c);
		return r;
	}
	long cores = sysconf(_SC_NPROCESSORS_ONLN), pages = sysconf(_SC_PHYS_PAGES),
	     page = sysconf(_SC_PAGESIZE);

	if (c.cpu_milli == 0)
		c.cpu_milli = (uint64_t)cores * 1000;
	if (c.memory_bytes == 0)
		c.memory_bytes = (uint64_t)pages * (uint64_t)page;
	*ret = c;
	return 0;
}

void config_done(struct config *c)
{
	arena_done(&c->memory);
	*c = (struct config){0};
}

static void print_member(const struct config_member *m, struct buf *to)
{
	buf_printf(to, "member = %" PRIu64 " %.*s %.*s %.*s %.*s\n", m->id, STR_ARGS(m->name),
		   STR_ARGS(m->voter ? m->raft : STR("-")), STR_ARGS(m->control), STR_ARGS(m->peer));
}

void config_print(const struct config *c, struct buf *to)
{
	for (size_t i = 0; i < N_OPTIONS; i++) {
		const struct option *o = &options[i];
		const char *at = (const char *)c + o->offset;

		if (o->type == OPTION_MEMBER) {
			for (uint32_t k = 0; k < c->n_members; k++)
				print_member(&c->members[k], to);
		} else if (names_of(o->type) != NULL) {
			buf_printf(to, "%s = %s\n", o->name,
				   names_of(o->type)[*(const uint64_t *)(const void *)at]);
		} else if (o->type == OPTION_DURATION) {
			buf_printf(to, "%s = %" PRIu64 "s\n", o->name,
				   *(const uint64_t *)(const void *)at / 1000);
		} else if (o->type == OPTION_NUMBER || o->type == OPTION_SIZE) {
			buf_printf(to, "%s = %" PRIu64 "\n", o->name, *(const uint64_t *)(const void *)at);
		} else {
			buf_printf(to, "%s = %.*s\n", o->name,
				   STR_ARGS(*(const struct str *)(const void *)at));
		}
	}
}

void config_reference(struct buf *to)
{
	static const char *const types[] = {"text",  "number", "size",   "duration",  "host:port", "path",
					    "level", "role",   "switch", "isolation", "member"};

	buf_printf(to, "| option | type | default | meaning |\n| --- | --- | --- | --- |\n");
	for (size_t i = 0; i < N_OPTIONS; i++)
		buf_printf(to, "| `%s` | %s | %s | %s |\n", options[i].name, types[options[i].type],
			   options[i].fallback   ? options[i].fallback
			   : options[i].required ? "required"
						 : "",
			   options[i].meaning);
}
