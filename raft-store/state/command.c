/* command.c -- the commands' and results' fields, once. New fields go at the end, new commands too. */
#include "command.h"

#define NAME_MAX_BYTES    256
#define ADDRESS_MAX_BYTES 256
#define LABELS_MAX_BYTES  4096
#define TEXT_MAX_BYTES    1024
#define BODY_MAX_BYTES    (960u * 1024)
#define RENEWALS_MAX      4096
#define DIGESTS_MAX       4096

static const struct codec_field command_fields[] = {
	CODEC_U8(struct command, type),      CODEC_U16(struct command, feature),
	CODEC_U64(struct command, node),     CODEC_U64(struct command, epoch),
	CODEC_U64(struct command, sequence), CODEC_SECRET(struct command, body, BODY_MAX_BYTES),
};
const struct codec_type command_codec = CODEC_TYPE(struct command, "command", command_fields);

static const struct codec_field entry_fields[] = {
	CODEC_U64(struct entry, incarnation),
	CODEC_U64(struct entry, time_ms),
	CODEC_LIST(struct entry, commands, ENTRY_COMMANDS_MAX, &command_codec),
};
const struct codec_type entry_codec = CODEC_TYPE(struct entry, "entry", entry_fields);

static const struct codec_field key_put_fields[] = {
	CODEC_ENUM(struct key_put, kind, KEY_KINDS),
	CODEC_SECRET(struct key_put, sealed, KEY_PART_MAX),
	CODEC_STR(struct key_put, public_part, KEY_PART_MAX),
	CODEC_U64(struct key_put, keep_ms),
};
const struct codec_type key_put_codec = CODEC_TYPE(struct key_put, "key_put", key_put_fields);

static const struct codec_field cluster_init_fields[] = {
	CODEC_STR(struct cmd_cluster_init, id, 64),
	CODEC_ONE(struct cmd_cluster_init, settings, &settings_codec),
	CODEC_LIST(struct cmd_cluster_init, keys, KEY_KINDS, &key_put_codec),
	CODEC_U32(struct cmd_cluster_init, feature_level),
};
static const struct codec_type cluster_init_codec =
	CODEC_TYPE(struct cmd_cluster_init, "cluster_init", cluster_init_fields);

static const struct codec_field node_join_fields[] = {
	CODEC_U64(struct cmd_node_join, id),
	CODEC_STR(struct cmd_node_join, name, NAME_MAX_BYTES),
	CODEC_STR(struct cmd_node_join, raft_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_join, peer_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_join, api_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_join, labels, LABELS_MAX_BYTES),
	CODEC_STR(struct cmd_node_join, version, NAME_MAX_BYTES),
	CODEC_BOOL(struct cmd_node_join, voter),
	CODEC_U64(struct cmd_node_join, cpu_milli),
	CODEC_U64(struct cmd_node_join, memory_bytes),
	CODEC_STR(struct cmd_node_join, control_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_join, boot, NAME_MAX_BYTES),
	CODEC_U32(struct cmd_node_join, feature_level),
	CODEC_U32(struct cmd_node_join, isolations),
	CODEC_STR(struct cmd_node_join, no_vm, NO_VM_MAX),
};
static const struct codec_type node_join_codec =
	CODEC_TYPE(struct cmd_node_join, "node_join", node_join_fields);

static const struct codec_field renewal_fields[] = {
	CODEC_U64(struct renewal, node),
	CODEC_U64(struct renewal, epoch),
	CODEC_U64(struct renewal, sent_ms),
	CODEC_ONE(struct renewal, disk, &disk_room_codec),
};
static const struct codec_type renewal_codec = CODEC_TYPE(struct renewal, "renewal", renewal_fields);

static const struct codec_field node_renew_fields[] = {
	CODEC_LIST(struct cmd_node_renew, renewals, RENEWALS_MAX, &renewal_codec),
};
static const struct codec_type node_renew_codec =
	CODEC_TYPE(struct cmd_node_renew, "node_renew", node_renew_fields);

static const struct codec_field node_lost_fields[] = {
	CODEC_U64(struct cmd_node_lost, node),
	CODEC_U64(struct cmd_node_lost, epoch),
	CODEC_U64(struct cmd_node_lost, renewed_ms),
};
static const struct codec_type node_lost_codec =
	CODEC_TYPE(struct cmd_node_lost, "node_lost", node_lost_fields);

static const struct codec_field node_images_fields[] = {
	CODEC_U64(struct cmd_node_images, node),
	CODEC_STRS(struct cmd_node_images, digests, DIGESTS_MAX),
};
static const struct codec_type node_images_codec =
	CODEC_TYPE(struct cmd_node_images, "node_images", node_images_fields);

static const struct codec_field operation_step_fields[] = {
	CODEC_U64(struct cmd_operation_step, operation),
	CODEC_ENUM(struct cmd_operation_step, phase, PHASES),
	CODEC_ENUM(struct cmd_operation_step, from, PHASES),
	CODEC_STR(struct cmd_operation_step, digest, DIGEST_MAX),
	CODEC_STR(struct cmd_operation_step, code, TEXT_MAX_BYTES),
	CODEC_STR(struct cmd_operation_step, message, TEXT_MAX_BYTES),
};
static const struct codec_type operation_step_codec =
	CODEC_TYPE(struct cmd_operation_step, "operation_step", operation_step_fields);

static const struct codec_field sandbox_boot_fields[] = {
	CODEC_U64(struct cmd_sandbox_boot, pool),
	CODEC_U64(struct cmd_sandbox_boot, revision),
	CODEC_U64(struct cmd_sandbox_boot, node),
};
static const struct codec_type sandbox_boot_codec =
	CODEC_TYPE(struct cmd_sandbox_boot, "sandbox_boot", sandbox_boot_fields);

static const struct codec_field sandbox_fields[] = {
	CODEC_U64(struct cmd_sandbox, sandbox),
};
static const struct codec_type sandbox_codec = CODEC_TYPE(struct cmd_sandbox, "sandbox", sandbox_fields);

static const struct codec_field sandbox_gone_fields[] = {
	CODEC_U64(struct cmd_sandbox_gone, sandbox),
	CODEC_U64(struct cmd_sandbox_gone, stopped_ms),
	CODEC_BOOL(struct cmd_sandbox_gone, failed),
	CODEC_BOOL(struct cmd_sandbox_gone, unserved),
	CODEC_STR(struct cmd_sandbox_gone, message, TEXT_MAX_BYTES),
	CODEC_BOOL(struct cmd_sandbox_gone, out_of_memory),
};
static const struct codec_type sandbox_gone_codec =
	CODEC_TYPE(struct cmd_sandbox_gone, "sandbox_gone", sandbox_gone_fields);

static const struct codec_field session_open_fields[] = {
	CODEC_U64(struct cmd_session_open, pool),
	CODEC_SECRET(struct cmd_session_open, identifier, IDENTIFIER_MAX),
	CODEC_U64(struct cmd_session_open, preferred),
	CODEC_BOOL(struct cmd_session_open, require_existing),
};
static const struct codec_type session_open_codec =
	CODEC_TYPE(struct cmd_session_open, "session_open", session_open_fields);

static const struct codec_field session_closing_fields[] = {
	CODEC_U64(struct cmd_session_closing, pool),
	CODEC_U64(struct cmd_session_closing, generation),
	CODEC_ENUM(struct cmd_session_closing, reason, REAP_REASONS),
};
static const struct codec_type session_closing_codec =
	CODEC_TYPE(struct cmd_session_closing, "session_closing", session_closing_fields);

static const struct codec_field session_closed_fields[] = {
	CODEC_U64(struct cmd_session_closed, pool),
	CODEC_U64(struct cmd_session_closed, generation),
	CODEC_U64(struct cmd_session_closed, stopped_ms),
	CODEC_BOOL(struct cmd_session_closed, unserved),
};
static const struct codec_type session_closed_codec =
	CODEC_TYPE(struct cmd_session_closed, "session_closed", session_closed_fields);

static const struct codec_field session_fields[] = {
	CODEC_U64(struct cmd_session, pool),
	CODEC_U64(struct cmd_session, generation),
};
static const struct codec_type session_codec = CODEC_TYPE(struct cmd_session, "session", session_fields);

static const struct codec_field sandbox_move_fields[] = {
	CODEC_U64(struct cmd_sandbox_move, sandbox),
	CODEC_U64(struct cmd_sandbox_move, target),
};
static const struct codec_type sandbox_move_codec =
	CODEC_TYPE(struct cmd_sandbox_move, "sandbox_move", sandbox_move_fields);

static const struct codec_field sandbox_save_fields[] = {
	CODEC_U64(struct cmd_sandbox_save, sandbox),
	CODEC_U64(struct cmd_sandbox_save, save),
};
static const struct codec_type sandbox_save_codec =
	CODEC_TYPE(struct cmd_sandbox_save, "sandbox_save", sandbox_save_fields);

static const struct codec_field records_trim_fields[] = {
	CODEC_U64(struct cmd_records_trim, up_to),
};
static const struct codec_type records_trim_codec =
	CODEC_TYPE(struct cmd_records_trim, "records_trim", records_trim_fields);

static const struct codec_field cmd_key_put_fields[] = {
	CODEC_ONE(struct cmd_key_put, key, &key_put_codec),
};
static const struct codec_type cmd_key_put_codec =
	CODEC_TYPE(struct cmd_key_put, "key_put", cmd_key_put_fields);

static const struct codec_field key_use_fields[] = {
	CODEC_U64(struct cmd_key, id),
};
static const struct codec_type key_use_codec = CODEC_TYPE(struct cmd_key, "key_use", key_use_fields);

static const struct codec_field key_retire_fields[] = {
	CODEC_U64(struct cmd_key_retire, id),
	CODEC_BOOL(struct cmd_key_retire, early),
};
static const struct codec_type key_retire_codec =
	CODEC_TYPE(struct cmd_key_retire, "key_retire", key_retire_fields);

static const struct codec_field secret_reseal_fields[] = {
	CODEC_U64(struct cmd_secret_reseal, pool),
	CODEC_STR(struct cmd_secret_reseal, name, NAME_MAX_BYTES),
	CODEC_U64(struct cmd_secret_reseal, was),
	CODEC_SECRET(struct cmd_secret_reseal, sealed, SECRET_MAX + 128),
};
static const struct codec_type secret_reseal_codec =
	CODEC_TYPE(struct cmd_secret_reseal, "secret_reseal", secret_reseal_fields);

static const struct codec_field node_keys_fields[] = {
	CODEC_U64(struct cmd_node_keys, newest_key),
	CODEC_U64(struct cmd_node_keys, ca_key),
};
static const struct codec_type node_keys_codec =
	CODEC_TYPE(struct cmd_node_keys, "node_keys", node_keys_fields);

static const struct codec_field node_able_fields[] = {
	CODEC_U32(struct cmd_node_able, isolations),
	CODEC_STR(struct cmd_node_able, no_vm, NO_VM_MAX),
};
static const struct codec_type node_able_codec =
	CODEC_TYPE(struct cmd_node_able, "node_able", node_able_fields);

static const struct codec_field node_token_fields[] = {
	CODEC_STR(struct cmd_node_token, hash, 64),
	CODEC_BOOL(struct cmd_node_token, voter),
	CODEC_U64(struct cmd_node_token, life_ms),
};
static const struct codec_type node_token_codec =
	CODEC_TYPE(struct cmd_node_token, "node_token", node_token_fields);

static const struct codec_field node_admit_fields[] = {
	CODEC_STR(struct cmd_node_admit, hash, 64),
	CODEC_STR(struct cmd_node_admit, key, 64),
	CODEC_STR(struct cmd_node_admit, name, NAME_MAX_BYTES),
	CODEC_STR(struct cmd_node_admit, raft_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_admit, control_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_admit, peer_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_admit, api_address, ADDRESS_MAX_BYTES),
	CODEC_STR(struct cmd_node_admit, version, NAME_MAX_BYTES),
};
static const struct codec_type node_admit_codec =
	CODEC_TYPE(struct cmd_node_admit, "node_admit", node_admit_fields);

static const struct codec_field node_leave_fields[] = {
	CODEC_U64(struct cmd_node_leave, node),
	CODEC_BOOL(struct cmd_node_leave, force),
};
static const struct codec_type node_leave_codec =
	CODEC_TYPE(struct cmd_node_leave, "node_leave", node_leave_fields);

static const struct codec_field node_drop_fields[] = {
	CODEC_U64(struct cmd_node_drop, node),
};
static const struct codec_type node_drop_codec =
	CODEC_TYPE(struct cmd_node_drop, "node_drop", node_drop_fields);

static const struct codec_field member_begin_fields[] = {
	CODEC_U64(struct cmd_member_begin, node),
	CODEC_ENUM(struct cmd_member_begin, role, MEMBER_ROLES),
};
static const struct codec_type member_begin_codec =
	CODEC_TYPE(struct cmd_member_begin, "member_begin", member_begin_fields);

static const struct codec_field member_end_fields[] = {
	CODEC_U64(struct cmd_member_end, operation),
	CODEC_STR(struct cmd_member_end, message, TEXT_MAX_BYTES),
};
static const struct codec_type member_end_codec =
	CODEC_TYPE(struct cmd_member_end, "member_end", member_end_fields);

static const struct codec_field result_fields[] = {
	CODEC_I32(struct result, code),      CODEC_STR(struct result, message, TEXT_MAX_BYTES),
	CODEC_U64(struct result, index),     CODEC_U64(struct result, id),
	CODEC_U64(struct result, operation), CODEC_ONE(struct result, session, &session_ref_codec),
	CODEC_BOOL(struct result, created),  CODEC_BOOL(struct result, waiting),
};
const struct codec_type result_codec = CODEC_TYPE(struct result, "result", result_fields);

const struct codec_type *const command_body_codec[COMMAND_TYPES] = {
	[COMMAND_CLUSTER_INIT] = &cluster_init_codec,
	[COMMAND_NODE_JOIN] = &node_join_codec,
	[COMMAND_NODE_RENEW] = &node_renew_codec,
	[COMMAND_NODE_LOST] = &node_lost_codec,
	[COMMAND_NODE_ORDER] = &node_order_codec,
	[COMMAND_NODE_IMAGES] = &node_images_codec,
	[COMMAND_POOL_PUT] = &pool_put_codec,
	[COMMAND_POOL_DELETE] = &pool_delete_codec,
	[COMMAND_OPERATION_STEP] = &operation_step_codec,
	[COMMAND_SANDBOX_BOOT] = &sandbox_boot_codec,
	[COMMAND_SANDBOX_READY] = &sandbox_codec,
	[COMMAND_SANDBOX_STOPPING] = &sandbox_codec,
	[COMMAND_SANDBOX_GONE] = &sandbox_gone_codec,
	[COMMAND_SESSION_OPEN] = &session_open_codec,
	[COMMAND_SESSION_CLOSING] = &session_closing_codec,
	[COMMAND_SESSION_CLOSED] = &session_closed_codec,
	[COMMAND_WAITERS_EXPIRE] = NULL,
	[COMMAND_RECORDS_TRIM] = &records_trim_codec,
	[COMMAND_KEY_PUT] = &cmd_key_put_codec,
	[COMMAND_KEY_USE] = &key_use_codec,
	[COMMAND_KEY_RETIRE] = &key_retire_codec,
	[COMMAND_SECRET_RESEAL] = &secret_reseal_codec,
	[COMMAND_NODE_KEYS] = &node_keys_codec,
	[COMMAND_NODE_TOKEN] = &node_token_codec,
	[COMMAND_NODE_ADMIT] = &node_admit_codec,
	[COMMAND_NODE_LEAVE] = &node_leave_codec,
	[COMMAND_NODE_DROP] = &node_drop_codec,
	[COMMAND_MEMBER_BEGIN] = &member_begin_codec,
	[COMMAND_MEMBER_END] = &member_end_codec,
	[COMMAND_CLUSTER_LEVEL] = &cluster_level_codec,
	[COMMAND_SESSION_SUSPEND] = &session_codec,
	[COMMAND_SESSION_WAKE] = &session_codec,
	[COMMAND_SANDBOX_MOVE] = &sandbox_move_codec,
	[COMMAND_SANDBOX_SAVED] = &sandbox_save_codec,
	[COMMAND_SANDBOX_KEPT] = &sandbox_save_codec,
	[COMMAND_SANDBOX_MOVED] = &sandbox_save_codec,
	[COMMAND_SANDBOX_AWAKE] = &sandbox_save_codec,
	[COMMAND_NODE_ABLE] = &node_able_codec,
};

const char *const command_type_name[COMMAND_TYPES] = {
	[COMMAND_NONE] = "none",
	[COMMAND_CLUSTER_INIT] = "cluster-init",
	[COMMAND_NODE_JOIN] = "node-join",
	[COMMAND_NODE_RENEW] = "node-renew",
	[COMMAND_NODE_LOST] = "node-lost",
	[COMMAND_NODE_ORDER] = "node-order",
	[COMMAND_NODE_IMAGES] = "node-images",
	[COMMAND_POOL_PUT] = "pool-put",
	[COMMAND_POOL_DELETE] = "pool-delete",
	[COMMAND_OPERATION_STEP] = "operation-step",
	[COMMAND_SANDBOX_BOOT] = "sandbox-boot",
	[COMMAND_SANDBOX_READY] = "sandbox-ready",
	[COMMAND_SANDBOX_STOPPING] = "sandbox-stopping",
	[COMMAND_SANDBOX_GONE] = "sandbox-gone",
	[COMMAND_SESSION_OPEN] = "session-open",
	[COMMAND_SESSION_CLOSING] = "session-closing",
	[COMMAND_SESSION_CLOSED] = "session-closed",
	[COMMAND_WAITERS_EXPIRE] = "waiters-expire",
	[COMMAND_RECORDS_TRIM] = "records-trim",
	[COMMAND_KEY_PUT] = "key-put",
	[COMMAND_KEY_USE] = "key-use",
	[COMMAND_KEY_RETIRE] = "key-retire",
	[COMMAND_SECRET_RESEAL] = "secret-reseal",
	[COMMAND_NODE_KEYS] = "node-keys",
	[COMMAND_NODE_TOKEN] = "node-token",
	[COMMAND_NODE_ADMIT] = "node-admit",
	[COMMAND_NODE_LEAVE] = "node-leave",
	[COMMAND_NODE_DROP] = "node-drop",
	[COMMAND_MEMBER_BEGIN] = "member-begin",
	[COMMAND_MEMBER_END] = "member-end",
	[COMMAND_CLUSTER_LEVEL] = "cluster-level",
	[COMMAND_SESSION_SUSPEND] = "session-suspend",
	[COMMAND_SESSION_WAKE] = "session-wake",
	[COMMAND_SANDBOX_MOVE] = "sandbox-move",
	[COMMAND_SANDBOX_SAVED] = "sandbox-saved",
	[COMMAND_SANDBOX_KEPT] = "sandbox-kept",
	[COMMAND_SANDBOX_MOVED] = "sandbox-moved",
	[COMMAND_SANDBOX_AWAKE] = "sandbox-awake",
	[COMMAND_NODE_ABLE] = "node-able",
};

bool command_of_workers(uint8_t type)
{
	return type == COMMAND_NODE_JOIN || type == COMMAND_NODE_IMAGES || type == COMMAND_NODE_KEYS ||
	       type == COMMAND_SANDBOX_READY || type == COMMAND_SANDBOX_GONE ||
	       type == COMMAND_SESSION_CLOSING || type == COMMAND_SESSION_CLOSED ||
	       type == COMMAND_SANDBOX_SAVED || type == COMMAND_SANDBOX_KEPT ||
	       type == COMMAND_SANDBOX_MOVED || type == COMMAND_SANDBOX_AWAKE || type == COMMAND_NODE_ABLE;
}

static const bool begins[COMMAND_TYPES] = {
	[COMMAND_CLUSTER_INIT] = true,    [COMMAND_NODE_IMAGES] = true,  [COMMAND_POOL_PUT] = true,
	[COMMAND_SANDBOX_BOOT] = true,    [COMMAND_SESSION_OPEN] = true, [COMMAND_KEY_PUT] = true,
	[COMMAND_NODE_TOKEN] = true,      [COMMAND_NODE_ADMIT] = true,   [COMMAND_MEMBER_BEGIN] = true,
	[COMMAND_SESSION_SUSPEND] = true, [COMMAND_SESSION_WAKE] = true, [COMMAND_SANDBOX_MOVE] = true,
};

bool command_ends(uint8_t type)
{
	return type < COMMAND_TYPES && !begins[type];
}
