/* ledger.h -- what each pool consumed, in integers.
 *
 * Happy path: a pool keeps its rates (running sandboxes' milli-vCPU and bytes, sandboxes, sessions, bytes of those asleep) and since when; each
 * change first adds rate x elapsed to the buckets of the hours in between. Sandboxes count from ready to stopped, sessions from opened
 * to closed. An end that is told late is first counted as running until now, then taken back.
 * Half an hour after its end an hour is final: what is taken back from it then becomes a correction row. Hours become days
 * when the day ended 35 days ago, and go, with the corrections of their time, 400 days after their end. Ends of sessions and of sandboxes that ran unbound leave a record; with the corrections
 * these are at most LEDGER_RECORDS_MAX rows, the oldest go first.
 * Invariants: rates equal the sum over the rows of running sandboxes and open sessions; since_ms never goes back; buckets of one pool do
 * not overlap. Bills outlive their pool. Source: docs/ledger.md. */
#ifndef STATE_LEDGER_H
#define STATE_LEDGER_H

#include "state/store.h"

#define LEDGER_HOUR_MS     3600000u
#define LEDGER_DAY_MS      86400000u
#define LEDGER_FINAL_MS    1800000u                 /* after an hour's end it is final */
#define LEDGER_HOURLY_MS   (35ull * LEDGER_DAY_MS)  /* days that ended before are one bucket */
#define LEDGER_KEPT_MS     (400ull * LEDGER_DAY_MS) /* days and corrections that ended before go */
#define LEDGER_RECORDS_MAX 100000u

typedef unsigned __int128 ledger_wide;

static inline ledger_wide ledger_get(struct sum128 x)
{
	return (ledger_wide)x.high << 64 | x.low;
}

static inline struct sum128 ledger_sum(ledger_wide x)
{
	return (struct sum128){.high = (uint64_t)(x >> 64), .low = (uint64_t)x};
}

/* Hours and days that ended by then are final (or to be merged) at `now`. */
uint64_t ledger_final_before(uint64_t now_ms);
uint64_t ledger_daily_before(uint64_t now_ms);

/* Rates go up from now on. */
void ledger_ready(struct state *s, const struct sandbox_row *sandbox, uint64_t now_ms);
void ledger_opened(struct state *s, uint64_t pool, uint64_t now_ms);
/* Its capacity goes or comes back; its session counts on. `sandbox` as it was before, or is from now on: asleep either way. */
void ledger_asleep(struct state *s, const struct sandbox_row *sandbox, uint64_t now_ms);
void ledger_awake(struct state *s, const struct sandbox_row *sandbox, uint64_t now_ms);

struct ledger_end {
	const struct sandbox_row *sandbox; /* ready_ms != 0 */
	const struct session_row *session; /* NULL: never bound */
	uint64_t stopped_ms;               /* in [ready_ms, opened_ms or slept_ms, now_ms] */
	uint64_t now_ms;
	uint64_t number;     /* of the record, from the counter */
	uint64_t correction; /* of the correction, should there be one */
	uint8_t reason;
};
/* Rates go down, what was counted behind stopped_ms is taken back, a record is made. */
void ledger_ended(struct state *s, const struct ledger_end *end);

/* Cluster time went on: at most once an hour does work. Before an entry's commands. */
void ledger_tick(struct state *s, uint64_t before_ms, uint64_t now_ms);
void ledger_pool_gone(struct state *s, uint64_t pool);
/* Drops records and corrections with numbers <= up_to. Returns how many. */
uint64_t ledger_trim(struct state *s, uint64_t up_to);

#endif
