/* apply.h -- inside of apply: what the commands' handlers share. A handler checks everything first, refuses with
 * apply_refuse() or changes rows through store.h; it never does both. Codes: state.h. */
#ifndef STATE_APPLY_H
#define STATE_APPLY_H

#include "state/ledger.h"
#include "state/store.h"

#define APPLY_TIME_MAX \
	7258118400000u /* 2200-01-01; an entry beyond is malformed, so that sums of times cannot overflow */
#define APPLY_DURATION_MAX 3153600000000u /* a hundred years */
#define APPLY_FIRST_ID     1000           /* ids below are for the nodes a cluster is made with */

struct apply {
	struct state *s;
	uint64_t index, now_ms;
	struct cluster_row cluster; /* written back at the entry's end */
	const struct command *command;
	struct result *result;
};

typedef void apply_handler(struct apply *a, const void *body);

apply_handler apply_cluster_init, apply_node_join, apply_node_renew, apply_node_lost, apply_node_order,
	apply_cluster_level, apply_node_images, apply_pool_put, apply_pool_delete, apply_operation_step,
	apply_sandbox_boot, apply_sandbox_ready, apply_sandbox_stopping, apply_sandbox_gone,
	apply_session_open, apply_session_closing, apply_session_closed, apply_waiters_expire,
	apply_records_trim, apply_key_put, apply_key_use, apply_key_retire, apply_secret_reseal,
	apply_node_keys, apply_node_able,

	apply_session_suspend, apply_session_wake, apply_sandbox_move, apply_sandbox_saved,
	apply_sandbox_kept, apply_sandbox_moved, apply_sandbox_awake,

	apply_node_token, apply_node_admit, apply_node_leave, apply_node_drop, apply_member_begin,
	apply_member_end;

void apply_refuse(struct apply *a, int code, const char *format, ...) __attribute__((format(printf, 3, 4)));
uint64_t apply_next_id(struct apply *a);

/* -- apply_pool.c: what ends together with sandboxes and sessions */
/* waiters + min(ready target, max - sessions): what ready + booting may be. */
uint32_t apply_spare_max(const struct pool_row *pool, const struct pool_counts *counts);
/* Stops unbound sandboxes beyond that: moving ones that are replaced; then, of those that stay, the newest booting ones first,
 * then ready ones of old revisions, then the newest ready. */
void apply_trim(struct apply *a, uint64_t pool);
/* After a sandbox or session went: old revisions, lowered maxima, a deleted pool's end. */
void apply_settle(struct apply *a, uint64_t pool);
/* Ends the operation if it runs, with what an ARM error needs. */
void apply_operation_end(struct apply *a, uint64_t id, uint8_t phase, struct str code, struct str message);

/* -- apply_key.c */
/* A key that is active from now on; checked by the caller. */
void apply_key_found(struct apply *a, const struct key_put *put);
/* What is wrong with it; NULL: nothing. */
const char *apply_key_fault(const struct key_put *put);
/* Whether something sealed so can be opened by what the tables hold. */
bool apply_sealed_is_known(const struct apply *a, struct str sealed);
/* -- apply_drain.c */
/* A sandbox of the node went: was it the last that its drain waited for? */
void apply_drained(struct apply *a, uint64_t node);

/* -- apply_node.c: what is kept of a node beside its row and its sandboxes */
void apply_node_forget(struct apply *a, uint64_t node);
/* Its sandboxes and sessions end, billed up to the end of its lease. */
void apply_node_ends(struct apply *a, const struct node_row *node);
/* Refuses otherwise. */
bool apply_by_voter(struct apply *a);

/* -- apply_operation.c */
/* Those that ended longer ago than the settings keep them; a pool's last one stays. */
void apply_operations_expire(struct apply *a);

/* -- apply_sandbox.c */
/* The row goes, the reservation with it. Billed before, by whoever calls. */
void apply_sandbox_remove(struct apply *a, const struct sandbox_row *sandbox);
/* Binds a ready sandbox to a new or waiting session (sandbox, node, state and times are filled in here). */
const struct session_row *apply_bind(struct apply *a, const struct session_row *session,
				     const struct sandbox_row *sandbox);
/* A bound sandbox stopped: bills, closes its session, frees it. */
void apply_session_end(struct apply *a, const struct session_row *session, uint64_t stopped_ms, bool unserved,
		       uint8_t reason);
/* An unbound sandbox stopped: bills, frees. */
void apply_sandbox_end(struct apply *a, const struct sandbox_row *sandbox, uint64_t stopped_ms);
struct session_ref apply_session_ref(const struct session_row *session);
/* Whether this much fits beside what the node has reserved, within its capacity x overcommit; refuses otherwise. */
bool apply_fits(struct apply *a, const struct node_row *node, uint32_t cpu_milli, uint64_t memory_bytes);

/* -- apply_rest.c */
/* Reserved at the node for the sandbox, or no longer. */
void apply_reserve(struct apply *a, uint64_t node, const struct sandbox_row *sandbox, bool take);
/* A live session is closing; its sandbox goes nowhere any more. */
void apply_session_close(struct apply *a, const struct session_row *session, uint8_t reason);
/* The node takes none of what was on its way there. */
void apply_arrivals_end(struct apply *a, uint64_t node);
/* A suspended session is to go on, if its node has room; else it refuses. Others: nothing. */
bool apply_wake(struct apply *a, const struct session_row *session);

#endif
