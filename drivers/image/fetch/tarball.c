#include "image_fetch/tarball.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/fd.h"

#define ENTRIES_MAX 16384
#define CHUNK_BYTES 131072

int tarball_open(int fd, struct tarball *ret, struct err *err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return err_system(err, -errno, "the import's source");
	if (!S_ISREG(st.st_mode) && !S_ISDIR(st.st_mode))
		return err_set(err, -EINVAL, "the import's source is neither a file nor a directory");
	*ret = (struct tarball){.fd = fd, .directory = S_ISDIR(st.st_mode)};
	return 0;
}

/* -- Directories -------------------------------------------------------------------------------------------- */

static int read_file(int directory, const char *name, uint64_t bytes_max, walk_sink *sink, void *context,
		     struct err *err)
{
	CLEANUP_FD int fd = openat(directory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	char chunk[65536];
	struct stat st;

	if (fd < 0)
		return errno == ENOENT ? err_set(err, -ENOENT, "%s: is not in the layout", name)
				       : err_system(err, -errno, "open %s", name);
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return err_set(err, -EBADMSG, "%s: is not a file", name);
	for (uint64_t total = 0;;) {
		ssize_t n = read(fd, chunk, sizeof chunk);

		if (n < 0)
			return err_system(err, -errno, "read %s", name);
		if (n == 0)
			return 0;
		total += (uint64_t)n;
		if (total > bytes_max)
			return err_set(err, -E2BIG, "%s: has more than %llu bytes", name,
				       (unsigned long long)bytes_max);
		int r = sink(context, chunk, (size_t)n);

		if (r < 0)
			return err_system(err, r, "store %s", name);
	}
}

/* -- Archives ----------------------------------------------------------------------------------------------- */

static int broken(struct archive *a, struct err *err)
{
	const char *why = archive_error_string(a);

	return err_set(err, -EBADMSG, "the archive cannot be read: %s", why == NULL ? "unknown error" : why);
}

static int open_archive(int fd, struct archive **ret, struct err *err)
{
	struct archive *a = archive_read_new();

	if (a == NULL)
		return err_set(err, -ENOMEM, "no memory for an archive");
	archive_read_support_format_tar(a);
	archive_read_support_filter_gzip(a);
	archive_read_support_filter_zstd(a);
	if (lseek(fd, 0, SEEK_SET) < 0 || archive_read_open_fd(a, fd, CHUNK_BYTES) != ARCHIVE_OK) {
		int r = broken(a, err);

		archive_read_free(a);
		return r;
	}
	*ret = a;
	return 0;
}

static int copy_entry(struct archive *a, const char *name, uint64_t bytes_max, walk_sink *sink, void *context,
		      struct err *err)
{
	CLEANUP_BUF struct buf chunk = {0};
	char *p = buf_reserve(&chunk, CHUNK_BYTES);

	if (p == NULL)
		return err_set(err, -ENOMEM, "no memory");
	for (uint64_t total = 0;;) {
		la_ssize_t n = archive_read_data(a, p, CHUNK_BYTES);

		if (n < 0)
			return broken(a, err);
		if (n == 0)
			return 0;
		total += (uint64_t)n;
		if (total > bytes_max)
			return err_set(err, -E2BIG, "%s: has more than %llu bytes", name,
				       (unsigned long long)bytes_max);
		int r = sink(context, p, (size_t)n);

		if (r < 0)
			return err_system(err, r, "store %s", name);
	}
}

static int find_entry(struct archive *a, const char *name, struct err *err)
{
	struct archive_entry *entry;

	for (int n = 0; n < ENTRIES_MAX; n++) {
		int r = archive_read_next_header(a, &entry);
		const char *path =
			r >= ARCHIVE_WARN && r != ARCHIVE_EOF ? archive_entry_pathname(entry) : NULL;

		if (r == ARCHIVE_EOF)
			return err_set(err, -ENOENT, "%s: is not in the archive", name);
		if (r < ARCHIVE_WARN)
			return broken(a, err);
		while (path != NULL && strncmp(path, "./", 2) == 0)
			path += 2;
		if (path != NULL && strcmp(path, name) == 0 && archive_entry_filetype(entry) == AE_IFREG &&
		    archive_entry_hardlink(entry) == NULL)
			return 0;
	}
	return err_set(err, -E2BIG, "the archive has more than %d entries", ENTRIES_MAX);
}

int tarball_read(const struct tarball *t, const char *name, uint64_t bytes_max, walk_sink *sink,
		 void *context, struct err *err)
{
	struct archive *a = NULL;
	int r;

	if (t->directory)
		return read_file(t->fd, name, bytes_max, sink, context, err);
	r = open_archive(t->fd, &a, err);
	if (r < 0)
		return r;
	r = find_entry(a, name, err);
	if (r == 0)
		r = copy_entry(a, name, bytes_max, sink, context, err);
	archive_read_free(a);
	return r;
}
