#include "state/untyped.h"

#include "state/state.h"

int untyped_snapshot_write(const void *snapshot, int (*write)(void *to, const void *p, size_t n), void *to)
{
	return state_snapshot_write(snapshot, write, to);
}

void untyped_snapshot_free(void *machine, void *snapshot)
{
	(void)machine;
	state_snapshot_free(snapshot);
}

int untyped_read(const void *p, size_t n, void **ret, struct err *err)
{
	struct state *fresh = NULL;
	int r = state_read(p, n, &fresh, err);

	*ret = fresh;
	return r;
}

void untyped_free(void *state)
{
	state_free(state);
}
