/* mailbox.h -- the one way into a loop from other threads: a bounded queue of messages and a wake-up.
 *
 * Any thread posts; the loop's thread gets each message, in the order of each poster. A burst is drained in turns of 256 so
 * that sockets are served between. Failure modes: full (-ENOBUFS) or closed (-EPIPE): the poster keeps what it has.
 * Owner: the loop's thread makes and closes it. It is counted: a poster from another thread holds a reference
 * (mailbox_ref) for as long as it may post, so a post after the close is an error and not a crash. */
#ifndef LOOP_MAILBOX_H
#define LOOP_MAILBOX_H

#include "core/err.h"
#include "loop/loop.h"

struct mailbox;

/* The bytes are valid during the call. A posted pointer comes with n == 0 and now belongs to the callee. */
typedef void mailbox_drain(void *arg, void *p, size_t n);
/* Frees a posted pointer that is never delivered; may be NULL. */
typedef void mailbox_drop(void *p);

int mailbox_new(struct loop *l, size_t capacity, mailbox_drain *drain, mailbox_drop *drop, void *arg,
		struct mailbox **ret, struct err *err);
struct mailbox *mailbox_ref(struct mailbox *m);
void mailbox_unref(struct mailbox *m);
/* Copies n > 0 bytes. Any thread. */
int mailbox_post(struct mailbox *m, const void *p, size_t n);
/* Hands over a pointer. Any thread. */
int mailbox_post_pointer(struct mailbox *m, void *p);
/* The loop's thread; drops the creator's reference too. Undelivered messages are dropped. */
void mailbox_close(struct mailbox *m);

#endif
