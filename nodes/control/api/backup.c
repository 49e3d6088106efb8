/* A backup on its way to the client: the tables behind the same barrier as every read, encrypted here, never all at once.
 *
 * Happy path: a frozen view of the tables is encoded and encrypted on a thread of its own, piece by piece; each piece goes
 * through the loop to the gateway, and the next is made when the client took it.
 * Failure modes: one at a time; a worker has no key ring and refuses; a client that takes nothing for TAKEN_MS, or goes, ends the
 * thread at its next piece, and the answer looks cut off. Thread: the control loop, except where said. */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "backup/backup.h"
#include "control/api/api.h"
#include "core/clock.h"
#include "core/log.h"
#include "core/must.h"

#define TAKEN_MS    60000
#define PIECE_BYTES (256u * 1024)

struct backing {
	struct control *control;
	struct api_call *call; /* NULL: its client is gone */
	struct state_snapshot *snapshot;
	struct parcel_writer *parcel;
	struct mailbox *mailbox;
	pthread_t thread;
	uint64_t tables_bytes;

	pthread_mutex_t lock;
	pthread_cond_t moved;
	struct buf piece; /* under the lock: the thread's until `full` */
	bool full, aborted, done;
	int rc;
};

/* -- On the thread ------------------------------------------------------------------------------------------------- */

/* Hands the piece over and waits until it is taken. */
static int hand_over(struct backing *b)
{
	bool aborted;

	pthread_mutex_lock(&b->lock);
	b->full = true;
	must(mailbox_post_pointer(b->mailbox, b) != -ENOBUFS);
	while (b->full && !b->aborted)
		pthread_cond_wait(&b->moved, &b->lock);
	aborted = b->aborted;
	pthread_mutex_unlock(&b->lock);
	return aborted ? -EPIPE : buf_failed(&b->piece) ? -ENOMEM : 0;
}

static int write_tables(void *to, const void *p, size_t n)
{
	struct backing *b = to;

	backup_tables(b->parcel, p, n, &b->piece);
	b->tables_bytes += n;
	return b->piece.n < PIECE_BYTES ? 0 : hand_over(b);
}

static void *run(void *arg)
{
	struct backing *b = arg;
	int rc = state_snapshot_write(b->snapshot, write_tables, b);

	if (rc == 0) {
		backup_finish(b->parcel, b->tables_bytes, &b->piece);
		rc = hand_over(b);
	}
	pthread_mutex_lock(&b->lock);
	b->done = true;
	b->rc = rc;
	pthread_mutex_unlock(&b->lock);
	must(mailbox_post_pointer(b->mailbox, b) != -ENOBUFS);
	return NULL;
}

/* -- On the loop ---------------------------------------------------------------------------------------------------- */

static void drop(struct backing *b)
{
	struct control *c = b->control;

	pthread_join(b->thread, NULL);
	c->backing = NULL;
	state_snapshot_free(b->snapshot);
	parcel_writer_free(b->parcel);
	mailbox_close(b->mailbox);
	buf_done(&b->piece);
	pthread_mutex_destroy(&b->lock);
	pthread_cond_destroy(&b->moved);
	free(b);
}

static void take(struct backing *b, bool aborted)
{
	pthread_mutex_lock(&b->lock);
	b->aborted |= aborted;
	buf_clear(&b->piece);
	b->full = false;
	pthread_cond_signal(&b->moved);
	pthread_mutex_unlock(&b->lock);
}

/* Ends the answer; the thread ends by itself. */
static void finish(struct backing *b, bool whole)
{
	struct api_call *call = b->call;

	if (call == NULL)
		return;
	b->call = NULL;
	call->backing = NULL;
	gateway_api_end(b->control->gateway, call->request->id, whole);
	api_drop(call);
}

static void on_moved(void *context, void *p, size_t n)
{
	struct backing *b = p;
	bool done, full;
	int rc;

	(void)context;
	(void)n;
	pthread_mutex_lock(&b->lock);
	done = b->done;
	full = b->full;
	rc = b->rc;
	pthread_mutex_unlock(&b->lock);
	if (done) {
		if (rc < 0)
			log_warn("a backup was not finished: its client took it no more");
		finish(b, rc == 0);
		drop(b);
	} else if (full && b->call != NULL) {
		b->call->deadline_ms = clock_boot_ms() + TAKEN_MS;
		if (gateway_api_chunk(b->control->gateway, b->call->request->id, buf_str(&b->piece)) < 0) {
			finish(b, false);
			take(b, true);
		}
	}
}

void backup_taken(struct api_call *call)
{
	take(call->backing, false);
}

void backup_tick(struct api_call *call, uint64_t now)
{
	struct backing *b = call->backing;

	if (now < call->deadline_ms)
		return;
	finish(b, false);
	take(b, true);
}

void backup_gone(struct api_call *call)
{
	struct backing *b = call->backing;

	b->call = NULL;
	take(b, true);
}

static void begin(struct api_call *call, const uint8_t recipient[PARCEL_KEY_BYTES])
{
	struct control *c = api_control(call->api);
	const struct cluster_row *cluster = state_cluster(c->state);
	struct backing *b = calloc(1, sizeof *b);
	struct buf ring = {0};
	struct err err = {0};
	struct backup_manifest manifest = {.cluster = cluster->id,
					   .incarnation = cluster->incarnation,
					   .index = state_index(c->state),
					   .time_ms = cluster->time_ms,
					   .taken_ms = clock_wall_ms(),
					   .node = c->config.node_id,
					   .version = STR(BERTH_VERSION)};

	must(b != NULL);
	*b = (struct backing){.control = c, .call = call};
	pthread_mutex_init(&b->lock, NULL);
	pthread_cond_init(&b->moved, NULL);
	must(mailbox_new(&c->loop, 4, on_moved, NULL, c, &b->mailbox, &err) == 0);
	keyring_print(c->ring, &ring);
	b->parcel = backup_begin(recipient, &manifest, buf_str(&ring), &b->piece);
	crypto_wipe(ring.p, ring.n);
	buf_done(&ring);
	b->snapshot = state_snapshot_new(c->state);
	c->backing = call->backing = b;
	call->deadline_ms = clock_boot_ms() + TAKEN_MS;
	must(pthread_create(&b->thread, NULL, run, b) == 0);
	log_info("a backup of the tables at index %llu begins", (unsigned long long)state_index(c->state));
}

void backup_run(struct api_call *call)
{
	struct control *c = api_control(call->api);
	struct arm_reply reply = {0};
	uint8_t recipient[PARCEL_KEY_BYTES];
	struct err err = {0};

	if (parcel_key_parse(call->outcome.backup.recipient, recipient, &err) < 0) {
		arm_reply_error(&reply, 400, "InvalidRecipient", "%s.", err.message);
	} else if (c->ring == NULL) {
		arm_reply_error(&reply, 403, "NotAVoter",
				"This node is a worker: it does not hold the key ring. Ask at a voter.");
	} else if (c->backing != NULL) {
		arm_reply_error(&reply, 503, "ServerBusy", "A backup is under way on this node.");
		arm_reply_header(&reply, "retry-after", STR("5"));
	} else if (api_stream(call, "application/octet-stream")) {
		begin(call, recipient);
		return;
	} else {
		api_drop(call);
		return;
	}
	api_finish(call, &reply);
}
