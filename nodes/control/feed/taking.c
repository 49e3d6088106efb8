#include "control/feed/taking.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "core/must.h"

struct taking {
	struct state_snapshot *snapshot;
	void (*wake)(void *arg);
	void *arg;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t room;
	/* Under the lock: */
	struct buf pieces[TAKING_PIECES];
	unsigned n;
	bool over, ending;
	int code; /* of the end */
};

/* On the thread. */
static int on_piece(void *to, const void *p, size_t n)
{
	struct taking *t = to;
	struct buf piece = {0};
	bool wake, ending;

	buf_add(&piece, p, n);
	if (buf_failed(&piece))
		return -ENOMEM;
	pthread_mutex_lock(&t->lock);
	while (t->n == TAKING_PIECES && !t->ending)
		pthread_cond_wait(&t->room, &t->lock);
	ending = t->ending;
	wake = !ending && t->n == 0;
	if (!ending)
		t->pieces[t->n++] = piece;
	pthread_mutex_unlock(&t->lock);
	if (ending)
		buf_done(&piece);
	if (wake)
		t->wake(t->arg);
	return ending ? -ECANCELED : 0;
}

static void *write_all(void *arg)
{
	struct taking *t = arg;
	int code = state_snapshot_write(t->snapshot, on_piece, t);

	pthread_mutex_lock(&t->lock);
	t->over = true;
	t->code = code;
	pthread_mutex_unlock(&t->lock);
	t->wake(t->arg);
	return NULL;
}

struct taking *taking_new(struct state_snapshot *snapshot, void (*wake)(void *arg), void *arg)
{
	struct taking *t = calloc(1, sizeof *t);

	must(t != NULL);
	*t = (struct taking){.snapshot = snapshot, .wake = wake, .arg = arg};
	must(pthread_mutex_init(&t->lock, NULL) == 0 && pthread_cond_init(&t->room, NULL) == 0);
	must(pthread_create(&t->thread, NULL, write_all, t) == 0);
	return t;
}

void taking_free(struct taking *t)
{
	if (t == NULL)
		return;
	pthread_mutex_lock(&t->lock);
	t->ending = true;
	pthread_cond_signal(&t->room);
	pthread_mutex_unlock(&t->lock);
	must(pthread_join(t->thread, NULL) == 0);
	for (unsigned i = 0; i < t->n; i++)
		buf_done(&t->pieces[i]);
	state_snapshot_free(t->snapshot);
	pthread_cond_destroy(&t->room);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

int taking_next(struct taking *t, struct buf *ret)
{
	int r = 1;

	pthread_mutex_lock(&t->lock);
	if (t->n > 0) {
		*ret = t->pieces[0];
		for (unsigned i = 1; i < t->n; i++)
			t->pieces[i - 1] = t->pieces[i];
		t->n--;
		pthread_cond_signal(&t->room);
	} else {
		r = !t->over ? 0 : t->code < 0 ? t->code : -ENODATA;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}
