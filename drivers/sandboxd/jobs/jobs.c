#include "sandboxd/jobs/jobs.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "core/fd.h"

#define IDLE_S      10
#define STACK_BYTES (512u * 1024)

struct queue {
	struct job *first, *last;
	unsigned n;
};

struct jobs {
	pthread_mutex_t lock;
	pthread_cond_t more, ended;
	struct queue waiting, done;
	unsigned threads, idle, threads_max, waiting_max;
	bool closing;
	int event;
};

static void push(struct queue *q, struct job *job)
{
	job->next = NULL;
	if (q->last != NULL)
		q->last->next = job;
	else
		q->first = job;
	q->last = job;
	q->n++;
}

static struct job *pop(struct queue *q)
{
	struct job *job = q->first;

	if (job != NULL) {
		q->first = job->next;
		if (q->first == NULL)
			q->last = NULL;
		q->n--;
	}
	return job;
}

/* With the lock held. NULL: this thread is not needed any more. */
static struct job *wait_for_job(struct jobs *j)
{
	struct timespec until;
	int r = 0;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += IDLE_S;
	j->idle++;
	while (j->waiting.first == NULL && !j->closing && r == 0)
		r = pthread_cond_timedwait(&j->more, &j->lock, &until);
	j->idle--;
	return j->closing ? NULL : pop(&j->waiting);
}

static void *work(void *arg)
{
	struct jobs *j = arg;
	struct job *job;
	uint64_t one = 1;

	pthread_mutex_lock(&j->lock);
	while ((job = wait_for_job(j)) != NULL) {
		pthread_mutex_unlock(&j->lock);
		job->run(job);
		pthread_mutex_lock(&j->lock);
		push(&j->done, job);
		(void)!write(j->event, &one, sizeof one);
	}
	j->threads--;
	pthread_cond_signal(&j->ended);
	pthread_mutex_unlock(&j->lock);
	return NULL;
}

int jobs_new(unsigned threads_max, unsigned waiting_max, struct jobs **ret, struct err *err)
{
	struct jobs *j = calloc(1, sizeof *j);
	pthread_condattr_t attr;

	if (j == NULL)
		return err_set(err, -ENOMEM, "jobs: no memory");
	j->threads_max = threads_max;
	j->waiting_max = waiting_max;
	j->event = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (j->event < 0) {
		int r = err_system(err, -errno, "eventfd");

		free(j);
		return r;
	}
	pthread_mutex_init(&j->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&j->more, &attr);
	pthread_cond_init(&j->ended, &attr);
	pthread_condattr_destroy(&attr);
	*ret = j;
	return 0;
}

void jobs_free(struct jobs *j)
{
	if (j == NULL)
		return;
	pthread_mutex_lock(&j->lock);
	j->closing = true;
	pthread_cond_broadcast(&j->more);
	while (j->threads > 0)
		pthread_cond_wait(&j->ended, &j->lock);
	pthread_mutex_unlock(&j->lock);
	pthread_cond_destroy(&j->more);
	pthread_cond_destroy(&j->ended);
	pthread_mutex_destroy(&j->lock);
	close(j->event);
	free(j);
}

int jobs_fd(const struct jobs *j)
{
	return j->event;
}

/* With the lock held. Without a new thread the job waits for one of the others. */
static int add_thread(struct jobs *j)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, work, j);
	pthread_attr_destroy(&attr);
	if (r == 0)
		j->threads++;
	return r == 0 || j->threads > 0 ? 0 : -EAGAIN;
}

int jobs_post(struct jobs *j, struct job *job)
{
	int r = 0;

	pthread_mutex_lock(&j->lock);
	if (j->waiting.n >= j->waiting_max)
		r = -EAGAIN;
	else if (j->idle <= j->waiting.n && j->threads < j->threads_max)
		r = add_thread(j);
	if (r == 0) {
		push(&j->waiting, job);
		pthread_cond_signal(&j->more);
	}
	pthread_mutex_unlock(&j->lock);
	return r;
}

void jobs_collect(struct jobs *j)
{
	struct job *job;
	uint64_t count;

	(void)!read(j->event, &count, sizeof count);
	for (;;) {
		pthread_mutex_lock(&j->lock);
		job = pop(&j->done);
		pthread_mutex_unlock(&j->lock);
		if (job == NULL)
			return;
		job->done(job);
	}
}
