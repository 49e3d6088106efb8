#include "parking.h"

#define PARK_MS 5000

void parking_check(struct parking *p, struct context *c, const struct sandbox_row *row)
{
	const struct pool_row *pool = row == NULL ? NULL : state_pool(c->state, row->pool);
	bool on = pool != NULL && pool->isolation == ISOLATION_VM && row->state == SANDBOX_READY;

	if (row == NULL || on == p->on)
		return;
	p->on = on;
	(void)context_drive(c, SANDBOXD_PARK, &(struct sandboxd_park){row->id, on}, 0, 0, PARK_MS);
}
