#include "mailbox.h"

#include <stdlib.h>
#include <string.h>

struct letter *letter_new(const struct envelope *e)
{
	struct letter *l = malloc(sizeof *l + e->trace.n + e->body.n);

	if (l == NULL)
		return NULL;
	char *bytes = (char *)(l + 1);

	*l = (struct letter){.envelope = *e};
	if (e->trace.n > 0)
		memcpy(bytes, e->trace.p, e->trace.n);
	if (e->body.n > 0)
		memcpy(bytes + e->trace.n, e->body.p, e->body.n);
	l->envelope.trace = (struct str){bytes, e->trace.n};
	l->envelope.body = (struct str){bytes + e->trace.n, e->body.n};
	return l;
}

void letter_free(struct letter *l)
{
	free(l);
}

void mailbox_push(struct mailbox *box, struct letter *l)
{
	l->next = NULL;
	if (box->last != NULL)
		box->last->next = l;
	else
		box->first = l;
	box->last = l;
	box->n++;
}

struct letter *mailbox_pop(struct mailbox *box)
{
	struct letter *l = box->first;

	if (l == NULL)
		return NULL;
	box->first = l->next;
	if (box->first == NULL)
		box->last = NULL;
	box->n--;
	l->next = NULL;
	return l;
}

void mailbox_prepend(struct mailbox *to, struct mailbox *from)
{
	if (from->first == NULL)
		return;
	from->last->next = to->first;
	if (to->last == NULL)
		to->last = from->last;
	to->first = from->first;
	to->n += from->n;
	*from = (struct mailbox){0};
}

void mailbox_done(struct mailbox *box)
{
	for (struct letter *l; (l = mailbox_pop(box)) != NULL;)
		letter_free(l);
}
