#include "outbound.h"

#include <errno.h>

#include "ending.h"

#define SWITCH_MS 5000
#define AGAIN_MS  1000

void outbound_check(struct outbound *o, struct context *c, const struct sandbox_row *row)
{
	if (!o->open || o->request != 0 || row == NULL || row->egress)
		return;
	o->request =
		context_drive(c, SANDBOXD_EGRESS, &(struct sandboxd_egress){row->id, false}, 0, 0, SWITCH_MS);
}

static bool again(struct outbound *o, struct context *c)
{
	o->request = 0;
	context_timer_by(c, c->now_ms + AGAIN_MS);
	return true;
}

bool outbound_driven(struct outbound *o, struct context *c, const struct message *m)
{
	const struct sandboxd_reply *reply = m->body;

	if (o->request == 0 || m->envelope->correlation != o->request)
		return true;
	/* Busy, or not running yet: both pass. */
	if (reply->code == -EBUSY || reply->code == -ESRCH || ending_unknown(reply->code))
		return again(o, c);
	o->request = 0;
	o->open = reply->code != 0 && reply->code != -ENOENT;
	return !o->open;
}

bool outbound_lost(struct outbound *o, struct context *c, const struct message *m)
{
	return o->request != 0 && m->envelope->correlation == o->request && again(o, c);
}
