/* templates.c -- see templates.h.
 *
 * One list under one lock; what builds or waits holds its entry, so that it outlives its place in the list. An entry:
 *   BUILDING -> READY    sealed
 *   BUILDING -> FAILED   nobody gets it; the back-off is over: BUILDING again
 *   READY    -> FAILED   spoiled
 * Sealing waits for QEMU's end: while somebody maps the memory shared and writable the kernel refuses (EBUSY). */
#include "templates.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"
#include "core/must.h"

#define KEY_SIZE     512
#define SEAL_MS      10000
#define SEAL_US      2000
#define WAIT_S       120 /* for another's build, which has bounds of its own */
#define RETRY_MS     10000
#define RETRY_MS_MAX (10 * 60 * 1000)
#define MEMORY_SHARE 8 /* all templates take at most this part of the machine's memory; one always may be */

enum templates_phase { TEMPLATES_BUILDING, TEMPLATES_READY, TEMPLATES_FAILED };

struct templates_entry {
	char key[KEY_SIZE], version[256];
	enum templates_phase phase;
	bool listed;
	unsigned holders;  /* who cloned or builds or waits */
	int memory, state; /* -1 until it is ready */
	uint64_t used_ms;
	uint64_t retry_ms; /* failed: not before */
	unsigned failures; /* in a row */
	struct err why;
};

struct templates {
	pthread_mutex_t lock;
	pthread_cond_t built; /* an entry is not BUILDING any more */
	struct templates_entry *list[TEMPLATES_MAX];
	uint64_t bytes_max;
	struct err untold; /* the latest failure */
};

/* -- The list ----------------------------------------------------------------------------------------------- */

static void close_fds(struct templates_entry *e)
{
	fd_close(&e->memory);
	fd_close(&e->state);
}

static void release(struct templates_entry *e)
{
	if (e->listed || e->holders > 0)
		return;
	close_fds(e);
	free(e);
}

static void unlist(struct templates *t, size_t at)
{
	struct templates_entry *e = t->list[at];

	t->list[at] = NULL;
	e->listed = false;
	release(e);
}

static struct templates_entry *find(struct templates *t, const char *key)
{
	for (size_t i = 0; i < TEMPLATES_MAX; i++) {
		if (t->list[i] != NULL && strcmp(t->list[i]->key, key) == 0)
			return t->list[i];
	}
	return NULL;
}

static void drop_others(struct templates *t, const char *version)
{
	for (size_t i = 0; i < TEMPLATES_MAX; i++) {
		if (t->list[i] != NULL && t->list[i]->phase != TEMPLATES_BUILDING &&
		    strcmp(t->list[i]->version, version) != 0)
			unlist(t, i);
	}
}

static uint64_t memory_used(const struct templates *t)
{
	uint64_t total = 0;
	struct stat st;

	for (size_t i = 0; i < TEMPLATES_MAX; i++) {
		if (t->list[i] != NULL && t->list[i]->memory >= 0 && fstat(t->list[i]->memory, &st) == 0)
			total += (uint64_t)st.st_blocks * 512;
	}
	return total;
}

/* The one that was not used for longest and that nobody holds; TEMPLATES_MAX: none. */
static size_t oldest(const struct templates *t)
{
	size_t found = TEMPLATES_MAX;

	for (size_t i = 0; i < TEMPLATES_MAX; i++) {
		const struct templates_entry *e = t->list[i];

		if (e != NULL && e->holders == 0 && e->phase != TEMPLATES_BUILDING &&
		    (found == TEMPLATES_MAX || e->used_ms < t->list[found]->used_ms))
			found = i;
	}
	return found;
}

static int add(struct templates *t, const char *key, const char *version, struct templates_entry **ret,
	       struct err *err)
{
	struct templates_entry *e;
	size_t at = 0;

	while (memory_used(t) > t->bytes_max && oldest(t) < TEMPLATES_MAX)
		unlist(t, oldest(t));
	while (at < TEMPLATES_MAX && t->list[at] != NULL)
		at++;
	if (at == TEMPLATES_MAX) {
		at = oldest(t);
		if (at == TEMPLATES_MAX)
			return err_set(err, -EAGAIN, "all of %d templates are being used", TEMPLATES_MAX);
		unlist(t, at);
	}
	e = calloc(1, sizeof *e);
	if (e == NULL)
		return err_set(err, -ENOMEM, "template: no memory");
	snprintf(e->key, sizeof e->key, "%s", key);
	snprintf(e->version, sizeof e->version, "%s", version);
	e->memory = e->state = -1;
	e->listed = true;
	t->list[at] = e;
	*ret = e;
	return 0;
}

/* -- Building ----------------------------------------------------------------------------------------------- */

static int seal(int fd, const char *what, struct err *err)
{
	uint64_t deadline_ms = clock_boot_ms() + SEAL_MS;

	while (fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
		if (errno != EBUSY || clock_boot_ms() >= deadline_ms)
			return err_system(err, -errno, "seal the template's %s", what);
		usleep(SEAL_US);
	}
	return 0;
}

static int open_files(uint64_t bytes, int *ret_memory, int *ret_state, struct err *err)
{
	CLEANUP_FD int memory = memfd_create("berth-template", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	CLEANUP_FD int state = memfd_create("berth-template-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (memory < 0 || state < 0 || ftruncate(memory, (off_t)bytes) != 0 ||
	    fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) != 0)
		return err_system(err, -errno, "memory of a template");
	*ret_memory = fd_take(&memory);
	*ret_state = fd_take(&state);
	return 0;
}

/* What was sealed empty loads into nothing, and what is still mapped cannot be sealed. */
static int seal_both(int memory, int state, struct err *err)
{
	struct stat st;
	int r;

	if (fstat(state, &st) != 0 || st.st_size == 0)
		return err_set(err, -EIO, "no state was saved");
	r = seal(memory, "memory", err);
	return r < 0 ? r : seal(state, "state", err);
}

static int make_one(uint64_t bytes, templates_make *make, void *arg, int *ret_memory, int *ret_state,
		    struct err *err)
{
	CLEANUP_FD int memory = -1;
	CLEANUP_FD int state = -1;
	int r = open_files(bytes, &memory, &state, err);

	if (r == 0)
		r = make(arg, memory, state, err);
	if (r == 0)
		r = seal_both(memory, state, err);
	if (r < 0)
		return r;
	*ret_memory = fd_take(&memory);
	*ret_state = fd_take(&state);
	return 0;
}

/* -- Getting ------------------------------------------------------------------------------------------------ */

static void failed(struct templates *t, struct templates_entry *e, const struct err *why)
{
	uint64_t pause_ms = RETRY_MS;

	for (unsigned i = 0; i < e->failures && pause_ms < RETRY_MS_MAX; i++)
		pause_ms *= 2;
	e->failures++;
	e->phase = TEMPLATES_FAILED;
	e->why = *why;
	e->retry_ms = clock_boot_ms() + (pause_ms < RETRY_MS_MAX ? pause_ms : RETRY_MS_MAX);
	t->untold = *why;
}

static int wait_built(struct templates *t, struct templates_entry *e, struct err *err)
{
	struct timespec until;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WAIT_S;
	while (e->phase == TEMPLATES_BUILDING) {
		if (pthread_cond_timedwait(&t->built, &t->lock, &until) == ETIMEDOUT)
			return err_set(err, -EAGAIN, "another start builds the template still");
	}
	if (e->phase == TEMPLATES_FAILED) {
		if (err != NULL)
			*err = e->why;
		return e->why.code;
	}
	return 0;
}

static int make_into(struct templates *t, struct templates_entry *e, const struct templates_key *key,
		     templates_make *make, void *arg, struct err *err)
{
	struct err why = {.code = 0};
	int memory = -1, state = -1, r;

	e->phase = TEMPLATES_BUILDING;
	pthread_mutex_unlock(&t->lock);
	r = make_one(key->memory_bytes, make, arg, &memory, &state, &why);
	if (r < 0)
		err_wrap(&why, "template of pool %llu", (unsigned long long)key->pool_uid);
	pthread_mutex_lock(&t->lock);
	if (r < 0) {
		failed(t, e, &why);
		if (err != NULL)
			*err = why;
	} else {
		e->memory = memory;
		e->state = state;
		e->phase = TEMPLATES_READY;
	}
	pthread_cond_broadcast(&t->built);
	return r;
}

/* Of an entry that the caller holds. */
static int usable(struct templates *t, struct templates_entry *e, const struct templates_key *key,
		  templates_make *make, void *arg, bool fresh, struct err *err)
{
	uint64_t now_ms = clock_boot_ms();

	if (fresh)
		return make_into(t, e, key, make, arg, err);
	switch (e->phase) {
	case TEMPLATES_READY:
		return 0;
	case TEMPLATES_BUILDING:
		return wait_built(t, e, err);
	case TEMPLATES_FAILED:
		if (now_ms >= e->retry_ms)
			return make_into(t, e, key, make, arg, err);
		return err_set(err, -EAGAIN, "tried again in %llu s: %.300s",
			       (unsigned long long)(e->retry_ms - now_ms) / 1000 + 1, e->why.message);
	}
	must(false);
	return -EINVAL;
}

int templates_get(struct templates *t, const struct templates_key *key, templates_make *make, void *arg,
		  struct templates_entry **ret, struct err *err)
{
	char text[KEY_SIZE];
	struct templates_entry *e;
	int n = snprintf(text, sizeof text, "%llu %s %s %s %llu %u", (unsigned long long)key->pool_uid,
			 key->digest, key->version, key->cpu_model, (unsigned long long)key->memory_bytes,
			 key->vcpus);
	int r = 0;

	if (n >= (int)sizeof text)
		return err_set(err, -ENAMETOOLONG, "key of a template: longer than %zu bytes", sizeof text);
	pthread_mutex_lock(&t->lock);
	drop_others(t, key->version);
	e = find(t, text);
	bool fresh = e == NULL;

	if (fresh)
		r = add(t, text, key->version, &e, err);
	if (r == 0) {
		e->holders++;
		e->used_ms = clock_boot_ms();
		r = usable(t, e, key, make, arg, fresh, err);
		if (r == 0) {
			*ret = e;
		} else {
			e->holders--;
			release(e);
		}
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

void templates_put(struct templates *t, struct templates_entry *held)
{
	pthread_mutex_lock(&t->lock);
	held->holders--;
	held->failures = 0;
	held->used_ms = clock_boot_ms();
	release(held);
	pthread_mutex_unlock(&t->lock);
}

void templates_spoil(struct templates *t, struct templates_entry *held, const struct err *why)
{
	struct err told = *why;

	err_wrap(&told, "a clone did not come up");
	pthread_mutex_lock(&t->lock);
	if (held->listed && held->phase == TEMPLATES_READY) {
		struct templates_entry *failure = calloc(1, sizeof *failure);

		/* Others clone from it right now: they keep it, and what is listed in its place remembers the failure. */
		for (size_t i = 0; i < TEMPLATES_MAX; i++) {
			if (t->list[i] == held)
				t->list[i] = failure;
		}
		held->listed = false;
		if (failure != NULL) {
			memcpy(failure->key, held->key, sizeof failure->key);
			memcpy(failure->version, held->version, sizeof failure->version);
			failure->memory = failure->state = -1;
			failure->listed = true;
			failure->used_ms = clock_boot_ms();
			failure->failures = held->failures;
			failed(t, failure, &told);
		}
	}
	held->holders--;
	release(held);
	pthread_mutex_unlock(&t->lock);
}

int templates_memory(const struct templates_entry *held)
{
	return held->memory;
}

int templates_state(const struct templates_entry *held, int *ret_fd, struct err *err)
{
	char path[64];
	int fd;

	snprintf(path, sizeof path, "/proc/self/fd/%d", held->state);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_system(err, -errno, "open a template's state");
	*ret_fd = fd;
	return 0;
}

int templates_tend(struct templates *t, struct err *err)
{
	uint64_t now_ms = clock_boot_ms();
	int r = 0;

	pthread_mutex_lock(&t->lock);
	for (size_t i = 0; i < TEMPLATES_MAX; i++) {
		const struct templates_entry *e = t->list[i];

		if (e != NULL && e->holders == 0 && now_ms - e->used_ms >= TEMPLATES_UNUSED_MS &&
		    now_ms >= e->retry_ms)
			unlist(t, i);
	}
	if (t->untold.code != 0) {
		r = err_set(err, -EIO, "%s", t->untold.message);
		t->untold.code = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

/* -- Beginning and end -------------------------------------------------------------------------------------- */

int templates_new(struct templates **ret, struct err *err)
{
	struct templates *t = calloc(1, sizeof *t);
	pthread_condattr_t monotonic;

	if (t == NULL)
		return err_set(err, -ENOMEM, "templates: no memory");
	t->bytes_max = (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE) / MEMORY_SHARE;
	pthread_mutex_init(&t->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&t->built, &monotonic);
	pthread_condattr_destroy(&monotonic);
	*ret = t;
	return 0;
}

void templates_free(struct templates *t)
{
	if (t == NULL)
		return;
	for (size_t i = 0; i < TEMPLATES_MAX; i++) {
		if (t->list[i] != NULL) {
			must(t->list[i]->holders == 0);
			unlist(t, i);
		}
	}
	pthread_cond_destroy(&t->built);
	pthread_mutex_destroy(&t->lock);
	free(t);
}
