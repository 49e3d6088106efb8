/* watermark.c -- see watermark.h. A slot is {u64 magic, sequence, id, term, vote, index, its term, hash of these}, little
 * endian; the whole slot with the higher sequence counts. The slots lie in blocks of their own.
 *
 * Happy path: watermark_raise notes the index and wakes the thread, which writes it into the older slot and rests.
 * Failure modes: a write of the thread that fails is tried again at the next one; the older mark stays valid. One of
 * watermark_promise is the caller's to handle. Invariant: at most one write at a time (`writing`). */
#include "consensus/disk/watermark.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "consensus/frame.h"
#include "consensus/disk/remedy.h"
#include "core/fd.h"

#define MAGIC      0x326b724d62726542ull /* "BerbMrk2" */
#define WORDS      8
#define SLOT_SPACE 4096
#define FILE_SIZE  (2 * SLOT_SPACE)

struct watermark {
	int fd; /* O_DSYNC */
	pthread_t thread;
	pthread_mutex_t lock; /* of all below */
	pthread_cond_t changed;
	struct watermark_record wanted;
	uint64_t sequence; /* of the last write */
	uint64_t written;  /* its index */
	bool dirty;        /* `wanted` is newer */
	bool writing, stopping;
};

static void encode(const struct watermark_record *r, uint64_t sequence, uint64_t words[WORDS])
{
	const uint64_t fields[] = {MAGIC, sequence, r->id, r->term, r->vote, r->index, r->index_term};
	for (unsigned i = 0; i < WORDS - 1; i++)
		words[i] = htole64(fields[i]);
	words[WORDS - 1] = htole64(frame_hash(FRAME_HASH_SEED, words, (WORDS - 1) * sizeof *words));
}

static bool decode(const void *slot, struct watermark_record *ret, uint64_t *ret_sequence)
{
	uint64_t words[WORDS];
	memcpy(words, slot, sizeof words);
	if (le64toh(words[0]) != MAGIC ||
	    le64toh(words[WORDS - 1]) != frame_hash(FRAME_HASH_SEED, words, (WORDS - 1) * sizeof *words))
		return false;
	*ret_sequence = le64toh(words[1]);
	*ret = (struct watermark_record){.id = le64toh(words[2]),
					 .term = le64toh(words[3]),
					 .vote = le64toh(words[4]),
					 .index = le64toh(words[5]),
					 .index_term = le64toh(words[6])};
	return true;
}

static int read_newest(const char *path, struct watermark_record *ret, uint64_t *ret_sequence,
		       struct err *err)
{
	CLEANUP_BUF struct buf bytes = BUF_MAX(FILE_SIZE);
	struct watermark_record record;
	uint64_t sequence, newest = 0;
	int rc = fd_read_file(path, FILE_SIZE, &bytes, err);
	if (rc != 0 && rc != -EFBIG)
		return rc;
	for (size_t at = 0; rc == 0 && at + sizeof(uint64_t[WORDS]) <= bytes.n; at += SLOT_SPACE) {
		if (decode(bytes.p + at, &record, &sequence) && sequence > newest) {
			*ret = record;
			newest = sequence;
		}
	}
	if (newest == 0)
		return err_set(err, -EUCLEAN, "%s: damaged; " REMEDY, path);
	*ret_sequence = newest;
	return 0;
}

int watermark_read(const char *path, struct watermark_record *ret, struct err *err)
{
	uint64_t sequence;
	return read_newest(path, ret, &sequence, err);
}

int watermark_create(const char *path, const struct watermark_record *record, struct err *err)
{
	unsigned char bytes[FILE_SIZE] = {0};
	uint64_t words[WORDS];
	encode(record, 1, words);
	memcpy(bytes + SLOT_SPACE, words, sizeof words);
	return fd_write_file(path, 0600, bytes, sizeof bytes, err);
}

/* Writes `wanted`. Unlocks meanwhile; waits before if the other thread writes. */
static int write_wanted(struct watermark *w)
{
	uint64_t words[WORDS];
	while (w->writing)
		pthread_cond_wait(&w->changed, &w->lock);
	w->writing = true;
	w->dirty = false;
	uint64_t sequence = w->sequence + 1, index = w->wanted.index;
	encode(&w->wanted, sequence, words);
	pthread_mutex_unlock(&w->lock);
	ssize_t n = pwrite(w->fd, words, sizeof words, (off_t)(sequence % 2 * SLOT_SPACE));
	int rc = n == (ssize_t)sizeof words ? 0 : n < 0 ? -errno : -EIO;
	pthread_mutex_lock(&w->lock);
	w->writing = false;
	if (rc == 0) {
		w->sequence = sequence;
		w->written = index;
	} else {
		w->dirty = true;
	}
	pthread_cond_broadcast(&w->changed);
	return rc;
}

/* Until the time is over, or the end begins. */
static void rest(struct watermark *w, uint64_t until_ms)
{
	struct timespec until = {.tv_sec = (time_t)(until_ms / 1000),
				 .tv_nsec = (long)(until_ms % 1000) * 1000000};
	while (!w->stopping && pthread_cond_timedwait(&w->changed, &w->lock, &until) != ETIMEDOUT)
		;
}

static uint64_t monotonic_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void *write_each(void *arg)
{
	struct watermark *w = arg;
	pthread_mutex_lock(&w->lock);
	while (!w->stopping) {
		while (!w->dirty && !w->stopping)
			pthread_cond_wait(&w->changed, &w->lock);
		uint64_t began = monotonic_ms();
		if (w->dirty)
			(void)write_wanted(w); /* stays dirty when it failed */
		rest(w, began + WATERMARK_EACH_MS);
	}
	if (w->dirty)
		(void)write_wanted(w);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

int watermark_open(const char *path, const struct watermark_record *record, struct watermark **ret,
		   struct err *err)
{
	struct watermark_record found;
	uint64_t sequence;
	pthread_condattr_t monotonic;
	int rc = read_newest(path, &found, &sequence, err);
	if (rc != 0)
		return rc;
	CLEANUP_FD int fd = open(path, O_WRONLY | O_DSYNC | O_CLOEXEC);
	if (fd < 0)
		return err_system(err, -errno, "%s", path);
	struct watermark *w = calloc(1, sizeof *w);
	if (w == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", path);
	w->wanted = *record;
	w->sequence = sequence;
	w->written = record->index;
	w->fd = fd;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&w->changed, &monotonic);
	pthread_condattr_destroy(&monotonic);
	rc = pthread_create(&w->thread, NULL, write_each, w);
	if (rc != 0) {
		free(w);
		return err_system(err, -rc, "%s: thread", path);
	}
	fd_take(&fd);
	*ret = w;
	return 0;
}

void watermark_close(struct watermark *w)
{
	if (w == NULL)
		return;
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->changed);
	pthread_mutex_unlock(&w->lock);
	pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->changed);
	pthread_mutex_destroy(&w->lock);
	fd_close(&w->fd);
	free(w);
}

void watermark_raise(struct watermark *w, uint64_t index, uint64_t index_term)
{
	/* Only this thread changes `wanted`. */
	if (w->wanted.index == index && w->wanted.index_term == index_term)
		return;
	pthread_mutex_lock(&w->lock);
	w->wanted.index = index;
	w->wanted.index_term = index_term;
	if (!w->dirty) {
		w->dirty = true;
		pthread_cond_broadcast(&w->changed);
	}
	pthread_mutex_unlock(&w->lock);
}

int watermark_promise(struct watermark *w, uint64_t term, uint64_t vote)
{
	pthread_mutex_lock(&w->lock);
	w->wanted.term = term;
	w->wanted.vote = vote;
	int rc = write_wanted(w);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

int watermark_lower(struct watermark *w, uint64_t index, uint64_t index_term)
{
	pthread_mutex_lock(&w->lock);
	w->wanted.index = index;
	w->wanted.index_term = index_term;
	int rc = write_wanted(w);
	pthread_mutex_unlock(&w->lock);
	return rc;
}

struct watermark_record watermark_wanted(const struct watermark *w)
{
	return w->wanted;
}

uint64_t watermark_written(struct watermark *w)
{
	pthread_mutex_lock(&w->lock);
	uint64_t written = w->written;
	pthread_mutex_unlock(&w->lock);
	return written;
}
