/* connection.c -- see connection.h.
 *
 * A call is a thread and a struct that the thread and the caller share; whoever is the last to let go frees it. The caller waits for
 * it no longer than its limit. Invariants, under the lock: `running` counts calls whose callers wait, `stuck` those whose callers
 * were told that the time is over; `live` is used for new calls only, and is nobody's but this struct's reference. */
#include "connection.h"

#include <errno.h>
#include <libvirt/virterror.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "core/clock.h"
#include "libvirt_launcher/libvirtd.h"

#define KEEPALIVE_SECONDS 5
#define KEEPALIVE_MISSES  3
#define OPEN_AGAIN_MS     50
#define CALL_STACK        (512u * 1024)

struct connection {
	char uri[LIBVIRTD_URI_MAX], dir[LIBVIRTD_DIR_MAX + 1], bin_dir[256];
	bool own;         /* the libvirtd is the node's */
	atomic_uint refs; /* the owner, calls, libvirt's callbacks */
	pthread_mutex_t lock;
	pthread_cond_t changed; /* of CLOCK_MONOTONIC */
	virConnectPtr live;     /* NULL: none */
	unsigned running, stuck;
};

struct call {
	struct connection *c;
	connection_work *work;
	void *arg;
	void (*drop)(void *arg);
	uint64_t deadline_ms;
	virConnectPtr with, retired; /* references; retired: what was live, taken along */
	bool done, abandoned;        /* under the connection's lock */
	int result;
	struct err err;
};

/* -- libvirt's events --------------------------------------------------------------------------------------------- */

static void *run_events(void *arg)
{
	(void)arg;
	for (;;) {
		if (virEventRunDefaultImpl() < 0)
			usleep(10000);
	}
	return NULL;
}

/* libvirt prints errors unless somebody takes them. */
static void take_error(void *arg, virErrorPtr e)
{
	(void)arg;
	(void)e;
}

static int events_result;

static void begin_events(void)
{
	pthread_t t;

	virSetErrorFunc(NULL, take_error);
	events_result = virEventRegisterDefaultImpl() < 0 || virInitialize() < 0 ? -EIO : 0;
	if (events_result == 0)
		events_result = -pthread_create(&t, NULL, run_events, NULL);
	if (events_result == 0)
		pthread_detach(t);
}

int connection_error(struct err *err, int code, const char *what)
{
	virErrorPtr e = virGetLastError();

	return err_set(err, code, "%s: %s", what, e != NULL && e->message != NULL ? e->message : "failed");
}

/* -- The connection ------------------------------------------------------------------------------------------------ */

static void unref(void *arg)
{
	struct connection *c = arg;

	if (atomic_fetch_sub(&c->refs, 1) != 1)
		return;
	pthread_cond_destroy(&c->changed);
	pthread_mutex_destroy(&c->lock);
	free(c);
}

/* Closing asks the daemon too, and waits for it: never under the lock, and never on a caller's thread. */
static void close_all(virConnectPtr a, virConnectPtr b)
{
	if (a != NULL)
		virConnectClose(a);
	if (b != NULL)
		virConnectClose(b);
}

static void *run_close(void *arg)
{
	close_all(arg, NULL);
	return NULL;
}

static virConnectPtr open_once(struct connection *c, struct err *err)
{
	virConnectPtr v = virConnectOpen(c->uri);

	if (v == NULL) {
		connection_error(err, -ENOTCONN, "connect to libvirt");
		return NULL;
	}
	/* An older daemon may not have it; then only the socket tells that it is gone. */
	(void)virConnectSetKeepAlive(v, KEEPALIVE_SECONDS, KEEPALIVE_MISSES);
	return v;
}

static bool given_up(struct call *call)
{
	bool ret;

	pthread_mutex_lock(&call->c->lock);
	ret = call->abandoned;
	pthread_mutex_unlock(&call->c->lock);
	return ret || clock_boot_ms() >= call->deadline_ms;
}

/* Takes the connection out of use, if it still is the one: its reference is the caller's then. */
static virConnectPtr retire(struct connection *c, virConnectPtr which)
{
	virConnectPtr ret = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->live == which) {
		ret = c->live;
		c->live = NULL;
	}
	pthread_mutex_unlock(&c->lock);
	return ret;
}

/* A reference of the call's own to the live connection, if there is one that lives. */
static virConnectPtr take_live(struct connection *c)
{
	virConnectPtr v = NULL;

	pthread_mutex_lock(&c->lock);
	if (c->live != NULL && virConnectRef(c->live) == 0)
		v = c->live;
	pthread_mutex_unlock(&c->lock);
	if (v == NULL || virConnectIsAlive(v) == 1)
		return v;
	close_all(v, retire(c, v));
	return NULL;
}

/* Several calls may open at once; the first one's is kept, the others' serve their own call alone. */
static int connect_call(struct call *call)
{
	struct connection *c = call->c;

	for (bool begun = false;; begun = true) {
		virConnectPtr v = take_live(c);

		if (v == NULL)
			v = open_once(c, &call->err);
		if (v == NULL) {
			if (!c->own || given_up(call))
				return call->err.code;
			if (!begun && libvirtd_begin(c->dir, c->bin_dir, &call->err) < 0)
				return call->err.code;
			usleep(OPEN_AGAIN_MS * 1000);
			continue;
		}
		pthread_mutex_lock(&c->lock);
		call->with = v;
		if (c->live == NULL && !call->abandoned && virConnectRef(v) == 0)
			c->live = v;
		pthread_mutex_unlock(&c->lock);
		return 0;
	}
}

/* -- Calls --------------------------------------------------------------------------------------------------------- */

static void free_call(struct call *call)
{
	struct connection *c = call->c;

	free(call);
	unref(c);
}

static void *run_call(void *arg)
{
	struct call *call = arg;
	struct connection *c = call->c;
	virConnectPtr with, retired;
	int r = connect_call(call);
	bool abandoned;

	if (r == 0)
		r = call->work(call->with, call->arg, &call->err);
	atomic_fetch_add(&c->refs, 1); /* of this thread: once it is done the call is the caller's */
	pthread_mutex_lock(&c->lock);
	/* That code means here that `arg` is the call's. */
	call->result = r == -ETIMEDOUT ? -EIO : r;
	call->done = true;
	with = call->with;
	retired = call->retired;
	abandoned = call->abandoned;
	if (abandoned)
		c->stuck--;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (abandoned) {
		call->drop(call->arg);
		free_call(call);
	}
	close_all(with, retired);
	unref(c);
	return NULL;
}

static void until(uint64_t deadline_ms, struct timespec *ret)
{
	uint64_t now = clock_boot_ms(), wait = deadline_ms > now ? deadline_ms - now : 0;

	clock_gettime(CLOCK_MONOTONIC, ret);
	ret->tv_sec += (time_t)(wait / 1000);
	ret->tv_nsec += (long)(wait % 1000) * 1000000;
	if (ret->tv_nsec >= 1000000000) {
		ret->tv_sec++;
		ret->tv_nsec -= 1000000000;
	}
}

static bool wait_changed(struct connection *c, uint64_t deadline_ms)
{
	struct timespec t;

	until(deadline_ms, &t);
	return pthread_cond_timedwait(&c->changed, &c->lock, &t) != ETIMEDOUT;
}

/* Under the lock: one of the places, or why not. */
static int take_place(struct connection *c, uint64_t deadline_ms, struct err *err)
{
	if (c->stuck >= CONNECTION_STUCK_MAX)
		return err_set(err, -EBUSY, "libvirt does not answer: %u calls have not come back", c->stuck);
	while (c->running >= CONNECTION_CALLS_MAX) {
		if (!wait_changed(c, deadline_ms) && c->running >= CONNECTION_CALLS_MAX)
			return err_set(err, -EBUSY, "libvirt is busy with %u calls", c->running);
	}
	c->running++;
	return 0;
}

static int begin_call(struct call *call, struct err *err)
{
	pthread_attr_t attr;
	pthread_t t;
	int r;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, CALL_STACK);
	pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
	r = pthread_create(&t, &attr, run_call, call);
	pthread_attr_destroy(&attr);
	return r == 0 ? 0 : err_system(err, -r, "thread for libvirt");
}

/* Under the lock. The connection goes along, so that nobody waits behind what is stuck in it. */
static void abandon(struct call *call)
{
	struct connection *c = call->c;

	call->abandoned = true;
	c->stuck++;
	if (call->with == NULL || call->with != c->live)
		return;
	call->retired = c->live;
	c->live = NULL;
}

static int await(struct call *call, uint32_t timeout_ms, struct err *err)
{
	struct connection *c = call->c;
	bool done;
	int r;

	pthread_mutex_lock(&c->lock);
	while (!call->done && wait_changed(c, call->deadline_ms))
		;
	done = call->done;
	if (!done)
		abandon(call);
	c->running--;
	pthread_cond_broadcast(&c->changed);
	pthread_mutex_unlock(&c->lock);
	if (!done)
		return err_set(err, -ETIMEDOUT, "libvirt did not answer within %u ms", timeout_ms);
	r = call->result;
	if (r < 0 && err != NULL)
		*err = call->err;
	if (r < 0 && err != NULL)
		err->code = r;
	free_call(call);
	return r;
}

int connection_call(struct connection *c, connection_work *work, void *arg, void (*drop)(void *arg),
		    uint32_t timeout_ms, struct err *err)
{
	struct call *call = calloc(1, sizeof *call);
	int r;

	if (call == NULL)
		return err_set(err, -ENOMEM, "call libvirt: no memory");
	atomic_fetch_add(&c->refs, 1);
	*call = (struct call){
		.c = c, .work = work, .arg = arg, .drop = drop, .deadline_ms = clock_boot_ms() + timeout_ms};
	pthread_mutex_lock(&c->lock);
	r = take_place(c, call->deadline_ms, err);
	pthread_mutex_unlock(&c->lock);
	if (r == 0) {
		r = begin_call(call, err);
		if (r == 0)
			return await(call, timeout_ms, err);
		pthread_mutex_lock(&c->lock);
		c->running--;
		pthread_mutex_unlock(&c->lock);
	}
	free_call(call);
	return r;
}

/* -- Its life ------------------------------------------------------------------------------------------------------ */

int connection_new(const struct connection_options *o, struct connection **ret, struct err *err)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	struct connection *c = calloc(1, sizeof *c);
	pthread_condattr_t attr;
	int r = 0;

	if (c == NULL)
		return err_set(err, -ENOMEM, "libvirt: no memory");
	pthread_once(&once, begin_events);
	if (events_result < 0)
		r = err_set(err, events_result, "libvirt's events cannot be had");
	c->own = o->uri == NULL || o->uri[0] == '\0';
	if (r == 0 && c->own)
		r = libvirtd_uri(o->dir, c->uri, sizeof c->uri, err);
	else if (r == 0 && strlen(o->uri) >= sizeof c->uri)
		r = err_set(err, -ENAMETOOLONG, "libvirt_uri: longer than %zu bytes", sizeof c->uri - 1);
	if (r < 0) {
		free(c);
		return r;
	}
	if (c->own)
		snprintf(c->dir, sizeof c->dir, "%s", o->dir);
	else
		snprintf(c->uri, sizeof c->uri, "%s", o->uri);
	snprintf(c->bin_dir, sizeof c->bin_dir, "%s", o->bin_dir);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->changed, &attr);
	pthread_condattr_destroy(&attr);
	atomic_init(&c->refs, 1);
	*ret = c;
	return 0;
}

void connection_free(struct connection *c)
{
	virConnectPtr v;
	pthread_t t;

	if (c == NULL)
		return;
	pthread_mutex_lock(&c->lock);
	v = c->live;
	c->live = NULL;
	pthread_mutex_unlock(&c->lock);
	if (v != NULL && pthread_create(&t, NULL, run_close, v) == 0)
		pthread_detach(t);
	unref(c);
}
