/* loop.h -- one event loop of one thread: a uv_loop, the buffers that its streams share, timers and deferred calls.
 *
 * Timers sit in a wheel of 4 ms slots driven by one uv_timer: setting a timer again to a later time is one store, so a
 * connection can move its deadline with every byte. A timer fires up to one slot late, never early.
 * A deferred call runs before the loop blocks again, never inside the call that asked for it.
 * Owner and thread: whoever calls loop_init; everything here is for that thread alone, except through mailbox.h. */
#ifndef LOOP_LOOP_H
#define LOOP_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <uv.h>

#include "core/buf.h"
#include "core/err.h"

#define LOOP_READ_BYTES  65536
#define LOOP_WHEEL_SLOTS 2048
#define LOOP_WHEEL_MS    4

struct loop_link {
	struct loop_link *next, *prev;
};

/* Embed it; zero-initialised is not armed. Disarm before its memory goes. */
struct loop_timer {
	struct loop_link link;
	uint64_t due_ms;  /* on loop_now's scale; 0 = not armed */
	uint64_t slot_ms; /* when the slot that holds it comes up */
	void (*fire)(struct loop_timer *timer);
};

/* Embed it; zero-initialised is idle. */
struct loop_deferred {
	struct loop_link link;
	void (*run)(struct loop_deferred *deferred);
};

struct loop {
	uv_loop_t uv;
	uv_timer_t wheel_timer;
	uv_idle_t idle;
	uint64_t wheel_due_ms; /* what wheel_timer waits for; 0 = stopped */
	uint64_t wheel_at_ms;  /* slots up to here were run */
	size_t n_timers;       /* in the wheel */
	struct loop_link wheel[LOOP_WHEEL_SLOTS];
	uint64_t wheel_used[LOOP_WHEEL_SLOTS / 64];
	struct loop_link deferred;
	struct buf tls_out;          /* ciphertext made by the current call */
	char read[LOOP_READ_BYTES];  /* valid during one read callback */
	char plain[LOOP_READ_BYTES]; /* decrypted bytes, valid during one on_data */
};

/* Large (about 170 KB): static or on the heap. */
int loop_init(struct loop *l, struct err *err);
/* Runs until loop_stop or until nothing is left to wait for. */
void loop_run(struct loop *l);
/* Runs what is due without blocking, then returns. For tests. */
void loop_run_once(struct loop *l);
void loop_stop(struct loop *l); /* from this thread */
/* After everything on it was closed: runs until the close callbacks are through. -EBUSY if something is left open. */
int loop_done(struct loop *l);

/* Milliseconds of the monotonic clock, as of the start of this turn of the loop. */
static inline uint64_t loop_now(const struct loop *l)
{
	return uv_now(&l->uv);
}

void loop_timer_set(struct loop *l, struct loop_timer *timer, uint64_t in_ms);
void loop_timer_clear(struct loop *l, struct loop_timer *timer);
static inline bool loop_timer_armed(const struct loop_timer *timer)
{
	return timer->due_ms != 0;
}

/* Asking twice is one call. */
void loop_defer(struct loop *l, struct loop_deferred *deferred);
void loop_defer_cancel(struct loop *l, struct loop_deferred *deferred);

/* Lists: an element is in at most one; `head` links to itself when empty. */
static inline void loop_list_init(struct loop_link *head)
{
	head->next = head->prev = head;
}
static inline bool loop_list_empty(const struct loop_link *head)
{
	return head->next == head;
}
static inline bool loop_link_in(const struct loop_link *link)
{
	return link->next != NULL;
}
void loop_list_add(struct loop_link *head, struct loop_link *link); /* at the end */
void loop_list_remove(struct loop_link *link);

#endif
