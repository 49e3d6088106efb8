/* jobs.h -- blocking calls on threads, so that none of them delays the loop or another.
 * A job is the caller's struct with this one embedded. run() is called on a thread of the pool; then done() on the
 * loop's thread, from jobs_collect(). Threads are made on demand and end when they have nothing to do. */
#ifndef SANDBOXD_JOBS_H
#define SANDBOXD_JOBS_H

#include "core/err.h"

struct job {
	void (*run)(struct job *job);
	void (*done)(struct job *job);
	struct job *next;
};

struct jobs;

int jobs_new(unsigned threads_max, unsigned waiting_max, struct jobs **ret, struct err *err);
/* Waits for jobs that run; what waits is dropped without done(). */
void jobs_free(struct jobs *j);
/* Readable when something is done. */
int jobs_fd(const struct jobs *j);
/* -EAGAIN: too many wait already. */
int jobs_post(struct jobs *j, struct job *job);
void jobs_collect(struct jobs *j);

#endif
