/* See mailbox.h. A mutex and a list: posts are rare beside requests, which never leave their loop. */
#include "loop/mailbox.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "core/must.h"

#define DRAIN_PER_TURN 256

struct letter {
	struct letter *next;
	void *pointer; /* with n == 0 */
	size_t n;
	char bytes[];
};

struct mailbox {
	uv_async_t async; /* first: freed by its close callback only, through the last reference */
	pthread_mutex_t lock;
	struct letter *first, **last; /* under lock, as all below to `refs` */
	size_t count, capacity;
	bool closed;
	unsigned refs;
	mailbox_drain *drain;
	mailbox_drop *drop;
	void *arg;
};

static void letter_drop(struct mailbox *m, struct letter *l)
{
	if (l->n == 0 && m->drop)
		m->drop(l->pointer);
	free(l);
}

static struct letter *take_first(struct mailbox *m)
{
	struct letter *l;

	pthread_mutex_lock(&m->lock);
	l = m->first;
	if (l) {
		m->first = l->next;
		m->count--;
		if (!m->first)
			m->last = &m->first;
	}
	pthread_mutex_unlock(&m->lock);
	return l;
}

static void woken(uv_async_t *async)
{
	struct mailbox *m = async->data;
	struct letter *l;

	for (int i = 0; i < DRAIN_PER_TURN; i++) {
		l = take_first(m);
		if (!l)
			return;
		m->drain(m->arg, l->n ? l->bytes : l->pointer, l->n);
		free(l);
		if (m->closed) /* only this thread sets it */
			return;
	}
	uv_async_send(&m->async);
}

int mailbox_new(struct loop *l, size_t capacity, mailbox_drain *drain, mailbox_drop *drop, void *arg,
		struct mailbox **ret, struct err *err)
{
	struct mailbox *m = calloc(1, sizeof *m);
	int r;

	if (!m)
		return err_set(err, -ENOMEM, "mailbox: no memory");
	r = uv_async_init(&l->uv, &m->async, woken);
	if (r) {
		free(m);
		return err_system(err, r, "mailbox");
	}
	m->async.data = m;
	pthread_mutex_init(&m->lock, NULL);
	m->last = &m->first;
	m->capacity = capacity;
	m->refs = 1;
	m->drain = drain;
	m->drop = drop;
	m->arg = arg;
	*ret = m;
	return 0;
}

struct mailbox *mailbox_ref(struct mailbox *m)
{
	pthread_mutex_lock(&m->lock);
	m->refs++;
	pthread_mutex_unlock(&m->lock);
	return m;
}

void mailbox_unref(struct mailbox *m)
{
	unsigned left;

	pthread_mutex_lock(&m->lock);
	left = --m->refs;
	pthread_mutex_unlock(&m->lock);
	if (left)
		return;
	must(m->closed);
	pthread_mutex_destroy(&m->lock);
	free(m);
}

static int post(struct mailbox *m, struct letter *l)
{
	int r = 0;

	pthread_mutex_lock(&m->lock);
	if (m->closed)
		r = -EPIPE;
	else if (m->count == m->capacity)
		r = -ENOBUFS;
	if (!r) {
		*m->last = l;
		m->last = &l->next;
		m->count++;
		uv_async_send(&m->async); /* under the lock: the handle is closed under it too */
	}
	pthread_mutex_unlock(&m->lock);
	if (r)
		free(l);
	return r;
}

int mailbox_post(struct mailbox *m, const void *p, size_t n)
{
	struct letter *l;

	must(n > 0);
	l = malloc(sizeof *l + n);
	if (!l)
		return -ENOMEM;
	*l = (struct letter){.n = n};
	memcpy(l->bytes, p, n);
	return post(m, l);
}

int mailbox_post_pointer(struct mailbox *m, void *p)
{
	struct letter *l = calloc(1, sizeof *l);

	if (!l)
		return -ENOMEM;
	l->pointer = p;
	return post(m, l);
}

static void closed(uv_handle_t *handle)
{
	mailbox_unref(handle->data);
}

void mailbox_close(struct mailbox *m)
{
	struct letter *l;

	pthread_mutex_lock(&m->lock);
	must(!m->closed);
	m->closed = true;
	pthread_mutex_unlock(&m->lock);
	while ((l = take_first(m)))
		letter_drop(m, l);
	uv_close((uv_handle_t *)&m->async, closed);
}
