/* propose.c -- proposals and reads.
 *
 * Happy path: consensus_propose wraps the entry and queues it; before the loop waits, propose_flush hands
 * the turn's entries to the library in as few calls as the bounds allow, and starts one barrier for all
 * waiting reads. The state machine tells which index was applied (propose_applied), which answers the
 * entry's proposer.
 *
 * Failure modes: leadership lost before the flush: -EAGAIN, nothing happened. Lost behind it:
 * -ECONNABORTED, the entry may be committed by the next leader. The library reports that only for the
 * first entry of a call, so the term is watched here instead (propose_settled), and its own callbacks only
 * free memory.
 *
 * Invariants: `pending` is ordered by index and by term; an answer is given exactly once. */
#include <errno.h>
#include <stdlib.h>

#include "consensus/frame.h"
#include "consensus/parts.h"
#include "core/must.h"

#define BATCH_ENTRIES 256u
#define BATCH_BYTES   (1u << 20)

/* One call of the library: lives on the stack, for its request alone must outlast the call. */
struct batch {
	unsigned n;
	struct proposal *proposals[BATCH_ENTRIES];
	struct raft_buffer frames[BATCH_ENTRIES];
};

static void answer(struct consensus *c, struct proposal *p, int status)
{
	c->unanswered--;
	c->unanswered_bytes -= p->size;
	p->done(p->arg, status, status == 0 ? p->index : 0);
	free(p);
}

static void answer_reads(struct readers *list, int status, uint64_t index)
{
	struct readers reads = STAILQ_HEAD_INITIALIZER(reads);
	STAILQ_CONCAT(&reads, list);
	while (!STAILQ_EMPTY(&reads)) {
		struct reader *r = STAILQ_FIRST(&reads);
		STAILQ_REMOVE_HEAD(&reads, next);
		r->done(r->arg, status, index);
		free(r);
	}
}

static bool may_propose(const struct consensus *c)
{
	return c->phase == CONSENSUS_RUNNING && guard_leads(c->guard) && c->raft.transfer == NULL;
}

uint64_t consensus_disk_free(struct consensus *c)
{
	return room_free(&c->room, uv_now(c->options.loop));
}

bool consensus_disk_low(struct consensus *c)
{
	return consensus_disk_free(c) < c->options.disk_reserve;
}

int consensus_propose(struct consensus *c, const void *entry, size_t n, consensus_proposed *done, void *arg)
{
	if (n == 0 || n > CONSENSUS_ENTRY_MAX)
		return -EMSGSIZE;
	if (!may_propose(c))
		return -EAGAIN;
	size_t size = frame_entry_size(n);
	if (c->unanswered >= CONSENSUS_QUEUE_MAX || c->unanswered_bytes + size > CONSENSUS_BYTES_MAX)
		return -ENOBUFS;
	if (consensus_disk_free(c) < c->options.disk_floor)
		return -ENOSPC;
	struct proposal *p = calloc(1, sizeof *p);
	if (p == NULL)
		return -ENOMEM;
	p->frame = (struct raft_buffer){.base = raft_malloc(size), .len = size};
	if (p->frame.base == NULL) {
		free(p);
		return -ENOMEM;
	}
	frame_entry_write(p->frame.base, entry, n);
	p->size = size;
	p->done = done;
	p->arg = arg;
	STAILQ_INSERT_TAIL(&c->waiting, p, next);
	c->unanswered++;
	c->unanswered_bytes += size;
	return 0;
}

int consensus_barrier(struct consensus *c, consensus_proposed *done, void *arg)
{
	if (!may_propose(c))
		return -EAGAIN;
	struct reader *r = calloc(1, sizeof *r);
	if (r == NULL)
		return -ENOMEM;
	r->done = done;
	r->arg = arg;
	STAILQ_INSERT_TAIL(&c->waiting_reads, r, next);
	c->counts.reads++;
	return 0;
}

static void batch_finished(struct raft_apply *request, int status, void *result)
{
	(void)status;
	(void)result;
	free(request);
}

/* Takes what fits; at least one. */
static void fill_batch(struct consensus *c, struct batch *b)
{
	size_t bytes = 0;
	for (b->n = 0; b->n < BATCH_ENTRIES && !STAILQ_EMPTY(&c->waiting); b->n++) {
		struct proposal *p = STAILQ_FIRST(&c->waiting);
		if (b->n > 0 && bytes + p->size > BATCH_BYTES)
			break;
		STAILQ_REMOVE_HEAD(&c->waiting, next);
		bytes += p->size;
		b->proposals[b->n] = p;
		b->frames[b->n] = p->frame;
	}
}

static void refuse_batch(struct consensus *c, struct batch *b, int status)
{
	for (unsigned i = 0; i < b->n; i++) {
		raft_free(b->frames[i].base);
		answer(c, b->proposals[i], status);
	}
}

static void propose_batch(struct consensus *c)
{
	struct batch b;
	struct raft_apply *request = malloc(sizeof *request);
	if (request == NULL)
		return; /* tried again next turn */
	fill_batch(c, &b);
	uint64_t first = raft_last_index(&c->raft) + 1;
	int rc = may_propose(c) ? raft_apply(&c->raft, request, b.frames, b.n, batch_finished)
				: RAFT_NOTLEADER;
	if (rc != 0) {
		free(request);
		refuse_batch(c, &b, rc == RAFT_NOMEM ? -ENOMEM : -EAGAIN);
		return;
	}
	c->counts.batches++;
	c->counts.proposed += b.n;
	for (unsigned i = 0; i < b.n; i++) {
		b.proposals[i]->index = first + i;
		b.proposals[i]->term = c->raft.current_term;
		STAILQ_INSERT_TAIL(&c->pending, b.proposals[i], next);
	}
}

static void barrier_done(struct raft_barrier *barrier, int status)
{
	struct consensus *c = barrier->data;
	c->barrier_running = false;
	answer_reads(&c->running_reads, status == 0 ? 0 : -EAGAIN, status == 0 ? barrier->index : 0);
}

/* Reads that came while a barrier was under way must wait for the next: it may have been committed before them. */
static void start_barrier(struct consensus *c)
{
	if (c->barrier_running || STAILQ_EMPTY(&c->waiting_reads))
		return;
	STAILQ_CONCAT(&c->running_reads, &c->waiting_reads);
	c->barrier.data = c;
	c->barrier_running = may_propose(c) && raft_barrier(&c->raft, &c->barrier, barrier_done) == 0;
	if (c->barrier_running)
		c->counts.barriers++;
	else
		answer_reads(&c->running_reads, -EAGAIN, 0);
}

void propose_flush(struct consensus *c)
{
	/* What callbacks of this flush propose is for the next turn. */
	for (uint64_t n = c->unanswered / BATCH_ENTRIES + 1; n > 0 && !STAILQ_EMPTY(&c->waiting); n--)
		propose_batch(c);
	start_barrier(c);
}

void propose_applied(struct consensus *c, uint64_t index)
{
	while (!STAILQ_EMPTY(&c->pending) && STAILQ_FIRST(&c->pending)->index <= index) {
		struct proposal *p = STAILQ_FIRST(&c->pending);
		STAILQ_REMOVE_HEAD(&c->pending, next);
		/* The same index and term is the same entry: Log Matching, section 5.3 of the Raft paper. */
		bool ours = p->index == index && guard_term_of(c->guard, index) == p->term;
		answer(c, p, ours ? 0 : -ECONNABORTED);
	}
}

void propose_settled(struct consensus *c)
{
	while (!STAILQ_EMPTY(&c->pending)) {
		struct proposal *p = STAILQ_FIRST(&c->pending);
		if (c->raft.state == RAFT_LEADER && p->term == c->raft.current_term)
			return;
		STAILQ_REMOVE_HEAD(&c->pending, next);
		answer(c, p, -ECONNABORTED);
	}
}

void propose_cancel(struct consensus *c)
{
	while (!STAILQ_EMPTY(&c->pending)) {
		struct proposal *p = STAILQ_FIRST(&c->pending);
		STAILQ_REMOVE_HEAD(&c->pending, next);
		answer(c, p, -ECONNABORTED);
	}
	while (!STAILQ_EMPTY(&c->waiting)) {
		struct proposal *p = STAILQ_FIRST(&c->waiting);
		STAILQ_REMOVE_HEAD(&c->waiting, next);
		raft_free(p->frame.base);
		answer(c, p, -ECANCELED);
	}
	answer_reads(&c->running_reads, -ECANCELED, 0);
	answer_reads(&c->waiting_reads, -ECANCELED, 0);
}
