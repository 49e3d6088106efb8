/* See turns.h. Invariants: a lane is in its pool's ring exactly while it holds opens; asked counts the opens of a pool that
 * placement was asked for and that are in gw->opens. */
#include "gateway/limits/turns.h"

#include <errno.h>

#include "core/clock.h"
#include "core/must.h"
#include "gateway/inside.h"

#define LATE_MS 10000 /* behind the deadline: an answer that has not come by then was lost */

static int post(struct gw *gw, struct open *o)
{
	struct msg_open body = {.pool = o->pool,
				.identifier = {o->identifier, o->identifier_n},
				.require_existing = o->require_existing,
				.gone = o->gone};
	struct envelope e = {.to = {.kind = ADDRESS_PLACEMENT, .node = NODE_LEADER},
			     .type = MSG_OPEN,
			     .correlation = o->correlation,
			     .deadline_ms = o->deadline_ms};
	uint64_t now = clock_boot_ms();
	int r = session_post(gw, &e, message_body_codec[MSG_OPEN], &body);

	count(&gw->counters.opens, 1);
	o->asked = true;
	if (o->of_pool)
		o->of_pool->asked++;
	loop_timer_set(&gw->loop, &o->late, (o->deadline_ms > now ? o->deadline_ms - now : 0) + LATE_MS);
	return r;
}

int turns_ask(struct client *c, struct open *o)
{
	struct gw *gw = c->gw;
	struct account *pool = c->counted ? c->of_pool : NULL;

	if (pool) {
		o->of_pool = pool;
		pool->refs++;
	}
	if (!pool || (pool->asked < gw->gateway->config.opens_max && loop_list_empty(&pool->lanes)))
		return post(gw, o);
	o->lane = account_get(gw, ACCOUNT_LANE, pool->pool,
			      (struct str){c->of_subject->subject, c->of_subject->subject_n});
	if (!o->lane)
		return -ENOMEM;
	if (loop_list_empty(&o->lane->opens))
		loop_list_add(&pool->lanes, &o->lane->turn);
	loop_list_add(&o->lane->opens, &o->in_lane);
	return 0;
}

static void leave_lane(struct gw *gw, struct open *o)
{
	struct account *lane = o->lane;

	loop_list_remove(&o->in_lane);
	o->lane = NULL;
	loop_list_remove(&lane->turn);
	if (!loop_list_empty(&lane->opens)) /* behind the others */
		loop_list_add(&o->of_pool->lanes, &lane->turn);
	account_put(gw, lane);
}

void turns_leave(struct gw *gw, struct open *o)
{
	loop_timer_clear(&gw->loop, &o->late);
	if (o->lane)
		leave_lane(gw, o);
	if (o->asked && o->of_pool)
		o->of_pool->asked--;
	account_put(gw, o->of_pool);
	o->of_pool = NULL;
}

void turns_next(struct gw *gw, struct account *pool)
{
	while (pool && !gw->stopping && pool->asked < gw->gateway->config.opens_max &&
	       !loop_list_empty(&pool->lanes)) {
		struct account *lane = container_of(pool->lanes.next, struct account, turn);
		struct open *o = container_of(lane->opens.next, struct open, in_lane);

		leave_lane(gw, o);
		session_turn_came(o);
		if (post(gw, o))
			session_open_failed(gw, o);
	}
}
