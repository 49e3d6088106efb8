#include "recount.h"

#include <stdio.h>
#include <stdlib.h>

#include "core/must.h"

void recount_init(struct recount *r, uint64_t lease_ms)
{
	*r = (struct recount){.lives = calloc(RECOUNT_MAX, sizeof(struct life)), .lease_ms = lease_ms};
	must(r->lives != NULL);
}

void recount_done(struct recount *r)
{
	free(r->lives);
}

struct life *recount_life(struct recount *r, uint64_t sandbox)
{
	for (unsigned i = r->n; i-- > 0;) {
		if (r->lives[i].sandbox == sandbox)
			return &r->lives[i];
	}
	return NULL;
}

static struct life *by_generation(struct recount *r, uint64_t generation)
{
	for (unsigned i = r->n; i-- > 0;) {
		if (r->lives[i].generation == generation)
			return &r->lives[i];
	}
	return NULL;
}

static void opened(struct recount *r, uint64_t now_ms, const struct session_ref *session)
{
	struct life *life = recount_life(r, session->sandbox);

	must(life != NULL && life->ready_ms != 0 && life->opened_ms == 0 && !life->gone);
	life->opened_ms = now_ms;
	life->generation = session->generation;
}

static bool asleep(const struct life *life)
{
	return life->n_sleeps > 0 && life->sleeps[life->n_sleeps - 1].to_ms == 0;
}

static void fell_asleep(struct life *life, uint64_t now_ms)
{
	must(!asleep(life) && life->n_sleeps < SLEEPS_MAX);
	life->sleeps[life->n_sleeps++].from_ms = now_ms;
}

static void woke(struct life *life, uint64_t now_ms)
{
	if (asleep(life) && life->target == 0)
		life->sleeps[life->n_sleeps - 1].to_ms = now_ms;
}

/* When it last fell asleep or woke. */
static uint64_t turned_ms(const struct life *life)
{
	const uint64_t from = life->n_sleeps == 0 ? 0 : life->sleeps[life->n_sleeps - 1].from_ms;
	const uint64_t to = life->n_sleeps == 0 ? 0 : life->sleeps[life->n_sleeps - 1].to_ms;

	return to != 0 ? to : from;
}

static void stopped(struct life *life, uint64_t now_ms, uint64_t stopped_ms, bool unserved)
{
	uint64_t first = life->opened_ms != 0 ? life->opened_ms : life->ready_ms;

	must(!life->gone);
	life->gone = true;
	if (life->ready_ms == 0)
		return;
	if (first < turned_ms(life))
		first = turned_ms(life);
	if (unserved && life->opened_ms != 0)
		stopped_ms = first;
	if (stopped_ms < first)
		stopped_ms = first;
	if (stopped_ms > now_ms)
		stopped_ms = now_ms;
	life->stopped_ms = stopped_ms;
	if (asleep(life))
		life->sleeps[life->n_sleeps - 1].to_ms = stopped_ms;
}

static void booted(struct recount *r, const struct cmd_sandbox_boot *c, const struct result *result,
		   uint64_t cpu, uint64_t memory)
{
	must(r->n < RECOUNT_MAX);
	r->lives[r->n++] = (struct life){.sandbox = result->id,
					 .pool = c->pool,
					 .node = c->node,
					 .cpu_milli = cpu,
					 .memory_bytes = memory};
}

static void lost(struct recount *r, uint64_t now_ms, uint64_t node)
{
	for (unsigned i = 0; i < r->n; i++) {
		if (r->lives[i].node == node && !r->lives[i].gone)
			stopped(&r->lives[i], now_ms, r->renewed_ms[node] + r->lease_ms, false);
		if (r->lives[i].target == node)
			r->lives[i].target = 0;
	}
}

/* Sleeps and moves. True: it was one. */
static bool rested(struct recount *r, uint64_t now_ms, uint64_t asker, uint8_t type, const void *body)
{
	const struct cmd_session *session = body;
	const struct cmd_sandbox_move *move = body;
	const struct cmd_sandbox_save *save = body;

	if (type == COMMAND_SESSION_WAKE) {
		woke(by_generation(r, session->generation), now_ms);
	} else if (type == COMMAND_SANDBOX_MOVE) {
		recount_life(r, move->sandbox)->target = move->target;
	} else if (type == COMMAND_SANDBOX_SAVED) {
		if (recount_life(r, save->sandbox)->target == 0)
			fell_asleep(recount_life(r, save->sandbox), now_ms);
	} else if (type == COMMAND_POOL_DELETE) { /* its sessions are closing */
		for (unsigned i = 0; i < r->n; i++)
			r->lives[i].target *=
				r->lives[i].pool != ((const struct msg_pool_delete *)body)->pool;
	} else if (type == COMMAND_SANDBOX_KEPT) {
		recount_life(r, save->sandbox)->target = 0;
	} else if (type == COMMAND_SANDBOX_MOVED) {
		recount_life(r, save->sandbox)->node = asker;
		recount_life(r, save->sandbox)->target = 0;
	} else {
		return false;
	}
	return true;
}

void recount_saw(struct recount *r, uint64_t now_ms, uint64_t asker, uint8_t type, const void *body,
		 const struct result *result)
{
	const struct cmd_sandbox_gone *gone = body;
	const struct cmd_session_closed *closed = body;
	const struct cmd_node_renew *renew = body;

	if (result->code != 0 || rested(r, now_ms, asker, type, body))
		return;
	if (type == COMMAND_SANDBOX_BOOT) {
		booted(r, body, result, 250, 64u << 20); /* machine_put()'s template */
	} else if (type == COMMAND_SANDBOX_READY) {
		recount_life(r, result->id)->ready_ms = now_ms;
		if (result->session.generation != 0)
			opened(r, now_ms, &result->session);
	} else if (type == COMMAND_SESSION_OPEN && result->created && !result->waiting) {
		opened(r, now_ms, &result->session);
	} else if (type == COMMAND_SESSION_OPEN && !result->created && result->session.sandbox != 0) {
		woke(recount_life(r, result->session.sandbox), now_ms);
	} else if (type == COMMAND_SESSION_CLOSING && result->session.sandbox != 0) {
		recount_life(r, result->session.sandbox)->target = 0;
	} else if (type == COMMAND_SANDBOX_GONE) {
		stopped(recount_life(r, gone->sandbox), now_ms, gone->stopped_ms, gone->unserved);
	} else if (type == COMMAND_SESSION_CLOSED) {
		stopped(by_generation(r, closed->generation), now_ms, closed->stopped_ms, closed->unserved);
	} else if (type == COMMAND_NODE_LOST) {
		lost(r, now_ms, ((const struct cmd_node_lost *)body)->node);
	} else if (type == COMMAND_NODE_JOIN) {
		r->renewed_ms[((const struct cmd_node_join *)body)->id] = now_ms;
	} else if (type == COMMAND_NODE_RENEW) {
		for (uint32_t i = 0; i < renew->n_renewals; i++)
			r->renewed_ms[renew->renewals[i].node] = now_ms; /* tests renew present epochs only */
	}
}

/* -- Comparing --------------------------------------------------------------------------------------------------- */

static uint64_t overlap(uint64_t from, uint64_t to, uint64_t start, uint64_t end)
{
	uint64_t low = from > start ? from : start, high = to < end ? to : end;

	return low < high ? high - low : 0;
}

struct bill {
	unsigned __int128 cpu, memory, sandbox, session, asleep;
};

static struct bill from_history(const struct recount *r, uint64_t pool, uint64_t start, uint64_t end,
				uint64_t now)
{
	struct bill bill = {0};

	for (unsigned i = 0; i < r->n; i++) {
		const struct life *l = &r->lives[i];
		uint64_t to = l->gone ? l->stopped_ms : now, ms;

		if (l->pool != pool || l->ready_ms == 0)
			continue;
		ms = overlap(l->ready_ms, to, start, end);
		for (unsigned k = 0; k < l->n_sleeps; k++) {
			uint64_t until = l->sleeps[k].to_ms != 0 ? l->sleeps[k].to_ms : now;
			uint64_t slept = overlap(l->sleeps[k].from_ms, until, start, end);

			ms -= slept;
			bill.asleep += (unsigned __int128)slept * l->memory_bytes;
		}
		bill.sandbox += ms;
		bill.cpu += (unsigned __int128)ms * l->cpu_milli;
		bill.memory += (unsigned __int128)ms * l->memory_bytes;
		if (l->opened_ms != 0)
			bill.session += overlap(l->opened_ms, to, start, end);
	}
	return bill;
}

static unsigned __int128 wide(struct sum128 x)
{
	return (unsigned __int128)x.high << 64 | x.low;
}

/* The bucket, with what runs and is not in a bucket yet, less the corrections. */
static struct bill from_ledger(const struct state *s, const struct bucket_row *b, uint64_t now)
{
	uint64_t end = b->start_ms + b->width_ms;
	struct bill bill = {wide(b->cpu_milli_ms), wide(b->memory_byte_ms), wide(b->sandbox_ms),
			    wide(b->session_ms), wide(b->asleep_byte_ms)};
	const struct rate_row *rate = state_rate(s, b->pool);

	for (const struct correction_row *c = NULL; (c = state_next_correction(s, c)) != NULL;) {
		uint64_t ms = overlap(c->from_ms, c->to_ms, b->start_ms, end), all = c->to_ms - c->from_ms;

		if (c->pool != b->pool)
			continue;
		bill.cpu -= wide(c->cpu_milli_ms) / all * ms;
		bill.memory -= wide(c->memory_byte_ms) / all * ms;
		bill.sandbox -= wide(c->sandbox_ms) / all * ms;
		bill.session -= wide(c->session_ms) / all * ms;
		bill.asleep -= wide(c->asleep_byte_ms) / all * ms;
	}
	if (rate != NULL) {
		uint64_t ms = overlap(rate->since_ms, now, b->start_ms, end);

		bill.cpu += (unsigned __int128)rate->cpu_milli * ms;
		bill.memory += (unsigned __int128)rate->memory_bytes * ms;
		bill.sandbox += (unsigned __int128)rate->sandboxes * ms;
		bill.session += (unsigned __int128)rate->sessions * ms;
		bill.asleep += (unsigned __int128)rate->asleep_bytes * ms;
	}
	return bill;
}

unsigned recount_differences(const struct recount *r, const struct state *s, bool print)
{
	uint64_t now = state_cluster(s)->time_ms;
	unsigned __int128 in_buckets = 0, in_lives = 0, not_yet = 0;
	unsigned n = 0;

	for (const struct bucket_row *b = NULL; (b = state_next_any_bucket(s, b)) != NULL;) {
		struct bill mine = from_history(r, b->pool, b->start_ms, b->start_ms + b->width_ms, now);
		struct bill theirs = from_ledger(s, b, now);

		in_buckets += theirs.sandbox;
		if (mine.cpu == theirs.cpu && mine.memory == theirs.memory &&
		    mine.sandbox == theirs.sandbox && mine.session == theirs.session &&
		    mine.asleep == theirs.asleep)
			continue;
		if (print && n < 5)
			fprintf(stderr,
				"pool %llu, %llu + %u: sandbox ms %llu in history, %llu in ledger; session "
				"ms %llu, %llu\n",
				(unsigned long long)b->pool, (unsigned long long)b->start_ms, b->width_ms,
				(unsigned long long)mine.sandbox, (unsigned long long)theirs.sandbox,
				(unsigned long long)mine.session, (unsigned long long)theirs.session);
		n++;
	}
	/* Nothing outside of the buckets either: what has none yet is in the hour of now. */
	for (unsigned i = 0; i < r->n; i++) {
		const struct life *l = &r->lives[i];

		if (l->ready_ms != 0)
			in_lives += (l->gone ? l->stopped_ms : now) - l->ready_ms;
		for (unsigned k = 0; k < l->n_sleeps; k++)
			in_lives -=
				(l->sleeps[k].to_ms != 0 ? l->sleeps[k].to_ms : now) - l->sleeps[k].from_ms;
	}
	for (const struct pool_row *p = NULL; (p = state_next_pool(s, p)) != NULL;) {
		const struct rate_row *rate = state_rate(s, p->uid);
		const struct bucket_row *b = NULL;
		uint64_t covered = 0;

		while (rate != NULL && (b = state_next_bucket(s, p->uid, b)) != NULL)
			covered += overlap(rate->since_ms, now, b->start_ms, b->start_ms + b->width_ms);
		if (rate != NULL)
			not_yet += (unsigned __int128)rate->sandboxes * (now - rate->since_ms - covered);
	}
	if (in_buckets + not_yet != in_lives) {
		if (print)
			fprintf(stderr, "all pools: sandbox ms %llu in history, %llu in ledger\n",
				(unsigned long long)in_lives, (unsigned long long)(in_buckets + not_yet));
		n++;
	}
	return n;
}
