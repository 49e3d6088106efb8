/* tables.c -- the rows' fields, once: what is written into snapshots and hashed. New fields go at the end. */
#include "tables.h"

#define NAME_MAX_BYTES     256
#define ADDRESS_MAX_BYTES  256
#define LABELS_MAX_BYTES   4096
#define TEXT_MAX_BYTES     1024
#define DOCUMENT_MAX_BYTES (256u * 1024)
#define SEALED_MAX_BYTES   (SECRET_MAX + 128)

static const struct codec_field settings_fields[] = {
	CODEC_U64(struct settings, cooldown_ms_min),
	CODEC_U64(struct settings, queue_ms),
	CODEC_U64(struct settings, lease_ms),
	CODEC_U64(struct settings, lost_ms),
	CODEC_U64(struct settings, operation_kept_ms),
	CODEC_U32(struct settings, overcommit_cpu),
	CODEC_U32(struct settings, overcommit_memory),
	CODEC_STR(struct settings, domain, NAME_MAX_BYTES),
	CODEC_STR(struct settings, environment, NAME_MAX_BYTES),
	CODEC_STR(struct settings, region, NAME_MAX_BYTES),
	CODEC_STR(struct settings, tenant, NAME_MAX_BYTES),
	CODEC_U64(struct settings, pull_retry_ms),
	CODEC_U64(struct settings, start_ms),
	CODEC_ENUM(struct settings, isolation, ISOLATIONS),
};
const struct codec_type settings_codec = CODEC_TYPE(struct settings, "settings", settings_fields);

static const struct codec_field cluster_fields[] = {
	CODEC_STR(struct cluster_row, id, 64),
	CODEC_U64(struct cluster_row, incarnation),
	CODEC_U32(struct cluster_row, feature_level),
	CODEC_U64(struct cluster_row, counter),
	CODEC_U64(struct cluster_row, time_ms),
	CODEC_ONE(struct cluster_row, settings, &settings_codec),
	CODEC_U64(struct cluster_row, member_operation),
	CODEC_U64(struct cluster_row, removed_first),
};
const struct codec_type cluster_row_codec = CODEC_TYPE(struct cluster_row, "cluster", cluster_fields);

static const struct codec_field pool_fields[] = {
	CODEC_U64(struct pool_row, uid),
	CODEC_STR(struct pool_row, subscription, NAME_MAX_BYTES),
	CODEC_STR(struct pool_row, resource_group, NAME_MAX_BYTES),
	CODEC_STR(struct pool_row, name, NAME_MAX_BYTES),
	CODEC_STR(struct pool_row, document, DOCUMENT_MAX_BYTES),
	CODEC_ONE(struct pool_row, limits, &pool_limits_codec),
	CODEC_ENUM(struct pool_row, provisioning, PROVISIONINGS),
	CODEC_U64(struct pool_row, operation),
	CODEC_U64(struct pool_row, desired_revision),
	CODEC_U64(struct pool_row, active_revision),
	CODEC_U64(struct pool_row, created_ms),
	CODEC_U64(struct pool_row, changed_ms),
	CODEC_STR(struct pool_row, failure, TEXT_MAX_BYTES),
	CODEC_U32(struct pool_row, failures),
	CODEC_U64(struct pool_row, failed_ms),
	CODEC_U32(struct pool_row, sessions_over),
	CODEC_ENUM(struct pool_row, isolation, ISOLATIONS),
};
const struct codec_type pool_row_codec = CODEC_TYPE(struct pool_row, "pool", pool_fields);

static const struct codec_field revision_fields[] = {
	CODEC_U64(struct revision_row, pool),
	CODEC_U64(struct revision_row, revision),
	CODEC_ONE(struct revision_row, template, &template_codec),
	CODEC_U64(struct revision_row, created_ms),
};
const struct codec_type revision_row_codec = CODEC_TYPE(struct revision_row, "revision", revision_fields);

static const struct codec_field secret_fields[] = {
	CODEC_U64(struct secret_row, pool),
	CODEC_STR(struct secret_row, name, NAME_MAX_BYTES),
	CODEC_SECRET(struct secret_row, sealed, SEALED_MAX_BYTES),
};
const struct codec_type secret_row_codec = CODEC_TYPE(struct secret_row, "secret", secret_fields);

static const struct codec_field operation_fields[] = {
	CODEC_U64(struct operation_row, id),
	CODEC_U64(struct operation_row, pool),
	CODEC_U64(struct operation_row, revision),
	CODEC_ENUM(struct operation_row, kind, OPERATION_KINDS),
	CODEC_ENUM(struct operation_row, phase, PHASES),
	CODEC_STR(struct operation_row, code, TEXT_MAX_BYTES),
	CODEC_STR(struct operation_row, message, TEXT_MAX_BYTES),
	CODEC_U64(struct operation_row, started_ms),
	CODEC_U64(struct operation_row, ended_ms),
	CODEC_U64(struct operation_row, node),
	CODEC_ENUM(struct operation_row, role, MEMBER_ROLES),
};
const struct codec_type operation_row_codec = CODEC_TYPE(struct operation_row, "operation", operation_fields);

static const struct codec_field node_fields[] = {
	CODEC_U64(struct node_row, id),
	CODEC_STR(struct node_row, name, NAME_MAX_BYTES),
	CODEC_STR(struct node_row, raft_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct node_row, peer_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct node_row, api_address, ADDRESS_MAX_BYTES),
	CODEC_BOOL(struct node_row, voter),
	CODEC_ENUM(struct node_row, state, NODE_STATES),
	CODEC_BOOL(struct node_row, cordoned),
	CODEC_BOOL(struct node_row, draining),
	CODEC_U64(struct node_row, epoch),
	CODEC_U64(struct node_row, sequence),
	CODEC_U64(struct node_row, renewed_ms),
	CODEC_U64(struct node_row, cpu_milli),
	CODEC_U64(struct node_row, memory_bytes),
	CODEC_U64(struct node_row, cpu_reserved),
	CODEC_U64(struct node_row, memory_reserved),
	CODEC_STR(struct node_row, labels, LABELS_MAX_BYTES),
	CODEC_STR(struct node_row, version, NAME_MAX_BYTES),
	CODEC_U64(struct node_row, newest_key),
	CODEC_U64(struct node_row, ca_key),
	CODEC_STR(struct node_row, control_address, ADDRESS_MAX_BYTES),
	CODEC_ENUM(struct node_row, member, MEMBER_ROLES),
	CODEC_BOOL(struct node_row, leaving),
	CODEC_BOOL(struct node_row, drain_cordoned),
	CODEC_U64(struct node_row, drain_started_ms),
	CODEC_U64(struct node_row, drain_deadline_ms),
	CODEC_U64(struct node_row, drained_ms),
	CODEC_STR(struct node_row, boot, NAME_MAX_BYTES),
	CODEC_ONE(struct node_row, disk, &disk_room_codec),
	CODEC_U32(struct node_row, feature_level),
	CODEC_U32(struct node_row, isolations),
	CODEC_STR(struct node_row, no_vm, NO_VM_MAX),
};
const struct codec_type node_row_codec = CODEC_TYPE(struct node_row, "node", node_fields);

static const struct codec_field join_token_fields[] = {
	CODEC_STR(struct join_token_row, hash, 64),   CODEC_BOOL(struct join_token_row, voter),
	CODEC_U64(struct join_token_row, expires_ms), CODEC_U64(struct join_token_row, node),
	CODEC_STR(struct join_token_row, key, 64),
};
const struct codec_type join_token_row_codec =
	CODEC_TYPE(struct join_token_row, "join token", join_token_fields);

static const struct codec_field image_fields[] = {
	CODEC_U64(struct image_row, node),
	CODEC_STR(struct image_row, digest, DIGEST_MAX),
};
const struct codec_type image_row_codec = CODEC_TYPE(struct image_row, "image", image_fields);

static const struct codec_field sandbox_fields[] = {
	CODEC_U64(struct sandbox_row, id),           CODEC_U64(struct sandbox_row, pool),
	CODEC_U64(struct sandbox_row, revision),     CODEC_U64(struct sandbox_row, node),
	CODEC_U64(struct sandbox_row, node_epoch),   CODEC_ENUM(struct sandbox_row, state, SANDBOX_STATES),
	CODEC_U64(struct sandbox_row, generation),   CODEC_U32(struct sandbox_row, cpu_milli),
	CODEC_U64(struct sandbox_row, memory_bytes), CODEC_U64(struct sandbox_row, created_ms),
	CODEC_U64(struct sandbox_row, ready_ms),     CODEC_BOOL(struct sandbox_row, egress),
	CODEC_ENUM(struct sandbox_row, rest, RESTS), CODEC_U64(struct sandbox_row, save),
	CODEC_U64(struct sandbox_row, target),       CODEC_BOOL(struct sandbox_row, asleep),
	CODEC_U64(struct sandbox_row, slept_ms),     CODEC_U64(struct sandbox_row, asleep_ms),
};
const struct codec_type sandbox_row_codec = CODEC_TYPE(struct sandbox_row, "sandbox", sandbox_fields);

static const struct codec_field session_fields[] = {
	CODEC_U64(struct session_row, pool),
	CODEC_SECRET(struct session_row, identifier, IDENTIFIER_MAX),
	CODEC_U64(struct session_row, generation),
	CODEC_U64(struct session_row, sandbox),
	CODEC_U64(struct session_row, node),
	CODEC_ENUM(struct session_row, state, SESSION_STATES),
	CODEC_ENUM(struct session_row, reason, REAP_REASONS),
	CODEC_U64(struct session_row, index),
	CODEC_U64(struct session_row, asked_ms),
	CODEC_U64(struct session_row, opened_ms),
	CODEC_U64(struct session_row, closing_ms),
	CODEC_U64(struct session_row, expires_ms),
	CODEC_ENUM(struct session_row, rest, RESTS),
};
const struct codec_type session_row_codec = CODEC_TYPE(struct session_row, "session", session_fields);

static const struct codec_field sum_fields[] = {
	CODEC_U64(struct sum128, high),
	CODEC_U64(struct sum128, low),
};
static const struct codec_type sum_codec = CODEC_TYPE(struct sum128, "sum", sum_fields);

static const struct codec_field bucket_fields[] = {
	CODEC_U64(struct bucket_row, pool),
	CODEC_U64(struct bucket_row, start_ms),
	CODEC_U32(struct bucket_row, width_ms),
	CODEC_ONE(struct bucket_row, cpu_milli_ms, &sum_codec),
	CODEC_ONE(struct bucket_row, memory_byte_ms, &sum_codec),
	CODEC_ONE(struct bucket_row, sandbox_ms, &sum_codec),
	CODEC_ONE(struct bucket_row, session_ms, &sum_codec),
	CODEC_BOOL(struct bucket_row, final),
	CODEC_ONE(struct bucket_row, asleep_byte_ms, &sum_codec),
};
const struct codec_type bucket_row_codec = CODEC_TYPE(struct bucket_row, "bucket", bucket_fields);

static const struct codec_field rate_fields[] = {
	CODEC_U64(struct rate_row, pool),         CODEC_U64(struct rate_row, since_ms),
	CODEC_U64(struct rate_row, cpu_milli),    CODEC_U64(struct rate_row, memory_bytes),
	CODEC_U64(struct rate_row, sandboxes),    CODEC_U64(struct rate_row, sessions),
	CODEC_U64(struct rate_row, asleep_bytes),
};
const struct codec_type rate_row_codec = CODEC_TYPE(struct rate_row, "rate", rate_fields);

static const struct codec_field record_fields[] = {
	CODEC_U64(struct record_row, number),
	CODEC_U64(struct record_row, pool),
	CODEC_U64(struct record_row, sandbox),
	CODEC_U64(struct record_row, generation),
	CODEC_U64(struct record_row, node),
	CODEC_U64(struct record_row, revision),
	CODEC_STR(struct record_row, pool_name, NAME_MAX_BYTES),
	CODEC_U64(struct record_row, ready_ms),
	CODEC_U64(struct record_row, opened_ms),
	CODEC_U64(struct record_row, closed_ms),
	CODEC_U64(struct record_row, stopped_ms),
	CODEC_U32(struct record_row, cpu_milli),
	CODEC_U64(struct record_row, memory_bytes),
	CODEC_ENUM(struct record_row, reason, REAP_REASONS),
	CODEC_U64(struct record_row, asleep_ms),
};
const struct codec_type record_row_codec = CODEC_TYPE(struct record_row, "record", record_fields);

static const struct codec_field correction_fields[] = {
	CODEC_U64(struct correction_row, number),
	CODEC_U64(struct correction_row, pool),
	CODEC_U64(struct correction_row, sandbox),
	CODEC_U64(struct correction_row, generation),
	CODEC_U64(struct correction_row, from_ms),
	CODEC_U64(struct correction_row, to_ms),
	CODEC_U64(struct correction_row, made_ms),
	CODEC_ONE(struct correction_row, cpu_milli_ms, &sum_codec),
	CODEC_ONE(struct correction_row, memory_byte_ms, &sum_codec),
	CODEC_ONE(struct correction_row, sandbox_ms, &sum_codec),
	CODEC_ONE(struct correction_row, session_ms, &sum_codec),
	CODEC_ONE(struct correction_row, asleep_byte_ms, &sum_codec),
};
const struct codec_type correction_row_codec =
	CODEC_TYPE(struct correction_row, "correction", correction_fields);

static const struct codec_field key_fields[] = {
	CODEC_U64(struct key_row, id),
	CODEC_ENUM(struct key_row, kind, KEY_KINDS),
	CODEC_ENUM(struct key_row, state, KEY_STATES),
	CODEC_SECRET(struct key_row, sealed, KEY_PART_MAX),
	CODEC_STR(struct key_row, public_part, KEY_PART_MAX),
	CODEC_U64(struct key_row, created_ms),
	CODEC_U64(struct key_row, since_ms),
	CODEC_U64(struct key_row, keep_ms),
};
const struct codec_type key_row_codec = CODEC_TYPE(struct key_row, "key", key_fields);

const char *const table_name[TABLES] = {
	[TABLE_CLUSTER] = "cluster",
	[TABLE_POOLS] = "pools",
	[TABLE_REVISIONS] = "revisions",
	[TABLE_SECRETS] = "secrets",
	[TABLE_OPERATIONS] = "operations",
	[TABLE_NODES] = "nodes",
	[TABLE_IMAGES] = "images",
	[TABLE_SANDBOXES] = "sandboxes",
	[TABLE_SESSIONS] = "sessions",
	[TABLE_LEDGER] = "ledger",
	[TABLE_KEYS] = "keys",
	[TABLE_JOIN_TOKENS] = "join-tokens",
};

const char *const member_role_name[MEMBER_ROLES] = {
	[MEMBER_NONE] = "none",
	[MEMBER_STANDBY] = "standby",
	[MEMBER_VOTER] = "voter",
};

const char *const provisioning_name[PROVISIONINGS] = {
	[PROVISIONING_IN_PROGRESS] = "InProgress", [PROVISIONING_SUCCEEDED] = "Succeeded",
	[PROVISIONING_FAILED] = "Failed",          [PROVISIONING_CANCELED] = "Canceled",
	[PROVISIONING_DELETING] = "Deleting",
};

const char *const sandbox_state_name[SANDBOX_STATES] = {
	[SANDBOX_BOOTING] = "booting",
	[SANDBOX_READY] = "ready",
	[SANDBOX_BOUND] = "bound",
	[SANDBOX_STOPPING] = "stopping",
};

const char *const sandbox_rest_name[RESTS] = {
	[REST_AWAKE] = "awake",
	[REST_SAVING] = "saving",
	[REST_SAVED] = "saved",
	[REST_WAKING] = "waking",
};

const char *const session_state_name[SESSION_STATES] = {
	[SESSION_WAITING] = "waiting",
	[SESSION_LIVE] = "live",
	[SESSION_CLOSING] = "closing",
};

const char *const reap_reason_name[REAP_REASONS] = {
	[REAP_IDLE] = "idle",
	[REAP_MAX_ALIVE] = "max-alive",
	[REAP_STOPPED] = "stopped",
	[REAP_EXITED] = "exited",
	[REAP_POOL_DELETED] = "pool-deleted",
	[REAP_DEAD] = "dead",
	[REAP_OUT_OF_MEMORY] = "out-of-memory",
	[REAP_DRAINED] = "drained",
};

const char *const key_kind_name[KEY_KINDS] = {
	[KEY_SECRETS] = "secrets",
	[KEY_ISSUER] = "issuer",
	[KEY_CA] = "ca",
	[KEY_TAGS] = "tags",
};

const char *const key_state_name[KEY_STATES] = {
	[KEY_NEXT] = "next",
	[KEY_ACTIVE] = "active",
	[KEY_RETIRING] = "retiring",
};
