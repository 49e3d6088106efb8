#include "control/feed/feeder.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>

#include "control/feed/ring.h"
#include "control/feed/taking.h"
#include "core/log.h"
#include "core/must.h"
#include "loop/mailbox.h"

#define SNAPSHOT_PAUSE_MS 1000 /* between two for one worker */
#define LOG_PAUSE_MS      1000 /* a worker may ask as often as it likes */

/* A worker that asked once; `fed` while it is fed. */
struct feed {
	uint64_t worker;
	bool fed;
	uint64_t number;
	uint64_t sent, taken; /* bytes of pieces */
	uint64_t index;       /* entries behind it are next; while `snapshot`, those behind the snapshot */
	bool snapshot;        /* is needed, or being sent */
	struct taking *taking;
	uint64_t offset; /* in the snapshot */
	uint64_t begun_ms, snapshot_ms, heard_ms, told_ms;
	uint64_t leader, term; /* as it was told */
};

struct feeder {
	struct feeder_options o;
	struct ring *ring;
	bool keeps; /* the ring: there are workers */
	struct mailbox *wakes;
	struct feed feeds[FEEDER_WORKERS_MAX];
	uint32_t n, n_takings;
	uint64_t now_ms;
	struct feeder_counts counts;
};

static void on_wake(void *arg, void *p, size_t n)
{
	struct feeder *f = arg;

	(void)p;
	(void)n;
	feeder_turn(f, f->now_ms);
}

/* On a thread. One that is lost is made up for by the next turn. */
static void wake(void *arg)
{
	mailbox_post(arg, "", 1);
}

int feeder_new(const struct feeder_options *options, struct feeder **ret, struct err *err)
{
	struct feeder *f = calloc(1, sizeof *f);
	int r;

	must(f != NULL);
	f->o = *options;
	r = mailbox_new(options->loop, FEEDER_WORKERS_MAX, on_wake, NULL, f, &f->wakes, err);
	if (r < 0) {
		free(f);
		return r;
	}
	f->ring = ring_new(options->ring_bytes);
	*ret = f;
	return 0;
}

static void end_taking(struct feeder *f, struct feed *x)
{
	if (x->taking == NULL)
		return;
	taking_free(x->taking);
	x->taking = NULL;
	f->n_takings--;
}

static void stop(struct feeder *f, struct feed *x)
{
	end_taking(f, x);
	x->fed = false;
}

void feeder_free(struct feeder *f)
{
	if (f == NULL)
		return;
	for (uint32_t i = 0; i < f->n; i++)
		stop(f, &f->feeds[i]);
	ring_free(f->ring);
	mailbox_close(f->wakes);
	free(f);
}

/* -- What is asked ------------------------------------------------------------------------------------------------ */

static struct feed *feed_of(struct feeder *f, uint64_t worker)
{
	for (uint32_t i = 0; i < f->n; i++) {
		if (f->feeds[i].worker == worker)
			return &f->feeds[i];
	}
	return NULL;
}

static struct feed *make_room(struct feeder *f, uint64_t worker)
{
	struct feed *x = NULL;

	for (uint32_t i = 0; x == NULL && i < f->n; i++) {
		if (!f->feeds[i].fed)
			x = &f->feeds[i];
	}
	if (f->n < FEEDER_WORKERS_MAX)
		x = &f->feeds[f->n++];
	if (x != NULL)
		*x = (struct feed){.worker = worker};
	return x;
}

static void need_snapshot(struct feeder *f, struct feed *x)
{
	end_taking(f, x);
	x->snapshot = true;
}

/* The ring begins with the first worker: until then nobody needs it. */
static void keep_ring(struct feeder *f)
{
	if (f->keeps)
		return;
	f->keeps = true;
	ring_begin(f->ring, state_index(f->o.state));
}

static void begin(struct feeder *f, struct feed *x, const struct feed_ask *ask)
{
	const struct cluster_row *cluster = state_cluster(f->o.state);

	end_taking(f, x);
	keep_ring(f);
	x->fed = true;
	x->number = ask->number;
	x->sent = x->taken = ask->taken;
	x->index = ask->index;
	x->leader = x->term = x->told_ms = 0;
	x->snapshot = ask->incarnation == 0 || ask->incarnation != cluster->incarnation ||
		      !ring_reaches(f->ring, ask->index);
	if (x->begun_ms == 0 || f->now_ms - x->begun_ms >= LOG_PAUSE_MS)
		log_info("feeds node %" PRIu64 " behind entry %" PRIu64 "%s", x->worker, ask->index,
			 x->snapshot ? ", beginning with a snapshot" : "");
	x->begun_ms = f->now_ms;
}

int feeder_asked(struct feeder *f, uint64_t worker, const void *bytes, size_t n, uint64_t boot_ms,
		 struct err *err)
{
	CLEANUP_ARENA struct arena arena = {0};
	const struct node_row *row = state_node(f->o.state, worker);
	struct feed *x = feed_of(f, worker);
	struct feed_ask ask;
	int r = codec_decode(bytes, n, &feed_ask_codec, &arena, &ask, err);

	f->now_ms = boot_ms;
	if (r < 0)
		return r;
	if (row != NULL && row->voter)
		return err_set(err, -EPERM, "node %" PRIu64 " is a voter: it needs no feed", worker);
	if (x == NULL)
		x = make_room(f, worker);
	if (x == NULL)
		return err_set(err, -ENOBUFS, "%d workers are fed already", FEEDER_WORKERS_MAX);
	if (!x->fed || x->number != ask.number)
		begin(f, x, &ask);
	else if (ask.taken > x->taken && ask.taken <= x->sent)
		x->taken = ask.taken;
	x->heard_ms = boot_ms;
	return 0;
}

void feeder_gone(struct feeder *f, uint64_t worker)
{
	struct feed *x = feed_of(f, worker);

	if (x != NULL)
		stop(f, x);
}

/* -- What is applied ---------------------------------------------------------------------------------------------- */

void feeder_applied(struct feeder *f, uint64_t index, const void *entry, size_t n)
{
	if (f->keeps)
		ring_add(f->ring, index, entry, n);
}

void feeder_restored(struct feeder *f)
{
	if (f->keeps)
		ring_begin(f->ring, state_index(f->o.state));
}

/* The first workers are known before they ask this voter: another one that fed them may go any time. */
static bool has_workers(const struct state *s)
{
	for (const struct node_row *row = NULL; (row = state_next_node(s, row)) != NULL;) {
		if (!row->voter)
			return true;
	}
	return false;
}

/* -- What is sent ------------------------------------------------------------------------------------------------- */

/* 0: sent; -EAGAIN: not now; others: never. */
static int send_piece(struct feeder *f, struct feed *x, struct feed_piece *piece)
{
	CLEANUP_BUF struct buf bytes = {0};
	int r;

	piece->number = x->number;
	f->o.leader(f->o.context, &piece->leader, &piece->term);
	codec_encode(&bytes, &feed_piece_codec, piece);
	r = f->o.send(f->o.context, x->worker, bytes.p, bytes.n);
	if (r == -ENOBUFS)
		return -EAGAIN;
	if (r == 0) {
		x->sent += bytes.n;
		x->leader = piece->leader;
		x->term = piece->term;
		x->told_ms = f->now_ms;
	} else if (r != -EMSGSIZE) {
		stop(f, x);
	}
	return r;
}

static bool window_open(const struct feed *x)
{
	return x->fed && x->sent - x->taken < FEED_WINDOW_BYTES;
}

static bool start_snapshot(struct feeder *f, struct feed *x)
{
	if (f->n_takings == FEEDER_SNAPSHOTS ||
	    (x->snapshot_ms != 0 && f->now_ms - x->snapshot_ms < SNAPSHOT_PAUSE_MS))
		return false;
	x->index = state_index(f->o.state);
	x->offset = 0;
	x->snapshot_ms = f->now_ms;
	x->taking = taking_new(state_snapshot_new(f->o.state), wake, f->wakes);
	f->n_takings++;
	f->counts.snapshots++;
	return true;
}

static void send_snapshot(struct feeder *f, struct feed *x)
{
	while (window_open(x) && (x->taking != NULL || start_snapshot(f, x))) {
		CLEANUP_BUF struct buf bytes = {0};
		int r = taking_next(x->taking, &bytes);
		struct feed_piece piece = {.kind = r == 1 ? FEED_SNAPSHOT : FEED_RESTORE,
					   .index = x->offset,
					   .bytes = buf_str(&bytes)};

		if (r == 0)
			return;
		if (r < 0 && r != -ENODATA) {
			log_error("the snapshot for node %" PRIu64 " failed: error %d", x->worker, r);
			stop(f, x);
			return;
		}
		if (send_piece(f, x, &piece) < 0) { /* the piece is lost: from the beginning */
			end_taking(f, x);
			return;
		}
		x->offset += bytes.n;
		if (r == -ENODATA) {
			end_taking(f, x);
			x->snapshot = false;
			return;
		}
	}
}

static void send_entries(struct feeder *f, struct feed *x)
{
	uint64_t index;
	struct str entry;

	if (!ring_reaches(f->ring, x->index)) {
		log_info("node %" PRIu64 " is behind what is kept for feeds: it begins anew", x->worker);
		f->counts.behind++;
		need_snapshot(f, x);
		return;
	}
	while (window_open(x) && ring_next(f->ring, x->index, &index, &entry)) {
		struct feed_piece piece = {
			.kind = FEED_ENTRY, .index = index, .after = x->index, .bytes = entry};
		int r = entry.n > FEED_BYTES_MAX ? -EMSGSIZE : send_piece(f, x, &piece);

		if (r == -EMSGSIZE)
			need_snapshot(f, x);
		if (r < 0)
			return;
		x->index = index;
		f->counts.entries++;
	}
}

/* Even when nothing changes: so the worker knows that it is fed. */
static void send_position(struct feeder *f, struct feed *x)
{
	struct feed_piece piece = {.kind = FEED_POSITION, .bytes = f->o.tag_key};
	uint64_t leader, term;

	f->o.leader(f->o.context, &leader, &term);
	if (x->told_ms == 0 || leader != x->leader || term != x->term ||
	    f->now_ms - x->told_ms >= FEED_BEAT_MS)
		send_piece(f, x, &piece);
}

static void feed_turn(struct feeder *f, struct feed *x)
{
	if (!x->fed)
		return;
	if (f->now_ms > x->heard_ms + FEEDER_SILENT_MS) {
		log_info("node %" PRIu64 " takes nothing any more: its feed ends", x->worker);
		stop(f, x);
		return;
	}
	send_position(f, x);
	if (x->fed && !x->snapshot)
		send_entries(f, x);
	if (x->fed && x->snapshot)
		send_snapshot(f, x);
}

void feeder_turn(struct feeder *f, uint64_t boot_ms)
{
	f->now_ms = boot_ms;
	if (!f->keeps && has_workers(f->o.state))
		keep_ring(f);
	for (uint32_t i = 0; i < f->n; i++)
		feed_turn(f, &f->feeds[i]);
}

void feeder_count(const struct feeder *f, struct feeder_counts *ret)
{
	*ret = f->counts;
	ret->ring_bytes = ring_bytes(f->ring);
	ret->workers = 0;
	for (uint32_t i = 0; i < f->n; i++)
		ret->workers += f->feeds[i].fed;
}
