/* untyped.h -- the tables as a replicated log's machine knows them, by pointers without a type: what consensus.h asks of snapshots.
 * How a machine takes one and what it does behind a restore differs; these do not. Threads: as in state.h. */
#ifndef STATE_UNTYPED_H
#define STATE_UNTYPED_H

#include <stddef.h>

#include "core/err.h"

/* state_snapshot_write. */
int untyped_snapshot_write(const void *snapshot, int (*write)(void *to, const void *p, size_t n), void *to);
/* state_snapshot_free; the machine is not looked at. */
void untyped_snapshot_free(void *machine, void *snapshot);
/* state_read: *ret is a struct state. */
int untyped_read(const void *p, size_t n, void **ret, struct err *err);
/* state_free. */
void untyped_free(void *state);

#endif
