/* directory.c -- see directory.h. The formats are libraft's: the comments at raft_uv_init in raft/uv.h. */
#include "consensus/disk/directory.h"

#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "consensus/frame.h"
#include "consensus/disk/remedy.h"
#include "consensus/disk/segment.h"
#include "core/fd.h"

#define MARKER            "member"
#define PATH_SIZE         1024
#define METADATA_SIZE     32 /* format, version, term, vote */
#define SNAPSHOT_META_MIN 32 /* format, checksum, configuration's index and length */
#define FIRST_SEGMENT     "0000000000000001-0000000000000001"
#define MARKER_MAX        256

static int join(const char *dir, const char *name, char path[PATH_SIZE], struct err *err)
{
	int n = snprintf(path, PATH_SIZE, "%s/%s", dir, name);
	if (n < 0 || n >= PATH_SIZE)
		return err_set(err, -ENAMETOOLONG, "%s/%s", dir, name);
	return 0;
}

/* *ret: the file's size, or -1 if there is none. */
static int file_size(const char *dir, const char *name, long long *ret, struct err *err)
{
	char path[PATH_SIZE];
	struct stat st;
	int rc = join(dir, name, path, err);
	if (rc != 0)
		return rc;
	if (stat(path, &st) == 0)
		*ret = st.st_size;
	else if (errno == ENOENT)
		*ret = -1;
	else
		return err_system(err, -errno, "%s", path);
	return 0;
}

static int read_head(const char *dir, const char *name, void *to, size_t n, struct err *err)
{
	char path[PATH_SIZE];
	int rc = join(dir, name, path, err);
	if (rc != 0)
		return rc;
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return err_system(err, -errno, "%s", path);
	ssize_t got = read(fd, to, n);
	if (got < 0)
		return err_system(err, -errno, "%s", path);
	if ((size_t)got != n)
		return err_set(err, -EUCLEAN, "%s: cut short at %zd bytes; " REMEDY, path, got);
	return 0;
}

static void marker_text(uint64_t id, const char *address, char text[MARKER_MAX])
{
	snprintf(text, MARKER_MAX, "berth raft 1 id %llu address %s\n", (unsigned long long)id, address);
}

static int check_marker(const char *dir, uint64_t id, const char *address, struct err *err)
{
	char path[PATH_SIZE], expected[MARKER_MAX];
	CLEANUP_BUF struct buf text = BUF_MAX(MARKER_MAX);
	int rc = join(dir, MARKER, path, err);
	if (rc == 0)
		rc = fd_read_file(path, MARKER_MAX, &text, err);
	if (rc != 0)
		return rc;
	marker_text(id, address, expected);
	if (str_eq(buf_str(&text), str_of(expected)))
		return 0;
	char shown[MARKER_MAX];
	snprintf(shown, sizeof shown, "%.*s", (int)strcspn(buf_cstr(&text), "\n"), buf_cstr(&text));
	return err_set(err, -EINVAL, "%s: belongs to \"%s\", not to id %llu address %s", path, shown,
		       (unsigned long long)id, address);
}

/* One metadata file: 0 if it is missing or whole. */
static int check_metadata_file(const char *dir, const char *name, long long size, uint64_t *ret_version,
			       struct err *err)
{
	uint64_t words[4];
	*ret_version = 0;
	if (size < 0)
		return 0;
	if (size != METADATA_SIZE)
		return err_set(err, -EUCLEAN,
			       "%s/%s: %lld bytes instead of %d; the vote may be lost; " REMEDY, dir, name,
			       size, METADATA_SIZE);
	int rc = read_head(dir, name, words, sizeof words, err);
	if (rc != 0)
		return rc;
	*ret_version = le64toh(words[1]);
	if (le64toh(words[0]) != 1 || *ret_version == 0)
		return err_set(err, -EUCLEAN, "%s/%s: not a metadata file; the vote may be lost; " REMEDY,
			       dir, name);
	return 0;
}

/* libraft writes the two files in turn, in place: once both exist none is ever short, so a short one is
 * damage. Only the second may be found half made, beside a first one of version 1. */
static int check_metadata(const char *dir, struct err *err)
{
	long long size1, size2;
	uint64_t version1, version2;
	int rc = file_size(dir, "metadata1", &size1, err);
	if (rc == 0)
		rc = file_size(dir, "metadata2", &size2, err);
	if (rc == 0)
		rc = check_metadata_file(dir, "metadata1", size1, &version1, err);
	if (rc != 0)
		return rc;
	if (version1 == 1 && size2 >= 0 && size2 < METADATA_SIZE)
		return 0;
	rc = check_metadata_file(dir, "metadata2", size2, &version2, err);
	if (rc != 0)
		return rc;
	if (version1 == 0 || (version2 == 0 && version1 != 1))
		return err_set(err, -EUCLEAN,
			       "%s: %s is missing though this server has run; the vote may be lost; " REMEDY,
			       dir, version1 == 0 ? "metadata1" : "metadata2");
	uint64_t apart = version1 > version2 ? version1 - version2 : version2 - version1;
	if (apart != 1)
		return err_set(err, -EUCLEAN,
			       "%s: metadata1 is of version %llu and metadata2 of %llu, which cannot both be "
			       "the last two; " REMEDY,
			       dir, (unsigned long long)version1, (unsigned long long)version2);
	return 0;
}

/* "snapshot-<term>-<index>-<time>.meta" with its data beside it. libraft loads the newest of them. */
static int check_snapshot(const char *dir, const char *meta, struct err *err)
{
	char name[256];
	unsigned char head[FRAME_SNAPSHOT_HEAD];
	uint64_t words[4], expected;
	long long size, meta_size;
	snprintf(name, sizeof name, "%.*s", (int)(strlen(meta) - strlen(".meta")), meta);
	int rc = file_size(dir, name, &size, err);
	if (rc != 0 || size < 0)
		return rc; /* without data libraft takes it for unfinished, and removes it */
	rc = file_size(dir, meta, &meta_size, err);
	if (rc == 0)
		rc = read_head(dir, meta, words, sizeof words, err);
	if (rc != 0)
		return rc;
	if (le64toh(words[0]) != 1 || (uint64_t)meta_size != SNAPSHOT_META_MIN + le64toh(words[3]))
		return err_set(err, -EUCLEAN, "%s/%s: damaged: %lld bytes; " REMEDY, dir, meta, meta_size);
	rc = read_head(dir, name, head, sizeof head, err);
	if (rc != 0)
		return rc;
	if (frame_snapshot_size(head, &expected, err) != 0 || (uint64_t)size != expected)
		return err_set(err, -EUCLEAN,
			       "%s/%s: damaged: its %lld bytes are not what its head says; " REMEDY, dir,
			       name, size);
	return 0;
}

static bool is_raft_file(const char *name)
{
	return strncmp(name, "metadata", 8) == 0 || strncmp(name, "open-", 5) == 0 ||
	       strncmp(name, "snapshot-", 9) == 0 || (name[0] >= '0' && name[0] <= '9');
}

static bool is_meta(const char *name)
{
	size_t n = strlen(name);
	return n < 200 && n > 14 && strncmp(name, "snapshot-", 9) == 0 && strcmp(name + n - 5, ".meta") == 0;
}

typedef int each_file(const char *dir, const char *name, struct err *err);

static int walk(const char *dir, each_file *each, struct err *err)
{
	DIR *d = opendir(dir);
	if (d == NULL)
		return err_system(err, -errno, "%s", dir);
	int rc = 0;
	for (struct dirent *e = readdir(d); e != NULL && rc == 0; e = readdir(d))
		rc = each(dir, e->d_name, err);
	closedir(d);
	return rc;
}

static int check_file(const char *dir, const char *name, struct err *err)
{
	char path[PATH_SIZE];
	if (is_meta(name))
		return check_snapshot(dir, name, err);
	if (strncmp(name, "open-", 5) != 0 && !(name[0] >= '0' && name[0] <= '9'))
		return 0;
	int rc = join(dir, name, path, err);
	return rc == 0 ? segment_check(path, err) : rc;
}

static int refuse_used(const char *dir, const char *name, struct err *err)
{
	if (!is_raft_file(name) || strcmp(name, "metadata1") == 0 || strcmp(name, FIRST_SEGMENT) == 0)
		return 0;
	return err_set(err, -EUCLEAN, "%s: holds %s but no file \"%s\" that says whose it is; " REMEDY, dir,
		       name, MARKER);
}

static int remove_leftover(const char *dir, const char *name, struct err *err)
{
	char path[PATH_SIZE];
	if (!is_raft_file(name))
		return 0;
	int rc = join(dir, name, path, err);
	if (rc == 0 && unlink(path) != 0)
		rc = err_system(err, -errno, "remove %s", path);
	return rc;
}

int directory_lock(const char *dir, int *ret_fd, struct err *err)
{
	if (mkdir(dir, 0700) != 0 && errno != EEXIST)
		return err_system(err, -errno, "make %s", dir);
	CLEANUP_FD int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_system(err, -errno, "%s", dir);
	if (flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK)
		return err_set(err, -EBUSY, "%s: another process uses it", dir);
	*ret_fd = fd_take(&fd);
	return 0;
}

int directory_check(const char *dir, uint64_t id, const char *address, bool *ret_first, struct err *err)
{
	long long marker;
	int rc = file_size(dir, MARKER, &marker, err);
	if (rc != 0)
		return rc;
	if (marker < 0) {
		rc = walk(dir, refuse_used, err);
		if (rc == 0)
			rc = walk(dir, remove_leftover, err);
	} else {
		rc = check_marker(dir, id, address, err);
		if (rc == 0)
			rc = check_metadata(dir, err);
		if (rc == 0)
			rc = walk(dir, check_file, err);
	}
	if (rc == 0)
		*ret_first = marker < 0;
	return rc;
}

int directory_claim(const char *dir, uint64_t id, const char *address, struct err *err)
{
	char path[PATH_SIZE], text[MARKER_MAX];
	int rc = join(dir, MARKER, path, err);
	if (rc != 0)
		return rc;
	marker_text(id, address, text);
	return fd_write_file(path, 0600, text, strlen(text), err);
}
