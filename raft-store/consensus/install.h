/* install.h -- a leader's snapshot is read before the library takes it, on a thread of the pool.
 *
 * The library restores a snapshot within one callback of the loop. With a million rows to build that would take seconds, in
 * which this server neither votes nor answers. So when one has come from the leader, it waits, as behind a slow disk, until the
 * machine has read it beside what it has; what is left to do in the callback is to change one for the other. What was
 * there before is freed on a thread as well. */
#ifndef RAFT_CONSENSUS_INSTALL_H
#define RAFT_CONSENSUS_INSTALL_H

#include "consensus/parts.h"

/* Between raft_init and raft_start. A server without it, as a simulated one, reads and frees within its callbacks. */
void install_init(struct consensus *c);
/* The machine restores `buffer`: what was read ahead, or, at a start, what is read now. 0, and the buffer's bytes are freed; or it
 * says why not. */
int install_restore(struct consensus *c, const struct raft_buffer *buffer, struct err *err);
/* A thread is at work: the server may not be closed yet. */
bool install_busy(const struct consensus *c);

#endif
