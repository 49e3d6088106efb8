#include "ledger.h"

#include "core/must.h"

/* What runs: per millisecond. */
struct rates {
	uint64_t cpu_milli, memory_bytes, sandboxes, sessions, asleep_bytes;
};

/* What one sandbox is counted with. */
static struct rates rates_of(const struct sandbox_row *sandbox, bool session)
{
	if (sandbox->asleep)
		return (struct rates){.sessions = session, .asleep_bytes = sandbox->memory_bytes};
	return (struct rates){sandbox->cpu_milli, sandbox->memory_bytes, 1, session, 0};
}

uint64_t ledger_final_before(uint64_t now_ms)
{
	return now_ms < LEDGER_FINAL_MS ? 0 : (now_ms - LEDGER_FINAL_MS) / LEDGER_HOUR_MS * LEDGER_HOUR_MS;
}

uint64_t ledger_daily_before(uint64_t now_ms)
{
	uint64_t ticked = ledger_final_before(now_ms) +
			  LEDGER_FINAL_MS; /* days move with the tick that makes hours final */

	return ticked < LEDGER_HOURLY_MS ? 0 : (ticked - LEDGER_HOURLY_MS) / LEDGER_DAY_MS * LEDGER_DAY_MS;
}

/* -- Buckets ---------------------------------------------------------------------------------------------------- */

static struct sum128 sum_add(struct sum128 x, uint64_t rate, uint64_t ms)
{
	return ledger_sum(ledger_get(x) + (ledger_wide)rate * ms);
}

/* Never below zero: what is taken back was added before. */
static struct sum128 sum_take(struct sum128 x, uint64_t rate, uint64_t ms)
{
	ledger_wide have = ledger_get(x), take = (ledger_wide)rate * ms;

	return ledger_sum(have < take ? 0 : have - take);
}

static void bucket_add(struct state *s, uint64_t pool, uint64_t start_ms, uint32_t width_ms,
		       const struct rates *r, uint64_t ms)
{
	const struct bucket_row *old =
		store_find(s, KIND_BUCKETS, (struct tree_key){.a = pool, .b = start_ms});
	struct bucket_row b =
		old != NULL ? *old
			    : (struct bucket_row){.pool = pool, .start_ms = start_ms, .width_ms = width_ms};

	b.cpu_milli_ms = sum_add(b.cpu_milli_ms, r->cpu_milli, ms);
	b.memory_byte_ms = sum_add(b.memory_byte_ms, r->memory_bytes, ms);
	b.sandbox_ms = sum_add(b.sandbox_ms, r->sandboxes, ms);
	b.session_ms = sum_add(b.session_ms, r->sessions, ms);
	b.asleep_byte_ms = sum_add(b.asleep_byte_ms, r->asleep_bytes, ms);
	store_put(s, KIND_BUCKETS, &b);
}

static void bucket_take(struct state *s, uint64_t pool, uint64_t start_ms, const struct rates *r, uint64_t ms)
{
	const struct bucket_row *old =
		store_find(s, KIND_BUCKETS, (struct tree_key){.a = pool, .b = start_ms});
	struct bucket_row b;

	if (old == NULL)
		return;
	b = *old;
	b.cpu_milli_ms = sum_take(b.cpu_milli_ms, r->cpu_milli, ms);
	b.memory_byte_ms = sum_take(b.memory_byte_ms, r->memory_bytes, ms);
	b.sandbox_ms = sum_take(b.sandbox_ms, r->sandboxes, ms);
	b.session_ms = sum_take(b.session_ms, r->sessions, ms);
	b.asleep_byte_ms = sum_take(b.asleep_byte_ms, r->asleep_bytes, ms);
	store_put(s, KIND_BUCKETS, &b);
}

/* -- Rates ------------------------------------------------------------------------------------------------------ */

/* The pool's rates as of now, with everything before now in the buckets. */
static struct rate_row accrue(struct state *s, uint64_t pool, uint64_t now_ms)
{
	const struct rate_row *old = state_rate(s, pool);
	struct rate_row rate = old != NULL ? *old : (struct rate_row){.pool = pool, .since_ms = now_ms};
	struct rates r = {rate.cpu_milli, rate.memory_bytes, rate.sandboxes, rate.sessions,
			  rate.asleep_bytes};
	uint64_t daily_before = ledger_daily_before(now_ms), at = rate.since_ms;

	while (at < now_ms && (r.sandboxes > 0 || r.sessions > 0)) {
		/* After a long standstill whole days are old enough to be written as such. */
		uint32_t width =
			at % LEDGER_DAY_MS == 0 && at < daily_before ? LEDGER_DAY_MS : LEDGER_HOUR_MS;
		uint64_t start = at / width * width, end = start + width < now_ms ? start + width : now_ms;

		bucket_add(s, pool, start, width, &r, end - at);
		at = end;
	}
	must(rate.since_ms <= now_ms);
	rate.since_ms = now_ms;
	return rate;
}

static void rate_add(struct rate_row *rate, const struct rates *r)
{
	rate->cpu_milli += r->cpu_milli;
	rate->memory_bytes += r->memory_bytes;
	rate->sandboxes += r->sandboxes;
	rate->sessions += r->sessions;
	rate->asleep_bytes += r->asleep_bytes;
}

static void rate_take(struct rate_row *rate, const struct rates *r)
{
	must(rate->sandboxes >= r->sandboxes && rate->sessions >= r->sessions &&
	     rate->cpu_milli >= r->cpu_milli && rate->memory_bytes >= r->memory_bytes &&
	     rate->asleep_bytes >= r->asleep_bytes);
	rate->cpu_milli -= r->cpu_milli;
	rate->memory_bytes -= r->memory_bytes;
	rate->sandboxes -= r->sandboxes;
	rate->sessions -= r->sessions;
	rate->asleep_bytes -= r->asleep_bytes;
}

void ledger_ready(struct state *s, const struct sandbox_row *sandbox, uint64_t now_ms)
{
	struct rate_row rate = accrue(s, sandbox->pool, now_ms);

	struct rates r = rates_of(sandbox, false);

	rate_add(&rate, &r);
	store_put(s, KIND_RATES, &rate);
}

void ledger_opened(struct state *s, uint64_t pool, uint64_t now_ms)
{
	struct rate_row rate = accrue(s, pool, now_ms);

	rate.sessions++;
	store_put(s, KIND_RATES, &rate);
}

/* From what the row was counted with to what it will be. */
static void turn(struct state *s, const struct sandbox_row *sandbox, bool asleep, uint64_t now_ms)
{
	struct rate_row rate = accrue(s, sandbox->pool, now_ms);
	struct sandbox_row other = *sandbox;
	struct rates r;

	other.asleep = !asleep;
	r = rates_of(&other, true);
	rate_take(&rate, &r);
	other.asleep = asleep;
	r = rates_of(&other, true);
	rate_add(&rate, &r);
	store_put(s, KIND_RATES, &rate);
}

void ledger_asleep(struct state *s, const struct sandbox_row *sandbox, uint64_t now_ms)
{
	turn(s, sandbox, true, now_ms);
}

void ledger_awake(struct state *s, const struct sandbox_row *sandbox, uint64_t now_ms)
{
	turn(s, sandbox, false, now_ms);
}

/* -- Ends ------------------------------------------------------------------------------------------------------- */

/* Takes [stopped, now) back: from hours that are not final, else by one correction over the final ones. */
static void take_back(struct state *s, const struct ledger_end *e, const struct rates *r)
{
	uint64_t pool = e->sandbox->pool, at = e->stopped_ms, final = ledger_final_before(e->now_ms);
	uint64_t to = final < e->now_ms ? final : e->now_ms;

	if (at < to) {
		struct correction_row c = {
			.number = e->correction,
			.pool = pool,
			.sandbox = e->sandbox->id,
			.generation = e->session == NULL ? 0 : e->session->generation,
			.from_ms = at,
			.to_ms = to,
			.made_ms = e->now_ms,
			.cpu_milli_ms = ledger_sum((ledger_wide)r->cpu_milli * (to - at)),
			.memory_byte_ms = ledger_sum((ledger_wide)r->memory_bytes * (to - at)),
			.sandbox_ms = ledger_sum((ledger_wide)r->sandboxes * (to - at)),
			.session_ms = ledger_sum((ledger_wide)r->sessions * (to - at)),
			.asleep_byte_ms = ledger_sum((ledger_wide)r->asleep_bytes * (to - at)),
		};
		store_put(s, KIND_CORRECTIONS, &c);
		at = to;
	}
	while (at < e->now_ms) {
		uint64_t start = at / LEDGER_HOUR_MS * LEDGER_HOUR_MS;
		uint64_t end = start + LEDGER_HOUR_MS < e->now_ms ? start + LEDGER_HOUR_MS : e->now_ms;

		bucket_take(s, pool, start, r, end - at);
		at = end;
	}
}

static void drop_oldest(struct state *s)
{
	const struct record_row *record;
	const struct correction_row *correction;

	while (s->rows[KIND_RECORDS].n + s->rows[KIND_CORRECTIONS].n > LEDGER_RECORDS_MAX) {
		record = state_next_record(s, NULL);
		correction = state_next_correction(s, NULL);
		if (record != NULL && (correction == NULL || record->number < correction->number))
			store_remove(s, KIND_RECORDS, record);
		else
			store_remove(s, KIND_CORRECTIONS, correction);
	}
}

void ledger_ended(struct state *s, const struct ledger_end *e)
{
	const struct pool_row *pool = state_pool(s, e->sandbox->pool);
	struct rates r = rates_of(e->sandbox, e->session != NULL);
	struct rate_row rate = accrue(s, e->sandbox->pool, e->now_ms);
	struct record_row record = {
		.number = e->number,
		.pool = e->sandbox->pool,
		.sandbox = e->sandbox->id,
		.node = e->sandbox->node,
		.revision = e->sandbox->revision,
		.pool_name = pool == NULL ? STR_NONE : pool->name,
		.ready_ms = e->sandbox->ready_ms,
		.stopped_ms = e->stopped_ms,
		.cpu_milli = e->sandbox->cpu_milli,
		.memory_bytes = e->sandbox->memory_bytes,
		.reason = e->reason,
		.asleep_ms = e->sandbox->asleep_ms +
			     (e->sandbox->asleep ? e->stopped_ms - e->sandbox->slept_ms : 0),
	};

	rate_take(&rate, &r);
	store_put(s, KIND_RATES, &rate);
	take_back(s, e, &r);
	if (e->session != NULL) {
		record.generation = e->session->generation;
		record.opened_ms = e->session->opened_ms;
		record.closed_ms = e->stopped_ms;
	}
	store_put(s, KIND_RECORDS, &record);
	drop_oldest(s);
}

/* Corrections stay: nobody copied them. */
uint64_t ledger_trim(struct state *s, uint64_t up_to)
{
	const struct record_row *record;
	uint64_t n = 0;

	while ((record = state_next_record(s, NULL)) != NULL && record->number <= up_to) {
		store_remove(s, KIND_RECORDS, record);
		n++;
	}
	return n;
}

void ledger_pool_gone(struct state *s, uint64_t pool)
{
	const struct rate_row *rate = state_rate(s, pool);

	if (rate == NULL)
		return;
	must(rate->sandboxes == 0 && rate->sessions == 0 && rate->asleep_bytes == 0);
	store_remove(s, KIND_RATES, rate);
}

/* -- Finality and days ------------------------------------------------------------------------------------------- */

static void merge(struct bucket_row *day, const struct bucket_row *hour)
{
	day->cpu_milli_ms = ledger_sum(ledger_get(day->cpu_milli_ms) + ledger_get(hour->cpu_milli_ms));
	day->memory_byte_ms = ledger_sum(ledger_get(day->memory_byte_ms) + ledger_get(hour->memory_byte_ms));
	day->sandbox_ms = ledger_sum(ledger_get(day->sandbox_ms) + ledger_get(hour->sandbox_ms));
	day->session_ms = ledger_sum(ledger_get(day->session_ms) + ledger_get(hour->session_ms));
	day->asleep_byte_ms = ledger_sum(ledger_get(day->asleep_byte_ms) + ledger_get(hour->asleep_byte_ms));
}

/* One hour into its day; the first one makes the day, in its own place. */
static void merge_hour(struct state *s, const struct bucket_row *hour)
{
	uint64_t start = hour->start_ms / LEDGER_DAY_MS * LEDGER_DAY_MS;
	const struct bucket_row *old =
		store_find(s, KIND_BUCKETS, (struct tree_key){.a = hour->pool, .b = start});
	struct bucket_row day = {
		.pool = hour->pool, .start_ms = start, .width_ms = LEDGER_DAY_MS, .final = true};

	if (old != NULL && old != hour)
		merge(&day, old);
	merge(&day, hour);
	if (start != hour->start_ms)
		store_remove(s, KIND_BUCKETS, hour);
	store_put(s, KIND_BUCKETS, &day);
}

/* The first bucket of the pool that starts at or behind `from` and before `to`. */
static const struct bucket_row *bucket_from(const struct state *s, uint64_t pool, uint64_t from, uint64_t to)
{
	const struct row *row =
		tree_seek(&s->rows[KIND_BUCKETS], (struct tree_key){.a = pool, .b = from}, false);
	const struct bucket_row *bucket = row == NULL ? NULL : (const void *)row->value;

	return bucket == NULL || bucket->pool != pool || bucket->start_ms >= to ? NULL : bucket;
}

/* What nobody is billed for any more. */
static void drop_days(struct state *s, uint64_t pool, uint64_t now_ms)
{
	uint64_t before =
		now_ms < LEDGER_KEPT_MS ? 0 : (now_ms - LEDGER_KEPT_MS) / LEDGER_DAY_MS * LEDGER_DAY_MS;
	const struct bucket_row *bucket;

	while ((bucket = bucket_from(s, pool, 0, before)) != NULL)
		store_remove(s, KIND_BUCKETS, bucket);
}

static void drop_corrections(struct state *s, uint64_t now_ms)
{
	const struct correction_row *c;

	while ((c = state_next_correction(s, NULL)) != NULL && c->to_ms + LEDGER_KEPT_MS <= now_ms)
		store_remove(s, KIND_CORRECTIONS, c);
}

/* Looks only at what became final, and old enough, since the last tick: most buckets are neither. */
static void tick_pool(struct state *s, uint64_t pool, uint64_t before_ms, uint64_t now_ms)
{
	uint64_t final = ledger_final_before(now_ms), daily = ledger_daily_before(now_ms), at;
	const struct bucket_row *bucket;

	for (at = ledger_final_before(before_ms); (bucket = bucket_from(s, pool, at, final)) != NULL;) {
		struct bucket_row b = *bucket;

		at = b.start_ms + 1;
		b.final = true;
		store_put(s, KIND_BUCKETS, &b);
	}
	for (at = ledger_daily_before(before_ms); (bucket = bucket_from(s, pool, at, daily)) != NULL;) {
		at = bucket->start_ms + 1;
		if (bucket->width_ms == LEDGER_HOUR_MS)
			merge_hour(s, bucket);
	}
}

void ledger_tick(struct state *s, uint64_t before_ms, uint64_t now_ms)
{
	const struct row *next;
	uint64_t pool_uid;

	if (ledger_final_before(now_ms) == ledger_final_before(before_ms))
		return;
	for (const struct pool_row *pool = NULL; (pool = state_next_pool(s, pool)) != NULL;) {
		const struct rate_row *rate = state_rate(s, pool->uid);

		if (rate != NULL && rate->since_ms < now_ms) {
			struct rate_row r = accrue(s, pool->uid, now_ms);

			store_put(s, KIND_RATES, &r);
		}
	}
	/* Pools that are gone have buckets too. */
	for (next = tree_first(&s->rows[KIND_BUCKETS]); next != NULL;
	     next = tree_seek(&s->rows[KIND_BUCKETS], (struct tree_key){.a = pool_uid, .b = UINT64_MAX},
			      true)) {
		pool_uid = ((const struct bucket_row *)(const void *)next->value)->pool;
		tick_pool(s, pool_uid, before_ms, now_ms);
		drop_days(s, pool_uid, now_ms);
	}
	drop_corrections(s, now_ms);
}
