/* mailbox.h -- letters: copied envelopes in one queue. Owns the copies. */
#ifndef RUNTIME_MAILBOX_H
#define RUNTIME_MAILBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "wire/envelope.h"

struct letter {
	struct letter *next;
	bool counted;             /* in its actor's `queued` */
	bool deferred;            /* handled again: a reply was matched with its request already */
	struct envelope envelope; /* trace and body point behind the letter */
};

struct mailbox {
	struct letter *first, *last;
	uint32_t n;
};

/* A copy; NULL without memory. */
struct letter *letter_new(const struct envelope *e);
void letter_free(struct letter *l);
void mailbox_push(struct mailbox *box, struct letter *l); /* takes the letter */
struct letter *mailbox_pop(struct mailbox *box);          /* NULL: empty; the caller owns it */
/* Puts all letters of `from` in front of `to`, in their order. */
void mailbox_prepend(struct mailbox *to, struct mailbox *from);
void mailbox_done(struct mailbox *box);

#endif
