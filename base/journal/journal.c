#include "journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

#define FIRST_BYTES 512 /* of a file: its first line has its time within */
#define LOOK_MS     60000
#define NAME_SIZE   (PATH_MAX + 12)

struct journal {
	pthread_mutex_t lock; /* of all below */
	int fd;
	uint64_t bytes_max, age_ms_max;
	uint64_t bytes, first_ms; /* of PATH; first_ms 0: it is empty */
	uint64_t lost, look_ms;   /* look_ms: when ages are looked at again */
	bool full;                /* the disk was, when last written */
	char path[PATH_MAX];
};

static void name(const struct journal *j, unsigned i, char ret[NAME_SIZE])
{
	if (i == 0)
		snprintf(ret, NAME_SIZE, "%s", j->path);
	else
		snprintf(ret, NAME_SIZE, "%s.%u", j->path, i);
}

static uint64_t first_line_ms(const char *path)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	char text[FIRST_BYTES + 1];
	ssize_t n = fd < 0 ? -1 : read(fd, text, FIRST_BYTES);
	uint64_t ms = 0;
	char *at;

	text[n < 0 ? 0 : n] = '\0';
	at = strstr(text, "\"wall_ms\":");
	return at != NULL && sscanf(at, "\"wall_ms\":%" SCNu64, &ms) == 1 ? ms : 0;
}

static int open_file(struct journal *j)
{
	struct stat st;
	int fd = open(j->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);

	if (fd < 0)
		return -errno;
	j->bytes = fstat(fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	j->first_ms = j->bytes > 0 ? first_line_ms(j->path) : 0;
	fd_close(&j->fd);
	j->fd = fd;
	return 0;
}

int journal_open(const char *path, uint64_t bytes_max, uint64_t age_ms_max, struct journal **ret,
		 struct err *err)
{
	struct journal *j = calloc(1, sizeof *j);
	int r;

	if (j == NULL)
		return err_set(err, -ENOMEM, "%s: no memory", path);
	*j = (struct journal){.fd = -1, .bytes_max = bytes_max, .age_ms_max = age_ms_max};
	r = snprintf(j->path, sizeof j->path, "%s", path) < (int)sizeof j->path ? 0 : -ENAMETOOLONG;
	if (r == 0)
		r = open_file(j);
	if (r < 0) {
		r = err_system(err, r, "%s", path);
		free(j);
		return r;
	}
	pthread_mutex_init(&j->lock, NULL);
	*ret = j;
	return 0;
}

void journal_close(struct journal *j)
{
	if (j == NULL)
		return;
	close(j->fd);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

/* -- Files ------------------------------------------------------------------------------------------------------ */

/* PATH becomes PATH.1; the eighth goes. */
static void rotate(struct journal *j)
{
	char from[NAME_SIZE], to[NAME_SIZE];

	for (unsigned i = JOURNAL_FILES - 1; i > 0; i--) {
		name(j, i - 1, from);
		name(j, i, to);
		(void)!rename(from, to);
	}
	(void)open_file(j);
}

static bool drop_oldest(struct journal *j)
{
	char path[NAME_SIZE];

	for (unsigned i = JOURNAL_FILES - 1; i > 0; i--) {
		name(j, i, path);
		if (unlink(path) == 0)
			return true;
	}
	return false;
}

static void trim(struct journal *j, uint64_t wall_ms)
{
	char path[NAME_SIZE];
	struct stat st;

	if (wall_ms < j->look_ms && wall_ms + LOOK_MS >= j->look_ms)
		return;
	j->look_ms = wall_ms + (j->age_ms_max < LOOK_MS ? j->age_ms_max : LOOK_MS);
	if (j->first_ms != 0 && wall_ms > j->first_ms + j->age_ms_max / JOURNAL_FILES)
		rotate(j);
	for (unsigned i = JOURNAL_FILES - 1; i > 0; i--) {
		name(j, i, path);
		if (stat(path, &st) == 0 && (uint64_t)st.st_mtime * 1000 + j->age_ms_max < wall_ms)
			unlink(path);
	}
}

/* A part of a line must not stay: what comes next would be glued to it. */
static int append(struct journal *j, const char *line, size_t n)
{
	int r = fd_write_all(j->fd, line, n);

	if (r < 0)
		(void)!ftruncate(j->fd, (off_t)j->bytes);
	else
		j->bytes += n;
	return r;
}

static int make_room(struct journal *j)
{
	if (drop_oldest(j))
		return 0;
	if (j->bytes == 0)
		return -ENOSPC;
	rotate(j);
	return drop_oldest(j) ? 0 : -ENOSPC;
}

int journal_write(struct journal *j, const char *line, size_t n, uint64_t wall_ms)
{
	bool full, was;
	int r;

	pthread_mutex_lock(&j->lock);
	if (j->bytes + n > j->bytes_max / JOURNAL_FILES && j->bytes > 0)
		rotate(j);
	trim(j, wall_ms);
	r = append(j, line, n);
	full = r == -ENOSPC || r == -EDQUOT;
	if (full && make_room(j) == 0)
		r = append(j, line, n);
	if (r < 0)
		j->lost++;
	else if (j->first_ms == 0)
		j->first_ms = wall_ms;
	was = j->full;
	j->full = full;
	pthread_mutex_unlock(&j->lock);
	return full && !was ? 1 : r;
}

void journal_trim(struct journal *j, uint64_t wall_ms)
{
	pthread_mutex_lock(&j->lock);
	trim(j, wall_ms);
	pthread_mutex_unlock(&j->lock);
}

void journal_usage(struct journal *j, struct journal_usage *ret)
{
	char path[NAME_SIZE];
	struct stat st;

	pthread_mutex_lock(&j->lock);
	*ret = (struct journal_usage){.bytes = j->bytes, .oldest_ms = j->first_ms, .lost = j->lost};
	for (unsigned i = 1; i < JOURNAL_FILES; i++) {
		name(j, i, path);
		if (stat(path, &st) != 0)
			continue;
		uint64_t first = first_line_ms(path);

		ret->bytes += (uint64_t)st.st_size;
		if (first != 0)
			ret->oldest_ms = first;
	}
	pthread_mutex_unlock(&j->lock);
}
