#include "sandboxd/kept_logs.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/fd.h"

#define NAME_SIZE     128
#define FULL_BYTES    (256ull << 20) /* or a hundredth of the disk, if that is less: then logs make room */
#define BLOCK_BYTES   512u           /* of st_blocks */
#define FILE_OVERHEAD 4096u          /* directory entry and inode */

static const char *const suffixes[] = {".log", ".old"};
#define N_SUFFIXES 2

struct entry {
	uint64_t ended_ms, sandbox, pool, bytes;
	char tag[KEPT_LOGS_TAG + 1];
};

struct kept_logs {
	char dir[KEPT_LOGS_PATH_MAX - 64];
	int fd; /* of dir */
	uint64_t bytes_max, age_ms_max;
	pthread_mutex_t lock;  /* of all below */
	struct entry *entries; /* by ended_ms: first ... first + n - 1 */
	size_t first, n, capacity;
	uint64_t bytes;
	bool full;
};

/* -- Files ------------------------------------------------------------------------------------------------------ */

static void name_of(const struct entry *e, const char *suffix, char ret[NAME_SIZE])
{
	snprintf(ret, NAME_SIZE, "%016" PRIx64 "-%016" PRIx64 "-%016" PRIx64 "-%s%s", e->ended_ms, e->sandbox,
		 e->pool, e->tag[0] != '\0' ? e->tag : "0", suffix);
}

static void new_name(uint64_t sandbox, uint64_t pool, const char *suffix, char ret[NAME_SIZE])
{
	snprintf(ret, NAME_SIZE, "new-%016" PRIx64 "-%016" PRIx64 "%s", sandbox, pool, suffix);
}

static void remove_files(struct kept_logs *k, const struct entry *e)
{
	char name[NAME_SIZE];

	for (int i = 0; i < N_SUFFIXES; i++) {
		name_of(e, suffixes[i], name);
		unlinkat(k->fd, name, 0);
	}
}

/* What it costs on disk; 0: there is nothing to keep, and it is removed. */
static uint64_t take_file(struct kept_logs *k, const char *name)
{
	struct stat st;

	if (fstatat(k->fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return 0;
	if (S_ISREG(st.st_mode) && st.st_nlink == 1 && st.st_size > 0 &&
	    fchownat(k->fd, name, geteuid(), getegid(), AT_SYMLINK_NOFOLLOW) == 0 &&
	    fchmodat(k->fd, name, 0600, 0) == 0)
		return (uint64_t)st.st_blocks * BLOCK_BYTES + FILE_OVERHEAD;
	unlinkat(k->fd, name, S_ISDIR(st.st_mode) ? AT_REMOVEDIR : 0);
	return 0;
}

/* Of those that ended in one millisecond the one with the higher number. */
static bool ended_later(const struct entry *a, const struct entry *b)
{
	return a->ended_ms > b->ended_ms || (a->ended_ms == b->ended_ms && a->sandbox > b->sandbox);
}

/* -- The index -------------------------------------------------------------------------------------------------- */

static void drop_first(struct kept_logs *k)
{
	remove_files(k, &k->entries[k->first]);
	k->bytes -= k->entries[k->first].bytes;
	k->first++;
	k->n--;
}

static int make_room(struct kept_logs *k)
{
	size_t capacity = k->capacity == 0 ? 64 : k->capacity * 2;
	struct entry *entries;

	if (k->first + k->n < k->capacity)
		return 0;
	if (k->first > k->n) {
		memcpy(k->entries, k->entries + k->first, k->n * sizeof *k->entries);
		k->first = 0;
		return 0;
	}
	entries = calloc(capacity, sizeof *entries);
	if (entries == NULL)
		return -ENOMEM;
	if (k->n > 0)
		memcpy(entries, k->entries + k->first, k->n * sizeof *entries);
	free(k->entries);
	k->entries = entries;
	k->capacity = capacity;
	k->first = 0;
	return 0;
}

/* Nearly always at the end. */
static void insert(struct kept_logs *k, const struct entry *e)
{
	struct entry *at;

	if (make_room(k) < 0) {
		remove_files(k, e);
		return;
	}
	at = k->entries + k->first + k->n;
	for (; at > k->entries + k->first && ended_later(&at[-1], e); at--)
		at[0] = at[-1];
	*at = *e;
	k->n++;
	k->bytes += e->bytes;
}

static bool nearly_full(const struct kept_logs *k)
{
	struct statvfs v;
	uint64_t low;

	if (fstatvfs(k->fd, &v) != 0)
		return false;
	low = (uint64_t)v.f_blocks * v.f_frsize / 100;
	return (uint64_t)v.f_bavail * v.f_frsize < (low < FULL_BYTES ? low : FULL_BYTES);
}

static bool trim(struct kept_logs *k, uint64_t wall_ms)
{
	bool before = k->full;

	while (k->n > 0 && (k->bytes > k->bytes_max || k->n > KEPT_LOGS_MAX ||
			    k->entries[k->first].ended_ms + k->age_ms_max < wall_ms))
		drop_first(k);
	k->full = nearly_full(k);
	if (!k->full || k->n == 0)
		return false;
	while (k->n > 0 && nearly_full(k))
		drop_first(k);
	return !before;
}

/* -- A restart -------------------------------------------------------------------------------------------------- */

static int by_end(const void *a, const void *b)
{
	return ended_later(a, b) ? 1 : ended_later(b, a) ? -1 : 0;
}

static bool parse(const char *name, struct entry *ret)
{
	char tag[KEPT_LOGS_TAG + 2] = "", suffix[8] = "";

	*ret = (struct entry){0};
	if (sscanf(name, "%16" SCNx64 "-%16" SCNx64 "-%16" SCNx64 "-%33[0-9a-f]%7s", &ret->ended_ms,
		   &ret->sandbox, &ret->pool, tag, suffix) != 5 ||
	    (strcmp(suffix, suffixes[0]) != 0 && strcmp(suffix, suffixes[1]) != 0))
		return false;
	if (kept_logs_good_tag(tag))
		memcpy(ret->tag, tag, sizeof ret->tag);
	return true;
}

static void adopt(struct kept_logs *k, struct entry *e, bool older)
{
	char name[NAME_SIZE];

	name_of(e, suffixes[0], name);
	if (older && faccessat(k->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0)
		return; /* told by that one */
	for (int i = 0; i < N_SUFFIXES; i++) {
		name_of(e, suffixes[i], name);
		e->bytes += take_file(k, name);
	}
	if (e->bytes == 0 || make_room(k) < 0)
		return;
	k->entries[k->first + k->n++] = *e;
	k->bytes += e->bytes;
}

/* A sandboxd that was killed between moving and naming: all but the session is known. */
static void adopt_new(struct kept_logs *k, const char *name)
{
	uint64_t sandbox, pool;
	struct stat st;

	if (sscanf(name, "new-%16" SCNx64 "-%16" SCNx64, &sandbox, &pool) == 2 &&
	    fstatat(k->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
		kept_logs_add(k, sandbox, pool, "", (uint64_t)st.st_mtime * 1000);
	else
		unlinkat(k->fd, name, 0);
}

static int load(struct kept_logs *k, struct err *err)
{
	DIR *dir = opendir(k->dir);
	struct dirent *d;
	struct entry e;

	if (dir == NULL)
		return err_system(err, -errno, "open %s", k->dir);
	while ((d = readdir(dir)) != NULL) {
		if (parse(d->d_name, &e))
			adopt(k, &e, strcmp(d->d_name + strlen(d->d_name) - 4, suffixes[1]) == 0);
	}
	rewinddir(dir);
	while ((d = readdir(dir)) != NULL) {
		if (d->d_name[0] != '.' && !parse(d->d_name, &e))
			adopt_new(k, d->d_name);
	}
	closedir(dir);
	if (k->n > 1)
		qsort(k->entries + k->first, k->n, sizeof *k->entries, by_end);
	return 0;
}

int kept_logs_open(const char *dir, uint64_t bytes_max, uint64_t age_ms_max, struct kept_logs **ret,
		   struct err *err)
{
	struct kept_logs *k = calloc(1, sizeof *k);
	int r = 0;

	if (k == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", dir);
	*k = (struct kept_logs){.fd = -1, .bytes_max = bytes_max, .age_ms_max = age_ms_max};
	pthread_mutex_init(&k->lock, NULL);
	if (snprintf(k->dir, sizeof k->dir, "%s", dir) >= (int)sizeof k->dir)
		r = err_set(err, -ENAMETOOLONG, "%s: the path is too long", dir);
	if (r == 0 && ((mkdir(dir, 0700) != 0 && errno != EEXIST) || chmod(dir, 0700) != 0))
		r = err_system(err, -errno, "mkdir %s", dir);
	if (r == 0) {
		k->fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		r = k->fd < 0 ? err_system(err, -errno, "open %s", dir) : load(k, err);
	}
	if (r < 0) {
		kept_logs_close(k);
		return r;
	}
	(void)trim(k, clock_wall_ms());
	*ret = k;
	return 0;
}

void kept_logs_close(struct kept_logs *k)
{
	if (k == NULL)
		return;
	fd_close(&k->fd);
	pthread_mutex_destroy(&k->lock);
	free(k->entries);
	free(k);
}

/* -- Calls ------------------------------------------------------------------------------------------------------ */

bool kept_logs_good_tag(const char *tag)
{
	size_t n = strlen(tag);

	return n == 0 ||
	       (n >= KEPT_LOGS_TAG_MIN && n <= KEPT_LOGS_TAG && strspn(tag, "0123456789abcdef") == n);
}

void kept_logs_path(const struct kept_logs *k, uint64_t sandbox, uint64_t pool, char ret[KEPT_LOGS_PATH_MAX])
{
	char name[NAME_SIZE];

	new_name(sandbox, pool, "", name);
	snprintf(ret, KEPT_LOGS_PATH_MAX, "%s/%.60s", k->dir, name);
}

void kept_logs_add(struct kept_logs *k, uint64_t sandbox, uint64_t pool, const char *tag, uint64_t wall_ms)
{
	struct entry e = {.ended_ms = wall_ms, .sandbox = sandbox, .pool = pool};
	char from[NAME_SIZE], to[NAME_SIZE];

	snprintf(e.tag, sizeof e.tag, "%s", tag);
	pthread_mutex_lock(&k->lock);
	for (int i = 0; i < N_SUFFIXES; i++) {
		uint64_t bytes;

		new_name(sandbox, pool, suffixes[i], from);
		name_of(&e, suffixes[i], to);
		bytes = take_file(k, from);
		if (bytes > 0 && renameat(k->fd, from, k->fd, to) == 0)
			e.bytes += bytes;
		else
			unlinkat(k->fd, from, 0);
	}
	if (e.bytes > 0)
		insert(k, &e);
	(void)trim(k, clock_wall_ms());
	pthread_mutex_unlock(&k->lock);
}

static bool fits(const struct entry *e, const struct kept_logs_query *q)
{
	return (q->sandbox == 0 || e->sandbox == q->sandbox) && (q->pool == 0 || e->pool == q->pool) &&
	       (q->tag[0] == '\0' || strcmp(e->tag, q->tag) == 0);
}

int kept_logs_find(struct kept_logs *k, const struct kept_logs_query *q, uint64_t *ret_sandbox,
		   uint64_t *ret_wall_ms, int *ret_fd)
{
	char name[NAME_SIZE];
	int fd = -1;

	pthread_mutex_lock(&k->lock);
	for (size_t i = k->n; i > 0; i--) {
		const struct entry *e = &k->entries[k->first + i - 1];

		if (!fits(e, q))
			continue;
		name_of(e, suffixes[q->older ? 1 : 0], name);
		fd = openat(k->fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
		*ret_sandbox = e->sandbox;
		*ret_wall_ms = e->ended_ms;
		break;
	}
	pthread_mutex_unlock(&k->lock);
	if (fd < 0)
		return -ENOENT;
	*ret_fd = fd;
	return 0;
}

bool kept_logs_trim(struct kept_logs *k, uint64_t wall_ms)
{
	pthread_mutex_lock(&k->lock);
	bool told = trim(k, wall_ms);

	pthread_mutex_unlock(&k->lock);
	return told;
}

void kept_logs_usage(struct kept_logs *k, struct kept_logs_usage *ret)
{
	pthread_mutex_lock(&k->lock);
	*ret = (struct kept_logs_usage){
		.bytes = k->bytes, .oldest_ms = k->n > 0 ? k->entries[k->first].ended_ms : 0, .n = k->n};
	pthread_mutex_unlock(&k->lock);
}
