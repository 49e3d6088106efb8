/* billing.c -- see billing.h.
 *
 * An export has the buckets (an hour or a day of a pool) that overlap [from, to), whole; what runs since the last change of
 * a pool's rates, up to now; corrections; and the closed records that overlap the range. These may be very many: the first
 * three are made here, from the tables, and the records one by one by whoever carries the task out. Lines are complete: adding up a column of buckets, running and
 * corrections gives the bill. */
#include <stdio.h>
#include <string.h>

#include "arm/billing.h"
#include "core/clock.h"

#define DAY_MS 86400000ull

typedef unsigned __int128 wide;

enum { COLUMN_CPU, COLUMN_MEMORY, COLUMN_SANDBOX, COLUMN_SESSION, COLUMN_ASLEEP, COLUMNS };
static const char *const exact_name[COLUMNS] = {"cpuMilliMs", "memoryByteMs", "sandboxMs", "sessionMs",
						"asleepByteMs"};
static const char *const seconds_name[COLUMNS] = {"vcpuSeconds", "memoryGibSeconds", "sandboxSeconds",
						  "sessionSeconds", "asleepGibSeconds"};
static const double divisor[COLUMNS] = {1e6, 1e3 * 1073741824.0, 1e3, 1e3, 1e3 * 1073741824.0};

struct export
{
	struct call *call;
	uint64_t from_ms, to_ms;
	bool csv;
	struct buf text;
};

static wide widen(struct sum128 s)
{
	return (wide)s.high << 64 | s.low;
}

static const char *wide_text(wide x, char text[48])
{
	char *p = text + 47;

	*p = '\0';
	do {
		*--p = (char)('0' + (int)(x % 10));
		x /= 10;
	} while (x != 0);
	return p;
}

static bool overlaps(const struct export *e, uint64_t from_ms, uint64_t to_ms)
{
	return from_ms < e->to_ms && to_ms > e->from_ms;
}

static struct str pool_name(const struct export *e, uint64_t pool)
{
	const struct pool_row *row = state_pool(e->call->state, pool);

	return row == NULL ? STR("") : row->name;
}

static void put_sums(json_t *to, const wide sums[COLUMNS])
{
	char text[48];

	for (int i = 0; i < COLUMNS; i++) {
		json_put_real(to, seconds_name[i], (double)sums[i] / divisor[i]);
		json_put_cstr(to, exact_name[i], wide_text(sums[i], text));
	}
}

static void add_line(struct export *e, json_t *list, const char *kind, uint64_t pool, uint64_t from_ms,
		     uint64_t to_ms, bool final, const wide sums[COLUMNS])
{
	char from[CLOCK_TEXT_SIZE], to[CLOCK_TEXT_SIZE], text[48];
	json_t *line;

	if (!e->csv) {
		line = json_push_object(list);
		json_put_u64(line, "pool", pool);
		json_put_str(line, "poolName", pool_name(e, pool));
		json_put_time(line, "from", from_ms);
		json_put_time(line, "to", to_ms);
		json_put_bool(line, "final", final);
		put_sums(line, sums);
		return;
	}
	buf_printf(&e->text, "%s,%llu,%.*s,%s,%s,%s", kind, (unsigned long long)pool,
		   STR_ARGS(pool_name(e, pool)), clock_text(from_ms, from), clock_text(to_ms, to),
		   final ? "true" : "false");
	for (int i = 0; i < COLUMNS; i++)
		buf_printf(&e->text, ",%.6f,%s", (double)sums[i] / divisor[i], wide_text(sums[i], text));
	buf_printf(&e->text, ",,,,,,,,\r\n");
}

static void add_buckets(struct export *e, json_t *body)
{
	json_t *list = json_put_array(body, "buckets");

	for (const struct bucket_row *row = state_next_any_bucket(e->call->state, NULL); row != NULL;
	     row = state_next_any_bucket(e->call->state, row)) {
		wide sums[COLUMNS] = {widen(row->cpu_milli_ms), widen(row->memory_byte_ms),
				      widen(row->sandbox_ms), widen(row->session_ms),
				      widen(row->asleep_byte_ms)};

		if (overlaps(e, row->start_ms, row->start_ms + row->width_ms))
			add_line(e, list, "bucket", row->pool, row->start_ms, row->start_ms + row->width_ms,
				 row->final, sums);
	}
}

static void add_running(struct export *e, json_t *body)
{
	json_t *list = json_put_array(body, "running");
	uint64_t now_ms = state_cluster(e->call->state)->time_ms;

	for (const struct pool_row *pool = state_next_pool(e->call->state, NULL); pool != NULL;
	     pool = state_next_pool(e->call->state, pool)) {
		const struct rate_row *rate = state_rate(e->call->state, pool->uid);
		uint64_t from_ms, to_ms = now_ms < e->to_ms ? now_ms : e->to_ms;

		if (rate == NULL || (rate->sandboxes == 0 && rate->sessions == 0))
			continue;
		from_ms = rate->since_ms > e->from_ms ? rate->since_ms : e->from_ms;
		if (from_ms < to_ms) {
			wide ms = to_ms - from_ms;
			wide sums[COLUMNS] = {ms * rate->cpu_milli, ms * rate->memory_bytes,
					      ms * rate->sandboxes, ms * rate->sessions,
					      ms * rate->asleep_bytes};

			add_line(e, list, "running", pool->uid, from_ms, to_ms, false, sums);
		}
	}
}

static void add_corrections(struct export *e, json_t *body)
{
	json_t *list = json_put_array(body, "corrections");

	for (const struct correction_row *row = state_next_correction(e->call->state, NULL); row != NULL;
	     row = state_next_correction(e->call->state, row)) {
		wide sums[COLUMNS] = {widen(row->cpu_milli_ms), widen(row->memory_byte_ms),
				      widen(row->sandbox_ms), widen(row->session_ms),
				      widen(row->asleep_byte_ms)};

		if (overlaps(e, row->from_ms, row->to_ms))
			add_line(e, list, "correction", row->pool, row->from_ms, row->to_ms, true, sums);
	}
}

static void csv_record(struct buf *to, const struct record_row *row)
{
	char ready[CLOCK_TEXT_SIZE], stopped[CLOCK_TEXT_SIZE], opened[CLOCK_TEXT_SIZE] = "",
							       closed[CLOCK_TEXT_SIZE] = "";
	uint64_t ms = row->stopped_ms - row->ready_ms - row->asleep_ms;
	wide sums[COLUMNS] = {(wide)ms * row->cpu_milli, (wide)ms * row->memory_bytes, ms,
			      row->opened_ms == 0 ? 0 : row->closed_ms - row->opened_ms,
			      (wide)row->asleep_ms * row->memory_bytes};
	char text[48];

	if (row->opened_ms != 0) {
		clock_text(row->opened_ms, opened);
		clock_text(row->closed_ms, closed);
	}
	buf_printf(to, "record,%llu,%.*s,%s,%s,true", (unsigned long long)row->pool, STR_ARGS(row->pool_name),
		   clock_text(row->ready_ms, ready), clock_text(row->stopped_ms, stopped));
	for (int i = 0; i < COLUMNS; i++)
		buf_printf(to, ",%.6f,%s", (double)sums[i] / divisor[i], wide_text(sums[i], text));
	buf_printf(to, ",%llu,%llu,%llu,%llu,%llu,%s,%s,%s\r\n", (unsigned long long)row->number,
		   (unsigned long long)row->sandbox, (unsigned long long)row->generation,
		   (unsigned long long)row->node, (unsigned long long)row->revision, opened, closed,
		   row->reason < REAP_REASONS ? reap_reason_name[row->reason] : "");
}

/* A pool's name needs no escapes. */
static void json_record(struct buf *to, const struct record_row *row)
{
	char a[CLOCK_TEXT_SIZE], b[CLOCK_TEXT_SIZE];

	buf_printf(
		to,
		"{\"number\":%llu,\"pool\":%llu,\"poolName\":\"%.*s\",\"sandbox\":%llu,\"generation\":%llu,"
		"\"node\":%llu,\"revision\":%llu,\"ready\":\"%s\"",
		(unsigned long long)row->number, (unsigned long long)row->pool, STR_ARGS(row->pool_name),
		(unsigned long long)row->sandbox, (unsigned long long)row->generation,
		(unsigned long long)row->node, (unsigned long long)row->revision,
		clock_text(row->ready_ms, a));
	if (row->opened_ms != 0)
		buf_printf(to, ",\"opened\":\"%s\",\"closed\":\"%s\"", clock_text(row->opened_ms, a),
			   clock_text(row->closed_ms, b));
	if (row->asleep_ms != 0)
		buf_printf(to, ",\"asleepMs\":%llu", (unsigned long long)row->asleep_ms);
	buf_printf(to, ",\"stopped\":\"%s\",\"cpuMilli\":%llu,\"memoryBytes\":%llu,\"reason\":\"%s\"}",
		   clock_text(row->stopped_ms, a), (unsigned long long)row->cpu_milli,
		   (unsigned long long)row->memory_bytes,
		   row->reason < REAP_REASONS ? reap_reason_name[row->reason] : "");
}

void arm_export_record(struct buf *to, bool csv, bool first, const struct record_row *record)
{
	if (csv) {
		csv_record(to, record);
		return;
	}
	if (!first)
		buf_add_str(to, STR(","));
	json_record(to, record);
}

struct str arm_export_end(bool csv)
{
	return csv ? STR("") : STR("]}");
}

/* "2026-01-02" or with a time; a missing one is `otherwise`. */
static bool read_time(struct call *c, const char *name, uint64_t otherwise, uint64_t *ret)
{
	struct str text = call_query(c, name);

	*ret = otherwise;
	if (text.p == NULL)
		return true;
	if (text.n == 10)
		text = call_printf(c, "%.*sT00:00:00Z", STR_ARGS(text));
	if (clock_parse(arena_str(c->arena, text).p, ret) == 0)
		return true;
	call_error(c, 400, "InvalidQueryParameter",
		   "%s: must be a date or a time in UTC: 2026-01-02 or 2026-01-02T03:04:05Z.", name);
	return false;
}

static void put_units(json_t *body)
{
	json_t *units = json_put_object(body, "units");

	json_put_cstr(units, "vcpuSeconds",
		      "vCPU x seconds; cpuMilliMs is exact: 1/1000 vCPU x milliseconds");
	json_put_cstr(units, "memoryGibSeconds",
		      "2^30 bytes x seconds; memoryByteMs is exact: bytes x milliseconds");
	json_put_cstr(units, "sandboxSeconds",
		      "sandboxes x seconds, from ready to stopped; sandboxMs is exact");
	json_put_cstr(units, "sessionSeconds",
		      "sessions x seconds, from opened to closed; sessionMs is exact");
	json_put_cstr(units, "asleepGibSeconds",
		      "2^30 bytes of suspended sandboxes' memory x seconds; asleepByteMs is exact");
	json_put_cstr(units, "corrections", "to be subtracted");
}

void billing_export(struct call *c)
{
	struct export e = {.call = c};
	struct str format = call_query(c, "format");
	json_t *body;

	e.csv = str_eq_nocase(format, STR("csv"));
	if (format.p != NULL && !e.csv && !str_eq_nocase(format, STR("json"))) {
		call_error(c, 400, "InvalidQueryParameter", "format: must be csv or json.");
		return;
	}
	if (!read_time(c, "to", c->request->now_ms + DAY_MS, &e.to_ms) ||
	    !read_time(c, "from", c->request->now_ms - 30 * DAY_MS, &e.from_ms))
		return;
	if (e.from_ms >= e.to_ms) {
		call_error(c, 400, "InvalidQueryParameter", "from: must be before to.");
		return;
	}
	body = json_new_object();
	json_put_time(body, "from", e.from_ms);
	json_put_time(body, "to", e.to_ms);
	json_put_time(body, "asOf", state_cluster(c->state)->time_ms);
	put_units(body);
	buf_printf(&e.text, "kind,pool,pool_name,from,to,final,vcpu_seconds,cpu_milli_ms,memory_gib_seconds,"
			    "memory_byte_ms,"
			    "sandbox_seconds,sandbox_ms,session_seconds,session_ms,asleep_gib_seconds,asleep_"
			    "byte_ms,number,sandbox,generation,"
			    "node,revision,"
			    "opened,closed,reason\r\n");
	add_buckets(&e, body);
	add_running(&e, body);
	add_corrections(&e, body);
	c->out->kind = ARM_TASK;
	c->out->task = ARM_TASK_EXPORT;
	if (!e.csv) {
		buf_clear(&e.text);
		json_print(&e.text, body, false);
		e.text.n--; /* the closing brace: records follow */
		buf_add_str(&e.text, STR(",\"records\":["));
	}
	c->out->export = (struct arm_export_ask){.from_ms = e.from_ms,
						 .to_ms = e.to_ms,
						 .csv = e.csv,
						 .head = arena_str(c->arena, buf_str(&e.text))};
	json_decref(body);
	buf_done(&e.text);
}
