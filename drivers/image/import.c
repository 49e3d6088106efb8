/* Imports: berth-fetch reads an archive through a descriptor. What it cannot read so is first copied into the store's
 * work folder, byte for byte and unread: a pipe (an archive is read several times), and a layout's directory (its files may be
 * open to their owner alone, and the child is somebody else). The copies have no name, or go with the work folder. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"
#include "image/disk.h"
#include "image/names.h"
#include "image/pull.h"

#define CHUNK_BYTES 65536
#define BLOBS_MAX   1024
#define NAME_BYTES  80 /* of a blob: 64 hex digits */

/* Appends all of `from` to `to`, counting in *total. */
static int copy_bytes(int from, int to, uint64_t bytes_max, uint64_t *total, struct err *err)
{
	char chunk[CHUNK_BYTES];

	for (;;) {
		ssize_t n = read(from, chunk, sizeof chunk);
		int r;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_system(err, -errno, "import: read");
		if (n == 0)
			return 0;
		*total += (uint64_t)n;
		if (*total > bytes_max)
			return err_set(err, -E2BIG, "import: more than %" PRIu64 " bytes", bytes_max);
		r = fd_write_all(to, chunk, (size_t)n);
		if (r < 0)
			return err_system(err, r, "import: write");
	}
}

static int copy_stream(struct image_store *s, int fd, int *ret, struct err *err)
{
	char path[PATH_MAX];
	uint64_t total = 0;
	int r = store_path(s, "work", NULL, NULL, path, err);
	CLEANUP_FD int copy = r < 0 ? -1 : open(path, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

	if (copy < 0)
		return r < 0 ? r : err_system(err, -errno, "import");
	r = copy_bytes(fd, copy, s->options.fetched_bytes_max, &total, err);
	if (r == 0)
		*ret = fd_take(&copy);
	return r;
}

/* -- Directories -------------------------------------------------------------------------------------------- */

struct copying {
	const struct image_store *store;
	uint64_t total;
};

/* A regular file, readable for all in its copy. A missing one is left to the child to complain about. */
static int copy_file(struct copying *c, int from, int to, const char *name, struct err *err)
{
	CLEANUP_FD int in = openat(from, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	struct stat st;

	if (in < 0)
		return errno == ENOENT ? 0 : err_system(err, -errno, "import: open %.80s", name);
	if (fstat(in, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, -EBADMSG, "import: %.80s is no file", name);
	CLEANUP_FD int out = openat(to, name, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0644);

	if (out < 0 || fchmod(out, 0644) < 0)
		return err_system(err, -errno, "import: copy %.80s", name);
	return copy_bytes(in, out, c->store->options.fetched_bytes_max, &c->total, err);
}

static int make_folder(int at, const char *name, int *ret, struct err *err)
{
	int fd = -1;

	if (mkdirat(at, name, 0755) == 0)
		fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0 || fchmod(fd, 0755) < 0) {
		fd_close(&fd);
		return err_system(err, -errno, "import: make %s", name);
	}
	*ret = fd;
	return 0;
}

static int copy_blobs(struct copying *c, int from, int to, struct err *err)
{
	int copy = openat(from, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0, n = 0;
	DIR *d = copy < 0 ? NULL : fdopendir(copy);
	struct dirent *e;

	if (d == NULL) {
		r = -errno;
		fd_close(&copy);
		return err_system(err, r, "import: read blobs/sha256");
	}
	while (r == 0 && (e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.' || strlen(e->d_name) > NAME_BYTES)
			continue;
		r = ++n > BLOBS_MAX
			    ? err_set(err, -E2BIG, "import: blobs/sha256 has more than %d files", BLOBS_MAX)
			    : copy_file(c, from, to, e->d_name, err);
	}
	closedir(d);
	return r;
}

static int copy_layout(struct copying *c, int from, int to, struct err *err)
{
	CLEANUP_FD int blobs = -1, sha = -1,
		       from_blobs = openat(from, "blobs", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	CLEANUP_FD int from_sha = from_blobs < 0 ? -1
						 : openat(from_blobs, "sha256",
							  O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int r = copy_file(c, from, to, "oci-layout", err);

	if (r == 0)
		r = copy_file(c, from, to, "index.json", err);
	if (r == 0)
		r = make_folder(to, "blobs", &blobs, err);
	if (r == 0)
		r = make_folder(blobs, "sha256", &sha, err);
	return r < 0 || from_sha < 0 ? r : copy_blobs(c, from_sha, sha, err);
}

static int import_directory(struct image_store *s, int fd, struct image_fetch_request *q, struct str name,
			    char ret_digest[IMAGE_DIGEST_SIZE], struct err *err)
{
	struct copying c = {.store = s};
	char folder[40], path[PATH_MAX];
	int r;

	pthread_mutex_lock(&s->mutex);
	snprintf(folder, sizeof folder, "layout-%" PRIu64, s->next_work++);
	pthread_mutex_unlock(&s->mutex);
	r = store_path(s, "work", folder, NULL, path, err);
	if (r < 0)
		return r;
	if (mkdir(path, 0755) < 0 || chmod(path, 0755) < 0)
		return err_system(err, -errno, "import: make %s", path);
	CLEANUP_FD int copy = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	r = copy < 0 ? err_system(err, -errno, "import: open %s", path) : copy_layout(&c, fd, copy, err);
	if (r == 0)
		r = pull_make(s, q, copy, name, NULL, NULL, ret_digest, err);
	(void)disk_remove(path, NULL); /* what is left, the next open removes */
	return r;
}

static int import_from(struct image_store *s, int fd, struct str name, char ret_digest[IMAGE_DIGEST_SIZE],
		       struct err *err)
{
	struct image_fetch_request q = {.op = IMAGE_FETCH_IMPORT, .reference = name};
	CLEANUP_FD int copy = -1;
	struct stat st;
	int r = pull_check(name, STR_NONE, NULL, err);

	if (r < 0)
		return r;
	if (fstat(fd, &st) < 0)
		return err_system(err, -errno, "import");
	if (S_ISDIR(st.st_mode))
		return import_directory(s, fd, &q, name, ret_digest, err);
	if (!S_ISREG(st.st_mode)) {
		r = copy_stream(s, fd, &copy, err);
		if (r < 0)
			return r;
	}
	return pull_make(s, &q, copy >= 0 ? copy : fd, name, NULL, NULL, ret_digest, err);
}

int image_import(struct image_store *s, int fd, struct str name, char ret_digest[IMAGE_DIGEST_SIZE],
		 struct err *err)
{
	char digest[IMAGE_DIGEST_SIZE];
	int r = import_from(s, fd, name, digest, err);

	if (r == 0)
		r = names_set(s, name, digest, err);
	if (r == 0 && ret_digest != NULL)
		strcpy(ret_digest, digest);
	return r;
}
