/* leaderbox.h -- requests to the leader that were not answered yet, so that a change of leader costs their senders time
 * and not an error: they are sent again to the new one. Only requests that may be executed twice go through it: MSG_OPEN finds
 * the session that an earlier copy made. Writes need none of it: their node proposes them itself, under its sequence.
 * Owns: encoded copies, bounded. Thread: the control loop. */
#ifndef CONTROL_LEADERBOX_H
#define CONTROL_LEADERBOX_H

#include "wire/envelope.h"

#define LEADERBOX_MAX       20000
#define LEADERBOX_RESEND_MS 1000 /* request or answer may have been lost with a connection */
#define LEADERBOX_SLACK_MS \
	1500 /* the leader answers at the deadline, with the cause; its answer needs time too */

struct leaderbox;

struct leaderbox *leaderbox_new(void);
void leaderbox_free(struct leaderbox *b);
bool leaderbox_takes(uint16_t type);
/* Keeps a copy until it is answered or its deadline passed. -ENOBUFS. */
int leaderbox_keep(struct leaderbox *b, const struct envelope *e);
/* An answer passes by: forget its request. */
void leaderbox_answered(struct leaderbox *b, const struct envelope *answer);
/* A refusal (-EAGAIN) passes by: true if its request is kept here; it is sent again by leaderbox_resend. */
bool leaderbox_refused(struct leaderbox *b, const struct envelope *refusal);
/* Calls send() with those that were refused since, and with those that wait for LEADERBOX_RESEND_MS since they were sent. */
void leaderbox_resend(struct leaderbox *b, uint64_t boot_ms,
		      void (*send)(void *context, const struct envelope *e), void *context);
/* Calls send() with every request that is kept. */
void leaderbox_each(struct leaderbox *b, void (*send)(void *context, const struct envelope *e),
		    void *context);
/* Takes out those past their deadline and the slack, calling late() for each; late() may call leaderbox_answered. */
void leaderbox_expire(struct leaderbox *b, uint64_t boot_ms,
		      void (*late)(void *context, const struct envelope *e), void *context);

#endif
