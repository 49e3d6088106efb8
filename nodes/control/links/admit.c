#include "control/links/admit.h"

bool admit_vouches(const struct state *s, uint64_t node, uint64_t pool, uint64_t generation, uint64_t sandbox)
{
	const struct session_row *row = state_session_by_generation(s, generation);

	return row != NULL && row->pool == pool && row->state == SESSION_LIVE && row->sandbox == sandbox &&
	       row->node == node && row->rest == REST_AWAKE;
}
