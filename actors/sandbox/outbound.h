/* outbound.h -- turns a sandbox's outbound traffic off when its row says so. For the files of this folder.
 * Happy path: outbound_check() after everything that may have changed the row or what runs; one call of sandboxd at a time.
 * Failure: what is not known (sandboxd away, busy, no answer) is tried again each second by the actor's timer; a refusal is
 * told to the caller, who stops the sandbox: what may not send is never left sending. */
#ifndef SANDBOX_OUTBOUND_H
#define SANDBOX_OUTBOUND_H

#include "sandbox/sandbox.h"

struct outbound {
	bool open;        /* it may send to the outside, as far as is known */
	uint64_t request; /* that turns it off; 0: none */
};

void outbound_check(struct outbound *o, struct context *c, const struct sandbox_row *row);
/* Takes a MSG_DRIVEN. False: sandboxd cannot do it. */
bool outbound_driven(struct outbound *o, struct context *c, const struct message *m);
/* Takes a MSG_REFUSED if it is about this request. */
bool outbound_lost(struct outbound *o, struct context *c, const struct message *m);

#endif
