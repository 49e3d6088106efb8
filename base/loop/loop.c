/* The wheel: slot = due / 4 ms mod 2048. A timer further away than a round of the wheel stays in its slot and is looked at once a
 * round. Setting a timer to a later time leaves it where it is: when its slot comes up it moves on.
 * A bitmap of slots in use says how long the one uv_timer has to sleep, so an idle loop does not wake. */
#include "loop/loop.h"

#include <string.h>

#include "core/map.h"
#include "core/must.h"

#define WHEEL_MASK (LOOP_WHEEL_SLOTS - 1)

void loop_list_add(struct loop_link *head, struct loop_link *link)
{
	link->prev = head->prev;
	link->next = head;
	head->prev->next = link;
	head->prev = link;
}

void loop_list_remove(struct loop_link *link)
{
	link->prev->next = link->next;
	link->next->prev = link->prev;
	link->next = link->prev = NULL;
}

/* --- timers --- */

static void wheel_run(uv_timer_t *timer);

static void wheel_sleep(struct loop *l, uint64_t until_ms)
{
	uint64_t now = loop_now(l);

	if (l->wheel_due_ms && l->wheel_due_ms <= until_ms)
		return;
	l->wheel_due_ms = until_ms;
	uv_timer_start(&l->wheel_timer, wheel_run, until_ms > now ? until_ms - now : 0, 0);
}

static void wheel_insert(struct loop *l, struct loop_timer *timer)
{
	/* Rounded up: never early; and never into a slot that has been run already. */
	uint64_t tick = (timer->due_ms + LOOP_WHEEL_MS - 1) / LOOP_WHEEL_MS;

	if (tick <= l->wheel_at_ms / LOOP_WHEEL_MS)
		tick = l->wheel_at_ms / LOOP_WHEEL_MS + 1;
	uint64_t slot = tick & WHEEL_MASK;
	timer->slot_ms = tick * LOOP_WHEEL_MS;
	loop_list_add(&l->wheel[slot], &timer->link);
	l->n_timers++;
	l->wheel_used[slot / 64] |= 1ull << (slot % 64);
}

/* The start of the next slot in use behind wheel_at_ms, or 0. */
static uint64_t wheel_next(const struct loop *l)
{
	uint64_t tick = l->wheel_at_ms / LOOP_WHEEL_MS;

	for (uint64_t i = 1; i <= LOOP_WHEEL_SLOTS; i++) {
		uint64_t slot = (tick + i) & WHEEL_MASK;
		uint64_t word = l->wheel_used[slot / 64] >> (slot % 64);
		if (!word)
			i += 63 - slot % 64;
		else
			return (tick + i + (uint64_t)__builtin_ctzll(word)) * LOOP_WHEEL_MS;
	}
	return 0;
}

static void wheel_run_slot(struct loop *l, uint64_t slot)
{
	struct loop_link due;

	l->wheel_used[slot / 64] &= ~(1ull << (slot % 64));
	if (loop_list_empty(&l->wheel[slot]))
		return;
	/* Moved aside first: what fires may set and clear any timer. */
	due = l->wheel[slot];
	due.next->prev = due.prev->next = &due;
	loop_list_init(&l->wheel[slot]);
	while (!loop_list_empty(&due)) {
		struct loop_timer *timer = container_of(due.next, struct loop_timer, link);
		loop_list_remove(&timer->link);
		l->n_timers--;
		if (timer->due_ms > l->wheel_at_ms) {
			wheel_insert(l, timer);
			continue;
		}
		timer->due_ms = 0;
		timer->fire(timer);
	}
}

static void wheel_run(uv_timer_t *handle)
{
	struct loop *l = handle->data;
	uint64_t now_tick = loop_now(l) / LOOP_WHEEL_MS;
	uint64_t tick = l->wheel_at_ms / LOOP_WHEEL_MS;

	l->wheel_due_ms = 0;
	if (now_tick > tick + LOOP_WHEEL_SLOTS)
		tick = now_tick - LOOP_WHEEL_SLOTS;
	while (tick < now_tick) {
		tick++;
		l->wheel_at_ms = tick * LOOP_WHEEL_MS;
		wheel_run_slot(l, tick & WHEEL_MASK);
	}
	uint64_t next = l->n_timers ? wheel_next(l) : 0;
	if (next)
		wheel_sleep(l, next);
}

void loop_timer_set(struct loop *l, struct loop_timer *timer, uint64_t in_ms)
{
	timer->due_ms = loop_now(l) + in_ms;
	if (timer->due_ms == 0)
		timer->due_ms = 1;
	if (loop_link_in(&timer->link)) {
		if (timer->due_ms >= timer->slot_ms)
			return;
		loop_list_remove(&timer->link);
		l->n_timers--;
	}
	if (!l->wheel_due_ms) /* nothing was waiting: the wheel's hand has been standing still */
		l->wheel_at_ms = loop_now(l) / LOOP_WHEEL_MS * LOOP_WHEEL_MS;
	wheel_insert(l, timer);
	/* A timer further away than a round is reached when its slot first comes up. */
	uint64_t first = timer->slot_ms;
	uint64_t round = (uint64_t)LOOP_WHEEL_SLOTS * LOOP_WHEEL_MS;
	if (first > l->wheel_at_ms + round)
		first -= (first - l->wheel_at_ms - 1) / round * round;
	wheel_sleep(l, first);
}

void loop_timer_clear(struct loop *l, struct loop_timer *timer)
{
	timer->due_ms = 0;
	if (!loop_link_in(&timer->link))
		return;
	loop_list_remove(&timer->link); /* the slot's bit may stay set: one wake-up that finds nothing */
	if (--l->n_timers == 0) {
		uv_timer_stop(&l->wheel_timer); /* so that a loop with nothing to wait for ends */
		l->wheel_due_ms = 0;
	}
}

/* --- deferred calls --- */

static void deferred_run(uv_idle_t *idle)
{
	struct loop *l = idle->data;
	struct loop_link due;

	if (loop_list_empty(&l->deferred)) {
		uv_idle_stop(&l->idle);
		return;
	}
	/* What these calls defer waits for the next turn, so that sockets are served between. */
	due = l->deferred;
	due.next->prev = due.prev->next = &due;
	loop_list_init(&l->deferred);
	while (!loop_list_empty(&due)) {
		struct loop_deferred *d = container_of(due.next, struct loop_deferred, link);
		loop_list_remove(&d->link);
		d->run(d);
	}
	if (loop_list_empty(&l->deferred))
		uv_idle_stop(&l->idle);
}

void loop_defer(struct loop *l, struct loop_deferred *deferred)
{
	if (loop_link_in(&deferred->link))
		return;
	if (loop_list_empty(&l->deferred))
		uv_idle_start(&l->idle, deferred_run);
	loop_list_add(&l->deferred, &deferred->link);
}

void loop_defer_cancel(struct loop *l, struct loop_deferred *deferred)
{
	(void)l;
	if (loop_link_in(&deferred->link))
		loop_list_remove(&deferred->link);
}

/* --- the loop --- */

int loop_init(struct loop *l, struct err *err)
{
	int r;

	memset(l, 0, sizeof *l);
	r = uv_loop_init(&l->uv);
	if (r)
		return err_system(err, r, "event loop");
	l->uv.data = l;
	must(!uv_timer_init(&l->uv, &l->wheel_timer));
	must(!uv_idle_init(&l->uv, &l->idle));
	l->wheel_timer.data = l->idle.data = l;
	for (size_t i = 0; i < LOOP_WHEEL_SLOTS; i++)
		loop_list_init(&l->wheel[i]);
	loop_list_init(&l->deferred);
	return 0;
}

void loop_run(struct loop *l)
{
	uv_run(&l->uv, UV_RUN_DEFAULT);
}

void loop_run_once(struct loop *l)
{
	uv_run(&l->uv, UV_RUN_NOWAIT);
}

void loop_stop(struct loop *l)
{
	uv_stop(&l->uv);
}

int loop_done(struct loop *l)
{
	int r;

	uv_close((uv_handle_t *)&l->wheel_timer, NULL);
	/* Deferred calls may still be what closes the last streams: the idle handle goes last. */
	uv_unref((uv_handle_t *)&l->idle);
	uv_run(&l->uv, UV_RUN_NOWAIT);
	uv_run(&l->uv, UV_RUN_NOWAIT);
	uv_close((uv_handle_t *)&l->idle, NULL);
	uv_run(&l->uv, UV_RUN_NOWAIT);
	r = uv_loop_close(&l->uv);
	buf_done(&l->tls_out);
	return r;
}
