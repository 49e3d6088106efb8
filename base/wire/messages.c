#include "messages.h"

#include "sandboxd.h"

#define TEXT_MAX     1024
#define DOCUMENT_MAX (256u * 1024)

static const struct codec_field session_ref_fields[] = {
	CODEC_U64(struct session_ref, pool),    CODEC_U64(struct session_ref, generation),
	CODEC_U64(struct session_ref, sandbox), CODEC_U64(struct session_ref, node),
	CODEC_U64(struct session_ref, index),   CODEC_U64(struct session_ref, opened_ms),
};
const struct codec_type session_ref_codec = CODEC_TYPE(struct session_ref, "session", session_ref_fields);

static const struct codec_field leading_fields[] = {
	CODEC_BOOL(struct msg_leading, leading),
	CODEC_U64(struct msg_leading, term),
};
static const struct codec_type leading_codec = CODEC_TYPE(struct msg_leading, "leading", leading_fields);

static const struct codec_field changed_fields[] = {
	CODEC_U8(struct msg_changed, table),     CODEC_U64(struct msg_changed, key),
	CODEC_U64(struct msg_changed, index),    CODEC_U64(struct msg_changed, pool),
	CODEC_BOOL(struct msg_changed, removed),
};
static const struct codec_type changed_codec = CODEC_TYPE(struct msg_changed, "changed", changed_fields);

static const struct codec_field proposed_fields[] = {
	CODEC_I32(struct msg_proposed, code),
	CODEC_STR(struct msg_proposed, message, TEXT_MAX),
	CODEC_U64(struct msg_proposed, index),
	CODEC_U64(struct msg_proposed, id),
	CODEC_ONE(struct msg_proposed, session, &session_ref_codec),
	CODEC_BOOL(struct msg_proposed, created),
	CODEC_U64(struct msg_proposed, operation),
	CODEC_BOOL(struct msg_proposed, waiting),
};
static const struct codec_type proposed_codec = CODEC_TYPE(struct msg_proposed, "proposed", proposed_fields);

static const struct codec_field adopted_fields[] = {
	CODEC_U64(struct msg_adopted, sandbox),  CODEC_I64(struct msg_adopted, pid),
	CODEC_BOOL(struct msg_adopted, running), CODEC_BOOL(struct msg_adopted, egress),
	CODEC_BOOL(struct msg_adopted, parked),  CODEC_U64(struct msg_adopted, save),
};
static const struct codec_type adopted_codec = CODEC_TYPE(struct msg_adopted, "adopted", adopted_fields);

static const struct codec_field probed_fields[] = {
	CODEC_BOOL(struct msg_probed, ok),
	CODEC_STR(struct msg_probed, message, TEXT_MAX),
};
static const struct codec_type probed_codec = CODEC_TYPE(struct msg_probed, "probed", probed_fields);

static const struct codec_field open_fields[] = {
	CODEC_U64(struct msg_open, pool),
	CODEC_SECRET(struct msg_open, identifier, IDENTIFIER_MAX),
	CODEC_BOOL(struct msg_open, require_existing),
	CODEC_U64(struct msg_open, gone),
};
static const struct codec_type open_codec = CODEC_TYPE(struct msg_open, "open", open_fields);

static const struct codec_field opened_fields[] = {
	CODEC_ENUM(struct msg_opened, code, OPEN_CODES),
	CODEC_STR(struct msg_opened, message, TEXT_MAX),
	CODEC_ONE(struct msg_opened, session, &session_ref_codec),
	CODEC_BOOL(struct msg_opened, created),
	CODEC_U32(struct msg_opened, allocation_ms),
	CODEC_U32(struct msg_opened, retry_after_s),
};
static const struct codec_type opened_codec = CODEC_TYPE(struct msg_opened, "opened", opened_fields);

static const struct codec_field session_event_fields[] = {
	CODEC_U64(struct msg_session_event, pool),
	CODEC_U64(struct msg_session_event, generation),
	CODEC_U64(struct msg_session_event, sandbox),
	CODEC_SECRET(struct msg_session_event, identifier, IDENTIFIER_MAX),
	CODEC_STR(struct msg_session_event, reason, TEXT_MAX),
};
static const struct codec_type session_event_codec =
	CODEC_TYPE(struct msg_session_event, "session_event", session_event_fields);

static const struct codec_field quiet_fields[] = {
	CODEC_U64(struct msg_quiet, generation),
	CODEC_U32(struct msg_quiet, in_flight),
	CODEC_U64(struct msg_quiet, last_activity_boot_ms),
	CODEC_BOOL(struct msg_quiet, served),
	CODEC_U32(struct msg_quiet, requests),
};
static const struct codec_type quiet_codec = CODEC_TYPE(struct msg_quiet, "quiet", quiet_fields);

static const struct codec_field reap_fields[] = {
	CODEC_ENUM(struct msg_reap, reason, REAP_REASONS),
};
static const struct codec_type reap_codec = CODEC_TYPE(struct msg_reap, "reap", reap_fields);

static const struct codec_field reaped_fields[] = {
	CODEC_BOOL(struct msg_reaped, closed),
	CODEC_U64(struct msg_reaped, last_activity_boot_ms),
};
static const struct codec_type reaped_codec = CODEC_TYPE(struct msg_reaped, "reaped", reaped_fields);

static const struct codec_field secret_put_fields[] = {
	CODEC_STR(struct secret_put, name, 256),
	CODEC_SECRET(struct secret_put, sealed, SECRET_MAX + 128),
};
const struct codec_type secret_put_codec = CODEC_TYPE(struct secret_put, "secret", secret_put_fields);

static const struct codec_field pool_limits_fields[] = {
	CODEC_U32(struct pool_limits, max_sessions),
	CODEC_U32(struct pool_limits, ready_target),
	CODEC_U64(struct pool_limits, cooldown_ms),
	CODEC_U64(struct pool_limits, max_alive_ms),
	CODEC_ENUM(struct pool_limits, lifecycle, LIFECYCLES),
	CODEC_BOOL(struct pool_limits, egress),
};
const struct codec_type pool_limits_codec = CODEC_TYPE(struct pool_limits, "limits", pool_limits_fields);

static const struct codec_field pool_put_fields[] = {
	CODEC_STR(struct msg_pool_put, subscription, 128),
	CODEC_STR(struct msg_pool_put, resource_group, 128),
	CODEC_STR(struct msg_pool_put, name, 64),
	CODEC_STR(struct msg_pool_put, document, DOCUMENT_MAX),
	CODEC_ONE(struct msg_pool_put, limits, &pool_limits_codec),
	CODEC_ONE(struct msg_pool_put, template, &template_codec),
	CODEC_LIST(struct msg_pool_put, secrets, 64, &secret_put_codec),
	CODEC_U64(struct msg_pool_put, expect_uid),
	CODEC_U64(struct msg_pool_put, expect_operation),
	CODEC_BOOL(struct msg_pool_put, new_revision),
	CODEC_ENUM(struct msg_pool_put, isolation, ISOLATIONS),
};
const struct codec_type pool_put_codec = CODEC_TYPE(struct msg_pool_put, "pool_put", pool_put_fields);

static const struct codec_field pool_delete_fields[] = {
	CODEC_U64(struct msg_pool_delete, pool),
};
const struct codec_type pool_delete_codec =
	CODEC_TYPE(struct msg_pool_delete, "pool_delete", pool_delete_fields);

static const struct codec_field pool_answer_fields[] = {
	CODEC_I32(struct msg_pool_answer, code),     CODEC_STR(struct msg_pool_answer, message, TEXT_MAX),
	CODEC_U64(struct msg_pool_answer, pool),     CODEC_U64(struct msg_pool_answer, operation),
	CODEC_BOOL(struct msg_pool_answer, created),
};
static const struct codec_type pool_answer_codec =
	CODEC_TYPE(struct msg_pool_answer, "pool_answer", pool_answer_fields);

static const struct codec_field stop_fields[] = {
	CODEC_U64(struct msg_stop, pool),
	CODEC_SECRET(struct msg_stop, identifier, IDENTIFIER_MAX),
};
static const struct codec_type stop_codec = CODEC_TYPE(struct msg_stop, "stop", stop_fields);

static const struct codec_field stopped_fields[] = {
	CODEC_I32(struct msg_stopped, code),
	CODEC_STR(struct msg_stopped, message, TEXT_MAX),
};
static const struct codec_type stopped_codec = CODEC_TYPE(struct msg_stopped, "stopped", stopped_fields);

static const struct codec_field rest_fields[] = {
	CODEC_U64(struct msg_rest, pool),
	CODEC_SECRET(struct msg_rest, identifier, IDENTIFIER_MAX),
	CODEC_BOOL(struct msg_rest, resume),
};
static const struct codec_type rest_codec = CODEC_TYPE(struct msg_rest, "rest", rest_fields);

static const struct codec_field rested_fields[] = {
	CODEC_I32(struct msg_rested, code),
	CODEC_STR(struct msg_rested, message, TEXT_MAX),
	CODEC_U64(struct msg_rested, index),
};
static const struct codec_type rested_codec = CODEC_TYPE(struct msg_rested, "rested", rested_fields);

static const struct codec_field copy_fields[] = {
	CODEC_U64(struct msg_copy, sandbox),
	CODEC_U64(struct msg_copy, save),
	CODEC_U64(struct msg_copy, offset),
};
static const struct codec_type copy_codec = CODEC_TYPE(struct msg_copy, "copy", copy_fields);

static const struct codec_field copied_fields[] = {
	CODEC_I32(struct msg_copied, code),
	CODEC_STR(struct msg_copied, message, TEXT_MAX),
	CODEC_U64(struct msg_copied, offset),
	CODEC_U64(struct msg_copied, bytes),
	CODEC_SECRET(struct msg_copied, piece, COPY_PIECE_MAX),
	CODEC_STR(struct msg_copied, sum, 32),
};
static const struct codec_type copied_codec = CODEC_TYPE(struct msg_copied, "copied", copied_fields);

static const struct codec_field cache_fields[] = {
	CODEC_U64(struct msg_cache, pool),
	CODEC_STR(struct msg_cache, image, IMAGE_REFERENCE_MAX),
	CODEC_STR(struct msg_cache, digest, DIGEST_MAX),
};
static const struct codec_type cache_codec = CODEC_TYPE(struct msg_cache, "cache", cache_fields);

static const struct codec_field cached_fields[] = {
	CODEC_I32(struct msg_cached, code),
	CODEC_STR(struct msg_cached, message, TEXT_MAX),
	CODEC_STR(struct msg_cached, digest, DIGEST_MAX),
};
static const struct codec_type cached_codec = CODEC_TYPE(struct msg_cached, "cached", cached_fields);

static const struct codec_field refused_fields[] = {
	CODEC_I32(struct msg_refused, code),
	CODEC_STR(struct msg_refused, message, TEXT_MAX),
};
static const struct codec_type refused_codec = CODEC_TYPE(struct msg_refused, "refused", refused_fields);

static const struct codec_field node_order_fields[] = {
	CODEC_U64(struct msg_node_order, node),
	CODEC_ENUM(struct msg_node_order, order, NODE_ORDERS),
	CODEC_U64(struct msg_node_order, deadline_ms),
};
const struct codec_type node_order_codec = CODEC_TYPE(struct msg_node_order, "node_order", node_order_fields);

static const struct codec_field cluster_level_fields[] = {
	CODEC_U32(struct msg_cluster_level, feature_level),
};
const struct codec_type cluster_level_codec =
	CODEC_TYPE(struct msg_cluster_level, "cluster_level", cluster_level_fields);

static const struct codec_field node_ordered_fields[] = {
	CODEC_I32(struct msg_node_ordered, code),
	CODEC_STR(struct msg_node_ordered, message, TEXT_MAX),
	CODEC_U64(struct msg_node_ordered, index),
};
static const struct codec_type node_ordered_codec =
	CODEC_TYPE(struct msg_node_ordered, "node_ordered", node_ordered_fields);

static const struct codec_field halt_fields[] = {
	CODEC_U32(struct msg_halt, grace_ms),
	CODEC_BOOL(struct msg_halt, unserved),
	CODEC_STR(struct msg_halt, reason, TEXT_MAX),
};
static const struct codec_type halt_codec = CODEC_TYPE(struct msg_halt, "halt", halt_fields);

static const struct codec_field halted_fields[] = {
	CODEC_U64(struct msg_halted, stopped_ms),
};
static const struct codec_type halted_codec = CODEC_TYPE(struct msg_halted, "halted", halted_fields);

static const struct codec_field disk_room_fields[] = {
	CODEC_U64(struct disk_room, bytes),
	CODEC_U64(struct disk_room, free),
	CODEC_BOOL(struct disk_room, nearly_full),
};
const struct codec_type disk_room_codec = CODEC_TYPE(struct disk_room, "disk", disk_room_fields);

static const struct codec_field renew_fields[] = {
	CODEC_U64(struct msg_renew, node),
	CODEC_U64(struct msg_renew, epoch),
	CODEC_U64(struct msg_renew, sent_ms),
	CODEC_ONE(struct msg_renew, disk, &disk_room_codec),
};
static const struct codec_type renew_codec = CODEC_TYPE(struct msg_renew, "renew", renew_fields);

static const struct codec_field renewed_fields[] = {
	CODEC_U64(struct msg_renewed, epoch),
	CODEC_U64(struct msg_renewed, sent_ms),
};
static const struct codec_type renewed_codec = CODEC_TYPE(struct msg_renewed, "renewed", renewed_fields);

static const struct codec_field orphans_fields[] = {
	CODEC_U64(struct msg_orphans, node),
	CODEC_UINTS(struct msg_orphans, sandboxes, ORPHANS_MAX),
};
static const struct codec_type orphans_codec = CODEC_TYPE(struct msg_orphans, "orphans", orphans_fields);

static const struct codec_field log_fields[] = {
	CODEC_U64(struct msg_log, sandbox),
	CODEC_U64(struct msg_log, offset),
	CODEC_U32(struct msg_log, tail),
	CODEC_U64(struct msg_log, pool),
	CODEC_STR(struct msg_log, tag, SESSION_TAG_MAX),
	CODEC_BOOL(struct msg_log, find),
	CODEC_BOOL(struct msg_log, older),
};
static const struct codec_type log_codec = CODEC_TYPE(struct msg_log, "log", log_fields);

static const struct codec_field logged_fields[] = {
	CODEC_I32(struct msg_logged, code),
	CODEC_STR(struct msg_logged, message, TEXT_MAX),
	CODEC_STR(struct msg_logged, bytes, LOG_PIECE_MAX),
	CODEC_U64(struct msg_logged, offset),
	CODEC_U64(struct msg_logged, sandbox),
	CODEC_U64(struct msg_logged, ended_ms),
};
static const struct codec_type logged_codec = CODEC_TYPE(struct msg_logged, "logged", logged_fields);

static const struct codec_field figure_fields[] = {
	CODEC_STR(struct figure, name, 64),
	CODEC_U64(struct figure, value),
};
static const struct codec_type figure_codec = CODEC_TYPE(struct figure, "figure", figure_fields);

static const struct codec_field held_fields[] = {
	CODEC_U64(struct msg_held, uptime_ms),
	CODEC_U64(struct msg_held, lease_ms),
	CODEC_STR(struct msg_held, version, 64),
	CODEC_STR(struct msg_held, sandboxd_version, 64),
	CODEC_LIST(struct msg_held, holdings, HOLDINGS_MAX, &holding_codec),
	CODEC_LIST(struct msg_held, figures, FIGURES_MAX, &figure_codec),
};
static const struct codec_type held_codec = CODEC_TYPE(struct msg_held, "held", held_fields);

static const struct codec_field certify_fields[] = {
	CODEC_ENUM(struct msg_certify, use, 2),
	CODEC_STR(struct msg_certify, csr, CERTIFICATE_MAX),
};
static const struct codec_type certify_codec = CODEC_TYPE(struct msg_certify, "certify", certify_fields);

static const struct codec_field certified_fields[] = {
	CODEC_STR(struct msg_certified, cert, CERTIFICATE_MAX),
};
static const struct codec_type certified_codec =
	CODEC_TYPE(struct msg_certified, "certified", certified_fields);

static const struct codec_field indexed_fields[] = {
	CODEC_U64(struct msg_indexed, index),
};
static const struct codec_type indexed_codec = CODEC_TYPE(struct msg_indexed, "indexed", indexed_fields);

static const struct codec_field activity_fields[] = {
	CODEC_UINTS(struct msg_activity, generations, ACTIVITY_MAX),
};
static const struct codec_type activity_codec = CODEC_TYPE(struct msg_activity, "activity", activity_fields);

static const struct codec_field active_fields[] = {
	CODEC_UINTS(struct msg_active, generations, ACTIVITY_MAX),
	CODEC_UINTS(struct msg_active, ago_ms, ACTIVITY_MAX),
};
static const struct codec_type active_codec = CODEC_TYPE(struct msg_active, "active", active_fields);

static const struct codec_field unseal_fields[] = {
	CODEC_U64(struct msg_unseal, sandbox),
	CODEC_U64(struct msg_unseal, pool),
	CODEC_U64(struct msg_unseal, revision),
};
static const struct codec_type unseal_codec = CODEC_TYPE(struct msg_unseal, "unseal", unseal_fields);

static const struct codec_field secret_value_fields[] = {
	CODEC_STR(struct secret_value, name, 256),
	CODEC_SECRET(struct secret_value, value, SECRET_MAX),
};
static const struct codec_type secret_value_codec =
	CODEC_TYPE(struct secret_value, "secret value", secret_value_fields);

static const struct codec_field unsealed_fields[] = {
	CODEC_I32(struct msg_unsealed, code),
	CODEC_STR(struct msg_unsealed, message, TEXT_MAX),
	CODEC_LIST(struct msg_unsealed, values, TEMPLATE_ENV_MAX, &secret_value_codec),
};
static const struct codec_type unsealed_codec = CODEC_TYPE(struct msg_unsealed, "unsealed", unsealed_fields);

static const struct codec_field relay_fields[] = {
	CODEC_STR(struct msg_relay, method, 32),
	CODEC_STR(struct msg_relay, path, RELAY_TARGET_MAX),
	CODEC_STR(struct msg_relay, query, RELAY_TARGET_MAX),
	CODEC_STR(struct msg_relay, host, RELAY_TARGET_MAX),
	CODEC_SECRET(struct msg_relay, authorization, 2 * RELAY_TARGET_MAX),
	CODEC_STR(struct msg_relay, content_type, RELAY_TARGET_MAX),
	CODEC_STR(struct msg_relay, accept, RELAY_TARGET_MAX),
	CODEC_STR(struct msg_relay, client_request_id, RELAY_TARGET_MAX),
	CODEC_BOOL(struct msg_relay, tls),
	CODEC_U64(struct msg_relay, pool),
	CODEC_SECRET(struct msg_relay, body, RELAY_BODY_MAX),
};
static const struct codec_type relay_codec = CODEC_TYPE(struct msg_relay, "relay", relay_fields);

static const struct codec_field relayed_fields[] = {
	CODEC_U32(struct msg_relayed, status),
	CODEC_LIST(struct msg_relayed, headers, RELAY_HEADERS_MAX, &http_header_codec),
	CODEC_STR(struct msg_relayed, body, RELAY_BODY_MAX),
};
static const struct codec_type relayed_codec = CODEC_TYPE(struct msg_relayed, "relayed", relayed_fields);

/* MSG_DRIVEN and MSG_EXITED carry the reply and the event of sandboxd.h. */
static const struct codec_field pulsed_fields[] = {
	CODEC_U64(struct msg_pulsed, index),
	CODEC_U64(struct msg_pulsed, wall_ms),
};
static const struct codec_type pulsed_codec = CODEC_TYPE(struct msg_pulsed, "pulsed", pulsed_fields);

const struct codec_type *const message_body_codec[MSG_TYPES] = {
	[MSG_PART] = &session_event_codec,
	[MSG_COPY] = &copy_codec,
	[MSG_COPIED] = &copied_codec,
	[MSG_REST] = &rest_codec,
	[MSG_RESTED] = &rested_codec,
	[MSG_LEADING] = &leading_codec,
	[MSG_CHANGED] = &changed_codec,
	[MSG_PROPOSED] = &proposed_codec,
	[MSG_DRIVEN] = &sandboxd_reply_codec,
	[MSG_EXITED] = &sandboxd_exited_codec,
	[MSG_ADOPTED] = &adopted_codec,
	[MSG_PROBED] = &probed_codec,
	[MSG_OPEN] = &open_codec,
	[MSG_OPENED] = &opened_codec,
	[MSG_DEAD] = &session_event_codec,
	[MSG_QUIESCE] = &session_event_codec,
	[MSG_QUIET] = &quiet_codec,
	[MSG_REOPEN] = &session_event_codec,
	[MSG_ENDED] = &session_event_codec,
	[MSG_REAP] = &reap_codec,
	[MSG_REAPED] = &reaped_codec,
	[MSG_POOL_PUT] = &pool_put_codec,
	[MSG_POOL_DELETE] = &pool_delete_codec,
	[MSG_POOL_ANSWER] = &pool_answer_codec,
	[MSG_STOP] = &stop_codec,
	[MSG_STOPPED] = &stopped_codec,
	[MSG_CACHE] = &cache_codec,
	[MSG_CACHED] = &cached_codec,
	[MSG_REFUSED] = &refused_codec,
	[MSG_INDEXED] = &indexed_codec,
	[MSG_CERTIFY] = &certify_codec,
	[MSG_CERTIFIED] = &certified_codec,
	[MSG_ACTIVITY] = &activity_codec,
	[MSG_ACTIVE] = &active_codec,
	[MSG_LOG] = &log_codec,
	[MSG_LOGGED] = &logged_codec,
	[MSG_HELD] = &held_codec,
	[MSG_PULSED] = &pulsed_codec,
	[MSG_UNSEAL] = &unseal_codec,
	[MSG_UNSEALED] = &unsealed_codec,
	[MSG_RELAY] = &relay_codec,
	[MSG_RELAYED] = &relayed_codec,
	[MSG_HALT] = &halt_codec,
	[MSG_HALTED] = &halted_codec,
	[MSG_RENEW] = &renew_codec,
	[MSG_RENEWED] = &renewed_codec,
	[MSG_ORPHANS] = &orphans_codec,
	[MSG_JUDGE] = &orphans_codec,
	[MSG_JUDGED] = &orphans_codec,
	[MSG_NODE_ORDER] = &node_order_codec,
	[MSG_CLUSTER_LEVEL] = &cluster_level_codec,
	[MSG_NODE_ORDERED] = &node_ordered_codec,
};

const char *const message_type_name[MSG_TYPES] = {
	[MSG_NONE] = "none",
	[MSG_TIMER] = "timer",
	[MSG_LEADING] = "leading",
	[MSG_CHANGED] = "changed",
	[MSG_PROPOSED] = "proposed",
	[MSG_DRIVEN] = "driven",
	[MSG_EXITED] = "exited",
	[MSG_ADOPTED] = "adopted",
	[MSG_PROBED] = "probed",
	[MSG_OPEN] = "open",
	[MSG_OPENED] = "opened",
	[MSG_DEAD] = "dead",
	[MSG_QUIESCE] = "quiesce",
	[MSG_QUIET] = "quiet",
	[MSG_REOPEN] = "reopen",
	[MSG_ENDED] = "ended",
	[MSG_REAP] = "reap",
	[MSG_REAPED] = "reaped",
	[MSG_POOL_PUT] = "pool_put",
	[MSG_POOL_DELETE] = "pool_delete",
	[MSG_POOL_ANSWER] = "pool_answer",
	[MSG_STOP] = "stop",
	[MSG_STOPPED] = "stopped",
	[MSG_CACHE] = "cache",
	[MSG_CACHED] = "cached",
	[MSG_REFUSED] = "refused",
	[MSG_LOG] = "log",
	[MSG_LOGGED] = "logged",
	[MSG_HOLDINGS] = "holdings",
	[MSG_HELD] = "held",
	[MSG_PULSE] = "pulse",
	[MSG_PULSED] = "pulsed",
	[MSG_UNSEAL] = "unseal",
	[MSG_UNSEALED] = "unsealed",
	[MSG_RELAY] = "relay",
	[MSG_RELAYED] = "relayed",
	[MSG_HALT] = "halt",
	[MSG_HALTED] = "halted",
	[MSG_RENEW] = "renew",
	[MSG_RENEWED] = "renewed",
	[MSG_ORPHANS] = "orphans",
	[MSG_JUDGE] = "judge",
	[MSG_JUDGED] = "judged",
	[MSG_INDEX] = "index",
	[MSG_INDEXED] = "indexed",
	[MSG_CERTIFY] = "certify",
	[MSG_CERTIFIED] = "certified",
	[MSG_ACTIVITY] = "activity",
	[MSG_ACTIVE] = "active",
	[MSG_NODE_ORDER] = "node_order",
	[MSG_CLUSTER_LEVEL] = "cluster_level",
	[MSG_NODE_ORDERED] = "node_ordered",
	[MSG_PART] = "part",
	[MSG_SAVE] = "save",
	[MSG_REST] = "rest",
	[MSG_RESTED] = "rested",
	[MSG_COPY] = "copy",
	[MSG_COPIED] = "copied",
};
