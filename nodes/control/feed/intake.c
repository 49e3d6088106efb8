#include "control/feed/intake.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "core/log.h"
#include "core/must.h"

struct intake {
	struct intake_options o;
	uint64_t voter, number; /* asked; 0: nobody */
	uint64_t taken, acked;  /* bytes of pieces */
	uint64_t leader, term;
	uint64_t asked_ms, heard_ms, led_ms; /* led_ms: when there was a leader last */
	uint64_t time_ms, moved_ms;          /* cluster time of the tables, and when it changed last */
	bool anew;                           /* the tables do not go on: a snapshot is wanted */
	struct buf snapshot;
	bool restoring; /* of one that is whole, tables are made */
	struct intake_counts counts;
};

struct intake *intake_new(const struct intake_options *options)
{
	struct intake *i = calloc(1, sizeof *i);

	must(i != NULL);
	i->o = *options;
	i->number = options->number;
	i->snapshot = BUF_MAX(INTAKE_SNAPSHOT_MAX);
	return i;
}

void intake_free(struct intake *i)
{
	if (i == NULL)
		return;
	buf_done(&i->snapshot);
	free(i);
}

static void drop_snapshot(struct intake *i)
{
	buf_done(&i->snapshot);
	i->snapshot = BUF_MAX(INTAKE_SNAPSHOT_MAX);
}

/* -- Asking ------------------------------------------------------------------------------------------------------- */

static void send_ask(struct intake *i, uint64_t now)
{
	CLEANUP_BUF struct buf bytes = {0};
	struct feed_ask ask = {.number = i->number, .taken = i->taken};
	uint64_t time;

	i->o.tables(i->o.context, &ask.incarnation, &ask.index, &time);
	if (i->anew)
		ask.incarnation = ask.index = 0;
	codec_encode(&bytes, &feed_ask_codec, &ask);
	if (i->o.ask(i->o.context, i->voter, bytes.p, bytes.n) < 0)
		return;
	i->asked_ms = now;
	i->acked = i->taken;
}

/* A number of its own: what still comes of the last one is dropped. */
static void ask_anew(struct intake *i, uint64_t now)
{
	i->number++;
	i->taken = 0;
	drop_snapshot(i);
	send_ask(i, now);
}

static void ask_next(struct intake *i, uint64_t now, const char *why)
{
	uint64_t before = i->voter, next = i->o.next_voter(i->o.context, before);

	if (why != NULL && before != 0)
		log_warn("the feed of voter %" PRIu64 " %s", before, why);
	i->voter = next;
	i->heard_ms = i->led_ms = i->moved_ms = now;
	if (next == 0)
		return;
	log_info("asks voter %" PRIu64 " for a feed", next);
	i->counts.voters++;
	ask_anew(i, now);
}

/* When none is asked the next tick asks: by then more of them can be reached, and not all workers ask the same one. */
void intake_peer(struct intake *i, uint64_t node, bool reachable, uint64_t boot_ms)
{
	if (!reachable && node == i->voter)
		ask_next(i, boot_ms, "broke off");
}

static void look_at_time(struct intake *i, uint64_t now)
{
	uint64_t incarnation, index, time;

	i->o.tables(i->o.context, &incarnation, &index, &time);
	if (time != i->time_ms || i->leader == 0 || incarnation == 0 || i->snapshot.n > 0 || i->restoring)
		i->moved_ms = now;
	i->time_ms = time;
}

void intake_tick(struct intake *i, uint64_t boot_ms)
{
	look_at_time(i, boot_ms);
	if (i->leader != 0)
		i->led_ms = boot_ms;
	if (i->voter == 0)
		ask_next(i, boot_ms, NULL);
	else if (boot_ms - i->heard_ms >= INTAKE_SILENT_MS)
		ask_next(i, boot_ms, "is silent");
	else if (boot_ms - i->led_ms >= INTAKE_STILL_MS)
		ask_next(i, boot_ms, "knows no leader");
	else if (boot_ms - i->moved_ms >= INTAKE_STILL_MS)
		ask_next(i, boot_ms, "falls behind");
	else
		send_ask(i, boot_ms);
	if (i->voter == 0 || boot_ms - i->heard_ms >= INTAKE_SILENT_MS)
		i->leader = 0;
}

/* -- What comes --------------------------------------------------------------------------------------------------- */

static void take_snapshot(struct intake *i, const struct feed_piece *piece, uint64_t now)
{
	if (piece->index == 0)
		drop_snapshot(i);
	if (piece->index != i->snapshot.n) {
		ask_anew(i, now);
		return;
	}
	buf_add_str(&i->snapshot, piece->bytes);
	if (buf_failed(&i->snapshot))
		ask_next(i, now, "sends a snapshot that is too long");
}

static void take_restore(struct intake *i, const struct feed_piece *piece, uint64_t now)
{
	struct buf bytes = i->snapshot;

	if (piece->index != i->snapshot.n) {
		ask_anew(i, now);
		return;
	}
	i->snapshot = BUF_MAX(INTAKE_SNAPSHOT_MAX);
	i->restoring = true;
	i->o.restore(i->o.context, &bytes);
}

void intake_restored(struct intake *i, const char *why, uint64_t boot_ms)
{
	i->restoring = false;
	i->moved_ms = boot_ms;
	if (why != NULL) {
		log_error("the snapshot that voter %" PRIu64 " sent: %s", i->voter, why);
		ask_next(i, boot_ms, "cannot be used");
		return;
	}
	i->counts.restores++;
	i->anew = false;
	if (i->voter != 0)
		ask_anew(i, boot_ms); /* for what came meanwhile */
}

static void take_entry(struct intake *i, const struct feed_piece *piece, uint64_t now)
{
	struct err err = {0};
	uint64_t incarnation, index, time;

	i->o.tables(i->o.context, &incarnation, &index, &time);
	if (piece->index <= index) /* of before the snapshot */
		return;
	if (piece->after != index) {
		ask_anew(i, now);
		return;
	}
	if (i->o.apply(i->o.context, piece->index, piece->bytes.p, piece->bytes.n, &err) < 0)
		i->anew = true; /* the program ends; what else comes would not fit */
	i->counts.entries++;
}

static void take(struct intake *i, const struct feed_piece *piece, uint64_t now)
{
	i->leader = piece->leader;
	i->term = piece->term;
	if (i->restoring && piece->kind != FEED_POSITION)
		return;
	switch ((enum feed_kind)piece->kind) {
	case FEED_POSITION:
		i->o.tag_key(i->o.context, piece->bytes);
		return;
	case FEED_SNAPSHOT:
		take_snapshot(i, piece, now);
		return;
	case FEED_RESTORE:
		take_restore(i, piece, now);
		return;
	case FEED_ENTRY:
		take_entry(i, piece, now);
		return;
	case FEED_KINDS:
		break;
	}
	must(false);
}

void intake_received(struct intake *i, uint64_t from, const void *bytes, size_t n, uint64_t boot_ms)
{
	CLEANUP_ARENA struct arena arena = {0};
	struct feed_piece piece;
	struct err err = {0};

	if (from == 0 || from != i->voter) {
		log_debug("node %" PRIu64 " feeds without being asked", from);
		return;
	}
	if (codec_decode(bytes, n, &feed_piece_codec, &arena, &piece, &err) < 0) {
		log_warn("voter %" PRIu64 ": %s", from, err.message);
		ask_next(i, boot_ms, "cannot be read");
		return;
	}
	if (piece.number != i->number)
		return;
	i->heard_ms = boot_ms;
	i->taken += n;
	take(i, &piece, boot_ms);
	if (i->voter == from && i->taken - i->acked >= FEED_ACK_BYTES)
		send_ask(i, boot_ms);
}

uint64_t intake_voter(const struct intake *i)
{
	return i->voter;
}

uint64_t intake_leader(const struct intake *i)
{
	return i->leader;
}

uint64_t intake_term(const struct intake *i)
{
	return i->term;
}

struct intake_counts intake_counts(const struct intake *i)
{
	return i->counts;
}
